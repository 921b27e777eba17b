//! What a caller may still spend: the lines that bind it, as stored, and those that the next call
//! would create.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Ledger;
use super::mirror::room_of;
use super::requests::{LedgerFailure, Unavailable};
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::{Attribution, Trust};
use crate::domain::money::Usd;
use crate::ports::{LineQuery, StoreError};

/// Lines in one view at most.
const MAX_LINES: u32 = 1_000;

/// One line as its agent may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineView {
    pub line: Line,
    /// Room for another hold now; never below zero.
    pub remaining: Usd,
    /// Whether an operator lifted the limit for now.
    pub lifted: bool,
    /// Whether a call as asked about would count on it; the others are the agent's other tasks,
    /// models, tools and labels.
    pub applies: bool,
}

impl Ledger {
    /// The lines that bind `spend` now, and the agent's other live lines, in the order of their keys.
    pub async fn budget_view(&self, spend: &Attribution) -> Result<Vec<LineView>, LedgerFailure> {
        let now = self.shared.read_clock().ledger_now;
        let (specs, _) = self
            .shared
            .budgets
            .specs(spend, Trust::Gateway, now)
            .map_err(|_| self.shared.calendar())?;
        let mut views: BTreeMap<LineKey, LineView> = specs
            .iter()
            .map(|spec| (spec.key.clone(), view(Line::new(spec), now, true)))
            .collect();
        let mut queries = vec![LineQuery {
            agent: Some(spend.agent.clone()),
            open_at: Some(now),
            limit: Some(MAX_LINES),
            ..LineQuery::default()
        }];
        // What binds the call is asked for by name: an agent with many lines must still see these.
        for spec in &specs {
            queries.push(LineQuery {
                agent: spec.key.agent.clone(),
                budget: Some(spec.key.budget.clone()),
                value: Some(spec.key.value.clone()),
                open_at: Some(now),
                limit: Some(MAX_LINES),
                ..LineQuery::default()
            });
        }
        for query in queries {
            for line in self
                .shared
                .store
                .lines(&query)
                .await
                .map_err(|error| self.unreadable(&error))?
            {
                let applies = views.contains_key(&line.key);
                let is_own = line.key.agent.as_ref() == Some(&spend.agent);
                if applies || (is_own && self.shared.budgets.has(&line.key.budget)) {
                    views.insert(line.key.clone(), view(line, now, applies));
                }
            }
        }
        Ok(views.into_values().collect())
    }

    fn unreadable(&self, error: &StoreError) -> Unavailable {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the ledger's lines cannot be read"
        );
        self.shared.store_down()
    }
}

fn view(line: Line, now: Timestamp, applies: bool) -> LineView {
    let line = line.as_of(now);
    let room = room_of(&line, now);
    LineView {
        remaining: room.free.max(Usd::ZERO),
        lifted: line.is_lifted(now),
        applies,
        line,
    }
}
