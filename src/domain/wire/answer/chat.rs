//! A chat completion, a completion, and their chunks.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Count, List, Object, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Chat<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    pub model: Text<'a>,
    pub service_tier: Text<'a>,
    pub choices: List<Choice<'a>>,
    pub usage: Option<&'a RawValue>,
    pub moderation: Option<&'a RawValue>,
    pub error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice<'a> {
    pub index: Count,
    /// What a chunk adds.
    #[serde(borrow)]
    pub delta: Object<Said<'a>>,
    /// What a whole answer says.
    pub message: Object<Said<'a>>,
    /// What a completion says.
    pub text: Option<&'a RawValue>,
    pub finish_reason: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Said<'a> {
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    pub refusal: Option<&'a RawValue>,
    /// Not OpenAI's own: the chain of thought, as several that copy the form send it.
    pub reasoning_content: Option<&'a RawValue>,
    /// The same, or a summary of it, whose tokens are not those that were billed.
    pub reasoning: Option<&'a RawValue>,
    pub audio: Option<&'a RawValue>,
    pub tool_calls: List<ToolCall<'a>>,
    pub function_call: Object<Function<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ToolCall<'a> {
    pub index: Count,
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(rename = "type")]
    pub kind: Text<'a>,
    pub function: Object<Function<'a>>,
    pub custom: Object<Function<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Function<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
    pub arguments: Option<&'a RawValue>,
    /// What a custom tool has for arguments.
    pub input: Option<&'a RawValue>,
}
