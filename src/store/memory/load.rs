//! The rows that a batch names, and no others: rules that reach for more would find nothing here, as
//! they would in every other store.

use std::ops::Bound;

use jiff::Timestamp;

use super::disk::Disk;
use crate::domain::id::{AgentId, BudgetId, HoldId, PostingId};
use crate::domain::ledger::batch::{Batch, Op, RULE_PAGE, Report, ReportKey, ResolveTarget, Snapshot};
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::line::{LineKey, LineSpec};

pub(super) fn load(disk: &Disk, batch: &Batch) -> Snapshot {
    let mut loader = Loader {
        disk,
        now: batch.now,
        snapshot: Snapshot::default(),
    };
    for op in &batch.ops {
        loader.add(op);
    }
    loader.snapshot
}

struct Loader<'a> {
    disk: &'a Disk,
    now: Timestamp,
    snapshot: Snapshot,
}

impl Loader<'_> {
    fn add(&mut self, op: &Op) {
        match op {
            Op::Admit(admit) => {
                self.hold(admit.hold);
                self.agent(&admit.attribution.agent);
                self.specs(&admit.lines);
            }
            Op::Capture(capture) => self.hold(capture.hold),
            Op::Void { hold } | Op::Expire { hold, .. } => self.hold(*hold),
            Op::Report(report) => self.report(report),
            Op::ReportAll { reports, .. } => reports.iter().for_each(|report| self.report(report)),
            Op::Resolve(resolve) => match resolve.target {
                ResolveTarget::Hold(hold) => self.hold(hold),
                ResolveTarget::Posting(posting) => self.posting(posting),
            },
            Op::SetRule { budget, after, .. } => self.live_lines(budget, after.as_ref()),
            Op::Override { line, .. } | Op::Rearm { line } => self.line(line),
            Op::Foresee(foresee) => self.specs(&foresee.lines),
        }
    }

    /// A page of a budget's live lines, and the one behind it.
    fn live_lines(&mut self, budget: &BudgetId, after: Option<&LineKey>) {
        let first = LineKey::first_of(budget);
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let lines = self.disk.lines.range((from, Bound::Unbounded));
        let lines = lines.take_while(|(key, _)| key.budget == *budget);
        let live = lines.filter(|(key, _)| !key.window.is_closed(self.now));
        let page = live.take(RULE_PAGE + 1);
        self.snapshot
            .lines
            .extend(page.map(|(key, line)| (key.clone(), line.clone())));
    }

    fn line(&mut self, key: &LineKey) {
        if let Some(line) = self.disk.lines.get(key)
            && !self.snapshot.lines.contains_key(key)
        {
            self.snapshot.lines.insert(key.clone(), line.clone());
        }
    }

    fn specs(&mut self, specs: &[LineSpec]) {
        for spec in specs {
            self.line(&spec.key);
        }
    }

    fn agent(&mut self, agent: &AgentId) {
        if let Some(state) = self.disk.control.agents.get(agent) {
            self.snapshot.agents.insert(agent.clone(), state.status);
        }
    }

    fn hold(&mut self, id: HoldId) {
        let Some(hold) = self.disk.holds.get(&id) else { return };
        for line in &hold.lines {
            self.line(line);
        }
        if hold.state != HoldState::Open {
            for posting in self.disk.by_hold.get(&id).into_iter().flatten() {
                self.posting(*posting);
            }
        }
        self.snapshot.holds.insert(id, hold.clone());
    }

    fn posting(&mut self, id: PostingId) {
        let Some(posting) = self.disk.posting(id) else { return };
        if let Some(entries) = self.disk.entries.get(&id) {
            for entry in entries {
                self.line(&entry.line);
            }
            self.snapshot.entries.insert(id, entries.clone());
        }
        if let Some(correction) = self.disk.corrected.get(&id) {
            self.snapshot.corrected.insert(id, *correction);
        }
        self.snapshot.postings.insert(id, posting.clone());
    }

    fn report(&mut self, report: &Report) {
        self.specs(&report.lines);
        let agent = &report.attribution.agent;
        let key = ReportKey::of(report);
        let other = key.other_side();
        if let Some(seen) = self.disk.reports.get(&key) {
            self.snapshot.reports.insert(key, *seen);
        }
        if let Some(seen) = self.disk.reports.get(&other) {
            if let Some(posting) = seen.1 {
                self.posting(posting);
            }
            self.snapshot.reports.insert(other, *seen);
        }
        if let Some(request) = &report.upstream_request {
            let key = (agent.clone(), request.clone());
            if let Some(posting) = self.disk.metered.get(&key) {
                self.snapshot.metered.insert(key, *posting);
            }
        }
    }
}
