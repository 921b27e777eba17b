//! Says where the daemon listens, once it does: a port that the system chose is known only then.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

/// The file's name in the state directory.
const FILE: &str = "backstop.addresses.json";

#[derive(Debug, Clone, Serialize)]
pub(super) struct Addresses {
    pub(super) agent: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) admin_socket: PathBuf,
}

impl Addresses {
    /// Replaces the file in one step, so that nobody reads half of it.
    pub(super) fn write(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = state_dir.join(FILE);
        let partial = state_dir.join(format!(".{FILE}.partial"));
        std::fs::write(&partial, serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&partial, &path))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}
