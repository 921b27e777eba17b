//! Two processes on one store, agents that call them, an operator who changes things, and what goes
//! wrong meanwhile.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop::domain::agent::{AgentState, AgentStatus};
use backstop::domain::budget::Budget;
use backstop::domain::id::AgentId;
use backstop::domain::ledger::auditor::{AuditParts, audit};
use backstop::domain::money::Usd;
use backstop::ledger::{Deps, Fatal, Ledger, LedgerSettings, open};
use backstop::ports::{AuditView, Judgement, LineQuery, Store};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::budgets;
use super::calls::{Caller, agent, freezes};
use super::clock::SimClock;
use super::disk::{Disk, Handle};
use super::executor::{Executor, Group};
use super::faulty::{Fate, Faulty, Lie};
use super::lab::Told;
use super::model::Model;
use crate::rng::{Rng, SimEntropy};

/// Three minutes before the hour, so that a run sees a rollover.
const START: &str = "2026-11-20T01:57:00Z";

pub(super) struct Process {
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<SimClock>,
    pub(super) store: Arc<Faulty>,
    handle: Handle,
    drain: CancellationToken,
    group: Group,
    end: Rc<RefCell<Option<Result<(), Fatal>>>>,
}

pub(super) struct World {
    pub(super) exec: Executor,
    pub(super) model: Rc<RefCell<Model>>,
    pub(super) disk: Disk,
    pub(super) processes: Vec<Option<Process>>,
    rng: Rng,
    started: u64,
    budgets: Vec<Budget>,
    trouble: u64,
    lie: Option<Lie>,
    lied: bool,
    latest: Timestamp,
}

pub(super) fn settings() -> LedgerSettings {
    LedgerSettings {
        max_overtakes: 4,
        // Shorter than holds may live, so that some waits end without room.
        hold_wait: Duration::from_secs(20),
        ..LedgerSettings::default()
    }
}

impl World {
    pub(super) fn new(seed: u64, lie: Option<Lie>) -> Self {
        let rng = Rng::new(seed);
        let mut config = rng.fork("config");
        let budgets = budgets::draw(&mut config);
        let trouble = if config.chance(50) { config.below(12) } else { 0 };
        let mut world = Self {
            exec: Executor::new(rng.fork("schedule")),
            model: Rc::default(),
            disk: Disk::new(),
            processes: vec![None, None],
            rng,
            started: 0,
            budgets,
            trouble,
            lie,
            lied: false,
            latest: Timestamp::MIN,
        };
        world.start(0);
        world.start(1);
        world
    }

    /// Starts a process, as after a crash or for the first time.
    pub(super) fn start(&mut self, which: usize) {
        self.started += 1;
        let name = format!("process {}", self.started);
        let rng = self.rng.fork(&name);
        let skew = SignedDuration::from_millis(rng.fork("skew").range(-1_500, 1_500));
        let clock = Arc::new(SimClock::new(
            Arc::clone(&self.exec.time),
            START.parse::<Timestamp>().unwrap(),
            skew,
        ));
        let handle = self.disk.process();
        let store = Arc::new(Faulty::new(
            Arc::clone(&handle),
            Arc::clone(&self.exec.time),
            &rng,
            self.trouble,
        ));
        *store.lie.lock().unwrap() = self.lie;
        let deps = Deps {
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SimEntropy::new(rng.fork("entropy"))),
            notifier: Arc::new(Told::default()),
        };
        let budgets = self.budgets.clone();
        let opened = self
            .exec
            .block_on(async move { open(deps, settings(), budgets, &name).await });
        let (ledger, task, _) = opened.expect("an epoch opens");
        let drain = CancellationToken::new();
        let end = Rc::new(RefCell::new(None));
        let group = Group::try_from(self.started).unwrap();
        let (token, result) = (drain.clone(), Rc::clone(&end));
        self.exec.spawner.spawn(group, async move {
            let ended = task.run(token).await;
            *result.borrow_mut() = Some(ended);
        });
        self.processes[which] = Some(Process {
            ledger,
            clock,
            store,
            handle,
            drain,
            group,
            end,
        });
    }

    /// A process dies where it stands, with all of its callers.
    pub(super) fn crash(&mut self, which: usize) {
        self.note_time();
        if let Some(process) = self.processes[which].take() {
            self.bury(&process);
            let mut model = self.model.borrow_mut();
            model.crashed.insert(process.ledger.epoch());
            model.counts.add("crash");
        }
    }

    /// The whole machine dies, and loses what was not synced.
    fn power_loss(&mut self) {
        for which in 0..self.processes.len() {
            self.crash(which);
        }
        let lost = self.disk.crash();
        let mut model = self.model.borrow_mut();
        model
            .counts
            .add(if lost { "power loss, unsynced" } else { "power loss" });
    }

    /// Power is lost while a commit is in the page cache and its caller waits to know.
    fn power_loss_unsynced(&mut self, rng: &mut Rng) {
        for process in self.alive() {
            process.store.force(Fate::Unsynced);
        }
        for number in 0..4 {
            let Some((caller, group)) = self.caller(rng) else {
                return;
            };
            let rng = rng.fork(&format!("unsynced {number}"));
            if number < 3 {
                self.exec.spawner.spawn(group, caller.call(rng));
            } else {
                self.exec.spawner.spawn(group, caller.report(rng));
            }
        }
        for _ in 0..100 {
            self.exec.run_for(Duration::from_millis(1));
            if self.disk.has_unsynced() {
                return self.power_loss();
            }
        }
    }

    /// A process is told to stop, and does.
    pub(super) fn drain(&mut self, which: usize) {
        let Some(process) = &self.processes[which] else { return };
        process.drain.cancel();
        let end = Rc::clone(&process.end);
        for _ in 0..240 {
            self.exec.run_for(Duration::from_millis(500));
            if end.borrow().is_some() {
                break;
            }
        }
        self.note_time();
        let Some(process) = self.processes[which].take() else {
            return;
        };
        self.bury(&process);
        let end = end.borrow_mut().take();
        let mut model = self.model.borrow_mut();
        model.counts.add("drained");
        match end {
            // A store that answers nothing while the daemon stops ends like a crash.
            Some(Ok(())) => {}
            Some(Err(Fatal::Unknown | Fatal::Unwritten { .. })) => {
                model.crashed.insert(process.ledger.epoch());
            }
            end => model.violate(format!("process {which} did not drain: {end:?}")),
        }
    }

    fn bury(&mut self, process: &Process) {
        self.lied |= process.store.lied.load(Ordering::Relaxed);
        self.exec.kill(process.group);
        process.handle.kill();
    }

    /// Follows the furthest clock of the ledger, which the auditor judges by.
    fn note_time(&mut self) {
        let furthest = self.alive().map(|process| process.ledger.now()).max();
        self.latest = self.latest.max(furthest.unwrap_or(self.latest));
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().flatten()
    }

    fn caller(&self, rng: &mut Rng) -> Option<(Caller, Group)> {
        let alive: Vec<&Process> = self.alive().collect();
        let process = *alive.get(usize::try_from(rng.below(alive.len() as u64)).unwrap())?;
        let other = *rng.pick(&alive);
        let caller = Caller {
            ledger: process.ledger.clone(),
            other: other.ledger.clone(),
            time: Arc::clone(&self.exec.time),
            model: Rc::clone(&self.model),
        };
        Some((caller, process.group))
    }

    /// One random step of a run.
    pub(super) fn step(&mut self, number: u64) {
        let mut rng = self.rng.fork(&format!("step {number}"));
        for _ in 0..rng.below(8) {
            let Some((caller, group)) = self.caller(&mut rng) else {
                break;
            };
            let draw = rng.fork("call");
            rng.next();
            if rng.chance(70) {
                self.exec.spawner.spawn(group, caller.call(draw));
            } else {
                self.exec.spawner.spawn(group, caller.report(draw));
            }
        }
        // The fault draws from a stream of its own, and from it alone.
        let mut fault = rng.fork("fault");
        let which = usize::try_from(fault.below(2)).unwrap();
        match fault.below(100) {
            0..5 => self.crash(which),
            5..6 => self.power_loss(),
            50..53 => self.power_loss_unsynced(&mut fault),
            6..9 => self.drain(which),
            9..15 => self.skew(which, SignedDuration::from_millis(fault.range(-3_000, 3_000))),
            15..18 => self.skew(which, SignedDuration::from_secs(fault.range(3_700, 90_000))),
            18..20 => self.skew(which, SignedDuration::from_secs(fault.range(-7_200, -10))),
            20..30 => self.reload(&mut fault),
            30..38 => self.freeze(&mut fault),
            38..46 => self.operate(&mut fault),
            46..50 => self.burst(&mut fault),
            _ => {}
        }
        for which in 0..self.processes.len() {
            if self.processes[which].is_none() && rng.chance(40) {
                self.start(which);
            }
        }
        let pause = if rng.chance(85) {
            rng.below(2_500)
        } else {
            rng.below(20_000)
        };
        self.exec.run_for(Duration::from_millis(pause));
        self.check_alive();
    }

    fn skew(&mut self, which: usize, skew: SignedDuration) {
        self.note_time();
        if let Some(process) = &self.processes[which] {
            process.clock.set_skew(skew);
            let what = if skew.as_secs() > 3_600 {
                "clock jump"
            } else {
                "clock skew"
            };
            self.model.borrow_mut().counts.add(what);
        }
    }

    /// Everybody calls at once.
    fn burst(&mut self, rng: &mut Rng) {
        for number in 0..rng.below(60) {
            let Some((caller, group)) = self.caller(rng) else {
                return;
            };
            self.exec
                .spawner
                .spawn(group, caller.call(rng.fork(&format!("burst {number}"))));
        }
        self.model.borrow_mut().counts.add("burst");
    }

    /// The config is loaded again, by every process.
    fn reload(&mut self, rng: &mut Rng) {
        self.budgets = budgets::change(&self.budgets, rng);
        self.model.borrow_mut().counts.add("reload");
        let work: Vec<(Ledger, Group)> = self.alive().map(|p| (p.ledger.clone(), p.group)).collect();
        for (ledger, group) in work {
            let budgets = self.budgets.clone();
            self.exec.spawner.spawn(group, async move {
                let _ = ledger.set_rules(budgets).await;
            });
        }
    }

    fn freeze(&mut self, rng: &mut Rng) {
        let agent = agent(rng.below(3));
        let store = self.disk.world();
        let model = Rc::clone(&self.model);
        let next = freezes(rng);
        self.exec.block_on(set_frozen(store, model, agent, Some(next)));
    }

    /// An operator raises, lifts or arms a line.
    fn operate(&mut self, rng: &mut Rng) {
        let Some((caller, group)) = self.caller(rng) else {
            return;
        };
        let (kind, pick, raise) = (rng.below(3), rng.next(), Usd::from_nanos(rng.range(0, 200)));
        let model = Rc::clone(&self.model);
        self.exec.spawner.spawn(group, async move {
            let Ok(lines) = caller.ledger.lines(&LineQuery::default()).await else {
                return;
            };
            if lines.is_empty() {
                return;
            }
            let line = &lines[usize::try_from(pick % lines.len() as u64).unwrap()];
            let now = caller.ledger.now();
            let until = (kind == 1).then(|| now + SignedDuration::from_secs(20));
            let done = match kind {
                0 | 1 => caller.ledger.override_line(line.key.clone(), raise, until).await,
                _ => caller.ledger.rearm(line.key.clone()).await,
            };
            model
                .borrow_mut()
                .counts
                .add(if done.is_ok() { "operated" } else { "operate failed" });
        });
    }

    /// Whether a lying store has told its lie.
    pub(super) fn lied(&self) -> bool {
        self.lied || self.alive().any(|process| process.store.lied.load(Ordering::Relaxed))
    }

    /// No process may have ended by itself.
    fn check_alive(&self) {
        for process in self.alive() {
            if let Some(end) = &*process.end.borrow() {
                self.model
                    .borrow_mut()
                    .violate(format!("a process ended by itself: {end:?}"));
            }
        }
    }

    pub(super) fn view(&mut self) -> AuditView {
        let store = self.disk.world();
        self.exec
            .block_on(async move { store.audit_view().await })
            .expect("a view")
    }

    /// The auditor and the model, at any time.
    pub(super) fn check(&mut self) {
        self.note_time();
        let view = self.view();
        let findings = audit(&AuditParts {
            lines: &view.lines,
            holds: &view.holds,
            postings: &view.postings,
            entries: &view.entries,
            rolled: &view.rolled,
            now: self.latest,
        });
        let mut model = self.model.borrow_mut();
        for finding in findings {
            model.violate(format!("{:?}: {}: {}", finding.promise, finding.subject, finding.what));
        }
        model.check(&view);
    }

    /// With nothing held and nothing wrong, a small hold of anybody is admitted or refused at once.
    fn probe(&mut self) {
        let mut rng = self.rng.fork("probe");
        let callers: Vec<(Caller, Group)> = (0..6).filter_map(|_| self.caller(&mut rng)).collect();
        let asked = callers.len();
        let answered = Rc::new(RefCell::new(0));
        for (number, (caller, group)) in callers.into_iter().enumerate() {
            let answered = Rc::clone(&answered);
            let rng = rng.fork(&format!("probe {number}"));
            self.exec.spawner.spawn(group, async move {
                caller.probe(rng).await;
                *answered.borrow_mut() += 1;
            });
        }
        self.exec.run_for(Duration::from_secs(10));
        let answered = *answered.borrow();
        if answered != asked {
            let mut model = self.model.borrow_mut();
            model.violate(format!(
                "{} of {asked} holds that fit were not answered",
                asked - answered
            ));
        }
    }

    /// Faults end, the clocks are right, everybody is thawed and nobody new calls: what waits must go.
    pub(super) fn quiesce(&mut self) {
        self.trouble = 0;
        for number in 0..3 {
            let (store, model) = (self.disk.world(), Rc::clone(&self.model));
            self.exec.block_on(set_frozen(store, model, agent(number), None));
        }
        for process in self.processes.iter().flatten() {
            process.store.trouble.store(0, Ordering::Relaxed);
            process.clock.set_skew(SignedDuration::ZERO);
        }
        for which in 0..self.processes.len() {
            if self.processes[which].is_none() {
                self.start(which);
            }
        }
        // What the store was stalling with is over, work that was begun ends, forgotten holds expire.
        self.exec.run_for(Duration::from_secs(45));
        let mut idle = Duration::ZERO;
        let beat = Duration::from_millis(500);
        for _ in 0..400 {
            self.exec.run_for(beat);
            let open: usize = self.alive().map(|process| process.ledger.status().open_holds).sum();
            idle = if open > 0 { Duration::ZERO } else { idle + beat };
            let waiting: usize = self.alive().map(|process| process.ledger.status().waiters).sum();
            // Nothing is held: whoever waits fits, or can never fit. Both have an answer.
            if waiting > 0 && idle > Duration::from_secs(8) {
                self.model
                    .borrow_mut()
                    .violate(format!("{waiting} holds wait though nothing is held"));
                break;
            }
            if idle > Duration::from_secs(12) {
                break;
            }
        }
        self.probe();
        self.check_alive();
        self.check();
        let view = self.view();
        self.model.borrow_mut().check_end(&view);
        for which in 0..self.processes.len() {
            self.drain(which);
        }
        self.check();
    }
}

/// Writes an agent's state as judgement does; `None` thaws it.
async fn set_frozen(store: Arc<dyn Store>, model: Rc<RefCell<Model>>, agent: AgentId, freeze: Option<AgentStatus>) {
    let state = store.agent(&agent).await.expect("a state");
    let path: &[AgentStatus] = match (state.status, freeze) {
        (AgentStatus::Active, Some(AgentStatus::Paused)) => &[AgentStatus::Paused],
        (AgentStatus::Active, Some(_)) => &[AgentStatus::Contained],
        (AgentStatus::Active, None) => return,
        (AgentStatus::Paused, _) => &[AgentStatus::Active],
        (AgentStatus::Contained, _) => &[AgentStatus::Restoring, AgentStatus::Active],
        (AgentStatus::Restoring, _) => &[AgentStatus::Active],
    };
    let is_thaw = state.status != AgentStatus::Active;
    let change = |frozen: bool| {
        let mut model = model.borrow_mut();
        let number = model.frozen(&agent).1 + 1;
        model.frozen.insert(agent.clone(), (frozen, number));
    };
    // Frozen counts from when the write is done, thawed from when it begins.
    if is_thaw {
        change(false);
    }
    for (version, &status) in (state.version + 1..).zip(path) {
        let judgement = Judgement {
            agents: vec![AgentState {
                id: agent.clone(),
                status,
                version,
                ..AgentState::initial(agent.clone())
            }],
            ..Judgement::default()
        };
        store.judge(&judgement).await.expect("the state is written");
    }
    if !is_thaw {
        change(true);
    }
    model.borrow_mut().counts.add(if is_thaw { "thaw" } else { "freeze" });
}
