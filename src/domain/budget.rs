//! A budget: a rule in the config that says whose spend is added up, over which window, up to what.

use globset::GlobSet;
use jiff::Timestamp;

use super::id::{BudgetId, LabelKey};
use super::ledger::line::{LineKey, LineRule, LineSpec, Response, Scope};
use super::ledger::posting::{Attribution, Trust};
use super::money::Usd;
use super::window::{Window, WindowError};

/// A validated budget.
#[derive(Debug, Clone)]
pub struct Budget {
    pub id: BudgetId,
    pub scope: Scope,
    /// For the label scope: which label's values are added up apart.
    pub label: Option<LabelKey>,
    pub selector: Selector,
    pub window: Window,
    pub limit: Usd,
    pub alert_at: Vec<u16>,
    pub response: Response,
}

/// To whom a budget applies. An empty set selects everything; sets are joined by *and*.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    pub agents: Option<GlobSet>,
    pub models: Option<GlobSet>,
    pub tools: Option<GlobSet>,
    /// Every one of these labels must be present and match.
    pub labels: Vec<(LabelKey, GlobSet)>,
}

impl Selector {
    /// Whether the budget applies. What the spend does not say is not matched by a set that asks for
    /// it: a virtual machine has no model, and no glob of models is about it.
    pub fn selects(&self, spend: &Attribution) -> bool {
        fn allows(set: Option<&GlobSet>, name: Option<&str>) -> bool {
            set.is_none_or(|set| name.is_some_and(|name| set.is_match(name)))
        }
        allows(self.agents.as_ref(), Some(spend.agent.as_str()))
            && allows(self.models.as_ref(), spend.model.as_ref().map(AsRef::as_ref))
            && allows(self.tools.as_ref(), spend.tool.as_ref().map(AsRef::as_ref))
            && (self.labels.iter()).all(|(key, set)| spend.labels.get(key).is_some_and(|value| set.is_match(value)))
    }
}

impl Budget {
    /// The rule that its lines carry.
    pub fn rule(&self) -> LineRule {
        let mut alert_at = self.alert_at.clone();
        alert_at.sort_unstable();
        alert_at.dedup();
        LineRule {
            scope: self.scope,
            limit: self.limit,
            alert_at,
            response: self.response,
            rolling: self.window.rolling(),
        }
    }

    /// What its scope adds up apart: `None` where the spend has nothing of the kind.
    fn value(&self, spend: &Attribution) -> Option<String> {
        match self.scope {
            Scope::Fleet | Scope::Agent => Some(String::new()),
            Scope::Task => Some(spend.task.as_str().to_owned()),
            Scope::Model => spend.model.as_ref().map(|model| model.as_str().to_owned()),
            Scope::Tool => spend.tool.as_ref().map(|tool| tool.as_str().to_owned()),
            Scope::Label => {
                let key = self.label.as_ref()?;
                spend.labels.get(key).map(|value| format!("{key}={value}"))
            }
        }
    }

    /// The name that it adds this spend up by, where whoever spends chooses it.
    pub fn chosen_name(&self, spend: &Attribution) -> Option<(Scope, String)> {
        let is_chosen = !matches!(self.scope, Scope::Fleet | Scope::Agent);
        let value = self
            .value(spend)
            .filter(|_| is_chosen && self.selector.selects(spend))?;
        Some((self.scope, value))
    }

    /// The line that this spend counts on at `at`, if the budget applies to it.
    pub fn line_for(&self, spend: &Attribution, trust: Trust, at: Timestamp) -> Result<Option<LineSpec>, WindowError> {
        let fleet = self.scope == Scope::Fleet;
        if (fleet && !trust.counts_on_fleet()) || !self.selector.selects(spend) {
            return Ok(None);
        }
        let Some(value) = self.value(spend) else {
            return Ok(None);
        };
        let key = LineKey {
            budget: self.id.clone(),
            agent: (!fleet).then(|| spend.agent.clone()),
            value,
            window: self.window.instance_at(at)?,
        };
        Ok(Some(LineSpec { key, rule: self.rule() }))
    }
}

/// The lines that spend counts on at `at`, in the order of their keys, each once. A claim of a weak
/// class counts on its agent's own lines alone (C7). An error is about a window that was never
/// validated or a time at the end of the calendar: nobody may take it for *no budget*, nor for *free*.
pub fn lines_for(
    budgets: &[Budget],
    spend: &Attribution,
    trust: Trust,
    at: Timestamp,
) -> Result<Vec<LineSpec>, WindowError> {
    let mut lines = Vec::with_capacity(budgets.len().min(16));
    for budget in budgets {
        lines.extend(budget.line_for(spend, trust, at)?);
    }
    lines.sort_unstable_by(|a: &LineSpec, b| a.key.cmp(&b.key));
    lines.dedup_by(|a, b| a.key == b.key);
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use globset::{Glob, GlobSetBuilder};

    use super::*;
    use crate::domain::id::{AgentId, TaskId};

    fn globs(patterns: &[&str]) -> GlobSet {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(Glob::new(pattern).unwrap());
        }
        set.build().unwrap()
    }

    fn budget(name: &str, scope: Scope) -> Budget {
        Budget {
            id: BudgetId::new(name).unwrap(),
            scope,
            label: None,
            selector: Selector::default(),
            window: Window::Day { timezone: "UTC".into() },
            limit: Usd::from_dollars(50),
            alert_at: vec![80, 50, 80],
            response: Response::Contain,
        }
    }

    fn spend() -> Attribution {
        Attribution {
            agent: AgentId::new("coder-1").unwrap(),
            task: TaskId::none(),
            service: None,
            model: Some("gpt-5-mini".parse().unwrap()),
            tool: None,
            labels: BTreeMap::from([("team".parse().unwrap(), "search".to_owned())]),
        }
    }

    fn at() -> Timestamp {
        "2026-11-20T06:00Z".parse().unwrap()
    }

    fn names(budgets: &[Budget], trust: Trust) -> Vec<(String, Option<String>, String)> {
        let lines = lines_for(budgets, &spend(), trust, at()).unwrap();
        let name = |line: LineSpec| (line.key.budget.into(), line.key.agent.map(Into::into), line.key.value);
        lines.into_iter().map(name).collect()
    }

    fn name(budget: &str, agent: Option<&str>, value: &str) -> (String, Option<String>, String) {
        (budget.into(), agent.map(Into::into), value.into())
    }

    fn every_scope() -> Vec<Budget> {
        let label = Budget {
            label: Some("team".parse().unwrap()),
            ..budget("f-label", Scope::Label)
        };
        let other = Budget {
            label: Some("project".parse().unwrap()),
            ..budget("g-label", Scope::Label)
        };
        vec![
            label,
            other,
            budget("e-tool", Scope::Tool),
            budget("d-model", Scope::Model),
            budget("c-task", Scope::Task),
            budget("b-agent", Scope::Agent),
            budget("a-fleet", Scope::Fleet),
            budget("b-agent", Scope::Agent),
        ]
    }

    #[test]
    fn every_scope_has_its_key_and_no_line_comes_twice() {
        let own = Some("coder-1");
        assert_eq!(
            names(&every_scope(), Trust::Gateway),
            [
                name("a-fleet", None, ""),
                name("b-agent", own, ""),
                name("c-task", own, "-"),
                name("d-model", own, "gpt-5-mini"),
                name("f-label", own, "team=search"),
            ]
        );
    }

    #[test]
    fn c7_a_weak_claim_never_counts_on_a_fleet_line() {
        for trust in [Trust::Agent, Trust::Unconfirmed] {
            let lines = names(&every_scope(), trust);
            assert_eq!(lines.len(), 4);
            assert!(lines.iter().all(|(_, agent, _)| agent.as_deref() == Some("coder-1")));
        }
    }

    #[test]
    fn sets_are_joined_by_and() {
        let select = |selector: Selector| {
            names(
                &[Budget {
                    selector,
                    ..budget("b", Scope::Agent)
                }],
                Trust::Gateway,
            )
            .len()
        };
        let agents = |patterns: &[&str]| Selector {
            agents: Some(globs(patterns)),
            ..Selector::default()
        };
        assert_eq!(select(agents(&["*"])), 1);
        assert_eq!(select(agents(&["tester-*", "coder-?"])), 1);
        assert_eq!(select(agents(&["tester-*"])), 0);
        assert_eq!(
            select(Selector {
                models: Some(globs(&["claude-*"])),
                ..agents(&["*"])
            }),
            0
        );
        assert_eq!(
            select(Selector {
                models: Some(globs(&["gpt-*"])),
                ..agents(&["*"])
            }),
            1
        );
        assert_eq!(
            select(Selector {
                tools: Some(globs(&["*"])),
                ..agents(&["*"])
            }),
            0,
            "it names no tool"
        );
        let label = |key: &str, pattern: &str| (key.parse().unwrap(), globs(&[pattern]));
        let labels = |labels| Selector {
            labels,
            ..Selector::default()
        };
        assert_eq!(select(labels(vec![label("team", "s*")])), 1);
        assert_eq!(select(labels(vec![label("team", "s*"), label("project", "*")])), 0);
    }

    #[test]
    fn the_rule_is_copied_with_its_alerts_in_order() {
        let rule = budget("b", Scope::Agent).rule();
        assert_eq!(rule.alert_at, [50, 80]);
        assert_eq!(rule.rolling, None);
        let window = Window::Rolling {
            length_s: 18_000,
            bucket_s: 300,
        };
        let rolling = Budget {
            window,
            ..budget("b", Scope::Agent)
        };
        let line = &lines_for(&[rolling], &spend(), Trust::Gateway, at()).unwrap()[0];
        assert_eq!(line.rule.rolling, Some((18_000, 300)));
        assert_eq!(line.key.window, crate::domain::window::WindowInstance::ROLLING);
    }

    /// **L2**: a budget that is changed from all time to the last hours binds by its new rule at once, on
    /// a line of its own: no rule may move over to a line that kept its sums in another shape.
    #[test]
    fn another_shape_of_window_is_another_line() {
        let with = |window: Window| Budget {
            window,
            ..budget("b", Scope::Agent)
        };
        let rolling = Window::Rolling {
            length_s: 18_000,
            bucket_s: 300,
        };
        let key = |window| {
            let lines = lines_for(&[with(window)], &spend(), Trust::Gateway, at()).unwrap();
            lines[0].key.clone()
        };
        assert_ne!(key(Window::Total), key(rolling.clone()));
        let longer = Window::Rolling {
            length_s: 36_000,
            bucket_s: 300,
        };
        assert_eq!(
            key(rolling),
            key(longer),
            "another length is a new rule on the same line"
        );
    }

    #[test]
    fn a_window_that_fails_is_not_left_out() {
        let window = Window::Day {
            timezone: "Nowhere".into(),
        };
        let wrong = Budget {
            window,
            ..budget("b", Scope::Agent)
        };
        assert!(lines_for(&[wrong], &spend(), Trust::Gateway, at()).is_err());
    }
}
