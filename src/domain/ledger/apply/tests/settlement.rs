use super::*;
use crate::domain::ledger::batch::LedgerRejection;
use crate::domain::ledger::hold::HoldState;

fn ended(posting: Option<u128>, overage: i64) -> Outcome {
    Outcome::Ended {
        posting: posting.map(posting_id),
        overage: usd(overage),
    }
}

fn already(state: HoldState) -> Outcome {
    Outcome::Rejected(LedgerRejection::AlreadyEnded(state.as_str().into()))
}

/// A ledger with hold 1 of $5 on a line of $10.
fn held() -> (Ledger, LineSpec) {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    ledger.run(10, vec![Op::Admit(admit(1, 5, std::slice::from_ref(&day)))]);
    (ledger, day)
}

#[test]
fn l3_a_hold_ends_exactly_once() {
    let ends: [(fn() -> Op, HoldState); 3] = [
        (
            || {
                Op::Capture(Capture {
                    posting: posting_id(2),
                    ..capture(1, 2)
                })
            },
            HoldState::Captured,
        ),
        (|| void(1), HoldState::Voided),
        (|| expire(1), HoldState::Unresolved),
    ];
    for (first, state) in ends {
        for (second, other) in ends {
            let (mut ledger, _) = held();
            assert!(matches!(ledger.one(20, first()), Outcome::Ended { .. }));
            assert_eq!(ledger.holds[&hold_id(1)].state, state);
            let before = ledger.clone();
            let again = ledger.one(30, second());
            if (state, other) == (HoldState::Unresolved, HoldState::Captured) {
                assert!(
                    matches!(again, Outcome::Ended { .. }),
                    "evidence corrects an expired hold"
                );
            } else {
                let unchanged = matches!(again, Outcome::Unchanged { .. });
                assert!(
                    if state == other {
                        unchanged
                    } else {
                        again == already(state)
                    },
                    "{state:?}, {other:?}: {again:?}"
                );
                assert_eq!(ledger.lines, before.lines);
                assert_eq!(ledger.postings, before.postings);
            }
            assert_eq!(ledger.holds[&hold_id(1)].state, state);
        }
    }
}

#[test]
fn a_capture_posts_the_cost_and_frees_the_rest() {
    let (mut ledger, day) = held();
    assert_eq!(ledger.one(20, Op::Capture(capture(1, 2))), ended(Some(1), 0));
    assert_eq!(ledger.sums(&day), (2, 0, 0, 0));
    let posting = &ledger.postings[0];
    assert_eq!(
        (posting.kind, posting.basis, posting.hold),
        (PostingKind::Capture, Basis::Metered, Some(hold_id(1)))
    );
    assert_eq!(posting.occurred_at, at(10), "no cost arose before the hold");
}

#[test]
fn l2_a_capture_above_its_bound_is_an_overage_and_consumes_the_limit() {
    let (mut ledger, day) = held();
    assert_eq!(ledger.one(20, Op::Capture(capture(1, 8))), ended(Some(1), 3));
    assert_eq!(ledger.sums(&day), (8, 0, 0, 3), "flagged though the limit had room");
    let lines = std::slice::from_ref(&day);
    ledger.run(20, vec![Op::Admit(admit(2, 2, lines))]);
    assert_eq!(ledger.one(20, Op::Capture(capture(2, 6))), ended(Some(2), 4));
    assert_eq!(
        ledger.sums(&day),
        (14, 0, 0, 7),
        "four past the limit, each dollar once"
    );
}

#[test]
fn l3_expiry_charges_the_bound() {
    let (mut ledger, day) = held();
    assert_eq!(ledger.one(700, expire(1)), ended(Some(1), 0));
    assert_eq!(ledger.sums(&day), (5, 0, 5, 0));
    assert_eq!(ledger.line(&day).settled(), Usd::ZERO, "a breach is judged without it");
    assert_eq!(
        ledger.one(700, expire(1)),
        Outcome::Unchanged {
            posting: Some(posting_id(1))
        }
    );
}

#[test]
fn l3_a_late_answer_corrects_exactly_that_posting() {
    for (cost, sums, overage) in [
        (2, (2, 0, 0, 0), 0),
        (5, (5, 0, 0, 0), 0),
        (7, (7, 0, 0, 2), 2),
        (0, (0, 0, 0, 0), 0),
    ] {
        let (mut ledger, day) = held();
        ledger.run(700, vec![expire(1)]);
        let late = Capture {
            posting: posting_id(2),
            ..capture(1, cost)
        };
        assert_eq!(ledger.one(800, Op::Capture(late.clone())), ended(Some(2), overage));
        assert_eq!(ledger.sums(&day), sums);
        let correction = &ledger.postings[1];
        assert_eq!(
            (correction.kind, correction.corrects),
            (PostingKind::Correction, Some(posting_id(1)))
        );
        assert_eq!(correction.amount, usd(cost - 5));
        assert_eq!(ledger.postings[0].amount, usd(5), "nothing edits a posting (L1)");
        // The same again is the same; other evidence comes too late.
        assert_eq!(
            ledger.one(900, Op::Capture(late)),
            Outcome::Unchanged {
                posting: Some(posting_id(2))
            }
        );
        let second = ledger.one(900, Op::Resolve(resolve(1, 1)));
        assert_eq!(second, Outcome::Rejected(LedgerRejection::NotUnresolved));
        assert_eq!(ledger.sums(&day), sums);
    }
}

#[test]
fn l3_an_operator_resolves_by_hold_or_by_posting() {
    for target in [ResolveTarget::Hold(hold_id(1)), ResolveTarget::Posting(posting_id(1))] {
        let (mut ledger, day) = held();
        let op = Op::Resolve(Resolve {
            target,
            ..resolve(1, 1)
        });
        let early = ledger.one(20, op.clone());
        assert!(matches!(
            early,
            Outcome::Rejected(LedgerRejection::NotUnresolved | LedgerRejection::UnknownPosting)
        ));
        ledger.run(700, vec![expire(1)]);
        assert_eq!(ledger.one(700, op.clone()), ended(Some(700_001), 0));
        assert_eq!(ledger.sums(&day), (1, 0, 0, 0));
        assert_eq!(
            ledger.one(700, op),
            Outcome::Unchanged {
                posting: Some(posting_id(700_001))
            }
        );
        assert_eq!(ledger.kinds(), [PostingKind::Unresolved, PostingKind::Correction]);
    }
}

#[test]
fn expiry_and_its_correction_may_share_a_batch() {
    let (mut ledger, day) = held();
    let late = Capture {
        posting: posting_id(2),
        ..capture(1, 3)
    };
    let outcomes = ledger.run(700, vec![expire(1), Op::Capture(late), Op::Resolve(resolve(1, 1))]);
    assert_eq!(outcomes[1], ended(Some(2), 0));
    assert_eq!(outcomes[2], Outcome::Rejected(LedgerRejection::NotUnresolved));
    assert_eq!(ledger.sums(&day), (3, 0, 0, 0));
}

#[test]
fn a_repeated_capture_is_the_same_one_only_if_it_says_the_same() {
    let (mut ledger, day) = held();
    ledger.run(20, vec![Op::Capture(capture(1, 2))]);
    let retried = Capture {
        posting: posting_id(9),
        ..capture(1, 2)
    };
    assert_eq!(
        ledger.one(20, Op::Capture(retried)),
        Outcome::Unchanged {
            posting: Some(posting_id(1))
        }
    );
    assert_eq!(ledger.one(20, Op::Capture(capture(1, 3))), already(HoldState::Captured));
    assert_eq!(ledger.sums(&day), (2, 0, 0, 0));
}

#[test]
fn c7_an_agent_settles_its_own_holds_and_not_the_gateways() {
    let (mut ledger, day) = held();
    let word = |hold, cost| Capture {
        trust: Trust::Agent,
        ..capture(hold, cost)
    };
    let foreign = Outcome::Rejected(LedgerRejection::ForeignHold);
    assert_eq!(ledger.one(20, Op::Capture(word(1, 0))), foreign);
    let own = Admit {
        trust: Trust::Agent,
        ..admit(2, 3, &[day.clone(), line("fleet", 10)])
    };
    ledger.run(20, vec![Op::Admit(own)]);
    assert_eq!(ledger.holds[&hold_id(2)].lines, std::slice::from_ref(&day.key));
    assert_eq!(ledger.one(20, Op::Capture(word(2, 1))), ended(Some(2), 0));
    assert_eq!(
        ledger.postings[0].basis,
        Basis::Reported,
        "its word hides no later report (L6)"
    );
    // Nor by resolving what the gateway's hold left.
    ledger.run(700, vec![expire(1)]);
    let weak = Resolve {
        trust: Trust::Unconfirmed,
        ..resolve(1, 0)
    };
    assert_eq!(ledger.one(700, Op::Resolve(weak)), foreign);
    assert_eq!(
        ledger.one(
            700,
            Op::Capture(Capture {
                posting: posting_id(3),
                ..word(1, 0)
            })
        ),
        foreign
    );
}

#[test]
fn l7_an_absurd_or_negative_cost_leaves_the_hold_open() {
    let (mut ledger, day) = held();
    let absurd = ledger.one(20, Op::Capture(capture(1, 1_000_000_001)));
    assert_eq!(absurd, Outcome::Rejected(LedgerRejection::Absurd));
    assert_eq!(
        ledger.one(20, Op::Capture(capture(1, -1))),
        Outcome::Rejected(LedgerRejection::Negative)
    );
    assert_eq!(ledger.sums(&day), (0, 5, 0, 0));
    assert_eq!(ledger.one(700, expire(1)), ended(Some(1), 0));
    assert_eq!(
        ledger.one(700, Op::Resolve(resolve(1, -1))),
        Outcome::Rejected(LedgerRejection::Negative)
    );
}

#[test]
fn unknown_names_are_named() {
    let mut ledger = Ledger::default();
    for op in [
        Op::Capture(capture(1, 1)),
        void(1),
        expire(1),
        Op::Resolve(resolve(1, 1)),
    ] {
        assert_eq!(ledger.one(0, op), Outcome::Rejected(LedgerRejection::UnknownHold));
    }
    let op = Op::Resolve(Resolve {
        target: ResolveTarget::Posting(posting_id(1)),
        ..resolve(1, 1)
    });
    assert_eq!(ledger.one(0, op), Outcome::Rejected(LedgerRejection::UnknownPosting));
}

#[test]
fn a_hold_belongs_to_the_window_in_which_it_was_admitted() {
    let (mut ledger, day) = held();
    let outcome = ledger.one(
        DAY + 5,
        Op::Capture(Capture {
            occurred_at: at(DAY + 4),
            ..capture(1, 4)
        }),
    );
    assert_eq!(outcome, ended(Some(1), 0));
    assert_eq!(ledger.sums(&day), (4, 0, 0, 0));
}
