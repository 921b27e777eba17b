//! Streams of chat completions and completions.
//!
//! The usage comes in a last chunk without choices, which the gateway always asks for and takes out again
//! where the client did not. Others that copy the form put it into the last delta, or into every one, as
//! it grows; then the last counts, if nothing was written after it.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::calls::{Calls, LEGACY, Piece};
use super::seen::{Seen, Verdict};
use super::{StreamFault, StreamRules};
use crate::domain::call::answer::{Told, UsageFault, usage_of};
use crate::domain::call::route::Route;
use crate::domain::wire::answer::chat::{Chat, Choice, Said};
use crate::domain::wire::answer::{Count, fewest_tokens, read, says_something};

/// Choices of one answer whose ends are told apart; an answer with more ends with its stream.
const MAX_CHOICES: usize = 256;

#[derive(Debug)]
pub(super) struct ChatStream {
    route: Route,
    calls: Calls,
    usage: Option<String>,
    tier: Option<String>,
    /// Nothing was written since the usage.
    is_last_word: bool,
    /// The usage came in a chunk of its own, which is the last.
    was_alone: bool,
    is_done: bool,
    /// Choices that have begun, and whether they have ended.
    choices: Vec<(u64, bool)>,
}

/// What is needed of a usage while it grows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Growing {
    completion_tokens: Count,
}

impl ChatStream {
    pub(super) fn new(route: Route) -> Self {
        Self {
            route,
            calls: Calls::default(),
            usage: None,
            tier: None,
            is_last_word: false,
            was_alone: false,
            is_done: false,
            choices: Vec::new(),
        }
    }

    pub(super) fn done(&mut self) {
        self.is_done = true;
    }

    pub(super) fn event(&mut self, data: &[u8], rules: &StreamRules, seen: &mut Seen) -> Result<Verdict, StreamFault> {
        let chunk: Chat<'_> = read(data)?;
        seen.answer.says(&chunk.id, &chunk.model);
        if let Some(tier) = chunk.service_tier.get()
            && self.tier.as_deref() != Some(tier)
        {
            self.tier = Some(tier.to_owned());
        }
        let usage = chunk.usage.filter(|raw| says_something(Some(raw)));
        if let Some(raw) = usage {
            let text = self.usage.get_or_insert_default();
            text.clear();
            text.push_str(raw.get());
            (self.is_last_word, self.was_alone) = (true, chunk.choices.0.is_empty());
        }
        let mut ended = false;
        for (position, choice) in chunk.choices.0.iter().enumerate() {
            let index = choice.index.0.unwrap_or(position as u64);
            if Self::output(choice, seen) && usage.is_none() {
                self.is_last_word = false;
            }
            ended |= self.note(index, choice, seen);
            if let Some(said) = &choice.delta.0 {
                self.called(index, said, rules)?;
            }
            self.calls.after(index, &rules.gate)?;
        }
        if let Some(raw) = usage.filter(|_| rules.output_limit.is_some()) {
            let growing: Growing = serde_json::from_str(raw.get()).unwrap_or_default();
            seen.made.reported(growing.completion_tokens.0.unwrap_or(0));
        }
        // What the last chunk says has been written already: cutting it would only hide its usage.
        if !ended && !chunk.choices.0.is_empty() {
            seen.made.check(rules.output_limit)?;
        }
        let is_extra = usage.is_some() && chunk.choices.0.is_empty() && chunk.error.is_none();
        if rules.strip_usage && is_extra && !says_something(chunk.moderation) {
            return Ok(Verdict::Strip);
        }
        Ok(if self.calls.is_waiting() {
            Verdict::Hold
        } else {
            Verdict::Pass
        })
    }

    /// Counts what a choice adds, and says whether it adds anything.
    fn output(choice: &Choice<'_>, seen: &mut Seen) -> bool {
        let Some(said) = &choice.delta.0 else {
            // A completion may repeat its prompt, which is no output; only its usage tells.
            return says_something(choice.text);
        };
        let arguments = said.tool_calls.0.iter().flat_map(|call| [&call.function, &call.custom]);
        let arguments = arguments.chain([&said.function_call]);
        let arguments = arguments.filter_map(|function| function.0.as_ref());
        let texts = [said.content, said.refusal, said.reasoning_content].into_iter();
        let texts = texts.chain(arguments.flat_map(|function| [function.arguments, function.input]));
        let tokens = texts.map(fewest_tokens).sum();
        seen.made.wrote(tokens);
        tokens > 0
            || !said.tool_calls.0.is_empty()
            || [said.content, said.reasoning, said.audio]
                .into_iter()
                .any(says_something)
    }

    /// Notes which choices there are, and says whether this one has ended.
    fn note(&mut self, index: u64, choice: &Choice<'_>, seen: &mut Seen) -> bool {
        let reason = choice.finish_reason.get();
        seen.answer.on_limit |= reason == Some("length");
        if let Some((_, ended)) = self.choices.iter_mut().find(|(known, _)| *known == index) {
            *ended |= reason.is_some();
        } else if self.choices.len() < MAX_CHOICES {
            self.choices.push((index, reason.is_some()));
        }
        reason.is_some()
    }

    /// Reads what a choice says of the tools that it calls.
    fn called(&mut self, choice: u64, said: &Said<'_>, rules: &StreamRules) -> Result<(), StreamFault> {
        for (position, call) in said.tool_calls.0.iter().enumerate() {
            let piece = |name| Piece {
                choice,
                index: call.index.0.unwrap_or(position as u64),
                id: call.id.get(),
                has_kind: call.kind.get().is_some(),
                name,
            };
            let functions = [&call.function, &call.custom].into_iter();
            let names = functions.filter_map(|function| function.0.as_ref()?.name.get());
            let mut names = names.filter(|name| !name.is_empty()).peekable();
            if names.peek().is_none() {
                self.calls.piece(piece(""), &rules.gate)?;
            }
            for name in names {
                self.calls.piece(piece(name), &rules.gate)?;
            }
        }
        if let Some(function) = &said.function_call.0 {
            let piece = Piece {
                choice,
                index: LEGACY,
                id: None,
                has_kind: false,
                name: function.name.get().unwrap_or_default(),
            };
            self.calls.piece(piece, &rules.gate)?;
        }
        Ok(())
    }

    /// No more will come.
    pub(super) fn close(&self) -> Result<(), StreamFault> {
        self.calls.end()
    }

    /// What was used, if the last word on it was heard.
    pub(super) fn usage(&self, seen: &mut Seen, free: &BTreeSet<String>) -> Result<Option<Told>, UsageFault> {
        self.calls.tell(&mut seen.answer);
        let all_ended = !self.choices.is_empty() && self.choices.iter().all(|(_, ended)| *ended);
        let is_over = self.is_done || self.was_alone || seen.is_closed && all_ended;
        let usage = self.usage.as_deref().filter(|_| self.is_last_word && is_over);
        usage
            .map(|raw| usage_of(self.route, raw, self.tier.as_deref(), free))
            .transpose()
    }
}
