//! Where problems are gathered while the tree is read.

use std::cell::RefCell;
use std::sync::Arc;

use super::problem::{Problem, Problems, Severity};
use super::tree::{Layer, Origin};

/// Where problems are gathered.
#[derive(Default)]
pub(super) struct Report {
    found: RefCell<Vec<(Origin, Problem)>>,
    /// Lines with syntax errors: what was recovered from them means nothing.
    broken: RefCell<Vec<Origin>>,
}

impl Report {
    pub(super) fn syntax(&self, origin: &Origin, message: &str) {
        self.error(origin, "", &format!("not valid TOML: {message}"), None);
        self.broken.borrow_mut().push(origin.clone());
    }

    pub(super) fn error(&self, origin: &Origin, key: &str, message: &str, hint: Option<String>) {
        self.push(Severity::Error, origin, key, message, hint);
    }

    pub(super) fn warning(&self, origin: &Origin, key: &str, message: &str, hint: Option<String>) {
        self.push(Severity::Warning, origin, key, message, hint);
    }

    fn push(&self, severity: Severity, origin: &Origin, key: &str, message: &str, hint: Option<String>) {
        if self.broken.borrow().contains(origin) {
            return;
        }
        let problem = Problem {
            severity,
            source: origin.source.to_string(),
            line: origin.line,
            key: key.to_owned(),
            message: message.to_owned(),
            hint,
        };
        self.found.borrow_mut().push((origin.clone(), problem));
    }

    /// Whether the text itself was broken, so that what seems to be missing may only be lost.
    pub(super) fn is_broken(&self) -> bool {
        !self.broken.borrow().is_empty()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.found
            .borrow()
            .iter()
            .any(|(_, problem)| problem.severity == Severity::Error)
    }

    /// In the order of the layers and lines, files that are named each on its own; on one line in the order
    /// found.
    pub(super) fn into_problems(self) -> Problems {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(origin, _)| {
            let named = (origin.layer == Layer::Named).then(|| Arc::clone(&origin.source));
            (origin.layer, named, origin.line)
        });
        Problems(found.into_iter().map(|(_, problem)| problem).collect())
    }
}
