//! One row of the rules at a time.

use super::model::{Fuel, PROFILE, World, containment, instance, region, role, user};
use crate::domain::containment::coverage::{CREATORS, Progress};
use crate::domain::containment::deny;
use crate::domain::containment::image::Before;
use crate::domain::containment::observed::{Instance, InstanceState, SpotKind};
use crate::domain::containment::restore::unknown_selections;
use crate::domain::containment::state::{Mode, Phase};
use crate::domain::containment::target::{Principal, Resource};

fn why(world: &World, id: &str) -> String {
    let lines = &world.containment.coverage.still_burning;
    let line = lines.iter().find(|line| line.resource.ends_with(id));
    line.map(|line| line.why.clone()).unwrap_or_default()
}

fn state(world: &World, id: &str) -> InstanceState {
    world.instances[id].state
}

#[test]
fn what_cannot_be_stopped_is_left_and_said() {
    let with = |id: &str, change: &dyn Fn(&mut Instance)| {
        let mut made = instance("eu-west-1", id, "a");
        change(&mut made);
        made
    };
    let mut world = World::new(vec![
        with("i-plain", &|_| {}),
        with("i-member", &|i| i.group = Some("web".to_owned())),
        with("i-onetime", &|i| i.spot = Some(SpotKind::OneTime)),
        with("i-persistent", &|i| i.spot = Some(SpotKind::Persistent)),
        with("i-store", &|i| i.root_is_instance_store = true),
        with("i-protected", &|i| i.stop_protected = Some(true)),
        with("i-refused", &|_| {}),
        with("i-profile", &|i| {
            i.tags.clear();
            i.profile_arn = Some(PROFILE.to_owned());
        }),
        with("i-other", &|i| i.tags.clear()),
        with("i-guard", &|_| {}),
    ]);
    world.refuse.insert("i-refused".to_owned());
    world.contain();
    for id in ["i-plain", "i-persistent", "i-profile"] {
        assert_eq!(state(&world, id), InstanceState::Stopped, "{id}");
    }
    for (id, reason) in [
        ("i-member", "Auto Scaling group web"),
        ("i-onetime", "one-time spot"),
        ("i-store", "instance store"),
        ("i-protected", "DisableApiStop"),
        ("i-refused", "OperationNotPermitted"),
        ("i-guard", "guard"),
    ] {
        assert_eq!(state(&world, id), InstanceState::Running, "{id}");
        assert!(why(&world, id).contains(reason), "{id}: {}", why(&world, id));
    }
    assert_eq!(state(&world, "i-other"), InstanceState::Running);
    assert_eq!(why(&world, "i-other"), "");
    assert!(!world.touched.iter().any(|id| id.contains("guard")), "C5");
}

#[test]
fn a_principal_of_the_guard_is_never_denied_whatever_is_declared() {
    // C5: under another path and another case than the declaration has.
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.guard.principals = vec!["arn:aws:sts::123456789012:assumed-role/AGENT/i-0abc".to_owned()];
    world.contain();
    assert_eq!(world.principals[&role()].deny_document, None);
    assert!(world.principals[&user()].deny_document.is_some());
    assert!(
        !world.touched.iter().any(|id| id.contains("role")),
        "{:?}",
        world.touched
    );
    assert!(why(&world, "role/agents/agent").contains("the guard's own"));
    assert_eq!(state(&world, "i-1"), InstanceState::Stopped);
}

#[test]
fn what_can_only_be_destroyed_is_destroyed_by_an_explicit_setting() {
    let mut one_time = instance("eu-west-1", "i-onetime", "a");
    one_time.spot = Some(SpotKind::OneTime);
    let mut world = World::new(vec![one_time]);
    world.rules.terminate_unstoppable = true;
    world.contain();
    assert_eq!(state(&world, "i-onetime"), InstanceState::Terminated);
    world.reset(&[]);
    let outcome = world.restored.iter().find_map(|image| match &image.before {
        Before::Instance { .. } => image.outcome.clone(),
        _ => None,
    });
    assert!(outcome.unwrap().contains("we terminated it"));
}

#[test]
fn a_termination_that_was_refused_is_tried_again() {
    let mut one_time = instance("eu-west-1", "i-onetime", "a");
    one_time.spot = Some(SpotKind::OneTime);
    let mut world = World::new(vec![one_time]);
    world.rules.terminate_unstoppable = true;
    world.refuse.insert("i-onetime".to_owned());
    world.contain();
    assert_eq!(why(&world, "i-onetime"), "OperationNotPermitted");
    world.refuse.clear();
    for _ in 0..10 {
        world.sweep(Fuel::ENDLESS);
    }
    assert_eq!(state(&world, "i-onetime"), InstanceState::Terminated);
}

#[test]
fn a_match_outside_the_declared_regions_asks_a_person() {
    let mut world = World::new(vec![
        instance("ap-south-1", "i-far", "a"),
        instance("eu-west-1", "i-near", "a"),
    ]);
    let plan = world.plan();
    let asks: Vec<_> = plan.regions.iter().flat_map(|region| &region.ask).collect();
    assert_eq!(asks.len(), 1);
    assert_eq!(asks[0].resource, "instance:ap-south-1/i-far");
    world.contain();
    assert_eq!(state(&world, "i-far"), InstanceState::Running);
    assert!(why(&world, "i-far").contains("a person is asked"));
    world.foreign.insert("instance:ap-south-1/i-far".to_owned(), false);
    world.sweep(Fuel::ENDLESS);
    assert_eq!(state(&world, "i-far"), InstanceState::Running);
    world.foreign.insert("instance:ap-south-1/i-far".to_owned(), true);
    world.contain_again();
    assert_eq!(state(&world, "i-far"), InstanceState::Stopped);
    world.reset(&[]);
    assert_eq!(state(&world, "i-far"), InstanceState::Running);
}

#[test]
fn another_account_is_out_of_reach() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.targets.account = "999999999999".to_owned();
    world.targets.principals = vec![Principal::Role("arn:aws:iam::999999999999:role/x".to_owned())];
    let plan = world.plan();
    assert!(!plan.is_quiet(), "a principal that cannot be denied proves nothing");
    assert!(plan.principals.unseen[0].why.contains("999999999999"));
    assert_eq!(plan.regions.iter().map(|region| region.ask.len()).sum::<usize>(), 1);
}

#[test]
fn nothing_is_proved_of_an_account_that_is_not_seen() {
    // Declares tags alone: no principal says that the account is the wrong one.
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.targets.principals.clear();
    world.targets.account = "999999999999".to_owned();
    for _ in 0..10 {
        assert_ne!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
    }
    assert!(why(&world, "region:us-east-1").contains("the agent's account is 999999999999"));
    assert_eq!(
        world.plan().regions[0].ask.len(),
        1,
        "a match there still asks a person"
    );
    assert!(world.touched.is_empty());
}

#[test]
fn a_region_that_is_down_holds_nothing_back_and_proves_nothing() {
    let mut world = World::new(vec![
        instance("eu-west-1", "i-1", "a"),
        instance("us-east-1", "i-2", "a"),
    ]);
    world.down.insert(region("us-east-1"));
    for _ in 0..5 {
        assert_ne!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
    }
    assert_eq!(state(&world, "i-1"), InstanceState::Stopped);
    assert_eq!(world.containment.phase, Phase::Containing);
    assert!(why(&world, "us-east-1").contains("no answer"));
    world.down.clear();
    world.contain();
    assert_eq!(state(&world, "i-2"), InstanceState::Stopped);
}

#[test]
fn a_region_that_is_down_after_the_proof_is_said_and_no_alarm() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.contain();
    world.down.insert(region("us-east-1"));
    assert_eq!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Same);
    assert_eq!(world.containment.phase, Phase::Contained);
    assert!(why(&world, "us-east-1").contains("no answer"));
}

#[test]
fn a_deny_that_somebody_takes_away_is_put_back_with_an_alarm() {
    let mut world = World::new(Vec::new());
    world.contain();
    world.principals.get_mut(&role()).unwrap().deny_document = None;
    let (plan, progress) = world.sweep(Fuel::ENDLESS).unwrap();
    assert!(plan.principals.denies[0].put_back);
    assert_eq!(progress, Progress::Disturbed);
    assert_eq!(world.principals[&role()].deny_document.as_deref(), Some(deny::DOCUMENT));
    world.contain();
}

#[test]
fn what_appears_during_a_containment_is_stopped() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.contain();
    let mut late = instance("us-east-1", "i-late", "a");
    late.state = InstanceState::Pending;
    late.launched_at = Some(world.now);
    world.instances.insert(late.id.clone(), late);
    assert_eq!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Disturbed);
    world.contain();
    assert_eq!(state(&world, "i-late"), InstanceState::Stopped);
}

#[test]
fn taking_the_tag_off_does_not_let_a_machine_slip_away() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.contain();
    let machine = world.instances.get_mut("i-1").unwrap();
    machine.tags.clear();
    machine.state = InstanceState::Running;
    world.contain_again();
    assert_eq!(state(&world, "i-1"), InstanceState::Stopped);
}

#[test]
fn a_machine_that_was_ours_in_an_earlier_containment_is_not_ours_for_ever() {
    let mut world = World::new(vec![
        instance("eu-west-1", "i-1", "a"),
        instance("eu-west-1", "i-2", "a"),
    ]);
    world.contain();
    world.reset(&["i-1"]);
    let given_away = world.instances.get_mut("i-2").unwrap();
    given_away.tags.insert("backstop:agent".to_owned(), "b".to_owned());
    given_away.state = InstanceState::Running;
    world.next_generation();
    world.contain();
    assert_eq!(state(&world, "i-2"), InstanceState::Running);
}

#[test]
fn revoke_ends_after_the_deny() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.containment.mode = Mode::Revoke;
    world.contain();
    assert_eq!(state(&world, "i-1"), InstanceState::Running);
    assert_eq!(world.principals[&user()].deny_document.as_deref(), Some(deny::DOCUMENT));
    assert!(!world.principals[&user()].keys[0].active);
    world.reset(&[]);
    assert_eq!(world.principals[&user()].deny_document, None);
    assert!(world.principals[&user()].keys[0].active);
    assert!(
        !world.principals[&user()].keys[1].active,
        "inactive before, inactive after"
    );
}

#[test]
fn a_key_that_a_person_made_inactive_stays_so() {
    let mut world = World::new(Vec::new());
    world.refuse.insert("AKIA1".to_owned());
    world.sweep(Fuel::ENDLESS);
    assert!(world.principals[&user()].keys[0].active, "we were refused");
    world.set_key("AKIA1", false);
    world.contain();
    assert!(
        world.containment.coverage.denied.iter().any(|id| id.ends_with("AKIA1")),
        "it is denied, whoever did it"
    );
    world.reset(&[]);
    assert!(!world.principals[&user()].keys[0].active);
    assert!(world.images.is_empty());
}

#[test]
fn contain_partial_reset_contain_reset_keeps_the_first_before_image() {
    let mut world = World::new(vec![
        instance("eu-west-1", "i-1", "a"),
        instance("eu-west-1", "i-2", "a"),
    ]);
    let first = world.snapshot();
    world.contain();
    let image = world.images[&Resource::Instance {
        region: region("eu-west-1"),
        id: "i-2".to_owned(),
    }]
        .clone();
    world.reset(&["i-1"]);
    assert_eq!(state(&world, "i-1"), InstanceState::Running);
    assert_eq!(state(&world, "i-2"), InstanceState::Stopped);
    assert_eq!(world.images.values().collect::<Vec<_>>(), vec![&image]);
    world.next_generation();
    world.contain();
    assert_eq!(world.images[&image.resource].containment, containment(1).id);
    world.reset(&[]);
    assert_eq!(world.snapshot(), first);
    assert!(world.images.is_empty());
}

#[test]
fn what_was_started_since_we_stopped_it_is_not_ours_to_start() {
    let mut world = World::new(["i-1", "i-2", "i-3"].map(|id| instance("eu-west-1", id, "a")).to_vec());
    world.contain();
    world.reset(&["i-1"]);
    // Its owner starts one of the two that were left, and stops it again; the next containment finds it
    // down. The other one stays as we left it.
    world.now = world.now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    world.instances.get_mut("i-2").unwrap().launched_at = Some(world.now);
    world.now = world.now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    world.next_generation();
    world.contain();
    world.reset(&[]);
    assert_eq!(state(&world, "i-2"), InstanceState::Stopped);
    assert_eq!(state(&world, "i-3"), InstanceState::Running);
    let image = world
        .restored
        .iter()
        .find(|image| image.resource.to_string().ends_with("i-2"));
    assert!(
        image
            .unwrap()
            .outcome
            .as_ref()
            .unwrap()
            .contains("started by somebody else since")
    );
    assert!(world.images.is_empty());
}

#[test]
fn a_machine_that_we_stopped_again_is_ours_again() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    let first = world.snapshot();
    world.contain();
    world.now = world.now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    let machine = world.instances.get_mut("i-1").unwrap();
    (machine.state, machine.launched_at) = (InstanceState::Running, Some(world.now));
    // It is stopped again, and we crash before that is noted.
    let mut fuel = 0;
    while world.instances["i-1"].state == InstanceState::Running {
        world.sweep(Fuel(fuel));
        fuel += 1;
    }
    let noted = world.images.values().find_map(|image| match image.resource {
        Resource::Instance { .. } => image.changed_at,
        _ => None,
    });
    assert!(noted < world.instances["i-1"].launched_at, "it is not noted yet");
    let crashed = world.clone();
    world.contain_again();
    for mut world in [world, crashed] {
        world.reset(&[]);
        assert_eq!(world.snapshot(), first);
    }
}

#[test]
fn a_restore_leaves_what_somebody_else_changed() {
    let mut world = World::new(
        ["i-gone", "i-up", "i-ours"]
            .map(|id| instance("eu-west-1", id, "a"))
            .to_vec(),
    );
    world.contain();
    world.instances.remove("i-gone");
    world.instances.get_mut("i-up").unwrap().state = InstanceState::Running;
    let theirs = r#"{"Version":"2012-10-17","Statement":[]}"#.to_owned();
    world.principals.get_mut(&role()).unwrap().deny_document = Some(theirs.clone());
    world.principals.get_mut(&user()).unwrap().keys[0].active = true;
    world.touched.clear();
    world.reset(&[]);
    assert_eq!(world.principals[&role()].deny_document, Some(theirs));
    assert_eq!(state(&world, "i-ours"), InstanceState::Running);
    let touched: Vec<_> = world.touched.iter().map(String::as_str).collect();
    assert_eq!(
        touched,
        [
            "credential:agent/ACCA1",
            "instance:eu-west-1/i-ours",
            &format!("user:{}", user().arn())
        ]
    );
    let outcome = |name: &str| {
        let image = world
            .restored
            .iter()
            .find(|image| image.resource.to_string().contains(name));
        image.unwrap().outcome.clone().unwrap()
    };
    assert!(outcome("i-gone").contains("terminated by somebody else"));
    assert!(outcome("i-up").contains("started by somebody else"));
    assert!(outcome("role:").contains("changed the policy"));
    assert!(outcome("key:").contains("activated by somebody else"));
    assert_eq!(outcome("i-ours"), "started");
    assert_eq!(outcome("user:"), "lifted");
}

#[test]
fn a_document_that_was_there_under_our_name_comes_back() {
    let mut world = World::new(Vec::new());
    let theirs = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}"#;
    world.principals.get_mut(&role()).unwrap().deny_document = Some(theirs.to_owned());
    let first = world.snapshot();
    world.contain();
    assert_eq!(world.principals[&role()].deny_document.as_deref(), Some(deny::DOCUMENT));
    world.reset(&[]);
    assert_eq!(world.snapshot(), first);
}

#[test]
fn machines_that_cannot_be_seen_in_time_stay_owed() {
    let mut world = World::new(vec![instance("us-east-1", "i-1", "a")]);
    world.contain();
    world.down.insert(region("us-east-1"));
    world.begin_restore(&[]);
    for _ in 0..10 {
        assert_eq!(world.restore(Fuel::ENDLESS), Some(false));
    }
    assert_eq!(world.principals[&role()].deny_document, None, "the rest was put back");
    for _ in 0..100 {
        if world.restore(Fuel::ENDLESS) == Some(true) {
            break;
        }
    }
    assert_eq!(world.containment.phase, Phase::Closed);
    assert_eq!(world.images.len(), 1, "it is owed to the next reset");
    world.down.clear();
    world.next_generation();
    world.contain();
    world.reset(&[]);
    assert_eq!(state(&world, "i-1"), InstanceState::Running);
}

#[test]
fn a_restore_believes_nothing_that_another_account_shows() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    let first = world.snapshot();
    world.contain();
    let images = world.images.clone();
    // To those credentials everything is gone, for longer than machines are waited for.
    let there = (std::mem::take(&mut world.instances), world.principals.clone());
    for state in world.principals.values_mut() {
        state.exists = false;
        state.keys.clear();
    }
    world.begin_restore(&[]);
    for account in [None, Some("999999999999".to_owned())] {
        world.account = account;
        for _ in 0..100 {
            assert_eq!(world.restore(Fuel::ENDLESS), Some(false));
        }
        assert_eq!(world.images, images, "no before-image is spent");
    }
    let plan = world.plan_restore();
    assert_eq!(plan.waiting.len(), images.len());
    assert!(
        plan.waiting
            .iter()
            .all(|line| line.why.contains("of account 999999999999"))
    );
    world.account = Some(super::model::ACCOUNT.to_owned());
    (world.instances, world.principals) = there;
    for _ in 0..10 {
        if world.restore(Fuel::ENDLESS) == Some(true) {
            break;
        }
    }
    assert_eq!(world.snapshot(), first, "even machines, whose time was long over");
    assert!(world.images.is_empty());
}

#[test]
fn machines_that_only_their_creator_gives_away_are_a_gap_that_is_said() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.contain();
    assert!(why(&world, CREATORS).contains("is not looked for"));
    assert_eq!(world.containment.coverage.attribution_pending_until, None);
    // Once something reads creator events, they are waited for instead.
    world.rules.attribution_lag = Some(jiff::SignedDuration::from_mins(15));
    world.sweep(Fuel::ENDLESS);
    assert_eq!(why(&world, CREATORS), "");
    assert!(world.containment.coverage.attribution_pending_until.is_some());
    // A revoked agent's machines are left alone anyway.
    let mut revoked = World::new(Vec::new());
    revoked.containment.mode = Mode::Revoke;
    revoked.contain();
    assert_eq!(revoked.containment.coverage.still_burning, []);
}

#[test]
fn selections_that_select_nothing_are_named() {
    let mut world = World::new(vec![instance("eu-west-1", "i-1", "a")]);
    world.contain();
    let only = ["i-1", "instance:eu-west-1/i-1", "i-2", "instance:us-east-1/i-1"].map(str::to_owned);
    assert_eq!(
        unknown_selections(&world.images, &only),
        ["i-2", "instance:us-east-1/i-1"]
    );
}

#[test]
fn two_quiet_sweeps_too_close_together_prove_nothing() {
    let mut world = World::new(Vec::new());
    world.sweep(Fuel::ENDLESS);
    let at = world.now;
    for _ in 0..5 {
        assert_eq!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Same);
        world.now = at;
    }
    assert_eq!(world.containment.quiet, 1);
    world.now = at.checked_add(jiff::SignedDuration::from_secs(10)).unwrap();
    assert_eq!(world.sweep(Fuel::ENDLESS).unwrap().1, Progress::Contained);
}

impl World {
    /// Proves it again after something was disturbed.
    fn contain_again(&mut self) {
        self.containment.phase = Phase::Containing;
        self.containment.quiet = 0;
        self.contain();
    }
}
