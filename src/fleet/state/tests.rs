use super::*;
use crate::domain::containment::target::{CloudTargets, Principal};
use crate::domain::fleet::asset::Brake;
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::owner::Claim;
use crate::domain::fleet::rate::Meter;

const ACCOUNT: &str = "123456789012";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn region() -> Region {
    Region("us-east-1".to_owned())
}

fn what(kind: Kind, id: &str) -> AssetRef {
    AssetRef {
        kind,
        region: region(),
        id: id.to_owned(),
    }
}

fn machine(id: &str, owner: Option<&str>) -> Asset {
    Asset {
        what: what(Kind::INSTANCE, id),
        service: "AmazonEC2".into(),
        tags: owner
            .map(|name| ("backstop:agent".to_owned(), name.to_owned()))
            .into_iter()
            .collect(),
        acts_as: Vec::new(),
        unread: None,
        parent: None,
        created_at: None,
        meters: vec![Meter::one("ec2/m7g.large")],
        brake: Brake::Stop,
    }
}

fn look(kind: Kind, second: i64, assets: Vec<Asset>) -> Look {
    Look {
        kind,
        at: at(second),
        listed: Ok(assets),
    }
}

fn owners() -> Owners {
    let claim = |name: &str| Claim {
        agent: AgentId::new(name).unwrap(),
        targets: CloudTargets {
            account: ACCOUNT.to_owned(),
            principals: vec![Principal::Role(format!("arn:aws:iam::{ACCOUNT}:role/{name}"))],
            tags: BTreeMap::from([("backstop:agent".to_owned(), name.to_owned())]),
            regions: Vec::new(),
        },
        profiles: BTreeSet::new(),
    };
    Owners::new(vec![claim("a"), claim("b")])
}

fn take(state: &mut State, looks: Vec<Look>) -> Taken {
    state.take_in(&region(), looks, &owners(), "0.05".parse().unwrap())
}

fn a() -> AgentId {
    AgentId::new("a").unwrap()
}

/// $0.0816 an hour.
fn hourly() -> Usd {
    "0.0816".parse().unwrap()
}

#[test]
fn what_rises_is_told_and_what_stays_is_not() {
    let mut state = State::default();
    let one = || look(Kind::INSTANCE, 0, vec![machine("i-1", Some("a"))]);
    let taken = take(&mut state, vec![one()]);
    assert!(taken.rose && taken.changed);
    assert_eq!(take(&mut state, vec![one()]), Taken::default());
    assert_eq!(state.burning(), BTreeMap::from([(a(), hourly())]));
    // The same number of machines, and one of them somebody else's.
    let taken = take(
        &mut state,
        vec![look(Kind::INSTANCE, 15, vec![machine("i-1", Some("b"))])],
    );
    assert!(taken.rose && taken.changed);
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 30, vec![])]);
    assert!(!taken.rose && taken.changed);
}

#[test]
fn l7_a_look_that_fails_goes_on_charging() {
    let mut state = State::default();
    take(
        &mut state,
        vec![look(Kind::INSTANCE, 0, vec![machine("i-1", Some("a"))])],
    );
    let failed = |second| Look {
        kind: Kind::INSTANCE,
        at: at(second),
        listed: Err("down".to_owned()),
    };
    take(&mut state, vec![failed(15)]);
    take(&mut state, vec![failed(30)]);
    let looked = &state.regions[&region()].kinds[&Kind::INSTANCE];
    let trouble = Trouble {
        since: at(15),
        why: "down".to_owned(),
    };
    assert_eq!(
        (looked.at, looked.trouble.as_ref(), looked.assets.len()),
        (Some(at(0)), Some(&trouble), 1)
    );
    state.take_out(at(3600));
    assert_eq!(state.unposted(&a()), hourly());
    take(&mut state, vec![look(Kind::INSTANCE, 3600, vec![])]);
    assert!(state.regions[&region()].kinds[&Kind::INSTANCE].trouble.is_none());
}

#[test]
fn a_child_is_its_parents_whichever_was_seen_first() {
    let group = Kind::named("group");
    let mut state = State::default();
    let mut child = machine("i-1", None);
    child.parent = Some(what(group.clone(), "g"));
    let mut parent = machine("g", Some("a"));
    parent.what = what(group.clone(), "g");
    parent.meters.clear();
    take(&mut state, vec![look(Kind::INSTANCE, 0, vec![child.clone()])]);
    assert!(state.burning().is_empty());
    take(&mut state, vec![look(group, 5, vec![parent])]);
    take(&mut state, vec![look(Kind::INSTANCE, 3600, vec![child])]);
    // What it cost while nobody knew whose it was is its owner's too.
    assert_eq!(state.burning(), BTreeMap::from([(a(), hourly())]));
    assert_eq!(state.unposted(&a()), hourly());
}

#[test]
fn what_was_made_by_an_agent_is_charged_to_it_from_its_start() {
    let mut state = State::default();
    take(&mut state, vec![look(Kind::INSTANCE, 0, vec![])]);
    let mut untagged = machine("i-1", None);
    untagged.created_at = Some(at(10));
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 15, vec![untagged.clone()])]);
    assert_eq!(taken.orphans, [(untagged.what.clone(), hourly())]);
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 30, vec![untagged.clone()])]);
    assert!(taken.orphans.is_empty(), "told once");
    state.makers.note(&Creation {
        event: "e-1".to_owned(),
        call: "RunInstances".to_owned(),
        at: at(10),
        account: ACCOUNT.to_owned(),
        region: region(),
        by: format!("arn:aws:sts::{ACCOUNT}:assumed-role/a/session"),
        made: vec![untagged.what.clone()],
    });
    take(&mut state, vec![look(Kind::INSTANCE, 3610, vec![untagged])]);
    // An hour that lies in two hours of the clock is two cells, each rounded up.
    assert_eq!(state.unposted(&a()), hourly().saturating_add(Usd::from_nanos(1)));
}

/// The record is behind the fleet: a machine may have ended before its maker is known.
#[test]
fn what_ended_before_its_maker_was_known_is_charged_to_it() {
    let mut state = State::default();
    take(&mut state, vec![look(Kind::INSTANCE, 0, vec![])]);
    let mut short = machine("i-1", None);
    short.created_at = Some(at(60));
    take(&mut state, vec![look(Kind::INSTANCE, 75, vec![short.clone()])]);
    take(&mut state, vec![look(Kind::INSTANCE, 300, vec![])]);
    assert_eq!(state.unposted(&a()), Usd::ZERO);
    state.makers.note(&Creation {
        event: "e-1".to_owned(),
        call: "RunInstances".to_owned(),
        at: at(60),
        account: ACCOUNT.to_owned(),
        region: region(),
        by: format!("arn:aws:iam::{ACCOUNT}:role/a"),
        made: vec![short.what],
    });
    take(&mut state, vec![look(Kind::INSTANCE, 315, vec![])]);
    let cost = Usd::from_nanos(hourly().nanos() * 240 / 3600);
    assert_eq!(state.unposted(&a()), cost);
}

/// A role that cannot be asked about and a tag that was taken off make nothing nobody's.
#[test]
fn evidence_that_is_missing_frees_nobody() {
    let mut state = State::default();
    take(
        &mut state,
        vec![look(Kind::INSTANCE, 0, vec![machine("i-1", Some("a"))])],
    );
    let bare = || vec![look(Kind::INSTANCE, 15, vec![machine("i-1", None)])];
    let taken = take(&mut state, bare());
    assert!(taken.orphans.is_empty() && !taken.changed);
    assert_eq!(state.burning(), BTreeMap::from([(a(), hourly())]));
    // As after a restart, when only the book is known.
    state.regions.clear();
    take(&mut state, bare());
    assert_eq!(state.burning(), BTreeMap::from([(a(), hourly())]));
    // An agent that is not declared any more is nobody.
    let nobody = Owners::default();
    let taken = state.take_in(&region(), bare(), &nobody, "0.05".parse().unwrap());
    assert_eq!((taken.orphans.len(), state.burning().len()), (1, 0));
}

/// An agent that tags its machines as another's is charged for them, and people are told once.
#[test]
fn a_tag_against_the_clouds_own_word_is_told_once() {
    let mut state = State::default();
    let mut lying = machine("i-1", Some("b"));
    lying.acts_as.push(format!("arn:aws:iam::{ACCOUNT}:role/a"));
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 0, vec![lying.clone()])]);
    let mistagged = Mistagged {
        what: lying.what.clone(),
        charged: a(),
        tagged: AgentId::new("b").unwrap(),
    };
    assert_eq!(taken.mistagged, [mistagged]);
    assert_eq!(state.burning(), BTreeMap::from([(a(), hourly())]));
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 15, vec![lying])]);
    assert_eq!(taken.mistagged, []);
}

#[test]
fn what_is_on_its_way_is_not_taken_out_again() {
    let mut state = State::default();
    take(
        &mut state,
        vec![look(Kind::INSTANCE, 0, vec![machine("i-1", Some("a"))])],
    );
    state.take_out(at(1800));
    let first = state.outbox.clone();
    state.take_out(at(3600));
    assert_eq!(state.outbox, first);
    assert_eq!(state.unposted(&a()), hourly());
    state.outbox.clear();
    state.take_out(at(3600));
    assert_ne!(state.outbox[0].charge.batch, first[0].charge.batch);
}

#[test]
fn a_region_that_is_left_is_charged_for_no_longer() {
    let mut state = State::default();
    take(
        &mut state,
        vec![look(Kind::INSTANCE, 0, vec![machine("i-1", Some("a"))])],
    );
    state.forget(&region(), at(3600));
    state.take_out(at(7200));
    assert_eq!(state.unposted(&a()), hourly());
    assert!(state.burning().is_empty() && state.regions.is_empty());
}

/// What an adapter lists under a wrong name would never leave the book.
#[test]
fn what_is_of_another_kind_is_left_out() {
    let mut state = State::default();
    take(
        &mut state,
        vec![look(Kind::named("volume"), 0, vec![machine("i-1", Some("a"))])],
    );
    assert!(state.burning().is_empty());
}

/// A moment in which what names its owner cannot be read makes no orphan.
#[test]
fn what_was_not_read_takes_nobody_its_owner() {
    let mut state = State::default();
    let mut known = machine("i-1", None);
    known.acts_as = vec![format!("arn:aws:iam::{ACCOUNT}:role/a")];
    take(&mut state, vec![look(Kind::INSTANCE, 0, vec![known.clone()])]);
    known.acts_as.clear();
    known.unread = Some("hidden".to_owned());
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 15, vec![known])]);
    assert!(taken.orphans.is_empty() && !taken.changed, "{taken:?}");
    assert_eq!(state.burning().get(&a()), Some(&hourly()));
    // One of which nothing was known is an orphan still.
    let mut unknown = machine("i-2", None);
    unknown.unread = Some("hidden".to_owned());
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 30, vec![unknown])]);
    assert_eq!(taken.orphans.len(), 1);
}

#[test]
fn a_kind_that_fails_for_long_is_told_once_and_so_is_its_return() {
    let mut state = State::default();
    let failed = |second: i64| Look {
        listed: Err("hidden".to_owned()),
        ..look(Kind::INSTANCE, second, Vec::new())
    };
    let mut told = Vec::new();
    for n in 0..10 {
        let taken = take(&mut state, vec![failed(n * 15)]);
        told.extend(taken.blind.into_iter().map(|(kind, why)| (n, kind, why)));
        assert!(taken.seeing.is_empty());
    }
    let third = i64::from(BLIND_AFTER) - 1;
    assert_eq!(told, [(third, Kind::INSTANCE, "hidden".to_owned())]);
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 200, Vec::new())]);
    assert_eq!((taken.blind, taken.seeing), (Vec::new(), vec![Kind::INSTANCE]));
    // One failure is nothing to tell, nor is its end.
    take(&mut state, vec![failed(215)]);
    let taken = take(&mut state, vec![look(Kind::INSTANCE, 230, Vec::new())]);
    assert!(taken.blind.is_empty() && taken.seeing.is_empty());
}
