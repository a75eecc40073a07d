//! One block of a sequential scan: the loop in which a picture spends most of its time.

use super::bits::Bits;
use super::huffman::{END_OF_BLOCK, Entry, SKIP_BITS, Table};
use super::markers::ZIGZAG;

/// The coefficients of a block, in the order of rows.
pub(super) type Block = [i16; 64];

/// Bits that mean nothing.
#[derive(Debug)]
pub(super) struct Meaningless;

/// Reads a block into `block`, which holds zeros, and gives the place behind its last coefficient, in frequency order.
///
/// What one step waits for is the lookup of a code and the shift by its length and that of its value together; all else,
/// the value too, is computed beside that chain. So values are not looked up, and no branch depends on their size.
#[inline(always)]
pub(super) fn read_block(
    caller: &mut Bits<'_>,
    dc: &Table,
    ac: &Table,
    predictor: &mut i32,
    block: &mut Block,
) -> Result<usize, Meaningless> {
    // A copy, which can stay in registers.
    let mut bits = *caller;
    let end = read_into(&mut bits, dc, ac, predictor, block);
    *caller = bits;
    end
}

#[inline(always)]
fn read_into(
    bits: &mut Bits<'_>,
    dc: &Table,
    ac: &Table,
    predictor: &mut i32,
    block: &mut Block,
) -> Result<usize, Meaningless> {
    read_dc(bits, dc, predictor)?;
    block[0] = *predictor as i16;
    let mut place = 1;
    loop {
        let mut entry = ac.entry(bits.window());
        // The lookup needs fewer bits than are left, so that the next ones are loaded while it is under way.
        bits.refill();
        if entry.is_none() {
            entry = ac.long_entry(bits.window()).ok_or(Meaningless)?;
        }
        place += entry.advance();
        let value = value(bits.window(), entry);
        bits.take(entry.shift());
        if place > 63 {
            break;
        }
        block[usize::from(ZIGZAG[place]) & 63] = value as i16;
        place += 1;
        if place == 64 {
            return Ok(64);
        }
    }
    if place < END_OF_BLOCK { Err(Meaningless) } else { Ok(place - END_OF_BLOCK) }
}

/// Passes over a block; only its DC value is kept.
#[inline(always)]
pub(super) fn skip_block(
    caller: &mut Bits<'_>,
    dc: &Table,
    ac: &Table,
    predictor: &mut i32,
) -> Result<(), Meaningless> {
    let mut bits = *caller;
    let done = skip_over(&mut bits, dc, ac, predictor);
    *caller = bits;
    done
}

#[inline(always)]
fn skip_over(bits: &mut Bits<'_>, dc: &Table, ac: &Table, predictor: &mut i32) -> Result<(), Meaningless> {
    read_dc(bits, dc, predictor)?;
    let Some(skips) = ac.skips() else { return Err(Meaningless) };
    let mut place = 1;
    loop {
        let skip = skips[(bits.window() >> (64 - SKIP_BITS)) as usize];
        bits.refill();
        if place + skip.advance() <= 63 {
            place += skip.advance();
            bits.take(skip.bits());
            if skip.turns() {
                return Ok(());
            }
            continue;
        }
        let mut entry = ac.entry(bits.window());
        if entry.is_none() {
            entry = ac.long_entry(bits.window()).ok_or(Meaningless)?;
        }
        place += entry.advance();
        bits.take(entry.shift());
        if place > 63 {
            return if place < END_OF_BLOCK { Err(Meaningless) } else { Ok(()) };
        }
        place += 1;
        if place == 64 {
            return Ok(());
        }
    }
}

#[inline(always)]
pub(super) fn read_dc(bits: &mut Bits<'_>, dc: &Table, predictor: &mut i32) -> Result<(), Meaningless> {
    bits.refill();
    let mut entry = dc.entry(bits.window());
    if entry.is_none() {
        entry = dc.long_entry(bits.window()).ok_or(Meaningless)?;
    }
    *predictor = predictor.wrapping_add(value(bits.window(), entry));
    bits.take(entry.shift());
    Ok(())
}

/// The value behind a code: its bits as they are where the first is 1, else less the largest such number.
#[inline(always)]
fn value(window: u64, entry: Entry) -> i32 {
    let largest = (1i32 << entry.size()) - 1;
    let value = window.wrapping_shr(entry.shift().wrapping_neg()) as i32 & largest;
    if 2 * value > largest { value } else { value - largest }
}
