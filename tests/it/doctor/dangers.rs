//! What must not be, and what is not there: an agent with a way to the guard, a region that is silent, a
//! config of another account, a unit without its hardening.

use super::place::{AGENT, Place, REGIONS, found, shipped};
use super::simulator::Simulator;
use crate::harness::fault_proxy::{Fault, Rule};
use crate::harness::moto::ACCOUNT;

const EVERYTHING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

#[tokio::test]
async fn a_guard_that_agents_can_change_is_a_warning_and_strictly_a_failure() {
    let place = Place::new().await;
    place.simulate_all(EVERYTHING, EVERYTHING);
    let iam = place.account();
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:root"}},"Action":"sts:AssumeRole"}}]}}"#
    );
    let open = iam.iam().update_assume_role_policy().role_name("guard");
    open.policy_document(trust)
        .send()
        .await
        .expect("UpdateAssumeRolePolicy");
    let (code, report, answer) = place.doctor(&["--local"]).await;
    assert_eq!(code, Some(0), "warnings are allowed: {report:#}\n{}", answer.stderr);
    let agents = found(&report, "agent rights", "warn");
    for says in [
        "may change the guard: iam:AttachRolePolicy",
        "may become the guard",
        "lift another agent's deny",
    ] {
        assert!(agents.contains(says), "{says}: {agents}");
    }
    assert!(agents.contains(AGENT) && agents.contains(&place.user), "{agents}");
    assert!(
        found(&report, "guard rights", "warn").contains("iam:PassRole"),
        "{report:#}"
    );
    assert!(
        found(&report, "boundary", "warn").contains(&place.user),
        "the user has none: {report:#}"
    );
    assert!(
        found(&report, "untagged", "ok").contains("can be stopped too"),
        "{report:#}"
    );
    let (code, report, _) = place.doctor(&["--local", "--strict"]).await;
    assert_eq!((code, report["ok"].as_bool()), (Some(1), Some(false)), "{report:#}");
}

#[tokio::test]
async fn what_is_silent_or_elsewhere_fails_by_name_and_holds_up_nothing_else() {
    let place = Place::new().await;
    place.simulate(&shipped("guard"));
    let [_, there] = REGIONS;
    place
        .proxy
        .inject(Rule::on("ListClusters", Fault::Reset).in_region(there));
    let elsewhere = Fault::Refuse {
        status: 403,
        code: "UnrecognizedClientException",
        message: "The security token included in the request is invalid.",
    };
    place
        .proxy
        .inject(Rule::on("DescribeLoadBalancers", elsewhere).in_region(there));
    let unit = include_str!("../../../deploy/backstop.service").replace("NoNewPrivileges=yes\n", "");
    place.site.write("own.service", &unit);
    let (code, report, answer) = place.doctor(&["--local", "--unit", "./own.service"]).await;
    assert_eq!(code, Some(1), "{report:#}\n{}", answer.stderr);
    let places = found(&report, "endpoints", "fail");
    assert!(
        places.contains("ecs does not answer") && places.contains("is the region enabled"),
        "{places}"
    );
    assert!(places.contains(there) && !places.contains(REGIONS[0]), "{places}");
    assert!(found(&report, "permissions", "ok").contains("has all"), "{report:#}");
    assert!(
        found(&report, "unit", "warn").contains("NoNewPrivileges=yes"),
        "{report:#}"
    );

    // Of a role that is not ours, what it may is seen all the same.
    let other = "arn:aws:iam::123456789012:role/backstop/other";
    let boundary = shipped("boundary");
    let simulator = Simulator::default().with(other, &shipped("guard"));
    place.answer_with(simulator.with(&place.role, &boundary).with(&place.user, &boundary));
    let (code, report, answer) = place.doctor(&["--local", "--role", other]).await;
    assert_eq!(code, Some(0), "{report:#}\n{}", answer.stderr);
    assert_eq!(report["subject"]["about"], other);
    assert!(found(&report, "permissions", "ok").contains(other), "{report:#}");
    assert!(found(&report, "dry run", "not_checked").contains("only"), "{report:#}");

    place.simulate(&shipped("guard"));
    // An agent of another account, under credentials that AWS does not know.
    let wrong = |text: String| text.replace(ACCOUNT, "210987654321");
    let config = std::fs::read_to_string(place.site.path("config.toml")).expect("it is there");
    place.site.write("other.toml", &wrong(config));
    let (code, report, answer) = place.doctor(&["--local", "--config", "other.toml"]).await;
    assert_eq!(code, Some(1), "{report:#}\n{}", answer.stderr);
    assert!(
        found(&report, "agents", "fail").contains("is in account 210987654321"),
        "{report:#}"
    );
    let unknown = Fault::Refuse {
        status: 403,
        code: "InvalidClientTokenId",
        message: "The security token included in the request is invalid.",
    };
    place.proxy.heal();
    place.proxy.inject(Rule::on("GetCallerIdentity", unknown));
    let (code, report, answer) = place.doctor(&["--local"]).await;
    assert_eq!(code, Some(1), "{report:#}\n{}", answer.stderr);
    assert!(
        found(&report, "identity", "fail").contains("does not say who we are"),
        "{report:#}"
    );
    assert!(
        found(&report, "clock", "ok").contains("agrees"),
        "a refusal has a date too: {report:#}"
    );
    assert!(
        found(&report, "permissions", "not_checked").contains("without credentials"),
        "{report:#}"
    );
}
