//! What planning a containment costs: `cargo bench --bench containment`.
//!
//! 500 and 10,000 of the agent's things among twice as many of others in five regions, as a sweep finds
//! them: all up; and once more when all are down, which is the plan of every sweep that only holds. Section
//! 10 of the design asks for 100 ms at most for 500. `mixed` has groups and functions among the machines,
//! and members of those groups. `look` is what the watcher does with one look at all of them, without its
//! calls. The last lines are the memory that a sweep's look and plan take, by the
//! kernel's word on the process.
//!
//! Every stop issued on the emulator is a test that is run by hand:
//! `cargo nextest run --test it -E 'test(crowd)' --run-ignored all --no-capture`.

mod fleet;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use backstop::domain::containment::observed::PrincipalState;
use backstop::domain::containment::plan::{Frame, Images, Plan, PlanInput, PlanRules, RegionView, plan};
use backstop::domain::containment::state::{Containment, Mode};
use backstop::domain::containment::steps::Steps;
use backstop::domain::containment::target::{CloudTargets, Guard, Principal};
use backstop::domain::fleet::price::FleetPrices;
use backstop::domain::id::{AgentId, ContainmentId};
use criterion::{Criterion, criterion_group};
use fleet::{ACCOUNT, Size, now};
use uuid::Uuid;

const SIZES: [(&str, Size); 4] = [
    ("500_machines", Size::machines(500)),
    ("500_mixed", Size::mixed(500)),
    ("10000_machines", Size::machines(10_000)),
    ("10000_mixed", Size::mixed(10_000)),
];

fn containment() -> Containment {
    let agent = AgentId::new("agent").expect("a name");
    Containment::opened(ContainmentId(Uuid::from_u128(1)), agent, 1, Mode::Contain, "", now())
}

fn role() -> Principal {
    Principal::Role(format!("arn:aws:iam::{ACCOUNT}:role/agents/agent"))
}

fn planned(views: &[RegionView], containment: &Containment, images: &Images, steps: &Steps) -> Plan {
    let targets = CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: vec![role()],
        tags: BTreeMap::from([("backstop:agent".to_owned(), "agent".to_owned())]),
        regions: Vec::new(),
    };
    let state = PrincipalState {
        exists: true,
        profile_arns: vec![format!("arn:aws:iam::{ACCOUNT}:instance-profile/agent")],
        ..PrincipalState::absent(role())
    };
    plan(&PlanInput {
        frame: Frame {
            now: now(),
            containment,
            targets: &targets,
            guard: &Guard::default(),
            account: Some(ACCOUNT),
            images,
            steps,
            foreign: &BTreeMap::new(),
            created: &BTreeSet::new(),
            others: &BTreeMap::new(),
            prices: &FleetPrices::default(),
            rules: &PlanRules::default(),
        },
        principals: vec![(role(), Ok(state))],
        regions: Ok(views.to_vec()),
        trusting: Ok(Vec::new()),
    })
}

/// What is to be done about the agent's things, and nothing about anybody else's.
fn check(first: &Plan, size: Size) {
    let regions = || first.regions.iter();
    let stops: usize = regions().flat_map(|region| &region.stops).map(Vec::len).sum();
    let caps: usize = regions().map(|region| region.caps.len()).sum();
    let waiting: usize = regions().map(|region| region.waiting.len()).sum();
    // A member waits for its group.
    assert_eq!(stops + waiting, size.machines_of_ours());
    assert_eq!(stops + waiting + caps, size.ours);
}

fn plans(c: &mut Criterion) {
    let containment = containment();
    for (name, size) in SIZES {
        let mut group = c.benchmark_group("plan");
        if size.ours > 1_000 {
            group.sample_size(20);
        }
        let up = size.views(false);
        let (none, no_steps) = (Images::new(), Steps::default());
        check(&planned(&up, &containment, &none, &no_steps), size);
        group.bench_function(format!("{name}_up"), |b| {
            b.iter(|| planned(black_box(&up), &containment, &none, &no_steps));
        });
        let down = size.views(true);
        let (images, steps) = size.after_the_first(&containment);
        let held = planned(&down, &containment, &images, &steps);
        assert!(
            held.regions.iter().all(|region| region.is_quiet()),
            "nothing is left to do"
        );
        group.bench_function(format!("{name}_held"), |b| {
            b.iter(|| planned(black_box(&down), &containment, &images, &steps));
        });
        group.finish();
    }
}

/// The most memory that the process has had since this was asked last, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib = line.split_whitespace().nth(1)?.parse().ok();
    // 5 sets the mark back to what is used now.
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    kib
}

/// What the look, what the store keeps and the plan take together, at their peak.
#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn memory() {
    let containment = containment();
    for (name, size) in SIZES {
        peak();
        let Some(before) = peak() else { return };
        let views = size.views(false);
        let (images, steps) = size.after_the_first(&containment);
        let plan = planned(&views, &containment, &images, &steps);
        let text = serde_json::to_string(&plan).map_or(0, |text| text.len());
        drop(black_box((views, images, steps, plan)));
        let Some(after) = peak() else { return };
        let took = after.saturating_sub(before) / 1_024;
        println!(
            "{name}: a look, its images, steps and plan take {took} MiB; the plan as JSON {} KiB",
            text / 1_024
        );
    }
    peak();
    let Some(before) = peak() else { return };
    let views = Size::machines(3_400).views(false);
    let mut watcher = look::Watcher::new();
    let text = watcher.look(&views);
    drop(black_box((views, watcher)));
    let Some(after) = peak() else { return };
    let took = after.saturating_sub(before) / 1_024;
    println!(
        "10200 machines: a look and the book take {took} MiB; the book as JSON {} KiB",
        text / 1_024
    );
}

criterion_group!(benches, plans, look::looks);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // `cargo test --benches` runs this too, to see that it runs.
    if std::env::args().any(|arg| arg == "--bench") {
        memory();
    }
}
