//! Narrow integers into int64 tensors, while the row is copied into its batch.

use crate::field::DType;
use crate::rows::Boundary;

/// Writes `elements` numbers of type `from`, found `offset` bytes into each row, as int64 rows of `into`.
pub(crate) fn copy(rows: &[&[u8]], offset: usize, elements: usize, from: DType, into: &mut [u8]) {
    for (row, target) in rows.iter().zip(into.chunks_exact_mut(8 * elements)) {
        let values = &row[offset..offset + elements * from.width()];
        match from {
            DType::U8 => widen(values, target, |[byte]: [u8; 1]| i64::from(byte)),
            DType::U16 => widen(values, target, |bytes| i64::from(u16::from_le_bytes(bytes))),
            DType::U32 => widen(values, target, |bytes| i64::from(u32::from_le_bytes(bytes))),
            DType::I32 => widen(values, target, |bytes| i64::from(i32::from_le_bytes(bytes))),
            _ => target.copy_from_slice(values),
        }
    }
}

/// Marks the targets in `into` that belong to another document than the token before them, which for the first of a row
/// stands right before `offset`.
pub(crate) fn ignore_across(
    rows: &[&[u8]],
    offset: usize,
    elements: usize,
    from: DType,
    boundary: Boundary,
    into: &mut [u8],
) {
    let token = i64::from(boundary.token);
    let before = offset - from.width();
    for (row, target) in rows.iter().zip(into.chunks_exact_mut(8 * elements)) {
        let mut first = [0; 8];
        copy(&[row], before, 1, from, &mut first);
        let mut previous = i64::from_le_bytes(first);
        for value in target.as_chunks_mut::<8>().0 {
            let this = i64::from_le_bytes(*value);
            if token == if boundary.begins { this } else { previous } {
                *value = Boundary::IGNORED.to_le_bytes();
            }
            previous = this;
        }
    }
}

fn widen<const WIDTH: usize>(values: &[u8], target: &mut [u8], value: impl Fn([u8; WIDTH]) -> i64) {
    let (values, _) = values.as_chunks::<WIDTH>();
    let (targets, _) = target.as_chunks_mut::<8>();
    for (target, bytes) in targets.iter_mut().zip(values) {
        *target = value(*bytes).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_another_document_are_marked() {
        let row: Vec<u8> = [9_u16, 1, 2, 9, 3, 9, 9].iter().flat_map(|token| token.to_le_bytes()).collect();
        let read = |begins| {
            let mut into = [0; 48];
            copy(&[&row], 2, 6, DType::U16, &mut into);
            ignore_across(&[&row], 2, 6, DType::U16, Boundary { token: 9, begins }, &mut into);
            into.chunks(8).map(bytemuck::pod_read_unaligned).collect::<Vec<i64>>()
        };
        assert_eq!(read(false), [-100, 2, 9, -100, 9, -100]);
        assert_eq!(read(true), [1, 2, -100, 3, -100, -100]);
    }

    #[test]
    fn every_width_keeps_its_values() {
        let numbers: [u64; 3] = [0, 200, 70_000];
        for from in [DType::U8, DType::U16, DType::U32, DType::I32, DType::I64] {
            let mask = if from.width() == 8 { u64::MAX } else { (1 << (8 * from.width())) - 1 };
            let mut row = vec![0xff; 1];
            row.extend(numbers.iter().flat_map(|n| n.to_le_bytes()[..from.width()].to_vec()));
            let mut into = [0; 24];
            copy(&[&row], 1, 3, from, &mut into);
            let read: Vec<u64> = into.chunks(8).map(bytemuck::pod_read_unaligned).collect();
            assert_eq!(read, numbers.map(|n| n & mask));
        }
    }
}
