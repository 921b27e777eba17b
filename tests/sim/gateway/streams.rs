//! Streams: passed on as they come, settled by their usage, cut where a promise would break.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop::domain::ledger::hold::HoldState;
use backstop::gateway::ReplyBody;
use backstop::ports::{Clock, UpstreamFault};
use futures_util::StreamExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;

use super::lab::{Lab, chat_body, lab, read, secs, usd};
use super::provider::{Play, Step};

const TENTH: Duration = Duration::from_millis(100);

#[test]
fn a_stream_is_settled_by_its_usage_which_the_client_did_not_ask_for() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(TENTH, 3, Some((10, 2))));
        let reply = lab.chat_stream().await.expect("an answer");
        assert_eq!(reply.told.cost, None, "not known yet");
        let text = read(reply).await;
        assert_eq!(text.matches("word").count(), 3);
        assert!(
            text.ends_with("data: [DONE]\n\n") && !text.contains("\"usage\":{"),
            "{text}"
        );
        let sent: serde_json::Value = serde_json::from_slice(&lab.provider.seen.lock().unwrap()[0].body).unwrap();
        assert_eq!(sent["stream_options"]["include_usage"], true);
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd("0.0000065")));
    });
}

#[test]
fn pieces_are_handed_on_as_they_come() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(secs(10), 3, Some((10, 2))));
        let start = lab.clock.monotonic();
        let reply = lab.chat_stream().await.expect("an answer");
        let ReplyBody::Pieces(mut pieces) = reply.body else {
            panic!("a stream has pieces");
        };
        for at in [20, 30, 40] {
            let piece = pieces.next().await.expect("a piece").expect("no cut");
            assert!(piece.starts_with(b"data: "), "{piece:?}");
            assert_eq!(lab.clock.monotonic() - start, secs(at), "no later than it came");
        }
    });
}

#[test]
fn a_stream_that_does_not_say_what_it_used_is_unresolved() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::stream(TENTH, 3, None));
        let text = read(lab.chat_stream().await.expect("an answer")).await;
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let (state, posted) = lab.outcome().await;
        assert_eq!((state, posted), (HoldState::Unresolved, lab.bound().await));
    });
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error_and_unresolved() {
    let silence = Step::Wait(secs(3_000));
    for then in [Step::Break(UpstreamFault::Broken), silence] {
        lab("1", async |lab: Lab| {
            lab.provider.play(Play::stream(TENTH, 3, Some((10, 2))).then(4, then));
            let text = read(lab.chat_stream().await.expect("an answer")).await;
            assert_eq!(text.matches("word").count(), 2);
            assert!(
                text.contains("\"error\"") && text.ends_with("[cut off]") && !text.contains("[DONE]"),
                "{text}"
            );
            assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
        });
    }
}

/// A stream that calls this tool after its first word, and would go on.
fn calling(tool: &str) -> Play {
    let mut play = Play::stream(TENTH, 1, Some((10, 2)));
    let call = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini",
        "choices": [{ "index": 0, "finish_reason": null, "delta": { "tool_calls": [
            { "index": 0, "id": "1", "type": "function", "function": { "name": tool, "arguments": "" } },
        ] } }],
    });
    play.steps.insert(2, Step::Piece(format!("data: {call}\n\n").into()));
    play
}

/// D3: a stream that is cut for a tool is a refusal like any other, with its name and its own code.
#[test]
fn d3_a_call_of_a_tool_that_is_not_declared_cuts_the_stream_and_is_on_record() {
    for (tool, expected) in [("delete", "tool_not_in_manifest"), ("drop_all", "tool_blacklisted")] {
        lab("1", async |lab: Lab| {
            lab.declares(json!({
                "allowed_tools": [{ "tool_name": "search" }], "blacklisted_tools": ["drop_all"],
            }));
            lab.provider.play(calling(tool));
            let mut body = chat_body(true);
            body["tools"] = json!([{ "type": "function", "function": { "name": "search", "parameters": {} } }]);
            let reply = lab.call("/v1/chat/completions", body).await.expect("an answer");
            let text = read(reply).await;
            assert!(
                text.contains("word") && text.contains(expected) && text.ends_with("[cut off]"),
                "{text}"
            );
            assert!(
                !text.contains("\"arguments\""),
                "the client never sees the call: {text}"
            );
            assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
            assert_eq!(lab.provider.closed.load(Ordering::SeqCst), 1, "nobody reads on");
            let refused = lab.refused().await;
            assert!(
                matches!(&refused[..], [(code, reason)] if code == expected && reason.contains(tool)),
                "{refused:?}"
            );
        });
    }
}

#[test]
fn a_stream_past_what_its_hold_covers_is_cut_and_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        lab("1", async |lab: Lab| {
            lab.provider
                .play(Play::stream(Duration::ZERO, 20_000, Some((10, 20_000))));
            let text = read(lab.chat_stream().await.expect("an answer")).await;
            assert!(
                text.contains("output_limit") && !text.contains("[DONE]"),
                "{}",
                text.len()
            );
            let (state, posted) = lab.outcome().await;
            assert_eq!((state, posted), (HoldState::Unresolved, lab.bound().await));
        })
    });
    let metrics = recorder.handle().render();
    let counted = "backstop_calls_past_limit_total{upstream=\"openai\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
}
