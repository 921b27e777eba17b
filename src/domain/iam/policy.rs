//! A policy as data: statements with placeholders, rendered to IAM's JSON.
//!
//! The order of everything is the order of the source, so that a document is the same text every time.

use serde_json::{Map, Value, json};

use super::{Choice, Scope};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// Which actions: these, or all but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actions {
    These(Vec<String>),
    AllBut(Vec<String>),
}

/// A test of one key: the operator, the key, the values of which one must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub operator: &'static str,
    pub key: String,
    pub values: Vec<String>,
}

impl Condition {
    pub fn new(operator: &'static str, key: impl Into<String>, values: &[&str]) -> Self {
        Self {
            operator,
            key: key.into(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }
}

/// When a statement is part of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    Chosen(Choice),
    NotChosen(Choice),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Left out where it is empty.
    pub sid: &'static str,
    pub effect: Effect,
    pub actions: Actions,
    /// With placeholders.
    pub resources: Vec<String>,
    /// Whether it is about all resources but these.
    pub elsewhere: bool,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    pub when: When,
}

impl Statement {
    pub fn new(sid: &'static str, effect: Effect, actions: &[&str], resources: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect();
        Self {
            sid,
            effect,
            actions: Actions::These(owned(actions)),
            resources: owned(resources),
            elsewhere: false,
            conditions: Vec::new(),
            when: When::Always,
        }
    }

    /// About every resource but those that it names.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    #[must_use]
    pub fn only_if(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// The statement as JSON; each text goes through `write`, which fills its placeholders.
    pub fn render(&self, write: &impl Fn(&str) -> Value) -> Value {
        let mut out = Map::new();
        if !self.sid.is_empty() {
            out.insert("Sid".to_owned(), json!(self.sid));
        }
        let effect = match self.effect {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        };
        out.insert("Effect".to_owned(), json!(effect));
        let (name, actions) = match &self.actions {
            Actions::These(actions) => ("Action", actions),
            Actions::AllBut(actions) => ("NotAction", actions),
        };
        out.insert(name.to_owned(), one_or_all(actions, &|text| json!(text)));
        let name = if self.elsewhere { "NotResource" } else { "Resource" };
        out.insert(name.to_owned(), one_or_all(&self.resources, write));
        if !self.conditions.is_empty() {
            let mut conditions = Map::new();
            for condition in &self.conditions {
                let operator = conditions
                    .entry(condition.operator.to_owned())
                    .or_insert_with(|| json!({}));
                operator[condition.key.as_str()] = one_or_all(&condition.values, write);
            }
            out.insert("Condition".to_owned(), Value::Object(conditions));
        }
        Value::Object(out)
    }
}

fn one_or_all(list: &[String], write: &impl Fn(&str) -> Value) -> Value {
    match list {
        [one] => write(one),
        all => all.iter().map(|one| write(one)).collect(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub statements: Vec<Statement>,
}

impl Policy {
    /// The document for this scope.
    pub fn json(&self, scope: &Scope) -> Value {
        let write = |text: &str| json!(scope.fill(text));
        let statements = self.statements.iter().filter(|statement| match statement.when {
            When::Always => true,
            When::Chosen(choice) => scope.has(choice),
            When::NotChosen(choice) => !scope.has(choice),
        });
        document(statements.map(|statement| statement.render(&write)).collect())
    }
}

pub fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}
