//! An account as `deploy/iam` makes it passes, by requests that name what they are about, and is left alone.

use std::collections::{BTreeMap, BTreeSet};

use super::place::{AGENT, Place, REGIONS, TAG, changes, found, shipped};
use super::simulator::keys;
use crate::harness::moto::ACCOUNT;
use crate::harness::permitted::Facts;
use crate::harness::policy::Policy;
use crate::harness::site::SOON;
use crate::harness::wait;

#[tokio::test]
async fn a_sound_account_passes_is_asked_precisely_and_is_left_as_it_was() {
    let place = Place::new().await;
    let account = place.account();
    place.simulate(&shipped("guard"));
    let before = account.states(REGIONS[0]).await;
    let tags_before = account.tags(REGIONS[0]).await;

    let daemon = place.site.start().await;
    // The watcher has looked everywhere once.
    let watched = wait::try_until(SOON, async || {
        let fleet = place.site.json(&["fleet"]).await;
        let regions = fleet["regions"].as_array().cloned().unwrap_or_default();
        let all = regions.len() == REGIONS.len() && regions.iter().all(|one| one["looked_at"].is_string());
        all.then_some(())
    })
    .await;
    assert!(watched.is_some(), "{}", daemon.log());
    place.proxy.take_asked();
    let (code, report, answer) = place.doctor(&[]).await;
    assert_eq!(code, Some(0), "{report:#}\n{}", answer.stderr);
    assert_eq!(report["examined_by"], "daemon");
    assert_eq!(report["subject"]["asked_as"], place.guard.as_str());
    assert_eq!(
        (report["ok"].as_bool(), report["counts"]["fail"].as_u64()),
        (Some(true), Some(0)),
        "{report:#}"
    );
    assert!(report["missing_policy"].is_null());
    for (check, says) in [
        ("config", "loads"),
        ("daemon", "ledger is healthy"),
        ("disk", "are free"),
        ("audit", "signed"),
        ("watcher", "the last look at every region"),
        ("identity", "account 123456789012"),
        ("clock", "agrees with AWS's"),
        ("endpoints", "ec2"),
        ("permissions", "has all"),
        ("guard rights", "may not delete data"),
        ("agent rights", "no way to the guard"),
        ("agents", "has room for the deny"),
        ("dry run", "could be stopped"),
        ("untagged", "stays still burning"),
    ] {
        let text = found(&report, check, "ok");
        assert!(text.contains(says), "{check}: {text:?}\n{report:#}");
    }
    let unbounded = found(&report, "boundary", "warn");
    assert!(
        !unbounded.contains(&place.role) && unbounded.contains(&place.user),
        "{unbounded}"
    );

    let asked = place.proxy.take_asked();
    let simulated: Vec<_> = asked
        .iter()
        .filter(|one| one.action == "SimulatePrincipalPolicy")
        .collect();
    let of = |action: &str, principal: &str| {
        let mut of = simulated.iter().filter(|one| {
            one.params["PolicySourceArn"] == principal && one.params.values().any(|value| value == action)
        });
        of.next()
            .unwrap_or_else(|| panic!("{action} of {principal} was not asked about"))
    };
    let stop = of("autoscaling:SuspendProcesses", &place.guard);
    assert_eq!(
        stop.params["ResourceArns.member.1"],
        format!(
            "arn:aws:autoscaling:eu-central-1:{ACCOUNT}:autoScalingGroup:00000000-0000-0000-0000-000000000000:\
             autoScalingGroupName/backstop-doctor"
        )
    );
    assert_eq!(
        keys(stop),
        BTreeMap::from(
            [
                ("aws:RequestedRegion", "eu-central-1"),
                ("aws:ResourceTag/backstop:agent", AGENT),
                ("autoscaling:ResourceTag/backstop:agent", AGENT),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        )
    );
    let put = of("iam:PutRolePolicy", &place.guard);
    assert_eq!(put.params["ResourceArns.member.1"], place.role);
    assert!(
        keys(put).is_empty(),
        "AWS sets no key there by which the shipped policy decides"
    );
    let attach = of("iam:AttachUserPolicy", &place.guard);
    assert_eq!(attach.params["ResourceArns.member.1"], place.user);
    let deny = format!("arn:aws:iam::{ACCOUNT}:policy/backstop/backstop-deny");
    assert_eq!(keys(attach)["iam:PolicyARN"], deny);
    let grant = of("kms:CreateGrant", &place.guard);
    assert_eq!(keys(grant)["kms:GrantIsForAWSResource"], "true");
    assert_eq!(grant.params["ContextEntries.member.1.ContextKeyType"], "boolean");
    let assume = of("sts:AssumeRole", &place.role);
    assert_eq!(assume.params["ResourceArns.member.1"], place.guard);

    // Nothing was changed, and nothing was asked that the shipped policy would refuse.
    let changing: Vec<_> = asked.iter().filter(|one| changes(one)).collect();
    assert!(changing.is_empty(), "{changing:#?}");
    let dry: BTreeSet<&str> = asked
        .iter()
        .filter(|one| one.action == "StopInstances")
        .flat_map(|one| one.list("InstanceId"))
        .collect();
    assert_eq!(dry, BTreeSet::from([place.machine.as_str()]));
    assert_eq!(account.states(REGIONS[0]).await, before);
    assert_eq!(account.tags(REGIONS[0]).await, tags_before);
    let facts = Facts {
        account: ACCOUNT.to_owned(),
        roles: BTreeMap::from([
            (AGENT.to_owned(), place.role.clone()),
            ("guard".to_owned(), place.guard.clone()),
        ]),
        users: BTreeMap::from([("legacy-bot".to_owned(), place.user.clone())]),
        tags: BTreeMap::from([(
            place.machine.clone(),
            BTreeMap::from([(TAG.to_owned(), AGENT.to_owned())]),
        )]),
    };
    let refused = facts.refused(&Policy::parse(&shipped("guard")), &asked);
    assert!(refused.is_empty(), "the shipped policy would refuse {refused:?}");

    // As a person reads it.
    let text = place.site.ok(&["doctor"]).await;
    assert!(text.contains("ok           permissions"), "{text}");
    drop(daemon);

    // Without the daemon the same is seen from here, and it is said that nobody answered.
    let (code, report, answer) = place.doctor(&[]).await;
    assert_eq!(code, Some(3), "{report:#}\n{}", answer.stderr);
    assert_eq!(report["examined_by"], "command");
    assert!(
        found(&report, "daemon", "fail").contains("no daemon answers"),
        "{report:#}"
    );
    assert!(found(&report, "permissions", "ok").contains("has all"), "{report:#}");
    let (code, report, answer) = place.doctor(&["--local"]).await;
    assert_eq!(code, Some(0), "{report:#}\n{}", answer.stderr);
    assert!(answer.stderr.contains("asking AWS from here"), "{}", answer.stderr);
}
