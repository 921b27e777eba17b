//! A provider that costs next to nothing: one thread that reads just enough HTTP to tell two requests
//! apart, and answers with bytes that were made once.
//!
//! It runs as a process of its own (this program, started again), so that its share of the processor is not
//! taken for the daemon's. It answers a chat completion, or the events of one with their usage at the end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Pieces of text in a stream.
const PIECES: usize = 16;

/// A running mock; dropping it kills it.
pub struct Mock {
    child: Child,
    pub address: SocketAddr,
}

impl Mock {
    pub fn start(dir: &Path) -> Result<Self> {
        let file = dir.join("mock.address");
        let _ = std::fs::remove_file(&file);
        let child = Command::new(std::env::current_exe()?)
            .arg("--mock")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .context("the mock cannot be started")?;
        let mut mock = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        for _ in 0..1_000 {
            if let Some(address) = std::fs::read_to_string(&file)
                .ok()
                .and_then(|text| text.trim().parse().ok())
            {
                mock.address = address;
                return Ok(mock);
            }
            if let Some(status) = mock.child.try_wait()? {
                bail!("the mock ended with {status}");
            }
            pause();
        }
        bail!("the mock does not listen")
    }
}

#[expect(clippy::disallowed_methods, reason = "before any load, and nothing else to do")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answers, as they go over the wire.
struct Answers {
    whole: Vec<u8>,
    stream: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let head = r#""id":"chatcmpl-mock","created":1700000000,"model":"gpt-5-mini""#;
        let usage = r#""usage":{"prompt_tokens":20,"completion_tokens":30,"total_tokens":50}"#;
        let body = format!(
            r#"{{{head},"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hello, what may I do for you today?"}},"finish_reason":"stop"}}],{usage}}}"#
        );
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream =
            String::from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut event = |data: &str| {
            let text = format!("data: {data}\n\n");
            stream.push_str(&format!("{:x}\r\n{text}\r\n", text.len()));
        };
        for piece in 0..PIECES {
            event(&format!(
                r#"{{{head},"object":"chat.completion.chunk","choices":[{{"index":0,"delta":{{"content":"word {piece} "}},"finish_reason":null}}],"usage":null}}"#
            ));
        }
        event(&format!(
            r#"{{{head},"object":"chat.completion.chunk","choices":[],{usage}}}"#
        ));
        event("[DONE]");
        stream.push_str("0\r\n\r\n");
        Self {
            whole: whole.into_bytes(),
            stream: stream.into_bytes(),
        }
    }
}

/// The mock itself: writes its address to `file`, and serves until it is killed.
pub fn serve(file: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let new = file.with_extension("new");
        let mut out = std::fs::File::create(&new)?;
        write!(out, "{address}")?;
        std::fs::rename(&new, file)?;
        let answers: &'static Answers = Box::leak(Box::new(Answers::new()));
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            connections.spawn(answer(stream, answers));
            while connections.try_join_next().is_some() {}
        }
    })
}

/// Serves one connection. An error is its end.
async fn answer(mut stream: TcpStream, answers: &'static Answers) {
    let mut bytes = Vec::with_capacity(16 * 1024);
    while let Ok(read) = stream.read_buf(&mut bytes).await
        && read > 0
    {
        while let Some((end, is_stream)) = request(&bytes) {
            bytes.drain(..end);
            let answer = if is_stream { &answers.stream } else { &answers.whole };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Where the first request ends, if it is whole, and whether it asks for a stream.
fn request(bytes: &[u8]) -> Option<(usize, bool)> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let end = head + length.unwrap_or(0);
    let body = bytes.get(head..end)?;
    Some((end, memchr::memmem::find(body, b"\"stream\":true").is_some()))
}
