//! Makes the folders that logs lie in (T-44, T-45). None is ever removed (TW-4, T-61).

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::plan::{LogFolder, PlanError};

const ALPHABET: &[u8; 37] = b"abcdefghijklmnopqrstuvwxyz0123456789_";
const TRIES: usize = 100;

/// Whether folders can be made there at all (T-45).
pub fn check(folder: &LogFolder) -> Result<(), PlanError> {
    match folder {
        LogFolder::At(folder) if folder.is_file() => {
            Err(PlanError::NotADirectory(format!("log_dir: {} is a file", folder.display())))
        }
        _ => Ok(()),
    }
}

/// The folder of a run: `<log dir>/<run id>_<random>`; `None` if there are to be no files.
pub fn of_run(folder: &LogFolder, temporary: &Path, run_id: &str) -> io::Result<Option<PathBuf>> {
    let base = match folder {
        LogFolder::Nowhere => return Ok(None),
        LogFolder::Temporary => fresh(temporary, "torchelastic_")?,
        // Files are named to processes with other working folders.
        LogFolder::At(folder) => std::path::absolute(folder)?,
    };
    std::fs::create_dir_all(&base)
        .and_then(|()| fresh(&base, &format!("{}_", run_id.replace('/', "_"))))
        .map(Some)
        .map_err(|error| at(&base, &error))
}

/// The folder of an attempt, with one for each rank in it.
pub fn of_attempt(run: &Path, number: u32, ranks: u32) -> io::Result<PathBuf> {
    let attempt = run.join(format!("attempt_{number}"));
    for folder in std::iter::once(attempt.clone()).chain((0..ranks).map(|rank| attempt.join(rank.to_string()))) {
        std::fs::create_dir(&folder).map_err(|error| at(&folder, &error))?;
    }
    Ok(attempt)
}

/// A folder that did not exist, as Python's `mkdtemp` makes them: for this user alone.
fn fresh(base: &Path, prefix: &str) -> io::Result<PathBuf> {
    for _ in 0..TRIES {
        let folder = base.join(format!("{prefix}{}", random_name()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at(&folder, &error)),
            Ok(()) => return Ok(folder),
        }
    }
    Err(io::Error::other(format!("no unused name for a folder in {}", base.display())))
}

/// Eight characters, of the bits of a UUID that are random.
fn random_name() -> String {
    let bits = Uuid::new_v4().as_u128();
    (0..8).map(|at| char::from(ALPHABET[((bits >> (6 * at)) & 0x3f) as usize % ALPHABET.len()])).collect()
}

fn at(folder: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("log folder {}: {error}. Choose another by --log-dir", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_share_a_log_folder_and_attempts_a_run() {
        let base = tempfile::tempdir().expect("a folder");
        let logs = LogFolder::At(base.path().join("a/b"));
        let runs = [0, 1].map(|_| of_run(&logs, base.path(), "r/1").expect("a folder").expect("files are wanted"));
        assert_ne!(runs[0], runs[1]);
        for run in &runs {
            let name = run.file_name().expect("a name").to_str().expect("text");
            assert!(name.starts_with("r_1_") && name.len() == 12, "{name}");
        }
        let attempt = of_attempt(&runs[0], 3, 2).expect("a folder");
        assert_eq!(attempt, runs[0].join("attempt_3"));
        assert!(attempt.join("1").is_dir());
        assert!(of_attempt(&runs[0], 3, 2).is_err(), "logs are not written over");
    }

    #[test]
    fn a_file_is_no_log_folder_and_dev_null_means_none() {
        let base = tempfile::tempdir().expect("a folder");
        assert_eq!(of_run(&LogFolder::Nowhere, base.path(), "r").expect("nothing to do"), None);
        let file = base.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let error = check(&LogFolder::At(file.clone())).expect_err("it is a file").to_string();
        assert_eq!(check(&LogFolder::At(base.path().into())), Ok(()));
        assert_eq!(check(&LogFolder::At(base.path().join("new"))), Ok(()));
        assert_eq!(error, format!("NotADirectoryError: log_dir: {} is a file", file.display()));
        let run = of_run(&LogFolder::Temporary, base.path(), "r").expect("a folder").expect("files are wanted");
        assert!(
            run.starts_with(base.path())
                && run.parent().is_some_and(|parent| parent.to_string_lossy().contains("torchelastic_"))
        );
    }
}
