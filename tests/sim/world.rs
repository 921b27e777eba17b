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

use crate::budgets;
use crate::calls::{Caller, agent, freezes};
use crate::clock::SimClock;
use crate::disk::Disk;
use crate::executor::{Executor, Group};
use crate::faulty::{Faulty, Lie};
use crate::model::Model;
use crate::rng::{Rng, SimEntropy};

/// Three minutes before the hour, so that a run sees a rollover.
const START: &str = "2026-11-20T01:57:00Z";

pub(crate) struct Process {
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) store: Arc<Faulty>,
    drain: CancellationToken,
    group: Group,
    end: Rc<RefCell<Option<Result<(), Fatal>>>>,
}

pub(crate) struct World {
    pub(crate) exec: Executor,
    pub(crate) model: Rc<RefCell<Model>>,
    pub(crate) disk: Disk,
    pub(crate) processes: Vec<Option<Process>>,
    rng: Rng,
    started: u64,
    budgets: Vec<Budget>,
    trouble: u64,
    lie: Option<Lie>,
}

pub(crate) fn settings() -> LedgerSettings {
    LedgerSettings {
        max_overtakes: 4,
        ..LedgerSettings::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64, lie: Option<Lie>) -> Self {
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
        };
        world.start(0);
        world.start(1);
        world
    }

    /// Starts a process, as after a crash or for the first time.
    pub(crate) fn start(&mut self, which: usize) {
        self.started += 1;
        let name = format!("process {}", self.started);
        let rng = self.rng.fork(&name);
        let skew = SignedDuration::from_millis(rng.fork("skew").range(-1_500, 1_500));
        let clock = Arc::new(SimClock::new(
            Arc::clone(&self.exec.time),
            START.parse::<Timestamp>().unwrap(),
            skew,
        ));
        let store = Arc::new(Faulty::new(
            self.disk.connect(),
            Arc::clone(&self.exec.time),
            &rng,
            self.trouble,
        ));
        *store.lie.lock().unwrap() = self.lie;
        let deps = Deps {
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SimEntropy::new(rng.fork("entropy"))),
        };
        let budgets = self.budgets.clone();
        let opened = self.exec.block_on(async move { open(deps, settings(), budgets, &name).await });
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
            drain,
            group,
            end,
        });
    }

    /// A process dies where it stands, with all of its callers.
    pub(crate) fn crash(&mut self, which: usize) {
        if let Some(process) = self.processes[which].take() {
            let epoch = process.ledger.epoch();
            self.exec.kill(process.group);
            self.disk.died(epoch, process.store);
            let mut model = self.model.borrow_mut();
            model.crashed.insert(epoch);
            model.counts.add("crash");
        }
    }

    /// A process is told to stop, and does.
    pub(crate) fn drain(&mut self, which: usize) {
        let Some(process) = &self.processes[which] else { return };
        process.drain.cancel();
        let end = Rc::clone(&process.end);
        for _ in 0..240 {
            self.exec.run_for(Duration::from_millis(500));
            if end.borrow().is_some() {
                break;
            }
        }
        let Some(process) = self.processes[which].take() else { return };
        let epoch = process.ledger.epoch();
        let end = end.borrow_mut().take();
        self.exec.kill(process.group);
        self.disk.died(epoch, process.store);
        let mut model = self.model.borrow_mut();
        model.counts.add("drained");
        match end {
            // A store that answers nothing while the daemon stops ends like a crash.
            Some(Ok(()) | Err(Fatal::Unknown)) => {}
            end => model.violate(format!("process {which} did not drain: {end:?}")),
        }
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = &Process> {
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
    pub(crate) fn step(&mut self, number: u64) {
        let mut rng = self.rng.fork(&format!("step {number}"));
        for _ in 0..rng.below(8) {
            let Some((caller, group)) = self.caller(&mut rng) else { break };
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
            0..6 => self.crash(which),
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
        let pause = if rng.chance(85) { rng.below(2_500) } else { rng.below(20_000) };
        self.exec.run_for(Duration::from_millis(pause));
        self.check_alive();
    }

    fn skew(&mut self, which: usize, skew: SignedDuration) {
        if let Some(process) = &self.processes[which] {
            process.clock.set_skew(skew);
            let what = if skew.as_secs() > 3_600 { "clock jump" } else { "clock skew" };
            self.model.borrow_mut().counts.add(what);
        }
    }

    /// Everybody calls at once.
    fn burst(&mut self, rng: &mut Rng) {
        for number in 0..rng.below(60) {
            let Some((caller, group)) = self.caller(rng) else { return };
            self.exec.spawner.spawn(group, caller.call(rng.fork(&format!("burst {number}"))));
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
        let store = self.disk.connect();
        let model = Rc::clone(&self.model);
        let next = freezes(rng);
        self.exec.block_on(set_frozen(store, model, agent, Some(next)));
    }

    /// An operator raises, lifts or arms a line.
    fn operate(&mut self, rng: &mut Rng) {
        let Some((caller, group)) = self.caller(rng) else { return };
        let (kind, pick, raise) = (rng.below(3), rng.next(), Usd::from_nanos(rng.range(0, 200)));
        let model = Rc::clone(&self.model);
        self.exec.spawner.spawn(group, async move {
            let Ok(lines) = caller.ledger.lines(&LineQuery::default()).await else { return };
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
            model.borrow_mut().counts.add(if done.is_ok() { "operated" } else { "operate failed" });
        });
    }

    /// Whether a lying store has told its lie.
    pub(crate) fn lied(&self) -> bool {
        self.disk.lied() || self.alive().any(|process| process.store.lied.load(Ordering::Relaxed))
    }

    /// No process may have ended by itself.
    fn check_alive(&self) {
        for process in self.alive() {
            if let Some(end) = &*process.end.borrow() {
                self.model.borrow_mut().violate(format!("a process ended by itself: {end:?}"));
            }
        }
    }

    pub(crate) fn view(&mut self) -> AuditView {
        let store = self.disk.connect();
        self.exec.block_on(async move { store.audit_view().await }).expect("a view")
    }

    /// The auditor and the model, at any time.
    pub(crate) fn check(&mut self) {
        let view = self.view();
        let now = START.parse::<Timestamp>().unwrap() + SignedDuration::try_from(self.exec.time.now()).unwrap();
        let findings = audit(&AuditParts {
            lines: &view.lines,
            holds: &view.holds,
            postings: &view.postings,
            entries: &view.entries,
            rolled: &view.rolled,
            now,
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
            model.violate(format!("{} of {asked} holds that fit were not answered", asked - answered));
        }
    }

    /// Faults end, the clocks are right, everybody is thawed and nobody new calls: what waits must go.
    pub(crate) fn quiesce(&mut self) {
        self.trouble = 0;
        for number in 0..3 {
            let (store, model) = (self.disk.connect(), Rc::clone(&self.model));
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
        // Work that was begun ends, and forgotten holds expire.
        let mut idle = Duration::ZERO;
        let beat = Duration::from_millis(500);
        for _ in 0..400 {
            self.exec.run_for(beat);
            let open = self.view().holds.iter().any(|hold| hold.state == backstop::domain::ledger::hold::HoldState::Open);
            idle = if open { Duration::ZERO } else { idle + beat };
            let waiting: usize = self.alive().map(|process| process.ledger.status().waiters).sum();
            // Nothing is held: whoever waits fits, or can never fit. Both have an answer.
            if waiting > 0 && idle > Duration::from_secs(8) {
                self.model.borrow_mut().violate(format!("{waiting} holds wait though nothing is held"));
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
async fn set_frozen(
    store: Arc<dyn Store>,
    model: Rc<RefCell<Model>>,
    agent: AgentId,
    freeze: Option<AgentStatus>,
) {
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
    let mut version = state.version;
    for &status in path {
        version += 1;
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
