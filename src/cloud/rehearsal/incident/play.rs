//! The agent at work: what its script says, at its time, with its own credentials.

use std::time::Duration;

use super::super::Rehearsal;
use super::super::actors::{Credential, Made};
use super::super::fleet::MachineSpec;
use super::super::functions::FunctionSpec;
use super::super::groups::GroupSpec;
use super::super::services::{ServiceSpec, TaskSpec};
use super::super::standing::StandingSpec;
use super::{Incident, Make, TAG, What};
use crate::ports::Clock;

/// How far the agent got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Played {
    pub made: u64,
    pub refused: u64,
}

impl Incident {
    /// Plays the whole script from now on; it ends with its last wave.
    pub async fn play(&self, cloud: &Rehearsal, clock: &dyn Clock) -> Played {
        let began = clock.monotonic();
        let mut waves: Vec<(Duration, usize)> = Vec::new();
        for (number, wave) in self.waves.iter().enumerate() {
            let at = |time: u32| u64::from(wave.from_s) + u64::from(wave.every_s) * u64::from(time);
            waves.extend((0..wave.times).map(|time| (Duration::from_secs(at(time)), number)));
        }
        waves.sort_unstable();
        let role = Credential::Role(self.role.clone());
        let mut played = Played::default();
        // By wave and thing: which of its kind it is, for its name and its tag.
        let mut counts: Vec<Vec<u32>> = self.waves.iter().map(|wave| vec![0; wave.make.len()]).collect();
        for (at, number) in waves {
            clock
                .sleep(at.saturating_sub(clock.monotonic().saturating_sub(began)))
                .await;
            for (place, make) in self.waves[number].make.iter().enumerate() {
                for _ in 0..make.count {
                    let count = &mut counts[number][place];
                    *count += 1;
                    let name = format!("{number}-{place}-{count}");
                    match cloud.make(&role, self.spec(make, &name, *count)) {
                        Ok(_) => played.made += 1,
                        Err(_) => played.refused += 1,
                    }
                }
            }
        }
        played
    }

    fn spec(&self, make: &Make, name: &str, count: u32) -> Made {
        let region = self.region.0.as_str();
        let tagged = make.untagged_every == 0 || !count.is_multiple_of(make.untagged_every);
        let tags = || tagged.then(|| (TAG.to_owned(), self.agent.to_string()));
        match &make.of {
            What::Machine { instance_type } => {
                let mut machine = MachineSpec::new(region, instance_type);
                machine.tags.extend(tags());
                Made::Machine(machine)
            }
            What::Group { instance_type, members } => {
                let members = usize::try_from(*members).unwrap_or(usize::MAX);
                let mut group = GroupSpec::new(&format!("g-{name}"), members, MachineSpec::new(region, instance_type));
                group.tags.extend(tags());
                Made::Group(group)
            }
            What::Service { tasks, vcpu, gib } => {
                let (vcpu, gib) = (u64::from(*vcpu) * 1_000, u64::from(*gib) * 1_000);
                let task = TaskSpec::fargate(region, "agent", vcpu, gib);
                let tasks = usize::try_from(*tasks).unwrap_or(usize::MAX);
                let mut service = ServiceSpec::new(&format!("s-{name}"), tasks, task);
                service.tags.extend(tags());
                Made::Service(service)
            }
            What::Function { usd_per_hour } => {
                let mut function = FunctionSpec::new(region, &format!("f-{name}"), *usd_per_hour);
                function.tags.extend(tags());
                Made::Function(function)
            }
            What::Balancer => self.standing(StandingSpec::balancer(region, &format!("b-{name}")), tags()),
            What::Volume { gib } => {
                let volume = StandingSpec::volume(region, &format!("vol-{name}"), u64::from(*gib));
                self.standing(volume, tags())
            }
            What::Address => self.standing(StandingSpec::address(region, &format!("eipalloc-{name}")), tags()),
        }
    }

    fn standing(&self, mut spec: StandingSpec, tag: Option<(String, String)>) -> Made {
        spec.tags.extend(tag);
        Made::Standing(spec)
    }
}
