//! In which element types fields are delivered, where that is not how the dataset has them: each value is converted while
//! its row is copied into the batch.

use std::collections::BTreeMap;

use crate::error::Place;
use crate::field::{DType, FieldKind, Schema};
use crate::format::cast::{self, Cast, Misfit};
use crate::rows::{Boundary, Slot};
use crate::widen;
use crate::{Error, Result};

/// The conversion of each field that has one; the default is that of no field.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    conversions: Vec<Option<Conversion>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Conversion {
    /// Where a row has the values, and of which type.
    offset: usize,
    stored: DType,
    elements: usize,
    boundary: Option<Boundary>,
    /// What `stored` is told to be outside.
    told: DType,
    to: DType,
    cast: Cast,
}

/// A value that does not fit the type it is to be delivered in.
#[derive(Debug)]
pub(crate) struct BadValue {
    /// Which of the rows that were converted.
    pub(crate) row: usize,
    value: String,
    to: DType,
}

impl BadValue {
    /// The same value, counted with the rows before those that were converted.
    pub(crate) fn after(self, rows: usize) -> Self {
        Self { row: rows + self.row, ..self }
    }

    pub(crate) fn error(&self, place: Place) -> Error {
        let message = format!(
            "{} does not fit {}, the type that the field is delivered in. Choose one that holds it with dtypes=",
            self.value,
            self.to.name()
        );
        Error::invalid(message).in_value(place)
    }
}

impl Delivery {
    /// Delivers the fields that `dtypes` names in those types. Errors: a field that does not exist, is not dense, or is
    /// made by a transform, which says its type itself.
    pub fn new(schema: &Schema, slots: &[Slot], dtypes: &BTreeMap<String, DType>) -> Result<Self> {
        if let Some(name) = dtypes.keys().find(|name| schema.position(name).is_none()) {
            let names: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "dtypes names the field {name:?}, which there is not; there are {names:?}"
            )));
        }
        let conversion = |(field, slot): (&crate::Field, &Slot)| {
            let Some(&to) = dtypes.get(&field.name) else { return Ok(None) };
            let refused =
                |why: &str| Err(Error::invalid(format!("dtypes cannot be applied: {why}")).in_field(&field.name));
            let FieldKind::Dense { dtype: told, shape } = &field.kind else {
                return refused("the field's values vary in size");
            };
            if to == *told {
                return Ok(None);
            }
            let (offset, stored, boundary) = match *slot {
                Slot::Dense { offset, .. } => (offset, *told, None),
                Slot::Widened { offset, from, boundary, .. } => (offset, from, boundary),
                _ => return refused("a transform makes the values. Let it end in ToDtype"),
            };
            let from = if boundary.is_some() { *told } else { stored };
            let elements = shape.iter().product();
            Ok(Some(Conversion { offset, stored, elements, boundary, told: *told, to, cast: cast::cast(from, to) }))
        };
        let conversions = schema.fields.iter().zip(slots).map(conversion).collect::<Result<_>>()?;
        Ok(Self { conversions })
    }

    /// The fields as they are delivered.
    pub fn schema(&self, schema: &Schema) -> Schema {
        let mut schema = schema.clone();
        for (field, conversion) in schema.fields.iter_mut().zip(&self.conversions) {
            if let (FieldKind::Dense { dtype, .. }, Some(conversion)) = (&mut field.kind, conversion) {
                *dtype = conversion.to;
            }
        }
        schema
    }

    pub(crate) fn of(&self, field: usize) -> Option<&Conversion> {
        self.conversions.get(field).and_then(Option::as_ref)
    }
}

impl Conversion {
    /// Bytes of the field in a delivered row.
    pub(crate) fn width(&self) -> usize {
        self.elements * self.to.width()
    }

    /// Writes the values of `rows` one row after the other.
    pub(crate) fn copy(&self, rows: &[&[u8]], into: &mut [u8]) -> std::result::Result<(), BadValue> {
        if self.elements == 0 {
            return Ok(());
        }
        let mut wide = vec![0; if self.boundary.is_some() { self.elements * self.told.width() } else { 0 }];
        for (row, (bytes, target)) in rows.iter().zip(into.chunks_exact_mut(self.width())).enumerate() {
            let values = match self.boundary {
                None => &bytes[self.offset..self.offset + self.elements * self.stored.width()],
                Some(boundary) => {
                    // What is left out is marked by a number that the stored type need not hold.
                    widen::copy(&[*bytes], self.offset, self.elements, self.stored, &mut wide);
                    widen::ignore_across(&[*bytes], self.offset, self.elements, self.stored, boundary, &mut wide);
                    &wide[..]
                }
            };
            (self.cast)(values, target).map_err(|Misfit { value, .. }| BadValue { row, value, to: self.to })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;
    use crate::rows::RowLayout;

    fn wanted(name: &str, to: DType) -> BTreeMap<String, DType> {
        BTreeMap::from([(name.to_owned(), to)])
    }

    #[test]
    fn fields_are_delivered_in_the_types_that_were_asked_for() {
        let text = Field { name: "s".into(), kind: FieldKind::Text, unit: None };
        let schema =
            Schema::new(vec![Field::dense("a", DType::U8, vec![]), Field::dense("x", DType::I64, vec![2]), text]);
        let layout = RowLayout::new(&schema);
        let delivery = Delivery::new(&schema, layout.slots(), &wanted("x", DType::I32)).unwrap();
        assert_eq!(delivery.schema(&schema).fields[1], Field::dense("x", DType::I32, vec![2]));
        assert!(delivery.of(0).is_none() && delivery.of(9).is_none());
        let row = |values: [i64; 2]| [&[7][..], bytemuck::cast_slice(&values)].concat();
        let rows = [row([1, -2]), row([3, 1 << 40])];
        let mut into = [0; 16];
        let x = delivery.of(1).unwrap();
        x.copy(&[&rows[0], &rows[0]], &mut into).unwrap();
        assert_eq!(bytemuck::cast_slice::<_, i32>(&into), [1, -2, 1, -2]);
        let bad = x.copy(&[&rows[0], &rows[1]], &mut into).unwrap_err();
        let text = bad.error(Place::default()).to_string();
        assert!(bad.row == 1 && text.contains("1099511627776 does not fit int32"), "{text}");
    }

    #[test]
    fn what_is_left_out_across_documents_is_left_out_in_any_type() {
        let boundary = Some(Boundary { token: 9, begins: false });
        let slots = [Slot::Widened { offset: 2, elements: 3, from: DType::U16, boundary }];
        let schema = Schema::new(vec![Field::dense("y", DType::I64, vec![3])]);
        let delivery = Delivery::new(&schema, &slots, &wanted("y", DType::I32)).unwrap();
        let row: &[u8] = bytemuck::cast_slice(&[1u16, 2, 9, 65_535]);
        let mut into = [0; 12];
        delivery.of(0).unwrap().copy(&[row], &mut into).unwrap();
        assert_eq!(bytemuck::cast_slice::<_, i32>(&into), [2, 9, -100]);
    }

    #[test]
    fn what_cannot_be_converted_is_named() {
        let text = Field { name: "s".into(), kind: FieldKind::Text, unit: None };
        let schema = Schema::new(vec![Field::dense("a", DType::U8, vec![]), text]);
        let slots = RowLayout::new(&schema).slots().to_vec();
        let refused = |name| Delivery::new(&schema, &slots, &wanted(name, DType::I8)).unwrap_err().to_string();
        assert!(refused("b").contains("\"b\"") && refused("b").contains("[\"a\", \"s\"]"));
        assert!(refused("s").contains("vary in size"));
    }
}
