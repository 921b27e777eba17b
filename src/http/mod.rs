//! The listeners: the agent side, the admin side, and what both share.
//!
//! Agents and operators never share a listener, and an agent's credential means nothing to the admin
//! side. Every connection has a limit on its headers, body and time; every answer that is not what the
//! caller wanted goes through [`error`], the one place where a rejection becomes a status.

pub mod admin;
pub mod agent;
pub mod auth;
pub mod body;
mod calls;
pub mod error;
mod gateway;
mod holds;
mod path;
mod patience;
pub mod seats;
pub mod serve;
mod tools;
mod usage;
mod view;
