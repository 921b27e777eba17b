//! What holds for every fleet and every crash.

use proptest::prelude::*;

use super::model::{Fuel, PROFILE, World, group, instance, owned, service, task, volume};
use crate::domain::containment::coverage::Progress;
use crate::domain::containment::observed::{Instance, InstanceState, SpotKind};
use crate::domain::containment::plan::Marks;
use crate::domain::fleet::asset::{Asset, Brake};
use crate::domain::id::AgentId;

fn instances() -> impl Strategy<Value = Vec<Instance>> {
    let one = (
        prop_oneof![6 => Just("eu-west-1"), 3 => Just("us-east-1"), 1 => Just("ap-south-1")],
        prop_oneof![5 => Just("a"), 2 => Just("b")],
        prop_oneof![
            6 => Just(InstanceState::Running),
            1 => Just(InstanceState::Pending),
            1 => Just(InstanceState::Stopping),
            2 => Just(InstanceState::Stopped),
        ],
        prop_oneof![8 => Just(0_u8), 4 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(4)],
        any::<bool>(),
    );
    proptest::collection::vec(one, 0..12).prop_map(|rows| {
        let make = |(index, (region, owner, state, kind, profile)): (usize, (&str, &str, _, u8, bool))| {
            let id = if index == 7 {
                "i-guard".to_owned()
            } else {
                format!("i-{index}")
            };
            let mut made = instance(region, &id, owner);
            made.state = state;
            // Launched just before, so that a slow start is not taken for a stuck one.
            made.launched_at = Some(jiff::Timestamp::from_second(999_990).unwrap());
            match kind {
                1 => {
                    made.group = Some(format!("group-{}", index % 4));
                    // What others stop in a group that works is destroyed, whatever we do.
                    if !state.is_chargeable() {
                        made.state = InstanceState::Running;
                    }
                }
                2 => made.spot = Some(SpotKind::OneTime),
                3 => made.stop_protected = Some(true),
                4 => made.root_is_instance_store = true,
                _ => {}
            }
            made.profile_arn = (profile && owner == "a").then(|| PROFILE.to_owned());
            made
        };
        rows.into_iter().enumerate().map(make).collect()
    })
}

/// What starts others, and some of it that cannot be capped: three groups, services, a task, a volume. The
/// second part is the ids whose change is refused.
fn assets() -> impl Strategy<Value = Vec<(Asset, bool)>> {
    let region = || prop_oneof![6 => Just("eu-west-1"), 3 => Just("us-east-1"), 1 => Just("ap-south-1")];
    let owner = || prop_oneof![5 => Just("a"), 2 => Just("b"), 1 => Just("nobody")];
    let one = (
        region(),
        owner(),
        0_usize..4,
        prop_oneof![5 => Just(0_u8), 1 => Just(1), 1 => Just(2)],
    );
    proptest::collection::vec(one, 0..8).prop_map(|rows| {
        let make = |(index, (region, owner, desired, brake)): (usize, (&str, &str, usize, u8))| {
            let id = format!("main/{index}");
            let mut made = match index {
                0..3 => group(region, &format!("group-{index}")),
                6 => task(region, &id, None),
                7 => volume(region, &id),
                _ => service(region, &id, desired),
            };
            if brake == 2 && matches!(made.brake, Brake::Cap { .. }) {
                made.brake = Brake::Blocked {
                    why: "it is being deleted".to_owned(),
                };
            }
            (owned(made, owner), brake == 1)
        };
        rows.into_iter().enumerate().map(make).collect()
    })
}

fn world(instances: &[Instance], assets: &[(Asset, bool)]) -> World {
    let mut world = World::new(instances.to_vec()).with(assets.iter().map(|(asset, _)| asset.clone()));
    let refused = assets.iter().filter(|(_, refused)| *refused);
    world.refuse = refused.map(|(asset, _)| asset.what.id.clone()).collect();
    let theirs = Marks {
        tags: std::collections::BTreeMap::from([("backstop:agent".to_owned(), "b".to_owned())]),
        ..Marks::default()
    };
    world.others.insert(AgentId::new("b").unwrap(), theirs);
    world.react();
    world
}

fn is_foreign_asset(asset: &Asset) -> bool {
    asset.tags.get("backstop:agent").is_none_or(|owner| owner != "a") || asset.what.region.0 == "ap-south-1"
}

fn is_foreign(instance: &Instance) -> bool {
    instance.tags.get("backstop:agent").is_none_or(|owner| owner != "a") || instance.region.0 == "ap-south-1"
}

/// A machine that was on its way settles; it is compared as what it becomes.
fn settled(world: &World) -> World {
    let mut world = world.clone();
    for instance in world.instances.values_mut() {
        instance.state = match instance.state {
            InstanceState::Pending => InstanceState::Running,
            InstanceState::Stopping => InstanceState::Stopped,
            other => other,
        };
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn restore_undoes_contain_and_strangers_are_never_touched(list in instances(), assets in assets()) {
        let mut world = world(&list, &assets);
        let first = (settled(&world).snapshot(), world.standing());
        world.contain();

        // Idempotent: planning again after it was carried out yields nothing to do.
        prop_assert!(world.plan().is_quiet());
        prop_assert_eq!(world.plan().images().count(), 0);

        for instance in &list {
            let now = &world.instances[&instance.id];
            let touched = world.touched.iter().any(|id| id.ends_with(&format!("/{}", instance.id)));
            let stable = format!("instance:{}/{}", instance.region, instance.id);
            if is_foreign(instance) || instance.id == "i-guard" {
                prop_assert!(!touched, "{} was touched", instance.id);
            } else if now.state == InstanceState::Running {
                let burning = &world.containment.coverage.still_burning;
                prop_assert!(burning.iter().any(|line| line.resource == stable), "{stable} runs and nobody says so");
            }
        }
        for (asset, _) in &assets {
            let stable = asset.what.to_string();
            let burns = world.containment.coverage.still_burning.iter().any(|line| line.resource == stable);
            let now = world.assets.get(&asset.what);
            if is_foreign_asset(asset) {
                prop_assert!(!world.touched.contains(&stable), "{stable} was touched");
            } else if now.is_some_and(|now| now.is_capped() != Some(true)) {
                prop_assert!(burns, "{stable} goes on and nobody says so");
            }
        }
        world.reset(&[]);
        prop_assert_eq!((world.snapshot(), world.standing()), first);
        prop_assert!(world.images.is_empty());
    }

    #[test]
    fn a_crash_at_any_point_ends_in_the_same_state(
        list in instances(),
        assets in assets(),
        crashes in proptest::collection::vec(1_usize..60, 1..6),
        restore_crashes in proptest::collection::vec(1_usize..60, 1..6),
    ) {
        let mut calm = world(&list, &assets);
        calm.contain();
        let mut world = world(&list, &assets);
        let first = (settled(&world).snapshot(), world.standing());
        for fuel in crashes {
            if let Some((_, Progress::Contained)) = world.sweep(Fuel(fuel)) {
                break;
            }
        }
        if world.containment.contained_at.is_none() {
            world.contain();
        }
        prop_assert_eq!((world.snapshot(), world.standing()), (calm.snapshot(), calm.standing()));
        let keys = |world: &World| world.images.iter().map(|(r, i)| (r.clone(), i.before.clone())).collect::<Vec<_>>();
        prop_assert_eq!(keys(&world), keys(&calm));

        world.begin_restore(&[]);
        let mut done = false;
        for fuel in restore_crashes {
            done = world.restore(Fuel(fuel)) == Some(true);
            if done {
                break;
            }
        }
        for _ in 0..100 {
            if done {
                break;
            }
            done = world.restore(Fuel::ENDLESS) == Some(true);
        }
        prop_assert!(done);
        prop_assert_eq!((world.snapshot(), world.standing()), first);
        prop_assert!(world.images.is_empty());
    }
}
