//! What the name of a member says, by the rules of the WebDataset library.

/// The key that the members of one sample share, and the extension that tells them apart: the name is cut at the first dot
/// of its last component. `None` for names that have no such dot, which belong to no sample.
pub(super) fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let file = memchr::memrchr(b'/', name).map_or(0, |slash| slash + 1);
    let dot = file + memchr::memchr(b'.', &name[file..])?;
    if dot == file {
        // Of "a/.b" the library makes the key "a/", unless the directory has a dot in it.
        let parents = name[..file].strip_suffix(b"/")?;
        let parent = memchr::memrchr(b'/', parents).map_or(parents, |slash| &parents[slash + 1..]);
        if parent.contains(&b'.') {
            return None;
        }
    }
    Some((&name[..dot], &name[dot + 1..]))
}

/// Whether the library passes over it: `__x__`, or anything in a directory of such a name.
pub(super) fn is_metadata(name: &[u8]) -> bool {
    let first = name.split(|&byte| byte == b'/').next().unwrap_or_default();
    first.len() >= 4 && first.starts_with(b"__") && first.ends_with(b"__")
}

/// Extensions are the same whatever their case.
pub(super) fn lower(extension: &[u8]) -> String {
    String::from_utf8_lossy(extension).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_the_first_dot_of_the_last_component() {
        let cut = |name: &'static str| {
            split(name.as_bytes())
                .map(|(key, extension)| (std::str::from_utf8(key).unwrap(), std::str::from_utf8(extension).unwrap()))
        };
        assert_eq!(cut("a.jpg"), Some(("a", "jpg")));
        assert_eq!(cut("./x.y/a.seg.PNG"), Some(("./x.y/a", "seg.PNG")));
        assert_eq!(cut("../../etc/passwd.txt"), Some(("../../etc/passwd", "txt")));
        assert_eq!(cut("a."), Some(("a", "")));
        assert_eq!((cut("a"), cut("x.y/a"), cut(".a"), cut("")), (None, None, None, None));
        assert_eq!((cut("x/.a"), cut("x.y/.a"), cut("/.a")), (Some(("x/", "a")), None, Some(("/", "a"))));
        assert!(
            is_metadata(b"__meta__/a.json") && is_metadata(b"__a__") && !is_metadata(b"___") && !is_metadata(b"__a.b")
        );
    }
}
