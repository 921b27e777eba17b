//! From the first machine that is too much, visible in the cloud's API, to the first call that stops it: one
//! poll and two seconds, whatever the phase of the poll.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstop::app::incidents::guard::{Guard, Setup, daily};
use backstop::cloud::rehearsal::Rehearsal;
use backstop::cloud::rehearsal::faults::Faults;
use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec, PrincipalSpec};
use backstop::domain::containment::target::{CloudTargets, Principal};
use backstop::domain::id::AgentId;
use backstop::domain::money::Usd;
use backstop::ports::Clock as _;
use backstop::system::virtual_time::{Counting, VirtualClock, run};

use crate::rng::Rng;
use crate::seeds::{PARTS, part};

const ACCOUNT: &str = "123456789012";
const TAG: &str = "backstop:agent";
const REGIONS: [&str; 3] = ["eu-west-1", "us-east-1", "us-west-2"];
const TYPE: &str = "m7i.12xlarge";

/// A call to the cloud takes up to this long.
const CALL: Duration = Duration::from_millis(200);

/// What the design allows besides a poll.
const MORE: Duration = Duration::from_secs(2);

fn machine(region: &str, owner: &str) -> MachineSpec {
    MachineSpec::new(region, TYPE).tag(TAG, owner)
}

/// Two agents in three regions, and some machines of the other one's.
fn world(clock: &Arc<VirtualClock>, seed: u64, poll_every: Duration) -> (Arc<Rehearsal>, Guard) {
    let role = |name: &str| format!("arn:aws:iam::{ACCOUNT}:role/agents/{name}");
    let mut spec = FleetSpec::new(ACCOUNT, &REGIONS);
    let mut targets = BTreeMap::new();
    for name in ["a", "b"] {
        spec = spec.principal(PrincipalSpec::role(&role(name)));
        let of = CloudTargets {
            account: ACCOUNT.to_owned(),
            principals: vec![Principal::Role(role(name))],
            tags: BTreeMap::from([(TAG.to_owned(), name.to_owned())]),
            regions: Vec::new(),
        };
        targets.insert(AgentId::new(name).unwrap(), of);
    }
    spec.prices.insert(TYPE.to_owned(), "2.4192".parse().unwrap());
    let cloud = Arc::new(Rehearsal::new(spec, clock.clone()));
    let mut faults = Faults::seeded(seed);
    faults.delay = CALL;
    cloud.set_faults(faults);
    let setup = Setup {
        targets,
        // A single machine burns four cents a minute: the first look at it is one too many.
        budgets: daily(Usd::from_nanos(30_000_000)).into_iter().collect(),
        poll_every,
    };
    let guard = Guard::new(clock.clone(), Arc::new(Counting::default()), cloud.clone(), setup);
    (cloud, guard)
}

/// How long it took.
fn reaction(seed: u64, poll_every: Duration) -> Duration {
    let rng = Rng::new(seed);
    let mut phases = rng.fork("phase");
    let clock = Arc::new(VirtualClock::default());
    let (cloud, guard) = world(&clock, seed, poll_every);
    let region = *phases.pick(&REGIONS);
    let lived = run(&clock, async {
        let play = async {
            let phase = phases.millis(u64::try_from(poll_every.as_millis()).unwrap());
            clock.sleep(poll_every * 2 + phase).await;
            let launched = clock.now();
            let id = cloud.add(machine(region, "a"));
            let stops = |call: &&backstop::cloud::rehearsal::Call| call.operation == "ec2:StopInstances";
            for _ in 0..3_000 {
                if let Some(first) = cloud.calls().iter().find(stops) {
                    assert_eq!(first.subjects, [id]);
                    return first.at.duration_since(launched).unsigned_abs();
                }
                clock.sleep(Duration::from_millis(100)).await;
            }
            panic!("nothing was stopped in five minutes");
        };
        guard.live(play).await
    });
    lived.unwrap().unwrap()
}

fn react(poll: u64, name: &str) {
    let poll_every = Duration::from_secs(poll);
    let (mut took, mut all) = (Vec::new(), true);
    for of in 0..PARTS {
        all &= part(of, name, |seed| {
            let reaction = reaction(seed, poll_every);
            took.push(reaction);
            let late = reaction > poll_every + MORE;
            let said =
                format!("the first stop came {reaction:?} after the machine, and not within {poll} s + {MORE:?}");
            late.then_some(said).into_iter().collect()
        });
    }
    took.sort_unstable();
    let at = |percent: usize| {
        took.get(took.len() * percent / 100)
            .or(took.last())
            .copied()
            .unwrap_or_default()
    };
    eprintln!(
        "a look every {poll} s, {} phases: the first stop after {:.1?} to {:.1?}, p50 {:.1?}, p90 {:.1?}",
        took.len(),
        at(0),
        at(100),
        at(50),
        at(90)
    );
    // The phases are spread over the whole poll, so a reaction that is no matter of the poll would show.
    assert!(
        !all || (at(100) > poll_every * 3 / 4 && at(0) < poll_every / 2),
        "{took:?}"
    );
}

#[test]
fn within_a_poll_of_15_s_and_two_seconds() {
    react(15, "within_a_poll_of_15_s");
}

#[test]
fn within_a_poll_of_60_s_and_two_seconds() {
    react(60, "within_a_poll_of_60_s");
}
