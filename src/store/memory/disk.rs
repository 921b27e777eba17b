//! The rows: what would be on a disk, and how a delta is written to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::control::Control;
use crate::domain::audit::{AuditEntry, Head, NewAudit, chain};
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::memory::Note;
use crate::domain::containment::state::Step;
use crate::domain::containment::target::Region;
use crate::domain::drill::Drill;
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::price::Listed;
use crate::domain::fleet::rate::RateKey;
use crate::domain::id::{AgentId, EpochId, HoldId, ModelId, PostingId, ServiceId, TaskId, ToolName};
use crate::domain::ledger::batch::{Delta, ReportKey};
use crate::domain::ledger::hold::{Hold, HoldState};
use crate::domain::ledger::line::{Line, LineKey, Response};
use crate::domain::ledger::posting::{Basis, Entry, Posting, PostingKind};
use crate::domain::money::Usd;
use crate::ports::{AgentKey, FleetBook, Lease, StoreError, Trigger};

#[derive(Clone)]
pub(super) struct Epoch {
    pub(super) closed: bool,
    pub(super) last_seq: i64,
}

/// What a report of spend adds up: an hour since 1970, and every dimension.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) hour: i64,
    pub(super) agent: AgentId,
    pub(super) task: TaskId,
    pub(super) model: Option<ModelId>,
    pub(super) service: Option<ServiceId>,
    pub(super) tool: Option<ToolName>,
}

#[derive(Clone, Default)]
pub(super) struct Sum {
    pub(super) amount: i128,
    pub(super) unresolved: i128,
    pub(super) postings: i64,
}

#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) epochs: BTreeMap<EpochId, Epoch>,
    pub(super) clock: Option<Timestamp>,

    pub(super) lines: BTreeMap<LineKey, Line>,
    pub(super) holds: BTreeMap<HoldId, Hold>,
    /// Open holds by the time at which they expire.
    pub(super) open: BTreeSet<(EpochId, Timestamp, HoldId)>,
    /// In the order in which they were recorded.
    pub(super) postings: BTreeMap<u64, Posting>,
    pub(super) last_posting: u64,
    pub(super) posting_seq: HashMap<PostingId, u64>,
    pub(super) by_hold: HashMap<HoldId, Vec<PostingId>>,
    pub(super) corrected: HashMap<PostingId, PostingId>,
    pub(super) entries: HashMap<PostingId, Vec<Entry>>,
    pub(super) rolled: BTreeMap<(LineKey, Timestamp), (Usd, Usd)>,
    pub(super) reports: HashMap<ReportKey, ([u8; 32], Option<PostingId>)>,
    pub(super) metered: HashMap<(AgentId, String), PostingId>,
    pub(super) spend: BTreeMap<Cell, Sum>,
    /// Those that wait for judgement.
    pub(super) triggers: BTreeMap<i64, Trigger>,
    pub(super) last_trigger: i64,

    pub(super) control: Control,
    pub(super) leases: BTreeMap<String, Lease>,
    pub(super) images: Vec<BeforeImage>,
    /// In the order in which they ended.
    pub(super) drills: Vec<Drill>,
    /// By their key.
    pub(super) notes: BTreeMap<String, Note>,
    /// By account.
    pub(super) fleet_books: BTreeMap<String, FleetBook>,
    /// By event.
    pub(super) creations: BTreeMap<String, Creation>,
    pub(super) fleet_prices: BTreeMap<(Region, RateKey), Listed>,
    pub(super) steps: Vec<Step>,
    pub(super) keys: Vec<AgentKey>,
    pub(super) audit: Vec<Arc<AuditEntry>>,
}

/// Whole hours since 1970, rounded down.
pub(super) fn hour_of(t: Timestamp) -> i64 {
    let nanos = t.as_nanosecond().div_euclid(3_600_000_000_000);
    i64::try_from(nanos).unwrap_or(i64::MIN)
}

impl Disk {
    pub(super) fn posting(&self, id: PostingId) -> Option<&Posting> {
        self.postings.get(self.posting_seq.get(&id)?)
    }

    /// Writes a delta, all of it: what could fail is checked first.
    pub(super) fn write_delta(&mut self, delta: Delta) -> Result<(), StoreError> {
        self.check_ids(&delta)?;
        let triggers = self.name_triggers(&delta)?;
        self.lines.extend(delta.lines);
        for (id, hold) in delta.holds {
            let open = (hold.epoch, hold.expires_at, id);
            match hold.state {
                HoldState::Open => self.open.insert(open),
                _ => self.open.remove(&open),
            };
            self.holds.insert(id, hold);
        }
        for entry in delta.entries {
            self.entries.entry(entry.posting).or_default().push(entry);
        }
        for posting in delta.postings {
            self.keep(posting);
        }
        for seen in delta.reports {
            self.reports.insert(seen.key, (seen.digest, seen.posting));
        }
        self.triggers.extend(triggers);
        Ok(())
    }

    fn check_ids(&self, delta: &Delta) -> Result<(), StoreError> {
        let mut fresh = HashSet::new();
        for posting in &delta.postings {
            if self.posting_seq.contains_key(&posting.id) || !fresh.insert(posting.id) {
                return Err(StoreError::Other {
                    context: "writing postings",
                    source: format!("the posting id {} is in use", posting.id).into(),
                });
            }
        }
        Ok(())
    }

    fn name_triggers(&mut self, delta: &Delta) -> Result<Vec<(i64, Trigger)>, StoreError> {
        let mut named = Vec::with_capacity(delta.triggers.len());
        for trigger in &delta.triggers {
            let response = self.response_of(&trigger.line, delta)?;
            self.last_trigger += 1;
            let trigger = Trigger {
                id: self.last_trigger,
                trigger: trigger.clone(),
                response,
            };
            named.push((self.last_trigger, trigger));
        }
        Ok(named)
    }

    fn response_of(&self, line: &LineKey, delta: &Delta) -> Result<Response, StoreError> {
        let line = delta.lines.get(line).or_else(|| self.lines.get(line));
        line.map(|line| line.rule.response).ok_or_else(|| StoreError::Corrupt {
            context: "a trigger is about a line that is not there".to_owned(),
            source: None,
        })
    }

    fn keep(&mut self, posting: Posting) {
        let unresolved = self.unresolved_of(&posting);
        let of = &posting.attribution;
        let cell = Cell {
            hour: hour_of(posting.occurred_at),
            agent: of.agent.clone(),
            task: of.task.clone(),
            model: of.model.clone(),
            service: of.service.clone(),
            tool: of.tool.clone(),
        };
        let sum = self.spend.entry(cell).or_default();
        sum.amount += i128::from(posting.amount.nanos());
        sum.unresolved += unresolved;
        sum.postings += 1;
        if let Some(hold) = posting.hold {
            self.by_hold.entry(hold).or_default().push(posting.id);
        }
        if let Some(target) = posting.corrects {
            self.corrected.insert(target, posting.id);
        }
        if let (Basis::Metered, Some(request)) = (posting.basis, &posting.upstream_request) {
            let key = (of.agent.clone(), request.clone());
            self.metered.entry(key).or_insert(posting.id);
        }
        self.last_posting += 1;
        self.posting_seq.insert(posting.id, self.last_posting);
        self.postings.insert(self.last_posting, posting);
    }

    /// How much a posting adds to what is unresolved.
    fn unresolved_of(&self, posting: &Posting) -> i128 {
        match posting.kind {
            PostingKind::Unresolved => i128::from(posting.amount.nanos()),
            PostingKind::Correction => {
                let target = posting.corrects.and_then(|target| self.posting(target));
                let open = target.filter(|target| target.kind == PostingKind::Unresolved);
                -open.map_or(0, |target| i128::from(target.amount.nanos()))
            }
            PostingKind::Report | PostingKind::Capture => 0,
        }
    }

    pub(super) fn append_audit(&mut self, entries: &[NewAudit]) -> Vec<AuditEntry> {
        let mut head = self.audit.last().map_or(Head::GENESIS, |last| last.head());
        let mut appended = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = chain(head, entry.clone());
            head = entry.head();
            self.audit.push(Arc::new(entry.clone()));
            appended.push(entry);
        }
        appended
    }
}
