//! One process, or a few, on one store, for a question with a known answer.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::domain::budget::{Budget, Selector};
use backstop::domain::id::{AgentId, BudgetId, HoldId, ReportId, TaskId};
use backstop::domain::ledger::auditor::{AuditParts, audit};
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::ledger::line::{Response, Scope};
use backstop::domain::ledger::posting::{Attribution, Basis, Trust};
use backstop::domain::money::Usd;
use backstop::domain::window::Window;
use backstop::ledger::{
    AdmitRejection, AdmitRequest, AdmittedHold, CaptureRequest, Deps, Fatal, Ledger, LedgerSettings, ReportRequest,
    open,
};
use backstop::ports::{AuditView, DeadEpochs, Notice, NoticeKind, Notifier, Store};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::clock::SimClock;
use super::disk::{Disk, Handle};
use super::executor::{Executor, Group};
use super::faulty::Faulty;
use crate::rng::{Rng, SimEntropy};

pub(super) struct Lab {
    pub(super) exec: Executor,
    pub(super) disk: Disk,
    pub(super) settings: LedgerSettings,
    pub(super) start: Timestamp,
    started: u32,
}

/// What people were told.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Vec<Notice>>);

impl Told {
    pub(super) fn kinds(&self) -> Vec<NoticeKind> {
        self.0.lock().unwrap().iter().map(|notice| notice.kind).collect()
    }
}

impl Notifier for Told {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

pub(super) struct Bench {
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<SimClock>,
    pub(super) store: Arc<Faulty>,
    pub(super) handle: Handle,
    pub(super) drain: CancellationToken,
    pub(super) dead: DeadEpochs,
    pub(super) told: Arc<Told>,
    pub(super) group: Group,
    end: Rc<RefCell<Option<Result<(), Fatal>>>>,
}

impl Bench {
    /// How the task ended, if it has.
    pub(super) fn end(&self) -> Option<Result<(), Fatal>> {
        self.end.borrow_mut().take()
    }

    pub(super) fn commits(&self) -> u64 {
        self.store.commits.load(Ordering::Relaxed)
    }
}

impl Lab {
    pub(super) fn new() -> Self {
        Self {
            exec: Executor::new(Rng::new(1)),
            disk: Disk::new(),
            settings: LedgerSettings::default(),
            start: "2026-11-20T01:00:00Z".parse().unwrap(),
            started: 0,
        }
    }

    pub(super) fn open(&mut self, budgets: Vec<Budget>) -> Bench {
        self.started += 1;
        let rng = Rng::new(u64::from(self.started)).fork("bench");
        let clock = Arc::new(SimClock::new(
            Arc::clone(&self.exec.time),
            self.start,
            SignedDuration::ZERO,
        ));
        let handle = self.disk.process();
        let store = Arc::new(Faulty::new(Arc::clone(&handle), Arc::clone(&self.exec.time), &rng, 0));
        let told = Arc::new(Told::default());
        let deps = Deps {
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SimEntropy::new(rng.fork("entropy"))),
            notifier: Arc::clone(&told) as _,
        };
        let settings = self.settings;
        let opened = self
            .exec
            .block_on(async move { open(deps, settings, budgets, "lab").await });
        let (ledger, task, dead) = opened.expect("it opens");
        let drain = CancellationToken::new();
        let end = Rc::new(RefCell::new(None));
        let (token, result) = (drain.clone(), Rc::clone(&end));
        let group = self.started;
        self.exec.spawner.spawn(group, async move {
            let ended = task.run(token).await;
            *result.borrow_mut() = Some(ended);
        });
        Bench {
            ledger,
            clock,
            store,
            handle,
            drain,
            dead,
            told,
            group,
            end,
        }
    }

    /// Starts something and gives back where its answer will be.
    pub(super) fn start<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> Rc<RefCell<Option<T>>> {
        let answer = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&answer);
        self.exec.spawner.spawn(0, async move {
            let value = work.await;
            *slot.borrow_mut() = Some(value);
        });
        answer
    }

    pub(super) fn admit(&self, bench: &Bench, bound: i64) -> Rc<RefCell<Option<Result<AdmittedHold, AdmitRejection>>>> {
        let ledger = bench.ledger.clone();
        self.start(async move { ledger.admit(wants(bound)).await })
    }

    /// Why it was not admitted, once it is answered.
    pub(super) fn rejection(answer: &RefCell<Option<Result<AdmittedHold, AdmitRejection>>>) -> Option<AdmitRejection> {
        answer.borrow().as_ref()?.as_ref().err().cloned()
    }

    /// Admits and expects it to be done.
    pub(super) fn hold(&mut self, bench: &Bench, bound: i64) -> AdmittedHold {
        let ledger = bench.ledger.clone();
        self.exec
            .block_on(async move { ledger.admit(wants(bound)).await })
            .expect("admitted")
    }

    pub(super) fn seconds(&mut self, seconds: u64) {
        self.exec.run_for(Duration::from_secs(seconds));
    }

    pub(super) fn millis(&mut self, millis: u64) {
        self.exec.run_for(Duration::from_millis(millis));
    }

    pub(super) fn view(&mut self) -> AuditView {
        let store = self.disk.world();
        self.exec
            .block_on(async move { store.audit_view().await })
            .expect("a view")
    }

    pub(super) fn state(&mut self, hold: HoldId) -> Option<HoldState> {
        self.view()
            .holds
            .iter()
            .find(|found| found.id == hold)
            .map(|found| found.state)
    }

    /// The auditor finds nothing.
    pub(super) fn audit(&mut self) {
        let view = self.view();
        let now = self.start + SignedDuration::try_from(self.exec.time.now()).unwrap();
        let findings = audit(&AuditParts {
            lines: &view.lines,
            holds: &view.holds,
            postings: &view.postings,
            entries: &view.entries,
            rolled: &view.rolled,
            now,
        });
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

pub(super) fn usd(nanos: i64) -> Usd {
    Usd::from_nanos(nanos)
}

pub(super) fn spend() -> Attribution {
    Attribution {
        agent: AgentId::new("agent").unwrap(),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: std::collections::BTreeMap::new(),
    }
}

pub(super) fn wants(bound: i64) -> AdmitRequest {
    AdmitRequest {
        attribution: spend(),
        trust: Trust::Gateway,
        bound: usd(bound).into(),
        tentative: false,
        ttl: None,
        wait: None,
    }
}

pub(super) fn capture(hold: HoldId, cost: i64) -> CaptureRequest {
    CaptureRequest {
        hold,
        by: None,
        cost: usd(cost),
        trust: Trust::Gateway,
        occurred_at: None,
        upstream_request: None,
        detail: None,
    }
}

pub(super) fn report(id: &str, amount: i64, at: Timestamp) -> ReportRequest {
    ReportRequest {
        report: ReportId::new(id).unwrap(),
        digest: [7; 32],
        attribution: spend(),
        amount: usd(amount),
        basis: Basis::Reported,
        trust: Trust::Agent,
        occurred_at: at,
        upstream_request: None,
        detail: None,
    }
}

pub(super) fn budget(limit: i64) -> Budget {
    Budget {
        id: BudgetId::new("cap").unwrap(),
        scope: Scope::Agent,
        label: None,
        selector: Selector::default(),
        window: Window::Total,
        limit: usd(limit),
        alert_at: Vec::new(),
        response: Response::Pause,
    }
}

pub(super) fn hourly(limit: i64) -> Budget {
    Budget {
        window: Window::Hour {
            timezone: "UTC".to_owned(),
        },
        ..budget(limit)
    }
}
