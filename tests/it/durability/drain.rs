//! SIGTERM: what is under way is answered, nothing new is taken, and the epoch ends.

use std::time::Duration;

use backstop::domain::money::Usd;
use backstop::ports::{Clock as _, Store as _};
use backstop::system::SystemClock;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::site::{Client, Site, hold_id, report};
use crate::harness::daemon::Daemon;
use crate::harness::wait;

const BUDGETS: &str = r#"
[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "10"
response = "contain"
"#;

/// A request whose head the daemon has read and whose body it waits for.
struct HalfSent {
    stream: TcpStream,
    body: String,
}

impl HalfSent {
    async fn new(daemon: &Daemon, client: &Client, path: &str, body: &serde_json::Value) -> Self {
        let address = daemon.addresses().agent.clone().expect("the agents' listener");
        let mut stream = TcpStream::connect(&address).await.expect("it listens");
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            client.key(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.expect("it asks for the body");
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, body }
    }

    /// Sends the body and reads the answer to its end.
    async fn finish(mut self) -> String {
        self.stream
            .write_all(self.body.as_bytes())
            .await
            .expect("it still reads");
        let mut answer = String::new();
        self.stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers and closes");
        answer
    }
}

/// Tells the daemon to stop, and waits until it has begun to.
async fn stop_listening(daemon: &mut Daemon) {
    daemon.terminate();
    wait::until("the listener to close", Duration::from_secs(60), async || {
        let address = daemon.addresses().agent.clone()?;
        TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stopping_daemon_answers_what_it_began_and_closes_its_epoch() {
    let site = Site::new("reserve_mb = 0", BUDGETS);
    let mut daemon = site.start().await;
    let client = Client::new(&daemon).await;
    let (_, held) = client.hold("9").await.expect("the daemon answers");
    let held = hold_id(&held);
    let mut reports = Vec::new();
    for n in 0..8 {
        let body = report(&format!("late-{n}"), "0.01");
        reports.push(HalfSent::new(&daemon, &client, "/v1/usage", &body).await);
    }
    let capture = format!("/v1/holds/{held}/capture");
    let capture = HalfSent::new(&daemon, &client, &capture, &json!({ "cost_usd": "1" })).await;

    stop_listening(&mut daemon).await;
    for half in reports {
        let answer = half.finish().await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("\"posted\""),
            "{answer}"
        );
    }
    // The ledger is the last to close: so a call that was answered upstream can still be settled.
    let answer = capture.finish().await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"1.00\""),
        "{answer}"
    );
    let ended = daemon.ended().await;
    assert!(ended.success(), "{ended}");

    let books = site.books().await;
    books.assert_sound();
    for n in 0..8 {
        assert_eq!(books.of_report(&format!("late-{n}")).len(), 1);
    }
    let store = site.open().await;
    let dead = store.bury_dead_epochs(SystemClock.now(), &Default::default()).await;
    let dead = dead.expect("the ledger writes");
    assert!(dead.epochs.is_empty(), "the epoch was closed: {dead:?}");
    store.close().await.expect("the ledger closes");
}

#[tokio::test]
async fn what_is_open_at_a_stop_is_unresolved_at_the_next_start() {
    let site = Site::new("reserve_mb = 0", BUDGETS);
    let mut daemon = site.start().await;
    let client = Client::new(&daemon).await;
    let (_, body) = client.hold("2.50").await.expect("the daemon answers");
    let id = hold_id(&body);
    let body = json!({ "bound_usd": "0.01" });
    let late = HalfSent::new(&daemon, &client, "/v1/holds", &body).await;
    stop_listening(&mut daemon).await;
    // It may still be admitted; then it must not be lost either.
    let late = late.finish().await;
    let admitted = late.starts_with("HTTP/1.1 201");
    assert!(admitted || late.starts_with("HTTP/1.1 503"), "{late}");
    assert!(daemon.ended().await.success());
    let left = site.books().await.view.holds;
    assert_eq!(left.len(), 1 + usize::from(admitted), "{left:#?}");
    let daemon = site.start().await;
    let client = client.at(&daemon);
    assert_eq!(client.hold_state(&id).await.as_deref(), Some("unresolved"));
    // It may still be told what the call cost.
    let path = format!("/v1/holds/{id}/capture");
    let (status, body) = client
        .post(&path, &json!({ "cost_usd": "0.5" }))
        .await
        .expect("an answer");
    assert_eq!(status, 200, "{body}");
    assert!(daemon.stop().await.success());
    let books = site.books().await;
    books.assert_sound();
    let line = &books.view.lines[0];
    let posted = if admitted { "0.51" } else { "0.50" };
    assert_eq!((line.posted.to_string().as_str(), line.held), (posted, Usd::ZERO));
}
