//! Streams of Anthropic's Messages API.
//!
//! The usage comes in two parts: `message_start` has what was read, `message_delta` what was written so far
//! and whatever else has changed. Its counts are totals, which only grow: the larger of two is kept, so that
//! a server that fills in zeros at the end takes nothing back. What is no count is replaced by what comes
//! later, and what is missing or null leaves it: so does the provider's own SDK. A message that was broken off
//! before it gave its reason to stop has written more than it says, so its usage is unknown.

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::seen::{Seen, Verdict};
use super::{StreamFault, StreamRules};
use crate::domain::call::answer::{Told, UsageFault, merged_usage, strict};
use crate::domain::call::route::Route;
use crate::domain::wire::UsageRejection;
use crate::domain::wire::answer::messages::{Block, Event, Message};
use crate::domain::wire::answer::{fewest_tokens, read};

/// A usage has about a dozen.
const MAX_FIELDS: usize = 100;

#[derive(Debug, Default)]
pub(super) struct MessagesStream {
    usage: Map<String, Value>,
    fault: Option<UsageFault>,
    is_over: bool,
}

impl MessagesStream {
    pub(super) fn event(&mut self, data: &[u8], rules: &StreamRules, seen: &mut Seen) -> Result<Verdict, StreamFault> {
        let event: Event<'_> = read(data)?;
        if let Some(message) = &event.message.0 {
            self.start(message, rules, seen)?;
        }
        let mut is_last = event.kind.get() == Some("message_stop");
        if let Some(delta) = &event.delta.0 {
            // The input of a tool is written whole and then cut into pieces of any size: no token each.
            seen.made
                .wrote(fewest_tokens(delta.text) + fewest_tokens(delta.thinking));
            is_last |= delta.stop_reason.get().is_some();
            seen.answer.on_limit |= delta.stop_reason.get() == Some("max_tokens");
        }
        self.merge(event.usage, seen);
        self.is_over |= is_last;
        if let Some(block) = &event.content_block.0 {
            Self::block(block, rules, seen)?;
        }
        if !is_last {
            seen.made.check(rules.output_limit)?;
        }
        Ok(Verdict::Pass)
    }

    fn start(&mut self, message: &Message<'_>, rules: &StreamRules, seen: &mut Seen) -> Result<(), StreamFault> {
        seen.answer.says(&message.id, &message.model);
        self.merge(message.usage, seen);
        for block in &message.content.0 {
            Self::block(block, rules, seen)?;
        }
        Ok(())
    }

    fn block(block: &Block<'_>, rules: &StreamRules, seen: &mut Seen) -> Result<(), StreamFault> {
        seen.answer.calls_remote |= block.is_remote();
        match block.tool() {
            Some(tool) => seen.called(tool, &rules.gate),
            None => Ok(()),
        }
    }

    fn merge(&mut self, raw: Option<&RawValue>, seen: &mut Seen) {
        let Some(raw) = raw else { return };
        match strict(raw.get()) {
            Ok(Value::Object(fields)) => {
                grow(&mut self.usage, fields);
                if count(&self.usage) > MAX_FIELDS {
                    self.usage.clear();
                    self.fault = Some(UsageRejection::Absurd { field: "usage" }.into());
                }
                if let Some(made) = self.usage.get("output_tokens").and_then(Value::as_u64) {
                    seen.made.reported(made);
                }
            }
            Ok(_) => self.fault = Some(UsageRejection::NotAnObject.into()),
            Err(fault) => self.fault = Some(fault),
        }
    }

    pub(super) fn usage(&mut self, free: &BTreeSet<String>) -> Result<Option<Told>, UsageFault> {
        if !self.is_over {
            return Ok(None);
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let usage = std::mem::take(&mut self.usage);
        if usage.is_empty() {
            return Ok(None);
        }
        merged_usage(Route::Messages, &Value::Object(usage), None, free).map(Some)
    }
}

/// Takes over what is told later. An object is taken field by field, and of a list (the turns of a loop) the
/// longer one is whole.
fn grow(known: &mut Map<String, Value>, told: Map<String, Value>) {
    for (name, later) in told.into_iter().filter(|(_, value)| !value.is_null()) {
        match (known.get_mut(&name), later) {
            (Some(Value::Object(earlier)), Value::Object(later)) => grow(earlier, later),
            (Some(earlier), later) if is_less(&later, earlier) => {}
            (_, later) => {
                known.insert(name, later);
            }
        }
    }
}

/// Fields, those of objects within it too.
fn count(fields: &Map<String, Value>) -> usize {
    let within = fields.values().filter_map(Value::as_object).map(count);
    within.fold(fields.len(), usize::saturating_add)
}

/// Whether what was told earlier is more. What is below zero is no count, and the parser has to see it.
fn is_less(later: &Value, earlier: &Value) -> bool {
    match (later, earlier) {
        (Value::Array(later), Value::Array(earlier)) => later.len() < earlier.len(),
        (Value::Number(later), Value::Number(earlier)) => {
            let counts = later.as_f64().zip(earlier.as_f64());
            counts.is_some_and(|(later, earlier)| later >= 0.0 && later < earlier)
        }
        _ => false,
    }
}
