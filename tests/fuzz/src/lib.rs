//! The domain, mounted by its path, and what must hold of it.

#[path = "../../../src/domain/mod.rs"]
pub mod domain;
pub mod oracles;

/// What reads recordings catches the panics of the library that takes them apart, and the fuzzer's hook would
/// end the run before. A panic that nobody catches still does: the fuzzer sees what unwinds.
pub fn let_panics_be_caught() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}
