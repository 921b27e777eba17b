//! `POST /v1/tools/authorize`: an agent asks before it uses a tool.
//!
//! The answer is the manifest's (**D1**: no manifest, no tool), then the agent's state, then the rate's,
//! in this order: what is refused for another reason uses nothing of a rate. The state is read from the
//! store at each time, so that a containment which another process wrote binds the next question.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::agent::{AgentApi, Caller, refused};
use super::body::{self, BodyLimits};
use super::error::Failure;
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, TaskId};
use crate::domain::rejection::Rejection;
use crate::domain::wire::json::{JsonLimits, parse_strict};

/// Bounds of a question. The arguments of a tool may be long, but they are no upload.
const LIMITS: JsonLimits = JsonLimits {
    bytes: 1 << 20,
    depth: 64,
    values: 100_000,
};

/// Bytes of a tool's name that are looked at: longer than any that a manifest takes.
const MAX_TOOL: usize = 1024;

struct Question {
    tool: String,
    task: Option<TaskId>,
}

pub(super) async fn authorize(
    State(api): State<Arc<AgentApi>>,
    Extension(Caller(agent)): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    body::format(&headers, false)?;
    let limits = BodyLimits {
        max_bytes: api.limits.max_bytes.min(LIMITS.bytes),
        ..api.limits
    };
    let bytes = body::read(body, limits).await?;
    let question = {
        let _room = api.desk.room_for(&bytes).await;
        question(&bytes)?
    };
    let permit = match decide(&api, &agent, &question.tool).await {
        Ok(permit) => permit,
        Err(Failure::Rejected(rejection)) => {
            let evidence = json!({
                "code": rejection.code(),
                "tool": question.tool.chars().take(64).collect::<String>(),
                "task": question.task,
            });
            return Err(refused(&api, &agent, rejection, &evidence));
        }
        Err(failure) => return Err(failure),
    };
    Ok(Json(json!({
        "decision": "allow",
        "tool": permit.tool,
        "read_only": permit.read_only,
        "remaining": permit.remaining,
        "requests": permit.rate.requests(),
        "per_seconds": permit.rate.per_seconds(),
    })))
}

async fn decide(api: &AgentApi, agent: &AgentId, tool: &str) -> Result<crate::tools::Permit, Failure> {
    let call = |why| Failure::from(Rejection::Call(why));
    api.tools.check(agent, tool).map_err(call)?;
    let state = api.store.agent(agent).await?;
    let (since, reason) = (state.since, state.reason);
    match state.status {
        AgentStatus::Active => {}
        AgentStatus::Paused => return Err(Rejection::Paused { since, reason }.into()),
        AgentStatus::Contained | AgentStatus::Restoring => return Err(Rejection::Contained { since, reason }.into()),
    }
    api.tools.take(agent, tool).map_err(call)
}

/// `{"tool": "…"}`, with `task` and `arguments` if the caller likes. The arguments are read as strictly as
/// the rest, and ignored for now.
fn question(bytes: &[u8]) -> Result<Question, Rejection> {
    const KNOWN: [&str; 3] = ["tool", "task", "arguments"];
    let parsed = parse_strict(bytes, &LIMITS).map_err(|problem| Rejection::Malformed(problem.to_string()))?;
    let Value::Object(fields) = parsed else {
        return Err(Rejection::Malformed("a question is a JSON object".to_owned()));
    };
    if let Some(unknown) = fields.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        let name: String = unknown.chars().take(64).collect();
        return Err(field(
            &name,
            format!("this field is not known; there are {}", KNOWN.join(", ")),
        ));
    }
    let Some(Value::String(tool)) = fields.get("tool") else {
        return Err(field("tool", "must be there, as text".to_owned()));
    };
    if tool.is_empty() || tool.len() > MAX_TOOL {
        return Err(field("tool", format!("must be 1 to {MAX_TOOL} bytes")));
    }
    Ok(Question {
        task: task(&fields)?,
        tool: tool.clone(),
    })
}

fn task(fields: &Map<String, Value>) -> Result<Option<TaskId>, Rejection> {
    match fields.get("task") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => TaskId::new(text)
            .map(Some)
            .map_err(|error| field("task", error.to_string())),
        Some(_) => Err(field("task", "must be a text".to_owned())),
    }
}

fn field(name: &str, problem: String) -> Rejection {
    Rejection::Field {
        field: name.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<(String, Option<String>), &'static str> {
        let question = question(text.as_bytes()).map_err(|rejection| rejection.code())?;
        Ok((question.tool, question.task.map(String::from)))
    }

    #[test]
    fn a_question_is_read_strictly() {
        assert_eq!(ask(r#"{"tool": "search"}"#), Ok(("search".to_owned(), None)));
        let whole = r#"{"tool": "search", "task": "t1", "arguments": {"q": [1, {"deep": null}]}}"#;
        assert_eq!(ask(whole), Ok(("search".to_owned(), Some("t1".to_owned()))));
        assert!(ask(r#"{"tool": "search", "arguments": "any"}"#).is_ok());
        for (wrong, code) in [
            ("", "malformed_body"),
            ("[]", "malformed_body"),
            (r#"{"tool": "search", "tool": "shell"}"#, "malformed_body"),
            (r#"{"tool": "search", "arguments": {"a": 1, "a": 2}}"#, "malformed_body"),
            ("{}", "invalid_field"),
            (r#"{"tool": ""}"#, "invalid_field"),
            (r#"{"tool": null}"#, "invalid_field"),
            (r#"{"tool": ["search"]}"#, "invalid_field"),
            (r#"{"tool": "search", "Tool": "shell"}"#, "invalid_field"),
            (r#"{"tool": "search", "task": "two words"}"#, "invalid_field"),
            (r#"{"tool": "search", "task": 1}"#, "invalid_field"),
        ] {
            assert_eq!(ask(wrong), Err(code), "{wrong}");
        }
        let long = format!(r#"{{"tool": "{}"}}"#, "x".repeat(1025));
        assert_eq!(ask(&long), Err("invalid_field"));
        let deep = format!(
            r#"{{"tool": "search", "arguments": {}1{}}}"#,
            "[".repeat(70),
            "]".repeat(70)
        );
        assert_eq!(ask(&deep), Err("malformed_body"));
    }
}
