//! The memory that answers take: bounded in all, and shared so that every answer comes to its end.

use backstop::domain::ledger::hold::HoldState;
use backstop::gateway::{CallLimits, Failed, Reply, ReplyBody};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::task::JoinSet;

use super::lab::{Lab, code, lab, read, secs};
use super::provider::{Play, Step, completion_of};

/// One answer at most, and all of them.
const ONE: usize = 100_000;
const ALL: u64 = 400_000;

fn tight() -> CallLimits {
    CallLimits {
        max_response_bytes: ONE,
        response_memory: ALL,
        ..CallLimits::default()
    }
}

/// Comes in pieces, a second apart, so that others come between them.
fn in_pieces(text: &[u8], pieces: usize) -> Vec<Step> {
    let each = text.len().div_ceil(pieces);
    let chunks = text.chunks(each).map(Bytes::copy_from_slice);
    chunks
        .flat_map(|piece| [Step::Wait(secs(1)), Step::Piece(piece)])
        .collect()
}

/// An answer of nearly the largest size.
fn large() -> Play {
    let mut body = completion_of(10, 2);
    body["choices"][0]["message"]["content"] = "x".repeat(ONE - 1_000).into();
    Play {
        steps: in_pieces(body.to_string().as_bytes(), 4),
        ..Play::chat(10, 2)
    }
}

/// The same as one event of a stream, and its end.
fn large_event() -> Play {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini",
        "choices": [{ "index": 0, "delta": { "content": "x".repeat(ONE - 1_000) }, "finish_reason": null }],
    });
    let mut play = Play::stream(secs(1), 1, Some((10, 2)));
    let mut steps = in_pieces(format!("data: {chunk}\n\n").as_bytes(), 4);
    steps.append(&mut play.steps);
    Play { steps, ..play }
}

fn length(answered: Result<Reply, Failed>) -> usize {
    match answered.expect("an answer").body {
        ReplyBody::Whole(bytes) => bytes.len(),
        ReplyBody::Pieces(_) => panic!("it is no stream"),
    }
}

#[test]
fn answers_that_nobody_takes_are_bounded_in_all_and_each_comes_in_the_end() {
    lab("1", async |lab: Lab| {
        lab.limits(tight());
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            lab.provider.play(large());
            calls.spawn(lab.chat());
        }
        // What is ready is not taken yet.
        lab.pass(secs(60)).await;
        assert!(lab.gateway.answer_bytes() <= ALL, "{}", lab.gateway.answer_bytes());
        let mut ready: Vec<_> = std::iter::from_fn(|| calls.try_join_next()).collect();
        assert!((1..=4).contains(&ready.len()), "{} are ready at once", ready.len());
        let mut served = 0;
        loop {
            served += ready.len();
            // Now they are.
            for answered in ready.drain(..) {
                assert!(length(answered.expect("no panic")) > ONE - 1_000);
            }
            let Some(next) = calls.join_next().await else { break };
            assert!(lab.gateway.answer_bytes() <= ALL);
            ready.push(next);
        }
        lab.pass(secs(1)).await;
        assert_eq!((served, lab.gateway.answer_bytes()), (20, 0));
        let holds = lab.holds().await;
        assert!(holds.iter().all(|hold| hold.state == HoldState::Captured));
    });
}

#[test]
fn events_that_are_not_whole_yet_are_bounded_in_all_too() {
    lab("1", async |lab: Lab| {
        lab.limits(tight());
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            lab.provider.play(large_event());
            let call = lab.chat_stream();
            calls.spawn(async move { read(call.await.expect("an answer")).await });
        }
        let mut most = 0;
        let mut served = 0;
        while served < 20 {
            lab.pass(secs(1)).await;
            most = most.max(lab.gateway.answer_bytes());
            while let Some(text) = calls.try_join_next() {
                let text = text.expect("no panic");
                assert!(text.len() > ONE - 1_000 && text.ends_with("data: [DONE]\n\n"));
                served += 1;
            }
        }
        assert!(most > ALL / 2 && most <= ALL, "{most}");
        assert_eq!(lab.gateway.answer_bytes(), 0);
    });
}

#[test]
fn a_stream_that_its_client_takes_slowly_waits_in_that_memory() {
    lab("1", async |lab: Lab| {
        lab.limits(tight());
        lab.provider.play(Play::stream(secs(0), 50, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        lab.pass(secs(1)).await;
        let waiting = lab.gateway.answer_bytes();
        assert!(waiting > 1_000, "{waiting}");
        let ReplyBody::Pieces(mut pieces) = reply.body else {
            panic!("a stream has pieces");
        };
        let first = pieces.next().await.expect("a piece").expect("whole");
        lab.pass(secs(1)).await;
        assert!(
            lab.gateway.answer_bytes() > waiting,
            "it is not written yet, and one more came"
        );
        drop((first, pieces));
        lab.pass(secs(1)).await;
        assert_eq!(lab.gateway.answer_bytes(), 0);
    });
}

#[test]
fn an_answer_that_finds_no_memory_in_time_is_given_up_and_charged_at_its_bound() {
    lab("1", async |lab: Lab| {
        lab.limits(tight());
        let mut taken = Vec::new();
        for _ in 0..4 {
            lab.provider.play(large());
            taken.push(lab.chat().await.expect("there is room for four"));
        }
        lab.provider.play(large());
        assert_eq!(code(lab.chat().await), "no_memory_for_answer");
        lab.pass(secs(1)).await;
        let last = lab.holds().await.pop().expect("a hold");
        assert_eq!(last.state, HoldState::Unresolved);
        drop(taken);
        lab.provider.play(large());
        lab.chat().await.expect("there is room again");
    });
}
