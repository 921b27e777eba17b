use super::*;
use crate::domain::ledger::batch::LedgerRejection;

fn set_rule(spec: &LineSpec, limit: i64) -> Op {
    Op::SetRule {
        budget: spec.key.budget.clone(),
        rule: LineRule {
            limit: usd(limit),
            ..spec.rule.clone()
        },
        after: None,
    }
}

fn override_line(spec: &LineSpec, raise: i64, until: Option<i64>) -> Op {
    Op::Override {
        line: spec.key.clone(),
        raise: usd(raise),
        lifted_until: until.map(at),
    }
}

fn rearm(spec: &LineSpec) -> Op {
    Op::Rearm { line: spec.key.clone() }
}

fn applied(lines: u64) -> Outcome {
    Outcome::Applied {
        lines,
        more_after: None,
    }
}

/// A line of $10 with $6 posted and $3 held, its alert sent.
fn ledger() -> (Ledger, LineSpec) {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Report(report(1, 6, lines)), Op::Admit(admit(1, 3, lines))]);
    ledger.fired();
    (ledger, day)
}

#[test]
fn l2_a_limit_lowered_below_what_is_out_is_a_flagged_overage() {
    let (mut ledger, day) = ledger();
    assert_eq!(ledger.one(5, set_rule(&day, 8)), applied(1));
    assert_eq!(ledger.sums(&day), (6, 3, 0, 1));
    assert_eq!(ledger.line(&day).revision, 2);
    assert_eq!(ledger.fired(), [], "six of eight is no breach, and 50 % was sent");
    ledger.run(6, vec![Op::Capture(capture(1, 1))]);
    assert_eq!(ledger.sums(&day), (7, 0, 0, 0));
}

#[test]
fn a_limit_lowered_below_what_is_spent_breaches_at_once() {
    let (mut ledger, day) = ledger();
    ledger.run(5, vec![set_rule(&day, 6)]);
    assert_eq!(ledger.triggers[1].agent, Some(agent("a")));
    assert_eq!(ledger.triggers[1].trust, Trust::Operator);
    assert_eq!(
        ledger.fired(),
        [TriggerCause::Alert { percent: 80 }, TriggerCause::Breach]
    );
    assert_eq!(
        ledger.one(6, set_rule(&day, 6)),
        applied(0),
        "the same rule again is nothing new"
    );
    assert_eq!(ledger.fired(), []);
}

#[test]
fn a_raise_resets_nothing_and_arms_the_next_breach() {
    let (mut ledger, day) = ledger();
    ledger.run(5, vec![set_rule(&day, 6)]);
    ledger.fired();
    assert_eq!(ledger.one(6, override_line(&day, 14, None)), applied(1));
    assert_eq!(ledger.line(&day).limit(), usd(20));
    assert_eq!(ledger.line(&day).breached, Some(2), "what was done about it stays done");
    assert_eq!(ledger.fired(), []);
    ledger.run(7, vec![Op::Report(report(2, 14, std::slice::from_ref(&day)))]);
    assert_eq!(
        ledger.fired(),
        [TriggerCause::Breach],
        "once per revision; the alerts once per line"
    );
    assert_eq!(
        ledger.one(8, override_line(&day, 14, None)),
        applied(0),
        "it is set, not added"
    );
}

#[test]
fn only_lines_that_are_live_and_of_the_budget_get_its_rule() {
    let (mut ledger, day) = ledger();
    let other = line("other", 10);
    ledger.run(5, vec![Op::Report(report(2, 6, std::slice::from_ref(&other)))]);
    ledger.fired();
    assert_eq!(
        ledger.one(DAY, set_rule(&day, 1)),
        applied(0),
        "yesterday is not judged by today's limit"
    );
    let fleet = LineRule {
        scope: Scope::Fleet,
        ..day.rule.clone()
    };
    let reshaped = Op::SetRule {
        budget: day.key.budget.clone(),
        rule: fleet,
        after: None,
    };
    assert_eq!(ledger.one(5, reshaped), applied(0));
    ledger.run(6, vec![set_rule(&day, 9)]);
    assert_eq!(
        (ledger.line(&day).limit(), ledger.line(&other).limit()),
        (usd(9), usd(10))
    );
    let quieter = Op::SetRule {
        budget: day.key.budget.clone(),
        rule: LineRule {
            limit: usd(9),
            response: Response::Alert,
            ..day.rule.clone()
        },
        after: None,
    };
    assert_eq!(ledger.one(7, quieter), applied(1));
    assert_eq!(ledger.line(&day).revision, 2, "another response is not another limit");
    assert_eq!(ledger.fired(), []);
}

#[test]
fn l2_a_lifted_line_admits_and_flags_what_goes_past_it() {
    let (mut ledger, day) = ledger();
    let lines = std::slice::from_ref(&day);
    ledger.run(5, vec![override_line(&day, 0, Some(100))]);
    assert!(admitted(&ledger.one(6, Op::Admit(admit(2, 50, lines)))));
    assert_eq!(ledger.sums(&day), (6, 53, 0, 49));
    ledger.run(7, vec![Op::Capture(capture(2, 20))]);
    assert_eq!(ledger.sums(&day), (26, 3, 0, 19));
    assert_eq!(ledger.fired(), [], "nothing triggers while it is lifted");
    // The end of the lift arms it: the next operation finds the breach.
    let outcome = ledger.one(100, Op::Admit(admit(3, 1, lines)));
    assert!(matches!(outcome, Outcome::Refused(_)));
    assert_eq!(
        ledger.fired(),
        [TriggerCause::Alert { percent: 80 }, TriggerCause::Breach]
    );
}

#[test]
fn a_lift_of_a_breached_line_arms_it() {
    let (mut ledger, day) = ledger();
    ledger.run(5, vec![Op::Report(report(2, 9, std::slice::from_ref(&day)))]);
    ledger.fired();
    ledger.run(6, vec![override_line(&day, 0, Some(100)), rearm(&day)]);
    assert_eq!(ledger.fired(), []);
    assert_eq!(ledger.one(100, rearm(&day)), applied(1));
    assert_eq!(ledger.fired(), [TriggerCause::Breach]);
}

#[test]
fn rearm_judges_at_once() {
    let (mut ledger, day) = ledger();
    ledger.run(5, vec![rearm(&day)]);
    assert_eq!(ledger.fired(), [], "there is nothing to judge");
    ledger.run(6, vec![Op::Report(report(2, 9, std::slice::from_ref(&day)))]);
    assert_eq!(
        ledger.fired(),
        [TriggerCause::Alert { percent: 80 }, TriggerCause::Breach]
    );
    ledger.run(7, vec![rearm(&day)]);
    assert_eq!(ledger.fired(), [TriggerCause::Breach]);
}

#[test]
fn wrong_rules_are_rejected() {
    let (mut ledger, day) = ledger();
    let nowhere = line("nowhere", 1);
    assert_eq!(
        ledger.one(5, rearm(&nowhere)),
        Outcome::Rejected(LedgerRejection::UnknownLine)
    );
    assert_eq!(
        ledger.one(5, override_line(&nowhere, 1, None)),
        Outcome::Rejected(LedgerRejection::UnknownLine)
    );
    assert_eq!(
        ledger.one(5, override_line(&day, -1, None)),
        Outcome::Rejected(LedgerRejection::Negative)
    );
    assert_eq!(
        ledger.one(5, set_rule(&day, -1)),
        Outcome::Rejected(LedgerRejection::Negative)
    );
    assert_eq!(ledger.one(5, set_rule(&nowhere, 1)), applied(0));
}
