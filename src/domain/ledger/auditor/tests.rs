//! The auditor finds what is wrong: a sound ledger is damaged in one place, and the finding names it.

use std::collections::BTreeMap;

use jiff::ToSpan;
use uuid::Uuid;

use super::*;
use crate::domain::id::{AgentId, EpochId, ReportId, TaskId};
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::line::{Bucket, LineRule, LineSpec, Response, Scope};
use crate::domain::ledger::posting::{Attribution, Basis, PostingKind, Trust};
use crate::domain::window::WindowInstance;

#[derive(Clone)]
struct Books {
    lines: Vec<Line>,
    holds: Vec<Hold>,
    postings: Vec<Posting>,
    entries: Vec<Entry>,
    rolled: Vec<(LineKey, Timestamp, Usd, Usd)>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(second.seconds()).unwrap()
}

fn usd(dollars: i64) -> Usd {
    Usd::from_dollars(dollars)
}

fn spend() -> Attribution {
    Attribution {
        agent: AgentId::new("a").unwrap(),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: BTreeMap::new(),
    }
}

fn hold(n: u128, bound: i64, state: HoldState, lines: &[LineKey]) -> Hold {
    Hold {
        id: HoldId(Uuid::from_u128(n)),
        epoch: EpochId(1),
        attribution: spend(),
        trust: Trust::Gateway,
        bound: usd(bound),
        lines: lines.to_vec(),
        state,
        opened_at: at(0),
        expires_at: at(60),
        ended_at: (state != HoldState::Open).then(|| at(1)),
    }
}

fn posting(n: u128, kind: PostingKind, amount: i64, hold: Option<u128>) -> Posting {
    Posting {
        id: PostingId(Uuid::from_u128(n)),
        kind,
        attribution: spend(),
        amount: usd(amount),
        basis: Basis::Metered,
        trust: Trust::Gateway,
        occurred_at: at(0),
        recorded_at: at(i64::try_from(n).unwrap()),
        report: (kind == PostingKind::Report).then(|| ReportId::new(format!("r{n}")).unwrap()),
        hold: hold.map(|n| HoldId(Uuid::from_u128(n))),
        corrects: None,
        upstream_request: None,
        epoch: EpochId(1),
        detail: None,
    }
}

fn entry(posting: &Posting, line: &LineKey, unresolved: i64) -> Entry {
    Entry {
        posting: posting.id,
        line: line.clone(),
        amount: posting.amount,
        unresolved: usd(unresolved),
        bucket: line.value.starts_with("rolling").then(|| at(0)),
    }
}

impl Books {
    /// One of everything, in order: an open hold of 2; a captured one of 3 that cost 4; a voided one; an
    /// unresolved one of 5 that stands, and one of 6 that was corrected to 1; a report of 7.
    fn sound() -> Self {
        let key = |value: &str| LineKey {
            budget: "b".parse().unwrap(),
            agent: Some(AgentId::new("a").unwrap()),
            value: value.to_owned(),
            window: WindowInstance::UNBOUNDED,
        };
        let keys = [key("total"), key("rolling")];
        let correction = Posting {
            corrects: Some(PostingId(Uuid::from_u128(5))),
            ..posting(6, PostingKind::Correction, -5, Some(5))
        };
        let postings = vec![
            posting(2, PostingKind::Capture, 4, Some(2)),
            posting(4, PostingKind::Unresolved, 5, Some(4)),
            posting(5, PostingKind::Unresolved, 6, Some(5)),
            correction,
            posting(7, PostingKind::Report, 7, None),
        ];
        let unresolved = [0, 5, 6, -6, 0];
        let entries = postings.iter().zip(unresolved);
        let entries = entries
            .flat_map(|(posting, n)| keys.iter().map(move |key| entry(posting, key, n)))
            .collect();
        let holds = vec![
            hold(1, 2, HoldState::Open, &keys),
            hold(2, 3, HoldState::Captured, &keys),
            hold(3, 9, HoldState::Voided, &keys),
            hold(4, 5, HoldState::Unresolved, &keys),
            hold(5, 6, HoldState::Unresolved, &keys),
        ];
        let lines = keys.iter().map(|key| {
            let rolling = key.value.starts_with("rolling");
            let rule = LineRule {
                scope: Scope::Agent,
                limit: usd(20),
                alert_at: Vec::new(),
                response: Response::Contain,
                rolling: rolling.then_some((100, 10)),
            };
            let spec = LineSpec { key: key.clone(), rule };
            let bucket = Bucket {
                start: at(0),
                posted: usd(17),
                unresolved: usd(5),
            };
            Line {
                posted: usd(17),
                held: usd(2),
                unresolved: usd(5),
                overage: usd(1),
                buckets: if rolling { vec![bucket] } else { Vec::new() },
                ..Line::new(&spec)
            }
        });
        let lines = lines.collect();
        Self {
            lines,
            holds,
            postings,
            entries,
            rolled: Vec::new(),
        }
    }

    fn audit(&self) -> Vec<Finding> {
        audit(&AuditParts {
            lines: &self.lines,
            holds: &self.holds,
            postings: &self.postings,
            entries: &self.entries,
            rolled: &self.rolled,
            now: at(50),
        })
    }
}

#[test]
fn a_sound_ledger_has_no_findings() {
    assert_eq!(Books::sound().audit(), []);
}

type Damage = (&'static str, Promise, fn(&mut Books));

#[test]
fn every_damage_is_found_and_names_its_promise() {
    let damages: Vec<Damage> = vec![
        ("a posted sum", Promise::L1, |b| b.lines[0].posted = usd(16)),
        ("an entry that is gone", Promise::L1, |b| drop(b.entries.remove(0))),
        ("an entry that is there twice", Promise::L1, |b| {
            b.entries.push(b.entries[0].clone())
        }),
        ("an entry of another amount", Promise::L1, |b| {
            b.entries[0].amount = usd(3)
        }),
        ("an entry without its posting", Promise::L1, |b| {
            drop(b.postings.remove(4))
        }),
        ("an entry on no line", Promise::L1, |b| drop(b.lines.remove(0))),
        ("a posting that is there twice", Promise::L1, |b| {
            b.postings.push(b.postings[0].clone())
        }),
        ("a posting above a billion", Promise::L1, |b| {
            b.postings[4].amount = Usd::MAX
        }),
        ("a negative report", Promise::L1, |b| b.postings[4].amount = usd(-7)),
        ("a correction of nothing", Promise::L1, |b| {
            b.postings[3].corrects = None
        }),
        ("another agent's spend", Promise::L1, |b| {
            b.postings[4].attribution.agent = "b".parse().unwrap()
        }),
        ("a weak claim on the fleet", Promise::L1, |b| {
            b.lines[0].key.agent = None;
            b.entries
                .iter_mut()
                .filter(|e| e.bucket.is_none())
                .for_each(|e| e.line.agent = None);
            b.holds.iter_mut().for_each(|h| h.lines[0].agent = None);
            b.postings[4].trust = Trust::Agent;
        }),
        ("a bucket's sum", Promise::L1, |b| {
            b.lines[1].buckets[0].posted = usd(16)
        }),
        ("a bucket dropped early", Promise::L1, |b| {
            b.lines[1].buckets.clear();
            (b.lines[1].posted, b.lines[1].unresolved, b.lines[1].overage) = (usd(0), usd(0), usd(0));
        }),
        ("a held sum", Promise::L2, |b| b.lines[0].held = usd(1)),
        ("a hold that no line knows", Promise::L2, |b| {
            let lines = b.holds[0].lines.clone();
            b.holds.push(hold(8, 1, HoldState::Open, &lines));
        }),
        ("an overage that is hidden", Promise::L2, |b| {
            b.lines[0].rule.limit = usd(17)
        }),
        ("an overage without a cause", Promise::L2, |b| {
            b.lines[0].overage = usd(2)
        }),
        ("one admission too many", Promise::L2, |b| {
            let lines = b.holds[0].lines.clone();
            b.holds.push(hold(8, 30, HoldState::Open, &lines));
            for line in &mut b.lines {
                (line.held, line.overage) = (usd(32), usd(30));
            }
        }),
        ("an unresolved sum", Promise::L3, |b| b.lines[0].unresolved = usd(4)),
        ("a capture of an open hold", Promise::L3, |b| {
            b.postings[0].hold = Some(HoldId(Uuid::from_u128(1)))
        }),
        ("a hold captured twice", Promise::L3, |b| {
            b.postings.push(posting(9, PostingKind::Capture, 0, Some(2)))
        }),
        ("a hold captured without a posting", Promise::L3, |b| {
            b.postings[0].hold = None
        }),
        ("a voided hold with a posting", Promise::L3, |b| {
            b.postings.push(posting(9, PostingKind::Capture, 0, Some(3)))
        }),
        ("a hold without its end", Promise::L3, |b| b.holds[1].ended_at = None),
        ("an open hold with an end", Promise::L3, |b| {
            b.holds[0].ended_at = Some(at(1))
        }),
        ("a refund by expiry", Promise::L3, |b| b.postings[1].amount = usd(1)),
        ("two corrections of one posting", Promise::L3, |b| {
            b.postings.push(Posting {
                id: PostingId(Uuid::from_u128(9)),
                ..b.postings[3].clone()
            });
        }),
        ("a correction of a capture", Promise::L3, |b| {
            b.postings[3].corrects = Some(PostingId(Uuid::from_u128(2)))
        }),
        ("an unresolved share of a report", Promise::L3, |b| {
            b.entries[8].unresolved = usd(1)
        }),
        ("an id of two holds", Promise::L3, |b| b.holds.push(b.holds[2].clone())),
        ("a report twice", Promise::L6, |b| {
            let twice = Posting {
                report: b.postings[4].report.clone(),
                ..posting(9, PostingKind::Report, 0, None)
            };
            b.postings.push(twice);
        }),
        ("a metered call reported again", Promise::L6, |b| {
            b.postings[0].upstream_request = Some("req".into());
            b.postings[4].upstream_request = Some("req".into());
        }),
        ("a capture with a report id", Promise::L6, |b| {
            b.postings[0].report = b.postings[4].report.clone()
        }),
    ];
    for (what, promise, damage) in damages {
        let mut books = Books::sound();
        damage(&mut books);
        let findings = books.audit();
        assert!(
            findings.iter().any(|finding| finding.promise == promise),
            "{what}: {findings:?}"
        );
    }
}

#[test]
fn what_was_rolled_up_still_adds_up() {
    let mut books = Books::sound();
    let key = books.lines[0].key.clone();
    books.lines.truncate(1);
    books.holds.iter_mut().for_each(|hold| hold.lines.truncate(1));
    books.entries.retain(|entry| entry.line == key);
    // The capture and the report are rolled up, the hold's row with its posting or not.
    let gone = [books.postings[0].id, books.postings[4].id];
    books.postings.retain(|posting| !gone.contains(&posting.id));
    books.entries.retain(|entry| !gone.contains(&entry.posting));
    books.rolled = vec![(key.clone(), at(0), usd(4), Usd::ZERO), (key, at(0), usd(7), Usd::ZERO)];
    assert_eq!(books.audit(), []);
    books.holds.remove(1);
    assert_eq!(books.audit(), []);
    books.rolled.pop();
    assert_eq!(books.audit().len(), 1);
}
