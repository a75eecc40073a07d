//! A slab cut into pieces, so that several threads fill it at once.
//!
//! Invariant PIECE-1: the pieces of a slab are disjoint parts of it, and nothing else touches it until `join` has them all.
#![expect(unsafe_code, reason = "disjoint parts of memory whose owner is shared have no safe wrapper")]

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;

/// One part of a slab. The slab is dropped with the last piece, unless `join` gave it back.
#[derive(Debug)]
pub struct Piece<S> {
    start: NonNull<u8>,
    len: usize,
    whole: Arc<Whole<S>>,
}

#[derive(Debug)]
struct Whole<S>(UnsafeCell<S>);

// SAFETY: PIECE-1. A piece alone reads and writes its part; the slab itself is only dropped or taken out, by one thread.
unsafe impl<S: Send> Send for Piece<S> {}
// SAFETY: as above; through a shared piece its bytes can only be read.
unsafe impl<S: Send> Sync for Piece<S> {}

/// Cuts `slab` at multiples of `bytes` (at least 1); the last piece may be shorter. An empty slab is one empty piece.
pub fn cut<S: AsMut<[u8]>>(slab: S, bytes: usize) -> Vec<Piece<S>> {
    let whole = Arc::new(Whole(UnsafeCell::new(slab)));
    // SAFETY: nobody else has the slab yet, and it stays where it is as long as `whole` lives.
    let all = unsafe { &mut *whole.0.get() }.as_mut();
    let piece =
        |part: &mut [u8]| Piece { start: NonNull::from(&mut *part).cast(), len: part.len(), whole: whole.clone() };
    if all.is_empty() {
        return vec![piece(all)];
    }
    all.chunks_mut(bytes.max(1)).map(piece).collect()
}

/// The slab whose pieces these are; `None` if one is missing.
pub fn join<S>(mut pieces: Vec<Piece<S>>) -> Option<S> {
    let last = pieces.pop()?;
    if pieces.iter().any(|piece| !Arc::ptr_eq(&piece.whole, &last.whole)) {
        return None;
    }
    drop(pieces);
    Arc::into_inner(last.whole).map(|whole| whole.0.into_inner())
}

impl<S> AsRef<[u8]> for Piece<S> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: PIECE-1; the slab lives in `whole`, and its bytes are initialised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<S> AsMut<[u8]> for Piece<S> {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_ref`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_fill_one_slab() {
        for (len, bytes) in [(1000, 64), (64, 64), (5, 64), (0, 64), (7, 0)] {
            let mut pieces = cut(vec![0u8; len], bytes);
            std::thread::scope(|scope| {
                for (number, piece) in pieces.iter_mut().enumerate() {
                    scope.spawn(move || piece.as_mut().fill(number as u8 + 1));
                }
            });
            let expected: Vec<u8> = (0..len).map(|at| (at / bytes.max(1)) as u8 + 1).collect();
            assert_eq!(pieces.iter().flat_map(|piece| piece.as_ref().to_vec()).collect::<Vec<_>>(), expected);
            assert_eq!(join(pieces), Some(expected));
        }
    }

    #[test]
    fn a_missing_or_foreign_piece_gives_nothing() {
        let mut pieces = cut(vec![0u8; 10], 5);
        let kept = pieces.pop();
        assert_eq!(join(pieces), None);
        let mut others = cut(vec![0u8; 10], 5);
        others.extend(kept);
        assert_eq!(join(others), None);
        assert_eq!(join(Vec::<Piece<Vec<u8>>>::new()), None);
    }

    #[test]
    fn the_slab_goes_with_its_last_piece() {
        #[derive(Debug)]
        struct Told {
            bytes: Vec<u8>,
            _alive: Arc<()>,
        }
        impl AsMut<[u8]> for Told {
            fn as_mut(&mut self) -> &mut [u8] {
                &mut self.bytes
            }
        }
        let alive = Arc::new(());
        let mut pieces = cut(Told { bytes: vec![0; 4], _alive: alive.clone() }, 2);
        pieces.pop();
        assert_eq!(Arc::strong_count(&alive), 2);
        pieces.pop();
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
