//! Many calls at once: how many there may be, what they wait for, and what ends with them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop::domain::agent::AgentStatus;
use backstop::domain::ledger::hold::HoldState;
use backstop::gateway::{CallLimits, Room, Shares};
use backstop::ports::UpstreamFault;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::lab::{Lab, agent, chat_body, code, lab, read, secs, usd};
use super::provider::{Play, Step};

fn one_at_a_time() -> CallLimits {
    CallLimits {
        max_calls: 1,
        ..CallLimits::default()
    }
}

#[test]
fn calls_under_way_are_bounded_with_those_whose_client_has_gone() {
    lab("1", async |lab: Lab| {
        lab.limits(one_at_a_time());
        lab.provider.play(Play::chat(10, 2).after(secs(20)));
        let mut call = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        assert_eq!(code(lab.chat().await), "overloaded");
        call.shutdown().await;
        lab.pass(secs(1)).await;
        assert_eq!(
            code(lab.chat().await),
            "overloaded",
            "it is still read for what it used"
        );
        lab.pass(secs(20)).await;
        lab.provider.play(Play::chat(10, 2));
        lab.chat().await.expect("there is room again");
        assert_eq!(lab.provider.calls(), 2);
    });
}

#[test]
fn a_free_call_ends_with_its_client() {
    lab("1", async |lab: Lab| {
        lab.limits(one_at_a_time());
        lab.provider.play(Play::json(200, &json!({})).after(secs(500)));
        let mut call = JoinSet::from_iter([lab.call("/v1/models", Value::Null)]);
        lab.pass(secs(1)).await;
        call.shutdown().await;
        lab.pass(secs(1)).await;
        lab.provider.play(Play::chat(10, 2));
        lab.chat().await.expect("its place is free");
    });
}

#[test]
fn a_key_that_was_revoked_while_its_call_waited_opens_nothing() {
    lab("1", async |lab: Lab| {
        lab.set_status(AgentStatus::Paused).await;
        let mut call = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(30)).await;
        lab.revoked.store(true, Ordering::SeqCst);
        lab.set_status(AgentStatus::Active).await;
        let answered = call.join_next().await.expect("a call").expect("no panic");
        assert_eq!(code(answered), "bad_credential");
        assert_eq!((lab.provider.calls(), lab.holds().await.len()), (0, 0));
    });
}

/// With a call under way that holds most of the budget and does not end for weeks: counting takes real time,
/// in which the virtual one runs on.
async fn beside_a_large_call(lab: &Lab) -> JoinSet<()> {
    let weeks = secs(2_500_000);
    lab.limits(CallLimits {
        response_timeout: weeks,
        idle_timeout: weeks,
        call_timeout: weeks,
        ..CallLimits::default()
    });
    lab.provider.play(Play::chat(10, 2).after(secs(2_400_000)));
    let mut large = chat_body(false);
    large["max_completion_tokens"] = json!(5_000);
    let call = lab.call("/v1/chat/completions", large);
    let first = JoinSet::from_iter([async move { drop(call.await) }]);
    lab.pass(secs(1)).await;
    first
}

/// A call whose text has far fewer tokens than bytes.
fn long_text() -> Value {
    let mut text = chat_body(false);
    text["messages"][0]["content"] = "Nothing is as it was, and all is well. ".repeat(1_000).into();
    text
}

/// A text that fits by its tokens waits for nobody, though its bytes would have to.
#[test]
fn a_text_that_fits_once_it_is_counted_does_not_wait_for_others() {
    lab("0.03", async |lab: Lab| {
        let _first = beside_a_large_call(&lab).await;
        let first = lab.bound().await;
        lab.provider.play(Play::chat(10_000, 2));
        let reply = lab.call("/v1/chat/completions", long_text()).await;
        let reply = reply.expect("it fits beside the first");
        assert_eq!(reply.status, 200);
        lab.pass(secs(1)).await;
        let holds = lab.holds().await;
        let states: Vec<HoldState> = holds.iter().map(|hold| hold.state).collect();
        assert_eq!(states, [HoldState::Open, HoldState::Captured]);
        assert!(first > usd("0.015") && holds[1].bound < usd("0.012"), "{holds:#?}");
    });
}

/// The places in which texts are counted are given back, so that a later text is counted as well.
#[test]
fn a_place_to_count_is_free_again_after_the_count() {
    lab("0.03", async |lab: Lab| {
        let _first = beside_a_large_call(&lab).await;
        for _ in 0..5 {
            lab.provider.play(Play::chat(10, 2));
            let reply = lab.call("/v1/chat/completions", long_text()).await;
            reply.expect("it is counted, and fits beside the first");
        }
        lab.pass(secs(1)).await;
        let holds = lab.holds().await;
        assert_eq!(holds.len(), 6);
        assert!(holds[1..].iter().all(|hold| hold.bound < usd("0.012")), "{holds:#?}");
    });
}

/// How many calls there may be is read anew at every call, and takes nothing from those that are under way.
#[test]
fn the_bound_of_calls_under_way_follows_the_settings() {
    let limits = |max_calls| CallLimits {
        max_calls,
        ..CallLimits::default()
    };
    lab("1", async |lab: Lab| {
        lab.limits(limits(1));
        (0..3).for_each(|_| lab.provider.play(Play::chat(10, 2).after(secs(20))));
        let mut calls = JoinSet::new();
        for (most, expected) in [(1, 1), (3, 3), (2, 3)] {
            lab.limits(limits(most));
            while calls.len() < expected {
                calls.spawn(lab.chat());
                lab.pass(secs(1)).await;
            }
            assert_eq!(code(lab.chat().await), "overloaded", "{most}");
            assert_eq!(lab.provider.calls(), expected);
        }
        for _ in 0..3 {
            let answered = calls.join_next().await.expect("a call").expect("no panic");
            answered.expect("what was under way goes on");
        }
    });
}

#[test]
fn an_answer_that_is_not_read_here_does_not_end_as_if_it_were_whole() {
    lab("1", async |lab: Lab| {
        let broken = Play::raw(200, "audio/mpeg", b"half of it").then(1, Step::Break(UpstreamFault::Broken));
        lab.provider.play(broken);
        let reply = lab.call("/v1/batches", json!({})).await.expect("an answer");
        assert_eq!(read(reply).await, "half of it[cut off]");
        lab.provider
            .play(Play::raw(200, "audio/mpeg", b"all of it").after(Duration::from_secs(1)));
        let reply = lab.call("/v1/batches", json!({})).await.expect("an answer");
        assert_eq!(read(reply).await, "all of it");
    });
}

/// A body that changes on its way is another than the one that came, and takes as much memory.
#[test]
fn a_body_keeps_its_place_until_it_is_sent_in_whatever_form() {
    lab("1", async |lab: Lab| {
        let shelf = Shares::default();
        let room = Room {
            most: 10,
            shared: false,
        };
        for (stream, changes) in [(false, false), (true, true)] {
            let place = shelf.take(&agent(), 1, room);
            assert!(place.is_some());
            lab.provider.play(Play::chat(10, 2).after(secs(20)));
            let body = chat_body(stream);
            let mut call = JoinSet::from_iter([lab.call_of("/v1/chat/completions", body.clone(), place)]);
            lab.pass(secs(10)).await;
            let sent = lab.provider.seen.lock().unwrap().pop().expect("it is under way").body;
            assert_eq!(sent != body.to_string().as_bytes(), changes);
            assert_eq!(shelf.taken(), 1);
            drop(sent);
            call.join_next()
                .await
                .expect("a call")
                .expect("no panic")
                .expect("an answer");
            assert_eq!(shelf.taken(), 0);
        }
    });
}
