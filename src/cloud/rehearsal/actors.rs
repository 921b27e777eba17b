//! What others do to the fleet, beside the port: the agent that launches, people who interfere.

use super::Rehearsal;
use super::fleet::MachineSpec;
use super::functions::FunctionSpec;
use super::groups::GroupSpec;
use super::services::{ServiceSpec, TaskSpec};
use super::standing::StandingSpec;
use super::world::{Machine, Verb};
use crate::domain::containment::observed::{Instance, InstanceState, Refused};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::fleet::asset::{AssetRef, Kind, Settings};

/// With which credential something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A session of a role.
    Role(String),
    /// An access key of a user.
    Key(String),
}

/// Something that an agent makes.
#[derive(Debug, Clone)]
pub enum Made {
    Machine(MachineSpec),
    Group(GroupSpec),
    Service(ServiceSpec),
    Function(FunctionSpec),
    Standing(StandingSpec),
}

impl Made {
    fn region(&self) -> &Region {
        match self {
            Self::Machine(spec) => &spec.region,
            Self::Group(spec) => &spec.member.region,
            Self::Service(spec) => &spec.task.region,
            Self::Function(spec) => &spec.region,
            Self::Standing(spec) => &spec.what.region,
        }
    }
}

/// Why the agent could not launch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchRefused {
    #[error("UnauthorizedOperation: an explicit deny forbids it")]
    Denied,
    #[error("AuthFailure: the key is inactive or unknown")]
    BadKey,
    #[error("there is no region {0}")]
    NoRegion(Region),
}

impl Rehearsal {
    /// The agent launches a machine. It counts on the ownership tag only if the launch carries it.
    pub fn launch(&self, credential: &Credential, machine: MachineSpec) -> Result<String, LaunchRefused> {
        self.make(credential, Made::Machine(machine)).map(|what| what.id)
    }

    /// The agent makes something, and the cloud keeps a record of it.
    pub fn make(&self, credential: &Credential, made: Made) -> Result<AssetRef, LaunchRefused> {
        let now = self.clock.now();
        let mut state = self.lock();
        let world = &mut state.world;
        let principal = match credential {
            Credential::Role(arn) => Principal::Role(arn.clone()),
            Credential::Key(id) => world.people.holder_of_key(id).ok_or(LaunchRefused::BadKey)?.clone(),
        };
        if !world.may_launch(&principal, now) {
            return Err(LaunchRefused::Denied);
        }
        let region = made.region().clone();
        if !world.regions.contains(&region) {
            return Err(LaunchRefused::NoRegion(region));
        }
        let (call, what) = match made {
            Made::Machine(spec) => {
                let id = world.add(spec, now);
                let kind = Kind::INSTANCE;
                ("RunInstances", AssetRef { kind, region, id })
            }
            Made::Group(spec) => ("CreateAutoScalingGroup", world.add_group(spec)),
            Made::Service(spec) => ("CreateService", world.add_service(spec)),
            Made::Function(spec) => ("CreateFunction20150331", world.add_function(spec, now)),
            Made::Standing(spec) => (spec.call, world.add_standing(spec, now)),
        };
        world.record_made(&principal, call, what.clone(), now);
        world.settle(now);
        Ok(what)
    }

    /// Machines that cost now, for somebody with every right who looks for them.
    pub fn up(&self) -> Vec<String> {
        let state = self.lock();
        let machines = state.world.machines.values().map(|machine| &machine.seen);
        let up = machines.filter(|seen| seen.state.is_chargeable());
        up.map(|seen| seen.id.clone()).collect()
    }

    /// Puts a machine there, whoever launched it.
    pub fn add(&self, machine: MachineSpec) -> String {
        let now = self.clock.now();
        self.lock().world.add(machine, now)
    }

    /// Somebody else's call on a machine, with every right.
    pub fn someone(&self, verb: Verb, id: &str) -> Result<(), Refused> {
        let now = self.clock.now();
        let mut state = self.lock();
        let region = state.world.machines.get(id).map(|machine| machine.seen.region.clone());
        let region = region.unwrap_or_else(|| Region(String::new()));
        state.world.ask(verb, &region, id, now)
    }

    /// Takes a permission from the daemon, as far as its policy simulation tells.
    pub fn lack(&self, action: &str) {
        self.lock().world.lacking.insert(action.to_owned());
    }

    /// Gives the daemon other credentials, and with them who it is.
    pub fn become_another(&self, arn: &str) {
        let mut state = self.lock();
        arn.clone_into(&mut state.world.identity);
        state.world.credentials += 1;
    }

    /// Puts a machine at once into a state.
    pub fn force_state(&self, id: &str, to: InstanceState) {
        let now = self.clock.now();
        self.change(id, |machine| machine.become_now(to, now));
    }

    /// Somebody runs a task that no service starts.
    pub fn run_task(&self, task: TaskSpec) -> AssetRef {
        let now = self.clock.now();
        self.lock().world.run_task(task, None, now)
    }

    /// Somebody else changes a setting of a group, a service or a function.
    pub fn set_setting(&self, what: &AssetRef, name: &str, value: &str) {
        let now = self.clock.now();
        let mut state = self.lock();
        if let Some(dial) = state.world.dial(what) {
            dial.put(&Settings::from([(name.to_owned(), value.to_owned())]), now);
        }
        state.world.settle(now);
    }

    /// Refuses changes of an asset from now on; `None` lets them work again.
    pub fn refuse_asset(&self, what: &AssetRef, refused: Option<Refused>) {
        let mut state = self.lock();
        match refused {
            Some(refused) => state.world.refused_assets.insert(what.clone(), refused),
            None => state.world.refused_assets.remove(what),
        };
    }

    /// A machine that does not pass its checks, or does again.
    pub fn set_sick(&self, id: &str, is_sick: bool) {
        self.change(id, |machine| machine.is_sick = is_sick);
    }

    pub fn set_tag(&self, id: &str, key: &str, value: Option<&str>) {
        self.change(id, |machine| match value {
            Some(value) => {
                machine.seen.tags.insert(key.to_owned(), value.to_owned());
            }
            None => {
                machine.seen.tags.remove(key);
            }
        });
    }

    pub fn set_stop_protection(&self, id: &str, protected: bool) {
        self.change(id, |machine| machine.protected = protected);
    }

    /// Somebody else writes or deletes the inline policy.
    pub fn set_document(&self, principal: &Principal, document: Option<&str>) {
        let now = self.clock.now();
        // Nobody, or no room: then there is none.
        let _ = self
            .lock()
            .world
            .people
            .set_inline(principal, document.map(str::to_owned), now);
    }

    /// Somebody else detaches the managed policy.
    pub fn detach(&self, principal: &Principal) {
        let now = self.clock.now();
        self.lock().world.people.detach(principal, now);
    }

    /// Somebody else writes another version of the managed policy.
    pub fn set_managed(&self, document: &str) {
        self.lock().world.people.set_managed(document);
    }

    pub fn set_key(&self, key_id: &str, active: bool) {
        if let Some(key) = self.lock().world.people.key_mut(None, key_id) {
            key.active = active;
        }
    }

    pub fn set_service_credential(&self, id: &str, active: bool) {
        if let Some(credential) = self.lock().world.people.service_credential_mut(None, id) {
            credential.active = active;
        }
    }

    /// What the principal's own inline policies take from now on.
    pub fn set_inline_chars(&self, principal: &Principal, chars: usize) {
        if let Some(person) = self.lock().world.people.get_mut(principal) {
            person.inline_chars = chars;
        }
    }

    /// Whether it has as many managed policies as it may have.
    pub fn set_attachments_full(&self, principal: &Principal, full: bool) {
        if let Some(person) = self.lock().world.people.get_mut(principal) {
            person.attachments_full = full;
        }
    }

    /// The simulation does not know of the principal's denies from now on.
    pub fn blind_simulation(&self, principal: &Principal, blind: bool) {
        if let Some(person) = self.lock().world.people.get_mut(principal) {
            person.simulation_is_blind = blind;
        }
    }

    /// Refuses a call on a machine from now on; `None` lets it work again.
    pub fn refuse(&self, verb: Verb, id: &str, refused: Option<Refused>) {
        let mut state = self.lock();
        match refused {
            Some(refused) => state.world.refusals.insert((verb, id.to_owned()), refused),
            None => state.world.refusals.remove(&(verb, id.to_owned())),
        };
    }

    pub fn machine(&self, id: &str) -> Option<Instance> {
        self.lock().world.machines.get(id).map(|machine| machine.seen.clone())
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.lock().world.machines.get_mut(id) {
            change(machine);
        }
    }
}
