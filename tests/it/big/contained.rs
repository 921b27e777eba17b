//! What *contained* means, read past everything of ours; and what the report says of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::snapshot::{Difference, Snapshot};
use super::world::{Built, Run, texts};
use super::{AGENT, REGIONS};
use crate::harness::moto::ACCOUNT;

/// What a group has suspended while it is capped.
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

/// Region and id of a stable id.
fn parts(stable_id: &str) -> (&str, &str) {
    let (_, place) = stable_id.split_once(':').expect("a kind");
    place.split_once('/').expect("a region")
}

/// Everything of the agent that can be halted is halted, its principals are denied, and nothing else is changed.
pub async fn assert_contained(run: &Run<'_>) {
    let now = run.snapshot().await;
    let built = &run.world.built;
    let mut wrong = not_halted(built, &now);
    wrong.extend(undenied(&now));
    let touched = run.world.before.differences(&now);
    let foreign = touched.into_iter().filter(|one| !may_differ(built, one));
    wrong.extend(foreign.map(|one| format!("{one:?} was changed")));
    assert_eq!(wrong, Vec::<String>::new());
    assert!(
        !run.agent_may_act().await,
        "the session that was issued before is denied"
    );
}

fn not_halted(built: &Built, now: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |stable_id: &str, what: &Value, wanted: &Value| {
        if what != wanted {
            wrong.push(format!("{stable_id} is {what} and not {wanted}"));
        }
    };
    for kind in ["instance", "idle"] {
        for id in built.of(AGENT, kind) {
            let (region, instance) = parts(&id);
            let state = now.at(&[region, "ec2", "instances", instance, "State", "Name"]);
            check(&id, state, &json!("stopped"));
        }
    }
    for id in built.of(AGENT, "group") {
        let (region, name) = parts(&id);
        let suspended = now.at(&[region, "groups", name, "SuspendedProcesses"]);
        for process in PROCESSES {
            check(&id, &json!(suspended.get(process).is_some()), &json!(true));
        }
    }
    for id in built.of(AGENT, "ecs-service") {
        let (region, name) = parts(&id);
        let arn = format!("arn:aws:ecs:{region}:{ACCOUNT}:service/{name}");
        check(
            &id,
            now.at(&[region, "ecs", "services", &arn, "desiredCount"]),
            &json!(0),
        );
    }
    for id in built.of(AGENT, "ecs-task") {
        let (region, name) = parts(&id);
        let arn = format!("arn:aws:ecs:{region}:{ACCOUNT}:task/{name}");
        let desired = now.at(&[region, "ecs", "tasks", &arn, "desiredStatus"]);
        check(&id, desired, &json!("STOPPED"));
    }
    for id in built.of(AGENT, "function") {
        let (region, name) = parts(&id);
        check(&id, now.at(&[region, "functions", name, "concurrency"]), &json!(0));
    }
    wrong
}

fn undenied(now: &Snapshot) -> Vec<String> {
    let bot = format!("{AGENT}-bot");
    let mut wrong = Vec::new();
    for path in [["iam", "roles", AGENT, "inline"], ["iam", "users", &bot, "inline"]] {
        let deny = &now.at(&path)["backstop-deny"];
        let statements = deny["Statement"].as_array().into_iter().flatten();
        let denies = |one: &Value| one["Effect"] == "Deny" && one["Action"] == "*" && one["Resource"] == "*";
        if !statements.into_iter().any(denies) {
            wrong.push(format!("{path:?} has no deny: {deny}"));
        }
    }
    for path in [["iam", "users", &bot, "keys"], ["iam", "users", &bot, "credentials"]] {
        let all = now.at(&path).as_object().into_iter().flatten();
        let active = all.filter(|(_, one)| one["Status"] != "Inactive");
        wrong.extend(active.map(|(id, _)| format!("{path:?} {id} is active")));
    }
    wrong
}

/// Whether a field may differ while the agent is contained: it is one that halts, and of something that is its own.
fn may_differ(built: &Built, one: &Difference) -> bool {
    let bot = format!("{AGENT}-bot");
    let of_principals = [
        format!("iam/roles/{AGENT}/inline/backstop-deny"),
        format!("iam/users/{bot}/inline/backstop-deny"),
    ];
    let is_status =
        |list: &str| one.path.starts_with(&format!("iam/users/{bot}/{list}/")) && one.path.ends_with("/Status");
    if of_principals.contains(&one.path) || is_status("keys") || is_status("credentials") {
        return true;
    }
    let Some((region, rest)) = one.path.split_once('/') else {
        return false;
    };
    let mine = |kind: &str, id: &str| built.of(AGENT, kind).contains(&format!("{kind}:{region}/{id}"));
    let fields: Vec<&str> = rest.split('/').collect();
    match fields.as_slice() {
        ["ec2", "instances", id, "State", ..] => mine("instance", id),
        ["groups", name, "SuspendedProcesses", ..] => mine("group", name),
        ["functions", name, "concurrency" | "Concurrency", ..] => mine("function", name),
        ["ecs", "services", .., "desiredCount"] => {
            let arn = rest.strip_prefix("ecs/services/").unwrap_or_default();
            let services = built.of(AGENT, "ecs-service");
            services.iter().any(|id| {
                let (of, name) = parts(id);
                of == region && arn.starts_with(&format!("arn:aws:ecs:{region}:{ACCOUNT}:service/{name}/"))
            })
        }
        _ => is_ended(built, one),
    }
}

/// Whether it is of a task of the agent's: those are ended for good, and its services start others.
fn is_ended(built: &Built, one: &Difference) -> bool {
    built.of(AGENT, "ecs-task").iter().any(|id| {
        let (region, name) = parts(id);
        let arn = format!("arn:aws:ecs:{region}:{ACCOUNT}:task/{name}");
        one.path.starts_with(&format!("{region}/ecs/tasks/{arn}/"))
    })
}

/// What the coverage has to say of a whole containment, and nothing else. What burnt before is the most that was
/// seen at one time: where calls failed, that may be less than all of it, and never more.
pub fn assert_report(built: &Built, told: &Value, all_was_seen_at_once: bool) {
    let containment = &told["containment"];
    let coverage = &containment["coverage"];
    let all = |kind: &str| built.of(AGENT, kind);
    let both = |one: BTreeSet<String>, other: BTreeSet<String>| one.union(&other).cloned().collect::<BTreeSet<_>>();
    assert_eq!(texts(&coverage["stopped"]), both(all("instance"), all("idle")));
    let spawners = both(both(all("group"), all("ecs-service")), all("function"));
    assert_eq!(texts(&coverage["capped"]), spawners);
    assert_eq!(texts(&coverage["ended"]), all("ecs-task"));
    let denied = texts(&coverage["denied"]);
    for principal in [
        format!("role:arn:aws:iam::{ACCOUNT}:role/agents/{AGENT}"),
        format!("user:arn:aws:iam::{ACCOUNT}:user/agents/{AGENT}-bot"),
    ] {
        assert!(denied.contains(&principal), "{principal} in {denied:?}");
    }
    // Two keys and a credential, one key of which was inactive before.
    assert!((4..=5).contains(&denied.len()), "{denied:?}");

    // What only deletion stops goes on, each with its price; nothing of another agent's is in it, but for what
    // this one made and tagged as the other's, which is said and left alone.
    let burning = coverage["still_burning"].as_array().cloned().unwrap_or_default();
    let mut lines: BTreeMap<&str, &Value> = BTreeMap::new();
    for line in &burning {
        lines.insert(line["resource"].as_str().unwrap_or_default(), line);
    }
    for kind in ["volume", "nat", "address", "balancer", "classic-balancer"] {
        for id in all(kind) {
            let line = lines
                .get(id.as_str())
                .unwrap_or_else(|| panic!("{id} is not said to burn"));
            assert!(dollars(&line["usd_per_hour"]) > 0.0, "{line}");
            assert!(line["why"].as_str().is_some_and(|why| !why.is_empty()), "{line}");
        }
    }
    let stopped = texts(&coverage["stopped"]);
    for id in stopped.iter().chain(&spawners) {
        assert!(!lines.contains_key(id.as_str()), "{id} is halted, and said to burn");
    }
    for owner in ["planner", "reviewer", "nobody"] {
        for kind in [
            "instance",
            "group",
            "ecs-service",
            "ecs-task",
            "function",
            "volume",
            "nat",
            "balancer",
        ] {
            for id in built.of(owner, kind) {
                let why = lines
                    .get(id.as_str())
                    .map(|line| line["why"].as_str().unwrap_or_default());
                assert!(why.is_none_or(|why| why.contains("left alone")), "{id}: {why:?}");
            }
        }
    }

    // Dollars: what was halted and what burns on add up to what burnt before.
    let burn = &coverage["burn"];
    let (before, now) = (
        dollars(&burn["before_usd_per_hour"]),
        dollars(&burn["now_usd_per_hour"]),
    );
    let price = |id: &str| dollars(&coverage["prices"][id]["usd_per_hour"]);
    let machines: f64 = all("instance").iter().map(|id| price(id)).sum();
    let tasks: f64 = all("ecs-task").iter().map(|id| price(id)).sum();
    assert!(machines > 100.0 && tasks > 0.0, "{machines} {tasks}");
    // A public address goes with the task that had it.
    let prices = coverage["prices"].as_object().expect("prices");
    let down = both(all("instance"), all("ecs-task"));
    let gone = prices
        .iter()
        .filter(|(id, _)| !down.contains(*id) && !lines.contains_key(id.as_str()));
    let addresses: f64 = gone
        .inspect(|(id, _)| assert!(id.starts_with("address:"), "{id} is neither halted nor burning"))
        .map(|(_, price)| dollars(&price["usd_per_hour"]))
        .sum();
    let halted = machines + tasks + addresses;
    let missed = now + halted - before;
    assert!(missed > -0.01 && before > now, "{before} {now} {halted}");
    assert!(
        missed < 0.01 || !all_was_seen_at_once,
        "{before} {now} {machines} {tasks} {addresses}"
    );
    let lines: f64 = burning.iter().map(|line| dollars(&line["usd_per_hour"])).sum();
    assert!(
        (now - lines).abs() < 0.01,
        "what burns on is {now}, and its lines are {lines}"
    );
    assert!(dollars(&coverage["burnt_usd"]) > 0.0);

    // Seconds from the breach, or from the opening: each class once, none before its beginning.
    let seconds: BTreeMap<&str, (f64, f64)> = coverage["seconds"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let number = |name: &str| one[name].as_f64().unwrap_or(-1.0);
            (
                one["step"].as_str().unwrap_or_default(),
                (number("first_s"), number("last_s")),
            )
        })
        .collect();
    assert_eq!(
        seconds.keys().copied().collect::<Vec<_>>(),
        ["cap", "deny", "end", "quiet", "stop"]
    );
    assert!(
        seconds.values().all(|(first, last)| *first >= 0.0 && first <= last),
        "{seconds:?}"
    );
    assert!(
        seconds["deny"].0 <= seconds["stop"].0 && seconds["stop"].1 <= seconds["quiet"].1,
        "{seconds:?}"
    );
    assert!(REGIONS.len() == 3 && containment["sweeps"].as_i64() >= Some(2));
}

/// When each class of steps was done, in a line.
pub fn seconds(told: &Value) -> String {
    let rows = told["containment"]["coverage"]["seconds"]
        .as_array()
        .into_iter()
        .flatten();
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap_or_default();
    let told = rows.map(|row| {
        let (first, last) = (number(row, "first_s"), number(row, "last_s"));
        format!("{} {first:.1} to {last:.1} s", row["step"].as_str().unwrap_or_default())
    });
    told.collect::<Vec<_>>().join(", ")
}

/// An amount as the API writes it; nothing where there is none.
pub fn dollars(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// Everything is as it was, but for what is left out by name, and for the tasks that were ended.
pub async fn assert_restored(run: &Run<'_>) {
    let mut differences = run.world.before.differences(&run.snapshot().await);
    differences.retain(|one| !is_ended(&run.world.built, one));
    assert_eq!(differences, Vec::new());
    assert!(run.agent_may_act().await, "the session works again");
}
