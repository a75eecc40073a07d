//! Blocks, checkpoints and damage; what values mean is held against Python's csv and pyarrow in tests/torch/test_csv.py.

use std::io::Write;

use super::*;
use crate::dataset::Ports;
use crate::gather::decode_block;
use crate::rows::RowPool;
use crate::sidecar::NoSidecar;
use crate::testing::MemoryStorage;
use crate::{DType, ErrorKind, FieldKind};

fn open(storage: &MemoryStorage, options: &CsvOptions) -> Result<Csv> {
    Csv::open(Ports { storage, sidecar: &NoSidecar }, storage.sources(), options)
}

/// Every sample of a dataset of one int64 column and one of text.
fn samples(storage: &MemoryStorage, csv: &Csv) -> Result<Vec<(i64, Vec<u8>)>> {
    use crate::storage::Storage;
    let layout = std::sync::Arc::new(csv.layout());
    let mut found = Vec::new();
    for block in 0..csv.blocks().len() {
        let read = |ranges: &[crate::storage::Range]| storage.submit(csv.sources(), ranges)?.wait();
        for chunk in decode_block(csv, block, &layout, &RowPool::new(0), read)? {
            let rows = (csv.blocks()[block].rows as usize).min(layout.chunk_rows());
            let done = found.len();
            let total: u64 = csv.blocks()[..=block].iter().map(|block| block.rows).sum();
            for row in 0..rows.min(total as usize - done) {
                let number = bytemuck::pod_read_unaligned(&chunk.dense()[row * layout.stride()..][..8]);
                found.push((number, chunk.varying(0).get(row).to_vec()));
            }
        }
    }
    Ok(found)
}

/// `rows` rows of a number and a text that holds newlines, commas and quotes now and then.
fn sheet(rows: usize) -> (Vec<u8>, Vec<(i64, Vec<u8>)>) {
    let (mut text, mut expected) = (b"n,words\n".to_vec(), Vec::new());
    for row in 0..rows {
        let words = match row % 7 {
            0 => format!("line one of {row}\nline \"two\", here"),
            1 => String::new(),
            2 => format!("word {}", "ab".repeat(row % 50)),
            _ => format!("plain {}", row.wrapping_mul(0x9e37_79b9) % 100_003),
        };
        let quoted = words.contains(['\n', '"', ',']);
        let written = if quoted { format!("\"{}\"", words.replace('"', "\"\"")) } else { words.clone() };
        text.extend_from_slice(format!("{row},{written}{}", if row % 5 == 0 { "\r\n" } else { "\n" }).as_bytes());
        expected.push((row as i64, words.into_bytes()));
    }
    (text, expected)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    out.extend_from_slice(b"name.csv\0");
    out.extend(miniz_oxide::deflate::compress_to_vec(text, 6));
    out.extend(crc32fast::hash(text).to_le_bytes());
    out.extend((text.len() as u32).to_le_bytes());
    out
}

fn zstd_frames(text: &[u8], frame: usize) -> Vec<u8> {
    text.chunks(frame).flat_map(|part| ::zstd::bulk::compress(part, 3).unwrap()).collect()
}

#[test]
fn every_row_is_found_plain_and_compressed() {
    let (text, expected) = sheet(400_000);
    let members: Vec<u8> = text.chunks(3_000_001).flat_map(gzip).collect();
    let files = [
        ("plain", text.clone()),
        ("gzip", gzip(&text)),
        ("members", [members, vec![0; 512]].concat()),
        ("frames", zstd_frames(&text, 1_000_003)),
    ];
    for (name, bytes) in files {
        let storage = MemoryStorage::new().with(name, bytes);
        let csv = open(&storage, &CsvOptions::default()).unwrap();
        assert!(csv.blocks().len() > 2, "{name}: {} blocks", csv.blocks().len());
        assert_eq!(csv.blocks().iter().map(|block| block.rows).sum::<u64>(), 400_000, "{name}");
        storage.take_reads();
        assert!(samples(&storage, &csv).unwrap() == expected, "{name}");
        let read: u64 = storage.take_reads().iter().map(|range| range.len).sum();
        let size = csv.sources()[0].len;
        assert!(read < size * 3 / 2, "{name}: {read} bytes of {size} were read");
    }
}

#[test]
fn nothing_is_lost_behind_padding() {
    let (text, _) = sheet(50);
    for zeros in [1, 100, 5 << 20] {
        let padded = [gzip(&text), vec![0; zeros]].concat();
        let storage = MemoryStorage::new().with("t.csv.gz", padded.clone());
        assert_eq!(open(&storage, &CsvOptions::default()).unwrap().blocks()[0].rows, 50);
        for behind in [gzip(&text), b"x".to_vec()] {
            let storage = MemoryStorage::new().with("t.csv.gz", [padded.clone(), behind].concat());
            assert_eq!(open(&storage, &CsvOptions::default()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}

#[test]
fn one_frame_of_zstd_is_one_block() {
    let (text, expected) = sheet(200_000);
    let storage = MemoryStorage::new().with("one", zstd_frames(&text, text.len()));
    let csv = open(&storage, &CsvOptions::default()).unwrap();
    assert_eq!(csv.blocks().len(), 1);
    assert!(samples(&storage, &csv).unwrap() == expected);
}

#[test]
fn types_lines_and_messages() {
    let text = b"\xef\xbb\xbfa,b,c,d\n1,2.5,true,x\n2,,false,\"\"\n";
    let storage = MemoryStorage::new().with("t.csv", text.as_slice());
    let csv = open(&storage, &CsvOptions::default()).unwrap();
    let kinds: Vec<_> = csv.schema().fields.iter().map(|field| field.kind.clone()).collect();
    let dense = |dtype| FieldKind::Dense { dtype, shape: vec![] };
    assert_eq!(kinds, [dense(DType::I64), dense(DType::F64), dense(DType::Bool), FieldKind::Text]);
    let error = samples(&storage, &csv).unwrap_err();
    assert_eq!((error.place().row, error.place().field.as_deref()), (Some(3), Some("b")), "{error}");
    for (text, line, why) in [
        ("a,b\n1,2\n3\n", 3, "1 fields"),
        ("a,b\n1,2\n3,4,5\n", 3, "3 fields"),
        ("a,b\n1,\"x\n\n\ny\"\n3,\"\n", 6, "never closed"),
        ("a\n\"", 2, "never closed"),
    ] {
        let storage = MemoryStorage::new().with("t.csv", text.as_bytes());
        let opened = open(&storage, &CsvOptions::default());
        let error = opened.and_then(|csv| samples(&storage, &csv)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(error.place().row, Some(line), "{text:?}: {error}");
        assert!(error.message().contains(why), "{error}");
    }
}

#[test]
fn no_text_at_all() {
    for (bytes, kind) in [
        (vec![], ErrorKind::Corrupt),
        (vec![0; 1 << 20], ErrorKind::Corrupt),
        (b"\xff\xfea\0,\0b\0\n\0".to_vec(), ErrorKind::Unsupported),
        (b"\n\r\n\n".to_vec(), ErrorKind::Corrupt),
    ] {
        let storage = MemoryStorage::new().with("t.csv", bytes);
        assert_eq!(open(&storage, &CsvOptions::default()).unwrap_err().kind(), kind);
    }
    let storage = MemoryStorage::new().with("t.csv", b"a,b\n".as_slice());
    assert!(open(&storage, &CsvOptions::default()).unwrap().blocks().is_empty());
}

/// Cut anywhere, a compressed file is an error; a plain one gives the rows before the cut, or an error, and says that its
/// last row may be cut.
#[test]
fn truncation_at_every_byte() {
    let (text, expected) = sheet(60);
    let zstd = zstd_frames(&text, text.len());
    for (name, bytes) in [("t.csv.gz", gzip(&text)), ("t.csv.zst", zstd), ("t.csv", text)] {
        for cut in 0..bytes.len() {
            let storage = MemoryStorage::new().with(name, bytes[..cut].to_vec());
            let read = open(&storage, &CsvOptions::default()).and_then(|csv| Ok((samples(&storage, &csv)?, csv)));
            let Ok((found, csv)) = read else { continue };
            assert_eq!(name, "t.csv", "cut at {cut}");
            if csv.notices().is_empty() {
                assert!(found == expected[..found.len()], "cut at {cut}");
            } else {
                let whole = found.len().saturating_sub(1);
                assert!(found[..whole] == expected[..whole], "cut at {cut}");
            }
        }
    }
}

#[test]
fn flipped_bits_never_pass_a_checksum() {
    let (text, expected) = sheet(40);
    let bytes = gzip(&text);
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let storage = MemoryStorage::new().with("t.csv", damaged);
        let read = open(&storage, &CsvOptions::default()).and_then(|csv| samples(&storage, &csv));
        if let Ok(found) = read {
            // Names, times and unused bits may change unnoticed; the text may not.
            assert!(found == expected, "bit {bit}");
        }
    }
}

#[test]
fn bombs_and_overlong_rows_are_refused() {
    let mut bomb = b"a\n".to_vec();
    bomb.resize(40 << 20, b'1');
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&bomb).unwrap();
    for bytes in [gzip(&bomb), encoder.finish().unwrap()] {
        let storage = MemoryStorage::new().with("t.csv", bytes);
        let error = open(&storage, &CsvOptions::default()).unwrap_err();
        assert!(error.kind() == ErrorKind::Budget || error.message().contains("longer than"), "{error}");
    }
    let lines = b"1,2,3,4\n".repeat(5 << 20);
    let storage = MemoryStorage::new().with("t.csv", gzip(&lines));
    let error = open(&storage, &CsvOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Budget, "{error}");
    assert!(open(&storage, &CsvOptions { max_ratio: 2000, ..CsvOptions::default() }).is_ok());
    let open_quote = [b"a\n\"".to_vec(), vec![b'x'; 20 << 20]].concat();
    let storage = MemoryStorage::new().with("t.csv", open_quote);
    let error = open(&storage, &CsvOptions::default()).unwrap_err();
    assert!(error.message().contains("never closed") && error.place().row == Some(2), "{error}");
}
