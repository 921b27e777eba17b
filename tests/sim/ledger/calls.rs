//! What the agents do: place holds and end them, or forget them; report; go away in the middle.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use backstop::domain::agent::AgentStatus;
use backstop::domain::id::{AgentId, ModelId, ReportId, TaskId};
use backstop::domain::ledger::batch::{LedgerRejection, Refusal};
use backstop::domain::ledger::bound::{Bound, TokenBound};
use backstop::domain::ledger::posting::{Attribution, Basis, Trust};
use backstop::domain::money::Usd;
use backstop::ledger::{
    AdmitRejection, AdmitRequest, AdmittedHold, CaptureRequest, Ledger, LedgerFailure, ReportRequest, Reported,
};
use jiff::SignedDuration;

use super::budgets::MAX_BOUND;
use super::executor::Time;
use super::model::{Acked, Heard, KnownHold, Model, Said};
use crate::rng::Rng;

/// Longer than any answer may take: the wait for room, the wait for a commit, and what is between.
const PATIENCE: Duration = Duration::from_secs(20 + 5 + 45);

/// Longer than any run.
const LONG: Duration = Duration::from_secs(100_000);

#[derive(Clone)]
pub(super) struct Caller {
    /// The process that the agent calls, and another one, which may get the end of the hold.
    pub(super) ledger: Ledger,
    pub(super) other: Ledger,
    pub(super) time: Arc<Time>,
    pub(super) model: Rc<RefCell<Model>>,
}

pub(super) fn agent(number: u64) -> AgentId {
    AgentId::new(format!("agent-{number}")).unwrap()
}

pub(super) fn attribution(rng: &mut Rng) -> Attribution {
    Attribution {
        agent: agent(rng.below(3)),
        task: TaskId::new(format!("t{}", rng.below(2))).unwrap(),
        service: None,
        model: Some(ModelId::new("m").unwrap()),
        tool: None,
        labels: std::collections::BTreeMap::new(),
    }
}

impl Caller {
    /// One call: a hold, some work, and an end of one kind or another.
    pub(super) async fn call(self, mut rng: Rng) {
        let bound = any_bound(&mut rng);
        let trust = if rng.chance(80) { Trust::Gateway } else { Trust::Agent };
        let end = rng.below(100);
        // Whoever ends its hold, and at the process that has it, needs no expiry: what is open at the end of
        // a run was then lost by the ledger. The others' lives are short enough to see them expire.
        let is_sure = end < 85 && rng.chance(50);
        let ttl = if is_sure {
            LONG
        } else {
            Duration::from_secs(rng.below(60) + 2)
        };
        let request = AdmitRequest {
            attribution: attribution(&mut rng),
            trust,
            bound,
            tentative: false,
            ttl: Some(ttl),
            wait: None,
        };
        let gives_up = rng.chance(15).then(|| Duration::from_millis(rng.below(3_000)));
        let Some(hold) = self.admit(request, gives_up).await else {
            return;
        };
        let granted = hold.bound;
        if granted < bound.least() || granted > bound.most() {
            self.model
                .borrow_mut()
                .violate(format!("{granted} was granted for {bound:?}"));
        }
        self.model.borrow_mut().holds.insert(
            hold.id,
            KnownHold {
                bound: granted,
                heard: Heard::Admitted,
            },
        );
        let work = if rng.chance(85) {
            rng.below(4_000)
        } else {
            rng.below(60_000)
        };
        self.time.sleep(Duration::from_millis(work)).await;
        let ledger = if !is_sure && rng.chance(15) {
            &self.other
        } else {
            &self.ledger
        };
        match end {
            0..70 => {
                // Now and then the provider charges above its bound.
                let most = if rng.chance(5) {
                    granted.nanos() * 2
                } else {
                    granted.nanos()
                };
                let cost = Usd::from_nanos(rng.range(0, most));
                if rng.chance(30) {
                    self.capture_later(ledger, &hold, trust, cost);
                } else {
                    self.capture(ledger, &hold, trust, cost).await;
                }
            }
            70..80 => self.void(ledger, &hold).await,
            80..85 => self.give_up(ledger, &hold).await,
            // Forgotten: it expires at its bound.
            _ => self.count("left"),
        }
    }

    /// The smallest hold, voided at once.
    pub(super) async fn probe(self, mut rng: Rng) {
        let request = AdmitRequest {
            attribution: attribution(&mut rng),
            trust: Trust::Gateway,
            bound: Usd::from_nanos(1).into(),
            tentative: false,
            ttl: None,
            wait: None,
        };
        match self.ledger.admit(request).await {
            Ok(hold) => {
                let known = KnownHold {
                    bound: hold.bound,
                    heard: Heard::Admitted,
                };
                self.model.borrow_mut().holds.insert(hold.id, known);
                self.void(&self.ledger, &hold).await;
            }
            Err(AdmitRejection::Refused(_)) => {}
            Err(why) => self
                .model
                .borrow_mut()
                .violate(format!("a hold that fits was answered with {why:?}")),
        }
    }

    async fn admit(&self, request: AdmitRequest, gives_up: Option<Duration>) -> Option<AdmittedHold> {
        let agent = request.attribution.agent.clone();
        let before = self.model.borrow().frozen(&agent);
        let started = self.time.now();
        let answer = match gives_up {
            None => self.ledger.admit(request).await,
            Some(patience) => {
                tokio::select! {
                    biased;
                    () = self.time.sleep(patience) => {
                        self.count("caller gone");
                        return None;
                    }
                    answer = self.ledger.admit(request) => answer,
                }
            }
        };
        let took = self.time.now() - started;
        let mut model = self.model.borrow_mut();
        if took > PATIENCE {
            model.violate(format!("a hold was answered after {took:?}: {answer:?}"));
        }
        model.note(&format!("{answer:?}"));
        if answer.is_ok() && before.0 && model.frozen(&agent) == before {
            model.violate(format!("a hold of {agent} was admitted while it was frozen"));
        }
        model.counts.add(match &answer {
            Ok(_) if took > Duration::from_millis(500) => "admitted after a wait",
            Ok(_) => "admitted",
            Err(AdmitRejection::Refused(Refusal::Budget { .. })) => "refused",
            Err(AdmitRejection::Refused(Refusal::AgentPaused | Refusal::AgentContained)) => "frozen",
            Err(AdmitRejection::Refused(Refusal::NoBudget)) => "no budget",
            Err(AdmitRejection::Held { .. }) => "held",
            Err(AdmitRejection::Unavailable(_)) => "unavailable",
            Err(AdmitRejection::Invalid(_)) => "invalid",
        });
        answer.ok()
    }

    async fn capture(&self, ledger: &Ledger, hold: &AdmittedHold, trust: Trust, cost: Usd) {
        self.hear(hold, Heard::MaybeCaptured(cost));
        let request = end_of(hold, trust, cost);
        let answer = ledger.capture(request).await;
        self.model.borrow_mut().note(&format!("{answer:?}"));
        match answer {
            Ok(_) => {
                self.hear(hold, Heard::Captured(cost));
                self.count("captured");
            }
            Err(LedgerFailure::Unavailable(_)) => self.count("capture unavailable"),
            Err(LedgerFailure::Rejected(why)) => {
                self.model
                    .borrow_mut()
                    .violate(format!("a capture of {} was rejected: {why}", hold.id));
            }
        }
    }

    /// A capture that nobody waits for.
    fn capture_later(&self, ledger: &Ledger, hold: &AdmittedHold, trust: Trust, cost: Usd) {
        let request = end_of(hold, trust, cost);
        match ledger.capture_later(request) {
            Ok(()) => {
                self.hear(hold, Heard::Later(cost, ledger.epoch()));
                self.count("captured later");
            }
            Err(LedgerFailure::Unavailable(_)) => self.count("capture unavailable"),
            Err(LedgerFailure::Rejected(why)) => {
                self.model
                    .borrow_mut()
                    .violate(format!("a capture of {} was rejected: {why}", hold.id));
            }
        }
    }

    async fn give_up(&self, ledger: &Ledger, hold: &AdmittedHold) {
        self.hear(hold, Heard::MaybeUnresolved);
        let answer = ledger.unresolve(hold.id, "given up").await;
        self.model.borrow_mut().note(&format!("{answer:?}"));
        match answer {
            Ok(_) => {
                self.hear(hold, Heard::Admitted);
                self.count("given up");
            }
            Err(LedgerFailure::Unavailable(_)) => self.count("giving up unavailable"),
            Err(LedgerFailure::Rejected(why)) => {
                self.model
                    .borrow_mut()
                    .violate(format!("giving {} up was rejected: {why}", hold.id));
            }
        }
    }

    async fn void(&self, ledger: &Ledger, hold: &AdmittedHold) {
        self.hear(hold, Heard::MaybeVoided);
        let answer = ledger.void(hold.id).await;
        self.model.borrow_mut().note(&format!("{answer:?}"));
        match answer {
            Ok(_) => {
                self.hear(hold, Heard::Voided);
                self.count("voided");
            }
            Err(LedgerFailure::Rejected(LedgerRejection::AlreadyEnded(_))) => {
                self.hear(hold, Heard::Refused);
                self.count("void refused");
            }
            Err(LedgerFailure::Unavailable(_)) => self.count("void unavailable"),
            Err(LedgerFailure::Rejected(why)) => {
                self.model
                    .borrow_mut()
                    .violate(format!("a void of {} was rejected: {why}", hold.id));
            }
        }
    }

    /// A batch of reports, some of them sent before, some with an id that another body had.
    pub(super) async fn report(self, mut rng: Rng) {
        let count = if rng.chance(10) { rng.below(300) } else { rng.below(8) } + 1;
        let mut seen = std::collections::BTreeSet::new();
        let rows: Vec<ReportRequest> = (0..count)
            .map(|_| report(&mut rng, self.ledger.now()))
            .filter(|row| seen.insert(said(row)))
            .collect();
        let started = self.time.now();
        let answer = self.ledger.report(rows.clone()).await;
        let took = self.time.now() - started;
        let mut model = self.model.borrow_mut();
        if took > PATIENCE {
            model.violate(format!("reports were answered after {took:?}"));
        }
        model.note(&format!("{answer:?}"));
        let Ok(answers) = answer else {
            model.counts.add("reports unavailable");
            return;
        };
        if answers.len() != rows.len() {
            model.violate(format!("{} answers for {} reports", answers.len(), rows.len()));
        }
        for (row, answer) in rows.iter().zip(answers) {
            match answer {
                Ok(reported) => {
                    let (posting, known) = match reported {
                        Reported::Posted(posting) => (Some(posting), false),
                        Reported::Known(posting) => (posting, true),
                    };
                    let acked = Acked {
                        digest: row.digest,
                        amount: row.amount,
                        posting,
                        new: !known,
                    };
                    model.acked(&said(row), acked);
                    model.counts.add(if known { "report known" } else { "reported" });
                }
                Err(LedgerRejection::ReportConflict(_)) => {
                    let first = model.reports.get(&said(row)).copied();
                    if first.is_some_and(|first| first.digest == row.digest) {
                        model.violate(format!(
                            "L6: report {} was acknowledged and then a conflict",
                            row.report
                        ));
                    }
                    model.counts.add("report conflict");
                }
                Err(why) => model.violate(format!("report {} was rejected: {why}", row.report)),
            }
        }
    }

    fn hear(&self, hold: &AdmittedHold, heard: Heard) {
        if let Some(known) = self.model.borrow_mut().holds.get_mut(&hold.id) {
            known.heard = heard;
        }
    }

    fn count(&self, what: &'static str) {
        self.model.borrow_mut().counts.add(what);
    }
}

fn end_of(hold: &AdmittedHold, trust: Trust, cost: Usd) -> CaptureRequest {
    CaptureRequest {
        hold: hold.id,
        by: None,
        cost,
        trust,
        occurred_at: None,
        upstream_request: None,
        detail: None,
    }
}

/// An amount, or now and then one that follows what is left.
fn any_bound(rng: &mut Rng) -> Bound {
    let most = rng.range(1, MAX_BOUND);
    if rng.chance(70) {
        return Usd::from_nanos(most).into();
    }
    let per_unit = rng.below(3) + 1;
    let base = rng.range(0, most - 1);
    let wanted = u64::try_from(most - base).unwrap() / per_unit;
    Bound::Tokens(TokenBound {
        base: Usd::from_nanos(base),
        nanos_per_million: per_unit * 1_000_000,
        wanted,
        least: rng.below(wanted + 1) / 4,
    })
}

/// Who said it, and under which id.
fn said(row: &ReportRequest) -> Said {
    (
        row.attribution.agent.clone(),
        row.trust > Trust::Agent,
        row.report.clone(),
    )
}

/// A report whose body follows from its id and who says it, but for a few that say something else.
fn report(rng: &mut Rng, now: jiff::Timestamp) -> ReportRequest {
    let number = if rng.chance(20) {
        rng.below(50)
    } else {
        rng.next() >> 16
    };
    let other = rng.chance(3);
    // Now and then both tell of one expense, and not the same.
    let evidence = rng.chance(50);
    let mut body = Rng::new(number).fork(match (evidence, other) {
        (_, true) => "other",
        (true, false) => "evidence",
        (false, false) => "claim",
    });
    let amount = Usd::from_nanos(body.range(0, 3));
    let mut digest = [u8::from(other); 32];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    ReportRequest {
        report: ReportId::new(format!("r{number}")).unwrap(),
        digest,
        attribution: Attribution {
            agent: agent(number % 3),
            ..attribution(&mut body)
        },
        amount,
        basis: Basis::Reported,
        trust: if evidence { Trust::Provider } else { Trust::Agent },
        // Some arrive late, for a window that is over.
        occurred_at: if rng.chance(10) {
            now - SignedDuration::from_secs(rng.range(0, 7_200))
        } else {
            now
        },
        upstream_request: None,
        detail: None,
    }
}

/// What an operator may set an agent to, and back.
pub(super) fn freezes(rng: &mut Rng) -> AgentStatus {
    if rng.chance(50) {
        AgentStatus::Paused
    } else {
        AgentStatus::Contained
    }
}
