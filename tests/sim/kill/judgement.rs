//! From postings to responses: what breaches does what to whom, once.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::state::Mode;
use backstop::domain::id::{AgentId, BudgetId, EpochId, HoldId, PostingId, ReportId, TaskId};
use backstop::domain::judgement::reset::{LineChanges, ResetOptions, ResetRejection};
use backstop::domain::ledger::batch::{Admit, Batch, LedgerRules, Op, Outcome, Refusal, Report};
use backstop::domain::ledger::line::{LineKey, LineRule, LineSpec, Response, Scope};
use backstop::domain::ledger::posting::{Attribution, Basis, Trust};
use backstop::domain::money::Usd;
use backstop::domain::review::Question;
use backstop::domain::window::WindowInstance;
use backstop::ports::{Clock as _, NoticeKind, Store};
use backstop::watch::lifecycle::ResetError;
use backstop::watch::{Acted, Watch};
use futures_util::future::{Either, select};
use uuid::Uuid;

use super::crash::{CrashPoint, CrashStore, When};
use super::fleet::small;
use super::scene::{Scene, agent, is_contained, targets};

/// A ledger of one process: numbers its batches and ids.
pub(super) struct Book<'a> {
    scene: &'a Scene,
    epoch: EpochId,
    number: AtomicU64,
}

impl<'a> Book<'a> {
    pub(super) fn open(scene: &'a Scene) -> Self {
        let epoch = scene.run(scene.store.open_epoch(scene.clock.now(), "host")).unwrap();
        Self {
            scene,
            epoch,
            number: AtomicU64::new(0),
        }
    }

    fn next(&self) -> u128 {
        u128::from(self.number.fetch_add(1, Ordering::SeqCst)) + 1
    }

    pub(super) async fn commit(&self, ops: Vec<Op>) -> Vec<Outcome> {
        let batch = Batch {
            epoch: self.epoch,
            seq: i64::try_from(self.next()).unwrap(),
            now: self.scene.clock.now(),
            ops,
        };
        self.scene.store.commit(&batch, &LedgerRules::default()).await.unwrap()
    }

    pub(super) fn report(&self, who: &str, dollars: i64, trust: Trust, lines: &[LineSpec]) -> Op {
        let number = self.next();
        Op::Report(Report {
            posting: PostingId(Uuid::from_u128(number)),
            report: ReportId::new(format!("report-{number}")).unwrap(),
            digest: [0; 32],
            attribution: attribution(who),
            amount: Usd::from_dollars(dollars),
            basis: Basis::Reported,
            trust,
            occurred_at: self.scene.clock.now(),
            lines: lines.to_vec(),
            upstream_request: None,
            detail: None,
        })
    }

    pub(super) fn spend(&self, who: &str, dollars: i64, trust: Trust, lines: &[LineSpec]) {
        let outcome = self
            .scene
            .run(self.commit(vec![self.report(who, dollars, trust, lines)]));
        assert!(matches!(outcome[..], [Outcome::Posted { .. }]), "{outcome:?}");
    }

    fn admit(&self, store: &dyn Store, epoch: EpochId, dollars: i64, lines: &[LineSpec]) -> Outcome {
        let number = self.next();
        let admit = Op::Admit(Admit {
            hold: HoldId(Uuid::from_u128(number)),
            attribution: attribution("agent"),
            trust: Trust::Gateway,
            bound: Usd::from_dollars(dollars).into(),
            lines: lines.to_vec(),
            expires_at: self
                .scene
                .clock
                .now()
                .checked_add(jiff::SignedDuration::from_mins(15))
                .unwrap(),
            blocks: false,
            tentative: false,
        });
        let batch = Batch {
            epoch,
            seq: i64::try_from(number).unwrap(),
            now: self.scene.clock.now(),
            ops: vec![admit],
        };
        self.scene
            .run(store.commit(&batch, &LedgerRules::default()))
            .unwrap()
            .remove(0)
    }

    /// The ledger's part of a reset.
    pub(super) async fn apply(&self, changes: LineChanges) -> Result<(), String> {
        let overrides = changes.overrides.into_iter().map(|change| Op::Override {
            line: change.line,
            raise: change.raise,
            lifted_until: change.lifted_until,
        });
        let rearms = changes.rearm.into_iter().map(|line| Op::Rearm { line });
        let outcomes = self.commit(overrides.chain(rearms).collect()).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Applied { .. })),
            "{outcomes:?}"
        );
        Ok(())
    }
}

fn named(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn attribution(who: &str) -> Attribution {
    Attribution {
        agent: named(who),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: BTreeMap::new(),
    }
}

pub(super) fn line(who: Option<&str>, limit: i64, response: Response) -> LineSpec {
    LineSpec {
        key: LineKey {
            budget: BudgetId::new(if who.is_some() { "daily" } else { "fleet" }).unwrap(),
            agent: who.map(named),
            value: String::new(),
            window: WindowInstance::UNBOUNDED,
        },
        rule: LineRule {
            scope: if who.is_some() { Scope::Agent } else { Scope::Fleet },
            limit: Usd::from_dollars(limit),
            alert_at: vec![50, 80],
            response,
            rolling: None,
        },
    }
}

pub(super) fn scene() -> Scene {
    Scene::new(small(), targets(&["eu-west-1", "us-east-1"]))
}

pub(super) fn judge(scene: &Scene, watch: &Watch) -> usize {
    scene.run(watch.judge_pending()).unwrap()
}

/// A judge as a daemon has it that may crash, or that runs beside another.
pub(super) fn watch_over(scene: &Scene, crash: &Arc<CrashPoint>) -> Watch {
    Watch::new(
        Arc::new(CrashStore(scene.store.clone(), crash.clone())),
        scene.clock.clone(),
        scene.entropy.clone(),
        scene.heard.clone(),
        scene.watch_settings.clone(),
        Arc::new(|| {}),
    )
}

fn status(scene: &Scene, who: &str) -> AgentStatus {
    scene.run(scene.store.agent(&named(who))).unwrap().status
}

pub(super) fn count(scene: &Scene, action: &str) -> usize {
    scene.actions().iter().filter(|found| *found == action).count()
}

pub(super) fn options(raise: Option<i64>) -> ResetOptions {
    ResetOptions {
        raise: raise.map(Usd::from_dollars),
        by: "operator:test".to_owned(),
        ..ResetOptions::default()
    }
}

#[test]
fn the_whole_loop_from_a_report_to_a_reset() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    let (book, watch) = (Book::open(&scene), scene.watch());
    let daily = [line(Some("agent"), 100, Response::Contain)];
    book.spend("agent", 60, Trust::Agent, &daily);
    assert_eq!(judge(&scene, &watch), 1);
    assert_eq!(status(&scene, "agent"), AgentStatus::Active);
    book.spend("agent", 60, Trust::Agent, &daily);
    assert_eq!(judge(&scene, &watch), 2, "the second alert and the breach");
    assert_eq!(judge(&scene, &watch), 0, "each is settled once");
    assert_eq!(
        (
            count(&scene, "alert"),
            count(&scene, "breach"),
            count(&scene, "containing")
        ),
        (2, 1, 1)
    );
    assert_eq!(status(&scene, "agent"), AgentStatus::Contained);
    let refused = book.admit(&*scene.store, book.epoch, 1, &daily);
    assert_eq!(refused, Outcome::Refused(Refusal::AgentContained));

    // What is reported while it is contained counts, and contains nobody twice.
    book.spend("agent", 5, Trust::Agent, &daily);
    judge(&scene, &watch);
    scene.drive(is_contained);
    assert_eq!(scene.cloud.snapshot().machines["eu-west-1/i-1"], InstanceState::Stopped);
    assert_eq!(count(&scene, "containing"), 1);

    let plain = scene.run(watch.reset(&agent(), &options(None), |_| async { panic!("not reached") }));
    let Err(ResetError::Rejected(ResetRejection::StillBreached { lines })) = plain else {
        panic!("{plain:?}");
    };
    assert_eq!(lines[0].settled, Usd::from_dollars(125));
    let small = scene.run(watch.reset(&agent(), &options(Some(10)), |_| async { panic!("not reached") }));
    assert!(matches!(
        small,
        Err(ResetError::Rejected(ResetRejection::RaiseTooSmall { .. }))
    ));
    scene
        .run(watch.reset(&agent(), &options(Some(50)), |changes| book.apply(changes)))
        .unwrap();
    scene.drive(super::scene::is_closed);
    judge(&scene, &watch);
    assert_eq!(status(&scene, "agent"), AgentStatus::Active);
    assert_eq!(scene.cloud.snapshot(), first);
    assert_eq!((count(&scene, "raised"), count(&scene, "reset")), (1, 1));

    // The raise armed the line again.
    book.spend("agent", 30, Trust::Agent, &daily);
    judge(&scene, &watch);
    assert_eq!(status(&scene, "agent"), AgentStatus::Contained);
    assert_eq!(scene.last_now().generation, 2);
    let kinds: Vec<_> = scene.notices().into_iter().map(|notice| notice.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == NoticeKind::Breach).count(), 2);
}

#[test]
fn a_ledger_that_fails_leaves_the_agent_contained() {
    let scene = scene();
    let (book, watch) = (Book::open(&scene), scene.watch());
    book.spend(
        "agent",
        150,
        Trust::Agent,
        &[line(Some("agent"), 100, Response::Contain)],
    );
    judge(&scene, &watch);
    let failed = scene.run(watch.reset(&agent(), &options(Some(100)), |_| async { Err("no".to_owned()) }));
    assert!(matches!(failed, Err(ResetError::Lines(_))));
    assert_eq!(scene.status(), AgentStatus::Contained);
}

#[test]
fn a_pause_waits_for_a_person_and_loses_nothing() {
    let scene = scene();
    let (book, watch) = (Book::open(&scene), scene.watch());
    let lines = [line(Some("agent"), 100, Response::Pause)];
    book.spend("agent", 150, Trust::Agent, &lines);
    judge(&scene, &watch);
    assert_eq!(scene.status(), AgentStatus::Paused);
    let reviews = scene.run(scene.store.reviews(true, 10)).unwrap();
    assert!(matches!(reviews[0].question, Question::Paused { .. }));
    assert_eq!(
        scene.run(watch.pause(&agent(), "operator:a", "again")).unwrap(),
        Acted::Already
    );
    assert_eq!(
        scene
            .run(watch.decide(reviews[0].id, true, "operator:a", "ok"))
            .unwrap(),
        Acted::Done
    );
    assert_eq!(scene.status(), AgentStatus::Active);
    assert_eq!(
        scene
            .run(watch.decide(reviews[0].id, true, "operator:a", "ok"))
            .unwrap(),
        Acted::Already
    );
    let other = scene.run(watch.decide(reviews[0].id, false, "operator:b", "no"));
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("approved by operator:a already")
    );
    // More of the same breaches no more: it was triggered once for this limit.
    book.spend("agent", 10, Trust::Agent, &lines);
    judge(&scene, &watch);
    assert_eq!(scene.status(), AgentStatus::Active);
    // A pause by hand, a denial, a resume by hand.
    scene.run(watch.pause(&agent(), "operator:a", "look")).unwrap();
    let open = scene.run(scene.store.reviews(true, 10)).unwrap();
    scene
        .run(watch.decide(open[0].id, false, "operator:a", "not yet"))
        .unwrap();
    assert_eq!(scene.status(), AgentStatus::Paused);
    scene.run(watch.resume(&agent(), "operator:a", "now")).unwrap();
    assert_eq!(scene.status(), AgentStatus::Active);
}

#[test]
fn an_unconfirmed_claim_never_goes_beyond_revoke() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    let (book, watch) = (Book::open(&scene), scene.watch());
    book.spend(
        "agent",
        150,
        Trust::Unconfirmed,
        &[line(Some("agent"), 100, Response::Contain)],
    );
    judge(&scene, &watch);
    assert_eq!(scene.last_now().mode, Mode::Revoke);
    scene.drive(is_contained);
    assert_eq!(scene.cloud.snapshot().machines, first.machines);
    let reviews = scene.run(scene.store.reviews(true, 10)).unwrap();
    assert!(matches!(reviews[..], [ref one] if matches!(one.question, Question::Contain { .. })));
    scene
        .run(watch.decide(reviews[0].id, true, "operator:a", "it is so"))
        .unwrap();
    scene.drive(is_contained);
    assert_eq!(scene.last_now().mode, Mode::Contain);
    assert_eq!(scene.cloud.snapshot().machines["eu-west-1/i-1"], InstanceState::Stopped);
}

#[test]
fn a_fleet_line_pauses_all_and_contains_those_who_caused_it() {
    let scene = scene();
    scene.watch_settings.rcu(|settings| {
        let mut settings = (**settings).clone();
        settings.agents = ["agent", "small", "idle"].map(named).to_vec();
        settings
    });
    let (book, watch) = (Book::open(&scene), scene.watch());
    let fleet = [line(None, 100, Response::Contain)];
    book.spend("small", 30, Trust::Gateway, &fleet);
    // What an agent says of itself does not count here, and it cannot put the blame on itself or others.
    book.spend(
        "small",
        500,
        Trust::Agent,
        &[line(Some("small"), 1_000, Response::Alert)],
    );
    book.spend("agent", 80, Trust::Gateway, &fleet);
    judge(&scene, &watch);
    assert_eq!(status(&scene, "agent"), AgentStatus::Contained);
    assert_eq!(status(&scene, "small"), AgentStatus::Paused);
    assert_eq!(status(&scene, "idle"), AgentStatus::Paused);
    assert_eq!(scene.run(scene.store.live_containments()).unwrap().len(), 1);
}

#[test]
fn a_hundred_crash_loops_in_a_row_contain_nobody() {
    let scene = scene();
    let (book, watch) = (Book::open(&scene), scene.watch());
    let lines = [line(Some("agent"), 1_000, Response::Contain)];
    let rules = LedgerRules::default();
    for round in 0..100 {
        // A daemon starts, holds, and dies before it knows what the call cost.
        let machine = backstop::store::memory::MemoryStore::clone(&scene.memory);
        let epoch = scene.run(machine.open_epoch(scene.clock.now(), "host")).unwrap();
        let outcome = book.admit(&machine, epoch, 20, &lines);
        let fits = round < 50;
        assert_eq!(
            matches!(outcome, Outcome::Admitted { .. }),
            fits,
            "round {round}: {outcome:?}"
        );
        machine.kill();
        scene
            .run(scene.store.bury_dead_epochs(scene.clock.now(), &rules))
            .unwrap();
        judge(&scene, &watch);
        assert_eq!(scene.status(), AgentStatus::Active, "round {round}");
    }
    assert_eq!(scene.run(scene.store.live_containments()).unwrap(), []);
    assert_eq!(count(&scene, "breach"), 0);
}

#[test]
fn a_trigger_that_a_raise_has_overtaken_is_moot() {
    let scene = scene();
    let (book, watch) = (Book::open(&scene), scene.watch());
    let daily = line(Some("agent"), 100, Response::Contain);
    book.spend("agent", 150, Trust::Agent, std::slice::from_ref(&daily));
    let raise = Op::Override {
        line: daily.key,
        raise: Usd::from_dollars(100),
        lifted_until: None,
    };
    scene.run(book.commit(vec![raise]));
    judge(&scene, &watch);
    assert_eq!(scene.status(), AgentStatus::Active);
    assert_eq!((count(&scene, "moot"), count(&scene, "containing")), (1, 0));
}

#[test]
fn two_judges_respond_once() {
    let scene = scene();
    let book = Book::open(&scene);
    for _ in 0..20 {
        book.spend(
            "agent",
            10,
            Trust::Agent,
            &[line(Some("agent"), 100, Response::Contain)],
        );
    }
    let shared = || watch_over(&scene, &CrashPoint::never());
    let (one, two) = (shared(), shared());
    scene.run(async {
        let (first, second) = futures_util::join!(one.judge_pending(), two.judge_pending());
        assert_eq!(first.unwrap() + second.unwrap(), 3, "two alerts and a breach");
    });
    assert_eq!(
        (
            count(&scene, "alert"),
            count(&scene, "breach"),
            count(&scene, "containing")
        ),
        (2, 1, 1)
    );
}

#[test]
fn a_judge_that_crashes_at_any_call_responds_once() {
    for when in [When::BeforeCall, When::AfterCall] {
        for call in 0..40 {
            let scene = scene();
            let book = Book::open(&scene);
            book.spend(
                "agent",
                150,
                Trust::Unconfirmed,
                &[line(Some("agent"), 100, Response::Contain)],
            );
            let crash = CrashPoint::at(call, when);
            let crashing = watch_over(&scene, &crash);
            let crashed = scene.run(async {
                let judging = pin!(crashing.judge_pending());
                matches!(select(judging, pin!(crash.crashed())).await, Either::Right(_))
            });
            assert_eq!(crashed, call < crash.made());
            judge(&scene, &scene.watch());
            let counts = ["alert", "breach", "containing"].map(|action| count(&scene, action));
            assert_eq!(counts, [2, 1, 1], "crash {when:?} {call}");
            assert_eq!(scene.run(scene.store.reviews(true, 10)).unwrap().len(), 1);
            assert_eq!(scene.run(scene.store.live_containments()).unwrap().len(), 1);
            if !crashed {
                break;
            }
        }
    }
}
