//! How many new names an agent may use within an hour for what budgets add up by.
//!
//! A task budget is per task, and an agent names its own tasks: one that names a new task for every call
//! would get a new line, with a new limit, each time. The same goes for labels, tools and models where a
//! budget adds up by them. So new names are counted; past the cap, what was already spent is posted under
//! the nameless `-`, which has a line too, and a new hold is refused.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::domain::id::{AgentId, ModelId, TaskId, ToolName};
use crate::domain::ledger::line::Scope;
use crate::domain::ledger::posting::Attribution;

/// Stands for every name past the cap.
const NAMELESS: &str = "-";

/// The names that each agent used within the current hour, by scope; a label's with its key. In memory
/// only: a restart forgets at most one hour's names, and the agent's own budget binds them all together.
#[derive(Debug, Default)]
pub struct NameMeter {
    hour: i64,
    named: HashMap<(AgentId, Scope), HashSet<String>>,
}

impl NameMeter {
    /// Whether the agent may use this value of a scope now.
    pub fn admits(&mut self, agent: &AgentId, scope: Scope, value: &str, now: Timestamp, max_per_hour: u32) -> bool {
        let hour = now.as_second().div_euclid(3600);
        if hour != self.hour {
            self.hour = hour;
            self.named.clear();
        }
        if value == NAMELESS || value.ends_with("=-") && scope == Scope::Label {
            return true;
        }
        let named = self.named.entry((agent.clone(), scope)).or_default();
        if named.contains(value) {
            return true;
        }
        if u32::try_from(named.len()).unwrap_or(u32::MAX) >= max_per_hour {
            return false;
        }
        named.insert(value.to_owned());
        true
    }
}

/// Puts the nameless value in the place of one that is past the cap.
pub fn drop_name(spend: &mut Attribution, scope: Scope, value: &str) {
    match scope {
        Scope::Task => spend.task = TaskId::none(),
        Scope::Model => spend.model = ModelId::new(NAMELESS).ok(),
        Scope::Tool => spend.tool = ToolName::new(NAMELESS).ok(),
        Scope::Label => {
            let mut labels = spend.labels.iter_mut();
            let label = labels.find(|(key, text)| format!("{key}={text}") == value);
            if let Some((_, text)) = label {
                NAMELESS.clone_into(text);
            }
        }
        // One for each agent, and one for all: nothing is named.
        Scope::Fleet | Scope::Agent => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_counted_by_agent_and_hour() {
        let mut meter = NameMeter::default();
        let (a, b) = (AgentId::new("a").expect("a name"), AgentId::new("b").expect("a name"));
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert!(meter.admits(&a, Scope::Task, "1", at(0), 2));
        assert!(meter.admits(&a, Scope::Task, "2", at(1), 2));
        assert!(!meter.admits(&a, Scope::Task, "3", at(2), 2));
        assert!(
            meter.admits(&a, Scope::Task, "1", at(3), 2),
            "a task that is known goes on"
        );
        assert!(
            meter.admits(&a, Scope::Task, "-", at(3), 2),
            "the nameless task always exists"
        );
        assert!(
            meter.admits(&b, Scope::Task, "3", at(4), 2),
            "another agent has its own count"
        );
        assert!(meter.admits(&a, Scope::Task, "3", at(3600), 2), "a new hour");
    }

    #[test]
    fn each_scope_has_its_own_count_and_its_nameless_value() {
        let mut meter = NameMeter::default();
        let a = AgentId::new("a").expect("a name");
        let now = Timestamp::UNIX_EPOCH;
        assert!(meter.admits(&a, Scope::Label, "team=x", now, 1));
        assert!(!meter.admits(&a, Scope::Label, "team=y", now, 1));
        assert!(meter.admits(&a, Scope::Label, "team=-", now, 1));
        assert!(meter.admits(&a, Scope::Tool, "y", now, 1));

        let mut spend = Attribution {
            agent: a,
            task: TaskId::new("t").expect("a name"),
            service: None,
            model: ModelId::new("m").ok(),
            tool: ToolName::new("y").ok(),
            labels: [("team".parse().expect("a key"), "y".to_owned())].into(),
        };
        for (scope, value) in [
            (Scope::Task, "t"),
            (Scope::Model, "m"),
            (Scope::Tool, "y"),
            (Scope::Label, "team=y"),
        ] {
            drop_name(&mut spend, scope, value);
        }
        assert_eq!(spend.task, TaskId::none());
        assert_eq!(
            (spend.model, spend.tool),
            (ModelId::new("-").ok(), ToolName::new("-").ok())
        );
        assert_eq!(spend.labels.into_values().collect::<Vec<_>>(), ["-"]);
    }
}
