//! Archives that were written by hand, whole and damaged; what names and values mean is held against Python's tarfile and
//! the WebDataset library in tests/torch/test_webdataset.py.

use proptest::prelude::*;

use super::index::{End, ShardIndex};
use super::*;
use crate::ErrorKind;
use crate::dataset::Ports;
use crate::field::{DType, FieldKind};
use crate::gather::{RowRef, decode_block, gather};
use crate::rows::RowPool;
use crate::sidecar::{NoSidecar, Silent};
use crate::storage::Storage;
use crate::testing::{FaultyMemory, MemoryStorage};
use crate::view::{Indices, View};

/// One header block and its content, filled up.
fn member(name: &str, letter: u8, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[156] = letter;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// Writes the checksum that the header has to have.
fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(|(name, content)| member(name, b'0', content)).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn numbered(count: usize) -> Vec<u8> {
    let texts: Vec<_> =
        (0..count).map(|i| (format!("{i:03}.cls"), i.to_string(), format!("{i:03}.txt"), "x".repeat(i))).collect();
    let members: Vec<_> = texts
        .iter()
        .flat_map(|(cls, number, txt, text)| [(&**cls, number.as_bytes()), (&**txt, text.as_bytes())])
        .collect();
    archive(&members)
}

fn shard(bytes: &[u8]) -> MemoryStorage {
    MemoryStorage::new().with("a.tar", bytes.to_vec())
}

fn index(bytes: &[u8]) -> Result<ShardIndex> {
    let storage = shard(bytes);
    ShardIndex::build(&storage, &storage.sources(), 0, &Silent)
}

fn names(index: &ShardIndex) -> Vec<String> {
    index.named().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
}

fn open(storage: &MemoryStorage, options: &WebDatasetOptions) -> Result<WebDataset> {
    WebDataset::open(Ports { storage, sidecar: &NoSidecar }, storage.sources(), options, Vec::new())
}

fn field(name: &str, decode: Decode) -> MemberField {
    MemberField { name: name.into(), members: vec![name.into()], decode }
}

fn only(name: &str, decode: Decode) -> WebDatasetOptions {
    WebDatasetOptions { fields: Some(vec![field(name, decode)]), ..WebDatasetOptions::default() }
}

/// Every value of the first field of varying size.
fn values(storage: &MemoryStorage, dataset: &dyn Dataset) -> Result<Vec<Vec<u8>>> {
    let layout = Arc::new(dataset.layout());
    let mut found = Vec::new();
    for block in 0..dataset.blocks().len() {
        let read = |ranges: &[Range]| storage.submit(dataset.sources(), ranges)?.wait();
        let chunks = decode_block(dataset, block, &layout, &RowPool::new(0), read)?;
        let rows = dataset.blocks()[block].rows as usize;
        found.extend(
            (0..rows).map(|row| chunks[row / layout.chunk_rows()].varying(0).get(row % layout.chunk_rows()).to_vec()),
        );
    }
    Ok(found)
}

#[test]
fn samples_come_with_their_default_fields() {
    let storage = shard(&numbered(40));
    let dataset = open(&storage, &WebDatasetOptions::default()).unwrap();
    let kinds: Vec<_> = dataset.schema().fields.iter().map(|field| (&*field.name, field.kind.clone())).collect();
    assert_eq!(kinds, [("cls", FieldKind::Dense { dtype: DType::I64, shape: vec![] }), ("txt", FieldKind::Text)]);
    assert_eq!(values(&storage, &dataset).unwrap(), (0..40).map(|i| vec![b'x'; i]).collect::<Vec<_>>());
    assert!(dataset.notices().is_empty(), "{:?}", dataset.notices());
}

/// As long as the bytes.
#[derive(Debug)]
struct Length;

impl Transform for Length {
    fn kind(&self) -> FieldKind {
        FieldKind::Dense { dtype: DType::U64, shape: vec![] }
    }

    fn is_random(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        "length".into()
    }

    fn apply(&self, encoded: crate::transform::Encoded<'_>, _: DrawKey, into: &mut [u8]) -> Result<()> {
        into.copy_from_slice(&(encoded.bytes.len() as u64).to_ne_bytes());
        Ok(())
    }
}

#[test]
fn what_transforms_need_lies_where_the_dataset_says() {
    let big = "y".repeat(300 << 10);
    let texts: Vec<_> = (0..40).map(|i| (format!("{i:03}.jpg"), format!("{i}{}", &big[..i * 4000]))).collect();
    let members: Vec<_> = texts.iter().map(|(name, text)| (&**name, text.as_bytes())).collect();
    let storage = MemoryStorage::new().with("a.tar", archive(&members[..30])).with("b.tar", archive(&members[30..]));
    let open = |sources: Vec<Source>| {
        let ports = Ports { storage: &storage, sidecar: &NoSidecar };
        let transforms = vec![Some(Arc::new(Length) as Arc<dyn Transform>)];
        let options = only("jpg", Decode::Image(serde_json::Value::Null));
        Arc::new(WebDataset::open(ports, sources, &options, transforms).unwrap()) as Arc<dyn Dataset>
    };
    let sources = storage.sources();
    let apart = [open(sources[..1].to_vec()), open(sources[1..].to_vec())];
    let one = View::Concat.over(&apart).unwrap();
    let picked = View::Select(Indices::List(vec![39, 3, 4, 31])).over(std::slice::from_ref(&one)).unwrap();
    for (dataset, count) in [(open(sources.clone()), 40), (one, 40), (picked, 4)] {
        let expected = values(&storage, &*dataset).unwrap();
        assert_eq!(expected.len(), count);
        let mut found = Vec::new();
        for (block, known) in dataset.blocks().iter().enumerate() {
            for row in 0..known.rows {
                let range = dataset.encoded_at(block, row, 0).unwrap();
                found.push(storage.read(dataset.sources(), range).unwrap().to_vec());
            }
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn every_cut_is_noticed_and_what_is_whole_is_read() {
    let whole = numbered(5);
    let options = only("txt", Decode::Text);
    let all = values(&shard(&whole), &open(&shard(&whole), &options).unwrap()).unwrap();
    let skipping = WebDatasetOptions { truncated: Truncated::Skip, ..options.clone() };
    for len in 0..whole.len() {
        let storage = shard(&whole[..len]);
        let strict = open(&storage, &options);
        if let Ok(dataset) = &strict {
            // The cut is between members (perhaps in their filling), or behind them all.
            let is_told = !dataset.notices().is_empty();
            let is_marked = len >= whole.len() - 512;
            assert!(is_told != is_marked, "cut at {len}: {:?}", dataset.notices());
            let read = values(&storage, dataset).unwrap();
            assert_eq!(read, all[..read.len()], "cut at {len}");
            continue;
        }
        let error = strict.unwrap_err();
        assert!(error.place().file.is_some() || error.kind() == ErrorKind::NotFound, "cut at {len}: {error}");
        if let Ok(dataset) = open(&storage, &skipping) {
            let read = values(&storage, &dataset).unwrap();
            assert!(!dataset.notices().is_empty());
            // The last of them may have lost a member, so that it is left out.
            assert!(read.len() < 5 && read == all[..read.len()], "cut at {len}");
        }
    }
    let error = open(&shard(&whole[..2600]), &WebDatasetOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.place().offset), (ErrorKind::Corrupt, Some(2560)), "{error}");
}

#[test]
fn flipped_bits_in_headers_are_found_and_none_ends_the_process() {
    let whole = numbered(3);
    let storage = shard(&whole);
    let dataset = open(&storage, &WebDatasetOptions::default()).unwrap();
    let expected = values(&storage, &dataset).unwrap();
    let members = index(&whole).unwrap().members;
    // Every bit of the first header, and one of each byte behind it.
    for bit in (0..8 * 512).chain((512..whole.len()).map(|byte| 8 * byte + byte % 8)) {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let storage = shard(&damaged);
        let header = members.iter().any(|member| (member.header..member.data).contains(&(bit as u64 / 8)));
        // Indexed before the bit flipped: the headers are compared. Indexed afterwards: their sums are wrong.
        let (before, after) = (values(&storage, &dataset), open(&storage, &WebDatasetOptions::default()));
        if header {
            assert_eq!(before.unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
            // A sum can be written in several ways.
            let is_filling = (148..156).contains(&(bit / 8 % 512));
            assert!(is_filling || after.unwrap_err().kind() == ErrorKind::Corrupt, "bit {bit}");
        } else if let (Ok(read), Ok(after)) = (before, after) {
            assert_eq!(values(&storage, &after).unwrap(), read, "bit {bit}");
            assert_eq!(read.len(), expected.len());
        }
    }
}

#[test]
fn extended_headers_say_names_and_sizes() {
    let long = "d/".repeat(80) + "a.txt";
    let mut bytes = member("pax_global_header", b'g', b"15 comment=abc\n");
    bytes.extend(member("x", b'x', format!("{} path={long}\n9 size=3\n", long.len() + 10).as_bytes()));
    // The header claims none, the record three.
    let mut lying = member("short", b'0', b"abc");
    lying[124..136].copy_from_slice(b"00000000000\0");
    seal(&mut lying);
    bytes.extend(lying);
    bytes.extend(member("././@LongLink", b'L', format!("{long}b\0").as_bytes()));
    bytes.extend(member("././@LongLink", b'K', b"somewhere\0"));
    bytes.extend(member("cut off", b'0', b"defg"));
    let mut split = member("b.txt", b'0', b"h");
    split[345..350].copy_from_slice(b"some/");
    seal(&mut split);
    bytes.extend(split);
    bytes.extend([0; 1024]);
    let found = index(&bytes).unwrap();
    assert_eq!(names(&found), [long.clone(), long + "b", "some//b.txt".to_owned()]);
    let sizes: Vec<u64> = found.members.iter().map(|member| member.size).collect();
    assert_eq!((sizes, found.end), (vec![3, 4, 1], End::Marked));
    let content: Vec<_> = found.members.iter().map(|m| &bytes[m.data as usize..m.end() as usize]).collect();
    assert_eq!(content, [&b"abc"[..], b"defg", b"h"]);
}

#[test]
fn what_is_no_file_is_passed_over_and_names_are_only_names() {
    let mut bytes = Vec::new();
    for (letter, name) in
        [(b'5', "dir/"), (b'1', "hard.txt"), (b'2', "soft.txt"), (b'3', "tty"), (b'4', "sda"), (b'6', "pipe")]
    {
        bytes.extend(member(name, letter, b""));
    }
    for name in ["../../etc/passwd.txt", "/abs.txt", "a\\b.txt"] {
        bytes.extend(member(name, b'0', b"x"));
    }
    let mut raw = member("????.txt", b'0', b"y");
    raw[..4].copy_from_slice(&[0xff, 0xfe, 0x80, 0xc0]);
    seal(&mut raw);
    bytes.extend(raw);
    bytes.extend([0; 1024]);
    let storage = shard(&bytes);
    let mut options = only(KEY, Decode::Text);
    let dataset = open(&storage, &options).unwrap();
    let keys = values(&storage, &dataset).unwrap();
    let expected =
        ["../../etc/passwd", "/abs", "a\\b", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"].map(|key| key.as_bytes().to_vec());
    assert_eq!(keys, expected);
    options.fields = Some(vec![field("txt", Decode::Bytes)]);
    assert_eq!(values(&storage, &open(&storage, &options).unwrap()).unwrap(), [b"x", b"x", b"x", b"y"]);
}

#[test]
fn hostile_headers_are_errors_with_their_place() {
    let fails = |bytes: &[u8]| index(bytes).unwrap_err();
    let mut negative = member("a.txt", b'0', b"x");
    negative[124..136].fill(0xff);
    seal(&mut negative);
    assert!(fails(&negative).message().contains("negative"));
    let mut sparse = member("b.txt", b'0', b"");
    sparse.extend(member("a.txt", b'S', b"x"));
    assert_eq!((fails(&sparse).kind(), fails(&sparse).place().offset), (ErrorKind::Unsupported, Some(512)));
    let mut huge = member("a.txt", b'L', b"x");
    huge[124..136].copy_from_slice(b"\x80\0\0\0\0\x7f\xff\xff\xff\xff\xff\xff");
    seal(&mut huge);
    assert!(fails(&huge).message().contains("beyond the limit"));
    let chain: Vec<u8> = (0..40).flat_map(|_| member("x", b'x', b"12 a=bbbbbb\n")).collect();
    assert!(fails(&chain).message().contains("headers stand before one member"));
    let mut holed = member("a.txt", b'0', b"x");
    holed.extend([0; 512]);
    holed.extend(member("b.txt", b'0', b"y"));
    assert_eq!(fails(&holed).place().offset, Some(1024));
    assert_eq!(fails(&[0x1f, 0x8b].repeat(512)).kind(), ErrorKind::Unsupported);
    assert!(fails(&[7; 600]).message().contains("no tar file"));
    assert!(fails(b"").message().contains("empty"));
    let mut joined = archive(&[("a.txt", b"x")]);
    joined.extend(archive(&[("b.txt", b"y")]));
    assert_eq!(index(&joined).unwrap().end, End::Followed(2048));
}

#[test]
fn duplicates_are_errors_or_chosen() {
    let bytes = archive(&[
        ("a.txt", b"1"),
        ("a.cls", b"0"),
        ("a.TXT", b"2"),
        ("b.txt", b"3"),
        ("a.txt", b"4"),
        ("a.cls", b"0"),
        ("c.txt", b"5"),
    ]);
    let storage = shard(&bytes);
    let mut options = only("txt", Decode::Text);
    let error = open(&storage, &options).unwrap_err();
    assert!(error.message().contains("\"a.TXT\"") && error.place().offset == Some(2048), "{error}");
    let chosen = |options: &WebDatasetOptions| values(&storage, &open(&storage, options).unwrap()).unwrap().concat();
    options.duplicate = Duplicate::First;
    assert_eq!(chosen(&options), b"135");
    options.duplicate = Duplicate::Last;
    assert_eq!(chosen(&options), b"345");
}

#[test]
fn samples_that_lack_a_member_are_errors_or_left_out() {
    let bytes = archive(&[("a.jpg", b"1"), ("b.png", b"2"), ("c.txt", b"3"), ("d.jpeg", b"4"), ("d.png", b"5")]);
    let storage = shard(&bytes);
    let picture = MemberField {
        name: "p".into(),
        members: ["png", "jpg", "jpeg"].map(str::to_owned).into(),
        decode: Decode::Bytes,
    };
    let mut options = WebDatasetOptions { fields: Some(vec![picture]), ..WebDatasetOptions::default() };
    let error = open(&storage, &options).unwrap_err();
    assert!(error.message().contains("\"c\" has no member png or jpg or jpeg; it has txt"), "{error}");
    options.missing = Missing::Skip;
    let dataset = open(&storage, &options).unwrap();
    assert_eq!(values(&storage, &dataset).unwrap().concat(), b"125");
    assert!(dataset.notices()[0].contains("1 samples"));
    options.fields = Some(vec![field("gif", Decode::Bytes)]);
    assert_eq!(open(&storage, &options).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn values_that_are_not_what_was_asked_for_name_member_and_place() {
    let storage = shard(&archive(&[("a.cls", b"1"), ("b.cls", b"x1")]));
    let dataset = open(&storage, &WebDatasetOptions::default()).unwrap();
    let error = values(&storage, &dataset).unwrap_err();
    let place = error.place();
    assert_eq!((place.file.as_deref(), place.offset, place.field.as_deref()), (Some("a.tar"), Some(1536), Some("cls")));
    assert!(error.to_string().contains("member \"b.cls\", field \"cls\": \"x1\" is no int64"), "{error}");
    let second = dataset.place(0, 1, 0);
    assert_eq!(&second, place);
}

#[test]
fn views_know_where_their_values_come_from() {
    let storage = shard(&numbered(9));
    let base: Arc<dyn Dataset> = Arc::new(open(&storage, &WebDatasetOptions::default()).unwrap());
    let over = |view: View| view.over(std::slice::from_ref(&base)).unwrap();
    let split = over(View::Split { fraction: 0.5, seed: 3, part: 1 });
    let drawn: Vec<u64> = values(&storage, &*split).unwrap().iter().map(|text| text.len() as u64).collect();
    let picked = over(View::Select(Indices::List(vec![7, 2, 8])));
    let runs = over(View::Select(Indices::Runs(vec![(1, 2), (5, 3)])));
    let joined = View::Concat.over(&[base.clone(), runs.clone()]).unwrap();
    for (view, expected) in [(split, drawn), (picked, vec![7, 2, 8]), (runs, vec![1, 2, 5, 6, 7])] {
        // A selection that jumps about stands in its blocks sorted.
        let expected = match view.given_order() {
            Some(order) => {
                let mut placed: Vec<_> = order.iter().copied().zip(expected).collect();
                placed.sort_unstable();
                placed.into_iter().map(|(_, number)| number).collect()
            }
            None => expected,
        };
        let found: Vec<_> = (view.blocks().iter().enumerate())
            .flat_map(|(block, rows)| (0..rows.rows).map(move |row| (block, row)))
            .map(|(block, row)| view.place(block, row, 1).member.unwrap())
            .collect();
        assert_eq!(found, expected.iter().map(|number| format!("{number:03}.txt")).collect::<Vec<_>>());
    }
    assert_eq!(joined.place(1, 2, 0), base.place(0, 5, 0));
}

#[test]
fn headers_are_read_and_contents_are_not() {
    let content = vec![7; 300_000];
    let names: Vec<String> = (0..40).map(|i| format!("{i:03}.bin")).collect();
    let bytes = archive(&names.iter().map(|name| (&**name, &content[..])).collect::<Vec<_>>());
    let storage = shard(&bytes);
    let dataset = open(&storage, &WebDatasetOptions::default()).unwrap();
    let read: u64 = storage.take_reads().iter().map(|range| range.len).sum();
    assert!(read < 450_000, "{read} of {} bytes were read", bytes.len());
    assert_eq!(dataset.blocks().iter().map(|block| block.rows).collect::<Vec<_>>(), [14, 14, 12]);
    assert_eq!(dataset.ranges(0).len(), 1, "a block is read at once");
    assert_eq!(values(&storage, &dataset).unwrap().len(), 40);
}

/// Gives the first byte and the key.
#[derive(Debug)]
struct Keyed {
    is_random: bool,
}

impl Transform for Keyed {
    fn kind(&self) -> FieldKind {
        FieldKind::Dense { dtype: DType::U64, shape: vec![2] }
    }

    fn is_random(&self) -> bool {
        self.is_random
    }

    fn describe(&self) -> String {
        "keyed".into()
    }

    fn apply(&self, encoded: crate::transform::Encoded<'_>, key: DrawKey, into: &mut [u8]) -> Result<()> {
        into[..8].copy_from_slice(&u64::from(encoded.bytes.first().copied().unwrap_or(0)).to_ne_bytes());
        into[8..].copy_from_slice(&key.0.to_ne_bytes());
        Ok(())
    }
}

#[test]
fn transforms_are_given_what_seed_epoch_and_sample_say() {
    let storage = shard(&archive(&[("a.bin", b"1"), ("b.bin", b"2")]));
    let with = |seed: u64, is_random: bool| {
        let mut options = only("bin", Decode::Image(serde_json::json!({"any": 1})));
        options.seed = seed;
        let transforms: Vec<Option<Arc<dyn Transform>>> = vec![Some(Arc::new(Keyed { is_random }))];
        WebDataset::open(Ports { storage: &storage, sidecar: &NoSidecar }, storage.sources(), &options, transforms)
            .unwrap()
    };
    let delivered = |dataset: &dyn Dataset| {
        let layout = Arc::new(dataset.layout());
        let read = |ranges: &[Range]| storage.submit(dataset.sources(), ranges)?.wait();
        let chunks = decode_block(dataset, 0, &layout, &RowPool::new(0), read).unwrap();
        let found = [0, 1].map(|row| RowRef { chunk: &chunks[0], row });
        let fields = gather(&layout, &found, &FaultyMemory::new(usize::MAX), |_, _| Place::default()).unwrap();
        let crate::batch::FieldData::Dense(slab) = &fields[0] else { return Vec::new() };
        slab.chunks(8).map(|part| u64::from_ne_bytes(part.try_into().unwrap())).collect::<Vec<_>>()
    };
    let first = with(0, true);
    let found = delivered(&first);
    assert_eq!((found[0], found[2]), (49, 50));
    assert_ne!(found[1], found[3], "samples draw apart");
    assert_eq!(delivered(&with(0, true)), found);
    assert_ne!(delivered(&with(1, true))[1], found[1]);
    assert_eq!(with(1, true).fingerprint(), first.fingerprint(), "the seed is the loader's matter");
    let later = first.at_epoch(3).unwrap();
    assert_ne!(delivered(&*later)[1], found[1]);
    assert_eq!(delivered(&*later.at_epoch(0).unwrap()), found);
    assert!(first.at_epoch(0).is_none() && with(0, false).at_epoch(3).is_none());
}

#[test]
fn what_would_run_programs_is_refused() {
    for url in ["pipe:cat a.tar", "file:a.tar", "s3://bucket/a.tar", " http://x/a.tar"] {
        assert_eq!(refuse_urls(&[url.to_owned()]).unwrap_err().kind(), ErrorKind::Unsupported, "{url}");
    }
    refuse_urls(&["a.tar".to_owned(), "pipes/b.tar".to_owned()]).unwrap();
    let storage = shard(&archive(&[("a.txt", b"1"), ("a.pkl", b"2")]));
    let error = open(&storage, &WebDatasetOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.place().field.as_deref()), (ErrorKind::Unsupported, Some("pkl")));
    assert_eq!(values(&storage, &open(&storage, &only("pkl", Decode::Bytes)).unwrap()).unwrap(), [b"2"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_an_index_or_an_error(flips in proptest::collection::vec((0..5120_usize, any::<u8>()), 1..6), cut in 0..6000_usize) {
        let mut bytes = member("x", b'x', b"13 path=a.txt\n");
        bytes.extend(numbered(3));
        for (place, byte) in flips {
            let at = place % bytes.len();
            bytes[at] = byte;
            // A header with a right sum gets further.
            let start = at / 512 * 512;
            if place % 2 == 0 && start + 512 <= bytes.len() {
                seal(&mut bytes[start..start + 512]);
            }
        }
        bytes.truncate(cut.max(1));
        if let Ok(found) = index(&bytes) {
            found.check(bytes.len() as u64).unwrap();
            let storage = shard(&bytes);
            let options = WebDatasetOptions { truncated: Truncated::Skip, missing: Missing::Skip, duplicate: Duplicate::Last, ..only(KEY, Decode::Text) };
            if let Ok(dataset) = open(&storage, &options) {
                let rows: u64 = dataset.blocks().iter().map(|block| block.rows).sum();
                prop_assert_eq!(values(&storage, &dataset).unwrap().len() as u64, rows);
            }
        }
    }
}
