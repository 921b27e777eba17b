//! A call: what a request to a provider asks for, what it can cost at most, and what its answer says.
//!
//! The gateway stands between an agent and a provider, so whatever it does not understand could spend
//! unseen. Hence lists of what is allowed, never of what is forbidden: a [`Route`] that is not listed, a
//! field, a kind of content or a header that nobody here has weighed is refused by name (**L7**), with
//! the config line that would admit it. What is understood becomes an [`Asked`]: the most that the call
//! can use, and the changes that its body needs. With a price that is a
//! [`Bound`](super::ledger::bound::Bound) for the hold (**L4**); with the tokens that the hold covers it is
//! the body to forward. The way back is an [`Answer`]: what the provider said was used, each token once.
//!
//! What it must never do: guess. A request that two parsers could read differently is refused, one
//! that needs no change is forwarded byte for byte, and an answer without a usage is not an answer that
//! cost nothing.

mod answer;
mod asked;
pub mod audio;
mod bound;
mod draft;
mod expansion;
mod fees;
mod fields;
pub mod form;
mod headers;
mod limit;
mod media;
mod overhead;
mod picture;
mod read;
mod rejection;
mod route;
mod rules;
mod schema;
mod stream;
mod tokenizer;
mod tools;
mod walk;

#[cfg(test)]
mod tests;

pub use answer::{Answer, AnswerRejection, Stated, ToolGate, UsageFault, read_answer, read_answer_with};
pub use asked::{Asked, ContentFrom, OutputLimit, Widened};
pub use bound::bound;
pub use fees::{Fees, check_searches};
pub use form::FormPart;
pub use headers::{Forwarded, forward, query};
pub use limit::LimitField;
pub use media::{Images, Media, Speech, Transcription, read_form};
pub use read::read;
pub use rejection::CallRejection;
pub use route::{Api, Metering, Route, is_plain, is_upstream_name, path_matches};
pub use rules::{CallRules, Unlisted};
pub use stream::{StreamFault, StreamMeter, StreamRules, error_event};
pub use tokenizer::{is_countable, refine};
