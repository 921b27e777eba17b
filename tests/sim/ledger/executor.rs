//! A single thread, virtual time, and a scheduler that takes the ready tasks in an order drawn from
//! the seed: so an interleaving that breaks something happens again with the same seed. Time moves
//! only when nothing is ready.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::rng::Rng;

/// Polls without time moving: more is a livelock.
const MAX_POLLS_AT_ONCE: u64 = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(u64);

/// Tasks that die together: one process, or the world around it.
pub(super) type Group = u32;

type Work = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
struct Ready(Mutex<BTreeSet<TaskId>>);

struct TaskWaker {
    id: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().unwrap().insert(self.id);
    }
}

/// Virtual time since the start of the run.
#[derive(Debug, Default)]
pub(super) struct Time(Mutex<Timers>);

#[derive(Debug, Default)]
struct Timers {
    now: Duration,
    next: u64,
    waiting: BTreeMap<(Duration, u64), Waker>,
}

impl Time {
    pub(super) fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    pub(super) fn sleep(self: &Arc<Self>, duration: Duration) -> Sleep {
        Sleep {
            time: Arc::clone(self),
            until: self.now() + duration,
            key: None,
        }
    }

    /// Moves on to the next timer. `false`: there is none.
    fn advance(&self, until: Duration) -> bool {
        let woken = {
            let mut timers = self.0.lock().unwrap();
            let Some((&(at, _), _)) = timers.waiting.first_key_value() else {
                return false;
            };
            if at > until {
                timers.now = until;
                return false;
            }
            timers.now = timers.now.max(at);
            let later = timers.waiting.split_off(&(at, u64::MAX));
            std::mem::replace(&mut timers.waiting, later)
        };
        woken.into_values().for_each(Waker::wake);
        true
    }
}

pub(super) struct Sleep {
    time: Arc<Time>,
    until: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let time = Arc::clone(&self.time);
        let mut timers = time.0.lock().unwrap();
        if timers.now >= self.until {
            return Poll::Ready(());
        }
        let until = self.until;
        let key = *self.key.get_or_insert_with(|| {
            timers.next += 1;
            (until, timers.next)
        });
        timers.waiting.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.time.0.lock().unwrap().waiting.remove(&key);
        }
    }
}

/// Starts tasks; cheap to clone into them.
#[derive(Clone, Default)]
pub(super) struct Spawner(Rc<RefCell<Vec<(Group, Work)>>>);

impl Spawner {
    pub(super) fn spawn(&self, group: Group, work: impl Future<Output = ()> + 'static) {
        self.0.borrow_mut().push((group, Box::pin(work)));
    }
}

pub(super) struct Executor {
    pub(super) time: Arc<Time>,
    pub(super) spawner: Spawner,
    ready: Arc<Ready>,
    tasks: BTreeMap<TaskId, (Group, Work)>,
    next: u64,
    rng: Rng,
    polls: u64,
}

impl Executor {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            time: Arc::default(),
            spawner: Spawner::default(),
            ready: Arc::default(),
            tasks: BTreeMap::new(),
            next: 0,
            rng,
            polls: 0,
        }
    }

    /// Ends every task of a group where it stands, as a crash does.
    pub(super) fn kill(&mut self, group: Group) {
        self.adopt();
        self.tasks.retain(|_, (of, _)| *of != group);
    }

    /// Runs everything until `duration` has passed, or nothing is left to do.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let until = self.time.now() + duration;
        loop {
            self.run_ready();
            if !self.time.advance(until) {
                return;
            }
        }
    }

    /// Runs until the future is ready.
    ///
    /// # Panics
    /// When nothing can make it ready any more.
    pub(super) fn block_on<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let result = Rc::clone(&done);
        self.spawner.spawn(Group::MAX, async move {
            let value = work.await;
            *result.borrow_mut() = Some(value);
        });
        loop {
            self.run_ready();
            if let Some(value) = done.borrow_mut().take() {
                return value;
            }
            assert!(
                self.time.advance(Duration::MAX),
                "deadlock: nothing is ready and no timer is set"
            );
        }
    }

    fn adopt(&mut self) {
        let new = std::mem::take(&mut *self.spawner.0.borrow_mut());
        for (group, work) in new {
            self.next += 1;
            let id = TaskId(self.next);
            self.tasks.insert(id, (group, work));
            self.ready.0.lock().unwrap().insert(id);
        }
    }

    fn run_ready(&mut self) {
        let start = self.polls;
        loop {
            self.adopt();
            let chosen = {
                let mut ready = self.ready.0.lock().unwrap();
                if ready.is_empty() {
                    return;
                }
                let nth = usize::try_from(self.rng.below(ready.len() as u64)).unwrap();
                let id = *ready.iter().nth(nth).unwrap();
                ready.remove(&id);
                id
            };
            let Some((_, work)) = self.tasks.get_mut(&chosen) else {
                continue;
            };
            let waker = Waker::from(Arc::new(TaskWaker {
                id: chosen,
                ready: Arc::clone(&self.ready),
            }));
            if work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tasks.remove(&chosen);
            }
            self.polls += 1;
            assert!(
                self.polls - start < MAX_POLLS_AT_ONCE,
                "livelock: {MAX_POLLS_AT_ONCE} polls at {:?}",
                self.time.now()
            );
        }
    }
}
