//! What a trigger asks for.
//!
//! C7: a report is a claim. What an agent says with its own key is confirmed against that agent alone,
//! so it may do to that agent whatever the budget says, and nothing to anybody else. A claim that
//! nothing has confirmed never goes beyond revoke; where the budget asks for more, a person is asked.
//! Unresolved spend refuses calls but is no breach (L3), and this is checked here once more.
//!
//! A projected breach is a breach by a forecast: what is settled and what burns until a reaction binds, in
//! place of what is settled alone.
//!
//! On a fleet line every agent is paused; with revoke or contain, those who caused it are revoked or
//! contained, the largest spenders first, until the rest would have fit.

use serde::Serialize;

use crate::domain::containment::state::Mode;
use crate::domain::id::AgentId;
use crate::domain::ledger::batch::{NewTrigger, TriggerCause};
use crate::domain::ledger::line::Response;
use crate::domain::ledger::posting::Trust;
use crate::domain::money::Usd;

/// What is to be done about one agent. Ordered from soft to hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Pause,
    Revoke,
    Contain,
}

impl Measure {
    /// How far the containment goes; none for a pause.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::Pause => None,
            Self::Revoke => Some(Mode::Revoke),
            Self::Contain => Some(Mode::Contain),
        }
    }
}

impl From<Mode> for Measure {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Revoke => Self::Revoke,
            Mode::Contain => Self::Contain,
        }
    }
}

/// The ruling on one trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Tell people; change nothing.
    Tell,
    /// It is not so, or not any more; settle it.
    Moot(&'static str),
    Act(Vec<Sentence>),
}

/// What one agent gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    pub agent: AgentId,
    pub measure: Measure,
    /// The budget asks for more than the claim allows: a person is asked whether to contain.
    pub ask_contain: bool,
}

/// A trigger and what is needed to rule on it.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub trigger: &'a NewTrigger,
    pub response: Response,
    /// For a fleet line: every agent.
    pub fleet: &'a [AgentId],
    /// For a fleet line: what each agent spent on it, settled; in any order.
    pub spenders: &'a [(AgentId, Usd)],
}

/// Rules on a trigger.
pub fn rule(case: &Case<'_>) -> Ruling {
    let trigger = case.trigger;
    let settled = trigger.posted.saturating_sub(trigger.unresolved);
    let (bound, ahead) = match &trigger.cause {
        TriggerCause::Alert { .. } | TriggerCause::Late => return Ruling::Tell,
        TriggerCause::Breach => (Usd::ZERO, Usd::ZERO),
        TriggerCause::RefusedForGood { bound } => (*bound, Usd::ZERO),
        TriggerCause::Projected { ahead, .. } => (Usd::ZERO, *ahead),
    };
    let is_breach = match trigger.cause {
        TriggerCause::RefusedForGood { .. } => settled.saturating_add(bound) > trigger.limit,
        _ => settled.saturating_add(ahead) >= trigger.limit,
    };
    if !is_breach {
        return Ruling::Moot("without what is unresolved, the line is not breached");
    }
    let asked = match case.response {
        Response::Alert => return Ruling::Tell,
        Response::Pause => Measure::Pause,
        Response::Revoke => Measure::Revoke,
        Response::Contain => Measure::Contain,
    };
    match &trigger.line.agent {
        Some(agent) => {
            let allowed = if trigger.trust == Trust::Unconfirmed {
                asked.min(Measure::Revoke)
            } else {
                asked
            };
            Ruling::Act(vec![Sentence {
                agent: agent.clone(),
                measure: allowed,
                ask_contain: allowed < asked,
            }])
        }
        // What counts on a fleet line has the gateway, the provider, the cloud or an operator behind it.
        // Should a weaker claim ever turn up here, it acts against nobody.
        None if !trigger.trust.counts_on_fleet() => Ruling::Tell,
        None => Ruling::Act(fleet(case, asked, settled, ahead, bound)),
    }
}

/// What each agent has of what the line is judged on: what it spent, and what it burns until a reaction binds.
///
/// Between the forecast and now, what it counted as spent and not posted may have been posted: then the
/// spenders have it, and it is no part of what comes any more. What was posted since is known as a sum; a
/// posting takes everybody's, so if it covers a part only, it is that part of each one's.
fn causes(case: &Case<'_>, settled: Usd) -> Vec<(AgentId, Usd)> {
    let mut causes = case.spenders.to_vec();
    let TriggerCause::Projected { burners, unposted, .. } = &case.trigger.cause else {
        return causes;
    };
    let wide = |parts: &[(AgentId, Usd)]| parts.iter().map(|(_, usd)| i128::from(usd.nanos())).sum::<i128>();
    let all = wide(unposted);
    let since = (wide(&causes) - i128::from(settled.nanos())).clamp(0, all.max(0));
    let posted = |agent: &AgentId| {
        let own = unposted.iter().filter(|(known, _)| known == agent);
        let own: i128 = own.map(|(_, usd)| i128::from(usd.nanos())).sum();
        let posted = if all > 0 { own.saturating_mul(since) / all } else { 0 };
        Usd::from_nanos(i64::try_from(posted).unwrap_or(i64::MAX))
    };
    for (agent, more) in burners {
        let more = more.saturating_sub(posted(agent)).max(Usd::ZERO);
        match causes.iter_mut().find(|(known, _)| known == agent) {
            Some((_, amount)) => *amount = amount.saturating_add(more),
            None => causes.push((agent.clone(), more)),
        }
    }
    causes
}

fn fleet(case: &Case<'_>, asked: Measure, settled: Usd, ahead: Usd, bound: Usd) -> Vec<Sentence> {
    let culprits = if asked == Measure::Pause {
        Vec::new()
    } else {
        let causes = causes(case, settled);
        culprits(&causes, settled.saturating_add(ahead), bound, case.trigger.limit)
    };
    let mut sentences: Vec<Sentence> = culprits
        .iter()
        .map(|agent| Sentence {
            agent: agent.clone(),
            measure: asked,
            ask_contain: false,
        })
        .collect();
    let mut rest: Vec<&AgentId> = case.fleet.iter().filter(|agent| !culprits.contains(agent)).collect();
    rest.sort();
    rest.dedup();
    sentences.extend(rest.into_iter().map(|agent| Sentence {
        agent: agent.clone(),
        measure: Measure::Pause,
        ask_contain: false,
    }));
    sentences
}

/// The largest spenders, until what is left would not have breached the line.
fn culprits(spenders: &[(AgentId, Usd)], settled: Usd, bound: Usd, limit: Usd) -> Vec<AgentId> {
    let mut spenders: Vec<_> = spenders.iter().filter(|(_, amount)| *amount > Usd::ZERO).collect();
    spenders.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut left = settled;
    let mut found = Vec::new();
    for (agent, amount) in spenders {
        if left < limit && left.saturating_add(bound) <= limit {
            break;
        }
        left = left.saturating_sub(*amount);
        found.push(agent.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::BudgetId;
    use crate::domain::ledger::line::LineKey;
    use crate::domain::window::WindowInstance;

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).unwrap()
    }

    fn trigger(owner: Option<&str>, cause: TriggerCause, trust: Trust, posted: i64, unresolved: i64) -> NewTrigger {
        NewTrigger {
            line: LineKey {
                budget: BudgetId::new("daily").unwrap(),
                agent: owner.map(agent),
                value: String::new(),
                window: WindowInstance::UNBOUNDED,
            },
            revision: 1,
            at: Timestamp::UNIX_EPOCH,
            cause,
            limit: Usd::from_dollars(100),
            posted: Usd::from_dollars(posted),
            held: Usd::ZERO,
            unresolved: Usd::from_dollars(unresolved),
            agent: owner.map(agent),
            trust,
        }
    }

    fn ruled(trigger: &NewTrigger, response: Response) -> Ruling {
        rule(&Case {
            trigger,
            response,
            fleet: &["a", "b", "c"].map(agent),
            spenders: &[
                (agent("a"), Usd::from_dollars(30)),
                (agent("b"), Usd::from_dollars(60)),
                (agent("c"), Usd::from_dollars(20)),
            ],
        })
    }

    fn measures(ruling: Ruling) -> Vec<(String, Measure, bool)> {
        match ruling {
            Ruling::Act(list) => list
                .into_iter()
                .map(|sentence| (sentence.agent.to_string(), sentence.measure, sentence.ask_contain))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_own_line_gets_what_the_budget_and_the_claim_allow() {
        use Measure::{Contain, Pause, Revoke};
        let rows = [
            (Response::Pause, Trust::Agent, Pause, false),
            (Response::Contain, Trust::Agent, Contain, false),
            (Response::Contain, Trust::Gateway, Contain, false),
            (Response::Contain, Trust::Unconfirmed, Revoke, true),
            (Response::Revoke, Trust::Unconfirmed, Revoke, false),
            (Response::Pause, Trust::Unconfirmed, Pause, false),
        ];
        for (response, trust, measure, ask) in rows {
            let trigger = trigger(Some("a"), TriggerCause::Breach, trust, 100, 0);
            let expected = vec![("a".to_owned(), measure, ask)];
            assert_eq!(measures(ruled(&trigger, response)), expected, "{response:?} {trust:?}");
        }
    }

    #[test]
    fn what_only_tells_changes_nothing() {
        let alert = trigger(Some("a"), TriggerCause::Alert { percent: 80 }, Trust::Gateway, 100, 0);
        assert_eq!(ruled(&alert, Response::Contain), Ruling::Tell);
        let late = trigger(Some("a"), TriggerCause::Late, Trust::Operator, 500, 0);
        assert_eq!(ruled(&late, Response::Contain), Ruling::Tell);
        let breach = trigger(Some("a"), TriggerCause::Breach, Trust::Operator, 500, 0);
        assert_eq!(ruled(&breach, Response::Alert), Ruling::Tell);
    }

    #[test]
    fn unresolved_spend_contains_nobody() {
        let crashed = trigger(Some("a"), TriggerCause::Breach, Trust::Gateway, 500, 450);
        assert!(matches!(ruled(&crashed, Response::Contain), Ruling::Moot(_)));
        let bound = Usd::from_dollars(10);
        let refused = trigger(
            Some("a"),
            TriggerCause::RefusedForGood { bound },
            Trust::Gateway,
            500,
            450,
        );
        assert!(matches!(ruled(&refused, Response::Contain), Ruling::Moot(_)));
        let truly = trigger(
            Some("a"),
            TriggerCause::RefusedForGood { bound },
            Trust::Gateway,
            500,
            405,
        );
        assert_eq!(measures(ruled(&truly, Response::Pause)).len(), 1);
    }

    #[test]
    fn a_fleet_line_pauses_all_and_contains_those_who_caused_it() {
        use Measure::{Contain, Pause};
        let breach = trigger(None, TriggerCause::Breach, Trust::Gateway, 110, 0);
        let row = |name: &str, measure| (name.to_owned(), measure, false);
        assert_eq!(
            measures(ruled(&breach, Response::Pause)),
            [row("a", Pause), row("b", Pause), row("c", Pause)]
        );
        assert_eq!(
            measures(ruled(&breach, Response::Contain)),
            [row("b", Contain), row("a", Pause), row("c", Pause)]
        );
        let bound = Usd::from_dollars(60);
        let refused = trigger(None, TriggerCause::RefusedForGood { bound }, Trust::Gateway, 110, 0);
        assert_eq!(
            measures(ruled(&refused, Response::Contain)),
            [row("b", Contain), row("a", Contain), row("c", Pause)]
        );
    }

    #[test]
    fn a_projected_breach_acts_like_one_and_on_those_who_burn() {
        use Measure::{Contain, Pause};
        let row = |name: &str, measure| (name.to_owned(), measure, false);
        let projected = |ahead: i64, burners: &[(&str, i64)]| TriggerCause::Projected {
            ahead: Usd::from_dollars(ahead),
            burners: burners
                .iter()
                .map(|(name, usd)| (agent(name), Usd::from_dollars(*usd)))
                .collect(),
            unposted: Vec::new(),
        };
        let own = |posted, ahead| trigger(Some("a"), projected(ahead, &[]), Trust::Cloud, posted, 0);
        assert_eq!(measures(ruled(&own(60, 40), Response::Contain)), [row("a", Contain)]);
        assert_eq!(ruled(&own(60, 40), Response::Alert), Ruling::Tell);
        assert!(matches!(ruled(&own(60, 39), Response::Contain), Ruling::Moot(_)));
        // Of 110 and 70 to come, c has 20 and 65 of it: without c the rest fits, without b (60 and 5) not.
        let fleet = trigger(None, projected(70, &[("c", 65), ("b", 5)]), Trust::Cloud, 110, 0);
        let asked = [row("c", Contain), row("a", Pause), row("b", Pause)];
        assert_eq!(measures(ruled(&fleet, Response::Contain)), asked);
        let fleet = trigger(None, projected(70, &[("c", 70)]), Trust::Cloud, 50, 0);
        assert_eq!(measures(ruled(&fleet, Response::Contain))[0], row("c", Contain));
    }

    /// What is posted between the forecast and the judgement is no reason to blame somebody twice for it.
    #[test]
    fn what_was_posted_meanwhile_is_counted_once() {
        let pairs = |pairs: &[(&str, i64)]| -> Vec<(AgentId, Usd)> {
            let pair = |(name, usd): &(&str, i64)| (agent(name), Usd::from_dollars(*usd));
            pairs.iter().map(pair).collect()
        };
        let contained = |posted: i64, spenders: &[(&str, i64)]| {
            // a: 40 not posted and 5 to come; b: 50 to come. With the 60 posted (a 30, b 30) the line is at 155.
            let cause = TriggerCause::Projected {
                ahead: Usd::from_dollars(95),
                burners: pairs(&[("b", 50), ("a", 45)]),
                unposted: pairs(&[("a", 40)]),
            };
            let ruling = rule(&Case {
                trigger: &trigger(None, cause, Trust::Cloud, posted, 0),
                response: Response::Contain,
                fleet: &["a", "b"].map(agent),
                spenders: &pairs(spenders),
            });
            let sentences = measures(ruling).into_iter();
            let contained = sentences.filter(|(_, measure, _)| *measure == Measure::Contain);
            contained.map(|(name, ..)| name).collect::<Vec<_>>()
        };
        // b has 80 of it and a 75: without b, 75 fit.
        assert_eq!(contained(60, &[("a", 30), ("b", 30)]), ["b"]);
        // The same once the 40 of a are posted, though a's part by the ledger is 70 by then.
        assert_eq!(contained(60, &[("a", 70), ("b", 30)]), ["b"]);
    }

    #[test]
    fn an_agents_own_word_does_nothing_to_the_fleet() {
        for trust in [Trust::Agent, Trust::Unconfirmed] {
            let breach = trigger(None, TriggerCause::Breach, trust, 110, 0);
            assert_eq!(ruled(&breach, Response::Contain), Ruling::Tell);
        }
    }

    proptest! {
        #[test]
        fn without_the_culprits_the_rest_fits_and_none_is_spared_for_a_smaller_one(
            amounts in proptest::collection::vec(0_i64..100, 1..8),
            limit in 1_i64..200,
            bound in 0_i64..50,
        ) {
            let spenders: Vec<_> = amounts
                .iter()
                .enumerate()
                .map(|(index, dollars)| (agent(&format!("a{index}")), Usd::from_dollars(*dollars)))
                .collect();
            let settled: Usd = spenders.iter().map(|(_, amount)| *amount).sum();
            let (bound, limit) = (Usd::from_dollars(bound), Usd::from_dollars(limit));
            let found = culprits(&spenders, settled, bound, limit);
            let left: Usd = spenders.iter().filter(|(who, _)| !found.contains(who)).map(|(_, amount)| *amount).sum();
            let fits = |left: Usd| left < limit && left.saturating_add(bound) <= limit;
            prop_assert!(fits(left) || left.is_zero());
            if let Some(last) = found.last() {
                let smallest = spenders.iter().find(|(who, _)| who == last).unwrap().1;
                prop_assert!(!fits(left.saturating_add(smallest)), "one more than needed");
                for (who, amount) in &spenders {
                    prop_assert!(found.contains(who) || *amount <= smallest);
                }
            }
        }
    }
}
