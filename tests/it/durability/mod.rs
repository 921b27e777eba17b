//! Durability, on the real binary: what was acknowledged is on disk (L4, L5), a crash loses nothing of
//! it and invents nothing (L1, L3, L6), and no number of crashes contains anybody (L3).
//!
//! Each test has a daemon of its own in a directory of its own. What the ledger holds is read after the
//! daemon has gone, from the file itself, and judged by the auditor that shares no code with it.

mod crash;
mod crash_loop;
mod drain;
mod full;
mod shared;
mod site;
mod syscalls;
