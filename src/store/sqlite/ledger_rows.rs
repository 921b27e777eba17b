//! Lines, holds, postings and entries as they are read.

use std::collections::HashMap;

use serde::Deserialize;

use super::codec::{self, Columns, corrupt, from_json};
use crate::domain::id::{EpochId, HoldId, PostingId};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Bucket, Line, LineKey, LineRule};
use crate::domain::ledger::posting::{Attribution, Entry, Posting};
use crate::domain::money::Usd;
use crate::ports::StoreError;

/// The columns that [`LineReader::read`] reads, of `line l`. Only unbounded windows have buckets.
macro_rules! line_columns {
    () => {
        "l.id, l.budget, l.agent, l.value, l.window_start, l.window_end, l.rule, l.raise, l.revision, \
         l.lifted_until, l.posted, l.held, l.unresolved, l.overage, l.alerted, l.breached, \
         CASE WHEN l.window_end = 1000000000000000000 THEN (SELECT json_group_array(json_array(b.start, b.posted, \
         b.unresolved) ORDER BY b.start) FROM bucket b WHERE b.line = l.id) END"
    };
}
pub(super) use line_columns;

/// The columns that [`RawHold::read`] reads, of `hold h`.
macro_rules! hold_columns {
    () => {
        "h.id, h.epoch, h.agent, h.task, h.service, h.model, h.tool, h.labels, h.trust, h.bound, h.lines, \
         h.state, h.opened_at, h.expires_at, h.ended_at"
    };
}
pub(super) use hold_columns;

/// The columns that [`posting`] reads, of `posting p`.
macro_rules! posting_columns {
    () => {
        "p.seq, p.id, p.kind, p.agent, p.task, p.service, p.model, p.tool, p.labels, p.amount, p.basis, p.trust, \
         p.occurred_at, p.recorded_at, p.report, p.hold, p.corrects, p.upstream_request, p.epoch, p.detail"
    };
}
pub(super) use posting_columns;

/// Reads lines, parsing each rule once: most lines of a commit share a few.
#[derive(Default)]
pub(super) struct LineReader {
    rules: HashMap<String, LineRule>,
}

#[derive(Deserialize)]
struct RawBucket(i64, i64, i64);

impl LineReader {
    pub(super) fn read(&mut self, columns: &mut Columns<'_>) -> Result<(i64, Line), StoreError> {
        let id = columns.int()?;
        let key = columns.line_key()?;
        let rule = self.rule(columns.text()?)?;
        let line = Line {
            key,
            rule,
            raise: columns.usd()?,
            revision: columns.int()?,
            lifted_until: columns.opt_time()?,
            posted: columns.usd()?,
            held: columns.usd()?,
            unresolved: columns.usd()?,
            overage: columns.usd()?,
            alerted: columns.small(|n| u16::try_from(n).ok())?,
            breached: columns.opt_int()?,
            buckets: match columns.opt_text()? {
                None | Some("[]") => Vec::new(),
                Some(text) => from_json::<Vec<RawBucket>>("a line's buckets", text)?
                    .into_iter()
                    .map(|RawBucket(start, posted, unresolved)| {
                        Ok(Bucket {
                            start: columns.as_time(start)?,
                            posted: Usd::from_nanos(posted),
                            unresolved: Usd::from_nanos(unresolved),
                        })
                    })
                    .collect::<Result<_, StoreError>>()?,
            },
        };
        Ok((id, line))
    }

    fn rule(&mut self, text: &str) -> Result<LineRule, StoreError> {
        if let Some(rule) = self.rules.get(text) {
            return Ok(rule.clone());
        }
        let rule: LineRule = from_json("a line's rule", text)?;
        self.rules.insert(text.to_owned(), rule.clone());
        Ok(rule)
    }
}

/// A hold whose lines are still numbers.
pub(super) struct RawHold {
    pub(super) hold: Hold,
    pub(super) lines: Vec<i64>,
}

impl RawHold {
    pub(super) fn read(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        let id = HoldId(columns.uuid()?);
        let epoch = EpochId(columns.int()?);
        let attribution = attribution(columns)?;
        let trust = columns.small(codec::as_trust)?;
        let bound = columns.usd()?;
        let lines = from_json("a hold's lines", columns.text()?)?;
        let hold = Hold {
            id,
            epoch,
            attribution,
            trust,
            bound,
            lines: Vec::new(),
            state: columns.small(codec::as_hold_state)?,
            opened_at: columns.time()?,
            expires_at: columns.time()?,
            ended_at: columns.opt_time()?,
        };
        Ok(Self { hold, lines })
    }

    pub(super) fn resolve(self, keys: &HashMap<i64, LineKey>) -> Result<Hold, StoreError> {
        let mut hold = self.hold;
        hold.lines = self
            .lines
            .iter()
            .map(|id| key_of(keys, *id))
            .collect::<Result<_, StoreError>>()?;
        Ok(hold)
    }
}

pub(super) fn key_of(keys: &HashMap<i64, LineKey>, id: i64) -> Result<LineKey, StoreError> {
    keys.get(&id)
        .cloned()
        .ok_or_else(|| corrupt("a line", format!("number {id} is not there")))
}

/// An entry whose line is still a number.
pub(super) struct RawEntry {
    pub(super) line: i64,
    posting: PostingId,
    amount: Usd,
    unresolved: Usd,
    bucket: Option<jiff::Timestamp>,
}

impl RawEntry {
    /// Of `p.id, e.line, e.amount, e.unresolved, e.bucket`.
    pub(super) fn read(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            posting: PostingId(columns.uuid()?),
            line: columns.int()?,
            amount: columns.usd()?,
            unresolved: columns.usd()?,
            bucket: columns.opt_time()?,
        })
    }

    pub(super) fn resolve(self, keys: &HashMap<i64, LineKey>) -> Result<Entry, StoreError> {
        Ok(Entry {
            posting: self.posting,
            line: key_of(keys, self.line)?,
            amount: self.amount,
            unresolved: self.unresolved,
            bucket: self.bucket,
        })
    }
}

fn attribution(columns: &mut Columns<'_>) -> Result<Attribution, StoreError> {
    Ok(Attribution {
        agent: columns.name()?,
        task: columns.name()?,
        service: columns.opt_name()?,
        model: columns.opt_name()?,
        tool: columns.opt_name()?,
        labels: match columns.opt_text()? {
            None => std::collections::BTreeMap::new(),
            Some(text) => from_json("labels", text)?,
        },
    })
}

/// Labels as stored: none is NULL.
pub(super) fn labels(attribution: &Attribution) -> Result<Option<String>, StoreError> {
    if attribution.labels.is_empty() {
        return Ok(None);
    }
    codec::json(&attribution.labels).map(Some)
}

/// A posting with its place in the order of recording.
pub(super) fn posting(columns: &mut Columns<'_>) -> Result<(i64, Posting), StoreError> {
    let seq = columns.int()?;
    let id = PostingId(columns.uuid()?);
    let kind = columns.small(codec::as_posting_kind)?;
    let posting = Posting {
        id,
        kind,
        attribution: attribution(columns)?,
        amount: columns.usd()?,
        basis: columns.small(codec::as_basis)?,
        trust: columns.small(codec::as_trust)?,
        occurred_at: columns.time()?,
        recorded_at: columns.time()?,
        report: columns.opt_name()?,
        hold: columns.opt_uuid()?.map(HoldId),
        corrects: columns.opt_uuid()?.map(PostingId),
        upstream_request: columns.opt_text()?.map(str::to_owned),
        epoch: EpochId(columns.int()?),
        detail: columns.opt_text()?.map(str::to_owned),
    };
    Ok((seq, posting))
}
