//! Forecasts: what burns now, told to the ledger before it is spent.
//!
//! What is spent and not posted yet counts on a line only if it would be posted on it: hours that are over
//! are judged on their own lines when they are posted, and not on today's.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Ledger;
use crate::domain::id::AgentId;
use crate::domain::ledger::batch::{Foresee, Op, Outcome};
use crate::domain::ledger::line::{LineKey, LineSpec};
use crate::domain::ledger::posting::{Attribution, Trust};
use crate::domain::money::Usd;
use crate::domain::window::Buckets;

use super::requests::Unavailable;

/// Agents that a projected breach of a fleet line names at most: the largest.
const MAX_BURNERS: usize = 100;

/// What comes of an agent before anything can be done about it.
#[derive(Debug, Clone)]
pub struct Forecast {
    pub attribution: Attribution,
    /// Spent, and not posted yet, with the times at which it will be said to have occurred.
    pub unposted: Vec<(Timestamp, Usd)>,
    /// What is burnt from now on until a reaction binds.
    pub ahead: Usd,
}

impl Forecast {
    /// What of it that is spent will be posted on a line.
    fn unposted_on(&self, spec: &LineSpec, now: Timestamp) -> Usd {
        let counts = |at: Timestamp| match spec.rule.rolling {
            Some(rolling) => {
                let buckets = Buckets::new(rolling);
                !buckets.is_over(buckets.start_of(at), now)
            }
            None => spec.key.window.contains(at),
        };
        let unposted = self.unposted.iter().filter(|(at, _)| counts(*at));
        unposted.fold(Usd::ZERO, |sum, (_, usd)| sum.saturating_add(*usd))
    }
}

/// One agent's part of what comes on a fleet line.
struct Burner {
    attribution: Attribution,
    unposted: Usd,
    /// With what is not posted.
    all: Usd,
}

/// A fleet line, and who burns on it.
struct Shared {
    spec: LineSpec,
    burners: Vec<Burner>,
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
        for forecast in forecasts {
            let specs = self.shared.budgets.specs(&forecast.attribution, trust, now);
            let (lines, _) = specs.map_err(|_| self.shared.calendar())?;
            let mut own: BTreeMap<Usd, Vec<LineSpec>> = BTreeMap::new();
            for spec in lines {
                let unposted = forecast.unposted_on(&spec, now);
                let all = unposted.saturating_add(forecast.ahead);
                if all <= Usd::ZERO {
                    continue;
                }
                if spec.key.agent.is_some() {
                    own.entry(all).or_default().push(spec);
                    continue;
                }
                let key = spec.key.clone();
                let burners = Vec::new();
                let line = shared.entry(key).or_insert(Shared { spec, burners });
                line.burners.push(Burner {
                    attribution: forecast.attribution.clone(),
                    unposted,
                    all,
                });
            }
            ops.extend(own.into_iter().map(|(ahead, lines)| {
                Op::Foresee(Foresee {
                    attribution: forecast.attribution.clone(),
                    trust,
                    lines,
                    ahead,
                    burners: Vec::new(),
                    unposted: Vec::new(),
                })
            }));
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
        let name = |burner: &Burner| burner.attribution.agent.clone();
        self.burners.sort_by(|a, b| {
            b.all
                .cmp(&a.all)
                .then_with(|| a.attribution.agent.cmp(&b.attribution.agent))
        });
        let attribution = self.burners.first()?.attribution.clone();
        let all = self.burners.iter().map(|burner| burner.all);
        let ahead = all.fold(Usd::ZERO, Usd::saturating_add);
        let named = self.burners.iter().take(MAX_BURNERS);
        let burners: Vec<(AgentId, Usd)> = named.clone().map(|one| (name(one), one.all)).collect();
        let unposted = named.filter(|one| one.unposted > Usd::ZERO);
        let unposted = unposted.map(|one| (name(one), one.unposted)).collect();
        Some(Op::Foresee(Foresee {
            attribution,
            trust,
            lines: vec![self.spec],
            ahead,
            burners,
            unposted,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::BudgetId;
    use crate::domain::ledger::line::{LineRule, Response, Scope};
    use crate::domain::window::WindowInstance;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(window: WindowInstance, rolling: Option<(u32, u32)>) -> LineSpec {
        LineSpec {
            key: LineKey {
                budget: BudgetId::new("daily").unwrap(),
                agent: Some(AgentId::new("a").unwrap()),
                value: String::new(),
                window,
            },
            rule: LineRule {
                scope: Scope::Agent,
                limit: Usd::from_dollars(20),
                alert_at: Vec::new(),
                response: Response::Contain,
                rolling,
            },
        }
    }

    /// What is posted late is posted on the lines of its hours, so a forecast counts it nowhere else.
    #[test]
    fn what_is_not_posted_counts_where_it_will_be_posted() {
        let forecast = Forecast {
            attribution: Attribution {
                agent: AgentId::new("a").unwrap(),
                task: crate::domain::id::TaskId::none(),
                service: None,
                model: None,
                tool: None,
                labels: BTreeMap::new(),
            },
            unposted: vec![
                (at("2026-11-18T23:59:59.999Z"), Usd::from_dollars(100)),
                (at("2026-11-19T23:59:59.999Z"), Usd::from_dollars(10)),
                (at("2026-11-20T00:00:30Z"), Usd::from_dollars(1)),
            ],
            ahead: Usd::ZERO,
        };
        let on = |window, rolling| forecast.unposted_on(&spec(window, rolling), at("2026-11-20T00:00:30Z"));
        let day = WindowInstance {
            start: Some(at("2026-11-20T00:00:00Z")),
            end: Some(at("2026-11-21T00:00:00Z")),
        };
        assert_eq!(on(day, None), Usd::from_dollars(1));
        assert_eq!(on(WindowInstance::UNBOUNDED, None), Usd::from_dollars(111));
        let rolling = |seconds| on(WindowInstance::ROLLING, Some((seconds, 60)));
        assert_eq!(rolling(5 * 3_600), Usd::from_dollars(11));
        assert_eq!(rolling(48 * 3_600), Usd::from_dollars(111));
    }
}
