//! 500 machines on the emulator: how long it takes until every stop was asked for. It asserts what was
//! asked and no duration, and takes a while, so it is run by hand:
//! `cargo nextest run --test it -E 'test(crowd)' --run-ignored all --no-capture`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::target::{CloudTargets, Guard, Principal, Region};
use backstop::domain::id::AgentId;
use backstop::killswitch::KillSettings;
use backstop::ports::Clock as _;
use backstop::system::SystemClock;

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::FaultProxy;
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::switch::{ForwardClock, Switch};

const TAG: &str = "backstop:agent";
const AGENT: &str = "crowd";
const REGIONS: [&str; 2] = ["eu-central-1", "us-east-1"];
const EACH: i32 = 250;

#[tokio::test]
#[ignore = "a measurement, run by hand"]
async fn a_crowd_of_500_machines_is_told_to_stop_in_one_pass() {
    let moto = Moto::start().await;
    let keys = Keys::any();
    let account = Account::new(&moto, &keys);
    let role = account.role("/agents/", AGENT).await;
    let mut owned = BTreeSet::new();
    for region in REGIONS {
        owned.extend(account.instances(region, EACH, &[(TAG, AGENT)]).await);
        account.instances(region, 50, &[(TAG, "other")]).await;
    }
    assert_eq!(owned.len(), 500);
    let proxy = FaultProxy::start(moto.endpoint()).await;
    let aws = AwsSettings {
        regions: REGIONS.map(|name| Region(name.to_owned())).to_vec(),
        endpoint_url: Some(proxy.endpoint()),
        ..patient()
    };
    let agent = AgentId::new(AGENT).expect("a name");
    let targets = CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: vec![Principal::Role(role)],
        tags: BTreeMap::from([(TAG.to_owned(), AGENT.to_owned())]),
        regions: REGIONS.map(|name| Region(name.to_owned())).to_vec(),
    };
    let settings = KillSettings {
        targets: BTreeMap::from([(agent.clone(), targets)]),
        guard: Guard::default(),
        call_limit: Duration::from_secs(60),
        step_patience: Duration::from_secs(120),
        ..KillSettings::default()
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cloud = Arc::new(Aws::new(moto.sdk(&keys, REGIONS[0]), aws));
    let switch = Switch::start(dir.path(), &agent, cloud, Arc::new(ForwardClock::default()), settings).await;
    switch.contain().await;
    let live = switch.live().await.expect("a containment lives");
    proxy.take_asked();

    let begun = SystemClock.monotonic();
    switch.kill.pass(live.id).await.expect("a pass is made");
    let took = SystemClock.monotonic().saturating_sub(begun);

    let asked = proxy.take_action("StopInstances");
    let told: Vec<&str> = asked.iter().flat_map(|one| one.list("InstanceId")).collect();
    assert_eq!(told.len(), 500, "each once");
    assert_eq!(told.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>(), owned);
    eprintln!(
        "500 machines in {} regions: one pass (look, deny, plan, record, {} stop calls) took {:.2} s",
        REGIONS.len(),
        asked.len(),
        took.as_secs_f64()
    );
}
