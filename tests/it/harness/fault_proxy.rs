//! A reverse proxy before the emulator that fails as AWS fails, and remembers what was asked.
//!
//! Requests pass through unchanged, the `Host` header included, so that their signatures hold. A rule
//! picks requests by action and by a value that they name, and answers, drops or loses them. What
//! the emulator cannot show (an inactive key, a dry run, an exact filter) is asserted on the record.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use percent_encoding::percent_decode_str;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::serve::serve;
use super::weather::{Gust, Weather};

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// AWS refuses it under this code, in the shape of its service.
    Refuse {
        status: u16,
        code: &'static str,
        message: &'static str,
    },
    /// A page that no SDK can read, under this status, as a load balancer sends it.
    Html(u16),
    /// AWS's answer, word for word; it is not carried out.
    Answer(&'static str),
    /// The same, of a service that answers in JSON.
    Json(serde_json::Value),
    /// What this makes of the request; it is not carried out.
    Reckon(Reckon),
    /// It is neither carried out nor answered.
    Silence,
    /// The connection ends; it is not carried out.
    Reset,
    /// It is carried out, and the connection ends before the answer.
    LoseReply,
}

/// Makes AWS's answer from a request.
#[derive(Clone)]
pub struct Reckon(Arc<dyn Fn(&Asked) -> String + Send + Sync>);

impl std::fmt::Debug for Reckon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reckon")
    }
}

impl Fault {
    pub fn reckon(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        Self::Reckon(Reckon(Arc::new(answer)))
    }

    /// EC2's throttle.
    pub fn throttle() -> Self {
        Self::Refuse {
            status: 503,
            code: "RequestLimitExceeded",
            message: "Request limit exceeded.",
        }
    }

    /// What EC2 says of an instance that is protected against being stopped.
    pub fn protected() -> Self {
        Self::Refuse {
            status: 400,
            code: "OperationNotPermitted",
            message: "The instance may not be stopped. Modify its 'disableApiStop' instance attribute and try again.",
        }
    }
}

/// Which requests fail, how, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    action: String,
    naming: Option<String>,
    region: Option<String>,
    fault: Fault,
    left: Option<usize>,
    skip: usize,
}

impl Rule {
    /// Every request of that action.
    pub fn on(action: &str, fault: Fault) -> Self {
        Self {
            action: action.to_owned(),
            naming: None,
            region: None,
            fault,
            left: None,
            skip: 0,
        }
    }

    /// Only those with a parameter of that value.
    pub fn naming(mut self, value: &str) -> Self {
        self.naming = Some(value.to_owned());
        self
    }

    /// Only those signed for that region.
    pub fn in_region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    /// Only the first so many of them.
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// Not the first so many of them.
    pub fn after(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Whether it concerns the request; counts the request if so.
    fn takes(&mut self, asked: &Asked) -> bool {
        let is_concerned = self.action == asked.action
            && self.region.as_ref().is_none_or(|region| *region == asked.region)
            && self
                .naming
                .as_ref()
                .is_none_or(|value| asked.params.values().any(|one| one == value));
        if !is_concerned || self.left == Some(0) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        true
    }
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub service: String,
    pub region: String,
    pub action: String,
    /// The parameters of the query protocol, decoded; of JSON every text and number by its path.
    pub params: BTreeMap<String, String>,
    /// Of a service that is asked in JSON, the whole body.
    pub json: Option<serde_json::Value>,
    /// Of one that is asked by paths: the method, and the path with its query.
    pub rest: Option<(String, String)>,
    /// Whether it reached the emulator.
    pub carried_out: bool,
}

impl Asked {
    fn read(head: &hyper::http::request::Parts, body: &[u8]) -> Self {
        let header = |name: &str| {
            head.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        // Credential=KEY/DATE/REGION/SERVICE/aws4_request
        let scope = header("authorization").split("Credential=").nth(1).unwrap_or_default();
        let mut scope = scope.split([',', ' ']).next().unwrap_or_default().split('/').skip(2);
        let region = scope.next().unwrap_or_default().to_owned();
        let service = scope.next().unwrap_or_default().to_owned();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let target = header("x-amz-target").rsplit('.').next().unwrap_or_default();
        let rest = (service == "lambda").then(|| (head.method.to_string(), path.to_owned()));
        let params = match (&json, &rest) {
            (_, Some((_, path))) => form(path.split_once('?').map_or("", |(_, query)| query)),
            (Some(json), None) => plain(json),
            (None, None) => form(&String::from_utf8_lossy(body)),
        };
        let action = match &rest {
            Some((method, path)) => lambda_action(method, path).to_owned(),
            None if target.is_empty() => params.get("Action").cloned().unwrap_or_default(),
            None => target.to_owned(),
        };
        Self {
            service,
            region,
            action,
            params,
            json,
            rest,
            carried_out: false,
        }
    }

    /// The values of a list in JSON, such as `tasks.0`, `tasks.1`.
    pub fn numbered(&self, name: &str) -> Vec<String> {
        (0..)
            .map_while(|n: usize| self.params.get(&format!("{name}.{n}")).cloned())
            .collect()
    }

    /// The function that the path of a request to Lambda names.
    ///
    /// # Panics
    /// When it names none.
    pub fn function(&self) -> String {
        let path = self.rest.as_ref().map_or("", |(_, path)| path.as_str());
        let bare = path.split('?').next().unwrap_or_default();
        // Its tags are asked for by its ARN.
        let name = bare.split("/functions/").nth(1).or_else(|| bare.split("/tags/").nth(1));
        let name = name
            .and_then(|rest| rest.split('/').next())
            .filter(|name| !name.is_empty());
        let name = decode(name.unwrap_or_else(|| panic!("{path} names no function")));
        name.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// The values of a list parameter, such as `InstanceId.1`, `InstanceId.2`.
    pub fn list(&self, name: &str) -> Vec<&str> {
        (1..)
            .map_while(|n| self.params.get(&format!("{name}.{n}")))
            .map(String::as_str)
            .collect()
    }
}

fn form(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Every text and number of a document by its path: `LookupAttributes.0.AttributeValue`.
fn plain(json: &serde_json::Value) -> BTreeMap<String, String> {
    use serde_json::Value;
    fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
        let below = |name: &str| {
            if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            }
        };
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, one)| walk(&below(name), one, found)),
            Value::Array(list) => (0..)
                .zip(list)
                .for_each(|(n, one): (u32, _)| walk(&below(&n.to_string()), one, found)),
            Value::String(text) => drop(found.insert(path.to_owned(), text.clone())),
            Value::Number(number) => drop(found.insert(path.to_owned(), number.to_string())),
            Value::Bool(_) | Value::Null => {}
        }
    }
    let mut found = BTreeMap::new();
    walk("", json, &mut found);
    found
}

/// What Lambda calls a request for a path.
fn lambda_action(method: &str, path: &str) -> &'static str {
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    match (method, path.rsplit('/').next().unwrap_or_default()) {
        ("GET", "functions") => "ListFunctions",
        ("DELETE", "provisioned-concurrency") => "DeleteProvisionedConcurrencyConfig",
        ("PUT", "provisioned-concurrency") => "PutProvisionedConcurrencyConfig",
        ("GET", "concurrency") => "GetFunctionConcurrency",
        ("GET", _) if path.contains("/tags/") => "ListTags",
        ("GET", "provisioned-concurrency") => "ListProvisionedConcurrencyConfigs",
        ("PUT", "concurrency") => "PutFunctionConcurrency",
        ("DELETE", "concurrency") => "DeleteFunctionConcurrency",
        ("GET", _) => "GetFunction",
        _ => "",
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    weather: Option<Weather>,
    trap: Option<Trap>,
    asked: Vec<Asked>,
}

impl State {
    /// What becomes of a request, and how late it is answered. What a rule answers in AWS's place meets the weather
    /// too; any other rule goes before it.
    fn judge(&mut self, asked: &Asked) -> (Option<Fault>, Duration) {
        let mut rules = self.rules.iter_mut();
        let ruled = rules.find_map(|rule| rule.takes(asked).then(|| rule.fault.clone()));
        let answers = matches!(ruled, None | Some(Fault::Answer(_) | Fault::Json(_)));
        let weather = self.weather.as_mut().filter(|_| answers);
        match weather.and_then(|weather| weather.gust(asked)) {
            Some(Gust::Fault(fault)) => (Some(fault), Duration::ZERO),
            Some(Gust::Late(time)) => (ruled, time),
            None => (ruled, Duration::ZERO),
        }
    }

    /// Whether the trap closes on this request, and whether it is carried out before.
    fn trapped(&mut self) -> Option<bool> {
        let trap = self.trap.as_mut()?;
        trap.left = trap.left.saturating_sub(1);
        if trap.left > 0 {
            return None;
        }
        self.trap.take().map(|trap| trap.is_carried_out)
    }
}

/// A request that is never answered, so that whoever asked can die in the middle of it.
#[derive(Debug)]
struct Trap {
    left: usize,
    is_carried_out: bool,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    http: reqwest::Client,
    state: Mutex<State>,
    sprung: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy; dropping it ends every connection.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
struct Dropped;

impl FaultProxy {
    /// Passes everything on to `upstream`, until told otherwise.
    pub async fn start(upstream: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(120))
            .no_proxy()
            .build()
            .expect("a client without settings can be built");
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            http,
            state: Mutex::default(),
            sprung: Notify::new(),
        });
        let serving = Arc::clone(&shared);
        let (address, tasks) = serve(move |request| answer(Arc::clone(&serving), request)).await;
        Self {
            address,
            shared,
            _tasks: tasks,
        }
    }

    /// Where an SDK client sends its requests.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule; of several that concern a request the first decides.
    pub fn inject(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Takes all rules away.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
    }

    /// From here so many of a hundred calls fail, in all the ways in which AWS fails; `None` ends it. What the weather
    /// was before.
    pub fn weather(&self, weather: Option<Weather>) -> Option<Weather> {
        std::mem::replace(&mut self.shared.state().weather, weather)
    }

    /// Sets a trap: the request of that number from now on, counted from 1, is never answered. Whether it is carried
    /// out is up to the caller. [`Self::sprung`] tells when it came.
    pub fn set_trap(&self, number: usize, is_carried_out: bool) {
        self.shared.state().trap = Some(Trap {
            left: number,
            is_carried_out,
        });
    }

    /// Until the trap has closed.
    pub async fn sprung(&self) {
        self.shared.sprung.notified().await;
    }

    /// Takes a trap away that has not closed.
    pub fn disarm(&self) {
        self.shared.state().trap = None;
    }

    /// Everything that was asked since the last time, in the order of arrival.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.state().asked)
    }

    /// How many requests of an action there were since then.
    pub fn count(&self, action: &str) -> usize {
        let state = self.shared.state();
        state.asked.iter().filter(|one| one.action == action).count()
    }

    /// The same, of one action only.
    pub fn take_action(&self, action: &str) -> Vec<Asked> {
        let mut asked = self.take_asked();
        asked.retain(|one| one.action == action);
        asked
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let mut asked = Asked::read(&head, &body);
    let service = asked.service.clone();

    let mut reckoned = None;
    let (fault, late, trapped) = {
        let mut state = shared.state();
        let trapped = state.trapped();
        let (fault, late) = match trapped {
            Some(true) => (None, Duration::ZERO),
            Some(false) => (Some(Fault::Silence), Duration::ZERO),
            None => state.judge(&asked),
        };
        asked.carried_out = matches!(fault, None | Some(Fault::LoseReply));
        // What is made of it is made before it is filed.
        let fault = match fault {
            Some(Fault::Reckon(Reckon(answer))) => {
                reckoned = Some(answer(&asked));
                None
            }
            other => other,
        };
        asked.carried_out &= reckoned.is_none();
        state.asked.push(asked);
        (fault, late, trapped)
    };
    if trapped == Some(false) {
        shared.sprung.notify_one();
    }
    tokio::time::sleep(late).await;
    if let Some(body) = reckoned {
        return Ok(page_of(200, "text/xml", body));
    }
    match fault {
        Some(Fault::Refuse { status, code, message }) => return Ok(refusal(&service, status, code, message)),
        Some(Fault::Html(status)) => {
            let page = "<!DOCTYPE html><html><body><h1>Something & nothing</h1></body></html>";
            return Ok(page_of(status, "text/html", page.to_owned()));
        }
        Some(Fault::Answer(body)) => return Ok(page_of(200, "text/xml", body.to_owned())),
        Some(Fault::Json(body)) => return Ok(page_of(200, "application/json", body.to_string())),
        Some(Fault::Silence) => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
        Some(Fault::Reset) => return Err(Dropped),
        Some(Fault::LoseReply | Fault::Reckon(_)) | None => {}
    }

    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{}{path}", shared.upstream);
    let upstream = shared.http.request(head.method, url).headers(head.headers).body(body);
    let reply = upstream.send().await.map_err(|_| Dropped)?;
    let mut response = Response::builder().status(reply.status());
    for (name, value) in reply.headers() {
        if !matches!(name.as_str(), "connection" | "transfer-encoding" | "content-length") {
            response = response.header(name, value);
        }
    }
    let bytes = reply.bytes().await.map_err(|_| Dropped)?;
    if trapped.is_some() {
        shared.sprung.notify_one();
        let never: Infallible = std::future::pending().await;
        match never {}
    }
    if matches!(fault, Some(Fault::LoseReply)) {
        return Err(Dropped);
    }
    Ok(response.body(Full::new(bytes)).expect("the parts of a response"))
}

/// An error as the service writes it.
fn refusal(service: &str, status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    if matches!(
        service,
        "ecs" | "application-autoscaling" | "cloudtrail" | "pricing" | "lambda"
    ) {
        let body = serde_json::json!({"__type": code, "message": message});
        return page_of(status, "application/x-amz-json-1.1", body.to_string());
    }
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let error = format!("<Code>{code}</Code><Message>{message}</Message>");
    let written = if service == "ec2" {
        write!(
            body,
            "<Response><Errors><Error>{error}</Error></Errors><RequestID>r-1</RequestID></Response>"
        )
    } else {
        let error = format!("<Error><Type>Sender</Type>{error}</Error>");
        write!(body, "<ErrorResponse>{error}<RequestId>r-1</RequestId></ErrorResponse>")
    };
    written.expect("a string can be written to");
    page_of(status, "text/xml", body)
}

fn page_of(status: u16, kind: &str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Full::new(Bytes::from(body)))
        .expect("the parts of a response")
}
