//! Jobs that were part of batches that failed again and again.
//!
//! Whether it is one of them that the store cannot write, or the store that can write nothing, shows only
//! when they are tried apart from everything else. So they go in batches of their own, one job at first and
//! twice as many after each success, and never twice in a row while anything else waits: what cannot be
//! written harms no other job and shuts out no hold, and after an outage many of them go at once.
//!
//! What must never happen here: that an end of a hold is lost because the store was away for long. Time is
//! no proof against a job; only that the store took others meanwhile, and not this one for itself.

use std::collections::{HashSet, VecDeque};
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use super::committer::back_off;
use super::shared::Job;
use crate::domain::id::HoldId;
use crate::domain::ledger::batch::Op;
use crate::ports::{Retry, StoreError};

/// Failed tries in company after which a job is one.
const SUSPECT_AFTER: u32 = 3;
/// Failed tries for itself, with others written in between, after which a job that ends no hold is given up.
const GIVE_UP_AFTER: u32 = 30;

/// What failed tries say of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    failed: u32,
    /// Those it had for itself, each with another batch written since the one before.
    guilty: u32,
    /// How many batches had been written when it failed last.
    written: Option<u64>,
}

impl Tries {
    /// It was in a batch that failed. `alone`: and nothing else was. Says whether there is no hope for it.
    pub(super) fn failed(&mut self, error: &StoreError, alone: bool, written: u64, ends_hold: bool) -> bool {
        if is_blameless(error) {
            return false;
        }
        let never = error.retry() == Retry::Never;
        let others_went = self.written.is_some_and(|before| before != written);
        let least = if never { SUSPECT_AFTER } else { 0 };
        self.failed = self.failed.saturating_add(1).max(least);
        self.written = Some(written);
        if !(alone && others_went) {
            return false;
        }
        self.guilty = self.guilty.saturating_add(1);
        never || (!ends_hold && self.guilty >= GIVE_UP_AFTER)
    }

    pub(super) fn is_suspect(self) -> bool {
        self.failed >= SUSPECT_AFTER
    }
}

/// What says nothing against what was to be written.
fn is_blameless(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy { .. } | StoreError::Full { .. } | StoreError::Conflict { .. }
    )
}

#[derive(Default)]
pub(super) struct Suspects {
    jobs: VecDeque<Job>,
    /// Which ends of which holds are among them.
    ends: HashSet<(HoldId, Discriminant<Op>)>,
    weight: usize,
    /// How many went at once and were written.
    proven: usize,
    /// Failed batches of them in a row.
    failures: u32,
    not_before: Duration,
    /// The last batch was theirs.
    went_last: bool,
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Operations in them.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes a job in, operation by operation, so that one of them does not keep the others: whoever waits
    /// for all of them has to be answered before.
    pub(super) fn push(&mut self, job: Job) {
        debug_assert!(job.reply.is_none() || job.ops.len() == 1, "nobody waits for a part");
        if job.ops.len() == 1 {
            return self.keep(job);
        }
        for op in job.ops {
            self.keep(Job {
                ops: vec![op],
                kept: job.kept,
                since: job.since,
                tries: job.tries,
                before: Vec::new(),
                reply: None,
            });
        }
    }

    fn keep(&mut self, job: Job) {
        self.weight += job.weight();
        self.ends.extend(job.ops.iter().filter_map(end_of));
        self.jobs.push_back(job);
    }

    /// Whether this very end of a hold is among them: a second one would say nothing new.
    pub(super) fn has(&self, op: &Op) -> bool {
        end_of(op).is_some_and(|end| self.ends.contains(&end))
    }

    /// Everyone of them, for what is done to all.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.jobs.iter_mut()
    }

    /// When they may be tried next, if there are any.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(self.not_before)
    }

    pub(super) fn are_due(&self, now: Duration) -> bool {
        self.due().is_some_and(|due| now >= due)
    }

    /// Whether they go before anything else.
    pub(super) fn are_first(&self, now: Duration) -> bool {
        !self.went_last && self.are_due(now)
    }

    /// Something else goes, and then it is their turn.
    pub(super) fn let_pass(&mut self) {
        self.went_last = false;
    }

    /// The next batch of them, of this weight at most.
    pub(super) fn take(&mut self, most: usize) -> Vec<Job> {
        self.went_last = true;
        let most_jobs = self.proven.saturating_mul(2).max(1);
        let mut taken: Vec<Job> = Vec::new();
        let (mut weight, mut rules) = (0, false);
        while let Some(next) = self.jobs.front() {
            let fits = taken.len() < most_jobs && weight + next.weight() <= most && !(rules && next.writes_rules());
            if !(fits || taken.is_empty()) {
                break;
            }
            let Some(job) = self.jobs.pop_front() else { break };
            for end in job.ops.iter().filter_map(end_of) {
                self.ends.remove(&end);
            }
            rules |= job.writes_rules();
            weight += job.weight();
            taken.push(job);
        }
        self.weight = self.weight.saturating_sub(weight);
        taken
    }

    /// A batch of so many of them was written.
    pub(super) fn written(&mut self, jobs: usize) {
        self.proven = jobs;
        self.failures = 0;
    }

    /// A batch of them failed.
    pub(super) fn failed(&mut self, now: Duration) {
        self.proven = 0;
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(back_off(self.failures));
    }
}

fn end_of(op: &Op) -> Option<(HoldId, Discriminant<Op>)> {
    let hold = match op {
        Op::Capture(capture) => capture.hold,
        Op::Void { hold } | Op::Expire { hold, .. } => *hold,
        _ => return None,
    };
    Some((hold, discriminant(op)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn void(number: u128) -> Op {
        Op::Void {
            hold: HoldId(uuid::Uuid::from_u128(number)),
        }
    }

    fn job(numbers: std::ops::Range<u128>) -> Job {
        Job::kept(numbers.map(void).collect(), Duration::ZERO)
    }

    fn other() -> StoreError {
        StoreError::Other {
            context: "test",
            source: Box::new(std::io::Error::other("test")),
        }
    }

    fn never() -> StoreError {
        StoreError::NotFound { what: "a test" }
    }

    /// However long the store is away, and whatever it says of an end of a hold.
    #[test]
    fn time_is_no_proof_against_a_job() {
        for (error, ends_hold) in [(other(), true), (other(), false), (never(), true), (never(), false)] {
            let mut tries = Tries::default();
            assert!((0..1_000).all(|_| !tries.failed(&error, true, 7, ends_hold)));
            assert!(tries.is_suspect());
        }
        let mut tries = Tries::default();
        let busy = StoreError::Busy { context: "test" };
        assert!((0..1_000).all(|written| !tries.failed(&busy, true, written, false)));
        assert!(!tries.is_suspect());
    }

    #[test]
    fn a_job_that_fails_for_itself_while_others_are_written_is_given_up_unless_it_ends_a_hold() {
        let first_hopeless = |error: StoreError, alone, ends_hold| {
            let mut tries = Tries::default();
            (0..1_000).find(|&written| tries.failed(&error, alone, written, ends_hold))
        };
        assert_eq!(first_hopeless(other(), true, true), None);
        assert_eq!(first_hopeless(other(), false, false), None);
        assert_eq!(first_hopeless(never(), false, true), None);
        assert_eq!(first_hopeless(other(), true, false), Some(u64::from(GIVE_UP_AFTER)));
        assert_eq!(first_hopeless(never(), true, true), Some(1));
    }

    #[test]
    fn they_go_one_by_one_until_they_are_written_and_never_twice_in_a_row() {
        let now = Duration::from_secs(1);
        let mut suspects = Suspects::default();
        suspects.push(job(0..20));
        assert!(suspects.has(&void(3)) && !suspects.has(&void(20)) && suspects.weight() == 20);
        let mut sizes = Vec::new();
        while suspects.are_first(now) {
            let taken = suspects.take(9);
            assert!(!suspects.are_first(now) && suspects.are_due(now) != suspects.is_empty());
            suspects.let_pass();
            suspects.written(taken.len());
            sizes.push(taken.len());
        }
        assert_eq!(sizes, [1, 2, 4, 8, 5]);
        assert!(!suspects.has(&void(3)) && suspects.weight() == 0);

        suspects.push(job(0..4));
        suspects.failed(now);
        assert_eq!(suspects.due(), Some(now + back_off(1)));
        assert!(!suspects.are_due(now));
        assert_eq!(suspects.take(9).len(), 1);
    }
}
