//! The admin API as the command line calls it: over the unix socket, or over TCP with a bearer token.
//!
//! Every request has a time limit. A daemon that cannot be reached is told apart from one that says
//! no, because a script must know whether anything happened (exit status 3 against 1).

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::failure::Failure;
use crate::config::Secret;

/// Bytes of an answer at most.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
const CONNECT: Duration = Duration::from_secs(5);
/// For what the daemon answers from memory or by one query.
const QUICK: Duration = Duration::from_secs(60);
/// For what copies or reads the whole ledger, or posts large batches.
pub const LONG: Duration = Duration::from_secs(3600);

/// Where the daemon is.
#[derive(Debug, Clone)]
pub enum Endpoint {
    Socket(PathBuf),
    Tcp { url: Url, token: Option<Secret> },
}

pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    base: Url,
    verbose: bool,
}

/// An answer of the daemon: the text as it came, and what it says.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    pub value: Value,
}

impl Client {
    pub fn new(endpoint: Endpoint, verbose: bool) -> Result<Self, Failure> {
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("backstop-cli/", env!("CARGO_PKG_VERSION")));
        let (builder, base) = match &endpoint {
            Endpoint::Socket(path) => (builder.unix_socket(path.clone()), "http://localhost/".parse()),
            Endpoint::Tcp { url, .. } => (builder, Ok(url.clone())),
        };
        let base = base.map_err(|error| Failure::failed(format!("the base of the admin API is no URL: {error}")))?;
        let http = builder
            .build()
            .map_err(|error| Failure::failed(format!("no HTTP client can be made: {error}")))?;
        Ok(Self {
            http,
            endpoint,
            base,
            verbose,
        })
    }

    pub async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.send(Method::GET, path, query, None, QUICK).await
    }

    pub async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, Failure> {
        self.send(
            Method::POST,
            path,
            &[],
            Some(("application/json", body.to_string().into())),
            QUICK,
        )
        .await
    }

    pub async fn post_long(&self, path: &[&str], body: &Value) -> Result<Answer, Failure> {
        self.send(
            Method::POST,
            path,
            &[],
            Some(("application/json", body.to_string().into())),
            LONG,
        )
        .await
    }

    /// For what takes as long as others take, within this limit.
    pub async fn post_within(&self, path: &[&str], body: &Value, limit: Duration) -> Result<Answer, Failure> {
        let body = Some(("application/json", body.to_string().into()));
        self.send(Method::POST, path, &[], body, limit).await
    }

    pub async fn delete(&self, path: &[&str]) -> Result<Answer, Failure> {
        self.send(Method::DELETE, path, &[], None, QUICK).await
    }

    pub async fn upload(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let body = Some((content_type, body.into()));
        let (status, text) = self.exchange(Method::POST, path, query, body, LONG).await?;
        match serde_json::from_str::<Value>(&text) {
            // A receipt is an answer whatever its status: it says of each row what became of it.
            Ok(value) if value.get("rows_total").is_some() => Ok(Answer { text, value }),
            _ => read(status, text),
        }
    }

    /// `/api/v1/` and the segments, each percent-encoded: an agent's id may hold a slash.
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<(&'static str, reqwest::Body)>,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let (status, text) = self.exchange(method, path, query, body, timeout).await?;
        read(status, text)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<(&'static str, reqwest::Body)>,
        timeout: Duration,
    ) -> Result<(StatusCode, String), Failure> {
        let url = self.url(path, query);
        if self.verbose {
            eprintln!("{method} {url}");
        }
        let mut request = self.http.request(method, url).timeout(timeout);
        if let Some((content_type, body)) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, content_type).body(body);
        }
        if let Endpoint::Tcp { token: Some(token), .. } = &self.endpoint {
            request = request.bearer_auth(token.expose());
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::failed("the answer is larger than 256 megabytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause = root_cause(error);
        if error.is_timeout() && !error.is_connect() {
            // It may have happened: the daemon has the request and has not answered yet.
            return Failure::Unreachable {
                message: format!("the daemon has not answered in time ({cause})"),
                hint: Some(
                    "it may still do what was asked: look with `backstop status` before repeating it".to_owned(),
                ),
            };
        }
        let (place, hint) = match &self.endpoint {
            Endpoint::Socket(path) => (path.display().to_string(), socket_hint(path)),
            Endpoint::Tcp { url, .. } => (
                url.to_string(),
                "is the daemon running there? `--admin-url` says where".to_owned(),
            ),
        };
        Failure::Unreachable {
            message: format!("no daemon answers at {place}: {cause}"),
            hint: Some(hint),
        }
    }
}

fn read(status: StatusCode, text: String) -> Result<Answer, Failure> {
    if !status.is_success() {
        return Err(Failure::from_answer(status.as_u16(), &text));
    }
    let value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) if text.trim().is_empty() => Value::Null,
        Err(error) => {
            return Err(Failure::failed(format!(
                "the answer is not JSON ({error}): is this a Backstop?"
            )));
        }
    };
    Ok(Answer { text, value })
}

fn socket_hint(path: &Path) -> String {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "its socket is for the user that it runs as, and for root".to_owned()
        }
        Err(_) => "start it with `backstop serve`, or say where it is: --socket, --config or --admin-url".to_owned(),
        Ok(_) => "is it running, and as the same user? its socket is for that user and for root".to_owned(),
    }
}

/// The innermost cause; the outer ones repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_percent_encoded() {
        let endpoint = Endpoint::Tcp {
            url: "http://127.0.0.1:1/base/".parse().expect("a URL"),
            token: None,
        };
        let client = Client::new(endpoint, false).expect("a client");
        let url = client.url(&["agents", "team/a:b@c", "pause"], &[("by", "model"), ("since", "1 h")]);
        assert_eq!(
            url.as_str(),
            "http://127.0.0.1:1/base/api/v1/agents/team%2Fa:b@c/pause?by=model&since=1+h"
        );
    }
}
