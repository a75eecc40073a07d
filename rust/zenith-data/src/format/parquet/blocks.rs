//! Where a row group is cut into blocks.

use std::ops::Range;

use super::index::PageTable;

/// A row group of more decoded bytes than this is cut: lanes and workers hold whole blocks.
pub(super) const BLOCK_BYTES_MAX: u64 = 20 << 20;
/// The least that a block of a cut row group has, but for the last.
const BLOCK_BYTES_MIN: u64 = 5 << 20;
/// What a block has if all cuts are alike.
const BLOCK_BYTES_AIM: u64 = 10 << 20;

/// Cuts `rows` rows of `bytes` decoded bytes so that few pages are decoded on both sides of a cut.
pub(super) fn cut(rows: u64, bytes: u64, tables: &[PageTable]) -> Vec<Range<u64>> {
    let per_row = (bytes / rows.max(1)).max(1);
    let (least, aim, most) = (BLOCK_BYTES_MIN / per_row, BLOCK_BYTES_AIM / per_row, BLOCK_BYTES_MAX / per_row);
    let (least, aim, most) = (least.max(1), aim.max(1), most.max(1));
    let mut blocks = Vec::new();
    let mut start = 0;
    while rows - start > most {
        let window = start + least..start + most + 1;
        let page_starts = tables.iter().flat_map(|table| {
            let first = table.pages.partition_point(|page| page.first_row < window.start);
            let last = table.pages.partition_point(|page| page.first_row < window.end);
            table.pages[first..last].iter().map(|page| page.first_row)
        });
        let mut candidates: Vec<u64> = page_starts.chain([start + aim]).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let cost = |row: u64| tables.iter().map(|table| table.cut_cost(row)).sum::<u64>();
        let end =
            candidates.into_iter().min_by_key(|&row| (cost(row), row.abs_diff(start + aim))).unwrap_or(start + aim);
        blocks.push(start..end);
        start = end;
    }
    blocks.push(start..rows);
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::parquet::index::PagePlace;

    fn table(page_rows: u64, rows: u64) -> PageTable {
        let page = |first_row| PagePlace { offset: first_row, bytes: 1000, first_row, dictionary: false };
        PageTable { pages: (0..rows).step_by(page_rows as usize).map(page).collect(), dictionary: None, flat: true }
    }

    #[test]
    fn cuts_fall_on_the_starts_of_pages_where_they_can() {
        let rows = 1 << 20;
        let blocks = cut(rows, rows * 120, &[table(262_144, rows), table(131_072, rows)]);
        assert_eq!(blocks, (0..8).map(|i| i * 131_072..(i + 1) * 131_072).collect::<Vec<_>>());
        let blocks = cut(rows, rows * 120, &[table(20_000, rows)]);
        assert_eq!(blocks[0], 0..80_000);
        for pages in [7, 300_000, rows] {
            let blocks = cut(rows, rows * 120, &[table(pages, rows), table(rows, rows)]);
            assert!(blocks.iter().all(|block| (block.end - block.start) * 120 <= BLOCK_BYTES_MAX), "{blocks:?}");
            assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start) && blocks.last().unwrap().end == rows);
        }
    }
}
