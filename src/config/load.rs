//! From files and environment to validated settings.

use std::path::PathBuf;

use super::problem::Problem;
use super::settings::Settings;

/// What came of loading.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<Problem>,
    /// The user's file; `None` when the built-in defaults were all there was.
    pub path: Option<PathBuf>,
}
