//! Revocation: the managed fallback, service credentials, what somebody undoes, what restore puts back.

use super::model::{ACCOUNT, Fuel, World, role, user};
use crate::domain::containment::contradicted;
use crate::domain::containment::coverage::Progress;
use crate::domain::containment::deny;
use crate::domain::containment::observed::{Blind, Simulated};
use crate::domain::containment::state::Phase;

const OTHER: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

fn why(world: &World, resource: &str) -> String {
    let lines = &world.containment.coverage.still_burning;
    let found = lines.iter().find(|line| line.resource.contains(resource));
    found.map(|line| line.why.clone()).unwrap_or_default()
}

fn full(what: &str) -> String {
    format!("{what} {}", role().arn())
}

#[test]
fn where_the_inline_policy_has_no_room_the_managed_one_denies_and_goes_again() {
    let mut world = World::new(Vec::new());
    let before = world.snapshot();
    world.refuse.insert(full("inline"));
    world.contain();
    let state = &world.principals[&role()];
    assert!(state.deny_attached && state.deny_document.is_none());
    assert!(world.principals[&user()].deny_document.is_some(), "the user has room");
    world.reset(&[]);
    assert_eq!(world.snapshot(), before);
    let outcomes: Vec<_> = world.restored.iter().filter_map(|one| one.outcome.as_deref()).collect();
    assert!(outcomes.contains(&"detached"), "{outcomes:?}");
}

#[test]
fn a_principal_that_cannot_be_denied_is_never_called_contained() {
    let mut world = World::new(Vec::new());
    world.refuse.extend([full("inline"), full("attach")]);
    for _ in 0..6 {
        assert_ne!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
    }
    let line = why(&world, role().arn());
    assert!(line.contains("Delete one of its inline policies or detach"), "{line}");
    // A person makes room, and no more is needed.
    world.refuse.clear();
    world.contain();
    world.reset(&[]);
}

#[test]
fn known_to_have_no_room_it_is_attached_at_once() {
    let mut world = World::new(Vec::new());
    world.principals.get_mut(&role()).unwrap().inline_chars = Some(10_240);
    let plan = world.plan().principals;
    let attach: Vec<bool> = plan.denies.iter().map(|deny| deny.attach).collect();
    assert_eq!(attach, [true, false]);
}

#[test]
fn a_managed_policy_that_somebody_rewrites_or_detaches_is_put_back_with_an_alarm() {
    let mut world = World::new(Vec::new());
    world.refuse.insert(full("inline"));
    world.contain();
    for undo in 0..2 {
        let state = world.principals.get_mut(&role()).unwrap();
        if undo == 0 {
            state.attached_document = Some(OTHER.to_owned());
        } else {
            (state.deny_attached, state.attached_document) = (false, None);
        }
        let (plan, progress) = world.sweep(Fuel::ENDLESS).unwrap();
        assert!(plan.principals.denies[0].put_back);
        assert_eq!(progress, Progress::Disturbed);
        assert!(deny::is_attached(&world.principals[&role()]));
        world.contain();
    }
}

#[test]
fn an_inline_policy_of_our_name_with_other_words_is_put_back_and_the_first_one_restored() {
    let mut world = World::new(Vec::new());
    world.principals.get_mut(&role()).unwrap().deny_document = Some(OTHER.to_owned());
    let before = world.snapshot();
    world.contain();
    let weaker = deny::DOCUMENT.replace("\"Resource\":\"*\"", "\"Resource\":\"arn:aws:s3:::x\"");
    world.principals.get_mut(&role()).unwrap().deny_document = Some(weaker);
    let (plan, _) = world.sweep(Fuel::ENDLESS).unwrap();
    assert!(plan.principals.denies[0].put_back);
    world.contain();
    world.reset(&[]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn what_somebody_else_did_to_the_managed_policy_stays() {
    let cases = [
        (true, Some(OTHER), "somebody else changed the managed policy"),
        (false, None, "was lifted by somebody else"),
    ];
    for (attached, document, outcome) in cases {
        let mut world = World::new(Vec::new());
        world.refuse.insert(full("inline"));
        world.contain();
        let state = world.principals.get_mut(&role()).unwrap();
        (state.deny_attached, state.attached_document) = (attached, document.map(str::to_owned));
        world.reset(&[]);
        assert_eq!(world.principals[&role()].deny_attached, attached);
        let said = |wanted: &str| {
            let outcomes = world.restored.iter().filter_map(|one| one.outcome.as_deref());
            outcomes.into_iter().any(|one| one.contains(wanted))
        };
        assert!(said(outcome), "{outcome}: {:?}", world.restored);
    }
}

#[test]
fn a_policy_that_was_attached_before_is_neither_put_nor_taken() {
    let mut world = World::new(Vec::new());
    let state = world.principals.get_mut(&role()).unwrap();
    (state.deny_attached, state.attached_document) = (true, Some(deny::DOCUMENT.to_owned()));
    let before = world.snapshot();
    world.contain();
    assert!(!world.touched.contains(&format!("role:{}", role().arn())));
    world.reset(&[]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn service_credentials_go_inactive_come_back_and_are_put_back() {
    let mut world = World::new(Vec::new());
    let before = world.snapshot();
    world.contain();
    let active = |world: &World| {
        let credentials = &world.principals[&user()].service_credentials;
        credentials.iter().filter(|one| one.active).count()
    };
    assert_eq!(active(&world), 0);
    assert!(
        world
            .containment
            .coverage
            .denied
            .contains(&"credential:agent/ACCA1".to_owned())
    );
    world.set_credential("ACCA1", true);
    let (plan, progress) = world.sweep(Fuel::ENDLESS).unwrap();
    assert!(plan.principals.credentials[0].put_back);
    assert_eq!((progress, active(&world)), (Progress::Disturbed, 0));
    world.contain();
    world.reset(&[]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn a_credential_that_somebody_deleted_or_that_expired_holds_no_reset_up() {
    let mut world = World::new(Vec::new());
    world.contain();
    world.principals.get_mut(&user()).unwrap().service_credentials.clear();
    world.reset(&[]);
    assert!(world.images.is_empty());
}

#[test]
fn credentials_that_cannot_be_listed_hold_up_no_deny_but_are_said_and_waited_for() {
    let blind = |refused| Blind {
        why: "AccessDenied".to_owned(),
        refused,
    };
    let mut world = World::new(Vec::new());
    world.principals.get_mut(&user()).unwrap().credentials_unseen = Some(blind(false));
    for _ in 0..4 {
        assert_ne!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
    }
    assert!(world.principals[&user()].deny_document.is_some());
    // Nobody permits it: a fact, behind which the deny binds all the same.
    world.principals.get_mut(&user()).unwrap().credentials_unseen = Some(blind(true));
    world.contain();
    assert!(why(&world, user().arn()).contains("AccessDenied"));

    // What we made inactive is waited for until it can be seen again.
    let state = world.principals.get_mut(&user()).unwrap();
    let credentials = std::mem::take(&mut state.service_credentials);
    world.begin_restore(&[]);
    for _ in 0..5 {
        assert_eq!(world.restore(Fuel::ENDLESS), Some(false));
    }
    let state = world.principals.get_mut(&user()).unwrap();
    (state.service_credentials, state.credentials_unseen) = (credentials, None);
    world.reset(&[]);
    assert!(world.principals[&user()].service_credentials[0].active);
}

#[test]
fn nothing_of_a_guards_is_touched_whatever_it_is() {
    let mut world = World::new(Vec::new());
    world.guard.principals = vec![
        format!("arn:aws:iam::{ACCOUNT}:user/AGENT"),
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/agent/i-1"),
    ];
    let plan = world.plan().principals;
    assert_eq!(plan.guarded.len(), 2);
    assert!(!plan.changes_something() && plan.images.is_empty() && plan.adopted.is_empty());
}

#[test]
fn a_simulation_only_warns() {
    let said = |allowed| Simulated {
        action: "ec2:RunInstances".to_owned(),
        allowed,
    };
    assert_eq!(contradicted(&role(), &[]), None);
    assert_eq!(contradicted(&role(), &[said(false)]), None);
    let line = contradicted(&role(), &[said(false), said(true)]).unwrap();
    assert!(line.why.contains("may ec2:RunInstances"));
    // A line that still burns takes nothing from the proof.
    let mut world = World::new(Vec::new());
    world.contain();
    let mut plan = world.plan();
    plan.burning.push(line);
    assert!(plan.is_quiet());
    assert_eq!(world.containment.phase, Phase::Contained);
}

/// What cannot be listed beside the deny keeps no deny from being put, and is said (C3).
#[test]
fn lists_that_cannot_be_read_hold_up_no_deny() {
    let blind = |refused: bool| {
        Some(Blind {
            why: "hidden".to_owned(),
            refused,
        })
    };
    for refused in [true, false] {
        let mut world = World::new(Vec::new());
        world.principals.get_mut(&role()).unwrap().profiles_unseen = blind(refused);
        world.principals.get_mut(&user()).unwrap().keys_unseen = blind(refused);
        for _ in 0..6 {
            assert_ne!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
        }
        for principal in [role(), user()] {
            assert!(deny::is_in_place(&world.principals[&principal]), "{principal:?}");
        }
        assert!(why(&world, role().arn()).contains("instance profiles could not be listed"));
        assert!(why(&world, user().arn()).contains("access keys could not be listed"));
        // Machines may be missed; keys are bound by the deny, so a refusal to list them is only reported.
        world.principals.get_mut(&role()).unwrap().profiles_unseen = None;
        if refused {
            world.contain();
        } else {
            assert_ne!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
        }
    }
}
