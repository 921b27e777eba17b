//! Somebody goes on launching while the agent is contained: the agent itself, with its own session, until the deny
//! bites; and a role that no agent declares, which nothing of ours denies. Sweeps win, and the report says
//! how much was burnt.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_autoscaling::types::{LaunchTemplateSpecification, Tag as GroupTag};
use aws_sdk_ec2::types::{IamInstanceProfileSpecification, InstanceType, ResourceType, Tag, TagSpecification};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use serde_json::Value;

use super::contained::dollars;
use super::record::assert_sound_with;
use super::world::{LONG, Run, World, texts};
use super::{AGENT, REGIONS};
use crate::harness::moto::Keys;
use crate::harness::wait;

const TAG: &str = "backstop:agent";
/// How often the role outside comes back, each time after another look of the daemon's at each region.
const ROUNDS: usize = 8;

/// What was launched, by stable id, and whether it carries the agent's tag.
#[derive(Debug, Default)]
struct Launched(BTreeMap<String, bool>);

impl Launched {
    fn note(&mut self, kind: &str, region: &str, id: &str, is_tagged: bool) {
        self.0.insert(format!("{kind}:{region}/{id}"), is_tagged);
    }

    fn of(&self, kind: &str) -> BTreeSet<String> {
        let prefix = format!("{kind}:");
        self.0.keys().filter(|id| id.starts_with(&prefix)).cloned().collect()
    }
}

/// Somebody who launches with these keys.
struct Launcher<'a> {
    run: &'a Run<'a>,
    keys: &'a Keys,
}

impl Launcher<'_> {
    /// A machine with the agent's tag, or with nothing but its instance profile; `None` once that is denied.
    async fn machine(&self, region: &str, is_tagged: bool, launched: &mut Launched) -> Option<()> {
        let ec2 = aws_sdk_ec2::Client::new(&self.run.moto.sdk(self.keys, region));
        let request = ec2
            .run_instances()
            .image_id("ami-12345678")
            .instance_type(InstanceType::M5Large);
        let request = if is_tagged {
            let tag = Tag::builder().key(TAG).value(AGENT).build();
            let spec = TagSpecification::builder()
                .resource_type(ResourceType::Instance)
                .tags(tag);
            request.tag_specifications(spec.build())
        } else {
            let profile = &self.run.world.built.profiles()[AGENT];
            request.iam_instance_profile(IamInstanceProfileSpecification::builder().arn(profile).build())
        };
        match request.min_count(1).max_count(1).send().await {
            Ok(answer) => {
                for one in answer.instances() {
                    launched.note("instance", region, one.instance_id().expect("an id"), is_tagged);
                }
                Some(())
            }
            Err(error) if error.code() == Some("AccessDenied") => None,
            Err(error) => panic!("RunInstances: {error:?}"),
        }
    }

    /// A group of two machines, from the agent's own template.
    async fn group(&self, region: &str, name: &str, launched: &mut Launched) {
        let scaling = aws_sdk_autoscaling::Client::new(&self.run.moto.sdk(self.keys, region));
        let template = LaunchTemplateSpecification::builder()
            .launch_template_name("scaler")
            .version("$Latest");
        let tag = GroupTag::builder()
            .key(TAG)
            .value(AGENT)
            .resource_id(name)
            .resource_type("auto-scaling-group")
            .propagate_at_launch(true);
        let request = scaling.create_auto_scaling_group().auto_scaling_group_name(name);
        let request = request
            .launch_template(template.build())
            .availability_zones(format!("{region}a"));
        let request = request.min_size(0).max_size(9).desired_capacity(2).tags(tag.build());
        request.send().await.expect("CreateAutoScalingGroup");
        launched.note("group", region, name, true);
        let seen = scaling
            .describe_auto_scaling_groups()
            .auto_scaling_group_names(name)
            .send()
            .await;
        let seen = seen.expect("DescribeAutoScalingGroups");
        for member in seen.auto_scaling_groups().iter().flat_map(|group| group.instances()) {
            launched.note("instance", region, member.instance_id().expect("an id"), true);
        }
    }

    /// Two tasks that nobody tagged, by the agent's definition; and a capped service is set going again.
    async fn tasks(&self, region: &str, launched: &mut Launched) {
        let ecs = aws_sdk_ecs::Client::new(&self.run.moto.sdk(self.keys, region));
        let request = ecs.run_task().cluster("cluster-0").task_definition("scaler").count(2);
        let answer = request
            .launch_type(aws_sdk_ecs::types::LaunchType::Fargate)
            .send()
            .await;
        for task in answer.expect("RunTask").tasks() {
            let arn = task.task_arn().expect("an ARN");
            let id = arn.rsplit('/').next().unwrap_or_default();
            launched.note("ecs-task", region, &format!("cluster-0/{id}"), false);
        }
        let request = ecs
            .update_service()
            .cluster("cluster-0")
            .service("scaler-3")
            .desired_count(3);
        request.send().await.expect("UpdateService");
    }
}

/// The agent launches until it is denied.
async fn agent_launches(run: &Run<'_>) -> Launched {
    let launcher = Launcher {
        run,
        keys: run.session(),
    };
    let mut launched = Launched::default();
    let denied = wait::try_until(LONG, async || {
        for region in REGIONS {
            if launcher.machine(region, false, &mut launched).await.is_none() {
                return Some(());
            }
        }
        None
    });
    assert!(denied.await.is_some(), "it is never denied");
    launched
}

/// The role outside launches whenever the daemon has looked.
async fn outsider_launches(run: &Run<'_>) -> Launched {
    let launcher = Launcher {
        run,
        keys: run.outsider(),
    };
    let mut launched = Launched::default();
    for round in 0..ROUNDS {
        let looks = run.proxy.count("DescribeInstances");
        for region in REGIONS {
            let machine = launcher.machine(region, round % 2 == 0, &mut launched).await;
            assert!(machine.is_some(), "nothing of ours denies it");
        }
        let region = REGIONS[round % REGIONS.len()];
        launcher.tasks(region, &mut launched).await;
        if round % 2 == 1 {
            launcher.group(region, &format!("again-{round}"), &mut launched).await;
        }
        let looked = wait::try_until(LONG, async || {
            (run.proxy.count("DescribeInstances") >= looks + REGIONS.len()).then_some(())
        });
        assert!(looked.await.is_some(), "the daemon looks no more");
    }
    launched
}

#[tokio::test]
async fn what_others_keep_starting_is_halted_for_as_long_as_they_do() {
    let world = World::new().await;
    let run = world.run().await;
    let site = &run.site;
    let daemon = site.start().await;
    run.breach(&daemon).await;
    let (by_agent, by_outsider) = tokio::join!(agent_launches(&run), outsider_launches(&run));
    eprintln!(
        "launched: {} by the agent, {} by others",
        by_agent.0.len(),
        by_outsider.0.len()
    );
    assert!(!by_agent.0.is_empty(), "the deny takes a moment");

    let built = &world.built;
    let mut machines = built.of(AGENT, "instance");
    machines.extend(by_agent.of("instance"));
    machines.extend(by_outsider.of("instance"));
    let told = run.until_contained(&daemon, &machines).await;
    let coverage = &told["containment"]["coverage"];
    let list = |name: &str| texts(&coverage[name]);
    for (kind, name) in [("instance", "stopped"), ("group", "capped"), ("ecs-task", "ended")] {
        for launched in [&by_agent, &by_outsider] {
            let missing: Vec<String> = launched.of(kind).difference(&list(name)).cloned().collect();
            assert_eq!(missing, Vec::<String>::new(), "{name}");
        }
    }
    assert!(
        built.of(AGENT, "ecs-service").is_subset(&list("capped")),
        "what was set going is capped again"
    );
    let audit = site.audit().await;
    assert!(
        audit
            .iter()
            .any(|(_, reason)| reason.contains("scaler-3") && reason.contains("capped again")),
        "{audit:#?}"
    );
    assert_burnt(coverage);
    eprintln!("sweeps: {}", told["containment"]["sweeps"]);

    // The others' things are as they were.
    for owner in ["planner", "reviewer", "nobody"] {
        let theirs = built.of(owner, "instance");
        assert_eq!(run.running(&theirs).await, theirs, "{owner}");
    }
    assert!(daemon.stop().await.success());
    let since = by_agent.0.into_iter().chain(by_outsider.0).collect();
    assert_sound_with(&world, &run.proxy.take_asked(), &since).await;
}

/// The fleet burnt at least until its first machine was stopped, and what was launched in between is in it.
fn assert_burnt(coverage: &Value) {
    let seconds = coverage["seconds"].as_array().cloned().unwrap_or_default();
    let stop = seconds
        .iter()
        .find(|one| one["step"] == "stop")
        .expect("machines were stopped");
    let first = stop["first_s"].as_f64().expect("seconds");
    let price = |id: &String| dollars(&coverage["prices"][id]["usd_per_hour"]);
    let machines: f64 = texts(&coverage["stopped"]).iter().map(price).sum();
    let (burnt, before) = (
        dollars(&coverage["burnt_usd"]),
        dollars(&coverage["burn"]["before_usd_per_hour"]),
    );
    eprintln!("burnt: ${burnt} in all; ${before} an hour before, {seconds:#?}");
    assert!(before >= machines, "{before} {machines}");
    let least = 0.5 * machines * first / 3_600.0;
    assert!(
        burnt > least && burnt > 0.0,
        "{burnt} is said, and {least} is the least"
    );
}
