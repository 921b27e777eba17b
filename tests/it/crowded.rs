//! A listener whose connections are kept by others: an agent that has nothing open is still served.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::raw::{Raw, exchange};
use crate::harness::site::Site;

const PLACES: usize = 8;

/// The waiting requests end after ten seconds, the silent connections not within the test.
const CONFIG: &str = r#"
max_connections = 8
header_timeout = "5m"
request_timeout = "20s"
[ledger]
hold_wait = "1s"
[[agent]]
id = "greedy"
[[agent]]
id = "modest"
[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "100"
response = "alert"
"#;

#[tokio::test]
async fn an_agent_that_waits_on_every_connection_keeps_no_other_out() {
    let site = Site::new(CONFIG);
    let daemon = site.start().await;
    let (greedy, modest) = (site.key("greedy").await, site.key("modest").await);
    site.ok(&["pause", "greedy", "--reason", "it looks odd"]).await;
    let address = daemon.addresses().agent.clone().expect("the agents' listener");
    let head =
        format!("GET /v1/tasks/t/wait?timeout_s=60 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {greedy}\r\n");
    let request = format!("{head}Connection: close\r\n\r\n");
    let wait = || {
        let (address, request) = (address.clone(), request.clone());
        async move { exchange(&address, request.as_bytes()).await }
    };
    // Until the pause is known where it is waited for.
    while timeout(Duration::from_secs(1), wait()).await.is_ok() {}
    let mut waiting: JoinSet<_> = (0..PLACES).map(|_| wait()).collect();
    let mut refused = 0;
    while refused < PLACES / 2 {
        let answer = waiting.join_next().await.expect("it has no place").expect("no panic");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "overloaded"),
            "{answer:?}"
        );
        refused += 1;
    }
    // It reads to the end of the connection, which only the daemon closes.
    let answer = exchange(&address, format!("{head}\r\n").as_bytes()).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "overloaded"),
        "{answer:?}"
    );
    assert!(answer.head.to_lowercase().contains("connection: close"), "{answer:?}");
    let (status, budget) = site.get(&daemon, &modest, "/v1/budget").await;
    assert_eq!((status, &budget["agent"]), (200, &json!("modest")));
    assert!(waiting.try_join_next().is_none(), "the others wait still");
    waiting.shutdown().await;
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn silent_connections_without_a_key_keep_nobody_out() {
    let site = Site::new(CONFIG);
    let daemon = site.start().await;
    let modest = site.key("modest").await;
    let address = daemon.addresses().agent.clone().expect("the agents' listener");
    let mut silent = Vec::new();
    for _ in 0..PLACES {
        silent.push(Raw::connect(&address).await);
    }
    for _ in 0..PLACES {
        let (status, _) = site.get(&daemon, &modest, "/v1/budget").await;
        assert_eq!(status, 200);
    }
    drop(silent);
    assert!(daemon.stop().await.success());
}
