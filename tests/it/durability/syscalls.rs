//! L4 and L5 where they happen: between the process and the kernel.
//!
//! For every answer the trace must show the row being written to the write-ahead log, then a sync of
//! that file that began after the write and ended well, and only then the first byte of the answer. The
//! rows are found by their ids in what was written, the answers by the same ids in what was sent.

use serde_json::json;
use tokio::task::JoinSet;

use super::site::{Client, Site, hold_id, report};
use crate::harness::strace::{self, Call};

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

/// Bytes of a buffer that are traced: more than a page of the log and its header.
const TRACED_BYTES: usize = 8_192;

/// The bytes in the quoted buffers of a call, as C writes them.
fn buffers(arguments: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = arguments.bytes().peekable();
    let mut quoted = false;
    while let Some(byte) = rest.next() {
        match (quoted, byte) {
            (_, b'"') => quoted = !quoted,
            (true, b'\\') => match rest.next() {
                Some(digit @ b'0'..=b'7') => {
                    let mut value = u32::from(digit - b'0');
                    for _ in 0..2 {
                        match rest.peek() {
                            Some(&next @ b'0'..=b'7') => {
                                value = value * 8 + u32::from(next - b'0');
                                rest.next();
                            }
                            _ => break,
                        }
                    }
                    bytes.push(u8::try_from(value).unwrap_or(u8::MAX));
                }
                Some(b'n') => bytes.push(b'\n'),
                Some(b't') => bytes.push(b'\t'),
                Some(b'r') => bytes.push(b'\r'),
                Some(b'v') => bytes.push(0x0b),
                Some(b'f') => bytes.push(0x0c),
                Some(other) => bytes.push(other),
                None => break,
            },
            (true, byte) => bytes.push(byte),
            (false, _) => {}
        }
    }
    bytes
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// The calls of a trace with what they wrote.
struct Trace {
    calls: Vec<(Call, Vec<u8>)>,
}

impl Trace {
    fn new(calls: Vec<Call>) -> Self {
        let calls = calls.into_iter().map(|call| {
            let bytes = buffers(&call.arguments);
            (call, bytes)
        });
        Self { calls: calls.collect() }
    }

    /// Proves that the row was synced before its answer: `row` is what only the row has in the log,
    /// `answer` what only the answer has on a socket.
    fn prove(&self, row: &[u8], answer: &[u8]) -> Result<(), String> {
        let is_log = |call: &Call| call.file_name().ends_with(".db-wal");
        let (answered, _) = self
            .calls
            .iter()
            .find(|(call, bytes)| call.is_to_socket() && bytes.starts_with(b"HTTP/1.1 2") && holds(bytes, answer))
            .ok_or("no answer was sent")?;
        let (written, _) = self
            .calls
            .iter()
            .find(|(call, bytes)| call.name == "pwrite64" && is_log(call) && holds(bytes, row))
            .ok_or("the row was not written to the log")?;
        let written_at = written.ended.ok_or("the write of the row did not end")?;
        if written_at >= answered.began {
            return Err(format!(
                "the row was written at {written_at}, after its answer at {}",
                answered.began
            ));
        }
        let synced = self.calls.iter().any(|(call, _)| {
            call.is_sync()
                && is_log(call)
                && call.result == Some(0)
                && call.began > written_at
                && call.ended.is_some_and(|end| end < answered.began)
        });
        if synced {
            Ok(())
        } else {
            Err(format!(
                "no sync of the log began after the write at {written_at} and ended before the answer at {}",
                answered.began
            ))
        }
    }
}

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
        let proved = trace.prove(id.as_bytes(), format!("\"{id}\"").as_bytes());
        assert_eq!(proved, Ok(()), "report {id}");
        let unproved = unsynced.prove(id.as_bytes(), format!("\"{id}\"").as_bytes());
        assert!(unproved.is_err_and(|why| why.contains("no sync")), "report {id}");
    }
    for n in 0..300 {
        let proved = trace.prove(format!("batch-{n:03}-").as_bytes(), b"\"posted\":300");
        assert_eq!(proved, Ok(()), "row {n} of a batch");
    }
    for id in &admitted {
        let raw = uuid::Uuid::parse_str(id).expect("an id");
        let proved = trace.prove(raw.as_bytes(), format!("\"{id}\"").as_bytes());
        assert_eq!(proved, Ok(()), "hold {id}");
    }
}

/// The lines of a trace in which everything is in order.
const IN_ORDER: [&str; 4] = [
    r#"7 1.0 pwrite64(9</d/b.db-wal>, "\1row-1\"\n", 7, 0) = 7"#,
    r"7 1.1 fdatasync(9</d/b.db-wal> <unfinished ...>",
    r"7 1.2 <... fdatasync resumed>) = 0",
    r#"8 1.3 writev(5<socket:[1]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}, {iov_base="{\"id\":\"row-1\"}", iov_len=14}], 2) = 31"#,
];

fn prove(lines: &[&str]) -> Result<(), String> {
    Trace::new(strace::parse(&lines.join("\n"))).prove(b"row-1", b"\"row-1\"")
}

#[test]
fn the_proof_accepts_only_the_right_order() {
    let [write, sync, synced, answer] = IN_ORDER;
    assert_eq!(prove(&[write, sync, synced, answer]), Ok(()));
    let refused = |lines: &[&str]| prove(lines).expect_err("this order must be refused");
    assert!(
        refused(&[write, answer, sync, synced]).contains("no sync"),
        "answered first"
    );
    assert!(
        refused(&[write, sync, answer, synced]).contains("no sync"),
        "answered during the sync"
    );
    assert!(
        refused(&[sync, synced, write, answer]).contains("no sync"),
        "synced before the write"
    );
    assert!(
        refused(&[sync, write, synced, answer]).contains("no sync"),
        "the sync began before the write"
    );
    assert!(refused(&[sync, synced, answer, write]).contains("after its answer"));
    assert!(refused(&[sync, synced, answer]).contains("not written"));
    assert!(refused(&[write, sync, synced]).contains("no answer"));
    let failed = "7 1.2 <... fdatasync resumed>) = -1 EIO (Input/output error)";
    assert!(
        refused(&[write, sync, failed, answer]).contains("no sync"),
        "the sync failed"
    );
    let elsewhere = "7 1.1 fsync(10</d/audit.heads>) = 0";
    assert!(
        refused(&[write, elsewhere, answer]).contains("no sync"),
        "another file was synced"
    );
}

#[test]
fn a_traced_buffer_is_read_back() {
    let arguments = r#"9</d/b.db-wal>, "a\"\\\0019\33\177é\n"..., 8"#;
    assert_eq!(buffers(arguments), "a\"\\\u{1}9\u{1b}\u{7f}é\n".as_bytes());
}
