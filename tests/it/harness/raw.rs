//! HTTP by hand: a client that may say what no library lets it say.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For one answer, on a machine that is building at the same time.
const LIMIT: Duration = Duration::from_secs(60);

/// What came back on a connection until the other side closed it.
#[derive(Debug)]
pub struct RawAnswer {
    /// 0 if it was closed without an answer.
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl RawAnswer {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or(0),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// The body's `error.code`.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body's `error.message`.
    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection.
#[derive(Debug)]
pub struct Raw(TcpStream);

impl Raw {
    pub async fn connect(address: &str) -> Self {
        let connected = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
        Self(connected.expect("in time").expect("the daemon listens"))
    }

    /// Sends what it can: the other side may have answered and closed before it has read everything.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sent = tokio::time::timeout(LIMIT, self.0.write_all(bytes)).await;
        let _ = sent.expect("in time");
    }

    /// Says that nothing more will be sent.
    pub async fn end(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Reads until the other side closes.
    pub async fn answer(mut self) -> RawAnswer {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(LIMIT, self.0.read_to_end(&mut bytes)).await;
        // A reset after the answer is the other side's right: it did not read our body to its end.
        let _ = read.expect("an answer or an end in time");
        RawAnswer::read(&bytes)
    }
}

/// Sends a whole request and reads its answer.
pub async fn exchange(address: &str, request: &[u8]) -> RawAnswer {
    let mut connection = Raw::connect(address).await;
    connection.send(request).await;
    connection.answer().await
}
