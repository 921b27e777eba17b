//! A provider for tests: it answers as the OpenAI and the Anthropic API do, counts every call and what it
//! bills for it, and fails as providers fail.
//!
//! A call is counted and billed when its request is there, before a byte is answered: whatever becomes
//! of the answer, this provider wants its money. It knows its own credential and refuses any other, and
//! complains of whatever an agent's request must not carry to a provider.

mod anthropic;
pub mod audio;
pub mod body;
pub mod manner;
mod openai;
pub mod prices;
mod responses;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstop::domain::money::Usd;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use body::{Body, Dropped, Ends, Piece, in_pieces, whole};
use manner::{Fault, Manner, Much};
use prices::{Model, Used};

use crate::harness::serve::serve;

/// The fixture's own credential at each of its APIs.
pub const OPENAI_KEY: &str = "sk-of-the-house-openai-0123456789";
pub const ANTHROPIC_KEY: &str = "sk-ant-of-the-house-0123456789";

/// What the provider counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Requests to metered routes, answered or not.
    pub calls: u64,
    /// Those of them that are on the bill.
    pub billed_calls: u64,
    /// Requests to free routes.
    pub free: u64,
    nanos: i64,
}

impl Count {
    pub fn billed(&self) -> Usd {
        Usd::from_nanos(self.nanos)
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

#[derive(Default)]
struct State {
    count: Count,
    manner: Manner,
    once: VecDeque<Fault>,
    always: Option<Fault>,
    seen: Vec<Seen>,
    /// What must not come here.
    secrets: Vec<String>,
    complaints: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    gate: watch::Sender<bool>,
    /// Metered calls so far, for those who wait for one.
    calls: watch::Sender<u64>,
    ends: Arc<Ends>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running provider; dropping it ends every connection.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            gate: watch::Sender::new(false),
            calls: watch::Sender::new(0),
            ends: Arc::default(),
        });
        let serving = Arc::clone(&shared);
        let (address, tasks) = serve(move |request| answered(Arc::clone(&serving), request)).await;
        Self {
            address,
            shared,
            _tasks: tasks,
        }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn count(&self) -> Count {
        self.shared.state().count
    }

    /// The content type and the body of its answer to whoever asks it without a gateway; `path` is the
    /// gateway's.
    pub async fn directly(&self, path: &str, body: &Value) -> (String, String) {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client can be built");
        let (upstream, path) = path[1..].split_once('/').expect("an upstream and a path");
        let url = format!("{}/{path}", self.base_url());
        let request = match body {
            Value::Null => client.get(url),
            body => client.post(url).json(body),
        };
        let request = match upstream {
            "anthropic" => request
                .header("x-api-key", ANTHROPIC_KEY)
                .header("anthropic-version", "2023-06-01"),
            _ => request.bearer_auth(OPENAI_KEY),
        };
        let answer = request.send().await.expect("the fixture answers");
        let kind = answer.headers()[CONTENT_TYPE].to_str().expect("a type").to_owned();
        (kind, answer.text().await.expect("a body"))
    }

    /// Until so many metered calls have come.
    pub async fn has_counted(&self, calls: u64) {
        let mut counted = self.shared.calls.subscribe();
        // The sender lives as long as we do.
        let _ = counted.wait_for(|count| *count >= calls).await;
    }

    /// Changes how every later request is answered.
    pub fn manner(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.shared.state().manner);
    }

    /// The next request that has no fault yet fails so.
    pub fn once(&self, fault: Fault) {
        self.shared.state().once.push_back(fault);
    }

    /// Every request fails so, until `None`.
    pub fn always(&self, fault: Option<Fault>) {
        self.shared.state().always = fault;
    }

    /// Lets go on what waits, and whatever would wait.
    pub fn open_gate(&self) {
        self.shared.gate.send_replace(true);
    }

    pub fn close_gate(&self) {
        self.shared.gate.send_replace(false);
    }

    /// Bodies in pieces that were read to their end, and those that were not.
    pub fn ends(&self) -> (u64, u64) {
        let ends = &self.shared.ends;
        (ends.whole.load(Ordering::SeqCst), ends.cut.load(Ordering::SeqCst))
    }

    /// Every request so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    pub fn last(&self) -> Seen {
        self.shared.state().seen.last().cloned().expect("a request has come")
    }

    /// No request may carry this.
    pub fn must_not_see(&self, secret: &str) {
        self.shared.state().secrets.push(secret.to_owned());
    }

    /// # Panics
    /// When a request carried what it must not.
    pub fn assert_clean(&self) {
        let complaints = &self.shared.state().complaints;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// What one call is answered with and what it costs.
struct Answered {
    model: Option<Model>,
    used: Used,
    /// With its usage, and without.
    reply: Reply,
}

/// An answer of the API.
enum Reply {
    Json(Value),
    Text(&'static str, Bytes),
    Events(Vec<String>),
}

/// What a route makes of a request.
enum Routed {
    Call(Box<Answered>),
    Free(Value),
    /// A mistake of the client's, which costs nothing.
    Wrong(u16, String),
}

/// How the usage is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    Truth,
    Nothing,
    Zero,
}

async fn answered(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let seen = Seen {
        method: head.method,
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body,
    };
    let is_anthropic = seen.path.starts_with("/v1/messages") || seen.headers.contains_key("anthropic-version");
    let (manner, fault, complaint) = {
        let mut state = shared.state();
        let complaint = complaint(&seen, is_anthropic, &state.secrets);
        state.complaints.extend(complaint.clone());
        state.seen.push(seen.clone());
        let fault = state.once.pop_front().or_else(|| state.always.clone());
        let mut manner = state.manner.clone();
        let number = state.seen.len();
        manner.id.get_or_insert_with(|| format!("fixture-{number}"));
        if manner.tool.is_none() && is_offered(&seen.body, "get_weather") {
            manner.tool = Some(("get_weather".to_owned(), json!({ "city": "Berlin" })));
        }
        (manner, fault, complaint)
    };
    if let Some(complaint) = complaint {
        return Ok(error(401, is_anthropic, &complaint));
    }
    let telling = match fault {
        Some(Fault::NoUsage) => Telling::Nothing,
        Some(Fault::ZeroUsage) => Telling::Zero,
        _ => Telling::Truth,
    };
    let answered = match route(&seen, &manner, telling).await {
        Routed::Call(answered) => *answered,
        Routed::Free(value) => {
            shared.state().count.free += 1;
            return Ok(json_answer(&value));
        }
        Routed::Wrong(status, why) => return Ok(error(status, is_anthropic, &why)),
    };
    let Some(model) = answered.model else {
        return Ok(error(404, is_anthropic, "the model does not exist"));
    };
    {
        let count = &mut shared.state().count;
        count.calls += 1;
        if fault.as_ref().is_none_or(Fault::bills) {
            count.billed_calls += 1;
            count.nanos += prices::bill(&model, &answered.used);
        }
        shared.calls.send_replace(count.calls);
    }
    let mut gate = shared.gate.subscribe();
    match fault {
        Some(Fault::Status { status, .. }) => Ok(error(status, is_anthropic, "the fixture was told to fail")),
        Some(Fault::Says(status, text)) => Ok(error(status, is_anthropic, &text)),
        Some(Fault::DropBeforeHead { .. }) => Err(Dropped),
        Some(Fault::WaitBeforeHead) => {
            let _ = gate.wait_for(|open| *open).await;
            Ok(reply(answered.reply, None, &shared))
        }
        Some(Fault::Garbage) => Ok(answer("application/json", whole("\u{1}\u{2}}{ no JSON"))),
        Some(Fault::Page) => Ok(answer("text/html", whole("<html><body>Bad luck</body></html>"))),
        Some(Fault::Huge(bytes)) => Ok(answer("application/json", whole(vec![b' '; bytes]))),
        Some(Fault::OtherObject) => Ok(json_answer(&json!({ "object": "list", "data": [] }))),
        fault => Ok(reply(answered.reply, fault, &shared)),
    }
}

/// What is wrong with a request that came here, whatever it asks for.
fn complaint(seen: &Seen, is_anthropic: bool, secrets: &[String]) -> Option<String> {
    let header = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok());
    // Anthropic takes either form, and never two.
    let sent = [header("authorization"), header("x-api-key")];
    let own = match (sent, is_anthropic) {
        ([Some(bearer), None], _) => {
            let key = if is_anthropic { ANTHROPIC_KEY } else { OPENAI_KEY };
            bearer.strip_prefix("Bearer ") == Some(key)
        }
        ([None, Some(key)], true) => key == ANTHROPIC_KEY,
        _ => false,
    };
    let path = &seen.path;
    if !own {
        return Some(format!("{path}: the credential is not the provider's own"));
    }
    let unwanted = [
        "api-key",
        "anthropic-workspace-id",
        "cookie",
        "openai-organization",
        "openai-project",
        "x-forwarded-for",
        "proxy-authorization",
    ];
    for name in seen.headers.keys() {
        if unwanted.contains(&name.as_str()) || name.as_str().starts_with("x-backstop") {
            return Some(format!("{path}: the header {name} came along"));
        }
    }
    let text = format!("{:?} {}", seen.headers, String::from_utf8_lossy(&seen.body));
    let leaked = secrets.iter().any(|secret| text.contains(secret.as_str()));
    leaked.then(|| format!("{path}: an agent's own secret came along"))
}

async fn route(seen: &Seen, manner: &Manner, telling: Telling) -> Routed {
    if seen.method == Method::GET {
        return match seen.path.strip_prefix("/v1/models") {
            Some(rest) => Routed::Free(models(rest)),
            None => Routed::Wrong(404, "there is no such path".to_owned()),
        };
    }
    match seen.path.as_str() {
        "/v1/audio/transcriptions" | "/v1/audio/translations" => audio::transcribe(seen, manner, telling).await,
        "/v1/images/edits" | "/v1/images/variations" => openai::edit_image(seen).await,
        path => {
            let Ok(asked) = serde_json::from_slice::<Value>(&seen.body) else {
                return Routed::Wrong(400, "the body is no JSON".to_owned());
            };
            match path {
                "/v1/chat/completions" => openai::chat(&asked, manner, telling),
                "/v1/completions" => openai::complete(&asked, manner, telling),
                "/v1/responses" => responses::respond(&asked, manner, telling),
                "/v1/embeddings" => openai::embed(&asked, telling),
                "/v1/images/generations" => openai::paint(&asked),
                "/v1/audio/speech" => audio::speak(&asked),
                "/v1/moderations" => Routed::Free(openai::moderate(&asked)),
                "/v1/messages" => anthropic::message(&asked, manner, telling),
                "/v1/batches" => Routed::Free(json!({ "id": "batch_1", "object": "batch", "status": "validating" })),
                "/v1/messages/count_tokens" => Routed::Free(json!({ "input_tokens": 20 })),
                _ => Routed::Wrong(404, "there is no such path".to_owned()),
            }
        }
    }
}

/// Whether a request offers the model a tool of this name; a provider that sees one it likes calls it.
fn is_offered(body: &[u8], name: &str) -> bool {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let tools = asked["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    tools
        .iter()
        .any(|tool| tool["name"] == name || tool["function"]["name"] == name)
}

fn models(rest: &str) -> Value {
    let one = |name: &str| {
        json!({ "id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fixture",
        "type": "model", "display_name": name, "created_at": "2026-01-01T00:00:00Z" })
    };
    match rest.strip_prefix('/') {
        Some(name) => one(name),
        None => {
            let all: Vec<Value> = prices::PRICED.iter().map(|model| one(model.name)).collect();
            json!({ "object": "list", "data": all, "has_more": false, "first_id": null, "last_id": null })
        }
    }
}

/// The model that a JSON request names.
fn model_of(asked: &Value) -> Option<Model> {
    prices::model(asked["model"].as_str().unwrap_or_default())
}

/// So much, the request allowing `allowed`.
fn much(much: Much, allowed: u64) -> u64 {
    match much {
        Much::Exactly(count) => count,
        Much::AllThatIsAllowed => allowed,
    }
}

/// Words of an answer, cut in pieces of a stream.
fn words(pieces: usize) -> Vec<String> {
    (0..pieces.max(1)).map(|n| format!("word{n} ")).collect()
}

fn error(status: u16, is_anthropic: bool, message: &str) -> Response<Body> {
    let body = match is_anthropic {
        true => json!({ "type": "error", "error": { "type": "api_error", "message": message } }),
        // A request that is refused before the model runs has its parameter named.
        false => {
            let param = [400, 422].contains(&status).then_some("messages");
            json!({ "error": { "message": message, "type": "server_error", "param": param, "code": null } })
        }
    };
    let mut response = json_answer(&body);
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a test's status");
    response
}

fn json_answer(value: &Value) -> Response<Body> {
    answer("application/json", whole(value.to_string()))
}

fn answer(kind: &str, body: Body) -> Response<Body> {
    Response::builder()
        .header(CONTENT_TYPE, kind)
        .header("x-request-id", "req-of-the-fixture")
        .header("openai-organization", "org-of-the-house")
        .body(body)
        .expect("the parts of a response")
}

/// An answer, whole or as the fault has it.
fn reply(reply: Reply, fault: Option<Fault>, shared: &Shared) -> Response<Body> {
    let (kind, mut pieces) = match reply {
        Reply::Json(value) => ("application/json", cut(value.to_string().into())),
        Reply::Text(kind, bytes) => (kind, cut(bytes)),
        Reply::Events(events) => {
            let data = |event: String| Piece::Data(event.into());
            ("text/event-stream", events.into_iter().map(data).collect())
        }
    };
    match fault {
        Some(Fault::DropAfter(sent)) => {
            pieces.truncate(sent);
            pieces.push(Piece::Drop);
        }
        Some(Fault::WaitAfter(sent)) => pieces.insert(sent.min(pieces.len()), Piece::Wait),
        _ => {}
    }
    answer(kind, in_pieces(pieces, shared.gate.subscribe(), &shared.ends))
}

/// A whole body in two pieces, so that it can end between them.
fn cut(bytes: Bytes) -> Vec<Piece> {
    let middle = bytes.len() / 2;
    vec![Piece::Data(bytes.slice(..middle)), Piece::Data(bytes.slice(middle..))]
}
