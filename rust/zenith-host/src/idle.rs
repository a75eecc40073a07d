//! Memory that lies unused until a request of nearly its size comes.

use std::collections::BTreeMap;

use crate::SLAB_ALIGNMENT;

/// Pieces of memory by their capacity in bytes.
#[derive(Debug)]
pub struct Idle<T> {
    by_capacity: BTreeMap<usize, Vec<T>>,
    bytes: usize,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self { by_capacity: BTreeMap::new(), bytes: 0 }
    }
}

impl<T> Idle<T> {
    /// The smallest idle piece that holds `capacity` and wastes no more than half of it, with its own capacity.
    pub fn take(&mut self, capacity: usize) -> Option<(usize, T)> {
        let mut fitting = self.by_capacity.range_mut(capacity..=capacity + capacity / 2);
        let found = fitting.find_map(|(capacity, idle)| Some((*capacity, idle.pop()?)))?;
        self.bytes -= found.0;
        Some(found)
    }

    /// One of the largest pieces, with its capacity.
    pub fn take_largest(&mut self) -> Option<(usize, T)> {
        let found = self.by_capacity.iter_mut().rev().find_map(|(capacity, idle)| Some((*capacity, idle.pop()?)))?;
        self.bytes -= found.0;
        Some(found)
    }

    pub fn put(&mut self, capacity: usize, piece: T) {
        self.bytes += capacity;
        self.by_capacity.entry(capacity).or_default().push(piece);
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What is allocated for `bytes`. Requests of nearly the same size share a class, so that the last, shorter batch reuses
/// memory too.
pub fn capacity_for(bytes: usize) -> usize {
    let grain = (bytes / 8).next_power_of_two().clamp(SLAB_ALIGNMENT, 1 << 20);
    bytes.max(1).next_multiple_of(grain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_piece_that_fits_is_taken_and_none_that_is_far_too_large() {
        let mut idle = Idle::default();
        for capacity in [512, 640, 4096] {
            idle.put(capacity, capacity);
        }
        assert_eq!(idle.bytes(), 512 + 640 + 4096);
        assert_eq!(idle.take(500), Some((512, 512)));
        assert_eq!(idle.take(500), Some((640, 640)));
        assert_eq!(idle.take(500), None);
        assert_eq!(idle.bytes(), 4096);
        idle.put(64, 64);
        assert_eq!((idle.take_largest(), idle.take_largest()), (Some((4096, 4096)), Some((64, 64))));
        assert_eq!((idle.take_largest(), idle.bytes()), (None, 0));
    }

    #[test]
    fn classes_are_aligned_and_waste_little() {
        for bytes in [0, 1, 63, 64, 1000, 100_000, 3 << 20, 100 << 20] {
            let capacity = capacity_for(bytes);
            assert!(capacity >= bytes.max(1) && capacity.is_multiple_of(SLAB_ALIGNMENT), "{bytes}: {capacity}");
            assert!(capacity <= bytes.max(64) + bytes.max(64) / 4 + 64, "{bytes}: {capacity}");
        }
    }
}
