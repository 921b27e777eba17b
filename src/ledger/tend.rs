//! What the committer does between two commits: takes arrivals in, answers whoever waited long enough,
//! and keeps the wait list's lines and the mirror true.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::committer::{Committer, as_f64};
use super::places::share;
use super::requests::{AdmitRejection, Unavailable};
use super::shared::{Job, Waiting, lock};
use crate::domain::clock::Reading;
use crate::domain::id::{AgentId, BudgetId};
use crate::domain::ledger::batch::Refusal;
use crate::domain::ledger::bound::Bound;
use crate::domain::ledger::waitlist::LineIx;
use crate::ports::LineQuery;

/// Queries of one refresh at most; more budgets and agents than that are read all at once.
const MAX_QUERIES: usize = 32;
/// Rows of one query at most. A waiter whose line is not among them keeps its hint and is tried anyway.
const MAX_ROWS: u32 = 10_000;
/// How long a refresh may hold up the next commit.
const REFRESH_LIMIT: Duration = Duration::from_secs(1);

impl Committer {
    /// A hold arrives: at the end of the wait list, unless it is answered at once.
    pub(super) fn arrive(&mut self, mut waiting: Box<Waiting>) {
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        let now = shared.clock.monotonic();
        let bound: Bound = waiting.request.bound;
        let lines: Vec<LineIx> = waiting.specs.iter().map(|spec| self.mirror.number(&spec.key)).collect();
        for (&line, spec) in lines.iter().zip(&waiting.specs) {
            if let Some(refused) = self.mirror.refusal(line, bound.least(), now, settings.refusal_fresh) {
                metrics::counter!("backstop_ledger_refused_total", "kind" => "budget").increment(1);
                let refusal = Refusal::Budget {
                    line: spec.key.clone(),
                    limit: refused.limit,
                    posted: refused.posted,
                    held: refused.held,
                };
                return waiting.reject(AdmitRejection::Refused(refusal));
            }
        }
        let held = AdmitRejection::Held {
            retry_after: settings.retry_after(),
        };
        let agent = &waiting.request.attribution.agent;
        let (open, own) = {
            let open = lock(&shared.open);
            (open.len(), open.of(agent))
        };
        let is_full = open + self.waits.len() >= settings.max_open_holds || own >= share(settings.max_open_holds);
        waiting.place = shared.places.take(agent, share(settings.max_waiters));
        if is_full || waiting.place.is_none() {
            return waiting.reject(held);
        }
        let patience = waiting
            .request
            .wait
            .unwrap_or(settings.hold_wait)
            .min(settings.hold_wait);
        let deadline = waiting.since.saturating_add(patience);
        if let Err(waiting) = self.waits.push(bound, lines, deadline, waiting) {
            waiting.reject(held);
        }
    }

    /// Answers whoever waited long enough, forgets whoever went away, and reckons again whose lines
    /// have changed.
    pub(super) fn tend(&mut self) -> Reading {
        let shared = Arc::clone(&self.shared);
        let now = shared.clock.monotonic();
        let reading = shared.read_clock();
        drop(self.waits.take_where(|waiting| waiting.is_gone()));
        if let Some(why) = self.stops(reading) {
            self.reject_where(why.into(), |_| true);
        }
        if shared.is_down() {
            let late = |waiting: &Waiting| now.saturating_sub(waiting.since) >= shared.settings.commit_wait;
            self.reject_where(shared.store_down().into(), late);
        }
        for waiting in self.waits.overdue(now) {
            metrics::counter!("backstop_ledger_held_total").increment(1);
            waiting.reject(AdmitRejection::Held {
                retry_after: shared.settings.retry_after(),
            });
        }
        self.tend_queue(now);
        self.reckon(reading.ledger_now);
        self.trim();
        self.publish();
        reading
    }

    /// Why no hold at all is admitted now.
    fn stops(&self, reading: Reading) -> Option<Unavailable> {
        if self.draining_since.is_some() {
            return Some(self.shared.stopping());
        }
        (!reading.verdict.admits()).then(|| self.shared.clock_jumped())
    }

    fn reject_where(&mut self, why: AdmitRejection, matches: impl Fn(&Waiting) -> bool) {
        for waiting in self.waits.take_where(|waiting| matches(waiting)) {
            waiting.reject(why.clone());
        }
    }

    /// Tells those whose job waits too long; what must not be lost stays.
    fn tend_queue(&mut self, now: Duration) {
        let shared = Arc::clone(&self.shared);
        let late = |job: &Job| now.saturating_sub(job.since) >= shared.settings.commit_wait;
        for job in self.suspects.iter_mut().filter(|job| late(job)) {
            job.answer(Err(shared.store_down()));
        }
        if !self.queue.iter().any(late) {
            return;
        }
        self.queue.retain_mut(|job| {
            if late(job) {
                job.answer(Err(shared.store_down()));
            }
            job.kept || !late(job)
        });
        self.queued = self.queue.iter().map(Job::weight).sum();
    }

    /// Gives waiters their lines anew where a window rolled over or the budgets were loaded again. One
    /// whose lines cannot be reckoned keeps the old ones: never is it admitted on fewer lines.
    fn reckon(&mut self, now: Timestamp) {
        let shared = Arc::clone(&self.shared);
        let generation = shared.budgets.generation();
        let mirror = &mut self.mirror;
        self.generation = generation;
        self.waits.revise(|waiting| {
            let is_over = waiting.lines_until.is_some_and(|until| now >= until);
            if !is_over && waiting.generation == generation {
                return None;
            }
            let request = &waiting.request;
            let (specs, generation) = shared.budgets.specs(&request.attribution, request.trust, now).ok()?;
            waiting.set_lines(specs, generation);
            Some(waiting.specs.iter().map(|spec| mirror.number(&spec.key)).collect())
        });
    }

    pub(super) fn is_refresh_due(&self) -> bool {
        let since = self.shared.clock.monotonic().saturating_sub(self.refreshed);
        !self.waits.is_empty() && !self.shared.is_down() && since >= self.shared.settings.refresh_every
    }

    /// Reads the lines that somebody waits for. It runs between two commits, so that what it reads has
    /// all of our own in it; if it fails, the hints stay as they are.
    pub(super) async fn refresh(&mut self, now: Timestamp) {
        let shared = Arc::clone(&self.shared);
        self.refreshed = shared.clock.monotonic();
        let wanted = self.waits.lines_wanted();
        let mut places: BTreeSet<(BudgetId, Option<AgentId>)> = wanted
            .iter()
            .filter_map(|&line| self.mirror.key(line))
            .map(|key| (key.budget.clone(), key.agent.clone()))
            .collect();
        let mut queries = Vec::with_capacity(places.len().min(MAX_QUERIES));
        let open_at = Some(now);
        let limit = Some(MAX_ROWS);
        if places.len() > MAX_QUERIES {
            places.clear();
            queries.push(LineQuery {
                open_at,
                limit,
                ..LineQuery::default()
            });
        }
        for (budget, agent) in places {
            queries.push(LineQuery {
                agent,
                budget: Some(budget),
                open_at,
                limit,
                ..LineQuery::default()
            });
        }
        for query in queries {
            tokio::select! {
                biased;
                lines = shared.store.lines(&query) => {
                    for line in lines.unwrap_or_default() {
                        self.mirror.refresh(&line, now);
                    }
                }
                () = shared.clock.sleep(REFRESH_LIMIT) => return,
            }
        }
    }

    fn trim(&mut self) {
        let most = self.shared.settings.max_lines;
        if self.mirror.len() <= most {
            return;
        }
        let mut in_use = self.waits.lines_wanted();
        in_use.extend(lock(&self.shared.open).lines());
        self.mirror.trim(most / 2, &in_use);
    }

    fn publish(&self) {
        let gauges = &self.shared.gauges;
        gauges.waiters.store(self.waits.len(), Ordering::Relaxed);
        gauges
            .queued
            .store(self.queued + self.suspects.weight(), Ordering::Relaxed);
        metrics::gauge!("backstop_ledger_waiters").set(as_f64(self.waits.len()));
        metrics::gauge!("backstop_ledger_open_holds").set(as_f64(lock(&self.shared.open).len()));
    }
}
