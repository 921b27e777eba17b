//! How many calls a look at a region takes, and capping all that starts something there.

use aws_sdk_ecs::types::SchedulingStrategy;
use backstop::domain::fleet::asset::Brake;
use backstop::ports::Cloud as _;

use super::functions::function;
use super::groups::{group, template};
use super::tasks::{cluster, definition, service};
use super::*;

/// Lists everything; the calls of each kind.
async fn sweep(bench: &Bench) -> (Vec<Asset>, BTreeMap<String, usize>) {
    let mut all = Vec::new();
    let mut calls = BTreeMap::new();
    for kind in bench.cloud.kinds() {
        let found = bench.cloud.assets(&region(), &kind).await;
        all.extend(found.expect("they are listed"));
        calls.insert(kind.to_string(), bench.proxy.take_asked().len());
    }
    (all, calls)
}

/// The fleet of the containment, in one region: 12 groups, 30 services in three clusters, 40 functions.
#[tokio::test]
async fn a_sweep_and_a_containment_take_few_calls() {
    let bench = Bench::with_page(1_000).await;
    let role = bench.account().role("/agents/", "a").await;
    let template = template(&bench, "t", "arn:aws:iam::123456789012:instance-profile/a").await;
    for n in 0..12 {
        group(&bench, &format!("g-{n}"), &template, "$Latest", 0).await;
    }
    let definition = definition(&bench).await;
    for name in ["red", "green", "blue"] {
        cluster(&bench, name).await;
        for n in 0..10 {
            service(
                &bench,
                name,
                &format!("s-{n}"),
                &definition,
                SchedulingStrategy::Replica,
            )
            .await;
        }
    }
    for n in 0..40 {
        function(&bench, &format!("f-{n}"), &role).await;
    }
    // The first look learns the task definition, which the others need not.
    sweep(&bench).await;
    let (assets, calls) = sweep(&bench).await;
    let expected = [
        ("address", 2),
        ("balancer", 1),
        ("classic-balancer", 1),
        ("ecs-service", 1 + 1 + 3 + 3),
        // Their counts say that there are no tasks; but each has services, which may start some.
        ("ecs-task", 1 + 1 + 3 * 2),
        // Its reservation is asked of each, its tags of ten in turn.
        ("function", 1 + 40 + 10),
        ("group", 1 + 1),
        ("nat", 1),
        ("volume", 1),
    ];
    assert_eq!(calls, expected.map(|(kind, calls)| (kind.to_owned(), calls)).into());

    let mut capped = 0;
    for asset in &assets {
        if let Brake::Cap { capped: cap, .. } = &asset.brake {
            bench.cloud.put_settings(&asset.what, cap).await.expect("it is capped");
            capped += 1;
        }
    }
    assert_eq!(capped, 12 + 30 + 40);
    let asked = bench.proxy.take_asked();
    // A group is looked at before it is changed.
    assert_eq!(asked.len(), 12 * 2 + 30 + 40);
    let (assets, _) = sweep(&bench).await;
    assert!(assets.iter().filter_map(Asset::is_capped).all(|is_capped| is_capped));
}
