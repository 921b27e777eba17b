//! Where a call goes, by what can be told before its body is read: its upstream, its route, its headers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::failure::CallFailure;
use super::settings::{AgentRules, CallLimits, GatewaySettings, Provider};
use crate::domain::call::{self, Api, CallRejection, Metering, Route, Widened};
use crate::domain::id::{AgentId, TaskId};
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::ports::UpstreamRequest;

/// The head of an agent's request, as it came.
#[derive(Debug, Clone)]
pub struct CallHead {
    /// Whose key it carries.
    pub agent: AgentId,
    /// The first part of its path.
    pub upstream: String,
    pub method: Method,
    /// The rest of it, with its slash.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
}

/// What kind of body a call brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    None,
    Json,
    Form,
    /// It is not read here.
    Any,
}

/// How a call is accounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Known(Route),
    /// Not metered: each call is charged this much.
    Ceiling(Usd),
}

/// A call whose head is understood.
pub struct Target {
    pub(super) head: CallHead,
    pub(super) provider: Arc<Provider>,
    pub(super) rules: Arc<AgentRules>,
    pub(super) limits: CallLimits,
    pub(super) way: Way,
    pub(super) task: TaskId,
    /// What its headers lift of its model's limits.
    pub(super) widened: Widened,
    /// What is forwarded of its headers, our credential among them.
    forwarded: HeaderMap,
    path_and_query: String,
}

const TASK: HeaderName = HeaderName::from_static("x-backstop-task");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

impl Target {
    pub(super) fn resolve(settings: &GatewaySettings, head: CallHead) -> Result<Self, CallFailure> {
        let rules = settings.agents.get(&head.agent).ok_or(Rejection::BadCredential)?;
        let provider = settings.providers.get(&head.upstream).ok_or_else(|| {
            let name = head.upstream.chars().take(64).collect();
            CallRejection::UnknownUpstream(name)
        })?;
        let way = way(provider, &head)?;
        // What is forwarded as it is, and answered so, shows its models and tools to nobody (D1).
        if matches!(way, Way::Ceiling(_)) && rules.manifest.is_some() && !provider.ungated_ceilings {
            return Err(CallRejection::RouteNotGated(head.path.chars().take(128).collect()).into());
        }
        if let Some(encoding) = head.headers.get(CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            let named = String::from_utf8_lossy(encoding.as_bytes()).chars().take(64).collect();
            return Err(CallRejection::Encoded(named).into());
        }
        let task = task(&head.headers)?;
        let (mut forwarded, query, widened) = match way {
            Way::Known(route) => known(route, &head, rules)?,
            Way::Ceiling(_) => (as_declared(&head.headers), head.query.clone(), Widened::default()),
        };
        forwarded.insert(ACCEPT_ENCODING, IDENTITY);
        if let Some((name, value)) = &provider.credential {
            forwarded.insert(name.clone(), value.clone());
        }
        let path_and_query = match &query {
            Some(query) => format!("{}?{query}", head.path),
            None => head.path.clone(),
        };
        Ok(Self {
            provider: Arc::clone(provider),
            rules: Arc::clone(rules),
            limits: settings.limits,
            way,
            task,
            widened,
            forwarded,
            path_and_query,
            head,
        })
    }

    /// The headers of the request, as they came.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub fn agent(&self) -> &AgentId {
        &self.head.agent
    }

    /// The name of its upstream, as failures tell it.
    pub(super) fn upstream(&self) -> String {
        self.provider.name.to_string()
    }

    /// Whose forms its errors have.
    pub fn api(&self) -> Api {
        self.provider.api
    }

    pub fn body_kind(&self) -> BodyKind {
        match self.way {
            Way::Ceiling(_) => BodyKind::Any,
            Way::Known(_) if self.head.method != Method::POST => BodyKind::None,
            // The one route whose requests come in both forms.
            Way::Known(Route::ImageEdits) if self.is_json() => BodyKind::Json,
            Way::Known(route) if route.takes_form() => BodyKind::Form,
            Way::Known(_) => BodyKind::Json,
        }
    }

    fn is_json(&self) -> bool {
        let essence = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            text.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .eq_ignore_ascii_case("application/json")
        };
        self.content_type().is_some_and(essence)
    }

    pub(super) fn is_free(&self) -> bool {
        matches!(self.way, Way::Known(route) if route.metering() == Metering::Free)
    }

    /// As metrics and logs name it.
    pub(super) fn route_name(&self) -> &'static str {
        match self.way {
            Way::Known(route) => route.name(),
            Way::Ceiling(_) => "ceiling",
        }
    }

    pub(super) fn content_type(&self) -> Option<&HeaderValue> {
        self.head.headers.get(CONTENT_TYPE)
    }

    /// The request to its provider. To be asked once: the headers are handed over.
    pub(super) fn request(&mut self, body: Bytes) -> UpstreamRequest {
        UpstreamRequest {
            method: self.head.method.clone(),
            path_and_query: std::mem::take(&mut self.path_and_query),
            headers: std::mem::take(&mut self.forwarded),
            body,
        }
    }
}

fn way(provider: &Provider, head: &CallHead) -> Result<Way, CallFailure> {
    let found = Route::find(provider.api, head.method.as_str(), &head.path).and_then(|route| {
        let unknown = || CallRejection::RouteNotMetered {
            method: head.method.as_str().to_owned(),
            path: head.path.clone(),
        };
        route
            .is_known_at(&provider.service)
            .then_some(route)
            .ok_or_else(unknown)
    });
    match found {
        Ok(route) => Ok(Way::Known(route)),
        Err(unknown) => match provider.ceiling(&head.path)? {
            Some(ceiling) => Ok(Way::Ceiling(ceiling)),
            None => Err(unknown.into()),
        },
    }
}

fn task(headers: &HeaderMap) -> Result<TaskId, Rejection> {
    let mut named = headers.get_all(TASK).iter();
    let problem = |problem: String| Rejection::Field {
        field: TASK.as_str().to_owned(),
        problem,
    };
    match (named.next(), named.next()) {
        (None, _) => Ok(TaskId::none()),
        (Some(_), Some(_)) => Err(problem("it is there twice".to_owned())),
        (Some(name), None) => {
            let name = name.to_str().map_err(|_| problem("it is not plain text".to_owned()))?;
            TaskId::new(name.trim()).map_err(|error| problem(error.to_string()))
        }
    }
}

/// What is forwarded of a call on a route that is known: headers and query by their lists.
fn known(
    route: Route,
    head: &CallHead,
    rules: &AgentRules,
) -> Result<(HeaderMap, Option<String>, Widened), CallRejection> {
    // What is no plain text is on no list of values, and in no header that passes as it is.
    let plain = head
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let passed = call::forward(route.api(), plain, &rules.calls)?;
    let mut forwarded = HeaderMap::with_capacity(passed.headers.len() + 4);
    for (name, value) in passed.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            forwarded.append(name, value);
        }
    }
    let query = call::query(route, head.query.as_deref())?;
    Ok((forwarded, query, passed.widened))
}

/// What goes with a request that its operator lets through as it is.
fn as_declared(headers: &HeaderMap) -> HeaderMap {
    let passed = [
        CONTENT_TYPE,
        ACCEPT,
        HeaderName::from_static("anthropic-version"),
        HeaderName::from_static("anthropic-beta"),
        HeaderName::from_static("openai-beta"),
    ];
    let mut forwarded = HeaderMap::with_capacity(8);
    for name in passed {
        for value in headers.get_all(&name) {
            forwarded.append(name.clone(), value.clone());
        }
    }
    forwarded
}
