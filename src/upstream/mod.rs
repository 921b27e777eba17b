//! The production side of the [`Upstream`](crate::ports::Upstream) port: providers over HTTP/1.1.
//!
//! Two things decide about money here. A request is never repeated: each attempt needs a hold of its own
//! (**L4**), so nothing here retries, and redirects are answers like any other. And a fault says strictly
//! whether the request may have reached the provider: *unreachable* only when not one byte of it can have
//! been written, since that alone voids a hold (**L3**); whatever is not sure is *broken*.
//!
//! HTTP/1.1 and not 2, because one connection then carries one call: what breaks it breaks no other, and
//! a slow reader holds nobody else up.

mod connect;
mod http;

pub use http::{BuildError, HttpUpstream, UpstreamOptions};

#[cfg(test)]
mod tests;
