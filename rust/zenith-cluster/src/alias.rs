//! A `torchrun` that is this program, for callers that start it by that name: TorchX, scripts of clusters.
//!
//! It is a link and never part of the wheel, where it would take the place of torch's own. It does not lead back to itself: what only
//! Python can do is handed to `python -m torch.distributed.run`, and never to a program of this name (`handing_over`).

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const NAME: &str = "torchrun";

/// Links `program` in `folder`, overwrites nothing, and gives back what is to be said of it. `path` is `$PATH`.
pub fn install(folder: &Path, program: &Path, path: Option<&OsStr>) -> io::Result<String> {
    let named = |error: io::Error, place: &Path| {
        io::Error::new(error.kind(), format!("--install-alias: {}: {error}", place.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| named(error, folder))?;
    let alias = std::path::absolute(folder)?.join(NAME);
    let is_there = match symlink(program, &alias) {
        Ok(()) => false,
        Err(error)
            if error.kind() == ErrorKind::AlreadyExists && std::fs::read_link(&alias).is_ok_and(|to| to == program) =>
        {
            true
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let what = format!(
                "--install-alias: {} exists and is not overwritten; remove it, or choose another folder",
                alias.display()
            );
            return Err(io::Error::new(ErrorKind::AlreadyExists, what));
        }
        Err(error) => return Err(named(error, &alias)),
    };
    let verb = if is_there { "is already" } else { "is now" };
    let mut said = format!("{} {verb} {}\n", alias.display(), program.display());
    let first = first_in(path, NAME);
    if first.as_deref() != Some(&alias) {
        let other = first.map_or("PATH has no torchrun".into(), |other| format!("PATH has {} first", other.display()));
        let folder = alias.parent().unwrap_or(folder).display();
        said += &format!("{other}: export PATH={folder}:$PATH\n");
    }
    Ok(said)
}

/// The program of this name that a shell would start.
pub(crate) fn first_in(path: Option<&OsStr>, name: &str) -> Option<PathBuf> {
    let is_program =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    std::env::split_paths(path?).map(|folder| folder.join(name)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_once_and_nothing_is_overwritten() {
        let base = tempfile::tempdir().expect("a folder");
        let program = Path::new("/bin/sh");
        let folder = base.path().join("a/bin");
        let said = install(&folder, program, None).expect("a link");
        assert!(said.contains("torchrun is now /bin/sh\nPATH has no torchrun: export PATH="), "{said}");
        let said = install(&folder, program, Some(folder.as_os_str())).expect("the same again");
        assert_eq!(said, format!("{} is already /bin/sh\n", folder.join("torchrun").display()));
        let error = install(&folder, Path::new("/bin/other"), None).expect_err("it is there").to_string();
        assert!(error.contains("exists and is not overwritten"), "{error}");
        for (name, make) in [("file", true), ("link", false)] {
            let folder = base.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            let there = folder.join("torchrun");
            if make {
                std::fs::write(&there, "torch's").expect("a file");
            } else {
                symlink("/nowhere", &there).expect("a link");
            }
            install(&folder, program, None).expect_err("it is there");
            assert_eq!(std::fs::read_link(&there).is_ok(), !make);
            assert_eq!(std::fs::read(&there).ok(), make.then(|| b"torch's".to_vec()));
        }
    }

    #[test]
    fn the_first_program_in_the_path_is_found() {
        let base = tempfile::tempdir().expect("a folder");
        let [plain, program] = ["plain", "program"].map(|name| base.path().join(name));
        for (folder, mode) in [(&plain, 0o644), (&program, 0o755)] {
            std::fs::create_dir(folder).expect("a folder");
            std::fs::write(folder.join("x"), "").expect("a file");
            std::fs::set_permissions(folder.join("x"), PermissionsExt::from_mode(mode)).expect("its mode");
        }
        let path = std::env::join_paths([&plain, &program]).expect("a path");
        assert_eq!(first_in(Some(&path), "x"), Some(program.join("x")));
        assert_eq!(first_in(Some(&path), "y"), None);
        assert_eq!(first_in(None, "x"), None);
    }
}
