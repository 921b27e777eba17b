//! L4 and L5 where they happen, between the process and the kernel: every answer comes after the sync of
//! its row. The rows are found by their ids in what was written, the answers by the same ids in what was
//! sent.

use serde_json::json;
use tokio::task::JoinSet;

use super::site::{Client, Site, hold_id, report};
use crate::harness::order::{TRACED_BYTES, Trace};
use crate::harness::strace;

const BUDGETS: &str = r#"
[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "1000"
response = "contain"
[[budget]]
name = "by-task"
scope = "task"
window = "day"
limit_usd = "1000"
response = "contain"
"#;

/// How an answer that acknowledges begins.
const ANSWER: &[u8] = b"HTTP/1.1 2";

#[tokio::test]
async fn l4_l5_every_answer_comes_after_the_sync_of_its_row() {
    if let Err(why) = strace::available() {
        panic!("{why}");
    }
    let site = Site::new("reserve_mb = 0", BUDGETS);
    let log = site.path().join("trace");
    let daemon = site.start_as(strace::traced(&site.command(), &log, TRACED_BYTES)).await;
    let client = Client::new(&daemon).await;

    let mut reports: Vec<String> = (0..20).map(|n| format!("alone-{n:03}-")).collect();
    for id in &reports {
        let (status, body) = client
            .post("/v1/usage", &report(id, "0.01"))
            .await
            .expect("the daemon answers");
        assert_eq!((status, body["status"].as_str()), (200, Some("posted")), "{body}");
    }
    let mut admitted = Vec::new();
    for _ in 0..10 {
        let (status, body) = client.hold("0.10").await.expect("the daemon answers");
        assert_eq!(status, 201, "{body}");
        admitted.push(hold_id(&body));
    }
    // Many at once share a commit, and each still has to wait for it.
    let mut crowd = JoinSet::new();
    for n in 0..24 {
        let client = client.clone();
        crowd.spawn(async move {
            let id = format!("crowd-{n:03}-");
            let (status, body) = client.post("/v1/usage", &report(&id, "0.01")).await.expect("an answer");
            assert_eq!(status, 200, "{body}");
            let (status, body) = client.hold("0.10").await.expect("an answer");
            assert_eq!(status, 201, "{body}");
            (id, hold_id(&body))
        });
    }
    for (report, hold) in crowd.join_all().await {
        reports.push(report);
        admitted.push(hold);
    }
    // One body with many rows is answered once, after the last of them.
    let rows: Vec<_> = (0..300).map(|n| report(&format!("batch-{n:03}-"), "0.01")).collect();
    let (status, body) = client
        .post("/v1/usage", &json!(rows))
        .await
        .expect("the daemon answers");
    assert_eq!((status, body["posted"].as_u64()), (200, Some(300)), "{body}");
    daemon.stop_group().await;

    let calls = strace::read(&log);
    // The proof stands on the syncs alone: the same trace without them proves nothing.
    let unsynced = Trace::new(calls.iter().filter(|call| !call.is_sync()).cloned().collect());
    let trace = Trace::new(calls);
    for id in &reports {
        let named = format!("\"{id}\"");
        let proved = trace.prove(id.as_bytes(), ANSWER, named.as_bytes());
        assert_eq!(proved, Ok(()), "report {id}");
        let unproved = unsynced.prove(id.as_bytes(), ANSWER, named.as_bytes());
        assert!(unproved.is_err_and(|why| why.contains("no sync")), "report {id}");
    }
    for n in 0..300 {
        let proved = trace.prove(format!("batch-{n:03}-").as_bytes(), ANSWER, b"\"posted\":300");
        assert_eq!(proved, Ok(()), "row {n} of a batch");
    }
    for id in &admitted {
        let raw = uuid::Uuid::parse_str(id).expect("an id");
        let proved = trace.prove(raw.as_bytes(), ANSWER, format!("\"{id}\"").as_bytes());
        assert_eq!(proved, Ok(()), "hold {id}");
    }
}
