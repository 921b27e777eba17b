//! Usage reports: bytes to rows, rows to postings.
//!
//! Every row is judged alone, so that one bad row does not lose a night's good ones, unless the sender
//! asks for all or nothing. What can be read of a row is judged before the ledger is asked, and what only
//! the ledger knows, whether an id was used before with another body, in the commit that posts them all,
//! if one can: see [`Ledger::report_all`]. A row is acknowledged only once it is on disk (L5). Whoever sends decides
//! the trust class, not the row (C7): an agent's key speaks for that agent alone, an operator for all.
//!
//! What it must never do: post a row at zero because it could not be priced, or answer for a row whose
//! commit is not known.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::SignedDuration;
use serde_json::Value;

use crate::audit::Refusals;
use crate::domain::audit::NewAudit;
use crate::domain::id::{AgentId, PostingId, ReportId, TaskId};
use crate::domain::ledger::batch::LedgerRejection;
use crate::domain::ledger::line::Scope;
use crate::domain::ledger::posting::{Attribution, Trust};
use crate::domain::money::{MAX_POSTING, Usd};
use crate::domain::price::Catalogue;
use crate::domain::rejection::Rejection;
use crate::domain::report::{self, NameMeter, ReportRow, RowLimits};
use crate::domain::wire::json::{JsonLimits, parse_strict};
use crate::ledger::{Ledger, ReportRequest, Reported, ReportedAll, Unavailable};
use crate::ports::Clock;

/// JSON values in one row at most, on the average of a request.
const VALUES_A_ROW: usize = 48;

/// Bounds on what is taken in.
#[derive(Debug, Clone, Copy)]
pub struct IntakeSettings {
    /// Rows of one request at most.
    pub max_rows: usize,
    pub max_future: SignedDuration,
    pub max_age: SignedDuration,
    /// New tasks an hour that one agent may name.
    pub max_new_tasks: u32,
}

impl Default for IntakeSettings {
    fn default() -> Self {
        Self {
            max_rows: 10_000,
            max_future: SignedDuration::from_mins(5),
            max_age: SignedDuration::from_hours(24 * 90),
            max_new_tasks: 1_000,
        }
    }
}

/// Who reports.
#[derive(Debug, Clone)]
pub enum Source {
    /// With its own key.
    Agent(AgentId),
    /// Over the admin side; rows that name no agent are this one's.
    Operator { agent: Option<AgentId> },
}

impl Source {
    fn trust(&self) -> Trust {
        match self {
            Self::Agent(_) => Trust::Agent,
            Self::Operator { .. } => Trust::Operator,
        }
    }
}

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// One object, or an array of them.
    Json,
    /// One object a line.
    JsonLines,
}

/// What became of one row.
#[derive(Debug, Clone)]
pub struct RowAnswer {
    /// Counts from 0; for JSON lines, blank lines are left out.
    pub row: usize,
    pub id: Option<ReportId>,
    pub result: Result<RowDone, Rejection>,
}

#[derive(Debug, Clone)]
pub struct RowDone {
    pub amount: Usd,
    pub posting: Option<PostingId>,
    /// The same report, or the same call, was posted before (L6).
    pub duplicate: bool,
    /// Whether any budget counts it. What no budget covers is posted all the same, since the money is
    /// spent, but it is said: to the sender, and to the audit log.
    pub covered: bool,
    /// The task it was posted under, if not the one it named: the agent named too many new ones.
    pub task: TaskId,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub rows: Vec<RowAnswer>,
    /// Whether the body was one object, so that its one answer stands for the request.
    pub single: bool,
}

/// Why a whole request was not done.
#[derive(Debug, thiserror::Error)]
pub enum IntakeFailure {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// `all_or_nothing` and a bad row, or one whose id was used before with another body: nothing was kept.
    #[error("{rejection}")]
    Refused { rejection: Rejection, receipt: Receipt },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Takes usage reports in.
pub struct Intake {
    ledger: Ledger,
    catalogue: Arc<ArcSwap<Catalogue>>,
    agents: Arc<ArcSwap<Vec<AgentId>>>,
    settings: Arc<ArcSwap<IntakeSettings>>,
    clock: Arc<dyn Clock>,
    refusals: Arc<Refusals>,
    names: Mutex<NameMeter>,
}

impl Intake {
    pub fn new(
        ledger: Ledger,
        catalogue: Arc<ArcSwap<Catalogue>>,
        agents: Arc<ArcSwap<Vec<AgentId>>>,
        settings: Arc<ArcSwap<IntakeSettings>>,
        clock: Arc<dyn Clock>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            ledger,
            catalogue,
            agents,
            settings,
            clock,
            refusals,
            names: Mutex::default(),
        }
    }

    /// Reads a body and posts its rows.
    pub async fn report(
        &self,
        source: &Source,
        body: &[u8],
        encoding: Encoding,
        all_or_nothing: bool,
    ) -> Result<Receipt, IntakeFailure> {
        let settings = **self.settings.load();
        let (values, single) = rows(body, encoding, settings.max_rows)?;
        let mut answers = Vec::with_capacity(values.len());
        let mut requests = Vec::new();
        for (row, value) in values.into_iter().enumerate() {
            let read = value.and_then(|value| self.read(source, &value, settings));
            match read {
                Ok((id, request)) => {
                    let done = RowDone {
                        amount: request.amount,
                        posting: None,
                        duplicate: false,
                        covered: self
                            .ledger
                            .covers(&request.attribution, request.trust, request.occurred_at)?,
                        task: request.attribution.task.clone(),
                    };
                    answers.push(RowAnswer {
                        row,
                        id: Some(id),
                        result: Ok(done),
                    });
                    requests.push(request);
                }
                Err((id, rejection)) => answers.push(RowAnswer {
                    row,
                    id,
                    result: Err(rejection),
                }),
            }
        }
        // An amount that nobody can spend is a fault in the claim: it is never posted, but kept on record.
        let absurd = |answer: &RowAnswer| matches!(answer.result, Err(Rejection::Ledger(LedgerRejection::Absurd)));
        let reason = LedgerRejection::Absurd.to_string();
        self.note(source, &answers, absurd, "claim_refused", &reason);
        let rejected = answers.len() - requests.len();
        if all_or_nothing && rejected > 0 {
            let rejection = Rejection::BatchRefused {
                rejected,
                rows: answers.len(),
            };
            return Err(IntakeFailure::Refused {
                rejection,
                receipt: Receipt { rows: answers, single },
            });
        }
        let posted = if all_or_nothing {
            match self.ledger.report_all(requests).await? {
                ReportedAll::Kept(posted) => posted,
                ReportedAll::Refused(rejected) => return Err(refuse_all(answers, single, rejected)),
            }
        } else {
            self.ledger.report(requests).await?
        };
        let mut good = answers.iter_mut().filter(|answer| answer.result.is_ok());
        for result in posted {
            let Some(answer) = good.next() else { break };
            let Ok(done) = &mut answer.result else { break };
            match result {
                Ok(Reported::Posted(posting)) => done.posting = Some(posting),
                Ok(Reported::Known(posting)) => {
                    done.posting = posting;
                    done.duplicate = true;
                }
                Err(rejection) => answer.result = Err(Rejection::Ledger(rejection)),
            }
        }
        let uncovered = |answer: &RowAnswer| {
            let done = answer.result.as_ref();
            done.is_ok_and(|done| !done.covered && !done.duplicate)
        };
        let reason = "spend was reported that no budget covers; it is posted, and no limit counts it";
        let count = self.note(source, &answers, uncovered, "report_uncovered", reason);
        metrics::counter!("backstop_reports_uncovered_total").increment(count);
        Ok(Receipt { rows: answers, single })
    }

    /// Notes rows for the audit log, where a person sees that somebody said it: one entry a request,
    /// and requests that repeat it are folded, so that a flood of such rows is not a flood of entries.
    /// Returns how many rows there were.
    fn note(
        &self,
        source: &Source,
        answers: &[RowAnswer],
        concerns: impl Fn(&RowAnswer) -> bool,
        action: &str,
        reason: &str,
    ) -> u64 {
        let rows: Vec<&RowAnswer> = answers.iter().filter(|answer| concerns(answer)).collect();
        if rows.is_empty() {
            return 0;
        }
        let ids: Vec<&ReportId> = rows.iter().filter_map(|row| row.id.as_ref()).take(20).collect();
        let (actor, agent) = match source {
            Source::Agent(agent) => (format!("agent:{agent}"), Some(agent.clone())),
            Source::Operator { agent } => ("operator".to_owned(), agent.clone()),
        };
        let entry = NewAudit {
            at: self.clock.now(),
            actor,
            action: action.to_owned(),
            agent,
            reason: reason.to_owned(),
            evidence: serde_json::json!({ "rows": rows.len(), "report_ids": ids }).to_string(),
        };
        self.refusals.note(action, entry);
        rows.len() as u64
    }

    /// One row, read, attributed and priced.
    fn read(
        &self,
        source: &Source,
        value: &Value,
        settings: IntakeSettings,
    ) -> Result<(ReportId, ReportRequest), (Option<ReportId>, Rejection)> {
        // The ledger's time, not the wall's: what happened just now must fall into the window that is open
        // there, also while the wall clock is behind or has jumped.
        let now = self.ledger.now();
        let limits = RowLimits {
            max_future: settings.max_future,
            max_age: settings.max_age,
        };
        // A row that cannot be read may still say which it is, so that its sender can find it.
        let id = value
            .get("id")
            .and_then(Value::as_str)
            .and_then(|id| ReportId::new(id).ok());
        let row = report::parse(value, now, limits).map_err(|rejection| (id, rejection))?;
        let id = row.id.clone();
        self.price(source, row, settings)
            .map_err(|rejection| (Some(id.clone()), rejection))
            .map(|request| (id, request))
    }

    fn price(&self, source: &Source, row: ReportRow, settings: IntakeSettings) -> Result<ReportRequest, Rejection> {
        let agent = self.agent(source, row.agent.clone())?;
        let charged = report::charge(&row, &self.catalogue.load())?;
        if charged.amount > MAX_POSTING {
            return Err(Rejection::Ledger(LedgerRejection::Absurd));
        }
        let mut attribution = Attribution {
            agent,
            task: row.task,
            service: charged.service,
            model: charged.model,
            tool: row.tool,
            labels: row.labels,
        };
        // The money is spent, so it is posted whatever the agent calls it.
        for (scope, value) in self.too_many(&attribution, settings.max_new_tasks) {
            report::drop_name(&mut attribution, scope, &value);
        }
        Ok(ReportRequest {
            report: row.id,
            digest: row.digest,
            attribution,
            amount: charged.amount,
            basis: charged.basis,
            trust: source.trust(),
            occurred_at: row.occurred_at,
            upstream_request: row.upstream_request,
            detail: charged.detail,
        })
    }

    fn agent(&self, source: &Source, named: Option<AgentId>) -> Result<AgentId, Rejection> {
        let field = |problem: String| Rejection::Field {
            field: "agent".to_owned(),
            problem,
        };
        let agent = match (source, named) {
            (Source::Agent(own), None) => own.clone(),
            (Source::Agent(own), Some(named)) if *own == named => named,
            (Source::Agent(own), Some(_)) => {
                return Err(field(format!(
                    "the credential is {own}'s, which can report for itself only"
                )));
            }
            (Source::Operator { .. }, Some(named)) => named,
            (Source::Operator { agent: Some(agent) }, None) => agent.clone(),
            (Source::Operator { agent: None }, None) => {
                return Err(field(
                    "missing: name the agent in the row, or one for all rows with --agent".to_owned(),
                ));
            }
        };
        if self.agents.load().contains(&agent) {
            Ok(agent)
        } else {
            Err(Rejection::UnknownAgent(agent))
        }
    }

    /// The names of this spend that are past the cap; see [`NameMeter`]. Tasks count whether or not a
    /// budget adds up by them, since spend is reported by task.
    fn too_many(&self, spend: &Attribution, limit: u32) -> Vec<(Scope, String)> {
        let mut names = self.ledger.chosen_names(spend);
        names.insert((Scope::Task, spend.task.as_str().to_owned()));
        let now = self.clock.now();
        let mut meter = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let past = |(scope, value): &(Scope, String)| !meter.admits(&spend.agent, *scope, value, now, limit);
        names.into_iter().filter(past).collect()
    }

    /// Whether an agent may place a hold under these names.
    pub fn admits_names(&self, spend: &Attribution) -> Result<(), Rejection> {
        let limit = self.settings.load().max_new_tasks;
        if self.too_many(spend, limit).is_empty() {
            Ok(())
        } else {
            Err(Rejection::TooManyTasks { limit })
        }
    }
}

/// Puts what the ledger found wrong with some rows into their answers: nothing was kept. Every row was good
/// until then, so that their places are those of the answers.
fn refuse_all(mut answers: Vec<RowAnswer>, single: bool, rejected: Vec<(usize, LedgerRejection)>) -> IntakeFailure {
    let rejection = Rejection::BatchRefused {
        rejected: rejected.len(),
        rows: answers.len(),
    };
    for (row, why) in rejected {
        if let Some(answer) = answers.get_mut(row) {
            answer.result = Err(Rejection::Ledger(why));
        }
    }
    IntakeFailure::Refused {
        rejection,
        receipt: Receipt { rows: answers, single },
    }
}

type RowValue = Result<Value, (Option<ReportId>, Rejection)>;

/// Splits a body into rows. A line of JSON lines that cannot be read is one bad row; a JSON body that
/// cannot be read is a bad request, since nobody knows where its rows end.
fn rows(body: &[u8], encoding: Encoding, max_rows: usize) -> Result<(Vec<RowValue>, bool), Rejection> {
    // A row has some thirty values; many more are not rows, but a way to fill the memory.
    let limits = JsonLimits {
        values: max_rows.saturating_mul(VALUES_A_ROW),
        ..JsonLimits::default()
    };
    let (rows, single) = match encoding {
        Encoding::Json => {
            match parse_strict(body, &limits).map_err(|problem| Rejection::Malformed(problem.to_string()))? {
                Value::Array(rows) => (rows.into_iter().map(Ok).collect::<Vec<_>>(), false),
                row => (vec![Ok(row)], true),
            }
        }
        Encoding::JsonLines => {
            let lines = body
                .split(|&byte| byte == b'\n')
                .map(<[u8]>::trim_ascii)
                .filter(|line| !line.is_empty());
            let found = lines.clone().take(max_rows.saturating_add(1)).count();
            if found > max_rows {
                return Err(Rejection::TooManyRows { limit: max_rows, found });
            }
            let read = |line: &[u8]| {
                parse_strict(line, &limits).map_err(|problem| (None, Rejection::Malformed(problem.to_string())))
            };
            (lines.map(read).collect(), false)
        }
    };
    if rows.is_empty() {
        return Err(Rejection::Malformed("there are no rows in it".to_owned()));
    }
    if rows.len() > max_rows {
        return Err(Rejection::TooManyRows {
            limit: max_rows,
            found: rows.len(),
        });
    }
    Ok((rows, single))
}
