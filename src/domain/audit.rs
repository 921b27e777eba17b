//! The audit log: entries in a hash chain (D3).
//!
//! An entry's hash covers the hash before it, its own number and every one of its fields, each with its
//! length, so that no two different entries have the same bytes. Editing, removing, inserting or
//! reordering an entry therefore breaks the chain at that place. Whoever can write the store can also
//! compute the whole chain anew; that is what the signed heads of [`head`] are for, which live elsewhere.
//!
//! A store calls [`chain`] inside its transaction, with the head that it read there. Nothing else may
//! make an [`AuditEntry`].

pub mod fold;
pub mod head;

use jiff::{Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::id::AgentId;

/// What the hash is over, and in which version of the form.
const DOMAIN: &[u8] = b"backstop audit entry 1\0";

/// A decision to record (D3). The texts are bounded by [`NewAudit::bounded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAudit {
    pub at: Timestamp,
    /// Who decided: `backstop`, `operator:<name>`, `agent:<id>`.
    pub actor: String,
    /// What: `refused`, `paused`, `resumed`, `contained`, `reset`, `raised`, `key_added` …
    pub action: String,
    pub agent: Option<AgentId>,
    pub reason: String,
    /// JSON text.
    pub evidence: String,
}

impl NewAudit {
    /// Bytes of `reason` and of `evidence` at most.
    pub const MAX_TEXT: usize = 16 * 1024;

    /// Bytes of `actor` and of `action` at most.
    pub const MAX_NAME: usize = 256;

    /// The form in which an entry is chained: bounded texts, time in whole milliseconds, which every
    /// store keeps. Evidence that is too long is replaced by its length and hash, so that it is still
    /// JSON and the full text, kept elsewhere, can be recognised.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        truncate(&mut self.actor, Self::MAX_NAME);
        truncate(&mut self.action, Self::MAX_NAME);
        truncate(&mut self.reason, Self::MAX_TEXT);
        if self.evidence.len() > Self::MAX_TEXT {
            self.evidence = serde_json::json!({
                "omitted_bytes": self.evidence.len(),
                "sha256": hex::encode(Sha256::digest(&self.evidence)),
            })
            .to_string();
        }
        let whole = TimestampRound::new()
            .smallest(Unit::Millisecond)
            .mode(jiff::RoundMode::Trunc);
        // Rounding towards zero stays inside the range of a timestamp, so it cannot fail.
        self.at = self.at.round(whole).unwrap_or(self.at);
        self
    }
}

/// Cuts at a character's boundary and says that it was cut.
fn truncate(text: &mut String, max: usize) {
    const MARK: &str = "…";
    if text.len() > max {
        let mut end = max - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
}

/// An entry in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Counts from 1 without gaps.
    pub seq: i64,
    pub entry: NewAudit,
    /// SHA-256 over the previous entry's hash and this entry's canonical bytes.
    #[serde(with = "as_hex")]
    pub hash: [u8; 32],
}

impl AuditEntry {
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }
}

/// The end of a chain: everything up to `seq` has this hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: i64,
    #[serde(with = "as_hex")]
    pub hash: [u8; 32],
}

impl Head {
    /// The head of a log without entries.
    pub const GENESIS: Self = Self { seq: 0, hash: [0; 32] };
}

/// Where a chain breaks, in the order in which the faults are looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    #[error("entry {expected} is missing; entry {found} follows in its place")]
    Gap { expected: i64, found: i64 },
    #[error("entry {seq} does not have the hash that it had when it was written, or one before it was changed")]
    Changed { seq: i64 },
    #[error("entry {seq} is not the one that was signed on {signed_at}: the log was written anew")]
    Rewritten { seq: i64, signed_at: Timestamp },
    #[error("entry {seq} is gone, which was there before: the tail of the log was cut off")]
    Gone { seq: i64 },
    #[error("the log ends at entry {last}, but entry {signed} was signed on {signed_at}: its tail was cut off")]
    Cut {
        last: i64,
        signed: i64,
        signed_at: Timestamp,
    },
}

/// Appends an entry to the chain that ends at `prev`.
pub fn chain(prev: Head, entry: NewAudit) -> AuditEntry {
    let entry = entry.bounded();
    // A log that appends a thousand entries a second reaches this end in three hundred million years.
    let seq = prev.seq.saturating_add(1);
    let hash = hash(prev.hash, seq, &entry);
    AuditEntry { seq, entry, hash }
}

/// Checks that `next` continues the chain that ends at `prev`, and returns the new end.
pub fn follow(prev: Head, next: &AuditEntry) -> Result<Head, Break> {
    let expected = prev.seq.saturating_add(1);
    if next.seq != expected {
        return Err(Break::Gap {
            expected,
            found: next.seq,
        });
    }
    if hash(prev.hash, next.seq, &next.entry) != next.hash {
        return Err(Break::Changed { seq: next.seq });
    }
    Ok(next.head())
}

/// Checks a whole chain, or a part of it from a head that is trusted.
pub fn verify<'a>(from: Head, entries: impl IntoIterator<Item = &'a AuditEntry>) -> Result<Head, Break> {
    entries.into_iter().try_fold(from, follow)
}

fn hash(prev: [u8; 32], seq: i64, entry: &NewAudit) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(prev);
    hasher.update(seq.to_be_bytes());
    hasher.update(entry.at.as_nanosecond().to_be_bytes());
    let agent = entry.agent.as_ref().map(AgentId::as_str);
    hasher.update([u8::from(agent.is_some())]);
    for text in [
        agent.unwrap_or_default(),
        &entry.actor,
        &entry.action,
        &entry.reason,
        &entry.evidence,
    ] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}

/// Fixed bytes as hexadecimal text, as people compare them.
pub(crate) mod as_hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub fn serialize<const N: usize, S: Serializer>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(from: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes).map_err(de::Error::custom)?;
        Ok(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn entry(second: i64, reason: &str) -> NewAudit {
        NewAudit {
            at: Timestamp::from_second(1_763_620_000 + second).expect("in range"),
            actor: "backstop".to_owned(),
            action: "refused".to_owned(),
            agent: Some(AgentId::new("transcriber").expect("a name")),
            reason: reason.to_owned(),
            evidence: "{}".to_owned(),
        }
    }

    pub(crate) fn log(length: i64) -> Vec<AuditEntry> {
        let mut head = Head::GENESIS;
        let append = |at| {
            let next = chain(head, entry(at, &format!("reason {at}")));
            head = next.head();
            next
        };
        (0..length).map(append).collect()
    }

    #[test]
    fn the_canonical_form_never_changes() {
        // Every log out there was written with this form: a change of it must be a new version. The
        // value was computed apart from this code, from the form as `hash` describes it.
        let first = chain(Head::GENESIS, entry(0, "no_budget"));
        assert_eq!(
            hex::encode(first.hash),
            "aa46a98283f14b5aea003f448bac06ab13b205f6bbc438ef03184c15d9dd55fe"
        );
    }

    #[test]
    fn a_sound_log_verifies_whole_and_in_parts() {
        let log = log(20);
        let end = verify(Head::GENESIS, &log).expect("sound");
        assert_eq!(end, log[19].head());
        assert_eq!(verify(log[9].head(), &log[10..]), Ok(end));
        assert_eq!(verify(Head::GENESIS, &[]), Ok(Head::GENESIS));
    }

    #[test]
    fn removing_inserting_and_reordering_show() {
        let sound = log(5);
        let mut removed = sound.clone();
        removed.remove(2);
        assert_eq!(
            verify(Head::GENESIS, &removed),
            Err(Break::Gap { expected: 3, found: 4 })
        );
        let mut renumbered = removed;
        for (at, entry) in renumbered.iter_mut().enumerate() {
            entry.seq = i64::try_from(at).expect("small") + 1;
        }
        assert_eq!(verify(Head::GENESIS, &renumbered), Err(Break::Changed { seq: 3 }));
        let mut swapped = sound.clone();
        swapped.swap(1, 2);
        assert_eq!(
            verify(Head::GENESIS, &swapped),
            Err(Break::Gap { expected: 2, found: 3 })
        );
        let mut headless = sound;
        headless.remove(0);
        assert_eq!(
            verify(Head::GENESIS, &headless),
            Err(Break::Gap { expected: 1, found: 2 })
        );
    }

    #[test]
    fn texts_are_bounded_and_evidence_stays_json() {
        let mut long = entry(0, &"é".repeat(NewAudit::MAX_TEXT));
        long.evidence = format!("\"{}\"", "x".repeat(NewAudit::MAX_TEXT));
        long.at = "2026-11-20T01:02:03.456789012Z".parse().expect("a timestamp");
        let kept = chain(Head::GENESIS, long).entry;
        assert!(kept.reason.len() <= NewAudit::MAX_TEXT && kept.reason.ends_with('…'));
        let evidence: serde_json::Value = serde_json::from_str(&kept.evidence).expect("still JSON");
        assert_eq!(evidence["omitted_bytes"], NewAudit::MAX_TEXT + 2);
        assert_eq!(kept.at.to_string(), "2026-11-20T01:02:03.456Z");
        assert_eq!(kept.clone().bounded(), kept);
    }

    proptest! {
        #[test]
        fn any_change_of_any_field_shows(
            at in 0usize..8,
            field in 0usize..6,
            text in "[a-z\u{e9}\"]{0,12}",
            moved in 1i64..1_000,
        ) {
            let mut log = log(8);
            let before = log[at].clone();
            let entry = &mut log[at].entry;
            match field {
                0 => entry.actor = text,
                1 => entry.action = text,
                2 => entry.reason = text,
                3 => entry.evidence = text,
                4 => entry.agent = AgentId::new(text).ok(),
                _ => entry.at = Timestamp::from_millisecond(entry.at.as_millisecond() + moved).expect("in range"),
            }
            prop_assume!(log[at] != before);
            let seq = before.seq;
            prop_assert_eq!(verify(Head::GENESIS, &log), Err(Break::Changed { seq }));
        }

        #[test]
        fn text_cannot_wander_between_fields(left in "[a-z]{1,8}", right in "[a-z]{1,8}") {
            let with = |actor: &str, action: &str| {
                let mut entry = entry(0, "");
                entry.actor = actor.to_owned();
                entry.action = action.to_owned();
                chain(Head::GENESIS, entry).hash
            };
            prop_assert_ne!(with(&left, &right), with(&format!("{left}{right}"), ""));
        }
    }
}
