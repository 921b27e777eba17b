//! Clients that go away, at every stage of a call: what was sent is accounted, what was not is not made.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use backstop::gateway::{CallLimits, ReplyBody};
use backstop::ports::Clock;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use super::lab::{Lab, lab, read, secs, usd};
use super::provider::{Play, Step};

const COST: &str = "0.0000065";

#[test]
fn a_client_that_goes_before_the_answer_is_accounted_by_it() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(20)));
        let mut call = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        call.shutdown().await;
        lab.pass(secs(30)).await;
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd(COST)));
    });
}

#[test]
fn an_answer_that_comes_too_late_for_a_client_that_went_is_unresolved() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(500)));
        let mut call = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        call.shutdown().await;
        lab.pass(secs(28)).await;
        assert_eq!(lab.holds().await[0].state, HoldState::Open, "it is still waited for");
        lab.pass(secs(5)).await;
        assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
    });
}

#[test]
fn a_stream_whose_client_goes_is_read_on_for_its_usage() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(secs(2), 5, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        let ReplyBody::Pieces(mut pieces) = reply.body else {
            panic!("a stream has pieces");
        };
        pieces.next().await.expect("a piece").expect("whole");
        drop(pieces);
        lab.pass(secs(30)).await;
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd(COST)));
    });
}

#[test]
fn a_stream_whose_client_goes_is_not_read_for_ever() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(secs(10), 50, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        drop(reply);
        lab.pass(secs(35)).await;
        assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
        assert_eq!(
            lab.provider.closed.load(Ordering::SeqCst),
            1,
            "so that the provider stops writing"
        );
    });
}

#[test]
fn a_client_that_takes_nothing_slows_the_reading_and_counts_as_gone_in_the_end() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(Duration::ZERO, 50, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        lab.pass(secs(60)).await;
        assert_eq!(lab.provider.closed.load(Ordering::SeqCst), 0, "it waits for the client");
        assert_eq!(lab.holds().await[0].state, HoldState::Open);
        lab.pass(secs(70)).await;
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd(COST)));
        // What was handed to it in time it may still have.
        let text = read(reply).await;
        assert!(text.contains("word") && text.ends_with("[cut off]"), "{text}");
    });
}

#[test]
fn a_slow_client_gets_all_of_it() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(Duration::ZERO, 50, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        let ReplyBody::Pieces(mut pieces) = reply.body else {
            panic!("a stream has pieces");
        };
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece.expect("it is whole"));
            lab.clock.sleep(secs(60)).await;
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("word").count(), 50);
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd(COST)));
    });
}

/// A call that waits for room was never made when its client goes; a later one is not in its way.
#[test]
fn a_client_that_goes_while_it_waits_for_room_has_made_no_call() {
    // Room for one call, not for two.
    lab("0.005", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(20)));
        let mut first = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        let mut second = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(5)).await;
        second.shutdown().await;
        first
            .join_next()
            .await
            .expect("one")
            .expect("no panic")
            .expect("an answer");
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd(COST)));
        assert_eq!(lab.provider.calls(), 1);
    });
}

#[test]
fn drain_can_be_switched_off() {
    lab("1", async |lab: Lab| {
        lab.limits(CallLimits {
            drain: Duration::ZERO,
            ..CallLimits::default()
        });
        lab.provider.play(Play::chat(10, 2).after(secs(20)));
        let mut call = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        call.shutdown().await;
        let (state, posted) = lab.outcome().await;
        assert_eq!((state, posted > Usd::ZERO), (HoldState::Unresolved, true));
    });
}

#[test]
fn nobody_waits_for_what_never_ends() {
    lab("1", async |lab: Lab| {
        let hanging = Play::stream(Duration::ZERO, 3, None).then(2, Step::Wait(secs(1_000_000)));
        lab.provider.play(hanging);
        drop(lab.chat_stream().await.expect("an answer"));
        lab.pass(secs(40)).await;
        assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
    });
}
