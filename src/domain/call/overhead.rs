//! What templates add to the text of a request: counted on top of its bytes.
//!
//! OpenAI documents 3 tokens a message, 1 a name and 3 for the answer's start; Anthropic up to 346 once for
//! tools, and 245 to 735 for each tool of its own making. Each is taken several times over, for the models
//! of which nothing is documented; the braces and keys of a message alone are more bytes than its template
//! has tokens.

use super::walk::Found;

const CALL: u64 = 64;
/// A value of a schema or of arguments: `1,` is two bytes, and three tokens in `1, 2` as in `1 | 2`.
const VALUE: u64 = 2;
pub(super) const MESSAGE: u64 = 8;
/// Once, if any tool is on offer or the form of the output is set.
const TOOLS: u64 = 1_024;
const TOOL: u64 = 32;
/// A tool whose definition the provider writes.
const BUILTIN: u64 = 4_096;

/// Tokens that templates add at most.
pub(super) fn overhead(found: &Found, has_form: bool) -> u64 {
    let tools = found.definitions.saturating_mul(TOOL);
    let once = if has_form || found.definitions > 0 || !found.tools.is_empty() {
        TOOLS
    } else {
        0
    };
    CALL.saturating_add(found.messages.saturating_mul(MESSAGE))
        .saturating_add(tools)
        .saturating_add(found.builtin.saturating_mul(BUILTIN))
        .saturating_add(found.values.saturating_mul(VALUE))
        .saturating_add(once)
}
