//! How many new tasks an agent may name within an hour.
//!
//! A task budget is per task, and an agent names its own tasks: one that names a new task for every call
//! would get a new line, with a new limit, each time. So new names are counted; past the cap, what was
//! already spent is posted under the nameless task `-`, which has a line too, and a new hold is refused.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::domain::id::{AgentId, TaskId};

/// The tasks that each agent named within the current hour. In memory only: a restart forgets at most
/// one hour's names, and the agent's own budget binds all of its tasks together.
#[derive(Debug, Default)]
pub struct TaskMeter {
    hour: i64,
    named: HashMap<AgentId, HashSet<TaskId>>,
}

impl TaskMeter {
    /// Whether the agent may use this task now.
    pub fn admits(&mut self, agent: &AgentId, task: &TaskId, now: Timestamp, max_new_per_hour: u32) -> bool {
        let hour = now.as_second().div_euclid(3600);
        if hour != self.hour {
            self.hour = hour;
            self.named.clear();
        }
        if *task == TaskId::none() {
            return true;
        }
        if !self.named.contains_key(agent) {
            self.named.insert(agent.clone(), HashSet::new());
        }
        let Some(named) = self.named.get_mut(agent) else {
            return false;
        };
        if named.contains(task) {
            return true;
        }
        if u32::try_from(named.len()).unwrap_or(u32::MAX) >= max_new_per_hour {
            return false;
        }
        named.insert(task.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_counted_by_agent_and_hour() {
        let mut meter = TaskMeter::default();
        let (a, b) = (AgentId::new("a").expect("a name"), AgentId::new("b").expect("a name"));
        let task = |name: &str| TaskId::new(name).expect("a name");
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert!(meter.admits(&a, &task("1"), at(0), 2));
        assert!(meter.admits(&a, &task("2"), at(1), 2));
        assert!(!meter.admits(&a, &task("3"), at(2), 2));
        assert!(meter.admits(&a, &task("1"), at(3), 2), "a task that is known goes on");
        assert!(
            meter.admits(&a, &TaskId::none(), at(3), 2),
            "the nameless task always exists"
        );
        assert!(
            meter.admits(&b, &task("3"), at(4), 2),
            "another agent has its own count"
        );
        assert!(meter.admits(&a, &task("3"), at(3600), 2), "a new hour");
    }
}
