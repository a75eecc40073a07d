//! Narrow integers into int64 tensors, while the row is copied into its batch.

use crate::field::DType;

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
