//! Which headers and query parameters of a request go upstream.
//!
//! A list of those that do, so that one that nobody here has weighed goes no further: credentials and
//! account headers are the gateway's to set, what belongs to one connection ends with it, and the rest is
//! dropped. Headers that switch features on are listed by value, since a feature can have a price: an
//! unknown one is refused by name rather than dropped, because without it the request means something else.

use super::asked::Widened;
use super::rejection::CallRejection;
use super::route::{Api, Metering, Route};
use super::rules::CallRules;

/// What goes upstream of a request's headers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// Names in lower case. Credentials, host, length and encoding are set by whoever sends them.
    pub headers: Vec<(String, String)>,
    /// What they widen: to be noted in the call's [`Asked`](super::Asked).
    pub widened: Widened,
}

/// Headers that bear no cost and go upstream as they are.
const PASS: &[&str] = &[
    "accept",
    "user-agent",
    "x-client-request-id",
    "x-app",
    "anthropic-dangerous-direct-browser-access",
];

/// How the SDKs describe themselves.
const PASS_PREFIX: &str = "x-stainless-";

/// Versions of Anthropic's API whose requests have the fields that are listed here.
const VERSIONS: &[&str] = &["2023-01-01", "2023-06-01", "2026-10-21"];

/// Features of `anthropic-beta` that cost nothing by themselves: what they add to a request is in its body,
/// where it is weighed. Those of the `anthropic` SDK 2.10.0 for messages, the older ones that its
/// documentation names, and those that Claude Code 2.1 sends to a base URL that is not Anthropic's: that it is
/// Claude Code, how far a cached prefix is shared, that a system message may stand within a conversation, and that
/// thinking is not shown ("UI-only", says its maintainer; it is thought and billed all the same).
const ANTHROPIC_BETAS: &[&str] = &[
    "advanced-tool-use-2025-11-20",
    "advisor-tool-2026-03-01",
    "cache-diagnosis-2026-04-07",
    "claude-code-20250219",
    "code-execution-2025-05-22",
    "code-execution-2025-08-25",
    "compact-2026-01-12",
    "compact-2026-09-04",
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "effort-2025-11-24",
    "extended-cache-ttl-2025-04-11",
    "fallback-credit-2026-06-01",
    "fallback-credit-2026-07-01",
    "fast-mode-2026-02-01",
    "files-api-2025-04-14",
    "fine-grained-tool-streaming-2025-05-14",
    "inline-tools-2026-09-15",
    "interleaved-thinking-2025-05-14",
    "mcp-client-2025-04-04",
    "mcp-client-2025-11-20",
    "mcp-client-2026-09-15",
    "message-threads-2026-08-12",
    "mid-conversation-output-config-2026-07-01",
    "mid-conversation-system-2026-04-07",
    "mid-conversation-system-clear-at-2026-08-21",
    "mid-conversation-tool-changes-2026-07-01",
    "model-context-window-exceeded-2025-08-26",
    "output-128k-2025-02-19",
    "output-300k-2026-03-24",
    "pdfs-2024-09-25",
    "prompt-caching-2024-07-31",
    "prompt-caching-scope-2026-01-05",
    "redact-thinking-2026-02-12",
    "search-results-2025-06-09",
    "server-side-fallback-2026-06-01",
    "server-side-fallback-2026-07-01",
    "skills-2025-10-02",
    "structured-outputs-2025-11-13",
    "task-budgets-2026-03-13",
    "thinking-binding-controls-2026-08-01",
    "thinking-display-updates-2026-08-18",
    "thinking-token-count-2026-05-13",
    "token-counting-2024-11-01",
    "token-efficient-tools-2025-02-19",
    "tool-search-tool-2025-10-19",
    "web-fetch-2025-09-10",
];

/// Features of `OpenAI-Beta`. They belong to other routes, and do nothing on these.
const OPENAI_BETAS: &[&str] = &["assistants=v1", "assistants=v2", "responses=v1"];

/// Features that lift a model's own limits, and to what at most.
const WIDENS: &[(&str, Widened)] = &[
    (
        "context-1m-2025-08-07",
        Widened {
            context: Some(1_000_000),
            output: None,
        },
    ),
    (
        "output-128k-2025-02-19",
        Widened {
            context: None,
            output: Some(131_072),
        },
    ),
    (
        "output-300k-2026-03-24",
        Widened {
            context: None,
            output: Some(307_200),
        },
    ),
];

/// The longest output that any header lets a model write.
#[cfg(test)]
pub(super) fn widest_output() -> Option<u64> {
    WIDENS.iter().filter_map(|(_, widened)| widened.output).max()
}

/// What goes upstream of these headers.
///
/// # Errors
/// The body is encoded, or a header asks for something that may change the price.
pub fn forward<'h>(
    api: Api,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    rules: &CallRules,
) -> Result<Forwarded, CallRejection> {
    let mut forwarded = Forwarded::default();
    let mut betas: Vec<&str> = Vec::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        match (name.as_str(), api) {
            ("content-encoding", _) if !value.trim().eq_ignore_ascii_case("identity") => {
                return Err(CallRejection::Encoded(shown(value)));
            }
            ("anthropic-version", Api::Anthropic) => {
                let version = value.trim();
                if !VERSIONS.contains(&version) && !rules.free_betas.contains(version) {
                    return Err(refused("anthropic-version", version));
                }
                forwarded.headers.push((name, version.to_owned()));
            }
            ("anthropic-beta", Api::Anthropic) => {
                betas.extend(listed("anthropic-beta", value, ANTHROPIC_BETAS, rules)?);
            }
            ("openai-beta", Api::Openai) => betas.extend(listed("openai-beta", value, OPENAI_BETAS, rules)?),
            ("content-type", _) => {
                // The first one is what the body was read by.
                let is_there = forwarded.headers.iter().any(|(name, _)| name == "content-type");
                forwarded
                    .headers
                    .extend((!is_there).then(|| (name, content_type(value))));
            }
            (pass, _) if PASS.contains(&pass) || pass.starts_with(PASS_PREFIX) => {
                forwarded.headers.push((name, value.to_owned()));
            }
            _ => {}
        }
    }
    for (beta, widened) in WIDENS.iter().filter(|(beta, _)| betas.contains(beta)) {
        debug_assert!(ANTHROPIC_BETAS.contains(beta), "it is listed");
        forwarded.widened.context = forwarded.widened.context.max(widened.context);
        forwarded.widened.output = forwarded.widened.output.max(widened.output);
    }
    if !betas.is_empty() {
        let name = match api {
            Api::Openai => "openai-beta",
            Api::Anthropic => "anthropic-beta",
        };
        forwarded.headers.push((name.to_owned(), betas.join(",")));
    }
    Ok(forwarded)
}

/// JSON is UTF-8 and has no parameters; a form's boundary is one.
fn content_type(value: &str) -> String {
    const JSON: &str = "application/json";
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(JSON) {
        JSON.to_owned()
    } else {
        value.to_owned()
    }
}

/// The values of a header that lists features.
fn listed<'v>(
    name: &'static str,
    value: &'v str,
    known: &[&str],
    rules: &CallRules,
) -> Result<Vec<&'v str>, CallRejection> {
    let values: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect();
    let is_known = |value: &&str| known.contains(value) || rules.free_betas.contains(*value);
    match values.iter().find(|value| !is_known(value)) {
        Some(unknown) => Err(refused(name, unknown)),
        None => Ok(values),
    }
}

fn refused(name: &'static str, value: &str) -> CallRejection {
    CallRejection::Header {
        name,
        value: shown(value),
    }
}

fn shown(value: &str) -> String {
    value.chars().take(64).collect()
}

/// Parameters that page through a list.
const PAGING: &[&str] = &["limit", "after", "before", "after_id", "before_id", "order"];

/// The query that goes upstream.
///
/// # Errors
/// A parameter is not known on this route, or two servers could read it differently.
pub fn query(route: Route, query: Option<&str>) -> Result<Option<String>, CallRejection> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(None);
    };
    let lists = matches!(route, Route::OpenaiModels | Route::AnthropicModels) && route.metering() == Metering::Free;
    let mut seen: Vec<&str> = Vec::new();
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let is_plain = value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
        let is_known = match name {
            "beta" => route.api() == Api::Anthropic && value == "true",
            _ => lists && PAGING.contains(&name) && !value.is_empty(),
        };
        if !is_known || !is_plain || seen.contains(&name) {
            return Err(CallRejection::QueryNotKnown(shown(name)));
        }
        seen.push(name);
    }
    Ok(Some(query.to_owned()))
}
