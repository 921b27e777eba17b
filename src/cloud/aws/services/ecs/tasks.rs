//! Tasks: what runs, and what each is charged for.
//!
//! On Fargate a task is charged for the vCPUs and the memory that it asked for, by architecture and system, and
//! for temporary storage beyond 20 GiB (Fargate pricing, read 2026-11-20). Anywhere else it costs nothing of
//! its own: the machine that it runs on does.

use std::borrow::Cow;
use std::collections::BTreeSet;

use aws_sdk_ecs::types::{DesiredStatus, LaunchType, Task, TaskDefinition, TaskField};

use super::{BILLED, Ecs, SERVICE, TASK, TASKS, gone_is_nothing, short, tagged};
use crate::cloud::aws::services::{Place, pages, thousandths, timestamp};
use crate::domain::fleet::asset::{Asset, Brake};
use crate::domain::fleet::rate::Meter;
use crate::ports::CloudError;

/// What a task can have at most on Fargate, in ECS's units: a bound where it does not say what it has.
const MOST_CPU: u64 = 16 * 1_024;
const MOST_MEMORY: u64 = 120 * 1_024;

/// How ECS writes which deployment of a service started a task.
const STARTED_BY_A_SERVICE: &str = "ecs-svc/";

/// Storage that comes with a task.
const FREE_STORAGE: u64 = 20;

impl Ecs {
    /// Tasks that run, are on their way there, or are ending: one that should stop runs on, and is charged for,
    /// while its connections are drained and for as long as its containers take to end.
    pub(super) async fn tasks(&self, cluster: &str) -> Result<Vec<Asset>, CloudError> {
        let mut arns = self.task_arns(cluster, DesiredStatus::Running).await?;
        // Second, so that one that is told to stop in between is in one of the lists, or in both.
        arns.extend(self.task_arns(cluster, DesiredStatus::Stopped).await?);
        let arns: Vec<String> = arns.into_iter().collect();
        let chunks = arns
            .chunks(TASKS)
            .map(|some| self.described_tasks(cluster, some.to_vec()));
        let tasks = self.some_at_once(chunks).await?.into_iter().flatten();
        let tasks = tasks.filter(|task| !has_ended(task));
        let assets = tasks.map(|task| async {
            let definition = self.definition(task.task_definition_arn()).await;
            let definition = definition.as_ref().map(|definition| definition.as_deref());
            Ok(asset(&self.place, task, definition))
        });
        let assets: Vec<Option<Asset>> = self.some_at_once(assets).await?;
        Ok(assets.into_iter().flatten().collect())
    }

    async fn task_arns(&self, cluster: &str, desired: DesiredStatus) -> Result<BTreeSet<String>, CloudError> {
        let call = self.place.read("ecs:ListTasks");
        let size = self.place.page(100);
        let arns = pages(&call, |token| async {
            let _permit = self.place.look().await;
            let request = self.looks.list_tasks().cluster(cluster).max_results(size);
            let request = request.desired_status(desired.clone());
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.task_arns.unwrap_or_default(), page.next_token))
        });
        Ok(gone_is_nothing(arns.await)?.into_iter().collect())
    }

    async fn described_tasks(&self, cluster: &str, tasks: Vec<String>) -> Result<Vec<Task>, CloudError> {
        let call = self.place.read("ecs:DescribeTasks");
        let _permit = self.place.look().await;
        let request = self.looks.describe_tasks().cluster(cluster);
        let request = request.set_tasks(Some(tasks)).include(TaskField::Tags);
        let answer = request.send().await.map_err(|e| call.failed(e))?;
        // Failures are of tasks that ended meanwhile.
        Ok(answer.tasks.unwrap_or_default())
    }
}

/// ECS goes on telling of a task for an hour after its end.
fn has_ended(task: &Task) -> bool {
    matches!(task.last_status(), Some("STOPPED" | "DELETED"))
}

/// `None` for one without a name.
fn asset(place: &Place, task: Task, definition: Result<Option<&TaskDefinition>, &String>) -> Option<Asset> {
    let (definition, unread) = (definition.ok().flatten(), definition.err());
    let arn = task.task_arn()?;
    let cluster = task.cluster_arn().map(short);
    let cluster = cluster.or_else(|| arn.split('/').rev().nth(1)).unwrap_or("default");
    let overridden = task.overrides().and_then(|overrides| overrides.task_role_arn());
    let role = overridden.or_else(|| definition?.task_role_arn());
    let service = service(&task);
    Some(Asset {
        what: place.asset(&TASK, format!("{cluster}/{}", short(arn))),
        service: Cow::Borrowed(BILLED),
        acts_as: role.map(str::to_owned).into_iter().collect(),
        unread: unread.filter(|_| role.is_none()).cloned(),
        parent: service.map(|name| place.asset(&SERVICE, format!("{cluster}/{name}"))),
        created_at: timestamp(task.started_at.or(task.created_at)),
        meters: meters(&task, definition),
        brake: Brake::End,
        tags: tagged(task.tags),
    })
}

/// The service that started a task. Whoever runs a task may name its group as they like, so ECS's own mark of
/// who started it has to say so too.
fn service(task: &Task) -> Option<&str> {
    let started_by_one = task.started_by().is_some_and(|by| by.starts_with(STARTED_BY_A_SERVICE));
    let group = task.group().filter(|_| started_by_one);
    group.and_then(|group| group.strip_prefix("service:"))
}

fn meters(task: &Task, definition: Option<&TaskDefinition>) -> Vec<Meter> {
    let provider = task.capacity_provider_name();
    let is_spot = provider == Some("FARGATE_SPOT");
    if task.launch_type != Some(LaunchType::Fargate) && provider != Some("FARGATE") && !is_spot {
        return Vec::new();
    }
    let overrides = task.overrides();
    let cpu = overrides
        .and_then(|o| o.cpu())
        .or(task.cpu())
        .or_else(|| definition?.cpu());
    let memory = overrides
        .and_then(|o| o.memory())
        .or(task.memory())
        .or_else(|| definition?.memory());
    let cpu = cpu.and_then(units).unwrap_or(MOST_CPU);
    let memory = memory.and_then(units).unwrap_or(MOST_MEMORY);
    let vcpus = thousandths(cpu, 1_024);
    let kind = kind(task, definition);
    // There is no spot for Windows.
    let fargate = if is_spot && kind != "windows" {
        "fargate-spot"
    } else {
        "fargate"
    };
    let mut meters = vec![
        Meter::of(format!("{fargate}/{kind}/vcpu"), vcpus),
        Meter::of(format!("{fargate}/{kind}/gib"), thousandths(memory, 1_024)),
    ];
    if kind == "windows" {
        meters.push(Meter::of("fargate/windows/os", vcpus));
    }
    let storage = task.fargate_ephemeral_storage().map(|storage| storage.size_in_gib());
    let storage = storage.or_else(|| task.ephemeral_storage().map(|storage| storage.size_in_gib()));
    let storage = u64::try_from(storage.unwrap_or(0))
        .unwrap_or(0)
        .saturating_sub(FREE_STORAGE);
    if storage > 0 {
        meters.push(Meter::of("fargate/storage", thousandths(storage, 1)));
    }
    meters
}

/// What ECS writes as `1024`, or as it was written in the definition: `1 vCPU`, `0.5 GB`.
fn units(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(units) = text.parse() {
        return Some(units);
    }
    let small = text.to_ascii_lowercase();
    let number = ["vcpu", "gb"].iter().find_map(|unit| small.strip_suffix(unit))?.trim();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let part = if part.is_empty() {
        0
    } else {
        let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 6)?;
        let tenths = 10_u64.pow(digits);
        part.parse::<u64>().ok()?.checked_mul(1_024)?.div_ceil(tenths)
    };
    whole.checked_mul(1_024)?.checked_add(part)
}

/// The part of the rate that names architecture and system; x86, the dearer, where nothing is said.
fn kind(task: &Task, definition: Option<&TaskDefinition>) -> &'static str {
    let platform = definition.and_then(TaskDefinition::runtime_platform);
    let system = task
        .platform_family()
        .or_else(|| platform?.operating_system_family().map(|family| family.as_str()));
    if system.is_some_and(|system| system.to_ascii_lowercase().starts_with("windows")) {
        return "windows";
    }
    let attributes = task.attributes();
    let own = attributes.iter().find(|one| one.name() == "ecs.cpu-architecture");
    let own = own.and_then(|one| one.value());
    let architecture = own.or_else(|| platform?.cpu_architecture().map(|one| one.as_str()));
    match architecture {
        Some(name) if name.eq_ignore_ascii_case("arm64") => "arm",
        _ => "x86",
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{Attribute, CpuArchitecture, RuntimePlatform, TaskEphemeralStorage, TaskOverride};

    use super::*;

    fn told(task: &Task, definition: Option<&TaskDefinition>) -> String {
        let meters = meters(task, definition);
        let told: Vec<String> = meters.iter().map(|m| format!("{} {}", m.rate, m.thousandths)).collect();
        told.join(", ")
    }

    #[test]
    fn a_fargate_task_is_charged_for_what_it_asked_for() {
        let task = || {
            Task::builder()
                .launch_type(LaunchType::Fargate)
                .cpu("256")
                .memory("512")
        };
        assert_eq!(told(&task().build(), None), "fargate/x86/vcpu 250, fargate/x86/gib 500");
        let attribute = Attribute::builder().name("ecs.cpu-architecture").value("arm64");
        let arm = task().attributes(attribute.build().expect("it has a name"));
        assert_eq!(told(&arm.build(), None), "fargate/arm/vcpu 250, fargate/arm/gib 500");
        let storage = TaskEphemeralStorage::builder().size_in_gib(200).build();
        assert_eq!(
            told(&task().fargate_ephemeral_storage(storage).build(), None),
            "fargate/x86/vcpu 250, fargate/x86/gib 500, fargate/storage 180000"
        );
        assert_eq!(
            told(&task().platform_family("Windows_Server_2022_Core").build(), None),
            "fargate/windows/vcpu 250, fargate/windows/gib 500, fargate/windows/os 250"
        );
        let larger = TaskOverride::builder().cpu("2 vCPU").memory("4 GB").build();
        assert_eq!(
            told(&task().overrides(larger).build(), None),
            "fargate/x86/vcpu 2000, fargate/x86/gib 4000"
        );
    }

    #[test]
    fn a_task_is_a_services_when_ecs_says_that_one_started_it() {
        let of = |group: &str, by: Option<&str>| {
            let task = Task::builder().group(group).set_started_by(by.map(str::to_owned));
            service(&task.build()).map(str::to_owned)
        };
        assert_eq!(of("service:web", Some("ecs-svc/1234")).as_deref(), Some("web"));
        // As RunTask writes them, whatever group it was given.
        for by in [None, Some("an-agent"), Some("events-rule/ecs-svc/1")] {
            assert_eq!(of("service:web", by), None, "{by:?}");
        }
        assert_eq!(of("family:web", Some("ecs-svc/1234")), None);
    }

    #[test]
    fn spot_is_spot_and_other_machines_are_charged_for_themselves() {
        let task = Task::builder().cpu("1024").memory("2048");
        let spot = task.clone().capacity_provider_name("FARGATE_SPOT").build();
        assert_eq!(
            told(&spot, None),
            "fargate-spot/x86/vcpu 1000, fargate-spot/x86/gib 2000"
        );
        assert_eq!(told(&task.clone().launch_type(LaunchType::Ec2).build(), None), "");
        assert_eq!(told(&task.capacity_provider_name("my-machines").build(), None), "");
    }

    #[test]
    fn what_a_task_does_not_say_its_definition_does_or_the_bound() {
        let task = Task::builder().launch_type(LaunchType::Fargate).build();
        let platform = RuntimePlatform::builder()
            .cpu_architecture(CpuArchitecture::Arm64)
            .build();
        let definition = TaskDefinition::builder()
            .cpu(".5 vCPU")
            .memory("1 GB")
            .runtime_platform(platform);
        // No number of vCPUs that ECS writes begins with a point.
        assert_eq!(
            told(&task, Some(&definition.clone().build())),
            "fargate/arm/vcpu 16000, fargate/arm/gib 1000"
        );
        assert_eq!(
            told(&task, Some(&definition.cpu("0.5 vCPU").build())),
            "fargate/arm/vcpu 500, fargate/arm/gib 1000"
        );
        assert_eq!(told(&task, None), "fargate/x86/vcpu 16000, fargate/x86/gib 120000");
    }

    #[test]
    fn amounts_are_read_as_ecs_writes_them() {
        let cases = [
            ("1024", Some(1_024)),
            ("1 vCPU", Some(1_024)),
            ("0.25 vcpu", Some(256)),
            ("0.5GB", Some(512)),
            ("30 GB", Some(30 * 1_024)),
            ("", None),
            ("-1", None),
            ("many", None),
            ("1.0000000001 GB", None),
            ("99999999999999999999 GB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(units(text), expected, "{text}");
        }
    }
}
