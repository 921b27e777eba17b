//! Random ledgers: whatever the order of holds, ends, reports, rules and time, the auditor finds nothing.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;

use super::*;
use crate::domain::ledger::batch::Foresee;

const HOLDS: u128 = 10;

/// A step of a random ledger; posting ids are given out when it is run.
#[derive(Debug, Clone)]
enum Step {
    Admit {
        hold: u128,
        bound: i64,
        lines: usize,
        trust: Trust,
        other: bool,
        blocks: bool,
        /// It follows what is left, down to this floor.
        floor: Option<u64>,
    },
    Capture {
        hold: u128,
        cost: i64,
        trust: Trust,
        request: Option<u8>,
        ago: i64,
    },
    Void(u128),
    Expire(u128),
    Resolve {
        hold: u128,
        cost: i64,
    },
    Report {
        id: u128,
        amount: i64,
        lines: usize,
        trust: Trust,
        request: Option<u8>,
        ago: i64,
    },
    /// (id, amount, lines, trust) of each.
    Together(Vec<(u128, i64, usize, Trust)>),
    SetRule {
        line: usize,
        limit: i64,
        length_s: u32,
    },
    Override {
        line: usize,
        raise: i64,
        lift: Option<i64>,
    },
    Rearm(usize),
    Foresee {
        ahead: i64,
        lines: usize,
        trust: Trust,
    },
}

/// The lines of the play: a calendar day, the fleet, all time, and a rolling minute.
fn pool() -> [LineSpec; 4] {
    let mut total = line("total", 60);
    total.key.window = WindowInstance::UNBOUNDED;
    [line("day", 30), line("fleet", 40), total, rolling("burst", 12, 60, 10)]
}

/// A subset of the pool by the bits of `mask`, as lines of agent `a` or `b`.
fn some_lines(mask: usize, other: bool) -> Vec<LineSpec> {
    let chosen = pool().into_iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0);
    let mut lines: Vec<_> = chosen.map(|(_, spec)| spec).collect();
    for spec in lines.iter_mut().filter(|spec| other && spec.key.agent.is_some()) {
        spec.key.agent = Some(agent("b"));
    }
    lines
}

fn any_trust() -> impl Strategy<Value = Trust> {
    prop_oneof![1 => Just(Trust::Agent), 1 => Just(Trust::Unconfirmed), 4 => Just(Trust::Gateway), 1 => Just(Trust::Operator)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let hold = || 0..HOLDS;
    let request = || option::weighted(0.3, 0_u8..4);
    prop_oneof![
        8 => (hold(), 0_i64..8, 0_usize..16, any_trust(), any::<bool>(), any::<bool>(), option::weighted(0.4, 0_u64..5))
            .prop_map(|(hold, bound, lines, trust, other, blocks, floor)| Step::Admit { hold, bound, lines, trust, other, blocks, floor }),
        6 => (hold(), -1_i64..12, any_trust(), request(), -5_i64..200)
            .prop_map(|(hold, cost, trust, request, ago)| Step::Capture { hold, cost, trust, request, ago }),
        2 => hold().prop_map(Step::Void),
        3 => hold().prop_map(Step::Expire),
        2 => (hold(), 0_i64..12).prop_map(|(hold, cost)| Step::Resolve { hold, cost }),
        3 => (0_u128..6, -1_i64..9, 0_usize..16, any_trust(), request(), -5_i64..200)
            .prop_map(|(id, amount, lines, trust, request, ago)| Step::Report { id, amount, lines, trust, request, ago }),
        1 => vec((0_u128..6, -1_i64..9, 0_usize..16, any_trust()), 1..4).prop_map(Step::Together),
        1 => (0_usize..4, 0_i64..60, select(vec![20_u32, 60, 90]))
            .prop_map(|(line, limit, length_s)| Step::SetRule { line, limit, length_s }),
        1 => (0_usize..4, 0_i64..20, option::of(0_i64..60))
            .prop_map(|(line, raise, lift)| Step::Override { line, raise, lift }),
        1 => (0_usize..4).prop_map(Step::Rearm),
        2 => (-1_i64..60, 0_usize..16, any_trust()).prop_map(|(ahead, lines, trust)| Step::Foresee { ahead, lines, trust }),
    ]
}

/// Makes operations of steps, with a fresh posting id each.
fn op_of(step: &Step, second: i64, fresh: &mut u128) -> Op {
    *fresh += 1;
    let posting = posting_id(*fresh);
    let upstream = |request: &Option<u8>| request.map(|n| format!("req-{n}"));
    match step {
        Step::Admit {
            hold,
            bound,
            lines,
            trust,
            other,
            blocks,
            floor,
        } => Op::Admit(Admit {
            bound: floor.map_or(usd(*bound).into(), |floor| up_to(*bound, floor)),
            trust: *trust,
            attribution: spend_of(if *other { "b" } else { "a" }),
            expires_at: at(second + 30),
            blocks: *blocks,
            ..admit(*hold, *bound, &some_lines(*lines, *other))
        }),
        Step::Capture {
            hold,
            cost,
            trust,
            request,
            ago,
        } => Op::Capture(Capture {
            posting,
            trust: *trust,
            occurred_at: at(second - ago),
            upstream_request: upstream(request),
            ..capture(*hold, *cost)
        }),
        Step::Void(hold) => void(*hold),
        Step::Expire(hold) => Op::Expire {
            hold: hold_id(*hold),
            posting,
            detail: None,
        },
        Step::Resolve { hold, cost } => Op::Resolve(Resolve {
            posting,
            ..resolve(*hold, *cost)
        }),
        Step::Report {
            id,
            amount,
            lines,
            trust,
            request,
            ago,
        } => Op::Report(Report {
            posting,
            trust: *trust,
            occurred_at: at(second - ago),
            upstream_request: upstream(request),
            ..report(*id, *amount, &some_lines(*lines, false))
        }),
        Step::Together(rows) => {
            let reports = rows.iter().map(|(id, amount, lines, trust)| {
                *fresh += 1;
                Report {
                    posting: posting_id(*fresh),
                    trust: *trust,
                    occurred_at: at(second),
                    ..report(*id, *amount, &some_lines(*lines, false))
                }
            });
            Op::ReportAll {
                reports: reports.collect(),
                check_only: false,
            }
        }
        Step::SetRule { line, limit, length_s } => {
            let spec = pool()[*line].clone();
            let rolling = spec.rule.rolling.map(|(_, bucket_s)| (*length_s, bucket_s));
            let rule = LineRule {
                limit: usd(*limit),
                rolling,
                ..spec.rule
            };
            Op::SetRule {
                budget: spec.key.budget,
                rule,
                after: None,
            }
        }
        Step::Override { line, raise, lift } => Op::Override {
            line: pool()[*line].key.clone(),
            raise: usd(*raise),
            lifted_until: lift.map(|seconds| at(second + seconds)),
        },
        Step::Rearm(line) => Op::Rearm {
            line: pool()[*line].key.clone(),
        },
        Step::Foresee { ahead, lines, trust } => Op::Foresee(Foresee {
            attribution: spend_of("a"),
            trust: *trust,
            lines: some_lines(*lines, false),
            ahead: usd(*ahead),
            burners: Vec::new(),
            unposted: Vec::new(),
        }),
    }
}

/// Batches with the seconds that pass before each.
fn any_play() -> impl Strategy<Value = Vec<(i64, Vec<Step>)>> {
    vec(
        (prop_oneof![4 => 0_i64..20, 1 => 0_i64..200], vec(any_step(), 1..6)),
        1..25,
    )
}

/// A dollar, and a dollar for each of the other units, of which `floor` are left in any case.
fn up_to(bound: i64, floor: u64) -> Bound {
    let wanted = u64::try_from(bound - 1).unwrap_or(0);
    super::bounds::units(1.min(bound), wanted, floor)
}

fn took_effect(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Wait { .. } | Outcome::Refused(_) | Outcome::Rejected(_) | Outcome::Checked { .. }
    )
}

fn is_rule(op: &Op) -> bool {
    matches!(op, Op::SetRule { .. } | Op::Override { .. } | Op::Rearm { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn l1_l2_l3_l6_hold_in_every_order(play in any_play()) {
        let (mut ledger, mut second, mut fresh) = (Ledger::default(), 0, 0);
        for (pause, steps) in play {
            second += pause;
            let ops: Vec<_> = steps.iter().map(|step| op_of(step, second, &mut fresh)).collect();
            ledger.commit(second, ops);
            prop_assert_eq!(ledger.findings(second), []);
        }
    }

    /// Without reports, rules and costs above the bound nothing ever stands past a limit, flagged or not.
    #[test]
    fn l2_holds_alone_never_pass_a_limit(play in any_play()) {
        let (mut ledger, mut second, mut fresh) = (Ledger::default(), 0, 0);
        for (pause, steps) in play {
            second += pause;
            let mut ops: Vec<_> = steps.iter().map(|step| op_of(step, second, &mut fresh)).collect();
            ops.retain_mut(|op| match op {
                Op::Capture(Capture { hold, cost, .. }) | Op::Resolve(Resolve { target: ResolveTarget::Hold(hold), cost, .. }) => {
                    // A cost within the bound of a hold that may be admitted in this very batch.
                    *cost = (*cost).min(ledger.holds.get(hold).map_or(Usd::ZERO, |hold| hold.bound));
                    true
                }
                op => !is_rule(op) && !matches!(op, Op::Report(_) | Op::ReportAll { .. }),
            });
            ledger.commit(second, ops);
            for line in ledger.lines.values() {
                let out = line.posted.saturating_add(line.held);
                prop_assert!(out <= line.limit() && line.overage.is_zero(), "{line:?}");
            }
        }
    }

    /// A forecast moves nothing but the mark that its line was tripped.
    #[test]
    fn a_forecast_changes_no_sum(play in any_play(), ahead in 0_i64..100, lines in 0_usize..16) {
        let (mut ledger, mut second, mut fresh) = (Ledger::default(), 0, 0);
        for (pause, steps) in play {
            second += pause;
            let ops: Vec<_> = steps.iter().map(|step| op_of(step, second, &mut fresh)).collect();
            ledger.commit(second, ops);
        }
        // What left a rolling window leaves its line with the next operation on it, whatever that is.
        let lines = some_lines(lines, false);
        ledger.commit(second, lines.iter().map(|spec| Op::Rearm { line: spec.key.clone() }).collect());
        let before = ledger.clone();
        let step = Step::Foresee { ahead, lines: 15, trust: Trust::Cloud };
        let Op::Foresee(all) = op_of(&step, second, &mut fresh) else { unreachable!() };
        ledger.commit(second, vec![Op::Foresee(Foresee { lines: lines.clone(), ..all })]);
        let unmarked = |line: &Line| Line { breached: None, ..line.clone() };
        for (key, line) in &before.lines {
            prop_assert_eq!(unmarked(&ledger.lines[key]), unmarked(line));
        }
        let made = ledger.lines.iter().filter(|(key, _)| !before.lines.contains_key(key));
        for (_, line) in made {
            prop_assert!(line.posted.is_zero() && line.held.is_zero() && line.breached == Some(line.revision));
        }
        prop_assert_eq!(&ledger.postings, &before.postings);
        prop_assert_eq!(&ledger.entries, &before.entries);
        prop_assert_eq!(ledger.findings(second), []);
    }

    /// What took effect takes none when it is sent again (a resent batch after an unknown commit).
    #[test]
    fn a_repeated_operation_changes_nothing(play in any_play()) {
        let (mut ledger, mut second, mut fresh) = (Ledger::default(), 0, 0);
        for (pause, steps) in play {
            second += pause;
            let mut ops: Vec<_> = steps.iter().map(|step| op_of(step, second, &mut fresh)).collect();
            // Two rules in one batch undo each other, and lines that are opened after one carry the rule
            // that they were named with: one alone, at the end, is repeated.
            let rule = ops.iter().rposition(is_rule).map(|n| ops.remove(n));
            // A forecast has no id, and what came after it in its batch may have brought the line nearer.
            ops.retain(|op| !is_rule(op) && !matches!(op, Op::Foresee(_)));
            ops.extend(rule.filter(|op| !matches!(op, Op::Rearm { .. })));
            let outcomes = ledger.commit(second, ops.clone());
            let effective = ops.into_iter().zip(&outcomes).filter(|(_, outcome)| took_effect(outcome));
            let again: Vec<_> = effective.map(|(op, _)| op).collect();
            let before = ledger.clone();
            ledger.commit(second, again);
            prop_assert_eq!(&ledger.lines, &before.lines);
            prop_assert_eq!(&ledger.holds, &before.holds);
            prop_assert_eq!(&ledger.postings, &before.postings);
            prop_assert_eq!(&ledger.entries, &before.entries);
            prop_assert_eq!(&ledger.reports, &before.reports);
            prop_assert_eq!(&ledger.triggers, &before.triggers);
        }
    }

    /// Reports are sums: their order, and how they were put into batches, is all the same.
    #[test]
    fn l1_reports_come_in_any_order(
        amounts in vec((0_i64..9, 1_usize..16, 0_i64..100), 1..12),
        cut in 0_usize..12,
        keys in vec(any::<u32>(), 12),
    ) {
        let reports: Vec<_> = (0..).zip(&amounts).map(|(n, &(amount, lines, ago))| {
            Op::Report(Report { occurred_at: at(200 - ago), ..report(n, amount, &some_lines(lines, false)) })
        }).collect();
        let mut one = Ledger::default();
        one.run(200, reports.clone());
        let mut shuffled: Vec<_> = keys.into_iter().zip(reports).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        let mut shuffled: Vec<_> = shuffled.into_iter().map(|(_, op)| op).collect();
        let rest = shuffled.split_off(cut.min(shuffled.len()));
        let mut two = Ledger::default();
        two.run(200, shuffled);
        two.run(200, rest);
        prop_assert_eq!(one.lines, two.lines);
        let causes = |triggers: &[NewTrigger]| {
            let mut causes: Vec<_> = triggers.iter().map(|t| format!("{:?} {:?}", t.line, t.cause)).collect();
            causes.sort();
            causes
        };
        prop_assert_eq!(causes(&one.triggers), causes(&two.triggers));
    }

    /// Waiters hold nothing, so once all that is open has ended, who fits at all is admitted.
    #[test]
    fn a_fitting_waiter_is_admitted_once_holds_settle(
        bounds in vec((0_i64..8, 1_usize..16), 1..20),
        bound in 0_i64..12,
        floor in option::of(0_u64..12),
        mask in 1_usize..16,
    ) {
        let mut ledger = Ledger::default();
        let admits = (0..).zip(&bounds).map(|(n, &(bound, lines))| Op::Admit(admit(n, bound, &some_lines(lines, false))));
        ledger.run(0, admits.collect());
        let bound = floor.map_or(usd(bound).into(), |floor| up_to(bound, floor));
        let waiter = Op::Admit(Admit { bound, ..admit(99, 0, &some_lines(mask, false)) });
        let first = ledger.one(0, waiter.clone());
        let voids = ledger.holds.values().filter(|hold| hold.id != hold_id(99)).map(|hold| Op::Void { hold: hold.id }).collect();
        ledger.run(1, voids);
        let second = ledger.one(1, waiter);
        prop_assert_eq!(matches!(first, Outcome::Refused(_)), matches!(second, Outcome::Refused(_)), "for good is for good");
        prop_assert!(matches!(first, Outcome::Refused(_)) || admitted(&second));
    }
}
