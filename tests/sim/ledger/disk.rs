//! The machine under the processes: a store that outlives them, until the machine itself crashes.

use std::sync::Arc;

use backstop::ports::Store;
use backstop::store::memory::MemoryStore;
use backstop::store::memory::faults::Fault;

/// One process's own handle: while it lives, so do the locks of its epochs.
pub(super) type Handle = Arc<MemoryStore>;

pub(super) struct Disk {
    /// The world's own handle, by which it looks and freezes.
    world: Handle,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            world: Arc::new(MemoryStore::new()),
        }
    }

    /// For another process.
    pub(super) fn process(&self) -> Handle {
        Arc::new(MemoryStore::clone(&self.world))
    }

    pub(super) fn world(&self) -> Arc<dyn Store> {
        Arc::clone(&self.world) as _
    }

    /// Whether a crash would lose something now.
    pub(super) fn has_unsynced(&self) -> bool {
        self.world.has_unsynced()
    }

    /// The machine loses power: every process is gone, and what was not synced with it. Says whether
    /// something was.
    pub(super) fn crash(&mut self) -> bool {
        let lost = self.world.has_unsynced();
        self.world = Arc::new(self.world.crash());
        lost
    }
}

/// The next write, which the caller is about to make, stays in the page cache.
pub(super) fn leave_unsynced(handle: &MemoryStore) {
    handle.inject(Fault::Unsynced);
}
