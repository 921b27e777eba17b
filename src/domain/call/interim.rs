//! Stands in until the real ones are merged.
use bytes::Bytes;
use super::*;
use crate::domain::ledger::bound::Bound;
use crate::domain::price::PriceEntry;
use crate::domain::rejection::Rejection;
pub fn read(_: Route, _: &Bytes, _: &CallRules) -> Result<Asked, Rejection> { Err(CallRejection::Absurd.into()) }
pub fn read_form(_: Route, _: &Bytes, _: &[FormPart], _: &CallRules) -> Result<Asked, Rejection> { Err(CallRejection::Absurd.into()) }
pub fn bound(_: &Asked, _: &PriceEntry, _: &CallRules) -> Result<Bound, Rejection> { Err(CallRejection::Absurd.into()) }
pub fn refine(_: &Asked) -> Option<Asked> { None }
pub struct FormPart;
pub mod headers { pub const PLACEHOLDER: () = (); }
impl Asked {
    pub fn strip(&mut self, _: &std::collections::BTreeSet<String>) -> Result<(), CallRejection> { Ok(()) }
    pub fn body(&self, _: Option<u64>) -> Bytes { Bytes::new() }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("x")]
pub struct AnswerRejection;
pub fn read_answer(_: Route, _: &[u8]) -> Result<Answer, AnswerRejection> { Err(AnswerRejection) }
pub struct StreamRules { pub strip_usage: bool, pub gate: ToolGate, pub output_limit: Option<u64> }
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("x")]
pub struct StreamFault;
pub struct StreamMeter;
impl StreamMeter {
    pub fn new(_: Route, _: StreamRules) -> Self { Self }
    pub fn feed(&mut self, chunk: Bytes) -> Result<Vec<Bytes>, StreamFault> { Ok(vec![chunk]) }
    pub fn end(self) -> Answer { Answer::default() }
    pub fn error_event(&self, _: &str, _: &str) -> Bytes { Bytes::new() }
}
