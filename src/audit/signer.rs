//! Signs the end of the log every so many entries and every so many seconds.
//!
//! It reads the log from the last entry that it knows, inclusive: that entry must still be there and
//! be the same, else the log was cut or rewritten under the running daemon. What follows must continue
//! the chain. Only then it signs. A break stays a break: the signer never signs again, and what was
//! exported before goes on proving what the log was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};

use super::{AuditError, HeadsFile};
use crate::domain::audit::head::SignedHead;
use crate::domain::audit::{AuditEntry, Break, Head, follow};
use crate::ports::Store;

/// Entries that are read at a time.
pub(super) const PAGE: u32 = 1000;

/// How long an append to the heads' file may take.
const APPEND_LIMIT: Duration = Duration::from_secs(30);

/// How often a head is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// When so many entries are unsigned.
    pub entries: i64,
    /// When the oldest unsigned entry was first seen so long ago.
    pub period: SignedDuration,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            entries: 256,
            period: SignedDuration::from_secs(10),
        }
    }
}

/// The one that signs.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    /// `None` while an append is under way on another thread, or after one that never came back.
    file: Option<HeadsFile>,
    path: PathBuf,
    cadence: Cadence,
    trail: Trail,
}

/// What is known of the log: pure, so that its rules can be tried on their own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trail {
    seen: Head,
    signed: Head,
    /// When the oldest entry that is not signed was first seen.
    waiting_since: Option<Timestamp>,
}

impl Trail {
    fn from(signed: Head) -> Self {
        Self {
            seen: signed,
            signed,
            waiting_since: None,
        }
    }

    /// The number to read from.
    fn reads_from(&self) -> i64 {
        self.seen.seq.max(1)
    }

    /// Takes a page that was read from there; says whether anything was new.
    fn take(&mut self, page: &[AuditEntry], now: Timestamp) -> Result<bool, Break> {
        let mut page = page.iter();
        if self.seen.seq > 0 {
            match page.next() {
                Some(known) if known.seq != self.seen.seq => {
                    return Err(Break::Gap {
                        expected: self.seen.seq,
                        found: known.seq,
                    });
                }
                Some(known) if known.head() != self.seen => return Err(Break::Changed { seq: known.seq }),
                Some(_) => {}
                None => return Err(Break::Gone { seq: self.seen.seq }),
            }
        }
        let before = self.seen;
        self.seen = page.try_fold(self.seen, follow)?;
        let is_new = self.seen != before;
        if is_new && self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        }
        Ok(is_new)
    }

    fn is_due(&self, now: Timestamp, cadence: Cadence) -> bool {
        let waited = self.waiting_since.map(|since| now.duration_since(since));
        let unsigned = self.seen.seq - self.signed.seq;
        unsigned >= cadence.entries || waited.is_some_and(|waited| waited >= cadence.period)
    }

    fn signed(&mut self) {
        self.signed = self.seen;
        self.waiting_since = None;
    }
}

impl Signer {
    /// Opens the exported heads and goes on where they end. Blocks on the disk; done once, at the start.
    pub fn open(key: SigningKey, heads: &Path, cadence: Cadence) -> Result<Self, AuditError> {
        let file = HeadsFile::open(heads, key.verifying_key())?;
        let signed = file.last().map_or(Head::GENESIS, SignedHead::head);
        Ok(Self {
            key,
            file: Some(file),
            path: heads.to_owned(),
            cadence,
            trail: Trail::from(signed),
        })
    }

    /// How many entries were seen that nobody has signed yet.
    pub fn unsigned(&self) -> i64 {
        self.trail.seen.seq - self.trail.signed.seq
    }

    /// Follows the log to its end and signs if it is time; to be called every second or so. Returns the
    /// head that it exported.
    pub async fn advance(&mut self, store: &dyn Store, now: Timestamp) -> Result<Option<SignedHead>, AuditError> {
        self.read(store, now).await?;
        if self.trail.is_due(now, self.cadence) {
            return self.export(now).await.map(Some);
        }
        Ok(None)
    }

    /// Signs whatever is not signed yet; the last act of a daemon that ends.
    pub async fn finish(&mut self, store: &dyn Store, now: Timestamp) -> Result<(), AuditError> {
        self.read(store, now).await?;
        if self.unsigned() > 0 {
            self.export(now).await?;
        }
        Ok(())
    }

    async fn read(&mut self, store: &dyn Store, now: Timestamp) -> Result<(), AuditError> {
        loop {
            let page = store.audit(self.trail.reads_from(), PAGE).await?;
            if !self.trail.take(&page, now)? {
                return Ok(());
            }
        }
    }

    async fn export(&mut self, now: Timestamp) -> Result<SignedHead, AuditError> {
        let head = SignedHead::sign(self.trail.seen, now, &self.key);
        let line = head.clone();
        let (open, path, key) = (self.file.take(), self.path.clone(), self.key.verifying_key());
        let append = tokio::task::spawn_blocking(move || {
            // Without a file the thread that had it never came back; it is opened anew.
            let mut file = match open {
                Some(file) => file,
                None => HeadsFile::open(&path, key)?,
            };
            let done = file.append(&line);
            Ok::<_, AuditError>((file, done))
        });
        let slow = AuditError::Slow {
            what: "exporting a signed head of the audit log",
            seconds: APPEND_LIMIT.as_secs(),
        };
        let Ok(Ok(appended)) = tokio::time::timeout(APPEND_LIMIT, append).await else {
            return Err(slow);
        };
        let (file, done) = appended?;
        self.file = Some(file);
        done?;
        self.trail.signed();
        // The log is a second export, for whoever ships it elsewhere.
        tracing::info!(seq = head.seq, hash = %hex::encode(head.hash), key = %head.key, "audit head signed");
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::tests::{entry, log};
    use crate::domain::audit::{chain, tests};

    fn at(second: i64) -> Timestamp {
        tests::entry(second, "").at
    }

    const CADENCE: Cadence = Cadence {
        entries: 5,
        period: SignedDuration::from_secs(10),
    };

    #[test]
    fn it_signs_after_so_many_entries_or_seconds() {
        let log = log(9);
        let mut trail = Trail::from(Head::GENESIS);
        assert!(!trail.is_due(at(1_000), CADENCE), "nothing to sign");
        assert_eq!(trail.take(&log[..2], at(0)), Ok(true));
        assert!(!trail.is_due(at(9), CADENCE));
        assert!(trail.is_due(at(10), CADENCE));
        assert_eq!(trail.take(&log[1..4], at(8)), Ok(true));
        assert_eq!(trail.take(&log[3..4], at(9)), Ok(false));
        assert!(trail.is_due(at(10), CADENCE), "the oldest counts, not the newest");
        trail.signed();
        assert!(!trail.is_due(at(1_000), CADENCE));
        assert_eq!(trail.reads_from(), 4);
        assert_eq!(trail.take(&log[3..9], at(20)), Ok(true));
        assert!(trail.is_due(at(20), CADENCE));
    }

    #[test]
    fn it_never_signs_over_a_changed_past() {
        let log = log(6);
        let known = Trail::from(log[3].head());
        let mut cut = known.clone();
        assert_eq!(cut.take(&[], at(0)), Err(Break::Gone { seq: 4 }));
        let mut rewritten = known.clone();
        let other = chain(log[2].head(), entry(3, "another story"));
        assert_eq!(rewritten.take(&[other], at(0)), Err(Break::Changed { seq: 4 }));
        let mut edited = log.clone();
        edited[5].entry.reason = "nothing".to_owned();
        assert_eq!(known.clone().take(&edited[3..], at(0)), Err(Break::Changed { seq: 6 }));
        let later = Err(Break::Gap { expected: 4, found: 5 });
        assert_eq!(known.clone().take(&log[4..], at(0)), later);
        assert_eq!(known.clone().take(&log[3..], at(0)), Ok(true));
    }
}
