//! The stores against each other: the same work must have the same outcomes and leave the same rows.
//!
//! The memory store is maps that a person can check; whatever SQL gets wrong that no case thought of
//! shows here. The work is drawn from a seed, which a failure names.

use std::collections::BTreeMap;

use backstop::domain::agent::{AgentState, AgentStatus};
use backstop::domain::id::{BudgetId, HoldId, PostingId};
use backstop::domain::ledger::batch::{Batch, Foresee, LedgerRules, Op, Report, ResolveTarget};
use backstop::domain::ledger::bound::{Bound, TokenBound};
use backstop::domain::ledger::line::{LineSpec, Scope};
use backstop::domain::ledger::posting::{Attribution, Trust};
use backstop::domain::money::Usd;
use backstop::domain::window::WindowInstance;
use backstop::ports::{AuditView, Judgement, LineQuery, PostingQuery, SpendBy, SpendQuery, Store};
use jiff::{SignedDuration, Timestamp};

use crate::fixture::{Fixture, is_sound};
use crate::make::*;

const SEEDS: u64 = 12;
const BATCHES: i64 = 40;

#[tokio::test]
async fn the_same_work_leaves_the_same_rows() {
    for seed in 0..SEEDS {
        compare(seed).await;
    }
}

async fn compare(seed: u64) {
    let (sqlite, memory) = (Fixture::sqlite().await, Fixture::memory().await);
    assert_eq!(sqlite.epoch, memory.epoch);
    let mut work = Work::new(seed);
    for step in 0..BATCHES {
        work.now += SignedDuration::from_secs(i64::try_from(work.dice.roll(4000)).unwrap());
        let batch = Batch {
            epoch: sqlite.epoch,
            seq: step + 1,
            now: work.now,
            ops: work.ops(),
        };
        // Now and then the same batch twice, as after an unknown commit.
        for _ in 0..=work.dice.roll(5) / 4 {
            let one = sqlite.store.commit(&batch, &LedgerRules::default()).await.unwrap();
            let two = memory.store.commit(&batch, &LedgerRules::default()).await.unwrap();
            for ((one, two), op) in one.iter().zip(&two).zip(&batch.ops) {
                assert_eq!(one, two, "seed {seed}, step {step}: {op:?}");
            }
            assert_eq!(one.len(), two.len());
        }
        if work.dice.roll(4) == 0 {
            let judgement = work.judgement();
            let one = sqlite.store.judge(&judgement).await.unwrap();
            let two = memory.store.judge(&judgement).await.unwrap();
            assert_eq!(one, two);
        }
        if work.dice.roll(10) == 0 {
            let before = work.now - SignedDuration::from_hours(24);
            let one = sqlite.store.roll_up(before, work.now, 20).await.unwrap();
            let two = memory.store.roll_up(before, work.now, 20).await.unwrap();
            assert_eq!(one, two, "seed {seed}, step {step}: rolled up");
        }
        same(
            &*sqlite.store,
            &*memory.store,
            &work,
            &format!("seed {seed}, step {step}"),
        )
        .await;
    }
    bury_both(sqlite, memory, work.now, seed).await;
}

/// The process dies; what it held becomes the same rows in both.
async fn bury_both(sqlite: Fixture, memory: Fixture, now: Timestamp, seed: u64) {
    let (sqlite, _, _keep) = sqlite.crash().await;
    let (memory, _, _keep_too) = memory.crash().await;
    let one = sqlite.bury_dead_epochs(now, &LedgerRules::default()).await.unwrap();
    let two = memory.bury_dead_epochs(now, &LedgerRules::default()).await.unwrap();
    assert_eq!(one, two, "seed {seed}");
    // One holds the dead in the order of their expiry, the other may not: only the set is promised.
    let (mut one, mut two) = (
        sorted(is_sound(&*sqlite, now).await),
        sorted(is_sound(&*memory, now).await),
    );
    one.postings.sort_by_key(|posting| posting.id);
    two.postings.sort_by_key(|posting| posting.id);
    assert_same(&one, &two, &format!("seed {seed}, buried"));
}

fn sorted(mut view: AuditView) -> AuditView {
    view.lines.sort_by(|a, b| a.key.cmp(&b.key));
    view.holds.sort_by_key(|hold| hold.id);
    view.entries
        .sort_by(|a, b| a.posting.cmp(&b.posting).then_with(|| a.line.cmp(&b.line)));
    view.rolled.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
    view
}

fn assert_same(one: &AuditView, two: &AuditView, at: &str) {
    assert_eq!(one.lines, two.lines, "{at}");
    assert_eq!(one.holds, two.holds, "{at}");
    assert_eq!(one.postings, two.postings, "{at}");
    assert_eq!(one.entries, two.entries, "{at}");
    assert_eq!(one.rolled, two.rolled, "{at}");
}

async fn same(one: &dyn Store, two: &dyn Store, work: &Work, at: &str) {
    let views = (
        sorted(is_sound(one, work.now).await),
        sorted(is_sound(two, work.now).await),
    );
    assert_same(&views.0, &views.1, at);
    let triggers = (
        one.pending_triggers(1000).await.unwrap(),
        two.pending_triggers(1000).await.unwrap(),
    );
    assert_eq!(triggers.0, triggers.1, "{at}");
    let unresolved = PostingQuery {
        unresolved: true,
        limit: 1000,
        ..PostingQuery::default()
    };
    let postings = (
        one.postings(&unresolved).await.unwrap(),
        two.postings(&unresolved).await.unwrap(),
    );
    assert_eq!(postings.0, postings.1, "{at}");
    let open = LineQuery {
        agent: Some(agent("a")),
        open_at: Some(work.now),
        ..LineQuery::default()
    };
    let lines = (one.lines(&open).await.unwrap(), two.lines(&open).await.unwrap());
    assert_eq!(lines.0, lines.1, "{at}");
    for by in [SpendBy::Agent, SpendBy::Task, SpendBy::Model, SpendBy::Day] {
        let query = SpendQuery {
            agent: None,
            task: None,
            by,
            since: None,
            until: Some(work.now),
            limit: 1000,
        };
        let rows = (one.spend(&query).await.unwrap(), two.spend(&query).await.unwrap());
        assert_eq!(rows.0, rows.1, "{at}");
    }
    let stats = (one.stats().await.unwrap(), two.stats().await.unwrap());
    assert_eq!(
        (stats.0.postings, stats.0.open_holds, stats.0.lines),
        (stats.1.postings, stats.1.open_holds, stats.1.lines),
        "{at}"
    );
}

/// Draws the work.
struct Work {
    dice: Dice,
    now: Timestamp,
    next: u128,
    versions: BTreeMap<&'static str, AgentState>,
}

impl Work {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            now: now(),
            next: 0,
            versions: BTreeMap::new(),
        }
    }

    fn fresh(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    /// One of the ids that were used, the later ones rather.
    fn known(&mut self) -> u128 {
        let back = u128::from(self.dice.roll(40));
        self.next.saturating_sub(back).max(1)
    }

    fn amount(&mut self) -> Usd {
        let nanos = i64::try_from(self.dice.roll(9_000_000_000)).unwrap();
        Usd::from_nanos(if self.dice.roll(30) == 0 { -nanos } else { nanos })
    }

    fn ops(&mut self) -> Vec<Op> {
        (0..=self.dice.roll(24)).map(|_| self.op()).collect()
    }

    fn who(&mut self) -> Attribution {
        let name: &str = self.dice.pick::<&str>(&["a", "b", "c"]);
        if self.dice.roll(3) == 0 { full(name) } else { of(name) }
    }

    fn trust(&mut self) -> Trust {
        *self.dice.pick(&[
            Trust::Agent,
            Trust::Gateway,
            Trust::Gateway,
            Trust::Provider,
            Trust::Operator,
        ])
    }

    /// Lines of the present hour, of all time, of a rolling window, and of the fleet.
    fn lines(&mut self, name: &str) -> Vec<LineSpec> {
        let start = self.now.as_second().div_euclid(7200) * 7200;
        let window = WindowInstance {
            start: Timestamp::from_second(start).ok(),
            end: Timestamp::from_second(start + 7200).ok(),
        };
        let mut hourly = spec("hourly", name, usd(40));
        hourly.key.window = window;
        let mut fleet = fleet("fleet", usd(150));
        fleet.key.window = window;
        let mut task = total("task", name, usd(500));
        task.rule.scope = Scope::Task;
        task.key.value = (*self.dice.pick(&["1", "it's \"2\"", ""])).to_owned();
        let all = [hourly, fleet, task, rolling("rolling", name, usd(60), 3 * 3600, 600)];
        all.into_iter().filter(|_| self.dice.roll(4) > 0).collect()
    }

    fn op(&mut self) -> Op {
        match self.dice.roll(21) {
            0..6 => self.admit(),
            6..10 => self.capture(),
            10..14 => Op::Report(self.report()),
            14 => Op::ReportAll {
                reports: (0..=self.dice.roll(4)).map(|_| self.report()).collect(),
                check_only: self.dice.roll(4) == 0,
            },
            15 => Op::Void {
                hold: hold_id(self.known()),
            },
            16 => Op::Expire {
                hold: hold_id(self.known()),
                posting: self.posting(),
                detail: (self.dice.roll(2) == 0).then(|| "{\"unresolved\":\"given up\"}".to_owned()),
            },
            17 => self.resolve(),
            18 => Op::SetRule {
                budget: BudgetId::new(*self.dice.pick(&["hourly", "fleet", "task", "none"])).unwrap(),
                rule: rule(usd(i64::try_from(30 + self.dice.roll(200)).unwrap())),
                after: None,
            },
            19 => self.foresee(),
            _ => self.change_line(),
        }
    }

    fn posting(&mut self) -> PostingId {
        posting_id(self.fresh())
    }

    fn hold(&mut self) -> HoldId {
        hold_id(self.known())
    }

    fn admit(&mut self) -> Op {
        let who = self.who();
        let lines = self.lines(who.agent.as_str());
        let n = self.fresh();
        let bound = self.amount();
        let (trust, seconds, blocks) = (self.trust(), self.dice.roll(9000), self.dice.roll(6) == 0);
        match admit(n, who, bound, lines) {
            Op::Admit(mut admit) => {
                admit.trust = trust;
                admit.expires_at = self.now + SignedDuration::from_secs(i64::try_from(seconds).unwrap());
                admit.blocks = blocks;
                if self.dice.roll(3) == 0 {
                    admit.bound = Bound::Tokens(TokenBound {
                        base: bound.percent(10),
                        nanos_per_million: 7_654_321_000_000,
                        wanted: self.dice.roll(5_000),
                        least: self.dice.roll(100),
                    });
                }
                Op::Admit(admit)
            }
            op => op,
        }
    }

    fn capture(&mut self) -> Op {
        let (hold, posting, trust) = (self.hold(), self.posting(), self.trust());
        let cost = self.amount();
        match capture(self.known(), cost) {
            Op::Capture(mut capture) => {
                capture.hold = hold;
                capture.posting = posting;
                capture.trust = trust;
                capture.occurred_at = self.now;
                Op::Capture(capture)
            }
            op => op,
        }
    }

    fn report(&mut self) -> Report {
        let who = self.who();
        let lines = self.lines(who.agent.as_str());
        let amount = self.amount();
        let n = if self.dice.roll(4) == 0 {
            self.known()
        } else {
            self.fresh()
        };
        let mut report = report(n, who, amount, lines);
        // The id of the report may repeat, that of the posting never does.
        report.posting = self.posting();
        report.trust = self.trust();
        report.occurred_at = self.now - SignedDuration::from_secs(i64::try_from(self.dice.roll(20_000)).unwrap());
        if self.dice.roll(3) == 0 {
            report.upstream_request = Some(format!("req-{}", self.known()));
        }
        if self.dice.roll(9) == 0 {
            report.digest = [251; 32];
        }
        report
    }

    fn resolve(&mut self) -> Op {
        let (target, by) = (self.known(), self.fresh());
        let cost = self.amount();
        match resolve(target, by, cost) {
            Op::Resolve(mut resolve) => {
                resolve.trust = self.trust();
                if self.dice.roll(2) == 0 {
                    resolve.target = ResolveTarget::Posting(posting_id(self.known()));
                }
                Op::Resolve(resolve)
            }
            op => op,
        }
    }

    fn foresee(&mut self) -> Op {
        let who = self.who();
        Op::Foresee(Foresee {
            lines: self.lines(who.agent.as_str()),
            attribution: who,
            trust: self.trust(),
            ahead: self.amount(),
            burners: Vec::new(),
            unposted: Vec::new(),
        })
    }

    fn change_line(&mut self) -> Op {
        let line = self.lines("a").pop().unwrap_or_else(|| total("none", "a", usd(1))).key;
        if self.dice.roll(2) == 0 {
            return Op::Rearm { line };
        }
        let seconds = i64::try_from(self.dice.roll(6000)).unwrap();
        Op::Override {
            line,
            raise: usd(i64::try_from(self.dice.roll(30)).unwrap()),
            lifted_until: (self.dice.roll(2) == 0).then(|| self.now + SignedDuration::from_secs(seconds)),
        }
    }

    /// Freezes an agent or lets it go.
    fn judgement(&mut self) -> Judgement {
        let name: &'static str = self.dice.pick::<&str>(&["a", "b"]);
        let state = self
            .versions
            .entry(name)
            .or_insert_with(|| AgentState::initial(agent(name)));
        state.version += 1;
        state.status = match state.status {
            AgentStatus::Active => AgentStatus::Paused,
            _ => AgentStatus::Active,
        };
        Judgement {
            agents: vec![state.clone()],
            ..Judgement::default()
        }
    }
}
