//! The credential that a provider quotes, in a body that passes through in pieces: it may be split over two.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::settings::Provider;

/// What has passed, but for an end that may be the beginning of the credential.
pub(super) struct Veil {
    provider: Arc<Provider>,
    kept: Bytes,
}

impl Veil {
    pub(super) fn new(provider: &Arc<Provider>) -> Self {
        Self {
            provider: Arc::clone(provider),
            kept: Bytes::new(),
        }
    }

    /// What goes on now.
    pub(super) fn pass(&mut self, piece: Bytes) -> Bytes {
        let whole = if self.kept.is_empty() {
            piece
        } else {
            let mut whole = BytesMut::with_capacity(self.kept.len() + piece.len());
            whole.extend_from_slice(&self.kept);
            whole.extend_from_slice(&piece);
            whole.freeze()
        };
        let mut whole = self.provider.veiled(whole);
        self.kept = whole.split_off(whole.len() - self.provider.secret_begun(&whole));
        whole
    }

    /// No more will come.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.kept)
    }
}
