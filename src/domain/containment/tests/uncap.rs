//! One row at a time of the rules about what starts others when it is put back.

use jiff::SignedDuration;

use super::model::{Fuel, World, group, owned, region, service};
use super::spawners::{capped, member, outcome, state};
use crate::domain::containment::observed::InstanceState;
use crate::domain::containment::restore::unknown_selections;

#[test]
fn a_group_whose_members_stay_down_stays_capped() {
    let workers = owned(group("eu-west-1", "workers"), "a");
    let members = vec![
        member("eu-west-1", "i-1", "workers"),
        member("eu-west-1", "i-2", "workers"),
    ];
    let mut world = World::new(members).with([workers.clone()]);
    let first = (world.snapshot(), world.standing());
    world.contain();
    world.reset(&["i-1", "workers"]);
    assert_eq!(state(&world, "i-1"), InstanceState::Running);
    assert_eq!(state(&world, "i-2"), InstanceState::Stopped, "and not destroyed");
    assert!(capped(&world, &workers));
    assert_eq!(world.images.len(), 2, "both are owed");
    let names = ["workers", "group:eu-west-1/workers", "ecs-task:eu-west-1/none"].map(str::to_owned);
    assert_eq!(unknown_selections(&world.images, &names), ["ecs-task:eu-west-1/none"]);
    world.next_generation();
    world.contain();
    world.reset(&[]);
    assert_eq!((world.snapshot(), world.standing()), first);
}

#[test]
fn a_group_is_not_uncapped_over_a_member_that_somebody_else_stopped() {
    // One that we could not stop, and one that somebody started meanwhile: both are down when we restore.
    let workers = owned(group("eu-west-1", "workers"), "a");
    let other = owned(group("eu-west-1", "other"), "a");
    let members = ["i-1", "i-left", "i-again"].map(|id| member("eu-west-1", id, "workers"));
    let mut world = World::new(members.to_vec()).with([workers.clone(), other.clone()]);
    world.refuse.insert("i-left".to_owned());
    world.contain();
    assert_eq!(state(&world, "i-left"), InstanceState::Running);
    for id in ["i-left", "i-again"] {
        let machine = world.instances.get_mut(id).unwrap();
        machine.state = InstanceState::Stopped;
        machine.launched_at = Some(world.now.checked_add(SignedDuration::from_mins(2)).unwrap());
    }
    world.reset(&[]);
    assert_eq!(outcome(&world, "i-left"), "was never stopped by us");
    assert!(outcome(&world, "i-again").contains("is down again; left as it is"));
    assert_eq!(state(&world, "i-1"), InstanceState::Running);
    assert!(capped(&world, &workers), "it would destroy them");
    assert!(!capped(&world, &other), "which has no members");
    for id in ["i-left", "i-again"] {
        assert_eq!(state(&world, id), InstanceState::Stopped, "{id} is not destroyed");
    }
    let owed = world.plan_restore().owed;
    assert!(owed.iter().any(|line| line.why.contains("i-again, i-left")), "{owed:?}");
    // Once they are up the next reset puts it back.
    for id in ["i-left", "i-again"] {
        world.instances.get_mut(id).unwrap().state = InstanceState::Running;
    }
    world.next_generation();
    world.reset(&[]);
    assert!(!capped(&world, &workers));
}

#[test]
fn a_group_whose_region_cannot_be_looked_at_waits_even_if_none_of_its_members_is_ours_to_start() {
    let workers = owned(group("eu-west-1", "workers"), "a");
    let mut world = World::new(Vec::new()).with([workers.clone()]);
    world.contain();
    world.begin_restore(&[]);
    assert_eq!(world.plan_restore().uncaps.len(), 0, "the deny comes first");
    world.restore(Fuel::ENDLESS);
    let mut plan_of = |down: bool| {
        if down {
            world.down.insert(region("eu-west-1"));
        } else {
            world.down.clear();
        }
        world.plan_restore()
    };
    assert!(plan_of(true).uncaps.is_empty() && !plan_of(true).waiting.is_empty());
    assert_eq!(plan_of(false).uncaps.len(), 1);
}

#[test]
fn what_is_capped_has_its_whole_time_from_when_nothing_else_is_in_its_way() {
    let web = owned(service("eu-west-1", "main/web", 3), "a");
    let mut world = World::new(Vec::new()).with([web.clone()]);
    world.contain();
    world.begin_restore(&[]);
    // Nothing could be done for an hour, and then its first look fails.
    world.now = world.now.checked_add(SignedDuration::from_hours(1)).unwrap();
    world.hidden.insert(web.what.kind.clone());
    for pass in 0..30 {
        assert_eq!(world.restore(Fuel::ENDLESS), Some(false), "pass {pass}");
        assert_eq!(world.plan_restore().owed, [], "pass {pass}");
    }
    world.hidden.clear();
    while world.restore(Fuel::ENDLESS) != Some(true) {}
    assert!(!capped(&world, &web));

    // But it is not waited for without end.
    world.next_generation();
    world.contain();
    world.begin_restore(&[]);
    world.hidden.insert(web.what.kind.clone());
    let mut passes = 0;
    while world.restore(Fuel::ENDLESS) != Some(true) {
        passes += 1;
    }
    assert!((55..70).contains(&passes), "{passes} passes of ten seconds");
    assert!(capped(&world, &web));
}

#[test]
fn a_group_waits_for_its_members_health_and_not_for_ever() {
    let workers = owned(group("eu-west-1", "workers"), "a");
    let other = owned(service("eu-west-1", "main/web", 1), "a");
    let mut world = World::new(vec![member("eu-west-1", "i-1", "workers")]).with([workers.clone(), other.clone()]);
    world.contain();
    world.unwell.insert("i-1".to_owned());
    world.begin_restore(&[]);
    let mut passes = 0;
    let mut sick = 0;
    while world.restore(Fuel::ENDLESS) != Some(true) {
        passes += 1;
        sick += world.plan_restore().sick.len();
        if passes == 10 {
            assert!(capped(&world, &workers), "it does not pass its checks");
            assert!(!capped(&world, &other), "others do not wait for it");
        }
    }
    assert!((30..40).contains(&passes), "{passes} passes of ten seconds");
    assert!(sick > 0);
    assert!(!capped(&world, &workers));
}
