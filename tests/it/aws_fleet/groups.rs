//! Auto Scaling groups.

use aws_sdk_autoscaling::types::{LaunchTemplateSpecification, Tag};
use aws_sdk_ec2::types::{
    InstanceType, LaunchTemplateIamInstanceProfileSpecificationRequest, RequestLaunchTemplateData,
};
use backstop::domain::fleet::asset::Brake;
use backstop::ports::{Cloud as _, InstanceFilter, Retry};

use super::*;
use crate::harness::fault_proxy::{Fault, Rule};

const PROCESSES: [&str; 8] = [
    "AZRebalance",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "Launch",
    "ReplaceUnhealthy",
    "ScheduledActions",
    "Terminate",
];

fn client(bench: &Bench) -> aws_sdk_autoscaling::Client {
    aws_sdk_autoscaling::Client::new(&bench.sdk())
}

/// A template whose machines have this profile, by ARN or by name; its id.
pub(super) async fn template(bench: &Bench, name: &str, profile: &str) -> String {
    let given = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
    let profile = if profile.starts_with("arn:") {
        given.arn(profile)
    } else {
        given.name(profile)
    };
    let data = RequestLaunchTemplateData::builder()
        .image_id("ami-12345678")
        .instance_type(InstanceType::T3Micro)
        .iam_instance_profile(profile.build());
    let request = bench.account().ec2(REGION).create_launch_template();
    let made = request.launch_template_name(name).launch_template_data(data.build());
    let made = made.send().await.expect("CreateLaunchTemplate");
    made.launch_template()
        .and_then(|one| one.launch_template_id())
        .expect("an id")
        .to_owned()
}

pub(super) async fn group(bench: &Bench, name: &str, template: &str, version: &str, size: i32) {
    let from = LaunchTemplateSpecification::builder()
        .launch_template_id(template)
        .version(version);
    let owner = Tag::builder()
        .key("backstop:agent")
        .value("a")
        .propagate_at_launch(false);
    let request = client(bench).create_auto_scaling_group().auto_scaling_group_name(name);
    request
        .launch_template(from.build())
        .availability_zones(format!("{REGION}a"))
        .min_size(0)
        .max_size(7)
        .desired_capacity(size)
        .tags(owner.resource_id(name).resource_type("auto-scaling-group").build())
        .send()
        .await
        .expect("CreateAutoScalingGroup");
}

#[tokio::test]
async fn groups_are_listed_over_all_pages_with_the_hands_of_their_machines() {
    let bench = Bench::start().await;
    let account = bench.account();
    account.role("/agents/", "a").await;
    let profile = account.profile("a", "a").await;
    let followed = template(&bench, "followed", &profile).await;
    let fixed = template(&bench, "fixed", "a").await;
    for n in 0..12 {
        let (template, version) = if n % 2 == 0 {
            (&followed, "$Latest")
        } else {
            (&fixed, "1")
        };
        group(&bench, &format!("workers {n}/x"), template, version, 0).await;
    }
    let groups = bench.assets("group").await;
    assert_eq!(groups.len(), 12);
    for asset in groups.values() {
        assert_eq!(asset.acts_as, std::slice::from_ref(&profile), "{asset:?}");
        assert_eq!(asset.tags["backstop:agent"], "a");
        assert_eq!((asset.is_capped(), asset.service.as_ref()), (Some(false), "AmazonEC2"));
        assert!(asset.meters.is_empty() && asset.created_at.is_some());
    }
    let asked = bench.asked().await;
    assert_eq!(
        actions(&asked),
        [
            "DescribeAutoScalingGroups",
            "DescribeAutoScalingGroups",
            "DescribeAutoScalingGroups",
            "DescribeLaunchTemplateVersions",
            "DescribeLaunchTemplateVersions",
            "GetInstanceProfile"
        ]
    );
    assert_eq!(asked[0].params["MaxRecords"], "5");
    // A version by number is asked for once ever, and so is a profile by name.
    assert_eq!(bench.assets("group").await, groups);
    let asked = bench.asked().await;
    assert_eq!(asked.len(), 4);
    let versions: Vec<&Asked> = asked.iter().filter(|one| one.action.ends_with("Versions")).collect();
    assert_eq!(versions.len(), 1);
    assert!(!versions[0].params.contains_key("LaunchTemplateId"));
    assert_eq!(versions[0].list("LaunchTemplateVersion"), ["$Latest", "$Default"]);
}

#[tokio::test]
async fn a_group_is_capped_by_its_processes_and_put_back_one_by_one() {
    let bench = Bench::start().await;
    let template = template(&bench, "t", "arn:aws:iam::123456789012:instance-profile/a").await;
    group(&bench, "workers", &template, "$Default", 2).await;
    let person = client(&bench).suspend_processes().auto_scaling_group_name("workers");
    person
        .scaling_processes("AlarmNotification")
        .send()
        .await
        .expect("SuspendProcesses");

    let before = bench
        .assets("group")
        .await
        .remove("group:eu-central-1/workers")
        .expect("it is listed");
    let Brake::Cap { now, capped } = &before.brake else {
        panic!("{before:?}")
    };
    assert_eq!(now.values().filter(|value| *value == "suspended").count(), 1);
    assert_eq!(capped.keys().collect::<Vec<_>>(), PROCESSES);
    bench.asked().await;

    bench
        .cloud
        .put_settings(&before.what, capped)
        .await
        .expect("it is capped");
    let asked = bench.asked().await;
    assert_eq!(actions(&asked), ["DescribeAutoScalingGroups", "SuspendProcesses"]);
    let differing: Vec<&str> = PROCESSES
        .into_iter()
        .filter(|name| *name != "AlarmNotification")
        .collect();
    assert_eq!(asked[1].list("ScalingProcesses.member"), differing);
    assert_eq!(
        bench.assets("group").await["group:eu-central-1/workers"].is_capped(),
        Some(true)
    );
    bench.asked().await;
    // Twice is as once.
    bench
        .cloud
        .put_settings(&before.what, capped)
        .await
        .expect("it is capped");
    assert_eq!(actions(&bench.asked().await), ["DescribeAutoScalingGroups"]);

    // Its machines run, and its sizes are what they were.
    let machines = bench
        .cloud
        .instances(&region(), &InstanceFilter::All)
        .await
        .expect("they are listed");
    assert_eq!(machines.len(), 2);
    for machine in machines {
        let asset = machine.to_asset();
        assert_eq!(asset.parent.as_ref(), Some(&before.what));
        assert_eq!(meters(&asset), [("ec2/t3.micro".to_owned(), 1_000)]);
    }
    let seen = client(&bench)
        .describe_auto_scaling_groups()
        .send()
        .await
        .expect("DescribeAutoScalingGroups");
    let seen = &seen.auto_scaling_groups()[0];
    assert_eq!(
        (seen.min_size(), seen.max_size(), seen.desired_capacity()),
        (Some(0), Some(7), Some(2))
    );
    bench.asked().await;

    bench
        .cloud
        .put_settings(&before.what, now)
        .await
        .expect("it is put back");
    let asked = bench.asked().await;
    assert_eq!(actions(&asked), ["DescribeAutoScalingGroups", "ResumeProcesses"]);
    assert_eq!(asked[1].list("ScalingProcesses.member"), differing);
    let after = bench
        .assets("group")
        .await
        .remove("group:eu-central-1/workers")
        .expect("it is listed");
    assert_eq!(after.brake, before.brake);
}

#[tokio::test]
async fn what_is_not_there_is_fine_and_what_is_no_setting_is_refused() {
    let bench = Bench::start().await;
    let gone = asset("group", "gone");
    bench
        .cloud
        .put_settings(&gone, &settings(&[("Launch", "suspended")]))
        .await
        .expect("it is gone");
    assert_eq!(actions(&bench.asked().await), ["DescribeAutoScalingGroups"]);
    for wrong in [("AddToLoadBalancer", "suspended"), ("Launch", "0"), ("max", "0")] {
        let error = bench
            .cloud
            .put_settings(&gone, &settings(&[wrong]))
            .await
            .expect_err("it is no setting");
        assert_eq!(
            (error.code.as_deref(), error.retry),
            (Some("UnknownSetting"), Retry::Never),
            "{wrong:?}"
        );
    }
    let error = bench.cloud.end(&gone).await.expect_err("a group is not ended");
    assert_eq!(error.code.as_deref(), Some("Unsuited"));
    let error = bench
        .cloud
        .assets(&region(), &Kind::named("castle"))
        .await
        .expect_err("nobody knows it");
    assert_eq!(
        (error.code.as_deref(), error.retry),
        (Some("UnknownKind"), Retry::Never)
    );
    assert!(bench.asked().await.is_empty());
}

#[tokio::test]
async fn a_change_is_attempted_once_and_a_look_again() {
    let bench = Bench::start().await;
    let template = template(&bench, "t", "arn:aws:iam::123456789012:instance-profile/a").await;
    group(&bench, "workers", &template, "1", 0).await;
    let group = asset("group", "workers");
    let cap = settings(&[("Launch", "suspended")]);
    let refuse = |status, code| Fault::Refuse {
        status,
        code,
        message: "not now",
    };
    let cases = [
        (refuse(400, "ResourceContention"), Retry::Transient),
        (refuse(400, "ScalingActivityInProgress"), Retry::Transient),
        (refuse(403, "AccessDenied"), Retry::Never),
        (Fault::Reset, Retry::UnknownOutcome),
        (Fault::LoseReply, Retry::UnknownOutcome),
    ];
    for (fault, retry) in cases {
        bench.proxy.inject(Rule::on("SuspendProcesses", fault.clone()));
        let resume = client(&bench).resume_processes().auto_scaling_group_name("workers");
        resume.send().await.expect("ResumeProcesses");
        let error = bench.cloud.put_settings(&group, &cap).await.expect_err("it fails");
        assert_eq!(error.retry, retry, "{fault:?}");
        assert_eq!(error.region, Some(region()));
        let asked = bench.asked().await;
        assert_eq!(
            asked.iter().filter(|one| one.action == "SuspendProcesses").count(),
            1,
            "{fault:?}"
        );
        bench.proxy.heal();
    }
    bench
        .proxy
        .inject(Rule::on("DescribeAutoScalingGroups", refuse(400, "Throttling")).times(1));
    assert_eq!(bench.assets("group").await.len(), 1);
    let listings = bench.asked().await;
    assert_eq!(
        listings
            .iter()
            .filter(|one| one.action == "DescribeAutoScalingGroups")
            .count(),
        2
    );
}

/// Synthetic: the emulator does not page these, and its templates have no versions that are deleted.
#[tokio::test]
async fn whose_hands_a_group_has_may_be_unknown_and_it_is_listed_still() {
    let bench = Bench::start().await;
    let template = template(&bench, "t", "unknown").await;
    group(&bench, "workers", &template, "1", 0).await;
    let gone = Fault::Refuse {
        status: 400,
        code: "InvalidLaunchTemplateId.VersionNotFound",
        message: "no",
    };
    bench
        .proxy
        .inject(Rule::on("DescribeLaunchTemplateVersions", gone).times(1));
    let groups = bench.assets("group").await;
    assert_eq!(groups["group:eu-central-1/workers"].acts_as, Vec::<String>::new());
    // It was not remembered as unknown.
    let groups = bench.assets("group").await;
    assert_eq!(
        groups["group:eu-central-1/workers"].acts_as,
        ["arn:aws:iam::123456789012:instance-profile/unknown"]
    );
}

/// C3: a template or a configuration that cannot be read leaves open whose a group is.
#[tokio::test]
async fn a_source_that_cannot_be_read_is_said() {
    let bench = Bench::start().await;
    let arn = "arn:aws:iam::123456789012:instance-profile/a";
    let template = template(&bench, "t", arn).await;
    let named = self::template(&bench, "named", "by-its-name").await;
    group(&bench, "numbered", &template, "1", 0).await;
    group(&bench, "follows", &template, "$Latest", 0).await;
    group(&bench, "named", &named, "1", 0).await;
    let denied = || Fault::Refuse {
        status: 403,
        code: "UnauthorizedOperation",
        message: "no",
    };
    bench.proxy.inject(Rule::on("DescribeLaunchTemplateVersions", denied()));
    let groups = bench.assets("group").await;
    for name in ["numbered", "follows", "named"] {
        let one = &groups[&format!("group:eu-central-1/{name}")];
        let why = one.unread.as_deref().expect("it says what is missing");
        assert!(
            one.acts_as.is_empty() && why.contains("DescribeLaunchTemplateVersions"),
            "{one:?}"
        );
    }
    bench.proxy.heal();
    bench.proxy.inject(Rule::on("GetInstanceProfile", denied()));
    let groups = bench.assets("group").await;
    for name in ["numbered", "follows"] {
        let one = &groups[&format!("group:eu-central-1/{name}")];
        assert_eq!(
            (one.acts_as.as_slice(), &one.unread),
            ([arn.to_owned()].as_slice(), &None)
        );
    }
    let one = &groups["group:eu-central-1/named"];
    assert!(
        one.unread
            .as_deref()
            .is_some_and(|why| why.contains("GetInstanceProfile")),
        "{one:?}"
    );
    // One that is not there is nobody's.
    bench.proxy.heal();
    let groups = bench.assets("group").await;
    assert_eq!(groups["group:eu-central-1/named"].unread, None);
}
