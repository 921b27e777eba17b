//! Streams of the Responses API: the whole response comes again in the last event, with its usage.

use super::seen::{Seen, Verdict};
use super::{StreamFault, StreamRules};
use crate::domain::call::answer::{Answer, response};
use crate::domain::wire::answer::responses::{Event, Item, Response};
use crate::domain::wire::answer::{fewest_tokens, read};

/// What is made of tokens that are billed as output, piece by piece. A summary of the reasoning is not: it
/// is written by another hand than what was billed. Nor are the arguments for a remote server, which come
/// whole.
const OUTPUT: &[&str] = &[
    "response.output_text.delta",
    "response.refusal.delta",
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.reasoning_text.delta",
    "response.code_interpreter_call_code.delta",
];

#[derive(Debug, Default)]
pub(super) struct ResponsesStream {
    /// What the response said when it was over.
    last: Option<Answer>,
    /// The number of the last event.
    pub(super) sequence: u64,
}

impl ResponsesStream {
    pub(super) fn event(&mut self, data: &[u8], rules: &StreamRules, seen: &mut Seen) -> Result<Verdict, StreamFault> {
        let event: Event<'_> = read(data)?;
        let kind = event.kind.get().unwrap_or_default();
        self.sequence = event.sequence_number.0.unwrap_or(self.sequence);
        if OUTPUT.contains(&kind) {
            seen.made.wrote(fewest_tokens(event.delta));
            seen.made.check(rules.output_limit)?;
        }
        if let Some(item) = &event.item.0 {
            Self::item(item, rules, seen)?;
        }
        if let Some(name) = event
            .name
            .get()
            .filter(|_| kind.starts_with("response.function_call_arguments."))
        {
            seen.called(name, &rules.gate)?;
        }
        if let Some(response) = &event.response.0 {
            self.response(response, rules, seen)?;
        }
        Ok(Verdict::Pass)
    }

    fn response(&mut self, whole: &Response<'_>, rules: &StreamRules, seen: &mut Seen) -> Result<(), StreamFault> {
        seen.answer.says(&whole.id, &whole.model);
        if whole.is_over() {
            self.last = Some(response(whole, &rules.free_usage));
        }
        for item in &whole.output.0 {
            Self::item(item, rules, seen)?;
        }
        Ok(())
    }

    fn item(item: &Item<'_>, rules: &StreamRules, seen: &mut Seen) -> Result<(), StreamFault> {
        seen.answer.calls_remote |= item.is_remote();
        match item.tool() {
            Some(tool) => seen.called(&tool, &rules.gate),
            None => Ok(()),
        }
    }

    pub(super) fn tell(&self, answer: &mut Answer) {
        if let Some(last) = &self.last {
            answer.on_limit = last.on_limit;
            (answer.usage, answer.fault) = (last.usage, last.fault.clone());
            answer.stated = last.stated;
        }
    }
}
