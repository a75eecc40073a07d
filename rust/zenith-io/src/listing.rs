//! From a path, directory or glob to the files it means, in bytewise order.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zenith_data::storage::{Source, Tree};
use zenith_data::{Error, ErrorKind, Result};

/// Directories below the listed one that are looked into; deeper trees are refused rather than walked for ever.
const DEPTH_MAX: usize = 32;

/// The files `pattern` means: the file itself, every visible file below a directory, or what a glob matches.
pub(crate) fn list(pattern: &str) -> Result<Vec<Source>> {
    let path = Path::new(pattern);
    let (root, mut files) = if path.is_dir() {
        let mut files = Vec::new();
        walk(path, 0, &mut files)?;
        (path.to_path_buf(), files)
    } else if path.exists() || !pattern.contains(['*', '?', '[']) {
        (path.parent().unwrap_or(Path::new("")).to_path_buf(), vec![path.to_path_buf()])
    } else {
        (fixed_part(pattern), matches(pattern)?)
    };
    files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    if files.is_empty() {
        let what = if path.is_dir() { "the directory holds no visible files" } else { "no file matches this pattern" };
        return Err(Error::new(ErrorKind::NotFound, format!("{what}. Check the path")).in_file(pattern));
    }
    files.iter().map(|file| source(&root, file)).collect()
}

/// Everything below the folder `root`, hidden or not, links followed; of the files those whose names are `wanted`.
pub(crate) fn tree(root: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Tree> {
    let absolute = std::path::absolute(root).map_err(|error| io_error(&error, "find the directory", root))?;
    let mut tree = Tree::default();
    walk_all(&absolute, "", 0, wanted, &mut tree)?;
    Ok(tree)
}

/// Takes the files of `folder`, whose name relative to the root is `name` and ends in a slash, and then those below it.
fn walk_all(folder: &Path, name: &str, depth: usize, wanted: &dyn Fn(&str) -> bool, tree: &mut Tree) -> Result<()> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in entries(folder, depth)? {
        let entry = entry.map_err(|error| io_error(&error, "list the directory", &folder.to_string_lossy()))?;
        let kind = entry.file_type().ok().filter(|kind| !kind.is_symlink());
        // Asking what a link leads to costs another call, and nothing for all else.
        if kind.map_or_else(|| entry.path().is_dir(), |kind| kind.is_dir()) {
            folders.push(entry.file_name().into_string().map_err(|_| not_utf8(&entry.path()))?);
        } else if wanted(&entry.file_name().to_string_lossy()) {
            let (path, is_link) = (entry.path(), kind.is_none());
            // Where it is no link, the open directory is asked, which need not find its way to the file again.
            let metadata = if is_link { fs::metadata(&path) } else { entry.metadata() };
            let file = entry.file_name().into_string().map_err(|_| not_utf8(&path))?;
            files.push(described(&path, format!("{name}{file}"), metadata)?);
        }
    }
    folders.sort_unstable();
    files.sort_unstable_by(|one: &Source, other| one.name.cmp(&other.name));
    tree.files.append(&mut files);
    for below in &folders {
        walk_all(&folder.join(below), &format!("{name}{below}/"), depth + 1, wanted, tree)?;
    }
    if depth == 0 {
        tree.folders = folders;
    }
    Ok(())
}

/// What identifies the content of an open or listed file, as far as the file system tells.
pub(crate) fn version(metadata: &fs::Metadata) -> String {
    format!("{}:{}.{:09}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// Says which operation failed on which file, and what a person can do about it.
pub(crate) fn io_error(error: &std::io::Error, doing: &str, file: &str) -> Error {
    let (kind, remedy) = match error.kind() {
        std::io::ErrorKind::NotFound => (ErrorKind::NotFound, "Check the path"),
        std::io::ErrorKind::PermissionDenied => {
            (ErrorKind::Io, "Check the permissions of the file and its directories")
        }
        _ => (ErrorKind::Io, "Check the disk or mount that holds the file"),
    };
    Error::new(kind, format!("cannot {doing}: {error}. {remedy}")).in_file(file)
}

fn source(root: &Path, file: &Path) -> Result<Source> {
    let location = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let name = file.strip_prefix(root).ok().filter(|name| !name.as_os_str().is_empty()).unwrap_or(file);
    described(&location, name.to_string_lossy().into_owned(), fs::metadata(file))
}

/// A file of which the system has told what it is.
fn described(location: &Path, name: String, metadata: std::io::Result<fs::Metadata>) -> Result<Source> {
    let metadata = metadata.map_err(|error| io_error(&error, "open the file", &location.to_string_lossy()))?;
    if !metadata.is_file() {
        let message = "not a regular file. Give a file, a directory or a glob";
        return Err(Error::invalid(message).in_file(&location.to_string_lossy()));
    }
    let version = version(&metadata);
    let location = location.to_str().ok_or_else(|| not_utf8(location))?.to_owned();
    Ok(Source { location, name, len: metadata.len(), version })
}

fn not_utf8(path: &Path) -> Error {
    Error::invalid("the path is not valid UTF-8. Rename the file").in_file(&path.to_string_lossy())
}

fn entries(directory: &Path, depth: usize) -> Result<fs::ReadDir> {
    let shown = directory.to_string_lossy();
    if depth > DEPTH_MAX {
        return Err(Error::invalid(format!("directories are nested deeper than {DEPTH_MAX}")).in_file(&shown));
    }
    fs::read_dir(directory).map_err(|error| io_error(&error, "list the directory", &shown))
}

fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let shown = directory.to_string_lossy();
    for entry in entries(directory, depth)? {
        let entry = entry.map_err(|error| io_error(&error, "list the directory", &shown))?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Names with a leading dot or underscore are bookkeeping (`_SUCCESS`, `.crc`), as Spark, Hive and pyarrow have it.
fn is_hidden(name: &std::ffi::OsStr) -> bool {
    matches!(name.as_encoded_bytes().first(), Some(b'.' | b'_'))
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let paths = glob::glob_with(pattern, options)
        .map_err(|error| Error::invalid(format!("bad glob pattern: {error}")).in_file(pattern))?;
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(|error| io_error(error.error(), "list the directory", pattern))?;
        if path.is_file() && !path.file_name().is_some_and(is_hidden) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The directories before the first wildcard.
fn fixed_part(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &Path) -> Vec<String> {
        list(pattern.to_str().unwrap()).unwrap().into_iter().map(|source| source.name).collect()
    }

    #[test]
    fn directories_and_globs_are_sorted_by_bytes_and_skip_hidden_files() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b.x", "a.x", "Z.x", ".hidden", "_SUCCESS", "sub/c.x", ".git/d.x"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        assert_eq!(names(root.path()), ["Z.x", "a.x", "b.x", "sub/c.x"]);
        assert_eq!(names(&root.path().join("*.x")), ["Z.x", "a.x", "b.x"]);
        assert_eq!(names(&root.path().join("a.x")), ["a.x"]);
    }

    #[test]
    fn a_tree_has_hidden_files_and_follows_links_but_not_for_ever() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/c/1.jpg", "a/.2.jpg", ".d/3.jpg", "a/4.txt", "5.jpg"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink(root.path().join("b"), root.path().join("e")).unwrap();
        let listed = |root: &Path| tree(root.to_str().unwrap(), &|name| name.ends_with(".jpg"));
        let found = listed(root.path()).unwrap();
        let mut names: Vec<_> = found.files.iter().map(|source| source.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, [".d/3.jpg", "5.jpg", "a/.2.jpg", "b/c/1.jpg", "e/c/1.jpg"]);
        assert_eq!(found.folders, [".d", "a", "b", "e"]);
        std::os::unix::fs::symlink(root.path(), root.path().join("b/up")).unwrap();
        assert!(listed(root.path()).is_err());
        assert_eq!(listed(&root.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn nothing_found_is_an_error_that_names_the_pattern() {
        let root = tempfile::tempdir().unwrap();
        for pattern in ["", "no/such.parquet", "*.parquet"] {
            let pattern = root.path().join(pattern);
            let error = list(pattern.to_str().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains(pattern.to_str().unwrap()), "{error}");
        }
    }
}
