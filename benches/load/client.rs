//! A connection that speaks just enough HTTP/1.1 for this load, and costs little: a full client would
//! take as much of the processor as the daemon.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest answer that is taken.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Where requests go and by which credential.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub token: String,
}

/// A kept-alive connection.
pub struct Connection {
    stream: TcpStream,
    target: Target,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    pub async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            target: target.clone(),
            request: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, &str)> {
        let Target { address, token } = &self.target;
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let head = loop {
            if let Some(at) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read().await?;
        };
        let text = std::str::from_utf8(&self.answer[..head])?;
        let status = text.split(' ').nth(1).context("an answer has a status")?.parse()?;
        let length = text
            .lines()
            .find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().to_owned())
            })
            .context("an answer has a length")?;
        let end = head + length.parse::<usize>()?;
        ensure!(end <= MAX_ANSWER, "an answer of {end} bytes");
        while self.answer.len() < end {
            self.read().await?;
        }
        Ok((status, std::str::from_utf8(&self.answer[head..end])?))
    }

    async fn read(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.answer).await? == 0 {
            bail!("the daemon closed the connection");
        }
        Ok(())
    }

    /// A request that must be answered with `expected`.
    pub async fn must(&mut self, expected: u16, method: &str, path: &str, body: &str) -> Result<&str> {
        let (status, answer) = self.send(method, path, body).await?;
        ensure!(status == expected, "{method} {path}: {status} {answer}");
        Ok(answer)
    }
}
