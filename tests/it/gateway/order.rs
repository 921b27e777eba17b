//! L4 at the gateway, where it happens: between the process and the kernel.

use serde_json::Value;
use tokio::task::JoinSet;

use super::agent::{Agent, CHAT_PATH, MESSAGES_PATH, Reply, chat, message, streamed};
use super::place::{Place, total};
use super::upstream::prices::{CHAT, CLAUDE};
use crate::harness::order::{TRACED_BYTES, Trace};
use crate::harness::strace;

/// How a request to a provider begins.
const REQUEST: &[u8] = b"POST /v1/";

/// Sends a call with this word in its prompt; the id of its hold.
async fn ask(agent: &Agent, path: &str, mut body: Value, word: &str) -> uuid::Uuid {
    body["messages"][0]["content"] = word.into();
    let answered: Reply = agent.post(path, &body).await.ok();
    let id = answered.header("x-backstop-call-id").expect("a call has an id");
    uuid::Uuid::parse_str(id).expect("the id of its hold")
}

#[tokio::test]
async fn l4_not_one_byte_goes_upstream_before_its_hold_is_synced() {
    if let Err(why) = strace::available() {
        panic!("{why}");
    }
    let place = Place::with(total("1000")).await;
    let log = place.site.path("trace");
    let daemon = place.site.start_traced(&log, TRACED_BYTES).await;
    let agent = place.worker(&daemon).await;

    let mut calls = Vec::new();
    for n in 0..10 {
        let word = format!("alone-{n:03}-");
        let (path, body) = match n % 3 {
            0 => (CHAT_PATH, chat(&CHAT, 20)),
            1 => (CHAT_PATH, streamed(chat(&CHAT, 20))),
            _ => (MESSAGES_PATH, message(&CLAUDE, 20)),
        };
        calls.push((ask(&agent, path, body, &word).await, word));
    }
    // Many at once share a commit, and each still has to wait for it.
    let mut crowd = JoinSet::new();
    for n in 0..24 {
        let (agent, body) = (agent.clone(), chat(&CHAT, 20));
        crowd.spawn(async move {
            let word = format!("crowd-{n:03}-");
            (ask(&agent, CHAT_PATH, body, &word).await, word)
        });
    }
    calls.extend(crowd.join_all().await);
    place.settled(&agent).await;
    daemon.stop_group().await;
    place.books().await.assert_sound();

    let traced = strace::read(&log);
    // The proof stands on the syncs alone: the same trace without them proves nothing.
    let unsynced = Trace::new(traced.iter().filter(|call| !call.is_sync()).cloned().collect());
    let trace = Trace::new(traced);
    for (hold, word) in &calls {
        let proved = trace.prove(hold.as_bytes(), REQUEST, word.as_bytes());
        assert_eq!(proved, Ok(()), "{word}");
        let unproved = unsynced.prove(hold.as_bytes(), REQUEST, word.as_bytes());
        assert!(unproved.is_err_and(|why| why.contains("no sync")), "{word}");
    }
}
