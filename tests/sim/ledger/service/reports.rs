//! Usage reports on their whole way, from bytes to postings.

use std::sync::Arc;

use arc_swap::ArcSwap;
use backstop::audit::Refusals;
use backstop::domain::audit::AuditEntry;
use backstop::domain::budget::{Budget, Selector};
use backstop::domain::id::AgentId;
use backstop::domain::ledger::line::Scope;
use backstop::domain::money::Usd;
use backstop::domain::price::Catalogue;
use backstop::intake::usage::{Encoding, Intake, IntakeFailure, IntakeSettings, Receipt, Source};
use backstop::ports::Store;
use globset::{Glob, GlobSetBuilder};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::ledger::lab::{Bench, Lab, budget};

struct Desk {
    intake: Arc<Intake>,
    refusals: Arc<Refusals>,
}

impl Desk {
    fn new(bench: &Bench) -> Self {
        let refusals = Arc::new(Refusals::new());
        let intake = Intake::new(
            bench.ledger.clone(),
            Arc::new(ArcSwap::from_pointee(Catalogue::builtin())),
            Arc::new(ArcSwap::from_pointee(vec![agent()])),
            Arc::new(ArcSwap::from_pointee(IntakeSettings::default())),
            Arc::clone(&bench.clock) as _,
            Arc::clone(&refusals),
        );
        Self {
            intake: Arc::new(intake),
            refusals,
        }
    }

    fn send(&self, lab: &mut Lab, row: &Value) -> Receipt {
        let (intake, body) = (Arc::clone(&self.intake), row.to_string());
        let sent = async move {
            let source = Source::Agent(agent());
            intake.report(&source, body.as_bytes(), Encoding::Json, false).await
        };
        lab.exec.block_on(sent).expect("taken in")
    }

    /// All of it or nothing.
    fn send_all(&self, lab: &mut Lab, source: Source, rows: &Value) -> Result<Receipt, IntakeFailure> {
        let (intake, body) = (Arc::clone(&self.intake), rows.to_string());
        lab.exec
            .block_on(async move { intake.report(&source, body.as_bytes(), Encoding::Json, true).await })
    }

    /// The audit log, once what is due was written.
    fn log(&self, lab: &mut Lab, bench: &Bench) -> Vec<AuditEntry> {
        let (refusals, store) = (Arc::clone(&self.refusals), Arc::clone(&bench.store));
        let now = bench.ledger.now();
        lab.exec.block_on(async move {
            refusals.write(&*store, now).await.expect("written");
            store.audit(0, 100).await.expect("read")
        })
    }
}

fn agent() -> AgentId {
    AgentId::new("agent").unwrap()
}

fn covered(receipt: &Receipt) -> bool {
    receipt.rows[0].result.as_ref().expect("posted").covered
}

/// A row that names no time happened now, and now is the ledger's time.
#[test]
fn what_happened_just_now_happened_at_the_ledgers_time() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000_000_000_000)]);
    let desk = Desk::new(&bench);
    bench.clock.set_skew(SignedDuration::from_hours(3));
    desk.send(&mut lab, &json!({"id": "r", "amount_usd": "1"}));
    let posting = &lab.view().postings[0];
    assert!(posting.occurred_at <= bench.ledger.now(), "{}", posting.occurred_at);
}

/// A budget for a model sees it under every name that a price is found by; what no budget sees is
/// posted and said.
#[test]
fn a_budget_sees_the_model_that_was_priced() {
    let mut lab = Lab::new();
    let mut globs = GlobSetBuilder::new();
    globs.add(Glob::new("gpt-5*").unwrap());
    let selector = Selector {
        models: Some(globs.build().unwrap()),
        ..Selector::default()
    };
    let bench = lab.open(vec![Budget {
        selector,
        ..budget(1_000_000_000_000)
    }]);
    let desk = Desk::new(&bench);
    let usage = json!({"prompt_tokens": 1_000_000, "completion_tokens": 1_000});
    let row = json!({"id": "a", "service": "openai", "model": "openai/gpt-5-mini", "usage": usage});
    assert!(covered(&desk.send(&mut lab, &row)));
    let view = lab.view();
    assert_eq!(view.lines.len(), 1);
    assert!(view.lines[0].posted > Usd::ZERO);
    assert_eq!(desk.log(&mut lab, &bench), []);

    let other = json!({"id": "b", "service": "anthropic", "model": "claude-x", "amount_usd": "2"});
    assert!(!covered(&desk.send(&mut lab, &other)));
    let view = lab.view();
    assert_eq!((view.postings.len(), view.entries.len()), (2, 1));
    let log = desk.log(&mut lab, &bench);
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].entry.action, "report_uncovered");
    assert_eq!(log[0].entry.agent, Some(agent()));
    assert!(log[0].entry.evidence.contains("\"b\""), "{}", log[0].entry.evidence);
}

/// One entry a request would still be a flood.
#[test]
fn absurd_claims_are_kept_on_record_without_a_flood() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let desk = Desk::new(&bench);
    for n in 0..50 {
        let claim = json!({"id": format!("c{n}"), "amount_usd": "2000000000"});
        assert!(desk.send(&mut lab, &claim).rows[0].result.is_err());
    }
    assert!(lab.view().postings.is_empty());
    let log = desk.log(&mut lab, &bench);
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].entry.action, "claim_refused");
}

/// A new label for every report gets no new limit every time.
#[test]
fn new_labels_are_counted_like_new_tasks() {
    let mut lab = Lab::new();
    let by_team = Budget {
        scope: Scope::Label,
        label: Some("team".parse().unwrap()),
        ..budget(1_000_000_000_000)
    };
    let bench = lab.open(vec![by_team]);
    let desk = Desk::new(&bench);
    let rows: Vec<Value> = (0..1_010)
        .map(|n| json!({"id": format!("r{n}"), "amount_usd": "0.01", "labels": {"team": format!("t{n}")}}))
        .collect();
    desk.send(&mut lab, &rows.into());
    let view = lab.view();
    assert_eq!((view.postings.len(), view.lines.len()), (1_010, 1_001));
    let nameless = view
        .lines
        .iter()
        .find(|line| line.key.value == "team=-")
        .expect("a line");
    assert_eq!(nameless.posted, Usd::from_nanos(100_000_000));
}

fn row(id: usize, usd: &str) -> Value {
    json!({ "id": format!("r{id}"), "amount_usd": usd })
}

/// A conflict that only the ledger can know refuses the whole request too, however long it is.
#[test]
fn all_or_nothing_is_nothing_when_one_id_is_taken() {
    for rows in [3, 1_200] {
        let mut lab = Lab::new();
        let bench = lab.open(vec![budget(i64::MAX)]);
        let desk = Desk::new(&bench);
        desk.send(&mut lab, &row(rows - 1, "0.5"));
        let whole = |last: &str| {
            let rows: Vec<Value> = (0..rows)
                .map(|id| row(id, if id == rows - 1 { last } else { "1" }))
                .collect();
            Value::from(rows)
        };
        let refused = desk.send_all(&mut lab, Source::Agent(agent()), &whole("2"));
        let Err(IntakeFailure::Refused { rejection, receipt }) = refused else {
            panic!("{rows}: {refused:?}")
        };
        assert_eq!(rejection.code(), "batch_refused");
        let bad: Vec<usize> = receipt
            .rows
            .iter()
            .filter(|row| row.result.is_err())
            .map(|row| row.row)
            .collect();
        assert_eq!(bad, [rows - 1]);
        assert_eq!(lab.view().postings.len(), 1, "{rows} rows: something was kept");

        let kept = desk
            .send_all(&mut lab, Source::Agent(agent()), &whole("0.5"))
            .expect("all good");
        let known = kept
            .rows
            .iter()
            .filter(|row| row.result.as_ref().is_ok_and(|done| done.duplicate));
        assert_eq!((known.count(), lab.view().postings.len()), (1, rows));
        lab.audit();
    }
}

/// Two bodies under one id within the request, however far apart.
#[test]
fn all_or_nothing_sees_a_conflict_within_the_request() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(i64::MAX)]);
    let desk = Desk::new(&bench);
    let mut rows: Vec<Value> = (0..700).map(|id| row(id, "1")).collect();
    rows.push(row(0, "2"));
    let refused = desk.send_all(&mut lab, Source::Agent(agent()), &Value::from(rows));
    assert!(matches!(refused, Err(IntakeFailure::Refused { .. })), "{refused:?}");
    assert!(lab.view().postings.is_empty());
}

/// What the agent claimed and an operator imports under the same id counts once, as the operator says.
#[test]
fn an_import_takes_the_place_of_what_the_agent_claimed() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(i64::MAX)]);
    let desk = Desk::new(&bench);
    desk.send(&mut lab, &row(1, "5"));
    let import = Source::Operator { agent: Some(agent()) };
    desk.send_all(&mut lab, import, &json!([row(1, "3"), row(2, "4")]))
        .expect("imported");
    desk.send(&mut lab, &row(2, "9"));
    assert_eq!(lab.view().lines[0].posted, Usd::from_dollars(7));
    lab.audit();
}
