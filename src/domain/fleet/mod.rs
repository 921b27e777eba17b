//! The fleet: what an account runs, whose it is, and what it costs an hour.
//!
//! Billing data comes 8 to 12 hours late; the fleet itself can be asked now. So it is observed, each thing
//! in it is given an owner and a price, and what it burns is posted as time passes. The kill switch works
//! from the same things: what starts others (an Auto Scaling group, an ECS service, a function) is *capped*
//! by its own settings, which a reset puts back.
//!
//! A kind of thing is data here, not code: an [`asset::Asset`] says itself what it is charged for, whose
//! hands it acts with and how it can be halted. A new service is one more adapter that makes such assets;
//! nothing in this room, the ledger or the kill switch has to learn its name.

pub mod asset;
pub mod creation;
pub mod creation_event;
pub mod instance;
pub mod owner;
pub mod price;
pub mod price_list;
pub mod rate;
