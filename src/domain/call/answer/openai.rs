//! What OpenAI says beside an answer's usage.

use serde_json::value::RawValue;

use super::read::strict;
use super::{Told, UsageFault};
use crate::domain::wire::answer::chat::{Function, Said, ToolCall};
use crate::domain::wire::answer::responses::Item;
use crate::domain::wire::answer::says_something;
use crate::domain::wire::searches_from;

/// The names of the tools that a message calls, empty where one has none. A call has one, or another for a
/// custom tool.
pub(super) fn tools_of<'a>(said: &'a Said<'_>) -> impl Iterator<Item = &'a str> {
    let name = |function: &'a Function<'_>| function.name.get().unwrap_or_default();
    let of_call = move |call: &'a ToolCall<'_>| {
        let named = [call.function.0.as_ref(), call.custom.0.as_ref()];
        let nameless = named.iter().all(Option::is_none).then_some("");
        named.into_iter().flatten().map(name).chain(nameless)
    };
    let legacy = said.function_call.0.as_ref().map(name);
    said.tool_calls.0.iter().flat_map(of_call).chain(legacy)
}

/// Adds what hosted tools used. Where their uses are not counted, the searches in the output are.
pub(in crate::domain::call) fn hosted_tools(
    told: &mut Told,
    counted: Option<&RawValue>,
    output: &[Item<'_>],
) -> Result<(), UsageFault> {
    let counted = match counted.filter(|raw| says_something(Some(raw))) {
        Some(raw) => searches_from(&strict(raw.get())?)?,
        None => None,
    };
    told.stated.searches = counted.is_some();
    let seen = || output.iter().map(Item::searches).fold(0, u64::saturating_add);
    told.usage.web_searches = counted.unwrap_or_else(seen);
    Ok(())
}
