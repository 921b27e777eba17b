//! File locks: a run of the daemon proves by one that it lives.
//!
//! `flock` belongs to the open file, is dropped by the kernel when its process ends however it ends,
//! and conflicts between two openings even inside one process. So whoever can take the lock of an
//! epoch has proof that nobody runs it any more.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock, or says that somebody else holds it.
    pub(super) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self {
                _file: file,
                path: path.to_owned(),
            })),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file of a lock that nobody needs any more, then lets go. Whoever opened the file
    /// before gets a lock that means nothing, and must look at the store again.
    pub(super) fn remove(self) {
        // A file that stays is harmless: its lock is free, and its epoch is closed.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_freed_by_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let first = FileLock::try_take(&path).unwrap().unwrap();
        assert!(
            FileLock::try_take(&path).unwrap().is_none(),
            "the same process, another opening"
        );
        drop(first);
        let again = FileLock::try_take(&path).unwrap().unwrap();
        again.remove();
        assert!(!path.exists());
    }
}
