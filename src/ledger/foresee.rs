//! Forecasts: what burns now, told to the ledger before it is spent.

use std::collections::BTreeMap;

use super::Ledger;
use crate::domain::id::AgentId;
use crate::domain::ledger::batch::{Foresee, Op, Outcome};
use crate::domain::ledger::line::{LineKey, LineSpec};
use crate::domain::ledger::posting::{Attribution, Trust};
use crate::domain::money::Usd;

use super::requests::Unavailable;

/// Agents that a projected breach of a fleet line names at most: the largest.
const MAX_BURNERS: usize = 100;

/// What comes of an agent before anything can be done about it: not posted yet, or burnt until a reaction
/// binds.
#[derive(Debug, Clone)]
pub struct Forecast {
    pub attribution: Attribution,
    pub ahead: Usd,
}

/// A fleet line, and who burns on it.
struct Shared {
    spec: LineSpec,
    burners: Vec<(Attribution, Usd)>,
}

impl Ledger {
    /// Trips the lines that these forecasts bring to their limits, each once per revision, and posts
    /// nothing. Answers how many it tripped.
    ///
    /// The forecasts are of all agents that burn: on a fleet line theirs add up. It is not kept when the
    /// store is down, since the next forecast says more.
    pub async fn foresee(&self, forecasts: &[Forecast], trust: Trust) -> Result<u64, Unavailable> {
        let now = self.shared.read_clock().ledger_now;
        let mut ops = Vec::with_capacity(forecasts.len());
        let mut shared: BTreeMap<LineKey, Shared> = BTreeMap::new();
        for forecast in forecasts.iter().filter(|forecast| forecast.ahead > Usd::ZERO) {
            let specs = self.shared.budgets.specs(&forecast.attribution, trust, now);
            let (lines, _) = specs.map_err(|_| self.shared.calendar())?;
            let (own, fleet): (Vec<_>, Vec<_>) = lines.into_iter().partition(|spec| spec.key.agent.is_some());
            for spec in fleet {
                let key = spec.key.clone();
                let burners = Vec::new();
                let line = shared.entry(key).or_insert(Shared { spec, burners });
                line.burners.push((forecast.attribution.clone(), forecast.ahead));
            }
            if !own.is_empty() {
                ops.push(Op::Foresee(Foresee {
                    attribution: forecast.attribution.clone(),
                    trust,
                    lines: own,
                    ahead: forecast.ahead,
                    burners: Vec::new(),
                }));
            }
        }
        ops.extend(shared.into_values().filter_map(|line| line.op(trust)));
        let mut tripped = 0;
        for ops in ops.chunks(self.shared.settings.batch()) {
            for outcome in self.shared.job(ops.to_vec(), false).await? {
                match outcome {
                    Outcome::Applied { lines, .. } => tripped += lines,
                    outcome => tracing::error!(?outcome, "a forecast was not taken"),
                }
            }
        }
        Ok(tripped)
    }
}

impl Shared {
    fn op(mut self, trust: Trust) -> Option<Op> {
        self.burners
            .sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.agent.cmp(&b.0.agent)));
        let (attribution, _) = self.burners.first()?;
        let attribution = attribution.clone();
        let ahead = self
            .burners
            .iter()
            .fold(Usd::ZERO, |sum, (_, usd)| sum.saturating_add(*usd));
        let burners = self.burners.into_iter().take(MAX_BURNERS);
        let burners: Vec<(AgentId, Usd)> = burners.map(|(who, usd)| (who.agent, usd)).collect();
        Some(Op::Foresee(Foresee {
            attribution,
            trust,
            lines: vec![self.spec],
            ahead,
            burners,
        }))
    }
}
