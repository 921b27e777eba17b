//! Bounds that follow what is left: what is granted, what waits, what is refused for good.

use super::*;
use crate::domain::ledger::batch::Refusal;

/// So many dollars, and a dollar a unit.
pub(super) fn units(base: i64, wanted: u64, least: u64) -> Bound {
    Bound::Tokens(TokenBound {
        base: usd(base),
        nanos_per_million: 1_000_000_000_000_000,
        wanted,
        least,
    })
}

fn asks(hold: u128, bound: Bound, lines: &[LineSpec]) -> Op {
    Op::Admit(Admit {
        bound,
        ..admit(hold, 0, lines)
    })
}

fn granted(outcome: &Outcome) -> Usd {
    match outcome {
        Outcome::Admitted { bound, .. } => *bound,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_bound_is_a_sixteenth_of_what_is_left_and_what_is_held_does_not_lower_it() {
    let (mut ledger, day) = (Ledger::default(), line("day", 320));
    let lines = std::slice::from_ref(&day);
    let call = units(2, 100, 3);
    for hold in 1..=16 {
        assert_eq!(granted(&ledger.one(0, asks(hold, call, lines))), usd(20), "hold {hold}");
    }
    assert_eq!(ledger.holds[&hold_id(1)].bound, usd(20));
    assert_eq!(
        ledger.one(0, asks(17, call, lines)),
        waits(20, &day, (320, 0, 320)),
        "held money comes back"
    );
    // What is spent does lower it.
    ledger.run(
        0,
        vec![Op::Capture(capture(1, 16)), Op::Capture(capture(2, 16)), void(3)],
    );
    assert_eq!(granted(&ledger.one(0, asks(17, call, lines))), usd(18));
}

#[test]
fn it_is_never_more_than_is_wanted_and_never_less_than_the_floor() {
    let (mut ledger, day) = (Ledger::default(), line("day", 320));
    let lines = std::slice::from_ref(&day);
    assert_eq!(granted(&ledger.one(0, asks(1, units(2, 7, 3), lines))), usd(9));
    assert_eq!(granted(&ledger.one(0, asks(2, units(30, 100, 3), lines))), usd(33));
    assert_eq!(granted(&ledger.one(0, asks(3, units(30, 1, 3), lines))), usd(31));
}

#[test]
fn the_line_with_the_least_left_decides() {
    let mut ledger = Ledger::default();
    let (wide, tight) = (line("wide", 3_200), line("tight", 160));
    let both = [wide.clone(), tight.clone()];
    assert_eq!(granted(&ledger.one(0, asks(1, units(0, 1_000, 1), &both))), usd(10));
    assert_eq!(granted(&ledger.one(0, asks(2, units(0, 1_000, 1), &[wide]))), usd(200));
}

#[test]
fn a_lifted_line_sets_no_bound() {
    let mut ledger = Ledger::default();
    let (day, other) = (line("day", 160), line("other", 320));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![asks(1, units(0, 1, 1), &[day.clone(), other.clone()]), void(1)]);
    ledger.run(
        0,
        vec![Op::Override {
            line: day.key.clone(),
            raise: Usd::ZERO,
            lifted_until: Some(at(100)),
        }],
    );
    assert_eq!(granted(&ledger.one(0, asks(2, units(0, 1_000, 1), lines))), usd(1_000));
    let both = [day, other];
    assert_eq!(granted(&ledger.one(0, asks(3, units(0, 1_000, 1), &both))), usd(20));
}

#[test]
fn refused_for_good_is_judged_on_the_floor_and_so_is_the_breach() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Report(report(1, 95, lines))]);
    ledger.fired();
    assert_eq!(granted(&ledger.one(0, asks(1, units(2, 4_000, 3), lines))), usd(5));
    ledger.run(0, vec![void(1)]);
    let refused = ledger.one(0, asks(2, units(2, 4_000, 4), lines));
    assert!(
        matches!(refused, Outcome::Refused(Refusal::Budget { .. })),
        "{refused:?}"
    );
    assert_eq!(ledger.fired(), [TriggerCause::RefusedForGood { bound: usd(6) }]);
}

/// A batch that is sent again grants what was granted, whatever is left by then (L3).
#[test]
fn a_repeated_admission_is_answered_with_the_bound_that_is_held() {
    let (mut ledger, day) = (Ledger::default(), line("day", 320));
    let lines = std::slice::from_ref(&day);
    let call = asks(1, units(0, 100, 1), lines);
    assert_eq!(granted(&ledger.one(0, call.clone())), usd(20));
    ledger.run(0, vec![Op::Report(report(1, 250, lines))]);
    assert_eq!(granted(&ledger.one(0, call)), usd(20));
    assert_eq!(ledger.sums(&day), (250, 20, 0, 0));
}

#[test]
fn what_could_be_absurd_is_rejected_though_little_is_left() {
    let (mut ledger, day) = (Ledger::default(), line("day", 320));
    let lines = std::slice::from_ref(&day);
    let absurd = ledger.one(0, asks(1, units(0, 1_000_000_001, 1), lines));
    assert_eq!(
        absurd,
        Outcome::Rejected(crate::domain::ledger::batch::LedgerRejection::Absurd)
    );
}

/// **L3**: who gives a call up says why, and evidence replaces its bound later.
#[test]
fn l3_a_call_that_is_given_up_is_unresolved_at_its_bound_and_says_why() {
    let (mut ledger, day) = (Ledger::default(), line("day", 320));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![asks(1, units(0, 100, 1), lines)]);
    ledger.run(
        5,
        vec![Op::Expire {
            hold: hold_id(1),
            posting: posting_id(1),
            detail: Some("the stream broke off".to_owned()),
        }],
    );
    assert_eq!(ledger.sums(&day), (20, 0, 20, 0));
    assert_eq!(ledger.postings[0].detail.as_deref(), Some("the stream broke off"));
    assert_eq!(
        ledger.postings[0].occurred_at,
        at(5),
        "it ends now, and not when it would have expired"
    );
    ledger.run(
        9,
        vec![Op::Capture(Capture {
            posting: posting_id(2),
            ..capture(1, 7)
        })],
    );
    assert_eq!(ledger.sums(&day), (7, 0, 0, 0));
}
