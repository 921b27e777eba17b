//! The gateway's edge: from an agent's request to a call, and from what becomes of it to an answer.
//!
//! A client here is a provider's SDK, so every answer that is not the provider's own has the provider's
//! form: the SDK raises the exception that fits, with our code and our sentence in it. It learns from the
//! status, `Retry-After` and `x-should-retry` whether to try again.
//!
//! No time limit of the agent side applies: a call may take as long as the gateway's own limits let it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::agent::{AgentApi, REMAINING};
use super::body;
use super::error::Failure;
use super::seats::{self, closing, seated};
use crate::domain::call::{Api, CallRejection, is_upstream_name};
use crate::domain::rejection::Rejection;
use crate::gateway::{BodyKind, CallFailure, CallHead, Failed, Reply, ReplyBody, Told};
use crate::ports::UpstreamFault;

const CALL_ID: HeaderName = HeaderName::from_static("x-backstop-call-id");
const COST: HeaderName = HeaderName::from_static("x-backstop-cost-usd");
const MAX_TOKENS: HeaderName = HeaderName::from_static("x-backstop-max-tokens");

/// Retries are what a full house is for: nothing was forwarded.
const OVERLOADED: Failure = Failure::Unavailable {
    code: "overloaded",
    message: "too many calls are under way: nothing was forwarded",
    retry_after_s: 2,
};

/// Everything below `/{upstream}/`, and whatever else no route of the agent side takes.
pub(super) async fn call(State(api): State<Arc<AgentApi>>, request: Request) -> Response {
    let path = request.uri().path();
    let (name, rest) = match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((name, _)) => (name, path.get(name.len() + 1..).unwrap_or_default()),
        None => (path.trim_start_matches('/'), ""),
    };
    let known = api.gateway.api(name);
    let agent = match api.caller(request.headers()) {
        Ok(agent) => agent,
        Err(rejection) => return refuse(known, &rejection.into(), &Told::default()),
    };
    let Some(seat) = api.seat(&agent) else {
        return closing(refuse(known, &seats::FULL, &Told::default()));
    };
    let Some(known) = known else {
        // Nobody's upstream can be there, so a config line for it is no advice.
        let rejection = if is_upstream_name(name) && rest.len() > 1 {
            CallRejection::UnknownUpstream(name.to_owned()).into()
        } else {
            Rejection::NoSuchPath
        };
        return Failure::from(rejection).into_response();
    };
    let (upstream, path) = (name.to_owned(), rest.to_owned());
    let (parts, body) = request.into_parts();
    let head = CallHead {
        agent,
        upstream,
        method: parts.method,
        path,
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
    };
    let response = match forward(&api, head, body).await {
        Ok(reply) => answer(reply),
        Err(failed) => refuse(Some(known), &failure(failed.failure), &failed.told),
    };
    seated(response, seat)
}

async fn forward(api: &AgentApi, head: CallHead, body: Body) -> Result<Reply, Failed> {
    let target = api.gateway.target(head)?;
    let shared = api.agents.load().len() > 1;
    let place = match target.body_kind() {
        BodyKind::None => None,
        _ => {
            api.shelf
                .place((target.agent(), shared), target.headers(), api.limits)
                .await?
        }
    };
    let bytes = match target.body_kind() {
        BodyKind::None => {
            let limits = body::BodyLimits {
                max_bytes: 0,
                ..api.limits
            };
            body::read(body, limits).await?
        }
        BodyKind::Json => {
            body::format(target.headers(), false)?;
            body::read(body, api.limits).await?
        }
        BodyKind::Form | BodyKind::Any => body::read(body, api.limits).await?,
    };
    // It is kept for as long as anything of the body is.
    api.gateway.call(target, body::placed(bytes, place)).await
}

/// A provider's answer.
fn answer(reply: Reply) -> Response {
    let Reply {
        status,
        headers,
        told,
        body,
    } = reply;
    let body = match body {
        ReplyBody::Whole(bytes) => Body::from(bytes),
        ReplyBody::Pieces(pieces) => Body::from_stream(pieces),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    tell(response.headers_mut(), &told);
    response
}

fn tell(headers: &mut HeaderMap, told: &Told) {
    let texts = [
        (CALL_ID, told.call.map(|call| call.to_string())),
        (REMAINING, told.remaining.map(|usd| usd.to_string())),
        (COST, told.cost.map(|usd| usd.to_string())),
    ];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(name, value);
        }
    }
    if let Some(tokens) = told.max_tokens {
        headers.insert(MAX_TOKENS, HeaderValue::from(tokens));
    }
}

/// What a call's failure is over HTTP.
fn failure(failure: CallFailure) -> Failure {
    match failure {
        CallFailure::Rejected(rejection) => rejection.into(),
        CallFailure::Unavailable(unavailable) => unavailable.into(),
        CallFailure::Store(error) => error.into(),
        CallFailure::Upstream { upstream, fault } => {
            let (status, code) = match fault {
                UpstreamFault::Unreachable => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
                UpstreamFault::Broken => (StatusCode::BAD_GATEWAY, "upstream_broken"),
                UpstreamFault::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
                UpstreamFault::TooLarge => (StatusCode::BAD_GATEWAY, "upstream_too_large"),
            };
            Failure::Upstream {
                status,
                code,
                message: format!("the upstream {upstream} {fault}"),
                // What is too large would be again, and each time it is paid for.
                may_repeat: fault != UpstreamFault::TooLarge,
            }
        }
        failure @ (CallFailure::Redirected { .. }
        | CallFailure::Unreadable { .. }
        | CallFailure::Crowded { .. }
        | CallFailure::RefusedCredential { .. }) => Failure::Upstream {
            status: match failure {
                CallFailure::Crowded { .. } => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_GATEWAY,
            },
            code: match failure {
                CallFailure::Crowded { .. } => "no_memory_for_answer",
                CallFailure::Redirected { .. } => "upstream_redirected",
                CallFailure::RefusedCredential { .. } => "upstream_refused_credential",
                _ => "upstream_unreadable",
            },
            message: failure.to_string(),
            may_repeat: false,
        },
        CallFailure::Stopping { retry_after } => Failure::Unavailable {
            code: "stopping",
            message: "the daemon is stopping: nothing was forwarded",
            retry_after_s: retry_after.as_secs(),
        },
        CallFailure::Overloaded => OVERLOADED,
        CallFailure::Internal => Failure::Internal,
    }
}

/// An answer of ours, in the provider's form where it is known whose.
fn refuse(api: Option<Api>, failure: &Failure, told: &Told) -> Response {
    let mut response = match api {
        Some(api) => failure.with_body(provider_error(api, failure)),
        None => failure.with_error(failure.to_json()),
    };
    tell(response.headers_mut(), told);
    response
}

/// OpenAI: `{"error": {"message", "type", "param", "code"}}`. Anthropic: `{"type": "error", "error":
/// {"type", "message"}}`, where further fields do no harm.
fn provider_error(api: Api, failure: &Failure) -> Value {
    let message = match failure.hint() {
        Some(hint) => format!("Backstop: {failure} ({hint})"),
        None => format!("Backstop: {failure}"),
    };
    let (status, code) = (failure.status(), failure.code());
    match api {
        Api::Openai => json!({
            "error": { "message": message, "type": openai_type(status), "param": null, "code": code }
        }),
        Api::Anthropic => json!({
            "type": "error",
            "error": { "type": anthropic_type(status), "message": message, "code": code }
        }),
    }
}

fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        402 => "insufficient_quota",
        429 => "rate_limit_exceeded",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_providers_own_form() {
        let failure = Failure::from(Rejection::NoBudget);
        let body = provider_error(Api::Openai, &failure);
        assert_eq!(body["error"]["code"], "no_budget");
        assert_eq!(body["error"]["type"], "insufficient_quota");
        assert_eq!(body["error"]["param"], Value::Null);
        let body = provider_error(Api::Anthropic, &failure);
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!("billing_error"))
        );
        let response = refuse(Some(Api::Openai), &failure, &Told::default());
        assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert!(!response.headers().contains_key("retry-after"));
    }

    #[test]
    fn what_broke_upstream_may_be_tried_again() {
        let broken = CallFailure::Upstream {
            upstream: "openai".to_owned(),
            fault: UpstreamFault::Unreachable,
        };
        let response = refuse(Some(Api::Openai), &super::failure(broken), &Told::default());
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert!(!response.headers().contains_key("x-should-retry"));
        let upstream = || "openai".to_owned();
        for (lasting, code) in [
            (CallFailure::Redirected { upstream: upstream() }, "upstream_redirected"),
            (CallFailure::Unreadable { upstream: upstream() }, "upstream_unreadable"),
            (
                CallFailure::RefusedCredential { upstream: upstream() },
                "upstream_refused_credential",
            ),
            (
                CallFailure::Upstream {
                    upstream: upstream(),
                    fault: UpstreamFault::TooLarge,
                },
                "upstream_too_large",
            ),
        ] {
            let failure = super::failure(lasting);
            assert_eq!(failure.code(), code);
            let response = refuse(Some(Api::Openai), &failure, &Told::default());
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
            assert_eq!(response.headers()["x-should-retry"], "false", "{code}");
        }
    }
}
