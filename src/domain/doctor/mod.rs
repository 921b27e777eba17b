//! The doctor's judgement: what is asked before Backstop is trusted with an account, and what an answer means.
//!
//! Nothing here asks anybody anything. [`questions`] makes the requests to the policy simulator from the one
//! table of permissions, [`missing`] reads the rulings and writes the statements that are missing,
//! [`excess`] says what must not be allowed, [`agents`] holds what is declared against where we are,
//! [`time`] judges clocks and [`mod@unit`] a systemd unit.
//!
//! A finding has one of four standings. What could not be looked at is *not checked* and says why: it is
//! never taken for *ok*, and never for a failure either. Each says what was found, and what to do about it.

pub mod agents;
pub mod excess;
pub mod missing;
pub mod questions;
pub mod time;
pub mod unit;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Ok,
    NotChecked,
    Warn,
    Fail,
}

impl Standing {
    /// As a person reads it at the beginning of a line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotChecked => "not checked",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's stable name.
    pub check: String,
    pub standing: Standing,
    /// What was found: a sentence.
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
    /// Statements of an IAM policy that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<Value>,
}

impl Finding {
    fn new(check: &str, standing: Standing, found: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            standing,
            found: found.into(),
            todo: None,
            statements: Vec::new(),
        }
    }

    pub fn ok(check: &str, found: impl Into<String>) -> Self {
        Self::new(check, Standing::Ok, found)
    }

    pub fn not_checked(check: &str, why: impl Into<String>) -> Self {
        Self::new(check, Standing::NotChecked, why)
    }

    pub fn warn(check: &str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::new(check, Standing::Warn, found).to_do(todo)
    }

    pub fn fail(check: &str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self::new(check, Standing::Fail, found).to_do(todo)
    }

    #[must_use]
    pub fn to_do(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    #[must_use]
    pub fn with_statements(mut self, statements: Vec<Value>) -> Self {
        self.statements = statements;
        self
    }
}

/// Who was asked about in the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Whose credentials asked.
    pub asked_as: String,
    /// Whose policies were looked at, if not theirs.
    pub about: String,
}

/// What one examiner found: the daemon, or the command itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `None` where the cloud was not asked who we are, or did not say.
    #[serde(default)]
    pub subject: Option<Subject>,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn count(&self, standing: Standing) -> usize {
        self.findings.iter().filter(|one| one.standing == standing).count()
    }

    /// Whether nothing failed; where it is meant strictly, warnings fail too. What was not checked does not.
    pub fn passes(&self, strictly: bool) -> bool {
        let worst = self.findings.iter().map(|one| one.standing).max();
        match worst {
            Some(Standing::Fail) => false,
            Some(Standing::Warn) => !strictly,
            _ => true,
        }
    }

    /// All statements that are missing, as one policy; `None` if none is.
    pub fn missing_policy(&self) -> Option<Value> {
        let mut all: Vec<Value> = Vec::new();
        for statement in self.findings.iter().flat_map(|one| &one.statements) {
            if !all.contains(statement) {
                all.push(statement.clone());
            }
        }
        (!all.is_empty()).then(|| crate::domain::iam::policy::document(all))
    }
}

/// Some names, and how many more there are.
pub fn some(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn warnings_pass_unless_it_is_meant_strictly() {
        let report = |findings: Vec<Finding>| Report {
            subject: None,
            findings,
        };
        let (ok, blind) = (Finding::ok("a", "fine"), Finding::not_checked("b", "nobody is there"));
        let (warn, fail) = (Finding::warn("c", "hm", "look"), Finding::fail("d", "no", "mend it"));
        for (findings, loosely, strictly) in [
            (vec![], true, true),
            (vec![ok.clone(), blind.clone()], true, true),
            (vec![ok.clone(), warn.clone(), blind.clone()], true, false),
            (vec![fail.clone(), warn], false, false),
            (vec![blind, fail, ok], false, false),
        ] {
            let report = report(findings);
            assert_eq!(
                (report.passes(false), report.passes(true)),
                (loosely, strictly),
                "{report:?}"
            );
        }
    }

    #[test]
    fn a_statement_that_two_findings_miss_is_in_the_policy_once() {
        let statement = json!({"Sid": "Observe"});
        let missing = |check: &str| Finding::fail(check, "no", "add").with_statements(vec![statement.clone()]);
        let report = Report {
            subject: None,
            findings: vec![missing("a"), Finding::ok("b", "fine"), missing("c")],
        };
        let policy = report.missing_policy().expect("something is missing");
        assert_eq!(policy["Statement"], json!([{"Sid": "Observe"}]));
        assert_eq!(Report::default().missing_policy(), None);
    }

    #[test]
    fn a_finding_survives_its_way_to_the_command_line() {
        let finding = Finding::fail("permissions", "no", "add it").with_statements(vec![json!({"Effect": "Allow"})]);
        let text = serde_json::to_string(&finding).expect("it is plain data");
        assert!(text.contains("\"standing\":\"fail\""), "{text}");
        let back: Finding = serde_json::from_str(&text).expect("it is ours");
        assert_eq!(back, finding);
        let bare: Finding =
            serde_json::from_str(r#"{"check":"a","standing":"not_checked","found":"x"}"#).expect("ours");
        assert_eq!(bare, Finding::not_checked("a", "x"));
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let names: Vec<String> = (1..=14).map(|n| n.to_string()).collect();
        assert_eq!(some(&names[..2]), "1, 2");
        assert!(some(&names).ends_with("12 and 2 more"), "{}", some(&names));
    }
}
