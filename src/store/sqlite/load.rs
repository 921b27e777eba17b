//! What a batch names, read inside its write transaction: one statement a table, one look-up a name.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::codec::{self, corrupt};
use super::ledger_rows::{LineReader, RawEntry, RawHold, hold_columns, line_columns, posting, posting_columns};
use super::statement::Db;
use crate::domain::id::{AgentId, BudgetId, HoldId, PostingId};
use crate::domain::ledger::batch::{Batch, Op, RULE_PAGE, Report, ReportKey, ResolveTarget, Snapshot};
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::line::{Bucket, Line, LineKey};
use crate::ports::StoreError;

/// A snapshot, and what the database calls the lines in it.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    pub(super) line_ids: HashMap<LineKey, i64>,
    /// The holds that are stored.
    pub(super) holds: HashSet<HoldId>,
    /// The buckets as they are stored, to tell which ones were dropped.
    pub(super) buckets: HashMap<i64, Vec<Bucket>>,
}

/// What the operations of a batch name.
#[derive(Default)]
struct Names<'b> {
    holds: BTreeSet<HoldId>,
    postings: BTreeSet<PostingId>,
    lines: BTreeSet<&'b LineKey>,
    /// Budgets whose next live lines are wanted, and after which one.
    pages: Vec<(&'b BudgetId, Option<&'b LineKey>)>,
    agents: BTreeSet<&'b AgentId>,
    /// The keys of the reports themselves.
    reports: BTreeSet<ReportKey>,
    metered: BTreeSet<(&'b AgentId, &'b str)>,
}

impl<'b> Names<'b> {
    fn of(batch: &'b Batch) -> Self {
        let mut names = Self::default();
        for op in &batch.ops {
            names.add(op);
        }
        names
    }

    fn add(&mut self, op: &'b Op) {
        match op {
            Op::Admit(admit) => {
                self.holds.insert(admit.hold);
                self.agents.insert(&admit.attribution.agent);
                self.lines.extend(admit.lines.iter().map(|spec| &spec.key));
            }
            Op::Capture(capture) => {
                self.holds.insert(capture.hold);
            }
            Op::Void { hold } | Op::Expire { hold, .. } => {
                self.holds.insert(*hold);
            }
            Op::Report(report) => self.report(report),
            Op::ReportAll { reports, .. } => reports.iter().for_each(|report| self.report(report)),
            Op::Resolve(resolve) => match resolve.target {
                ResolveTarget::Posting(posting) => {
                    self.postings.insert(posting);
                }
                ResolveTarget::Hold(hold) => {
                    self.holds.insert(hold);
                }
            },
            Op::SetRule { budget, after, .. } => {
                self.pages.push((budget, after.as_ref()));
            }
            Op::Override { line, .. } | Op::Rearm { line } => {
                self.lines.insert(line);
            }
            Op::Foresee(foresee) => self.lines.extend(foresee.lines.iter().map(|spec| &spec.key)),
        }
    }
}

impl<'b> Names<'b> {
    fn report(&mut self, report: &'b Report) {
        self.lines.extend(report.lines.iter().map(|spec| &spec.key));
        self.reports.insert(ReportKey::of(report));
        if let Some(request) = &report.upstream_request {
            self.metered.insert((&report.attribution.agent, request));
        }
    }

    /// The postings of the other side, which this batch's reports may replace or be replaced by.
    fn other_sides(&mut self, snapshot: &Snapshot) {
        for (key, (_, posting)) in &snapshot.reports {
            if let Some(posting) = posting.filter(|_| self.reports.contains(&key.other_side())) {
                self.postings.insert(posting);
            }
        }
    }
}

pub(super) fn load(db: &Db<'_>, batch: &Batch) -> Result<Loaded, StoreError> {
    let mut names = Names::of(batch);
    let mut loaded = Loaded::default();
    reports(db, &mut loaded.snapshot, &names.reports)?;
    names.other_sides(&loaded.snapshot);
    let mut line_ids = BTreeSet::new();

    let holds = holds(db, &names.holds)?;
    line_ids.extend(holds.iter().flat_map(|raw| raw.lines.iter().copied()));
    let ended = holds.iter().filter(|raw| raw.hold.state != HoldState::Open);
    let ended: Vec<HoldId> = ended.map(|raw| raw.hold.id).collect();

    postings(db, &mut loaded.snapshot, &names.postings, &ended)?;
    let entries = entries(db, &loaded.snapshot)?;
    line_ids.extend(entries.iter().map(|raw| raw.line));

    let keys = lines(db, &mut loaded, &names, &line_ids, batch)?;
    for raw in holds {
        let hold = raw.resolve(&keys)?;
        loaded.holds.insert(hold.id);
        loaded.snapshot.holds.insert(hold.id, hold);
    }
    for raw in entries {
        let entry = raw.resolve(&keys)?;
        loaded.snapshot.entries.entry(entry.posting).or_default().push(entry);
    }

    metered(db, &mut loaded.snapshot, &names.metered)?;
    agents(db, &mut loaded.snapshot, &names.agents)?;
    Ok(loaded)
}

fn holds(db: &Db<'_>, ids: &BTreeSet<HoldId>) -> Result<Vec<RawHold>, StoreError> {
    let mut found = Vec::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let mut select = db.statement(
        "reading holds",
        concat!("SELECT ", hold_columns!(), " FROM hold h WHERE h.id = ?1"),
    )?;
    for id in ids {
        found.extend(select.uuid(id.0).row("a hold", RawHold::read)?);
    }
    Ok(found)
}

/// The postings that are named, those of the named holds that have ended, and what corrects them.
fn postings(
    db: &Db<'_>,
    snapshot: &mut Snapshot,
    named: &BTreeSet<PostingId>,
    ended: &[HoldId],
) -> Result<(), StoreError> {
    let mut found = Vec::new();
    if !named.is_empty() {
        let mut select = db.statement(
            "reading postings",
            concat!("SELECT ", posting_columns!(), " FROM posting p WHERE p.id = ?1"),
        )?;
        for id in named {
            found.extend(select.uuid(id.0).row("a posting", posting)?);
        }
    }
    if !ended.is_empty() {
        let mut select = db.statement(
            "reading postings of holds",
            concat!("SELECT ", posting_columns!(), " FROM posting p WHERE p.hold = ?1"),
        )?;
        for id in ended {
            found.extend(select.uuid(id.0).rows("a posting", posting)?);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut corrections = db.statement(
        "reading corrections",
        "SELECT id FROM posting WHERE corrects = ?1 ORDER BY seq",
    )?;
    for (_, posting) in found {
        // Of several the last.
        for correction in corrections
            .uuid(posting.id.0)
            .rows("a correction", |columns| columns.uuid())?
        {
            snapshot.corrected.insert(posting.id, PostingId(correction));
        }
        snapshot.postings.insert(posting.id, posting);
    }
    Ok(())
}

fn entries(db: &Db<'_>, snapshot: &Snapshot) -> Result<Vec<RawEntry>, StoreError> {
    let mut found = Vec::new();
    if snapshot.postings.is_empty() {
        return Ok(found);
    }
    let mut select = db.statement(
        "reading entries",
        "SELECT p.id, e.line, e.amount, e.unresolved, e.bucket \
         FROM posting p CROSS JOIN entry e ON e.posting = p.seq WHERE p.id = ?1",
    )?;
    for id in snapshot.postings.keys() {
        found.extend(select.uuid(id.0).rows("an entry", RawEntry::read)?);
    }
    Ok(found)
}

/// Lines by key, by number and by budget (a page of those whose window is not over, and one behind it);
/// returns their keys by number.
fn lines(
    db: &Db<'_>,
    loaded: &mut Loaded,
    names: &Names<'_>,
    ids: &BTreeSet<i64>,
    batch: &Batch,
) -> Result<HashMap<i64, LineKey>, StoreError> {
    let mut reader = LineReader::default();
    let mut found: HashMap<i64, Line> = HashMap::new();
    if !names.lines.is_empty() {
        let mut select = db.statement(
            "reading lines",
            concat!(
                "SELECT ",
                line_columns!(),
                " FROM line l WHERE l.budget = ?1 AND l.agent = ?2 AND l.value = ?3 AND l.window_start = ?4 \
                 AND l.window_end = ?5"
            ),
        )?;
        for key in &names.lines {
            let (budget, agent, value, start, end) = codec::line_key(key);
            select.text(budget).text(agent).text(value).int(start).int(end);
            found.extend(select.row("a line", |columns| reader.read(columns))?);
        }
    }
    if !ids.is_empty() {
        let mut select = db.statement(
            "reading lines of holds",
            concat!("SELECT ", line_columns!(), " FROM line l WHERE l.id = ?1"),
        )?;
        for id in ids {
            if !found.contains_key(id) {
                found.extend(select.int(*id).row("a line", |columns| reader.read(columns))?);
            }
        }
    }
    for (budget, after) in &names.pages {
        // The key's own index is in this order, so that a page costs what is in it, and what of the
        // budget is over is passed by without a look at its row.
        let first = LineKey::first_of(budget);
        let (budget, agent, value, start, end) = codec::line_key(after.unwrap_or(&first));
        let page = db
            .statement(
                "reading lines of a budget",
                concat!(
                    "SELECT ",
                    line_columns!(),
                    " FROM line l WHERE l.budget = ?1 AND l.window_end > ?2 \
                     AND (l.agent, l.value, l.window_start, l.window_end) > (?3, ?4, ?5, ?6) \
                     ORDER BY l.agent, l.value, l.window_start, l.window_end LIMIT ?7"
                ),
            )?
            .text(budget)
            .time(batch.now)
            .text(agent)
            .text(value)
            .int(start)
            // Where there is none before it, the first one itself is wanted too.
            .int(if after.is_some() { end } else { i64::MIN })
            .count(RULE_PAGE + 1)
            .rows("a line", |columns| reader.read(columns))?;
        found.extend(page);
    }
    let mut keys = HashMap::with_capacity(found.len());
    for (id, line) in found {
        keys.insert(id, line.key.clone());
        loaded.line_ids.insert(line.key.clone(), id);
        if !line.buckets.is_empty() {
            loaded.buckets.insert(id, line.buckets.clone());
        }
        loaded.snapshot.lines.insert(line.key.clone(), line);
    }
    Ok(keys)
}

fn reports(db: &Db<'_>, snapshot: &mut Snapshot, keys: &BTreeSet<ReportKey>) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut select = db.statement(
        "reading report ids",
        "SELECT digest, posting FROM report WHERE agent = ?1 AND evidence = ?2 AND report = ?3",
    )?;
    for own in keys {
        // The other side's word about the same expense, too.
        for key in [own.clone(), own.other_side()] {
            let seen = select
                .text(key.agent.as_str())
                .flag(key.evidence)
                .text(key.report.as_str())
                .row("a report id", |columns| {
                    Ok((columns.digest()?, columns.opt_uuid()?.map(PostingId)))
                })?;
            snapshot.reports.extend(seen.map(|seen| (key, seen)));
        }
    }
    Ok(())
}

fn metered(db: &Db<'_>, snapshot: &mut Snapshot, keys: &BTreeSet<(&AgentId, &str)>) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut select = db.statement(
        "reading metered requests",
        "SELECT posting FROM metered WHERE agent = ?1 AND request = ?2",
    )?;
    for (agent, request) in keys {
        let posting = select
            .text(agent.as_str())
            .text(request)
            .row("a metered request", |columns| columns.uuid())?;
        let key = ((*agent).clone(), (*request).to_owned());
        snapshot
            .metered
            .extend(posting.map(|posting| (key, PostingId(posting))));
    }
    Ok(())
}

fn agents(db: &Db<'_>, snapshot: &mut Snapshot, agents: &BTreeSet<&AgentId>) -> Result<(), StoreError> {
    if agents.is_empty() {
        return Ok(());
    }
    let mut select = db.statement("reading agents", "SELECT status FROM agent WHERE id = ?1")?;
    for agent in agents {
        let status = select.text(agent.as_str()).row("an agent", |columns| {
            let status = columns.int()?;
            codec::as_agent_status(status).ok_or_else(|| corrupt("an agent", format!("status {status} is unknown")))
        })?;
        snapshot
            .agents
            .extend(status.map(|status| (AgentId::clone(agent), status)));
    }
    Ok(())
}
