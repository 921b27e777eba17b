use super::*;
use crate::domain::ledger::batch::Foresee;

fn foresee(ahead: i64, lines: &[LineSpec]) -> Op {
    Op::Foresee(Foresee {
        attribution: spend_of("a"),
        trust: Trust::Cloud,
        lines: lines.to_vec(),
        ahead: usd(ahead),
        burners: Vec::new(),
        unposted: Vec::new(),
    })
}

fn projected(ahead: i64) -> TriggerCause {
    TriggerCause::Projected {
        ahead: usd(ahead),
        burners: Vec::new(),
        unposted: Vec::new(),
    }
}

fn tripped(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Applied { lines, .. } => *lines,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_trips_where_what_comes_reaches_the_limit_and_posts_nothing() {
    let rows = [
        // (posted, ahead, trips) of a limit of 10.
        (0, 9, false),
        (0, 10, true),
        (5, 4, false),
        (5, 5, true),
        (5, 500, true),
        (9, 0, false),
    ];
    for (posted, ahead, trips) in rows {
        let (mut ledger, day) = (Ledger::default(), line("day", 10));
        let lines = std::slice::from_ref(&day);
        ledger.run(0, vec![Op::Report(report(1, posted, lines))]);
        ledger.fired();
        let (postings, entries) = (ledger.postings.clone(), ledger.entries.clone());
        let outcome = ledger.one(1, foresee(ahead, lines));
        assert_eq!(tripped(&outcome), u64::from(trips), "{posted} {ahead}");
        let fired = if trips { vec![projected(ahead)] } else { Vec::new() };
        assert_eq!(ledger.fired(), fired, "{posted} {ahead}");
        assert_eq!((ledger.postings.clone(), ledger.entries.clone()), (postings, entries));
        assert_eq!(ledger.sums(&day), (posted, 0, 0, 0));
    }
}

#[test]
fn a_line_that_does_not_trip_is_not_made() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    ledger.one(0, foresee(9, std::slice::from_ref(&day)));
    assert!(ledger.lines.is_empty());
    ledger.one(0, foresee(10, std::slice::from_ref(&day)));
    assert_eq!(ledger.line(&day).breached, Some(1));
}

#[test]
fn it_trips_once_for_each_limit_and_a_reset_arms_it() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    assert_eq!(tripped(&ledger.one(0, foresee(20, lines))), 1);
    assert_eq!(tripped(&ledger.one(1, foresee(30, lines))), 0);
    ledger.fired();
    // The breach that was foreseen is no second one.
    ledger.run(2, vec![Op::Report(report(1, 11, lines))]);
    assert!(!ledger.fired().contains(&TriggerCause::Breach));
    let arm = |raise, lift: Option<i64>| Op::Override {
        line: day.key.clone(),
        raise: usd(raise),
        lifted_until: lift.map(at),
    };
    ledger.one(3, arm(30, None));
    assert_eq!(tripped(&ledger.one(4, foresee(28, lines))), 0);
    assert_eq!(tripped(&ledger.one(4, foresee(29, lines))), 1);
    ledger.one(5, Op::Rearm { line: day.key.clone() });
    assert_eq!(tripped(&ledger.one(5, foresee(29, lines))), 1);
    // A lifted line is left alone, and armed when the lift is over.
    ledger.one(6, arm(30, Some(60)));
    assert_eq!(tripped(&ledger.one(7, foresee(500, lines))), 0);
    assert_eq!(tripped(&ledger.one(60, foresee(500, lines))), 1);
}

#[test]
fn l3_what_is_unresolved_is_left_out() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Admit(admit(1, 6, lines)), expire(1)]);
    assert_eq!(tripped(&ledger.one(1, foresee(9, lines))), 0);
    assert_eq!(tripped(&ledger.one(1, foresee(10, lines))), 1);
}

#[test]
fn c7_a_weak_forecast_reaches_no_fleet_line() {
    let (mut ledger, fleet) = (Ledger::default(), line("fleet", 10));
    let Op::Foresee(strong) = foresee(50, &[fleet]) else {
        unreachable!()
    };
    let weak = Foresee {
        trust: Trust::Agent,
        ..strong.clone()
    };
    assert_eq!(tripped(&ledger.one(0, Op::Foresee(weak))), 0);
    assert_eq!(tripped(&ledger.one(0, Op::Foresee(strong))), 1);
    assert_eq!(ledger.triggers[0].agent, Some(agent("a")));
}

#[test]
fn it_is_for_an_open_window_and_for_an_amount() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    assert_eq!(tripped(&ledger.one(DAY, foresee(50, lines))), 0);
    assert!(matches!(ledger.one(0, foresee(-1, lines)), Outcome::Rejected(_)));
    assert!(matches!(
        ledger.one(0, foresee(1_000_000_001, lines)),
        Outcome::Rejected(_)
    ));
    // What left a rolling window is not counted.
    let burst = rolling("burst", 10, 60, 10);
    let lines = std::slice::from_ref(&burst);
    ledger.run(0, vec![Op::Report(report(1, 8, lines))]);
    assert_eq!(tripped(&ledger.one(80, foresee(5, lines))), 0);
    ledger.run(
        80,
        vec![Op::Report(Report {
            occurred_at: at(80),
            ..report(2, 8, lines)
        })],
    );
    assert_eq!(tripped(&ledger.one(81, foresee(5, lines))), 1);
}
