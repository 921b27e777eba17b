use super::*;
use crate::domain::ledger::batch::{LedgerRejection, Refusal};

#[test]
fn l2_a_hold_is_admitted_up_to_the_limit_and_not_past_it() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    assert_eq!(
        ledger.one(0, Op::Admit(admit(1, 6, lines))),
        Outcome::Admitted {
            bound: usd(6),
            remaining: usd(4)
        }
    );
    assert_eq!(ledger.one(0, Op::Admit(admit(2, 5, lines))), waits(5, &day, (10, 0, 6)));
    assert_eq!(
        ledger.one(0, Op::Admit(admit(3, 4, lines))),
        Outcome::Admitted {
            bound: usd(4),
            remaining: usd(0)
        }
    );
    assert_eq!(ledger.sums(&day), (0, 10, 0, 0));
    assert!(!ledger.holds.contains_key(&hold_id(2)));
}

#[test]
fn l2_all_lines_or_none() {
    let mut ledger = Ledger::default();
    let (wide, tight) = (line("wide", 100), line("tight", 5));
    let both = [wide.clone(), tight.clone()];
    ledger.run(0, vec![Op::Admit(admit(1, 3, &both))]);
    assert_eq!(
        ledger.one(0, Op::Admit(admit(2, 3, &both))),
        waits(3, &tight, (5, 0, 3))
    );
    assert_eq!(ledger.sums(&wide), (0, 3, 0, 0));
    assert_eq!(ledger.sums(&tight), (0, 3, 0, 0));
}

#[test]
fn l2_operations_of_one_batch_see_each_other_in_order() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    let outcomes = ledger.run(
        0,
        vec![
            Op::Admit(admit(1, 8, lines)),
            Op::Admit(admit(2, 8, lines)),
            void(1),
            Op::Admit(admit(3, 8, lines)),
            Op::Capture(capture(3, 8)),
            Op::Admit(admit(4, 8, lines)),
        ],
    );
    assert!(admitted(&outcomes[0]) && admitted(&outcomes[3]));
    assert!(matches!(outcomes[1], Outcome::Wait { .. }));
    assert!(matches!(outcomes[5], Outcome::Refused(Refusal::Budget { .. })));
    assert_eq!(ledger.sums(&day), (8, 0, 0, 0));
}

#[test]
fn l2_what_is_posted_refuses_for_good_and_what_is_held_makes_wait() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Report(report(1, 4, lines)), Op::Admit(admit(1, 5, lines))]);
    assert!(matches!(
        ledger.one(0, Op::Admit(admit(2, 6, lines))),
        Outcome::Wait { .. }
    ));
    let refused = Refusal::Budget {
        line: day.key.clone(),
        limit: usd(10),
        posted: usd(4),
        held: usd(5),
    };
    assert_eq!(ledger.one(0, Op::Admit(admit(3, 7, lines))), Outcome::Refused(refused));
}

#[test]
fn l3_unresolved_spend_refuses() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Admit(admit(1, 8, lines)), expire(1)]);
    assert!(matches!(
        ledger.one(0, Op::Admit(admit(2, 3, lines))),
        Outcome::Refused(Refusal::Budget { .. })
    ));
}

#[test]
fn l4_no_line_is_a_refusal() {
    let mut ledger = Ledger::default();
    assert_eq!(
        ledger.one(0, Op::Admit(admit(1, 1, &[]))),
        Outcome::Refused(Refusal::NoBudget)
    );
    // An agent's own hold does not count on the fleet, so the fleet's line alone does not cover it.
    let weak = Admit {
        trust: Trust::Agent,
        ..admit(2, 1, &[line("fleet", 10)])
    };
    assert_eq!(ledger.one(0, Op::Admit(weak)), Outcome::Refused(Refusal::NoBudget));
    assert!(ledger.lines.is_empty());
}

#[test]
fn a_frozen_agent_is_admitted_nothing() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    let cases = [
        (AgentStatus::Contained, Refusal::AgentContained),
        (AgentStatus::Restoring, Refusal::AgentContained),
        (AgentStatus::Paused, Refusal::AgentPaused),
    ];
    for (status, refusal) in cases {
        ledger.agents.insert(agent("a"), status);
        assert_eq!(
            ledger.one(0, Op::Admit(admit(1, 1, lines))),
            Outcome::Refused(refusal.clone())
        );
        assert_eq!(
            ledger.one(0, Op::Admit(admit(1, 1, &[]))),
            Outcome::Refused(refusal),
            "it comes before no budget"
        );
    }
    ledger.agents.insert(agent("a"), AgentStatus::Active);
    assert!(admitted(&ledger.one(0, Op::Admit(admit(1, 1, lines)))));
    // What is out already is settled all the same.
    ledger.agents.insert(agent("a"), AgentStatus::Contained);
    assert!(matches!(
        ledger.one(0, Op::Capture(capture(1, 1))),
        Outcome::Ended { .. }
    ));
    assert!(admitted(&ledger.one(
        0,
        Op::Admit(Admit {
            attribution: spend_of("b"),
            ..admit(2, 1, lines)
        })
    )));
}

#[test]
fn a_waiter_that_blocks_keeps_its_short_lines_from_those_behind_it() {
    let mut ledger = Ledger::default();
    let (tight, other) = (line("tight", 10), line("other", 10));
    ledger.run(0, vec![Op::Admit(admit(1, 6, std::slice::from_ref(&tight)))]);
    let blocker = |blocks| Admit {
        blocks,
        ..admit(2, 8, std::slice::from_ref(&tight))
    };
    let behind = |blocks| {
        vec![
            Op::Admit(blocker(blocks)),
            Op::Admit(admit(3, 1, std::slice::from_ref(&tight))),
            Op::Admit(admit(4, 1, std::slice::from_ref(&other))),
        ]
    };
    let outcomes = ledger.clone().run(0, behind(false));
    assert!(admitted(&outcomes[1]), "it overtakes");
    let outcomes = ledger.run(0, behind(true));
    assert_eq!(outcomes[1], waits(1, &tight, (10, 0, 6)));
    assert!(admitted(&outcomes[2]), "a line that was not short stays open");
    // The block lasts for the batch; and who fits does not block.
    assert!(admitted(
        &ledger.one(0, Op::Admit(admit(5, 1, std::slice::from_ref(&tight))))
    ));
    ledger.run(0, vec![void(1), void(5)]);
    let outcomes = ledger.run(0, behind(true));
    assert!(admitted(&outcomes[0]) && admitted(&outcomes[1]));
}

#[test]
fn admitting_again_changes_nothing() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    let first = ledger.one(0, Op::Admit(admit(1, 6, lines)));
    assert_eq!(ledger.one(0, Op::Admit(admit(1, 6, lines))), first);
    assert_eq!(ledger.sums(&day), (0, 6, 0, 0));
    let twice = ledger.run(0, vec![Op::Admit(admit(2, 1, lines)), Op::Admit(admit(2, 1, lines))]);
    assert_eq!(twice[0], twice[1]);
    assert_eq!(ledger.sums(&day), (0, 7, 0, 0));
    let foreign = Admit {
        attribution: spend_of("b"),
        ..admit(1, 6, lines)
    };
    assert_eq!(
        ledger.one(0, Op::Admit(foreign)),
        Outcome::Rejected(LedgerRejection::ForeignHold)
    );
    ledger.run(0, vec![void(1)]);
    let ended = LedgerRejection::AlreadyEnded("voided".into());
    assert_eq!(ledger.one(0, Op::Admit(admit(1, 6, lines))), Outcome::Rejected(ended));
}

#[test]
fn a_line_named_twice_is_held_on_once() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    ledger.run(0, vec![Op::Admit(admit(1, 6, &[day.clone(), day.clone()]))]);
    assert_eq!(ledger.sums(&day), (0, 6, 0, 0));
}

#[test]
fn l7_an_absurd_or_negative_bound_is_rejected() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    assert_eq!(
        ledger.one(0, Op::Admit(admit(1, -1, lines))),
        Outcome::Rejected(LedgerRejection::Negative)
    );
    let absurd = ledger.one(0, Op::Admit(admit(1, 1_000_000_001, lines)));
    assert_eq!(absurd, Outcome::Rejected(LedgerRejection::Absurd));
    assert!(ledger.lines.is_empty() && ledger.holds.is_empty());
}

#[test]
fn a_limit_of_zero_admits_only_what_costs_nothing() {
    let (mut ledger, day) = (Ledger::default(), line("day", 0));
    let lines = std::slice::from_ref(&day);
    assert!(admitted(&ledger.one(0, Op::Admit(admit(1, 0, lines)))));
    assert!(matches!(
        ledger.one(0, Op::Admit(admit(2, 1, lines))),
        Outcome::Refused(Refusal::Budget { .. })
    ));
}
