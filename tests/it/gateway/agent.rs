//! An agent as a program: it sends calls through the gateway with its key and looks at all that comes back.

use std::sync::Arc;
use std::time::Duration;

use backstop::domain::money::Usd;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::place::Sums;
use super::upstream::prices::Model;
use crate::harness::daemon::Daemon;

/// No call of a test takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// An agent's client. The daemon's address may change under it, as after a restart.
#[derive(Debug, Clone)]
pub struct Agent {
    http: reqwest::Client,
    address: watch::Sender<String>,
    key: String,
}

/// What came of an answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn usd(&self, name: &str) -> Usd {
        let text = self.header(name).unwrap_or_else(|| panic!("no {name}: {self:#?}"));
        text.parse().unwrap_or_else(|error| panic!("{name}: {text}: {error}"))
    }

    pub fn cost(&self) -> Usd {
        self.usd("x-backstop-cost-usd")
    }

    /// The code of a refusal, in either API's shape.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The code of the error with which a stream ends, in either API's shape.
    pub fn last_code(&self) -> String {
        let last = self.events().pop().unwrap_or_default();
        last["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// # Panics
    /// When the call was not answered.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{self:#?}");
        self
    }

    /// # Panics
    /// When the call was not refused so.
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:#?}");
        self
    }

    /// The data of the events of a stream, the end mark left out.
    pub fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
            .collect()
    }
}

impl Agent {
    pub fn new(daemon: &Daemon, key: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(LIMIT)
            .no_proxy()
            .pool_max_idle_per_host(600)
            .build()
            .expect("a client without settings can be built");
        Self {
            http,
            address: watch::Sender::new(daemon.agent_url("")),
            key: key.to_owned(),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// From now on this agent, and every clone of it, talks to that daemon.
    pub fn move_to(&self, daemon: &Daemon) {
        self.address.send_replace(daemon.agent_url(""));
    }

    /// The same agent, at another daemon.
    pub fn at(&self, daemon: &Daemon) -> Self {
        Self::new(daemon, &self.key)
    }

    /// Who tells of moves from now on.
    pub fn moves(&self) -> watch::Receiver<String> {
        self.address.subscribe()
    }

    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", *self.address.borrow());
        self.http.request(method, url).bearer_auth(&self.key)
    }

    pub fn posting(&self, path: &str) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::POST, path)
    }

    /// `None` when the connection went away before the whole answer was there.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Option<Reply> {
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.ok()?;
        Some(Reply { status, headers, body })
    }

    /// An answer that is cut: what came of it, before its connection ended without the answer's end.
    ///
    /// # Panics
    /// When no answer comes, or a whole one.
    pub async fn post_cut(&self, path: &str, body: &Value) -> Reply {
        let answer = self.posting(path).json(body).send().await;
        let mut answer = answer.unwrap_or_else(|error| panic!("POST {path}: {error}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => panic!("POST {path}: it ended as a whole answer does"),
                Err(_cut) => break,
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Reply { status, headers, body }
    }

    /// # Panics
    /// When no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let answer = self.send(self.posting(path).json(body)).await;
        answer.unwrap_or_else(|| panic!("POST {path}: the connection went away"))
    }

    pub async fn get(&self, path: &str) -> Reply {
        let answer = self.send(self.request(reqwest::Method::GET, path)).await;
        answer.unwrap_or_else(|| panic!("GET {path}: the connection went away"))
    }

    pub async fn chat(&self, body: &Value) -> Reply {
        self.post(CHAT_PATH, body).await
    }

    pub async fn messages(&self, body: &Value) -> Reply {
        self.post(MESSAGES_PATH, body).await
    }

    /// Sends a recording with these further fields of the form.
    pub async fn transcribe(&self, name: &str, file: &[u8], fields: &[(&str, &str)]) -> Reply {
        const BOUNDARY: &str = "the-boundary-of-the-tests";
        let mut body = Vec::new();
        let mut part = |head: String, content: &[u8]| {
            body.extend_from_slice(
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        };
        for (field, value) in fields {
            part(format!("name=\"{field}\""), value.as_bytes());
        }
        part(
            format!("name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream"),
            file,
        );
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let request = self
            .posting(TRANSCRIPTIONS_PATH)
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(body);
        let answer = self.send(request).await;
        answer.unwrap_or_else(|| panic!("a transcription of {name}: the connection went away"))
    }

    /// Sends a call and goes away, answered or not, when `moment` has come.
    pub async fn abandon_at(&self, path: &str, body: &Value, moment: impl Future<Output = ()>) {
        tokio::select! {
            _ = self.posting(path).json(body).send() => {}
            () = moment => {}
        }
    }

    /// Sends a call and goes away when so many pieces of its answer were there.
    pub async fn abandon_after(&self, path: &str, body: &Value, pieces: usize) {
        let Ok(mut answer) = self.posting(path).json(body).send().await else {
            return;
        };
        for _ in 0..pieces {
            if !matches!(answer.chunk().await, Ok(Some(_))) {
                return;
            }
        }
    }

    /// The agent's own view of its budgets.
    pub async fn lines(&self) -> Vec<Value> {
        let budget = self.get("/v1/budget").await.ok().json();
        budget["lines"].as_array().cloned().unwrap_or_default()
    }

    /// Its only line. A line that nothing was counted on yet is there as well.
    pub async fn sums(&self) -> Sums {
        let lines = self.lines().await;
        assert_eq!(lines.len(), 1, "{lines:#?}");
        Sums::of(&lines[0])
    }
}

pub const CHAT_PATH: &str = "/openai/v1/chat/completions";
pub const TRANSCRIPTIONS_PATH: &str = "/openai/v1/audio/transcriptions";
pub const MESSAGES_PATH: &str = "/anthropic/v1/messages";

/// A chat with a limit on its output, as small as it can be.
pub fn chat(model: &Model, max_tokens: u64) -> Value {
    json!({
        "model": model.name,
        "max_completion_tokens": max_tokens,
        "messages": [{ "role": "user", "content": "Say something." }],
    })
}

/// The same without a limit.
pub fn open_chat(model: &Model) -> Value {
    let mut body = chat(model, 1);
    body.as_object_mut().expect("an object").remove("max_completion_tokens");
    body
}

pub fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

pub fn message(model: &Model, max_tokens: u64) -> Value {
    json!({
        "model": model.name,
        "max_tokens": max_tokens,
        "messages": [{ "role": "user", "content": "Say something." }],
    })
}

/// Sends so many of one call at once; the answers in no order.
pub async fn at_once(agent: &Agent, path: &'static str, body: &Value, calls: usize) -> Vec<Reply> {
    let body = Arc::new(body.clone());
    let mut sent = JoinSet::new();
    for _ in 0..calls {
        let (agent, body) = (agent.clone(), Arc::clone(&body));
        sent.spawn(async move { agent.post(path, &body).await });
    }
    sent.join_all().await
}

pub fn answered(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| reply.status == 200).count()
}
