//! What the simulator's rulings mean: which permission is missing, and the statement that would allow it.
//!
//! A statement is made as the shipped policy is: from the table's resources and conditions, filled for this
//! account. Where the table's pattern does not take in the thing that was asked about (a role outside
//! the agents' path, another tag), the statement names that thing itself: so what is printed allows what
//! was asked, and no more than that.
//!
//! A statement helps only where nothing allows. What is forbidden explicitly, or by the permission boundary
//! or the organisation, stays forbidden; then the finding names who forbids it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::questions::{Asked, TERMINATE};
use super::{Finding, some};
use crate::domain::iam::permissions::{ALL, Mode, On};
use crate::domain::iam::policy::{Effect, Statement};
use crate::domain::iam::simulation::{Decision, Ruling};
use crate::domain::iam::{Choice, OWNER, Scope, guard};

/// The name of the check.
pub const CHECK: &str = "permissions";

/// An action that is not allowed where it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub action: String,
    pub on: On,
    /// On what it was asked.
    pub resource: String,
    /// By which tag that is the agents', if it is by one.
    pub tag: Option<String>,
    pub why: Why,
}

/// Why it is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Nothing allows it. These keys, which the question did not have, might.
    NoStatement {
        keys: Vec<String>,
    },
    /// These policies forbid it.
    Denied {
        by: Vec<String>,
    },
    Boundary,
    Organisation,
}

impl Missing {
    /// What a ruling says of a question; `None` if it is allowed.
    pub fn of(asked: &Asked, ruling: &Ruling) -> Option<Self> {
        let why = match ruling.decision {
            Decision::Allowed => return None,
            _ if ruling.organisation_allows == Some(false) => Why::Organisation,
            _ if ruling.boundary_allows == Some(false) => Why::Boundary,
            Decision::Denied => Why::Denied { by: ruling.by.clone() },
            Decision::NotAllowed => Why::NoStatement {
                keys: ruling.missing_keys.clone(),
            },
        };
        Some(Self {
            action: ruling.action.clone(),
            on: asked.on,
            resource: asked.question.resource.clone(),
            tag: asked.tag.clone(),
            why,
        })
    }

    fn is_for_the_doctor_alone(&self) -> bool {
        let mut of_it = ALL.iter().filter(|one| one.action == self.action && one.on == self.on);
        of_it.next().is_some_and(|one| one.mode == Mode::Doctor)
    }

    fn purpose(&self) -> &'static str {
        let known = ALL.iter().find(|one| one.action == self.action && one.on == self.on);
        known.map_or("terminates what cannot be stopped", |one| one.why)
    }
}

/// Actions of a question that the simulator did not rule on: taken for nothing.
pub fn unanswered(asked: &Asked, rulings: &[Ruling]) -> Vec<String> {
    let answered = |action: &&String| !rulings.iter().any(|ruling| ruling.action.eq_ignore_ascii_case(action));
    asked.question.actions.iter().filter(answered).cloned().collect()
}

/// One finding for each kind of thing and each reason, the dearest first.
pub fn findings(missing: &[Missing], scope: &Scope, about: &str) -> Vec<Finding> {
    let mut groups: BTreeMap<(bool, On, Why), Vec<&Missing>> = BTreeMap::new();
    for one in missing {
        let key = (one.is_for_the_doctor_alone(), one.on, one.why.clone());
        groups.entry(key).or_default().push(one);
    }
    groups
        .into_iter()
        .map(|((mild, on, why), group)| finding(&group, mild, on, &why, scope, about))
        .collect()
}

fn finding(group: &[&Missing], mild: bool, on: On, why: &Why, scope: &Scope, about: &str) -> Finding {
    let mut purposes: BTreeMap<&str, &str> = BTreeMap::new();
    let mut resources: BTreeSet<String> = BTreeSet::new();
    for one in group {
        purposes.insert(&one.action, one.purpose());
        resources.insert(one.place());
    }
    let actions: Vec<String> = purposes
        .iter()
        .map(|(action, why)| format!("{action} ({why})"))
        .collect();
    let resources: Vec<String> = resources.into_iter().collect();
    let on_what = if on == On::Everything {
        String::new()
    } else {
        format!(" on {}", some(&resources))
    };
    let found = format!("{about} may not: {}{on_what}", some(&actions));
    let make = |todo: String| {
        if mild {
            Finding::warn(CHECK, found.clone(), todo)
        } else {
            Finding::fail(CHECK, found.clone(), todo)
        }
    };
    match why {
        Why::NoStatement { keys } => {
            let mut todo = format!("add this to the policies of {about}");
            if !keys.is_empty() {
                let keys = some(keys);
                todo.push_str(&format!(
                    "; or, if a policy of it asks for {keys}, see that they are what they should be"
                ));
            }
            let group: Vec<Missing> = group.iter().map(|one| (*one).clone()).collect();
            make(todo).with_statements(statements(&group, scope))
        }
        Why::Denied { by } if by.is_empty() => make("find the policy that denies it, and narrow its Deny".to_owned()),
        Why::Denied { by } => make(format!("an explicit Deny in {} forbids it: narrow that", some(by))),
        Why::Boundary => make(format!(
            "the permission boundary of {about} leaves it out: let it allow this too"
        )),
        Why::Organisation => {
            make("a policy of the organisation (SCP) does not allow it: whoever keeps those has to".to_owned())
        }
    }
}

impl Missing {
    /// On what, for a person.
    fn place(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{} with the tag {tag}", self.on.name()),
            None => self.resource.clone(),
        }
    }
}

/// The statements that would allow them, in the order of the table.
pub fn statements(missing: &[Missing], scope: &Scope) -> Vec<Value> {
    // What is owned by one tag is one statement, as in the shipped policy: an action meets only
    // resources of its own service.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Group {
        On(On, Vec<String>),
        Owned(String),
        Terminate(String),
    }
    let mut groups: BTreeMap<Group, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for one in missing {
        let patterns = patterns(one, scope);
        let tag = one.tag.clone().unwrap_or_else(|| OWNER.to_owned());
        let group = if one.action == TERMINATE {
            Group::Terminate(tag)
        } else if one.on.is_owned() {
            Group::Owned(tag)
        } else {
            Group::On(one.on, patterns.clone())
        };
        let (actions, resources) = groups.entry(group).or_default();
        add(actions, one.action.clone());
        for pattern in patterns {
            add(resources, pattern);
        }
    }
    let in_order = |mut actions: Vec<String>| {
        actions.sort_by_key(|action| ALL.iter().position(|one| one.action == action));
        actions
    };
    let render = |statement: Statement| statement.render(&|text: &str| json!(scope.fill(text)));
    let made = groups.into_iter().map(|(group, (actions, resources))| {
        let actions = in_order(actions);
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        let (sid, conditions) = match &group {
            Group::On(on, _) => (guard::sid(*on), on.conditions()),
            Group::Owned(tag) => (guard::OWNED, On::Instances.conditions_by(tag)),
            Group::Terminate(tag) => (guard::UNSTOPPABLE, On::Instances.conditions_by(tag)),
        };
        let mut statement = Statement::new(sid, Effect::Allow, &actions, &resources);
        statement.conditions = conditions;
        if scope.has(Choice::StopUntagged) && matches!(group, Group::Owned(_)) {
            statement.conditions.clear();
        }
        render(statement)
    });
    made.collect()
}

fn add(list: &mut Vec<String>, one: String) {
    if !list.contains(&one) {
        list.push(one);
    }
}

/// The table's patterns that take in what was asked about; else that itself.
fn patterns(missing: &Missing, scope: &Scope) -> Vec<String> {
    let filled = missing.on.resources().iter().map(|pattern| scope.fill(pattern));
    let fitting: Vec<String> = filled.filter(|pattern| takes_in(pattern, &missing.resource)).collect();
    if fitting.is_empty() {
        return vec![missing.resource.clone()];
    }
    fitting
}

/// Whether an ARN pattern takes in an ARN: `*` is any text, as in a policy.
fn takes_in(pattern: &str, arn: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| arn.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        // Each piece but the last as early as it can be: then nothing that could fit is missed.
        if let Some(before) = last.replace(piece) {
            match rest.find(before) {
                Some(at) => rest = &rest[at + before.len()..],
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests;
