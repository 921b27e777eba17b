//! A secret, which no log, error or answer can show.

use std::fmt;
use std::sync::Arc;

/// A secret read from a file or an environment variable. It prints as `***`; only [`expose`] gives
/// the text, so that a search for that word finds every use.
///
/// [`expose`]: Secret::expose
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
