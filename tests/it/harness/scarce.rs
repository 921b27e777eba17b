//! A place with less disk than a config can ask for, so that a reserve can be missing on any machine.

use std::path::PathBuf;

use tempfile::TempDir;

/// The largest reserve that the config takes, in megabytes.
pub const RESERVE_MB: u64 = 1_000_000;

/// A directory with less than the reserve free.
pub fn dir() -> TempDir {
    let places = [PathBuf::from("/dev/shm"), std::env::temp_dir()];
    for place in places {
        let Ok(stat) = rustix::fs::statvfs(&place) else {
            continue;
        };
        let is_scarce = stat.f_bavail.saturating_mul(stat.f_frsize) < RESERVE_MB * 1_000_000;
        if let (true, Ok(dir)) = (is_scarce, tempfile::tempdir_in(&place)) {
            return dir;
        }
    }
    panic!("neither /dev/shm nor the temporary directory has less than {RESERVE_MB} MB free");
}
