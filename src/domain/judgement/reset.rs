//! When an agent may be reset, and what must be raised or lifted before.
//!
//! A reset on a line that is still breached would be followed by the same breach, so it is refused
//! unless the operator raises the limit (`--raise`) or lifts it for a time (`--until`). A line counts
//! when its window is open, its response is more than an alert, and what is settled on it reaches its
//! limit.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::agent::AgentStatus;
use crate::domain::ledger::line::{Line, LineKey, Response};
use crate::domain::money::Usd;

/// What the operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResetOptions {
    /// Adds this much to the limit of every line that is still breached.
    pub raise: Option<Usd>,
    /// Lifts the limit of those lines until then.
    pub until: Option<Timestamp>,
    /// Machines to start again, by stable id or plain instance id; all if empty.
    pub only: Vec<String>,
    /// Who asks.
    pub by: String,
}

/// A line that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreachedLine {
    pub line: LineKey,
    pub limit: Usd,
    pub settled: Usd,
    /// The least raise that would clear it.
    pub needs: Usd,
}

/// What to set on a line: the whole raise, not what is added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineOverride {
    pub line: LineKey,
    pub raise: Usd,
    pub lifted_until: Option<Timestamp>,
}

/// What is to be written in the ledger before the reset is asked for, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LineChanges {
    pub overrides: Vec<LineOverride>,
    /// Lines whose breach is armed again: a reset does.
    pub rearm: Vec<LineKey>,
}

/// Why a reset is refused. Closed, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ResetRejection {
    #[error("the agent is not contained, it is {}{}", status.as_str(), instead(*status))]
    NotContained { status: AgentStatus },
    #[error("a reset of the agent is under way already")]
    AlreadyRestoring,
    #[error("nothing that was stopped is named {}", names.join(", "))]
    UnknownSelection { names: Vec<String> },
    #[error("a raise must be more than nothing")]
    RaiseNotPositive,
    #[error("--until names a time that is over")]
    UntilIsOver,
    #[error(
        "still breached: {}; add room with --raise, or lift the limit for a time with --until",
        named(lines)
    )]
    StillBreached { lines: Vec<BreachedLine> },
    #[error("the raise is too small: {}", named(lines))]
    RaiseTooSmall { lines: Vec<BreachedLine> },
}

/// What an operator meant, probably.
fn instead(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Paused => ": `backstop resume` lets it go on",
        AgentStatus::Active | AgentStatus::Contained | AgentStatus::Restoring => "",
    }
}

fn named(lines: &[BreachedLine]) -> String {
    let name = |line: &BreachedLine| {
        let value = if line.line.value.is_empty() {
            String::new()
        } else {
            format!(" [{}]", line.line.value)
        };
        format!(
            "{}{value} at ${} of ${}, and needs more than ${} on top",
            line.line.budget,
            line.settled,
            line.limit,
            line.settled.saturating_sub(line.limit)
        )
    };
    let mut text: Vec<String> = lines.iter().take(5).map(name).collect();
    if lines.len() > text.len() {
        text.push(format!("and {} more", lines.len() - text.len()));
    }
    text.join("; ")
}

/// The lines of an agent, and of the fleet, that a reset has to deal with.
pub fn line_changes(lines: &[Line], options: &ResetOptions, now: Timestamp) -> Result<LineChanges, ResetRejection> {
    if options.raise.is_some_and(|raise| raise <= Usd::ZERO) {
        return Err(ResetRejection::RaiseNotPositive);
    }
    if options.until.is_some_and(|until| until <= now) {
        return Err(ResetRejection::UntilIsOver);
    }
    let open = || lines.iter().filter(|line| !line.key.window.is_closed(now));
    let breached: Vec<&Line> = open().filter(|line| is_in_the_way(line, now)).collect();
    let described = |lines: &[&Line]| lines.iter().map(|line| describe(line)).collect();
    if !breached.is_empty() && options.raise.is_none() && options.until.is_none() {
        return Err(ResetRejection::StillBreached {
            lines: described(&breached),
        });
    }
    if let (Some(raise), None) = (options.raise, options.until) {
        let short: Vec<&Line> = breached
            .iter()
            .copied()
            .filter(|line| describe(line).needs > raise)
            .collect();
        if !short.is_empty() {
            return Err(ResetRejection::RaiseTooSmall {
                lines: described(&short),
            });
        }
    }
    let overrides = breached
        .iter()
        .map(|line| LineOverride {
            line: line.key.clone(),
            raise: line.raise.saturating_add(options.raise.unwrap_or(Usd::ZERO)),
            lifted_until: options.until.or(line.lifted_until),
        })
        .collect();
    let rearm = open()
        .filter(|line| line.breached.is_some())
        .map(|line| line.key.clone())
        .collect();
    Ok(LineChanges { overrides, rearm })
}

/// The lines on which a reset that has begun was overtaken: what came after it was checked brought them
/// past their limits again.
pub fn overtaken(lines: &[Line], now: Timestamp) -> Vec<LineKey> {
    let open = lines.iter().filter(|line| !line.key.window.is_closed(now));
    open.filter(|line| is_in_the_way(line, now))
        .map(|line| line.key.clone())
        .collect()
}

fn is_in_the_way(line: &Line, now: Timestamp) -> bool {
    line.rule.response > Response::Alert
        && !line.is_lifted(now)
        && line.settled() > Usd::ZERO
        && line.settled() >= line.limit()
}

fn describe(line: &Line) -> BreachedLine {
    let over = line.settled().saturating_sub(line.limit());
    BreachedLine {
        line: line.key.clone(),
        limit: line.limit(),
        settled: line.settled(),
        // At the limit is still a breach, so one nano-dollar more than what is over.
        needs: over.saturating_add(Usd::from_nanos(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{AgentId, BudgetId};
    use crate::domain::ledger::line::{LineRule, LineSpec, Scope};
    use crate::domain::window::WindowInstance;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn line(posted: i64, unresolved: i64, response: Response, end: Option<i64>) -> Line {
        let mut line = Line::new(&LineSpec {
            key: LineKey {
                budget: BudgetId::new("daily").unwrap(),
                agent: Some(AgentId::new("a").unwrap()),
                value: String::new(),
                window: WindowInstance {
                    start: None,
                    end: end.map(at),
                },
            },
            rule: LineRule {
                scope: Scope::Agent,
                limit: Usd::from_dollars(100),
                alert_at: Vec::new(),
                response,
                rolling: None,
            },
        });
        line.posted = Usd::from_dollars(posted);
        line.unresolved = Usd::from_dollars(unresolved);
        line.breached = Some(1);
        line
    }

    fn options(raise: Option<i64>, until: Option<i64>) -> ResetOptions {
        ResetOptions {
            raise: raise.map(Usd::from_dollars),
            until: until.map(at),
            only: Vec::new(),
            by: "operator:o".to_owned(),
        }
    }

    #[test]
    fn a_breached_line_wants_a_raise_or_a_lift() {
        let lines = [line(120, 0, Response::Contain, None)];
        let refused = line_changes(&lines, &options(None, None), at(10)).unwrap_err();
        assert!(matches!(&refused, ResetRejection::StillBreached { lines } if lines.len() == 1));
        assert!(
            refused
                .to_string()
                .contains("daily at $120.00 of $100.00, and needs more than $20.00 on top"),
            "{refused}"
        );
        let small = line_changes(&lines, &options(Some(20), None), at(10));
        assert!(
            matches!(small, Err(ResetRejection::RaiseTooSmall { .. })),
            "at the limit is a breach"
        );
        let raised = line_changes(&lines, &options(Some(21), None), at(10)).unwrap();
        assert_eq!(raised.overrides[0].raise, Usd::from_dollars(21));
        assert_eq!(raised.rearm.len(), 1);
        let lifted = line_changes(&lines, &options(None, Some(20)), at(10)).unwrap();
        assert_eq!(lifted.overrides[0].lifted_until, Some(at(20)));
        assert_eq!(
            line_changes(&lines, &options(None, Some(10)), at(10)),
            Err(ResetRejection::UntilIsOver)
        );
        assert_eq!(
            line_changes(&lines, &options(Some(0), None), at(10)),
            Err(ResetRejection::RaiseNotPositive)
        );
    }

    #[test]
    fn a_second_raise_adds_to_the_first() {
        let mut twice = line(150, 0, Response::Contain, None);
        twice.raise = Usd::from_dollars(30);
        let changes = line_changes(&[twice], &options(Some(25), None), at(10)).unwrap();
        assert_eq!(changes.overrides[0].raise, Usd::from_dollars(55));
    }

    #[test]
    fn what_is_not_in_the_way_is_left_alone() {
        let mut lifted = line(120, 0, Response::Contain, None);
        lifted.lifted_until = Some(at(20));
        let lines = [
            line(120, 0, Response::Alert, None),
            line(120, 50, Response::Contain, None),
            line(120, 0, Response::Contain, Some(10)),
            lifted,
        ];
        let changes = line_changes(&lines, &options(None, None), at(10)).unwrap();
        assert_eq!(changes.overrides, []);
        assert_eq!(changes.rearm.len(), 3, "all but the one whose window is over");
    }
}
