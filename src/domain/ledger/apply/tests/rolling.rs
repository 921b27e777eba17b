use super::*;
use crate::domain::ledger::batch::Refusal;

/// The last 100 seconds in buckets of 10.
fn line100(limit: i64) -> LineSpec {
    rolling("burst", limit, 100, 10)
}

fn spent(ledger: &mut Ledger, second: i64, n: u128, amount: i64, occurred: i64, line: &LineSpec) {
    let report = Report {
        occurred_at: at(occurred),
        ..report(n, amount, std::slice::from_ref(line))
    };
    ledger.run(second, vec![Op::Report(report)]);
}

#[test]
fn l1_posted_is_what_the_live_buckets_hold() {
    let (mut ledger, burst) = (Ledger::default(), line100(10));
    let lines = std::slice::from_ref(&burst);
    spent(&mut ledger, 5, 1, 4, 5, &burst);
    spent(&mut ledger, 9, 2, 2, 9, &burst);
    spent(&mut ledger, 12, 3, 3, 12, &burst);
    assert_eq!(ledger.sums(&burst), (9, 0, 0, 0));
    assert_eq!(ledger.line(&burst).buckets.len(), 2);
    // The first bucket ends at 10 and counts until 110.
    let refused = ledger.one(109, Op::Admit(admit(1, 5, lines)));
    assert!(matches!(refused, Outcome::Refused(Refusal::Budget { .. })));
    assert!(admitted(&ledger.one(110, Op::Admit(admit(1, 5, lines)))));
    assert_eq!(ledger.sums(&burst), (3, 5, 0, 0));
    ledger.run(120, vec![void(1)]);
    assert_eq!(ledger.sums(&burst), (0, 0, 0, 0));
    assert!(ledger.line(&burst).buckets.is_empty());
}

#[test]
fn entries_go_to_the_bucket_of_their_time() {
    let (mut ledger, burst) = (Ledger::default(), line100(10));
    spent(&mut ledger, 50, 1, 1, 41, &burst);
    spent(&mut ledger, 50, 2, 2, 3, &burst);
    spent(&mut ledger, 50, 3, 4, 45, &burst);
    let buckets: Vec<_> = ledger
        .line(&burst)
        .buckets
        .iter()
        .map(|b| (b.start, b.posted))
        .collect();
    assert_eq!(buckets, [(at(0), usd(2)), (at(40), usd(5))]);
}

#[test]
fn what_has_left_the_window_does_not_count_on_it() {
    let mut ledger = Ledger::default();
    let (burst, day) = (line100(10), line("day", 10));
    let old = Report {
        occurred_at: at(9),
        ..report(1, 4, &[burst.clone(), day.clone()])
    };
    ledger.run(110, vec![Op::Report(old)]);
    assert!(!ledger.lines.contains_key(&burst.key));
    assert_eq!(ledger.sums(&day), (4, 0, 0, 0));
    assert_eq!(ledger.entries.len(), 1);
    spent(&mut ledger, 110, 2, 3, 10, &burst);
    assert_eq!(ledger.sums(&burst), (3, 0, 0, 0));
}

#[test]
fn l3_a_correction_finds_its_bucket_or_its_bucket_is_gone() {
    for (second, sums) in [(150, (1, 0, 0, 0)), (711, (0, 0, 0, 0))] {
        let (mut ledger, burst) = (Ledger::default(), line100(10));
        let lines = std::slice::from_ref(&burst);
        let hold = Admit {
            expires_at: at(100),
            ..admit(1, 4, lines)
        };
        ledger.run(0, vec![Op::Admit(hold)]);
        ledger.run(100, vec![expire(1)]);
        assert_eq!(ledger.sums(&burst), (4, 0, 4, 0));
        ledger.run(
            second,
            vec![Op::Resolve(resolve(1, 1)), Op::Report(report(1, 0, lines))],
        );
        assert_eq!(ledger.sums(&burst), sums);
        assert_eq!(ledger.kinds()[..2], [PostingKind::Unresolved, PostingKind::Correction]);
    }
}

#[test]
fn a_capture_counts_from_its_hold_on() {
    let (mut ledger, burst) = (Ledger::default(), line100(10));
    ledger.run(105, vec![Op::Admit(admit(1, 4, std::slice::from_ref(&burst)))]);
    // An agent that says it happened in 1970 does not talk its spend out of the window.
    let old = Capture {
        occurred_at: Timestamp::UNIX_EPOCH,
        ..capture(1, 4)
    };
    ledger.run(110, vec![Op::Capture(old)]);
    assert_eq!(ledger.sums(&burst), (4, 0, 0, 0));
    assert_eq!(ledger.line(&burst).buckets[0].start, at(100));
}

#[test]
fn l2_an_overage_leaves_with_its_bucket() {
    let (mut ledger, burst) = (Ledger::default(), line100(10));
    let lines = std::slice::from_ref(&burst);
    ledger.run(0, vec![Op::Admit(admit(1, 5, lines)), Op::Capture(capture(1, 7))]);
    spent(&mut ledger, 20, 1, 8, 20, &burst);
    assert_eq!(
        ledger.sums(&burst),
        (15, 0, 0, 7),
        "five past the limit, and two past a bound"
    );
    spent(&mut ledger, 115, 2, 0, 115, &burst);
    assert_eq!(ledger.sums(&burst), (8, 0, 0, 2));
    spent(&mut ledger, 250, 3, 0, 250, &burst);
    assert_eq!(ledger.sums(&burst), (0, 0, 0, 0));
}

#[test]
fn a_shorter_window_drops_and_a_longer_one_does_not_bring_back() {
    let (mut ledger, burst) = (Ledger::default(), line100(10));
    let reshape = |length_s| Op::SetRule {
        budget: burst.key.budget.clone(),
        rule: LineRule {
            rolling: Some((length_s, 10)),
            ..burst.rule.clone()
        },
        after: None,
    };
    spent(&mut ledger, 5, 1, 4, 5, &burst);
    spent(&mut ledger, 60, 2, 3, 60, &burst);
    ledger.run(70, vec![reshape(20)]);
    spent(&mut ledger, 71, 3, 0, 71, &burst);
    assert_eq!(ledger.sums(&burst), (3, 0, 0, 0));
    ledger.run(72, vec![reshape(100)]);
    assert_eq!(ledger.sums(&burst), (3, 0, 0, 0));
}

/// Found by the simulation: a correction empties the window after the bucket with the excess has left it.
#[test]
fn l2_what_went_past_a_bound_does_not_outstay_what_is_posted() {
    let (mut ledger, burst) = (Ledger::default(), line100(10));
    let lines = std::slice::from_ref(&burst);
    ledger.run(5, vec![Op::Admit(admit(1, 2, lines)), Op::Admit(admit(2, 4, lines))]);
    ledger.run(6, vec![Op::Capture(capture(1, 3))]);
    assert_eq!(ledger.line(&burst).overage, usd(1));
    ledger.run(50, vec![expire(2)]);
    ledger.run(115, vec![Op::Resolve(resolve(2, 0))]);
    assert_eq!(ledger.line(&burst).posted, usd(0));
    assert_eq!(ledger.line(&burst).overage, usd(0));
}

/// A line that nothing was committed on for a while is what the next commit will make of it.
#[test]
fn an_idle_line_is_seen_without_what_is_over() {
    let (mut ledger, spec) = (Ledger::default(), rolling("last", 10, 3_600, 60));
    let lines = std::slice::from_ref(&spec);
    ledger.run(0, vec![Op::Report(report(1, 25, lines))]);
    let idle = ledger.line(&spec).clone();
    let (posted, overage) = (idle.posted, idle.overage);
    assert_eq!(idle.clone().as_of(at(3_599)), idle, "nothing is over yet");
    let seen = idle.as_of(at(3_660));
    assert!(posted > Usd::ZERO && overage > Usd::ZERO);
    assert_eq!(
        (seen.posted, seen.overage, seen.buckets.len()),
        (Usd::ZERO, Usd::ZERO, 0)
    );
    // The same as the rules make of it.
    ledger.one(3_660, Op::Rearm { line: spec.key.clone() });
    assert_eq!(
        ledger.line(&spec).clone(),
        Line {
            breached: ledger.line(&spec).breached,
            ..seen
        }
    );
}
