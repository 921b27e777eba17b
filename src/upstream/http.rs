//! One provider, over a pool of connections.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyDataStream, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connect::Within;
use crate::ports::{Upstream, UpstreamError, UpstreamFault, UpstreamRequest, UpstreamResponse};

/// Where a provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// As config names it; for errors.
    pub name: String,
    /// `http` or `https`, without a query and without a slash at its end.
    pub base_url: String,
    /// For a connection, its TLS handshake included.
    pub connect_timeout: Duration,
    /// Connections that wait for a next call, at most.
    pub max_idle: usize,
    /// How long a connection waits for one. Shorter than providers and balancers keep theirs, so that a
    /// request seldom meets one that is being closed.
    pub idle_connection: Duration,
}

impl UpstreamOptions {
    pub fn new(name: &str, base_url: &str) -> Self {
        Self {
            name: name.to_owned(),
            base_url: base_url.to_owned(),
            connect_timeout: Duration::from_secs(10),
            max_idle: 1024,
            idle_connection: Duration::from_secs(25),
        }
    }
}

/// Why an upstream could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the base URL of upstream {0} is none")]
    BaseUrl(String),
    #[error("the machine's root certificates cannot be read")]
    Roots(#[source] std::io::Error),
}

/// The longest head of an answer.
const MAX_HEAD: usize = 128 * 1024;

/// A provider over HTTP.
pub struct HttpUpstream {
    name: String,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    /// In front of every path; without a slash at its end.
    base_path: String,
    wire: Wire,
}

/// A client with its pool. A base in plain HTTP knows no TLS at all.
enum Wire {
    Plain(Client<Within<HttpConnector>, Full<Bytes>>),
    Tls(Client<Within<HttpsConnector<HttpConnector>>, Full<Bytes>>),
}

impl HttpUpstream {
    /// Sets the client up; nothing is connected yet.
    pub fn new(options: &UpstreamOptions) -> Result<Self, BuildError> {
        let unsound = || BuildError::BaseUrl(options.name.clone());
        let base: Uri = options.base_url.parse().map_err(|_| unsound())?;
        let base = base.into_parts();
        let (Some(scheme), Some(authority)) = (base.scheme, base.authority) else {
            return Err(unsound());
        };
        if authority.as_str().contains('@') {
            return Err(unsound());
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| unsound())?;
        let base_path = base.path_and_query.as_ref().map_or("", PathAndQuery::path);
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(scheme != Scheme::HTTPS);
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let wire = if scheme == Scheme::HTTPS {
            let tls = HttpsConnectorBuilder::new()
                .with_native_roots()
                .map_err(BuildError::Roots)?;
            Wire::Tls(client(options, tls.https_only().enable_http1().wrap_connector(tcp)))
        } else {
            Wire::Plain(client(options, tcp))
        };
        Ok(Self {
            name: options.name.clone(),
            scheme,
            authority,
            host,
            base_path: base_path.trim_end_matches('/').to_owned(),
            wire,
        })
    }

    fn uri(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        let whole = [self.base_path.as_str(), path_and_query].concat();
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::from_maybe_shared(Bytes::from(whole))?)
            .build()
    }

    fn fault(&self, what: UpstreamFault, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> UpstreamError {
        UpstreamError {
            upstream: self.name.clone(),
            what,
            source: Some(source.into()),
        }
    }
}

fn client<C>(options: &UpstreamOptions, connector: C) -> Client<Within<C>, Full<Bytes>>
where
    Within<C>: Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(options.idle_connection)
        .pool_max_idle_per_host(options.max_idle)
        .http1_max_buf_size(MAX_HEAD)
        // hyper hands a request back that its connection never began to write, because the pool's
        // connection had died; it goes out on another one. That is no second attempt: no byte of a first
        // one was written. What was begun is never repeated.
        .retry_canceled_requests(true)
        .build(Within {
            connector,
            limit: options.connect_timeout,
        })
}

#[async_trait]
impl Upstream for HttpUpstream {
    async fn call(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let UpstreamRequest {
            method,
            path_and_query,
            mut headers,
            body,
        } = request;
        let uri = self
            .uri(&path_and_query)
            .map_err(|error| self.fault(UpstreamFault::Unreachable, error))?;
        headers.insert(HOST, self.host.clone());
        // With a length and never in chunks, so that no server in between has to put them together.
        if !body.is_empty() || method == Method::POST {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let mut sent = Request::new(Full::new(body));
        *sent.method_mut() = method;
        *sent.uri_mut() = uri;
        *sent.headers_mut() = headers;
        let answer = match &self.wire {
            Wire::Plain(client) => client.request(sent),
            Wire::Tls(client) => client.request(sent),
        };
        let answer = answer.await.map_err(|error| {
            let what = if was_not_sent(&error) {
                UpstreamFault::Unreachable
            } else {
                UpstreamFault::Broken
            };
            self.fault(what, error)
        })?;
        let (head, body) = answer.into_parts();
        let name = self.name.clone();
        let body = BodyDataStream::new(body).map(move |piece| {
            piece.map_err(|error| UpstreamError {
                upstream: name.clone(),
                what: UpstreamFault::Broken,
                source: Some(error.into()),
            })
        });
        Ok(UpstreamResponse {
            status: head.status,
            headers: head.headers,
            body: body.boxed(),
        })
    }
}

/// Whether it is certain that no byte of the request was written: there was no connection, or hyper
/// cancelled the request before its connection took it. (In HTTP/1 hyper says *canceled* of nothing else.)
fn was_not_sent(error: &hyper_util::client::legacy::Error) -> bool {
    if error.is_connect() {
        return true;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_canceled();
        }
        cause = error.source();
    }
    false
}
