//! Ten thousand machines: contained all the same, in bounded lists and few calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstop::app::incidents::guard::{Guard, Setup, daily};
use backstop::cloud::rehearsal::Rehearsal;
use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec, PrincipalSpec};
use backstop::domain::containment::coverage::MAX_LISTED;
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::target::{CloudTargets, Principal};
use backstop::domain::id::AgentId;
use backstop::domain::money::Usd;
use backstop::ports::{Clock as _, Store as _};
use backstop::system::virtual_time::{Counting, VirtualClock, run};

const ACCOUNT: &str = "123456789012";
const ROLE: &str = "arn:aws:iam::123456789012:role/agents/a";
const TAG: &str = "backstop:agent";
const REGIONS: [&str; 4] = ["ap-south-1", "eu-west-1", "us-east-1", "us-west-2"];
const TYPE: &str = "m7g.large";
const MANY: usize = 10_000;

#[test]
fn ten_thousand_machines_are_brought_down() {
    let mut spec = FleetSpec::new(ACCOUNT, &REGIONS).principal(PrincipalSpec::role(ROLE));
    spec.prices.insert(TYPE.to_owned(), "0.0816".parse().unwrap());
    for number in 0..MANY {
        let region = REGIONS[number % REGIONS.len()];
        spec = spec.machine(MachineSpec::new(region, TYPE).tag(TAG, "a"));
        if number % 10 == 0 {
            spec = spec.machine(MachineSpec::new(region, TYPE).tag(TAG, "somebody"));
        }
    }
    let clock = Arc::new(VirtualClock::default());
    let cloud = Arc::new(Rehearsal::new(spec, clock.clone()));
    let agent = AgentId::new("a").unwrap();
    let targets = CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: vec![Principal::Role(ROLE.to_owned())],
        tags: BTreeMap::from([(TAG.to_owned(), "a".to_owned())]),
        regions: Vec::new(),
    };
    let setup = Setup {
        targets: BTreeMap::from([(agent.clone(), targets)]),
        budgets: daily(Usd::from_dollars(10)).into_iter().collect(),
        poll_every: Duration::from_secs(15),
    };
    let guard = Guard::new(clock.clone(), Arc::new(Counting::default()), cloud.clone(), setup);
    let lived = run(
        &clock,
        guard.live(async {
            for _ in 0..600 {
                if guard.is_contained(&agent).await.unwrap() {
                    return;
                }
                clock.sleep(Duration::from_secs(1)).await;
            }
            panic!("it is not contained in ten minutes");
        }),
    );
    lived.unwrap().unwrap();
    let fleet = cloud.snapshot();
    assert_eq!(fleet.count(InstanceState::Stopped), MANY);
    assert_eq!(
        fleet.count(InstanceState::Running),
        MANY / 10,
        "other people's are not touched"
    );
    let calls = cloud.calls();
    let stops = calls
        .iter()
        .filter(|call| call.operation == "ec2:StopInstances")
        .count();
    assert_eq!(stops, MANY / 50, "in batches of fifty, each once");
    let last = run(&clock, guard.store.containments_of(&agent, 1))
        .unwrap()
        .unwrap()
        .remove(0);
    assert_eq!(last.coverage.stopped.len(), MAX_LISTED + 1);
    assert_eq!(
        last.coverage.stopped.last().unwrap(),
        &format!("and {} more", MANY - MAX_LISTED)
    );
    assert!(last.coverage.still_burning.len() <= MAX_LISTED + 1);
    eprintln!(
        "{MANY} machines: contained {:?} after the start, with {} calls",
        clock.monotonic(),
        calls.len()
    );
}
