//! How many lanes and how long a window: as much mixing as `shuffle_bytes` of decoded samples can hold.

use super::check_lanes;
use crate::Result;
use crate::dataset::Block;

/// Fewer lanes mix too little, more make the first batch wait for too many blocks.
const LANES_CHOSEN: [u32; 4] = [64, 32, 16, 8];

/// What `choose_order` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChosenOrder {
    pub lanes: u32,
    /// In samples.
    pub window: u64,
}

/// Chooses the lanes (unless they are given) and the window. A dataset that fits `shuffle_bytes` once decoded gets a full
/// shuffle. Otherwise the window is between an eighth of a block and two blocks. Errors: `lanes` is not a power of two
/// in 1..=4096.
pub fn choose_order(blocks: &[Block], shuffle_bytes: u64, lanes: Option<u32>) -> Result<ChosenOrder> {
    lanes.map_or(Ok(()), check_lanes)?;
    let rows: u64 = blocks.iter().fold(0, |sum, block| sum.saturating_add(block.rows));
    let bytes: u128 = blocks.iter().map(|block| u128::from(block.decoded_bytes)).sum();
    if bytes <= u128::from(shuffle_bytes) || rows == 0 {
        return Ok(ChosenOrder { lanes: lanes.unwrap_or(1), window: rows.max(1) });
    }
    let (budget, block) = (shuffle_bytes as f64, typical_block_bytes(blocks));
    let [.., fewest] = LANES_CHOSEN;
    let fits = |lanes: &u32| resident_bytes(*lanes, block, block / 4.0) <= budget;
    let lanes = lanes.unwrap_or_else(|| LANES_CHOSEN.into_iter().find(fits).unwrap_or(fewest));
    // The largest window whose estimate is within the budget: resident_bytes solved for the window.
    let window_bytes = (budget - 3.0 * block) / f64::from(lanes) - block / 2.0;
    let window = window_bytes.clamp(block / 8.0, block * 2.0) * rows as f64 / bytes as f64;
    Ok(ChosenOrder { lanes, window: (window as u64).clamp(1, rows) })
}

/// The decoded samples that are held at a time: each lane has its window and, on average, half a block beyond it, for
/// blocks are decoded whole; and three blocks are being read and decoded. A test compares this with what schedules hold.
pub(super) fn resident_bytes(lanes: u32, block: f64, window: f64) -> f64 {
    f64::from(lanes) * (block / 2.0 + window) + 3.0 * block
}

/// The size of the block that a byte drawn at random lies in: many tiny blocks do not hide a few large ones.
fn typical_block_bytes(blocks: &[Block]) -> f64 {
    let sizes = || blocks.iter().map(|block| block.decoded_bytes as f64);
    let total: f64 = sizes().sum();
    if total > 0.0 { sizes().map(|size| size * size).sum::<f64>() / total } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn equal(count: usize, mib: u64) -> Vec<Block> {
        vec![Block { rows: mib * 1000, decoded_bytes: mib * MIB }; count]
    }

    #[test]
    fn what_fits_is_shuffled_fully() -> Result<()> {
        assert_eq!(choose_order(&equal(10, 4), 40 * MIB, None)?, ChosenOrder { lanes: 1, window: 40_000 });
        assert_eq!(choose_order(&equal(10, 4), 40 * MIB, Some(16))?, ChosenOrder { lanes: 16, window: 40_000 });
        assert_eq!(choose_order(&[], 0, None)?, ChosenOrder { lanes: 1, window: 1 });
        Ok(())
    }

    #[test]
    fn lanes_and_windows_follow_the_size_of_blocks() -> Result<()> {
        let cases = [
            (1, ChosenOrder { lanes: 64, window: 2000 }),
            (4, ChosenOrder { lanes: 64, window: 1812 }),
            (8, ChosenOrder { lanes: 32, window: 3250 }),
            (16, ChosenOrder { lanes: 16, window: 5000 }),
            (100, ChosenOrder { lanes: 8, window: 12_500 }),
        ];
        for (mib, expected) in cases {
            assert_eq!(choose_order(&equal(1000, mib), 256 * MIB, None)?, expected, "blocks of {mib} MiB");
        }
        assert_eq!(choose_order(&equal(1000, 16), 256 * MIB, Some(8))?, ChosenOrder { lanes: 8, window: 18_000 });
        Ok(())
    }

    #[test]
    fn lanes_must_be_a_power_of_two() {
        for lanes in [0, 3, 48, 8192, u32::MAX] {
            let message = choose_order(&equal(1, 1), 0, Some(lanes)).expect_err("refused").to_string();
            assert!(message.contains(&format!("got {lanes}")) && message.contains("lanes="), "{message}");
        }
    }
}
