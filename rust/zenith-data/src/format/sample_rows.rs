//! Rows that are appended sample by sample, where every value is a file or a part of one.

use crate::memory::zeros;
use crate::rows::{Column, RowLayout, Rows, Slot};
use crate::transform::DrawKey;
use crate::{Error, Result};
use std::sync::Arc;

/// Collects the dense parts of a known number of rows, and passes on the rest.
pub(super) struct SampleRows<'a> {
    rows: &'a mut Rows,
    layout: Arc<RowLayout>,
    dense: Vec<u8>,
    /// Rows begun so far.
    begun: usize,
}

impl<'a> SampleRows<'a> {
    pub(super) fn new(rows: &'a mut Rows, count: usize) -> Result<Self> {
        let layout = rows.layout().clone();
        let dense = zeros(count.saturating_mul(layout.stride()))?;
        Ok(Self { rows, layout, dense, begun: 0 })
    }

    /// Begins the next row.
    pub(super) fn begin(&mut self, key: DrawKey) {
        self.begun += 1;
        if let Some(at) = self.layout.key()
            && let Some(into) = self.place(at, size_of::<DrawKey>())
        {
            into.copy_from_slice(bytemuck::bytes_of(&key));
        }
    }

    /// Where the value of a dense field goes; `None` if the field is of varying size, or made later.
    pub(super) fn dense(&mut self, field: usize) -> Option<&mut [u8]> {
        match self.layout.slots().get(field) {
            Some(&Slot::Dense { offset, width }) => self.place(offset, width),
            _ => None,
        }
    }

    /// Appends the bytes of a field that has no place in the row.
    pub(super) fn varying(&mut self, field: usize, bytes: &[u8]) -> Result<()> {
        match self.layout.slots().get(field) {
            Some(&Slot::Varying { index }) => {
                self.rows.push_varying(index, bytes);
                Ok(())
            }
            Some(&Slot::Made { index, .. }) => {
                self.rows.push_varying(index, if self.rows.keeps_encoded() { bytes } else { &[] });
                Ok(())
            }
            _ => Err(Error::internal("a value was appended to a field that has none of its kind")),
        }
    }

    fn place(&mut self, offset: usize, width: usize) -> Option<&mut [u8]> {
        let start = self.begun.checked_sub(1)? * self.layout.stride() + offset;
        self.dense.get_mut(start..start + width)
    }

    /// Appends the dense parts.
    pub(super) fn finish(self) -> Result<()> {
        let width = self.layout.stride();
        if width == 0 {
            return Ok(());
        }
        self.rows.append_columns(&[(0, Column::Wide { width, bytes: &self.dense })])
    }
}
