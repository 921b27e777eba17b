//! ECS services and tasks.

use aws_sdk_ecs::types::{
    Compatibility, ContainerDefinition, CpuArchitecture, LaunchType, RuntimePlatform, SchedulingStrategy, Tag,
    TaskOverride,
};
use backstop::domain::fleet::asset::Brake;
use backstop::ports::{Cloud as _, Retry};
use serde_json::json;

use super::*;
use crate::harness::fault_proxy::{Fault, Rule};

const ROLE: &str = "arn:aws:iam::123456789012:role/agents/a";

fn client(bench: &Bench) -> aws_sdk_ecs::Client {
    aws_sdk_ecs::Client::new(&bench.sdk())
}

pub(super) async fn definition(bench: &Bench) -> String {
    // The emulator moves a task on whenever it is described, until it has ended; here it stays.
    let url = format!("{}/moto-api/state-manager/set-transition", bench.moto.endpoint());
    let body = json!({"model_name": "ecs::task", "transition": {"progression": "manual", "times": 1_000}});
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let set = http
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await;
    assert!(set.expect("the emulator answers").status().is_success());

    let container = ContainerDefinition::builder()
        .name("c")
        .image("busybox")
        .memory(256)
        .build();
    let platform = RuntimePlatform::builder()
        .cpu_architecture(CpuArchitecture::Arm64)
        .build();
    let request = client(bench).register_task_definition().family("f").task_role_arn(ROLE);
    let request = request.cpu("256").memory("512").container_definitions(container);
    let made = request
        .runtime_platform(platform)
        .requires_compatibilities(Compatibility::Ec2)
        .send()
        .await
        .expect("RegisterTaskDefinition");
    made.task_definition()
        .and_then(|one| one.task_definition_arn())
        .expect("an ARN")
        .to_owned()
}

pub(super) async fn cluster(bench: &Bench, name: &str) {
    client(bench)
        .create_cluster()
        .cluster_name(name)
        .send()
        .await
        .expect("CreateCluster");
}

pub(super) async fn service(bench: &Bench, cluster: &str, name: &str, definition: &str, strategy: SchedulingStrategy) {
    let request = client(bench)
        .create_service()
        .cluster(cluster)
        .service_name(name)
        .desired_count(3);
    let owner = Tag::builder().key("backstop:agent").value("a").build();
    let request = request
        .task_definition(definition)
        .scheduling_strategy(strategy)
        .tags(owner);
    request.send().await.expect("CreateService");
}

#[tokio::test]
async fn services_of_every_cluster_are_listed_capped_and_put_back() {
    let bench = Bench::start().await;
    let definition = definition(&bench).await;
    cluster(&bench, "main").await;
    cluster(&bench, "batch").await;
    for n in 0..12 {
        service(
            &bench,
            "main",
            &format!("web-{n}"),
            &definition,
            SchedulingStrategy::Replica,
        )
        .await;
    }
    service(&bench, "batch", "web-0", &definition, SchedulingStrategy::Replica).await;
    service(&bench, "batch", "agent", &definition, SchedulingStrategy::Daemon).await;

    let services = bench.assets("ecs-service").await;
    assert_eq!(services.len(), 14);
    let web = &services["ecs-service:eu-central-1/main/web-3"];
    assert_eq!(
        (web.acts_as.as_slice(), web.service.as_ref()),
        ([ROLE.to_owned()].as_slice(), "AmazonECS")
    );
    assert_eq!(web.tags["backstop:agent"], "a");
    assert_eq!(
        web.brake,
        Brake::Cap {
            now: settings(&[("desired", "3")]),
            capped: settings(&[("desired", "0")])
        }
    );
    let daemon = &services["ecs-service:eu-central-1/batch/agent"];
    assert!(
        matches!(&daemon.brake, Brake::Blocked { why } if why.contains("every machine")),
        "{daemon:?}"
    );
    let asked = bench.asked().await;
    let described: Vec<&Asked> = asked.iter().filter(|one| one.action == "DescribeServices").collect();
    let mut sizes: Vec<usize> = described
        .iter()
        .map(|one| {
            one.json
                .as_ref()
                .and_then(|json| json["services"].as_array())
                .map_or(0, Vec::len)
        })
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 2, 10]);
    assert!(described.iter().all(|one| one.params["include.0"] == "TAGS"));
    let definitions = asked
        .iter()
        .filter(|one| one.action == "DescribeTaskDefinition")
        .count();
    assert!(
        (1..=8).contains(&definitions),
        "it is remembered once it is known: {definitions}"
    );

    let cap = settings(&[("desired", "0")]);
    for _ in 0..2 {
        bench.cloud.put_settings(&web.what, &cap).await.expect("it is capped");
    }
    let asked = bench.asked().await;
    assert_eq!(actions(&asked), ["UpdateService", "UpdateService"]);
    assert_eq!(
        asked[0].json,
        Some(json!({"cluster": "main", "service": "web-3", "desiredCount": 0})),
        "nothing else is changed"
    );
    let services = bench.assets("ecs-service").await;
    assert_eq!(services["ecs-service:eu-central-1/main/web-3"].is_capped(), Some(true));
    let others = services.values().filter(|one| one.is_capped() == Some(true)).count();
    assert_eq!(
        others, 1,
        "the other cluster's service of that name among the others is as it was"
    );
    bench
        .cloud
        .put_settings(&web.what, &settings(&[("desired", "3")]))
        .await
        .expect("it is put back");
    assert_eq!(
        bench.assets("ecs-service").await["ecs-service:eu-central-1/main/web-3"].brake,
        web.brake
    );

    let gone = asset("ecs-service", "main/gone");
    bench
        .cloud
        .put_settings(&gone, &cap)
        .await
        .expect("what is gone is fine");
    let gone = asset("ecs-service", "nowhere/web");
    bench
        .cloud
        .put_settings(&gone, &cap)
        .await
        .expect("what is gone is fine");
    bench.asked().await;
    for wrong in [("desired", "-1"), ("desired", "none"), ("max", "0")] {
        let error = bench
            .cloud
            .put_settings(&web.what, &settings(&[wrong]))
            .await
            .expect_err("it is no setting");
        assert_eq!(
            (error.code.as_deref(), error.retry),
            (Some("UnknownSetting"), Retry::Never)
        );
    }
    let error = bench.cloud.end(&web.what).await.expect_err("a service is not ended");
    assert_eq!(error.code.as_deref(), Some("Unsuited"));
    assert!(bench.asked().await.is_empty());
}

#[tokio::test]
async fn tasks_are_listed_with_their_size_and_service_and_ended() {
    let bench = Bench::start().await;
    let definition = definition(&bench).await;
    cluster(&bench, "main").await;
    let run = |count: i32, group: Option<&str>, role: Option<&str>| {
        let request = client(&bench)
            .run_task()
            .cluster("main")
            .task_definition(&definition)
            .count(count);
        let overrides = role.map(|role| TaskOverride::builder().task_role_arn(role).build());
        let request = request.launch_type(LaunchType::Fargate).set_overrides(overrides);
        request.set_group(group.map(str::to_owned)).send()
    };
    run(3, Some("service:web"), None).await.expect("RunTask");
    run(1, None, Some("arn:aws:iam::123456789012:role/other"))
        .await
        .expect("RunTask");
    let tasks = bench.assets("ecs-task").await;
    assert_eq!(tasks.len(), 4);
    let of_service: Vec<&Asset> = tasks.values().filter(|task| task.parent.is_some()).collect();
    assert_eq!(of_service.len(), 3);
    for task in &of_service {
        assert_eq!(task.parent, Some(asset("ecs-service", "main/web")));
        assert_eq!(task.acts_as, [ROLE]);
        assert_eq!(task.brake, Brake::End);
        assert_eq!(
            meters(task),
            [
                ("fargate/arm/vcpu".to_owned(), 250),
                ("fargate/arm/gib".to_owned(), 500)
            ]
        );
    }
    let alone = tasks
        .values()
        .find(|task| task.parent.is_none())
        .expect("one stands alone");
    assert_eq!(
        alone.acts_as,
        ["arn:aws:iam::123456789012:role/other"],
        "the override goes before the definition"
    );
    bench.asked().await;

    let (id, one) = tasks.iter().next().expect("there are some");
    for _ in 0..2 {
        bench.cloud.end(&one.what).await.expect("it is ended");
    }
    let asked = bench.asked().await;
    assert_eq!(actions(&asked), ["StopTask", "StopTask"]);
    assert!(asked[0].params["reason"].contains("Backstop"), "{asked:?}");
    let left = bench.assets("ecs-task").await;
    assert!(left.len() == 3 && !left.contains_key(id), "{left:?}");
    let stopped = client(&bench).describe_tasks().cluster("main");
    let stopped = stopped
        .tasks(one.what.id.rsplit('/').next().expect("an id"))
        .send()
        .await
        .expect("DescribeTasks");
    assert!(
        stopped.tasks()[0]
            .stopped_reason()
            .is_some_and(|reason| reason.contains("Backstop"))
    );
}

/// Synthetic answers in the documented form: the emulator has no pages here and answers StopTask of a
/// task that it does not know otherwise than ECS does.
#[tokio::test]
async fn every_page_is_read_and_what_is_gone_is_fine() {
    let bench = Bench::start().await;
    let arn = |what: &str, id: &str| format!("arn:aws:ecs:{REGION}:123456789012:{what}/{id}");
    let page = |field: &str, arns: &[String], next: Option<&str>| Fault::Json(json!({field: arns, "nextToken": next}));
    let many: Vec<String> = (0..130).map(|n| arn("task", &format!("main/{n:032x}"))).collect();
    bench.proxy.inject(
        Rule::on(
            "ListClusters",
            page("clusterArns", &[arn("cluster", "main")], Some("more")),
        )
        .times(1),
    );
    bench
        .proxy
        .inject(Rule::on("ListClusters", page("clusterArns", &[arn("cluster", "odd")], None)).naming("more"));
    let gone = Fault::Refuse {
        status: 400,
        code: "ClusterNotFoundException",
        message: "Cluster not found.",
    };
    bench
        .proxy
        .inject(Rule::on("ListTasks", gone).naming(&arn("cluster", "odd")));
    bench
        .proxy
        .inject(Rule::on("ListTasks", page("taskArns", &many[100..], None)).naming("second"));
    bench
        .proxy
        .inject(Rule::on("ListTasks", page("taskArns", &many[..100], Some("second"))));
    let task = |n: usize, status: &str| {
        json!({"taskArn": many[n], "clusterArn": arn("cluster", "main"), "lastStatus": status, "launchType": "EC2",
            "group": "family:f", "createdAt": 1_795_000_000.5_f64, "version": 1})
    };
    let first: Vec<_> = (0..100).map(|n| task(n, "RUNNING")).collect();
    let second: Vec<_> = (100..130)
        .map(|n| task(n, if n == 110 { "STOPPED" } else { "PENDING" }))
        .collect();
    bench
        .proxy
        .inject(Rule::on("DescribeTasks", Fault::Json(json!({"tasks": first, "failures": []}))).naming(&many[0]));
    bench.proxy.inject(Rule::on(
        "DescribeTasks",
        Fault::Json(json!({"tasks": second, "failures": [{"reason": "MISSING"}]})),
    ));
    let tasks = bench.assets("ecs-task").await;
    assert_eq!(tasks.len(), 129, "one has ended");
    assert!(
        tasks.values().all(|task| task.meters.is_empty()),
        "machines of the account's own"
    );
    let asked = bench.asked().await;
    let count = |action: &str| asked.iter().filter(|one| one.action == action).count();
    assert_eq!(
        (count("ListClusters"), count("ListTasks"), count("DescribeTasks")),
        (2, 6, 2),
        "those that should run and those that should not, of both clusters"
    );
    let stopping = asked.iter().filter(|one| one.action == "ListTasks");
    let stopping = stopping.filter(|one| one.params["desiredStatus"] == "STOPPED");
    assert_eq!(stopping.count(), 3);

    bench.proxy.heal();
    let gone = |code, message| Fault::Refuse {
        status: 400,
        code,
        message,
    };
    let task = asset("ecs-task", "main/0abc");
    bench.proxy.inject(
        Rule::on(
            "StopTask",
            gone("InvalidParameterException", "The referenced task was not found."),
        )
        .times(1),
    );
    bench.cloud.end(&task).await.expect("it has ended");
    bench.proxy.inject(
        Rule::on(
            "StopTask",
            gone("InvalidParameterException", "taskId length should be one of [32,36]"),
        )
        .times(1),
    );
    let error = bench.cloud.end(&task).await.expect_err("that is no id");
    assert_eq!(error.retry, Retry::Never);
    bench.proxy.inject(Rule::on(
        "UpdateService",
        gone("ServiceNotActiveException", "Service was not ACTIVE."),
    ));
    let error = bench
        .cloud
        .put_settings(&asset("ecs-service", "main/web"), &settings(&[("desired", "0")]))
        .await;
    assert_eq!(error.expect_err("not now").retry, Retry::Transient);
    bench.proxy.heal();
    bench
        .proxy
        .inject(Rule::on("UpdateService", gone("ThrottlingException", "Rate exceeded")));
    let error = bench
        .cloud
        .put_settings(&asset("ecs-service", "main/web"), &settings(&[("desired", "0")]))
        .await;
    assert!(matches!(error.expect_err("not now").retry, Retry::After(_)));
}

/// Synthetic answers in the documented form: the emulator ends a task at once, and ECS when its containers have.
#[tokio::test]
async fn a_task_that_should_stop_is_there_until_it_has() {
    let bench = Bench::start().await;
    let arn = |what: &str, id: &str| format!("arn:aws:ecs:{REGION}:123456789012:{what}/{id}");
    let clusters = json!({"clusterArns": [arn("cluster", "main")]});
    bench.proxy.inject(Rule::on("ListClusters", Fault::Json(clusters)));
    let ids: Vec<String> = (0..6).map(|n| arn("task", &format!("main/{n:032x}"))).collect();
    let stopped = json!({"taskArns": ids[1..]});
    bench
        .proxy
        .inject(Rule::on("ListTasks", Fault::Json(stopped)).naming("STOPPED"));
    // One is told to stop between the two questions.
    let running = json!({"taskArns": ids[..2]});
    bench.proxy.inject(Rule::on("ListTasks", Fault::Json(running)));
    let states = [
        "RUNNING",
        "RUNNING",
        "DEACTIVATING",
        "STOPPING",
        "DEPROVISIONING",
        "STOPPED",
    ];
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let desired = if n == 0 { "RUNNING" } else { "STOPPED" };
            json!({"taskArn": ids[n], "clusterArn": arn("cluster", "main"), "lastStatus": states[n],
                "desiredStatus": desired, "launchType": "FARGATE", "cpu": "256", "memory": "512",
                "overrides": {"taskRoleArn": ROLE}, "version": 1})
        })
        .collect();
    let told = json!({"tasks": tasks, "failures": []});
    bench.proxy.inject(Rule::on("DescribeTasks", Fault::Json(told)));
    let tasks = bench.assets("ecs-task").await;
    assert_eq!(tasks.len(), 5, "{tasks:#?}");
    assert!(
        tasks
            .values()
            .all(|task| task.meters.len() == 2 && task.acts_as == [ROLE])
    );
    let asked = bench.asked().await;
    let described = asked
        .iter()
        .find(|one| one.action == "DescribeTasks")
        .expect("they are");
    let count = described
        .json
        .as_ref()
        .and_then(|json| json["tasks"].as_array())
        .map(Vec::len);
    assert_eq!(count, Some(6), "each once");
}

/// C3: a definition that cannot be read leaves open whose a service and its tasks are.
#[tokio::test]
async fn a_definition_that_cannot_be_read_is_said() {
    let bench = Bench::start().await;
    let definition = definition(&bench).await;
    cluster(&bench, "main").await;
    service(&bench, "main", "web", &definition, SchedulingStrategy::Replica).await;
    let run = client(&bench).run_task().cluster("main").task_definition(&definition);
    run.launch_type(LaunchType::Fargate).send().await.expect("RunTask");
    let denied = Fault::Refuse {
        status: 400,
        code: "AccessDeniedException",
        message: "no",
    };
    bench.proxy.inject(Rule::on("DescribeTaskDefinition", denied));
    for kind in ["ecs-service", "ecs-task"] {
        let found = bench.assets(kind).await;
        let one = found.values().next().expect("it is listed");
        assert_eq!(one.acts_as, Vec::<String>::new());
        let why = one.unread.as_deref().expect("and says what is missing");
        assert!(why.contains("DescribeTaskDefinition"), "{why}");
    }
    bench.proxy.heal();
    for kind in ["ecs-service", "ecs-task"] {
        let found = bench.assets(kind).await;
        let one = found.values().next().expect("it is listed");
        assert_eq!(
            (one.acts_as.as_slice(), &one.unread),
            ([ROLE.to_owned()].as_slice(), &None)
        );
    }
}

/// Clusters with nothing in them are told by their counts, a hundred in a call, once all were looked at.
#[tokio::test]
async fn empty_clusters_are_passed_over() {
    let bench = Bench::with_page(1_000).await;
    let definition = definition(&bench).await;
    for n in 0..120 {
        cluster(&bench, &format!("empty-{n}")).await;
    }
    cluster(&bench, "main").await;
    service(&bench, "main", "web", &definition, SchedulingStrategy::Replica).await;
    assert_eq!(bench.assets("ecs-service").await.len(), 1);
    let asked = bench.proxy.take_asked();
    let count = |asked: &[Asked], action: &str| asked.iter().filter(|one| one.action == action).count();
    assert_eq!(
        (count(&asked, "DescribeClusters"), count(&asked, "ListServices")),
        (0, 121)
    );

    cluster(&bench, "late").await;
    service(&bench, "late", "web", &definition, SchedulingStrategy::Replica).await;
    assert_eq!(bench.assets("ecs-service").await.len(), 2);
    let asked = bench.asked().await;
    assert_eq!(
        (count(&asked, "DescribeClusters"), count(&asked, "ListServices")),
        (2, 2)
    );

    // Without the counts all are looked at.
    let denied = Fault::Refuse {
        status: 400,
        code: "AccessDeniedException",
        message: "no",
    };
    bench.proxy.inject(Rule::on("DescribeClusters", denied));
    assert_eq!(bench.assets("ecs-service").await.len(), 2);
    let asked = bench.proxy.take_asked();
    assert_eq!(count(&asked, "ListServices"), 122);
}
