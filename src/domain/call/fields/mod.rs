//! Which fields a request may have, route by route, and what each means for the cost.
//!
//! Complete for the `openai` Python SDK 3.51.0 and the `anthropic` one 2.10.0, the beta forms of the
//! latter included: every field of their request types is here, and so are the fields with which they send
//! back what a provider answered. A field that is missing here is refused by name, which is a nuisance; one
//! that is wrongly listed as free is a hole in the cap. In doubt it is the nuisance.
//!
//! The operator can say otherwise, field by field, in `free_fields`: that an unknown field bears no cost, or
//! that a known one which may bring content from elsewhere, or more than its bytes, such as a block of thinking
//! (`messages:messages.content.type=thinking`), is bounded by its bytes like any text.

pub(super) mod chat;
mod message_blocks;
pub(super) mod messages;
pub(super) mod plain;
mod response_items;
pub(super) mod responses;
