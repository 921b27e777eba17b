//! What OpenAI says beside an answer's usage.

use serde_json::value::RawValue;

use super::UsageFault;
use super::read::strict;
use crate::domain::price::Usage;
use crate::domain::wire::answer::chat::{Said, ToolCall};
use crate::domain::wire::answer::responses::Item;
use crate::domain::wire::answer::says_something;
use crate::domain::wire::searches_from;

/// The names of the tools that a message calls. A call has one, or another for a custom tool.
pub(super) fn tools_of<'a>(said: &'a Said<'_>) -> impl Iterator<Item = &'a str> {
    let of_call = |call: &'a ToolCall<'_>| [call.function.0.as_ref(), call.custom.0.as_ref()];
    let legacy = [said.function_call.0.as_ref()].into_iter();
    let functions = said.tool_calls.0.iter().flat_map(of_call).chain(legacy);
    functions.flatten().filter_map(|function| function.name.get())
}

/// Adds what hosted tools used. Where their uses are not counted, the calls in the output are.
pub(in crate::domain::call) fn hosted_tools(
    usage: &mut Usage,
    counted: Option<&RawValue>,
    output: &[Item<'_>],
) -> Result<(), UsageFault> {
    usage.web_searches = match counted.filter(|raw| says_something(Some(raw))) {
        Some(raw) => searches_from(&strict(raw.get())?)?,
        None => output.iter().filter(|item| item.is_web_search()).count() as u64,
    };
    Ok(())
}
