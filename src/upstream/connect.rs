//! Connecting within a time limit, the TLS handshake included.
//!
//! The connector's own limit is for the TCP handshake alone. A provider that accepts and then says nothing
//! must not look like one that was sent something.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connector that gives up.
#[derive(Debug, Clone)]
pub(super) struct Within<C> {
    pub(super) connector: C,
    pub(super) limit: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct TooSlow(Duration);

impl<C> Service<http::Uri> for Within<C>
where
    C: Service<http::Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    C::Response: Send,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: http::Uri) -> Self::Future {
        let (connecting, limit) = (self.connector.call(to), self.limit);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_elapsed) => Err(TooSlow(limit).into()),
            }
        })
    }
}
