//! What a batch names, read inside its write transaction: one select a table.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::SqliteConnection;

use super::codec::{self, Columns, corrupt};
use super::error::store;
use super::ledger_rows::{LineReader, RawEntry, RawHold, hold_columns, line_columns, posting, posting_columns};
use super::rows::Rows;
use crate::domain::id::{AgentId, BudgetId, HoldId, PostingId};
use crate::domain::ledger::batch::{Batch, Op, RULE_PAGE, Report, ReportKey, ResolveTarget, Snapshot};
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::line::{Bucket, LineKey};
use crate::ports::StoreError;

/// A snapshot, and what the database calls the lines in it.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    pub(super) line_ids: HashMap<LineKey, i64>,
    /// The buckets as they are stored, to tell which ones were dropped.
    pub(super) buckets: HashMap<i64, Vec<Bucket>>,
}

/// What the operations of a batch name.
#[derive(Default)]
struct Names<'b> {
    holds: HashSet<HoldId>,
    postings: HashSet<PostingId>,
    lines: BTreeSet<&'b LineKey>,
    /// Budgets whose next live lines are wanted, and after which one.
    pages: Vec<(&'b BudgetId, Option<&'b LineKey>)>,
    agents: BTreeSet<&'b AgentId>,
    reports: Rows,
    /// The keys of the reports themselves.
    sides: HashSet<ReportKey>,
    metered: Rows,
}

impl Default for Rows {
    fn default() -> Self {
        Self::new()
    }
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
        let agent = report.attribution.agent.as_str();
        self.lines.extend(report.lines.iter().map(|spec| &spec.key));
        let own = ReportKey::of(report);
        // The other side's word about the same expense, too.
        for evidence in [own.evidence, !own.evidence] {
            let row = self.reports.row().text(agent).int(i64::from(evidence));
            row.text(report.report.as_str());
        }
        if let Some(request) = &report.upstream_request {
            self.metered.row().text(agent).text(request);
        }
        self.sides.insert(own);
    }

    /// The postings of the other side, which this batch's reports may replace or be replaced by.
    fn other_sides(&mut self, snapshot: &Snapshot) {
        for (key, (_, posting)) in &snapshot.reports {
            if let Some(posting) = posting.filter(|_| self.sides.contains(&key.other_side())) {
                self.postings.insert(posting);
            }
        }
    }
}

fn list(ids: impl Iterator<Item = uuid::Uuid>) -> String {
    let mut rows = Rows::new();
    for id in ids {
        rows.row().uuid(id);
    }
    rows.finish()
}

pub(super) async fn load(db: &mut SqliteConnection, batch: &Batch) -> Result<Loaded, StoreError> {
    let mut names = Names::of(batch);
    let mut loaded = Loaded::default();
    reports(db, &mut loaded.snapshot, std::mem::take(&mut names.reports)).await?;
    names.other_sides(&loaded.snapshot);
    let mut line_ids = BTreeSet::new();

    let holds = holds(db, &names).await?;
    line_ids.extend(holds.iter().flat_map(|raw| raw.lines.iter().copied()));
    let ended = holds
        .iter()
        .filter(|raw| raw.hold.state != HoldState::Open)
        .map(|raw| raw.hold.id.0);
    let ended = list(ended);

    postings(db, &mut loaded.snapshot, &names, &ended).await?;
    let entries = entries(db, &mut loaded.snapshot).await?;
    line_ids.extend(entries.iter().map(|raw| raw.line));

    let keys = lines(db, &mut loaded, &names, &line_ids, batch).await?;
    for raw in holds {
        let hold = raw.resolve(&keys)?;
        loaded.snapshot.holds.insert(hold.id, hold);
    }
    for raw in entries {
        let entry = raw.resolve(&keys)?;
        loaded.snapshot.entries.entry(entry.posting).or_default().push(entry);
    }

    metered(db, &mut loaded.snapshot, names.metered).await?;
    agents(db, &mut loaded.snapshot, &names.agents).await?;
    Ok(loaded)
}

async fn holds(db: &mut SqliteConnection, names: &Names<'_>) -> Result<Vec<RawHold>, StoreError> {
    if names.holds.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(concat!(
        "SELECT ",
        hold_columns!(),
        " FROM jsonb_each(?1) k CROSS JOIN hold h ON h.id = unhex(k.value ->> 0)"
    ))
    .bind(list(names.holds.iter().map(|id| id.0)))
    .fetch_all(db)
    .await
    .map_err(store("reading holds"))?;
    rows.iter().map(RawHold::read).collect()
}

/// The postings that are named, those of the named holds that have ended, and what corrects them.
async fn postings(
    db: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    names: &Names<'_>,
    ended: &str,
) -> Result<(), StoreError> {
    if !names.postings.is_empty() {
        let rows = sqlx::query(concat!(
            "SELECT ",
            posting_columns!(),
            " FROM jsonb_each(?1) k CROSS JOIN posting p ON p.id = unhex(k.value ->> 0)"
        ))
        .bind(list(names.postings.iter().map(|id| id.0)))
        .fetch_all(&mut *db)
        .await
        .map_err(store("reading postings"))?;
        for row in &rows {
            let (_, posting) = posting(row)?;
            snapshot.postings.insert(posting.id, posting);
        }
    }
    if ended != "[]" {
        let rows = sqlx::query(concat!(
            "SELECT ",
            posting_columns!(),
            " FROM jsonb_each(?1) k CROSS JOIN posting p ON p.hold = unhex(k.value ->> 0)"
        ))
        .bind(ended)
        .fetch_all(&mut *db)
        .await
        .map_err(store("reading postings of holds"))?;
        for row in &rows {
            let (_, posting) = posting(row)?;
            snapshot.postings.insert(posting.id, posting);
        }
    }
    if snapshot.postings.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT p.corrects, p.id FROM jsonb_each(?1) k CROSS JOIN posting p ON p.corrects = unhex(k.value ->> 0) \
         ORDER BY p.seq",
    )
    .bind(list(snapshot.postings.keys().map(|id| id.0)))
    .fetch_all(db)
    .await
    .map_err(store("reading corrections"))?;
    for row in &rows {
        let mut columns = Columns::of(row, "a correction");
        let corrected = PostingId(columns.uuid()?);
        snapshot.corrected.insert(corrected, PostingId(columns.uuid()?));
    }
    Ok(())
}

async fn entries(db: &mut SqliteConnection, snapshot: &mut Snapshot) -> Result<Vec<RawEntry>, StoreError> {
    if snapshot.postings.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT p.id, e.line, e.amount, e.unresolved, e.bucket FROM jsonb_each(?1) k \
         CROSS JOIN posting p ON p.id = unhex(k.value ->> 0) CROSS JOIN entry e ON e.posting = p.seq",
    )
    .bind(list(snapshot.postings.keys().map(|id| id.0)))
    .fetch_all(db)
    .await
    .map_err(store("reading entries"))?;
    rows.iter().map(RawEntry::read).collect()
}

/// Lines by key, by number and by budget (a page of those whose window is not over, and one behind it);
/// returns their keys by number.
async fn lines(
    db: &mut SqliteConnection,
    loaded: &mut Loaded,
    names: &Names<'_>,
    ids: &BTreeSet<i64>,
    batch: &Batch,
) -> Result<HashMap<i64, LineKey>, StoreError> {
    let mut found = Vec::new();
    if !names.lines.is_empty() {
        let mut keys = Rows::new();
        for key in &names.lines {
            let (budget, agent, value, start, end) = codec::line_key(key);
            keys.row().text(budget).text(agent).text(value).int(start).int(end);
        }
        let rows = sqlx::query(concat!(
            "SELECT ",
            line_columns!(),
            " FROM jsonb_each(?1) k CROSS JOIN line l ON l.budget = k.value ->> 0 AND l.agent = k.value ->> 1 \
             AND l.value = k.value ->> 2 AND l.window_start = k.value ->> 3 AND l.window_end = k.value ->> 4"
        ))
        .bind(keys.finish())
        .fetch_all(&mut *db)
        .await
        .map_err(store("reading lines"))?;
        found.extend(rows);
    }
    if !ids.is_empty() {
        let rows = sqlx::query(concat!(
            "SELECT ",
            line_columns!(),
            " FROM jsonb_each(?1) k CROSS JOIN line l ON l.id = k.value"
        ))
        .bind(codec::json(ids)?)
        .fetch_all(&mut *db)
        .await
        .map_err(store("reading lines of holds"))?;
        found.extend(rows);
    }
    for (budget, after) in &names.pages {
        // The key's own index is in this order, so that a page costs what is in it, and what of the
        // budget is over is passed by without a look at its row.
        let first = LineKey::first_of(budget);
        let (budget, agent, value, start, end) = codec::line_key(after.unwrap_or(&first));
        let rows = sqlx::query(concat!(
            "SELECT ",
            line_columns!(),
            " FROM line l WHERE l.budget = ?1 AND l.window_end > ?2 \
             AND (l.agent, l.value, l.window_start, l.window_end) > (?3, ?4, ?5, ?6) \
             ORDER BY l.agent, l.value, l.window_start, l.window_end LIMIT ?7"
        ))
        .bind(budget)
        .bind(codec::micros(batch.now))
        .bind(agent)
        .bind(value)
        .bind(start)
        // Where there is none before it, the first one itself is wanted too.
        .bind(if after.is_some() { end } else { i64::MIN })
        .bind(i64::try_from(RULE_PAGE + 1).unwrap_or(i64::MAX))
        .fetch_all(&mut *db)
        .await
        .map_err(store("reading lines of a budget"))?;
        found.extend(rows);
    }
    let mut reader = LineReader::default();
    let mut keys = HashMap::with_capacity(found.len());
    for row in &found {
        let (id, line) = reader.read(row)?;
        keys.insert(id, line.key.clone());
        loaded.line_ids.insert(line.key.clone(), id);
        if !line.buckets.is_empty() {
            loaded.buckets.insert(id, line.buckets.clone());
        }
        loaded.snapshot.lines.insert(line.key.clone(), line);
    }
    Ok(keys)
}

async fn reports(db: &mut SqliteConnection, snapshot: &mut Snapshot, keys: Rows) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT r.agent, r.evidence, r.report, r.digest, r.posting FROM jsonb_each(?1) k \
         CROSS JOIN report r ON r.agent = k.value ->> 0 AND r.evidence = k.value ->> 1 \
         AND r.report = k.value ->> 2",
    )
    .bind(keys.finish())
    .fetch_all(db)
    .await
    .map_err(store("reading report ids"))?;
    for row in &rows {
        let mut columns = Columns::of(row, "a report id");
        let key = ReportKey {
            agent: columns.name()?,
            evidence: columns.int()? != 0,
            report: columns.name()?,
        };
        let digest = columns.digest()?;
        snapshot
            .reports
            .insert(key, (digest, columns.opt_uuid()?.map(PostingId)));
    }
    Ok(())
}

async fn metered(db: &mut SqliteConnection, snapshot: &mut Snapshot, keys: Rows) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT m.agent, m.request, m.posting FROM jsonb_each(?1) k \
         CROSS JOIN metered m ON m.agent = k.value ->> 0 AND m.request = k.value ->> 1",
    )
    .bind(keys.finish())
    .fetch_all(db)
    .await
    .map_err(store("reading metered requests"))?;
    for row in &rows {
        let mut columns = Columns::of(row, "a metered request");
        let key = (columns.name()?, columns.text()?.to_owned());
        snapshot.metered.insert(key, PostingId(columns.uuid()?));
    }
    Ok(())
}

async fn agents(
    db: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    agents: &BTreeSet<&AgentId>,
) -> Result<(), StoreError> {
    if agents.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query("SELECT a.id, a.status FROM jsonb_each(?1) k CROSS JOIN agent a ON a.id = k.value")
        .bind(codec::json(agents)?)
        .fetch_all(db)
        .await
        .map_err(store("reading agents"))?;
    for row in &rows {
        let mut columns = Columns::of(row, "an agent");
        let id: AgentId = columns.name()?;
        let status = columns.int()?;
        let status =
            codec::as_agent_status(status).ok_or_else(|| corrupt("an agent", format!("status {status} is unknown")))?;
        snapshot.agents.insert(id, status);
    }
    Ok(())
}
