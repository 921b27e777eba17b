//! The rehearsal cloud: an in-memory fleet that behaves like the cloud where the kill switch looks.
//!
//! It is the simulated side of the `Cloud` port: for `backstop demo`, for drills and for tests. It is
//! not a mock: machines take time to start and stop and cost money while they run, a denied role can
//! launch nothing, a group replaces a member that was stopped, a service starts a task for each that ended, a
//! function is invoked until nothing is left for it, a reply can be lost after the change was
//! made, a read can be stale, a region can be down. All of it is driven by the `Clock` it is given and
//! by a seed, so that a run can be repeated.
//!
//! What the agent and other people do to the fleet is in [`actors`]; it never goes through the port.

pub mod actors;
mod bill;
mod dial;
pub mod faults;
pub mod fleet;
pub mod functions;
pub mod groups;
pub mod incident;
mod inventory;
mod people;
mod port;
mod record;
pub mod services;
pub mod standing;
mod world;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::containment::target::Region;
use crate::domain::money::Usd;
use crate::ports::Clock;
use faults::Faults;
use fleet::{FleetSnapshot, FleetSpec};
use world::World;

pub use world::Verb;

/// Calls that are remembered at most; older ones are forgotten.
const MAX_CALLS: usize = 100_000;

/// A call that came through the port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    pub at: Timestamp,
    /// As AWS names it, such as `ec2:StopInstances`.
    pub operation: &'static str,
    pub region: Option<Region>,
    /// The instances, the principal or the key that it was about.
    pub subjects: Vec<String>,
    pub changes: bool,
}

/// The fleet. Cheap to share; every method takes `&self`.
pub struct Rehearsal {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    world: World,
    faults: Faults,
    calls: VecDeque<Call>,
}

impl Rehearsal {
    pub fn new(spec: FleetSpec, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self {
            clock,
            state: Mutex::new(State {
                world: World::new(spec, now),
                faults: Faults::default(),
                calls: VecDeque::new(),
            }),
        }
    }

    /// Replaces what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Changes what goes wrong from now on.
    pub fn with_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// States, documents and keys, for comparing before and after.
    pub fn snapshot(&self) -> FleetSnapshot {
        self.lock().world.snapshot()
    }

    /// Dollars an hour of what runs now.
    pub fn burn(&self) -> Usd {
        self.lock().world.burn()
    }

    /// Dollars that the fleet has cost since it was made.
    pub fn spent(&self) -> Usd {
        let now = self.clock.now();
        self.lock().world.spent(now)
    }

    /// The calls that came through the port, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.iter().cloned().collect()
    }

    pub fn forget_calls(&self) {
        self.lock().calls.clear();
    }

    /// The fleet as it is now: what was on its way and had its time has arrived.
    fn lock(&self) -> MutexGuard<'_, State> {
        let now = self.clock.now();
        // A panic while it was held leaves a fleet that is still consistent: each change is one step.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.world.settle(now);
        state
    }
}

impl State {
    fn note(&mut self, call: Call) {
        if self.calls.len() >= MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }
}
