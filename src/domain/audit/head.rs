//! Signed heads: what a log had become by a certain time, said by somebody who holds a key.
//!
//! A head is signed with Ed25519 and exported outside the store. Whoever rewrites or cuts the log there
//! cannot sign a head that fits, and cannot take back those that were exported. What remains possible is
//! to lose the entries since the last export; that is why the daemon exports often, and why
//! [`Verified::unsigned`] says how many entries nobody has signed yet.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{AuditEntry, Break, Head, as_hex, follow};

/// What the signature is over, and in which version of the form.
const DOMAIN: &[u8] = b"backstop audit head 1\0";

/// The first bytes of the hash of a public key: enough to find the key, and no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignerId(#[serde(with = "as_hex")] pub [u8; 8]);

impl SignerId {
    pub fn of(key: &VerifyingKey) -> Self {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        Self(id)
    }
}

impl std::fmt::Display for SignerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

/// A head, when it was signed, by whom, and the signature over all of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    pub seq: i64,
    #[serde(with = "as_hex")]
    pub hash: [u8; 32],
    pub at: Timestamp,
    pub key: SignerId,
    #[serde(with = "as_hex")]
    pub signature: [u8; 64],
}

/// Why a signed head proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the head of entry {seq} is signed by key {key}, which is not known here")]
    UnknownKey { seq: i64, key: SignerId },
    #[error("the signature of the head of entry {seq} is wrong: the head was changed")]
    Forged { seq: i64 },
    #[error("two heads of entry {seq} are signed and differ: the log was written anew between them")]
    Contradiction { seq: i64 },
}

impl SignedHead {
    /// Signs a head. Ed25519 needs no randomness, so the same head at the same time gives the same bytes.
    pub fn sign(head: Head, at: Timestamp, key: &SigningKey) -> Self {
        let id = SignerId::of(&key.verifying_key());
        let signature = key.sign(&message(head, at, id)).to_bytes();
        Self {
            seq: head.seq,
            hash: head.hash,
            at,
            key: id,
            signature,
        }
    }

    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }

    /// Checks the signature against the key of its id among `keys`.
    pub fn check(&self, keys: &[VerifyingKey]) -> Result<(), HeadError> {
        let key = keys.iter().find(|key| SignerId::of(key) == self.key);
        let key = key.ok_or(HeadError::UnknownKey {
            seq: self.seq,
            key: self.key,
        })?;
        let message = message(self.head(), self.at, self.key);
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&message, &signature)
            .map_err(|_| HeadError::Forged { seq: self.seq })
    }
}

fn message(head: Head, at: Timestamp, key: SignerId) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend(head.seq.to_be_bytes());
    bytes.extend(head.hash);
    bytes.extend(at.as_nanosecond().to_be_bytes());
    bytes.extend(key.0);
    bytes
}

/// Compares a log with the heads that were exported of it, entry by entry, so that a log of any length
/// is checked in little memory.
#[derive(Debug, Clone)]
pub struct Verifier {
    end: Head,
    /// By number; those that the log has not reached yet.
    waiting: BTreeMap<i64, SignedHead>,
    heads: usize,
    signed_to: i64,
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub end: Head,
    /// How many signed heads fit.
    pub heads: usize,
    /// The last entry that a signed head covers; 0 when none does.
    pub signed_to: i64,
    /// How many entries come after it.
    pub unsigned: i64,
}

impl Verifier {
    /// Checks every signature first: a head that proves nothing must not count.
    pub fn new(heads: impl IntoIterator<Item = SignedHead>, keys: &[VerifyingKey]) -> Result<Self, HeadError> {
        let mut waiting = BTreeMap::new();
        for head in heads {
            head.check(keys)?;
            let (seq, hash) = (head.seq, head.hash);
            let earlier = waiting.insert(seq, head);
            if earlier.is_some_and(|earlier: SignedHead| earlier.hash != hash) {
                return Err(HeadError::Contradiction { seq });
            }
        }
        Ok(Self {
            end: Head::GENESIS,
            heads: waiting.len(),
            waiting,
            signed_to: 0,
        })
    }

    /// The next entry of the log.
    pub fn next(&mut self, entry: &AuditEntry) -> Result<(), Break> {
        self.end = follow(self.end, entry)?;
        if let Some(signed) = self.waiting.remove(&self.end.seq) {
            if signed.hash != self.end.hash {
                return Err(Break::Rewritten {
                    seq: signed.seq,
                    signed_at: signed.at,
                });
            }
            self.signed_to = signed.seq;
        }
        Ok(())
    }

    /// The number of the entry to give next.
    pub fn wants(&self) -> i64 {
        self.end.seq.saturating_add(1)
    }

    /// The log has no more entries.
    pub fn finish(self) -> Result<Verified, Break> {
        if let Some(signed) = self.waiting.into_values().next_back() {
            return Err(Break::Cut {
                last: self.end.seq,
                signed: signed.seq,
                signed_at: signed.at,
            });
        }
        Ok(Verified {
            end: self.end,
            heads: self.heads,
            signed_to: self.signed_to,
            unsigned: self.end.seq - self.signed_to,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, log};
    use super::super::{chain, verify};
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Fault {
        Head(HeadError),
        Log(Break),
    }

    fn check(log: &[AuditEntry], heads: &[SignedHead]) -> Result<Verified, Fault> {
        let mut verifier = Verifier::new(heads.iter().cloned(), &[key(1).verifying_key()]).map_err(Fault::Head)?;
        for entry in log {
            assert_eq!(verifier.wants(), entry.seq);
            verifier.next(entry).map_err(Fault::Log)?;
        }
        verifier.finish().map_err(Fault::Log)
    }

    fn heads(log: &[AuditEntry], of: &[usize]) -> Vec<SignedHead> {
        of.iter()
            .map(|&i| SignedHead::sign(log[i].head(), at(1_763_621_000), &key(1)))
            .collect()
    }

    #[test]
    fn a_log_fits_the_heads_that_were_signed_of_it() {
        let log = log(10);
        let found = check(&log, &heads(&log, &[3, 7])).expect("sound");
        assert_eq!(
            (found.end, found.heads, found.signed_to, found.unsigned),
            (log[9].head(), 2, 8, 2)
        );
        let unsigned = check(&log, &[]).expect("sound, but nobody says so");
        assert_eq!((unsigned.signed_to, unsigned.unsigned), (0, 10));
    }

    #[test]
    fn cutting_the_tail_below_a_signed_head_shows() {
        let log = log(10);
        let heads = heads(&log, &[3, 7]);
        let signed_at = at(1_763_621_000);
        let cut = Break::Cut {
            last: 7,
            signed: 8,
            signed_at,
        };
        assert_eq!(check(&log[..7], &heads), Err(Fault::Log(cut)));
        assert!(check(&log[..8], &heads).is_ok());
        assert!(matches!(
            check(&[], &heads),
            Err(Fault::Log(Break::Cut { last: 0, signed: 8, .. }))
        ));
    }

    #[test]
    fn computing_the_whole_chain_anew_without_the_key_shows() {
        let sound = log(10);
        let heads = heads(&sound, &[3, 7]);
        let mut forged = Vec::new();
        let mut end = Head::GENESIS;
        for original in &sound {
            let mut entry = original.entry.clone();
            if original.seq == 6 {
                entry.reason = "nothing to see".to_owned();
            }
            let next = chain(end, entry);
            end = next.head();
            forged.push(next);
        }
        assert_eq!(
            verify(Head::GENESIS, &forged),
            Ok(end),
            "the chain alone does not show it"
        );
        let signed_at = at(1_763_621_000);
        assert_eq!(
            check(&forged, &heads),
            Err(Fault::Log(Break::Rewritten { seq: 8, signed_at }))
        );

        // Signing the forged log with another key does not help either.
        let other = SignedHead::sign(end, at(1_763_621_000), &key(2));
        let id = SignerId::of(&key(2).verifying_key());
        assert_eq!(
            check(&forged, std::slice::from_ref(&other)),
            Err(Fault::Head(HeadError::UnknownKey { seq: 10, key: id }))
        );
        let disguised = SignedHead {
            key: SignerId::of(&key(1).verifying_key()),
            ..other
        };
        assert_eq!(
            check(&forged, &[disguised]),
            Err(Fault::Head(HeadError::Forged { seq: 10 }))
        );
    }

    #[test]
    fn every_field_of_a_head_is_signed() {
        let log = log(3);
        let signed = heads(&log, &[2]).remove(0);
        let keys = [key(1).verifying_key()];
        assert_eq!(signed.check(&keys), Ok(()));
        for changed in [
            SignedHead {
                seq: 4,
                ..signed.clone()
            },
            SignedHead {
                hash: [7; 32],
                ..signed.clone()
            },
            SignedHead {
                at: at(1),
                ..signed.clone()
            },
            SignedHead {
                signature: [0; 64],
                ..signed.clone()
            },
        ] {
            assert_eq!(changed.check(&keys), Err(HeadError::Forged { seq: changed.seq }));
        }
        let other = SignedHead::sign(chain(log[1].head(), entry(9, "other")).head(), at(5), &key(1));
        assert_eq!(
            check(&log, &[signed, other]),
            Err(Fault::Head(HeadError::Contradiction { seq: 3 }))
        );
    }

    #[test]
    fn a_head_survives_its_journey_as_a_line_of_json() {
        let signed = heads(&log(3), &[2]).remove(0);
        let line = serde_json::to_string(&signed).expect("serialises");
        assert!(line.contains(&hex::encode(signed.hash)), "{line}");
        assert_eq!(serde_json::from_str::<SignedHead>(&line).expect("parses"), signed);
    }
}
