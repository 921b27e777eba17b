//! Where in a document something stands: a path for people, and from it the line.
//!
//! A parsed document does not remember its lines, and one that did would cost every sound file for the
//! sake of the wrong ones. So the path is kept while the document is read, and the line is looked up in
//! the text only when there is something to tell.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The way from the document to a value in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place(Vec<Step>);

impl Place {
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The line on which the value begins, from 1; `None` if it is not there.
    pub(super) fn line(&self, document: &[u8]) -> Option<usize> {
        let mut value: &str = serde_json::from_slice::<&RawValue>(document).ok()?.get();
        for step in &self.0 {
            value = match step {
                Step::Key(key) => entry(value, key)?,
                Step::Index(index) => serde_json::from_str::<Vec<&RawValue>>(value).ok()?.get(*index)?.get(),
            };
        }
        // The value is a part of the document, borrowed from it.
        let offset = value.as_ptr().addr().checked_sub(document.as_ptr().addr())?;
        let before = document.get(..offset)?;
        Some(before.iter().filter(|&&byte| byte == b'\n').count() + 1)
    }
}

fn entry<'d>(object: &'d str, key: &str) -> Option<&'d str> {
    /// Keys may have escapes, so they are owned where they must be.
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Key<'d>(#[serde(borrow)] Cow<'d, str>);

    let entries: BTreeMap<Key<'d>, &'d RawValue> = serde_json::from_str(object).ok()?;
    entries.get(&Key(Cow::Borrowed(key))).map(|value| value.get())
}

/// `allowed_tools[2].rate_limit`; nothing for the document itself.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    show_key(key, f)?;
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Bounded, and quoted when it is not a bare one.
fn show_key(key: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-$".contains(&b));
    let shown: String = key.chars().take(64).collect();
    match (bare, shown.len() < key.len()) {
        (true, false) => f.write_str(key),
        (_, false) => write!(f, "{shown:?}"),
        (_, true) => write!(f, "{shown:?}…"),
    }
}
