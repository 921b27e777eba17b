//! One row of the rules about what starts others at a time.

use super::model::{
    self, Fuel, GROUP, TASK, World, group, instance, owned, region, role, service, settings, task, volume,
};
use crate::domain::containment::coverage::Progress;
use crate::domain::containment::image::Before;
use crate::domain::containment::observed::{Instance, InstanceState};
use crate::domain::containment::plan::{Marks, Plan};
use crate::domain::containment::state::Phase;
use crate::domain::containment::target::Resource;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake};
use crate::domain::id::AgentId;

/// A role of the agent `b`.
const THEIRS: &str = "arn:aws:iam::123456789012:role/agents/b";

fn why(world: &World, id: &str) -> String {
    let lines = &world.containment.coverage.still_burning;
    let line = lines.iter().find(|line| line.resource.ends_with(id));
    line.map(|line| line.why.clone()).unwrap_or_default()
}

pub fn state(world: &World, id: &str) -> InstanceState {
    world.instances[id].state
}

pub fn member(region_name: &str, id: &str, group: &str) -> Instance {
    let mut made = instance(region_name, id, "a");
    made.group = Some(group.to_owned());
    made
}

pub fn capped(world: &World, asset: &Asset) -> bool {
    world.assets[&asset.what].is_capped() == Some(true)
}

fn stops(plan: &Plan) -> Vec<&String> {
    plan.regions
        .iter()
        .flat_map(|part| part.stops.iter().flatten())
        .collect()
}

pub fn outcome(world: &World, id: &str) -> String {
    let image = world
        .restored
        .iter()
        .rev()
        .find(|image| image.resource.to_string().ends_with(id));
    image.and_then(|image| image.outcome.clone()).unwrap_or_default()
}

#[test]
fn members_stop_once_their_group_is_capped_and_start_before_it_works_again() {
    let workers = owned(group("eu-west-1", "workers"), "a");
    let mut world = World::new(vec![
        member("eu-west-1", "i-1", "workers"),
        instance("eu-west-1", "i-2", "a"),
    ])
    .with([workers.clone()]);
    let first = (world.snapshot(), world.standing());
    let plan = world.plan();
    assert_eq!(stops(&plan), ["i-2"], "before its group is capped, a member waits");
    assert!(plan.regions[0].waiting[0].why.contains("not capped yet"));
    // In one and the same pass, once the cap is done.
    let (plan, _) = world.sweep(Fuel::ENDLESS).unwrap();
    assert_eq!(stops(&plan), ["i-1", "i-2"]);
    world.contain();
    assert!(capped(&world, &workers));
    assert_eq!(state(&world, "i-1"), InstanceState::Stopped);
    assert_eq!(world.containment.coverage.capped, ["group:eu-west-1/workers"]);

    world.begin_restore(&[]);
    while world.restore(Fuel::ENDLESS) != Some(true) {
        let runs = state(&world, "i-1") == InstanceState::Running;
        assert!(capped(&world, &workers) || runs, "it would have destroyed its member");
        let denied = world.principals[&role()].deny_document.is_some();
        assert!(capped(&world, &workers) || !denied, "the deny is lifted before");
    }
    assert_eq!((world.snapshot(), world.standing()), first);
    assert!(world.images.is_empty());
    assert_eq!(outcome(&world, "workers"), "put back");
}

#[test]
fn a_member_whose_group_cannot_be_capped_runs_on_and_that_is_said() {
    let refused = owned(group("eu-west-1", "refused"), "a");
    let theirs = owned(group("eu-west-1", "theirs"), "b");
    let mut blocked = owned(group("eu-west-1", "blocked"), "a");
    blocked.brake = Brake::Blocked {
        why: "it is being deleted".to_owned(),
    };
    let members = ["refused", "theirs", "blocked", "missing"];
    let members = members.map(|group| member("eu-west-1", &format!("i-{group}"), group));
    let mut world = World::new(members.to_vec()).with([refused.clone(), theirs, blocked]);
    world.refuse.insert("refused".to_owned());
    world.contain();
    for (id, reason) in [
        ("i-refused", "could not be capped: AccessDenied"),
        ("i-theirs", "not the agent's"),
        ("i-blocked", "being deleted"),
        ("i-missing", "cap the group first"),
        ("/refused", "AccessDenied"),
        ("/blocked", "being deleted"),
    ] {
        assert!(why(&world, id).contains(reason), "{id}: {}", why(&world, id));
    }
    assert!(
        members
            .iter()
            .all(|one| state(&world, &one.id) == InstanceState::Running)
    );
    assert_eq!(why(&world, "/theirs"), "");
    // Once it may be capped, it is, and its member stops.
    world.refuse.clear();
    for _ in 0..12 {
        world.sweep(Fuel::ENDLESS);
    }
    assert!(capped(&world, &refused));
    assert_eq!(state(&world, "i-refused"), InstanceState::Stopped);
}

#[test]
fn a_kind_that_cannot_be_listed_hides_no_other() {
    let workers = owned(group("eu-west-1", "workers"), "a");
    let web = owned(service("eu-west-1", "main/web", 2), "a");
    let mut world = World::new(vec![
        member("eu-west-1", "i-member", "workers"),
        instance("eu-west-1", "i-plain", "a"),
    ])
    .with([workers, web.clone()]);
    world.hidden.insert(GROUP);
    for _ in 0..5 {
        assert_ne!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
    }
    assert!(why(&world, "group:eu-west-1").contains("could not be listed: no answer"));
    assert!(why(&world, "i-member").contains("could not be looked at"));
    assert!(capped(&world, &web));
    assert_eq!(state(&world, "i-plain"), InstanceState::Stopped);
    assert_eq!(state(&world, "i-member"), InstanceState::Running);
    world.hidden.clear();
    world.contain();
    assert_eq!(state(&world, "i-member"), InstanceState::Stopped);
}

#[test]
fn instances_that_cannot_be_listed_hide_no_kind() {
    let web = owned(service("eu-west-1", "main/web", 1), "a");
    let world = World::new(Vec::new()).with([web]);
    let mut view = world.plan();
    assert_eq!(view.regions.remove(0).caps.len(), 1);
}

#[test]
fn a_service_is_capped_and_its_tasks_end() {
    let web = owned(service("eu-west-1", "main/web", 2), "a");
    let alone = owned(task("eu-west-1", "main/alone", None), "a");
    let of_web = ["main/1", "main/2"].map(|id| task("eu-west-1", id, Some(&web)));
    let mut world = World::new(Vec::new()).with([web, alone.clone()]).with(of_web);
    let first = world.standing();
    let before = world.plan();
    assert_eq!(
        before.regions[0].ends,
        std::slice::from_ref(&alone.what),
        "the others wait for their service"
    );
    assert_eq!(before.regions[0].waiting.len(), 2);
    let (plan, _) = world.sweep(Fuel::ENDLESS).unwrap();
    assert_eq!(plan.regions[0].ends.len(), 3);
    world.contain();
    assert_eq!(world.standing().1, std::collections::BTreeMap::new());
    let coverage = &world.containment.coverage;
    assert_eq!(coverage.ended.len(), 3, "{:?}", coverage.ended);
    let burn = coverage.burn.unwrap();
    assert_eq!(burn.now, crate::domain::money::Usd::ZERO);
    assert_eq!(
        burn.before.to_string(),
        "0.274176",
        "three of them at what an m7g.large costs there"
    );
    assert_eq!(coverage.hourly.len(), 3, "what was ended cost something");
    assert!(coverage.burnt.unwrap().usd > crate::domain::money::Usd::ZERO);
    world.reset(&[]);
    assert_eq!(world.standing(), first);
    assert!(outcome(&world, "main/alone").contains("run it again yourself"));
    assert!(outcome(&world, "main/1").contains("starts new ones"));
}

#[test]
fn a_task_whose_service_cannot_be_capped_is_ended_again_and_again_and_disturbs_no_proof() {
    let mut daemon = owned(service("eu-west-1", "main/agent", 1), "a");
    daemon.brake = Brake::Blocked {
        why: "a DAEMON service has no desired count".to_owned(),
    };
    let mut world = World::new(Vec::new()).with([task("eu-west-1", "main/1", Some(&daemon)), daemon]);
    world.contain();
    assert!(!world.assets.keys().any(|what| what.kind == TASK), "it was ended");
    assert!(why(&world, "main/agent").contains("DAEMON"));
}

#[test]
fn only_deletion_would_stop_some_things_so_they_burn() {
    let mut idle = owned(volume("eu-west-1", "vol-idle"), "a");
    idle.meters.clear();
    let mut world = World::new(Vec::new()).with([owned(volume("eu-west-1", "vol-1"), "a"), idle]);
    world.contain();
    assert_eq!(why(&world, "vol-1"), "snapshot and delete it");
    assert_eq!(why(&world, "vol-idle"), "");
    let price = world.containment.coverage.hourly["volume:eu-west-1/vol-1"];
    assert_eq!(price.usd.to_string(), "0.00098192");
    assert!(world.images.is_empty() || world.touched.iter().all(|id| !id.contains("vol")));
}

#[test]
fn whose_it_is() {
    let profile = model::PROFILE.to_owned();
    let with = |name: &str, change: &dyn Fn(&mut Asset)| {
        let mut made = service("eu-west-1", name, 1);
        change(&mut made);
        made
    };
    let tag = |owner: &str| std::collections::BTreeMap::from([("backstop:agent".to_owned(), owner.to_owned())]);
    let rows = [
        (with("tag", &|asset| asset.tags = tag("a")), true),
        (
            with("role", &|asset| asset.acts_as = vec![role().arn().to_owned()]),
            true,
        ),
        (with("profile", &|asset| asset.acts_as = vec![profile.clone()]), true),
        (with("made", &|_| {}), true),
        (with("nobody", &|_| {}), false),
        (
            with("undeclared", &|asset| asset.tags = tag("nobody-declares-it")),
            false,
        ),
        (
            with("other-role", &|asset| {
                (asset.tags, asset.acts_as) = (tag("b"), vec![role().arn().to_owned()]);
            }),
            false,
        ),
        (with("other-made", &|asset| asset.tags = tag("b")), false),
        (
            with("both-tags", &|asset| {
                (asset.tags, asset.acts_as) = (tag("a"), vec![role().arn().to_owned()]);
                asset.tags.insert("their:agent".to_owned(), "b".to_owned());
            }),
            false,
        ),
        (
            with("their-hands", &|asset| {
                (asset.tags, asset.acts_as) = (tag("a"), vec![THEIRS.to_owned()]);
            }),
            false,
        ),
        (
            with("their-profile", &|asset| {
                asset.tags = tag("a");
                asset.acts_as = vec!["arn:aws:iam::123456789012:instance-profile/b".to_owned()];
            }),
            false,
        ),
        (
            with("both-hands", &|asset| {
                (asset.tags, asset.acts_as) = (tag("a"), vec![THEIRS.to_owned(), role().arn().to_owned()]);
            }),
            true,
        ),
        (
            with("strangers-hands", &|asset| {
                asset.tags = tag("a");
                asset.acts_as = vec!["arn:aws:iam::123456789012:role/undeclared".to_owned()];
            }),
            true,
        ),
        (
            with("undeclared-role", &|asset| {
                (asset.tags, asset.acts_as) = (tag("nobody-declares-it"), vec![role().arn().to_owned()]);
            }),
            true,
        ),
        (
            with("guard", &|asset| {
                asset.tags = tag("a");
                asset.acts_as = vec!["arn:aws:iam::123456789012:role/x/Backstop".to_owned()];
            }),
            false,
        ),
    ];
    let mut world = World::new(Vec::new()).with(rows.iter().map(|(asset, _)| asset.clone()));
    let mut marks = Marks {
        tags: tag("b"),
        principals: [THEIRS.to_owned()].into(),
    };
    marks.tags.insert("their:agent".to_owned(), "b".to_owned());
    world.others.insert(AgentId::new("b").unwrap(), marks);
    for name in ["made", "other-made"] {
        world.created.insert(service("eu-west-1", name, 1).what);
    }
    world.contain();
    for (asset, ours) in &rows {
        assert_eq!(capped(&world, asset), *ours, "{}", asset.what);
    }
    for name in ["both-tags", "their-hands", "their-profile"] {
        assert!(why(&world, name).contains("seems to be b's"), "{}", why(&world, name));
    }
    assert!(why(&world, "other-role").contains("tagged as b's"));
    assert!(why(&world, "other-made").contains("who made it"));
    assert_eq!(why(&world, "/undeclared"), "");
    assert!(why(&world, "/guard").contains("the guard's own"), "C5");
    // A person is asked about those, and decides.
    let asked: Vec<String> = world
        .plan()
        .regions
        .iter()
        .flat_map(|part| &part.ask)
        .map(|ask| ask.resource.clone())
        .collect();
    let id = |name: &str| format!("ecs-service:eu-west-1/{name}");
    assert_eq!(asked, [id("both-tags"), id("their-hands"), id("their-profile")]);
    world.foreign = [(id("both-tags"), true), (id("their-hands"), false)].into();
    world.contain();
    let is_capped = |name: &str| capped(&world, &service("eu-west-1", name, 1));
    assert!(is_capped("both-tags") && !is_capped("their-hands"));
    assert!(why(&world, "/their-hands").contains("a person decided"));
}

/// C3: what nothing names, while something that could was not read, keeps the containment open.
#[test]
fn what_was_not_read_is_not_nobodys() {
    let unread = |name: &str, change: &dyn Fn(&mut Asset)| {
        let mut made = service("eu-west-1", name, 1);
        made.unread = Some("its definition is hidden".to_owned());
        change(&mut made);
        made
    };
    let tag = |owner: &str| std::collections::BTreeMap::from([("backstop:agent".to_owned(), owner.to_owned())]);
    let capped_already = |asset: &mut Asset| asset.brake = service("eu-west-1", "x", 0).brake;
    let rows = [
        (unread("unknown", &|_| {}), true),
        // Known by something else, or nothing that could start anything: it does not matter.
        (unread("tagged", &|asset| asset.tags = tag("a")), false),
        (unread("theirs", &|asset| asset.tags = tag("b")), false),
        (unread("idle", &capped_already), false),
    ];
    for (asset, open) in rows {
        let mut world = World::new(Vec::new()).with([asset.clone()]);
        let marks = Marks {
            tags: tag("b"),
            ..Marks::default()
        };
        world.others.insert(AgentId::new("b").unwrap(), marks);
        let mut progress = Progress::Disturbed;
        for _ in 0..6 {
            progress = world.sweep(Fuel::ENDLESS).unwrap().1;
        }
        let is_contained = world.containment.phase == Phase::Contained;
        assert_eq!(is_contained, !open, "{} {progress:?}", asset.what);
        let said = why(&world, "ecs-service:eu-west-1").contains("its definition is hidden");
        assert_eq!(said, open, "{}", asset.what);
    }
}

/// A fleet is listed nowhere: who made it is on record.
#[test]
fn what_a_fleet_of_the_agents_started_is_the_agents() {
    let fleet = |id: &str| crate::domain::fleet::asset::AssetRef {
        kind: crate::domain::fleet::asset::Kind::named("fleet"),
        region: model::region("eu-west-1"),
        id: id.to_owned(),
    };
    let started = |id: &str, by: &str| {
        let mut machine = model::instance("eu-west-1", id, "nobody-declares-it");
        machine.tags.clear();
        machine.request = Some(fleet(by));
        machine
    };
    let mut world = World::new(vec![started("i-ours", "fleet-1"), started("i-theirs", "fleet-2")]);
    world.created.insert(fleet("fleet-1"));
    world.contain();
    let state = |id: &str| world.instances[id].state;
    assert_eq!(state("i-ours"), InstanceState::Stopped);
    assert_eq!(state("i-theirs"), InstanceState::Running);
}

#[test]
fn machines_are_the_agents_by_their_group_and_by_who_made_them() {
    let mut bare = member("eu-west-1", "i-member", "workers");
    bare.tags.clear();
    let mut made = instance("eu-west-1", "i-made", "a");
    made.tags.clear();
    let mut others = member("eu-west-1", "i-others", "workers");
    others.tags.insert("backstop:agent".to_owned(), "b".to_owned());
    let mut world = World::new(vec![bare, made, others]).with([owned(group("eu-west-1", "workers"), "a")]);
    world.created.insert(AssetRef {
        kind: crate::domain::fleet::asset::Kind::INSTANCE,
        region: region("eu-west-1"),
        id: "i-made".to_owned(),
    });
    let marks = Marks {
        tags: std::collections::BTreeMap::from([("backstop:agent".to_owned(), "b".to_owned())]),
        ..Marks::default()
    };
    world.others.insert(AgentId::new("b").unwrap(), marks);
    world.contain();
    assert_eq!(state(&world, "i-member"), InstanceState::Stopped);
    assert_eq!(state(&world, "i-made"), InstanceState::Stopped);
    assert_eq!(state(&world, "i-others"), InstanceState::Running);
    assert!(why(&world, "i-others").contains("tagged as b's"));
}

#[test]
fn the_group_that_the_guard_runs_in_is_the_guards() {
    let mut world =
        World::new(vec![member("eu-west-1", "i-guard", "ours")]).with([owned(group("eu-west-1", "ours"), "a")]);
    let first = world.standing();
    world.contain();
    assert_eq!(world.standing(), first);
    assert!(why(&world, "group:eu-west-1/ours").contains("the guard's own"), "C5");
}

#[test]
fn what_is_outside_the_declared_regions_asks_once_for_a_service_and_its_tasks() {
    let far = owned(service("ap-south-1", "main/far", 2), "a");
    let tasks = ["main/1", "main/2"].map(|id| task("ap-south-1", id, Some(&far)));
    let mut world = World::new(Vec::new()).with([far.clone()]).with(tasks);
    world.contain();
    let asks: Vec<_> = world.plan().regions.into_iter().flat_map(|part| part.ask).collect();
    assert_eq!(asks.len(), 1);
    assert_eq!(asks[0].resource, "ecs-service:ap-south-1/main/far");
    assert!(!capped(&world, &far));
    assert!(why(&world, "main/1").contains("decided with ecs-service"));
    world.foreign.insert(asks[0].resource.clone(), true);
    world.containment.phase = Phase::Containing;
    world.containment.quiet = 0;
    world.contain();
    assert!(capped(&world, &far));
    assert!(world.standing().1.is_empty());
}

#[test]
fn what_somebody_uncaps_while_contained_is_capped_again_with_an_alarm() {
    let web = owned(service("eu-west-1", "main/web", 3), "a");
    let mut world = World::new(Vec::new()).with([web.clone()]);
    let first = world.standing().0;
    world.contain();
    if let Brake::Cap { now, .. } = &mut world.assets.get_mut(&web.what).unwrap().brake {
        *now = settings(&[("desired", "9")]);
    }
    let (plan, progress) = world.sweep(Fuel::ENDLESS).unwrap();
    assert!(plan.regions[0].caps[0].put_back);
    assert_eq!(progress, Progress::Disturbed);
    world.contain();
    assert!(capped(&world, &web));
    world.reset(&[]);
    assert_eq!(
        world.standing().0,
        first,
        "what was there before the containment, not in it"
    );
}

#[test]
fn settings_are_put_back_one_by_one() {
    let workers = owned(group("eu-west-1", "workers"), "a");
    let mut world = World::new(Vec::new()).with([workers.clone()]);
    world.contain();
    // Somebody takes one of the two settings into their own hands while a reset is on its way.
    world.begin_restore(&[]);
    if let Brake::Cap { now, .. } = &mut world.assets.get_mut(&workers.what).unwrap().brake {
        now.insert("Terminate".to_owned(), "by hand".to_owned());
    }
    for _ in 0..10 {
        world.restore(Fuel::ENDLESS);
    }
    let now = world.now_of(&workers.what);
    assert_eq!(now, settings(&[("Launch", "active"), ("Terminate", "by hand")]));
    assert!(outcome(&world, "workers").contains("somebody else changed: Terminate"));
}

#[test]
fn what_was_set_while_the_agent_was_free_is_what_comes_back() {
    let workers = owned(group("eu-west-1", "workers"), "a");
    let web = owned(service("eu-west-1", "main/web", 2), "a");
    let mut world = World::new(Vec::new()).with([workers.clone(), web.clone(), owned(group("eu-west-1", "x"), "a")]);
    world.contain();
    world.reset(&["x"]);
    assert_eq!(world.images.len(), 2, "the two that were not selected stay capped");
    assert!(capped(&world, &workers) && capped(&world, &web));
    // Its owner lets one setting of the group work again and deploys the service with five.
    let put = |world: &mut World, asset: &Asset, name: &str, value: &str| {
        if let Brake::Cap { now, .. } = &mut world.assets.get_mut(&asset.what).unwrap().brake {
            now.insert(name.to_owned(), value.to_owned());
        }
    };
    put(&mut world, &workers, "Launch", "by hand");
    put(&mut world, &web, "desired", "5");
    world.next_generation();
    world.contain();
    assert!(capped(&world, &workers) && capped(&world, &web));
    world.reset(&[]);
    assert_eq!(world.now_of(&web.what), settings(&[("desired", "5")]));
    let now = world.now_of(&workers.what);
    assert_eq!(now, settings(&[("Launch", "by hand"), ("Terminate", "active")]));
    assert!(world.images.is_empty());
}

#[test]
fn a_cap_that_was_refused_is_not_put_back() {
    let web = owned(service("eu-west-1", "main/web", 3), "a");
    let mut world = World::new(Vec::new()).with([web.clone()]);
    world.refuse.insert("main/web".to_owned());
    world.contain();
    assert!(matches!(
        world.images[&Resource::Asset {
            asset: web.what.clone()
        }]
            .before,
        Before::Settings { .. }
    ));
    // Its owner takes it down; that is theirs.
    if let Brake::Cap { now, .. } = &mut world.assets.get_mut(&web.what).unwrap().brake {
        *now = settings(&[("desired", "0")]);
    }
    world.reset(&[]);
    assert!(capped(&world, &web));
    assert_eq!(outcome(&world, "main/web"), "was never capped by us");
}

#[test]
fn an_uncap_that_is_refused_or_unseen_stays_owed() {
    let web = owned(service("eu-west-1", "main/web", 3), "a");
    let gone = owned(service("eu-west-1", "main/gone", 3), "a");
    let mut world = World::new(Vec::new()).with([web.clone(), gone.clone()]);
    world.contain();
    world.assets.remove(&gone.what);
    world.refuse.insert("main/web".to_owned());
    world.reset(&[]);
    assert_eq!(outcome(&world, "main/gone"), "it is gone; nothing to put back");
    assert_eq!(world.images.len(), 1);
    world.refuse.clear();
    world.next_generation();
    world.contain();
    world.down.insert(region("eu-west-1"));
    world.begin_restore(&[]);
    let mut passes = 0;
    while world.restore(Fuel::ENDLESS) != Some(true) {
        passes += 1;
    }
    assert!(passes > 30, "it is waited for");
    assert_eq!(world.images.len(), 1);
    world.down.clear();
    world.next_generation();
    world.contain();
    world.reset(&[]);
    assert_eq!(world.now_of(&web.what), settings(&[("desired", "3")]));
}

#[test]
fn c1_a_setting_that_shows_only_later_is_recorded_before_it_is_changed() {
    let shown = |now: &[(&str, &str)], capped: &[(&str, &str)]| Brake::Cap {
        now: settings(now),
        capped: settings(capped),
    };
    let first = [("Launch", "active"), ("Warm", "live=3")];
    let halted = [("Launch", "suspended"), ("Warm", "none")];
    let mut asset = owned(group("eu-west-1", "workers"), "a");
    asset.brake = shown(&first[..1], &halted[..1]);
    let what = asset.what.clone();
    let mut world = World::new(Vec::new()).with([asset]);
    world.contain();
    // The other one could not be asked for until now.
    world.assets.get_mut(&what).unwrap().brake = shown(&[halted[0], first[1]], &halted);
    world.contain();
    for _ in 0..4 {
        world.sweep(Fuel::ENDLESS);
    }
    assert_eq!(world.now_of(&what), settings(&halted));
    let resource = Resource::Asset { asset: what.clone() };
    let before = Before::Settings {
        were: settings(&first),
        capped: settings(&halted),
    };
    assert_eq!(world.images[&resource].before, before);

    // What does not show in a restore is waited for, and not taken for somebody else's.
    world.begin_restore(&[]);
    world.assets.get_mut(&what).unwrap().brake = shown(&halted[..1], &halted[..1]);
    for _ in 0..3 {
        assert_ne!(world.restore(Fuel::ENDLESS), Some(true));
    }
    assert!(world.images.contains_key(&resource));
    world.assets.get_mut(&what).unwrap().brake = shown(&halted, &halted);
    while world.restore(Fuel::ENDLESS) != Some(true) {}
    assert_eq!(world.now_of(&what), settings(&first));
    assert_eq!(outcome(&world, "workers"), "put back");
}
