//! Order, labels and blocks; held against torchvision in tests/torch/test_image_folder.py.

use super::*;
use crate::gather::decode_block;
use crate::rows::RowPool;
use crate::testing::MemoryStorage;

fn folder(names: &[&str]) -> MemoryStorage {
    names.iter().fold(MemoryStorage::new(), |storage, name| storage.with(name, name.as_bytes().to_vec()))
}

fn open(storage: &MemoryStorage) -> Result<ImageFolder> {
    ImageFolder::open(storage, "root", &ImageFolderOptions::default(), None)
}

/// Bytes and label of every sample.
fn samples(storage: &MemoryStorage, dataset: &ImageFolder) -> Vec<(String, i64)> {
    let layout = Arc::new(dataset.layout());
    let mut found = Vec::new();
    for block in 0..dataset.blocks().len() {
        let read = |ranges: &[Range]| storage.submit(dataset.sources(), ranges)?.wait();
        let chunks = decode_block(dataset, block, &layout, &RowPool::new(0), read).unwrap();
        for row in 0..dataset.blocks()[block].rows as usize {
            let label = bytemuck::pod_read_unaligned(&chunks[0].dense()[row * layout.stride()..][..8]);
            found.push((String::from_utf8(chunks[0].varying(0).get(row).to_vec()).unwrap(), label));
        }
    }
    found
}

#[test]
fn files_are_samples_and_folders_are_classes() {
    let names = [
        "root/b/x.JPG",
        "root/b/x-y/z.png",
        "root/b/x/z.webp",
        "root/b/x/q/z.webp",
        "root/a/2.tiff",
        "root/a/10.tiff",
        "root/a/notes.txt",
        "root/top.png",
    ];
    let storage = folder(&names);
    let dataset = open(&storage).unwrap();
    assert_eq!(dataset.classes(), ["a", "b"]);
    let expected = [
        ("root/a/10.tiff", 0),
        ("root/a/2.tiff", 0),
        ("root/b/x.JPG", 1),
        ("root/b/x/z.webp", 1),
        ("root/b/x-y/z.png", 1),
        ("root/b/x/q/z.webp", 1),
    ];
    let found = samples(&storage, &dataset);
    assert_eq!(found.iter().map(|(name, label)| (name.as_str(), *label)).collect::<Vec<_>>(), expected);
}

#[test]
fn classes_without_pictures_are_errors_unless_they_are_meant() {
    let storage = folder(&["root/b/x.jpg", "root/a/notes.txt"]);
    let error = open(&storage).unwrap_err();
    assert!(error.message().contains("1 of the 2 classes: a."), "{error}");
    let options = ImageFolderOptions { allow_empty: true, ..ImageFolderOptions::default() };
    let dataset = ImageFolder::open(&storage, "root", &options, None).unwrap();
    assert_eq!(samples(&storage, &dataset), [("root/b/x.jpg".to_owned(), 1)]);
    assert!(ImageFolder::open(&folder(&["root/a/notes.txt"]), "root", &options, None).is_err());
    assert_eq!(open(&folder(&["root/x.jpg"])).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn blocks_are_of_so_many_files_or_bytes() {
    let names: Vec<_> = (0..150).map(|i| format!("root/a/{i:03}.jpg")).collect();
    let dataset = open(&folder(&names.iter().map(|name| &**name).collect::<Vec<_>>())).unwrap();
    assert_eq!(dataset.blocks().iter().map(|block| block.rows).collect::<Vec<_>>(), [64, 64, 22]);
    let large = names[..5].iter().fold(MemoryStorage::new(), |storage, name| storage.with(name, vec![0; 3 << 20]));
    let dataset = open(&large).unwrap();
    assert_eq!(dataset.blocks().iter().map(|block| block.rows).collect::<Vec<_>>(), [2, 2, 1]);
    assert_ne!(dataset.fingerprint(), open(&folder(&["root/a/000.jpg"])).unwrap().fingerprint());
}
