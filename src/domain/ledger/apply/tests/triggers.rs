use super::*;

fn alert(percent: u16) -> TriggerCause {
    TriggerCause::Alert { percent }
}

fn spent(ledger: &mut Ledger, second: i64, n: u128, amount: i64, day: &LineSpec) -> Vec<TriggerCause> {
    ledger.run(second, vec![Op::Report(report(n, amount, std::slice::from_ref(day)))]);
    ledger.fired()
}

#[test]
fn every_alert_fires_once_and_the_breach_once() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    assert_eq!(spent(&mut ledger, 0, 1, 4, &day), []);
    assert_eq!(spent(&mut ledger, 0, 2, 1, &day), [alert(50)]);
    assert_eq!(spent(&mut ledger, 0, 3, 1, &day), []);
    assert_eq!(spent(&mut ledger, 0, 4, 3, &day), [alert(80)]);
    assert_eq!(spent(&mut ledger, 0, 5, 1, &day), [TriggerCause::Breach]);
    assert_eq!(spent(&mut ledger, 0, 6, 90, &day), []);
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    assert_eq!(
        spent(&mut ledger, 0, 1, 10, &day),
        [alert(50), alert(80), TriggerCause::Breach],
        "all in one step"
    );
}

#[test]
fn a_trigger_says_what_it_saw() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(
        0,
        vec![Op::Admit(admit(1, 2, lines)), Op::Admit(admit(2, 3, lines)), expire(1)],
    );
    let claim = Report {
        trust: Trust::Agent,
        ..report(1, 11, lines)
    };
    ledger.run(7, vec![Op::Report(claim)]);
    let trigger = ledger.triggers.last().unwrap();
    let expected = NewTrigger {
        line: day.key.clone(),
        revision: 1,
        at: at(7),
        cause: TriggerCause::Breach,
        limit: usd(10),
        posted: usd(13),
        held: usd(3),
        unresolved: usd(2),
        agent: Some(agent("a")),
        trust: Trust::Agent,
    };
    assert_eq!(*trigger, expected);
}

#[test]
fn l3_unresolved_spend_neither_alerts_nor_breaches() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Admit(admit(1, 10, lines)), expire(1)]);
    assert_eq!(ledger.fired(), []);
    // It refuses even the smallest call, and still that is no breach.
    ledger.run(0, vec![Op::Admit(admit(2, 1, lines))]);
    assert_eq!(ledger.fired(), []);
    // The evidence is.
    ledger.run(0, vec![Op::Resolve(resolve(1, 10))]);
    assert_eq!(ledger.fired(), [alert(50), alert(80), TriggerCause::Breach]);
}

#[test]
fn a_small_call_that_is_refused_for_good_is_a_breach() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    spent(&mut ledger, 0, 1, 95, &day);
    ledger.run(0, vec![Op::Admit(admit(1, 11, lines))]);
    assert_eq!(
        ledger.fired(),
        [],
        "a call of more than a tenth of the limit is merely too large"
    );
    ledger.run(0, vec![Op::Admit(admit(2, 5, lines)), Op::Admit(admit(3, 5, lines))]);
    assert_eq!(ledger.fired(), [], "waiting is no refusal");
    ledger.run(0, vec![Op::Admit(admit(4, 10, lines)), Op::Admit(admit(5, 6, lines))]);
    assert_eq!(ledger.fired(), [TriggerCause::RefusedForGood { bound: usd(10) }]);
    assert_eq!(
        spent(&mut ledger, 0, 2, 95, &day),
        [],
        "the line has breached in this revision"
    );
}

#[test]
fn a_rough_bound_that_is_refused_is_no_breach_and_the_finer_one_is() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    spent(&mut ledger, 0, 1, 95, &day);
    let rough = Admit {
        tentative: true,
        ..admit(1, 8, lines)
    };
    ledger.run(0, vec![Op::Admit(rough)]);
    assert_eq!(ledger.fired(), [], "the same call may fit by its finer bound");
    ledger.run(0, vec![Op::Admit(admit(1, 7, lines))]);
    assert_eq!(ledger.fired(), [TriggerCause::RefusedForGood { bound: usd(7) }]);
}

#[test]
fn a_line_of_zero_breaches_with_the_first_call_or_dollar() {
    let (mut ledger, none) = (Ledger::default(), line("none", 0));
    let lines = std::slice::from_ref(&none);
    assert_eq!(spent(&mut ledger, 0, 1, 0, &none), [], "nothing was spent");
    assert_eq!(
        spent(&mut ledger, 0, 2, 1, &none),
        [alert(50), alert(80), TriggerCause::Breach]
    );
    let mut ledger = Ledger::default();
    ledger.run(0, vec![Op::Admit(admit(1, 500, lines))]);
    assert_eq!(ledger.fired(), [TriggerCause::RefusedForGood { bound: usd(500) }]);
    assert!(ledger.lines.contains_key(&none.key), "the trigger's line is there");
}

#[test]
fn a_report_breaches_a_closed_line_within_the_grace_and_alerts_after_it() {
    let grace = DAY + LedgerRules::default().late_grace_s;
    for (second, cause) in [
        (DAY, TriggerCause::Breach),
        (grace, TriggerCause::Breach),
        (grace + 1, TriggerCause::Late),
    ] {
        let (mut ledger, day) = (Ledger::default(), line("day", 10));
        spent(&mut ledger, 0, 1, 8, &day);
        assert_eq!(spent(&mut ledger, second, 2, 3, &day), [cause]);
        assert_eq!(spent(&mut ledger, second, 3, 3, &day), []);
    }
}

#[test]
fn a_correction_to_a_closed_line_only_alerts() {
    for (second, cause) in [(DAY - 1, TriggerCause::Breach), (DAY, TriggerCause::Late)] {
        let (mut ledger, day) = (Ledger::default(), line("day", 10));
        ledger.run(0, vec![Op::Admit(admit(1, 5, std::slice::from_ref(&day))), expire(1)]);
        spent(&mut ledger, 0, 1, 9, &day);
        ledger.run(second, vec![Op::Resolve(resolve(1, 4))]);
        assert_eq!(ledger.fired(), [cause]);
    }
}

#[test]
fn each_line_of_an_operation_is_judged() {
    let mut ledger = Ledger::default();
    let both = [line("day", 4), line("fleet", 100), line("hour", 5)];
    ledger.run(0, vec![Op::Report(report(1, 4, &both))]);
    let fired: Vec<_> = ledger
        .triggers
        .iter()
        .map(|t| (t.line.budget.as_str().to_owned(), t.cause.clone()))
        .collect();
    let expected = [
        ("day", alert(50)),
        ("day", alert(80)),
        ("day", TriggerCause::Breach),
        ("hour", alert(50)),
        ("hour", alert(80)),
    ];
    assert_eq!(fired, expected.map(|(budget, cause)| (budget.to_owned(), cause)));
}
