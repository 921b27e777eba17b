//! Agents that are paused, resumed, contained, and a daemon that stops.

use std::sync::atomic::Ordering;

use backstop::domain::agent::AgentStatus;
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use backstop::gateway::{CallFailure, CallLimits};
use backstop::ledger::Unavailable;
use backstop::ports::Clock;
use jiff::SignedDuration;
use tokio::task::JoinSet;

use super::lab::{Lab, chat_body, code, lab, read, secs, usd};
use super::provider::Play;

/// D2: a pause loses nothing.
#[test]
fn the_calls_of_a_paused_agent_wait_and_go_on() {
    lab("1", async |lab: Lab| {
        lab.set_status(AgentStatus::Paused).await;
        let mut calls = JoinSet::from_iter((0..10).map(|_| lab.chat()));
        lab.pass(secs(300)).await;
        assert_eq!(
            (lab.provider.calls(), lab.holds().await.len()),
            (0, 0),
            "they hold nothing"
        );
        (0..10).for_each(|_| lab.provider.play(Play::chat(10, 2)));
        lab.set_status(AgentStatus::Active).await;
        while let Some(answered) = calls.join_next().await {
            answered.expect("no panic").expect("an answer");
        }
        lab.pass(secs(1)).await;
        assert_eq!(lab.line().await.posted, usd("0.000065"));
    });
}

/// D4: what is under way when the wall clock jumps is held, metered and settled as if it had not; what comes
/// waits for the clock, or for a person.
#[test]
fn d4_a_jumping_clock_lets_no_call_out_and_keeps_what_is_in_flight() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(120)));
        lab.provider.play(Play::stream(secs(30), 3, Some((10, 2))));
        let mut whole = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        let stream = lab.chat_stream().await.expect("an answer");
        let bound = lab.line().await.held;

        // More than an hour, and longer than any hold lives.
        lab.clock.set_skew(SignedDuration::from_hours(30));
        lab.pass(secs(5)).await;
        for _ in 0..3 {
            let refused = lab.chat().await.map(|reply| reply.status).expect_err("no answer");
            assert!(
                matches!(
                    refused.failure,
                    CallFailure::Unavailable(Unavailable::ClockJumped { .. })
                ),
                "{refused:?}"
            );
        }
        assert_eq!((lab.provider.calls(), lab.holds().await.len()), (2, 2), "none went out");
        assert_eq!(lab.line().await.held, bound, "nothing has expired");
        assert!(read(stream).await.ends_with("[DONE]\n\n"));
        let answered = whole.join_next().await.expect("one call").expect("no panic");
        answered.expect("an answer");
        lab.pass(secs(1)).await;
        let line = lab.line().await;
        assert_eq!(
            (line.posted, line.unresolved, line.held),
            (usd("0.000013"), Usd::ZERO, Usd::ZERO)
        );

        // The clock is right again; and one that goes back stops nothing.
        for skew in [0, -3] {
            lab.clock.set_skew(SignedDuration::from_hours(skew));
            lab.pass(secs(5)).await;
            lab.provider.play(Play::chat(10, 2));
            lab.chat().await.expect("an answer");
        }
        lab.pass(secs(1)).await;
        let states: Vec<HoldState> = lab.holds().await.iter().map(|hold| hold.state).collect();
        assert_eq!(states, [HoldState::Captured; 4]);
        assert_eq!(lab.line().await.posted, usd("0.000026"));
    });
}

#[test]
fn a_wait_has_an_end_and_the_places_have_one() {
    lab("1", async |lab: Lab| {
        lab.limits(CallLimits {
            max_parked: 3,
            ..CallLimits::default()
        });
        lab.set_status(AgentStatus::Paused).await;
        lab.pass(secs(1)).await;
        let start = lab.clock.monotonic();
        let mut calls = JoinSet::from_iter((0..5).map(|_| lab.chat()));
        for at in [0, 0, 600, 600, 600] {
            let answered = calls.join_next().await.expect("a call").expect("no panic");
            assert_eq!(code(answered), "agent_paused");
            assert_eq!((lab.clock.monotonic() - start).as_secs(), at);
        }
        assert_eq!(lab.provider.calls(), 0);
    });
}

#[test]
fn a_call_that_waited_goes_on_by_the_rules_of_then() {
    lab("1", async |lab: Lab| {
        lab.set_status(AgentStatus::Paused).await;
        let mut body = chat_body(false);
        body["tools"] = serde_json::json!([{ "type": "function", "function": { "name": "delete" } }]);
        let mut call = JoinSet::from_iter([lab.call("/v1/chat/completions", body)]);
        lab.pass(secs(30)).await;
        lab.manifest("search");
        lab.set_status(AgentStatus::Active).await;
        let answered = call.join_next().await.expect("a call").expect("no panic");
        assert_eq!(code(answered), "tool_not_in_manifest");
        assert_eq!(lab.provider.calls(), 0);
    });
}

#[test]
fn a_paused_agent_that_is_contained_is_told_so() {
    lab("1", async |lab: Lab| {
        lab.set_status(AgentStatus::Paused).await;
        let mut call = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(30)).await;
        lab.set_status(AgentStatus::Contained).await;
        let answered = call.join_next().await.expect("a call").expect("no panic");
        assert_eq!(code(answered), "agent_contained");
    });
}

#[test]
fn a_contained_agent_calls_nothing_free_routes_included() {
    lab("1", async |lab: Lab| {
        lab.set_status(AgentStatus::Contained).await;
        lab.pass(secs(1)).await;
        assert_eq!(code(lab.chat().await), "agent_contained");
        assert_eq!(
            code(lab.call("/v1/models", serde_json::Value::Null).await),
            "agent_contained"
        );
        assert_eq!(lab.provider.calls(), 0);
    });
}

/// The state that counts is the one that the hold's own commit reads.
#[test]
fn a_containment_that_nobody_here_has_heard_of_yet_binds_the_next_call() {
    lab("1", async |lab: Lab| {
        lab.set_status(AgentStatus::Contained).await;
        assert_eq!(code(lab.chat().await), "agent_contained");
        assert_eq!(lab.provider.calls(), 0);
    });
}

#[test]
fn a_stream_is_cut_at_containment_and_accounted() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(secs(1), 100, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        let mut reading = JoinSet::from_iter([read(reply)]);
        lab.pass(secs(10)).await;
        lab.set_status(AgentStatus::Contained).await;
        lab.pass(secs(2)).await;
        assert_eq!(
            lab.provider.closed.load(Ordering::SeqCst),
            1,
            "so that the provider stops writing"
        );
        let text = reading.join_next().await.expect("one").expect("no panic");
        assert!(
            text.contains("agent_contained") && text.matches("word").count() < 15,
            "{text}"
        );
        let (state, posted) = lab.outcome().await;
        assert_eq!((state, posted), (HoldState::Unresolved, lab.bound().await));
    });
}

#[test]
fn an_answer_under_way_does_not_reach_an_agent_that_was_contained() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(20)));
        let mut call = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(5)).await;
        lab.set_status(AgentStatus::Contained).await;
        let answered = call.join_next().await.expect("a call").expect("no panic");
        assert_eq!(code(answered), "agent_contained");
        lab.pass(secs(20)).await;
        assert_eq!(
            lab.outcome().await,
            (HoldState::Captured, usd("0.0000065")),
            "still accounted"
        );
    });
}

#[test]
fn a_pause_lets_what_is_under_way_end() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(secs(1), 10, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        lab.set_status(AgentStatus::Paused).await;
        assert!(read(reply).await.ends_with("data: [DONE]\n\n"));
        assert_eq!(lab.outcome().await.0, HoldState::Captured);
    });
}

#[test]
fn a_daemon_that_stops_drains_and_then_cuts() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(secs(1), 5, Some((10, 2))));
        lab.provider.play(Play::stream(secs(1), 5_000, Some((10, 2))));
        let (short, long) = (lab.chat_stream().await, lab.chat_stream().await);
        let mut short = JoinSet::from_iter([read(short.expect("an answer"))]);
        let mut long = JoinSet::from_iter([read(long.expect("an answer"))]);
        lab.set_status(AgentStatus::Paused).await;
        lab.pass(secs(1)).await;
        let mut parked = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        lab.stop.cancel();
        assert_eq!(
            code(parked.join_next().await.expect("one").expect("no panic")),
            "stopping"
        );
        assert_eq!(code(lab.chat().await), "stopping");
        assert!(
            short
                .join_next()
                .await
                .expect("one")
                .expect("no panic")
                .ends_with("data: [DONE]\n\n")
        );
        let text = long.join_next().await.expect("one").expect("no panic");
        assert!(text.contains("stopping") && text.ends_with("[cut off]"), "{text}");
        lab.pass(secs(1)).await;
        let states: Vec<HoldState> = lab.holds().await.iter().map(|hold| hold.state).collect();
        assert_eq!(states, [HoldState::Captured, HoldState::Unresolved]);
    });
}

/// Who waits for room in a budget is told that the daemon stops, and not when somebody else's call has ended.
#[test]
fn a_call_that_waits_for_a_hold_is_told_at_once_that_the_daemon_stops() {
    // Room for one call, not for two.
    lab("0.005", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(5)));
        let mut first = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        let mut second = JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        lab.stop.cancel();
        lab.pass(secs(1)).await;
        let told = second.try_join_next().expect("it knows").expect("no panic");
        assert_eq!(code(told), "stopping");
        assert_eq!(code(lab.chat().await), "stopping");
        let answered = first.join_next().await.expect("a call").expect("no panic");
        answered.expect("what is under way has its time");
        assert_eq!(lab.outcome().await.0, HoldState::Captured);
        assert_eq!(lab.provider.calls(), 1);
    });
}
