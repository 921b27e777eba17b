//! The domain, mounted by its path, and what must hold of it.

#[path = "../../../src/domain/mod.rs"]
pub mod domain;
pub mod oracles;
