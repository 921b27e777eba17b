//! Fleets to start with.

use std::collections::BTreeMap;

use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec, PrincipalSpec};
use backstop::cloud::rehearsal::functions::FunctionSpec;
use backstop::cloud::rehearsal::groups::GroupSpec;
use backstop::cloud::rehearsal::services::{ServiceSpec, TaskSpec};
use backstop::cloud::rehearsal::standing::StandingSpec;
use backstop::domain::containment::observed::{InstanceState, SpotKind};
use backstop::domain::money::Usd;

use super::scene::{ACCOUNT, PROFILE, TAG, role, user};

pub fn base(regions: &[&str]) -> FleetSpec {
    let mut agent = PrincipalSpec::role(role().arn());
    agent.profile_arns = vec![PROFILE.to_owned()];
    FleetSpec::new(ACCOUNT, regions)
        .principal(agent)
        .principal(PrincipalSpec::user(user().arn(), &[("AKIA1", true), ("AKIA2", false)]))
        .principal(PrincipalSpec::role(&format!("arn:aws:iam::{ACCOUNT}:role/backstop")))
}

pub fn owned(region: &str, id: &str) -> MachineSpec {
    MachineSpec::new(region, "m7g.large").id(id).tag(TAG, "agent")
}

/// A little of everything, in two regions.
pub fn small() -> FleetSpec {
    let mut stopped = owned("us-east-1", "i-stopped");
    stopped.state = InstanceState::Stopped;
    let mut protected = owned("us-east-1", "i-protected");
    protected.stop_protected = true;
    let mut one_time = owned("eu-west-1", "i-onetime");
    one_time.spot = Some(SpotKind::OneTime);
    base(&["eu-west-1", "us-east-1"])
        .machine(owned("eu-west-1", "i-1"))
        .machine(
            MachineSpec::new("eu-west-1", "m7g.large")
                .id("i-profile")
                .profile(PROFILE),
        )
        .machine(one_time)
        .machine(
            MachineSpec::new("eu-west-1", "m7g.large")
                .id("i-foreign")
                .tag(TAG, "other"),
        )
        .machine(owned("us-east-1", "i-2"))
        .machine(stopped)
        .machine(protected)
        .machine(owned("us-east-1", "i-guard"))
}

/// A role whose inline policies leave no room, a user with credentials of single services, and a machine.
pub fn tight() -> FleetSpec {
    let mut fleet = base(&["eu-west-1"]).machine(owned("eu-west-1", "i-1"));
    for spec in &mut fleet.principals {
        if spec.principal == role() {
            spec.inline_chars = 10_240;
        } else if spec.principal == user() {
            spec.service_credentials = vec![("ACCA1".to_owned(), true), ("ACCA2".to_owned(), false)];
        }
    }
    fleet
}

/// 120 owned and 40 foreign machines in two regions.
pub fn large() -> FleetSpec {
    let mut fleet = base(&["eu-west-1", "us-east-1"]);
    for index in 0..160 {
        let region = if index % 2 == 0 { "eu-west-1" } else { "us-east-1" };
        let id = format!("i-{index:03}");
        fleet = fleet.machine(match index {
            // Ten by their profile alone.
            0..10 => MachineSpec::new(region, "m7g.large").id(&id).profile(PROFILE),
            10..120 => owned(region, &id),
            _ => MachineSpec::new(region, "m7g.large").id(&id).tag(TAG, "other"),
        });
    }
    fleet
}

/// What starts others, in two regions: a group, a service and a function of the agent, each found in another
/// way, and the same of another agent.
pub fn spawning() -> FleetSpec {
    let member = |region: &str| MachineSpec::new(region, "m7g.large");
    let task = |region: &str| TaskSpec::fargate(region, "main", 500, 1_000);
    let mut fleet = base(&["eu-west-1", "us-east-1"])
        // Its members carry no tag.
        .group(
            GroupSpec::new("workers", 2, member("eu-west-1"))
                .tag(TAG, "agent")
                .suspended("AZRebalance"),
        )
        .group(GroupSpec::new("theirs", 1, member("eu-west-1").tag(TAG, "other")).tag(TAG, "other"))
        .service(ServiceSpec::new("web", 2, task("us-east-1").acts_as(role().arn())))
        .service(ServiceSpec::new("theirs", 1, task("us-east-1").tag(TAG, "other")).tag(TAG, "other"))
        .function(FunctionSpec::new("us-east-1", "hot", usd(3)).acts_as(role().arn()))
        .function(
            FunctionSpec::new("us-east-1", "limited", usd(1))
                .tag(TAG, "agent")
                .reserved(7),
        )
        .function(FunctionSpec::new("us-east-1", "theirs", usd(1)).tag(TAG, "other"))
        .standing(StandingSpec::volume("eu-west-1", "vol-1", 100).tag(TAG, "agent"))
        .standing(StandingSpec::nat("us-east-1", "nat-1").tag(TAG, "agent"))
        .standing(StandingSpec::address("us-east-1", "eipalloc-1").tag(TAG, "other"))
        .machine(owned("eu-west-1", "i-1"));
    fleet.prices = prices();
    fleet
}

/// As list prices have them in us-east-1.
pub fn prices() -> BTreeMap<String, Usd> {
    let rows = [
        ("m7g.large", 81_600_000),
        ("fargate/x86/vcpu", 40_480_000),
        ("fargate/x86/gib", 4_445_000),
        ("ebs/gp3", 109_589),
        ("nat", 45_000_000),
        ("ipv4", 5_000_000),
    ];
    rows.map(|(rate, nanos)| (rate.to_owned(), Usd::from_nanos(nanos)))
        .into()
}

pub fn usd(dollars: i64) -> Usd {
    Usd::from_nanos(dollars * 1_000_000_000)
}
