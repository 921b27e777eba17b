//! The gateway, from outside: a real daemon between real clients and a provider that answers, counts,
//! bills and fails as providers do.
//!
//! What the daemon says is never believed by itself: the provider keeps its own count and its own bill
//! by its own table of prices, and what the ledger holds is judged, after the daemon has gone, by the
//! auditor that shares no code with it.

mod agent;
mod audio_loop;
mod cap;
mod fail_closed;
mod forwarding;
mod hard_cases;
mod manifest;
mod order;
mod pause;
mod place;
mod sdk;
mod settlement;
mod twelve_ways;
mod upstream;
