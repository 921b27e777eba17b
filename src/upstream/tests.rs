//! Over real sockets: what is sent, and what a fault is taken for.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{HttpUpstream, UpstreamOptions};
use crate::ports::{Upstream as _, UpstreamError, UpstreamFault, UpstreamRequest, UpstreamResponse};

const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn request(body: &'static str) -> UpstreamRequest {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer sk-up".parse().unwrap());
    UpstreamRequest {
        method: Method::POST,
        path_and_query: "/v1/messages?beta=true".to_owned(),
        headers,
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn upstream(listener: &TcpListener, path: &str) -> HttpUpstream {
    let address = listener.local_addr().unwrap();
    let options = UpstreamOptions {
        connect_timeout: Duration::from_secs(20),
        ..UpstreamOptions::new("provider", &format!("http://{address}{path}"))
    };
    HttpUpstream::new(&options).expect("it is set up")
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Reads until a request with this end has come.
async fn read_request(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut buffer = [0_u8; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the client hung up: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(text).unwrap()
}

/// Answers one request and then does as it is told with the connection.
fn serve(listener: TcpListener, answer: &'static [u8]) -> JoinHandle<(String, TcpListener)> {
    #[expect(clippy::disallowed_methods, reason = "a test's server, which the test awaits")]
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = read_request(&mut stream, "{}").await;
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        (text, listener)
    })
}

async fn body(response: UpstreamResponse) -> Result<Vec<u8>, UpstreamError> {
    let mut pieces = response.body;
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

fn fault(answered: Result<UpstreamResponse, UpstreamError>) -> UpstreamFault {
    answered.err().expect("a fault").what
}

#[tokio::test]
async fn a_request_is_sent_with_its_length_below_the_base() {
    let listener = listen().await;
    let upstream = upstream(&listener, "/api");
    let host = listener.local_addr().unwrap().to_string();
    let server = serve(listener, WHOLE);
    let response = upstream.call(request("{}")).await.expect("an answer");
    assert_eq!(response.status, 200);
    assert_eq!(body(response).await.unwrap(), b"hi");
    let (text, _) = server.await.unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    lines.sort_unstable();
    let host = format!("host: {host}");
    let expected = [
        "POST /api/v1/messages?beta=true HTTP/1.1",
        "authorization: Bearer sk-up",
        "content-length: 2",
        &host,
    ];
    assert_eq!(lines, expected, "and nothing else");
}

#[tokio::test]
async fn what_was_never_connected_is_unreachable() {
    let listener = listen().await;
    let upstream = upstream(&listener, "");
    drop(listener);
    assert_eq!(fault(upstream.call(request("{}")).await), UpstreamFault::Unreachable);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let options = UpstreamOptions::new("provider", "http://no-such-host.invalid");
    let upstream = HttpUpstream::new(&options).expect("it is set up");
    assert_eq!(fault(upstream.call(request("{}")).await), UpstreamFault::Unreachable);
}

#[tokio::test]
async fn what_broke_after_the_request_was_on_its_way_may_have_cost() {
    for answer in [b"".as_slice(), b"HTTP/1.1 20", b"no http at all\r\n\r\n"] {
        let listener = listen().await;
        let upstream = upstream(&listener, "");
        let server = serve(listener, answer);
        let what = fault(upstream.call(request("{}")).await);
        assert_eq!(what, UpstreamFault::Broken, "{answer:?}");
        assert!(what.may_have_cost());
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_broken() {
    let listener = listen().await;
    let upstream = upstream(&listener, "");
    let server = serve(listener, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi");
    let response = upstream.call(request("{}")).await.expect("a head");
    assert_eq!(body(response).await.unwrap_err().what, UpstreamFault::Broken);
    server.await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let listener = listen().await;
    let upstream = upstream(&listener, "");
    let server = serve(
        listener,
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
    );
    let response = upstream.call(request("{}")).await.expect("an answer");
    assert_eq!(response.status, 307);
    server.await.unwrap();
}

/// The request was written and then the connection died: it is not sent again.
#[tokio::test]
async fn what_was_begun_is_never_repeated() {
    let listener = listen().await;
    let upstream = upstream(&listener, "");
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream, "{}").await;
        stream.write_all(WHOLE).await.unwrap();
        // The second request comes on the same connection, which then dies without a word.
        read_request(&mut stream, "{}").await;
        drop(stream);
    };
    let client = async {
        let response = upstream.call(request("{}")).await.expect("an answer");
        assert_eq!(body(response).await.unwrap(), b"hi");
        fault(upstream.call(request("{}")).await)
    };
    let ((), what) = tokio::join!(server, client);
    assert_eq!(what, UpstreamFault::Broken);
    // To send it again it would have connected again.
    let again = listener.into_std().unwrap().accept();
    assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
