//! Stands in until the real one is merged.
use super::*;
pub fn refine(_: &Asked) -> Option<Asked> {
    None
}
