//! Reading one block into rows, and copying chosen rows into slabs: what the pipeline and random access share.

use std::sync::Arc;

use crate::batch::FieldData;
use crate::dataset::Dataset;
use crate::deliver::{BadValue, Conversion, Delivery};
use crate::error::Place;
use crate::memory::{BatchMemory, room};
use crate::rows::{Chunk, RowLayout, RowPool, Rows, Slot};
use crate::storage::Range;
use crate::transform::{DrawKey, Encoded};
use crate::widen;
use crate::{Error, Result};
use bytes::Bytes;

/// Rows copied together: their source bytes stay in the first-level cache while each field takes its part.
const TILE_ROWS: usize = 64;

/// The dense bytes of rows that are copied together.
type Tile<'a> = [&'a [u8]; TILE_ROWS];

/// Where one sample lies.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    pub chunk: &'a Chunk,
    /// Row within the chunk.
    pub row: usize,
}

impl RowRef<'_> {
    /// Lets the transform of a field write its value, made of the bytes that the row keeps or, where it keeps none, of those that
    /// `read` brings, with a hint.
    pub(crate) fn make<'b>(
        &'b self,
        layout: &RowLayout,
        field: usize,
        into: &mut [u8],
        hint: &[u8],
        read: impl FnOnce() -> Result<&'b [u8]>,
    ) -> Result<()> {
        let (Some(Slot::Made { index, by, .. }), Some(offset)) = (layout.slots().get(field), layout.key()) else {
            return Err(Error::internal("a field that no transform makes was to be made"));
        };
        let start = self.row * layout.stride() + offset;
        let key: DrawKey = bytemuck::pod_read_unaligned(&self.chunk.dense()[start..start + size_of::<DrawKey>()]);
        let kept = self.chunk.varying(*index).get(self.row);
        let bytes = if kept.is_empty() { read()? } else { kept };
        by.0.apply(Encoded { bytes, hint }, key, into)
    }
}

/// The bytes of a part of a block.
#[derive(Debug)]
pub struct Brought {
    pub bytes: Vec<Bytes>,
    /// Whether they come again at once (`Storage::reads_again_at_once`).
    pub again: bool,
}

impl From<Vec<Bytes>> for Brought {
    fn from(bytes: Vec<Bytes>) -> Self {
        Self { bytes, again: false }
    }
}

/// Reads a block part by part with `read`, decodes each, and checks that the block holds what its index promised.
pub fn decode_block<B: Into<Brought>>(
    dataset: &dyn Dataset,
    block: usize,
    layout: &Arc<RowLayout>,
    pool: &Arc<RowPool>,
    mut read: impl FnMut(&[Range]) -> Result<B>,
) -> Result<Vec<Chunk>> {
    let mut rows = Rows::new(layout.clone(), pool.clone());
    for (part, ranges) in dataset.parts(block).iter().enumerate() {
        let Brought { bytes, again } = read(ranges)?.into();
        rows.keep_encoded(!again);
        dataset.decode_part(block, part, &bytes, &mut rows)?;
    }
    let (count, promised) = (rows.complete_rows()? as u64, dataset.blocks()[block].rows);
    if count != promised {
        let message = format!("the block holds {count} samples where its index promises {promised}");
        return Err(Error::corrupt(message).in_block(block as u64));
    }
    Ok(rows.into_chunks())
}

/// Copies `found` into one slab per dense field, collects the varying ones, and lets transforms make the others. An error of
/// theirs is about what `place` says of its row and field.
pub fn gather<M: BatchMemory>(
    layout: &RowLayout,
    found: &[RowRef<'_>],
    memory: &M,
    place: impl Fn(usize, usize) -> Place,
) -> Result<Vec<FieldData<M::Slab>>> {
    let mut made = Vec::new();
    for (field, width) in layout.made() {
        let mut slab = memory.field(field, found.len(), width * found.len())?;
        for ((row, sample), into) in found.iter().enumerate().zip(slab.as_mut().chunks_exact_mut(width.max(1))) {
            sample.make(layout, field, into, &[], || Ok(&[])).map_err(|error| error.in_value(place(row, field)))?;
        }
        made.push(slab);
    }
    gather_others(layout, &Delivery::default(), found, memory, &mut made.into_iter(), place)
}

/// As `gather`, with the types of `delivery`; `made` has the fields that transforms made, in order.
pub(crate) fn gather_others<M: BatchMemory>(
    layout: &RowLayout,
    delivery: &Delivery,
    found: &[RowRef<'_>],
    memory: &M,
    made: &mut impl Iterator<Item = M::Slab>,
    place: impl Fn(usize, usize) -> Place,
) -> Result<Vec<FieldData<M::Slab>>> {
    let mut fields = Vec::with_capacity(layout.slots().len());
    for (field, slot) in layout.slots().iter().enumerate() {
        let dense = |width: usize| {
            let width = delivery.of(field).map_or(width, Conversion::width);
            memory.field(field, found.len(), width * found.len()).map(FieldData::Dense)
        };
        fields.push(match slot {
            Slot::Dense { width, .. } => dense(*width)?,
            Slot::Widened { elements, .. } => dense(8 * elements)?,
            Slot::Varying { index } => gather_varying(found, *index)?,
            Slot::Made { .. } => FieldData::Dense(made.next().ok_or_else(|| Error::internal("a field was not made"))?),
        });
    }
    copy_dense(found, layout, delivery, memory, &mut fields)
        .map_err(|(field, bad)| bad.error(place(bad.row, field)))?;
    Ok(fields)
}

/// While one tile is copied, the next one is on its way into the cache. Errors: a value of a field that does not fit.
fn copy_dense<M: BatchMemory>(
    found: &[RowRef<'_>],
    layout: &RowLayout,
    delivery: &Delivery,
    memory: &M,
    fields: &mut [FieldData<M::Slab>],
) -> std::result::Result<(), (usize, BadValue)> {
    let stride = layout.stride();
    if stride == 0 {
        return Ok(());
    }
    let mut following = found.chunks(TILE_ROWS);
    let mut next_tile: Tile<'_> = [&[]; TILE_ROWS];
    look_ahead(following.next(), stride, memory, &mut next_tile);
    for (number, part) in found.chunks(TILE_ROWS).enumerate() {
        let tile = next_tile;
        look_ahead(following.next(), stride, memory, &mut next_tile);
        let tile = &tile[..part.len()];
        for (index, (slot, field)) in layout.slots().iter().zip(fields.iter_mut()).enumerate() {
            let FieldData::Dense(slab) = field else { continue };
            let into = slab.as_mut();
            if let Some(conversion) = delivery.of(index) {
                let copied = conversion.copy(tile, tile_of(into, number, conversion.width(), part));
                copied.map_err(|bad| (index, bad.after(number * TILE_ROWS)))?;
                continue;
            }
            match *slot {
                Slot::Dense { offset, width } => copy_field(tile, offset, width, tile_of(into, number, width, part)),
                Slot::Widened { offset, elements, from, boundary } => {
                    let into = tile_of(into, number, 8 * elements, part);
                    widen::copy(tile, offset, elements, from, into);
                    if let Some(boundary) = boundary {
                        widen::ignore_across(tile, offset, elements, from, boundary, into);
                    }
                }
                Slot::Varying { .. } | Slot::Made { .. } => {}
            }
        }
    }
    Ok(())
}

/// Finds the rows of a tile and asks for them.
fn look_ahead<'a, M: BatchMemory>(part: Option<&[RowRef<'a>]>, stride: usize, memory: &M, tile: &mut Tile<'a>) {
    for (row, sample) in tile.iter_mut().zip(part.unwrap_or_default()) {
        *row = &sample.chunk.dense()[sample.row * stride..(sample.row + 1) * stride];
        memory.prefetch(row);
    }
}

/// The bytes of a slab that belong to tile `number`.
fn tile_of<'a>(into: &'a mut [u8], number: usize, width: usize, part: &[RowRef<'_>]) -> &'a mut [u8] {
    let start = number * TILE_ROWS * width;
    &mut into[start..start + part.len() * width]
}

fn copy_field(rows: &[&[u8]], offset: usize, width: usize, into: &mut [u8]) {
    // The common widths are written out so that each copy is one move instead of a call to memcpy.
    match width {
        0 => {}
        1 => copy_fixed::<1>(rows, offset, into),
        2 => copy_fixed::<2>(rows, offset, into),
        4 => copy_fixed::<4>(rows, offset, into),
        8 => copy_fixed::<8>(rows, offset, into),
        _ => {
            for (row, target) in rows.iter().zip(into.chunks_exact_mut(width)) {
                target.copy_from_slice(&row[offset..offset + width]);
            }
        }
    }
}

fn copy_fixed<const WIDTH: usize>(rows: &[&[u8]], offset: usize, into: &mut [u8]) {
    for (row, target) in rows.iter().zip(into.chunks_exact_mut(WIDTH)) {
        target.copy_from_slice(&row[offset..offset + WIDTH]);
    }
}

fn gather_varying<S>(found: &[RowRef<'_>], index: usize) -> Result<FieldData<S>> {
    let total = found.iter().map(|sample| sample.chunk.varying(index).get(sample.row).len()).sum();
    let (mut offsets, mut bytes) = (Vec::new(), Vec::new());
    room(&mut offsets, found.len() + 1)?;
    room(&mut bytes, total)?;
    offsets.push(0);
    for sample in found {
        bytes.extend_from_slice(sample.chunk.varying(index).get(sample.row));
        offsets.push(bytes.len() as u64);
    }
    Ok(FieldData::Varying { offsets, bytes })
}
