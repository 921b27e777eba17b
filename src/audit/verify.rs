//! Compares the whole log with every head that was exported of it.

use std::path::Path;

use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use super::signer::PAGE;
use super::{AuditError, Cadence, read_heads};
use crate::domain::audit::head::{Verified, Verifier};
use crate::ports::Store;

/// What a verification found, and whether it proves as much as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checked {
    #[serde(flatten)]
    pub verified: Verified,
    /// Whether no more entries are unsigned than a working signer leaves. If not, the heads' file was
    /// removed or shortened, or the signer has stopped; the chain alone proves little.
    pub is_covered: bool,
}

/// Reads the log from its first entry to its last and holds it against the heads in `heads`, whose
/// signatures must be by one of `keys`. Rewriting, cutting and inserting are errors that say where.
pub async fn verify(
    store: &dyn Store,
    heads: &Path,
    keys: &[VerifyingKey],
    cadence: Cadence,
) -> Result<Checked, AuditError> {
    let exported = read_heads(heads)?;
    let mut verifier = Verifier::new(exported, keys).map_err(|source| AuditError::Head {
        path: heads.to_owned(),
        source,
    })?;
    loop {
        let page = store.audit(verifier.wants(), PAGE).await?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            verifier.next(entry)?;
        }
    }
    let verified = verifier.finish()?;
    Ok(Checked {
        verified,
        is_covered: verified.unsigned <= cadence.entries.saturating_mul(2),
    })
}
