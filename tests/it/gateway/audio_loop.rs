//! The first incident: a bug returns an empty transcript, and the agent asks again for ever, at six tenths
//! of a cent a minute of audio. Its budget stops it.

use std::cell::Cell;

use backstop::domain::money::Usd;

use super::agent::Agent;
use super::place::{Place, SOON, budget, cents};
use super::upstream::audio::wav;
use super::upstream::manner::Fault;
use super::upstream::prices::{LISTENER, WHISPER};
use crate::harness::wait;

/// More turns of the loop than any budget here pays for.
const FOR_EVER: usize = 1_000;

/// What the provider charges for a recording of half a minute.
const EACH: i64 = 3_000_000;

/// The agent of the incident: while the transcript is empty it asks again.
async fn transcribe_until_done(agent: &Agent, model: &str, format: &str) -> (usize, u16, String) {
    let recording = wav(30_000);
    let fields = [("model", model), ("response_format", format)];
    for turn in 0..FOR_EVER {
        let reply = agent.transcribe("meeting.wav", &recording, &fields).await;
        if reply.status != 200 && reply.status < 500 {
            return (turn, reply.status, reply.code());
        }
        let text = match format {
            "text" => reply.body.trim().to_owned(),
            _ => reply.json()["text"].as_str().unwrap_or_default().to_owned(),
        };
        assert!(text.is_empty(), "the fixture says nothing: {reply:#?}");
    }
    panic!("nothing stopped it");
}

#[tokio::test]
async fn the_transcription_loop_is_stopped_by_its_budget() {
    for format in ["json", "verbose_json", "text"] {
        let place = Place::with(budget("daily", "agent", "0.10", "alert")).await;
        place.upstream.manner(|manner| {
            manner.transcript = String::new();
            manner.millis = 30_000;
        });
        let daemon = place.start().await;
        let worker = place.worker(&daemon).await;
        let (turns, status, code) = transcribe_until_done(&worker, WHISPER.name, format).await;
        assert_eq!((status, code.as_str()), (402, "budget_exceeded"), "{format}");
        // Thirty-three recordings of half a minute are a dime less a cent; the length is the file's own.
        let count = place.upstream.count();
        assert_eq!((turns, count.calls), (33, 33), "{format}");
        assert_eq!(count.billed(), Usd::from_nanos(33 * EACH));
        let sums = place.settled(&worker).await;
        assert!(
            sums.posted >= count.billed() && sums.posted <= cents(10),
            "{format}: {sums:?}"
        );
        assert_eq!(sums.overage, Usd::ZERO);
        let books = place.close(daemon).await;
        books.assert_covers(count.billed());
    }
}

/// Resolves every unresolved posting at what the provider charges for half a minute.
async fn resolve(place: &Place) {
    let listed = place.site.json(&["ledger", "resolve"]).await;
    let unresolved = listed["unresolved"].as_array().cloned().unwrap_or_default();
    assert!(!unresolved.is_empty(), "{listed:#}");
    for posting in unresolved {
        let id = posting["posting_id"].as_str().expect("an id");
        place
            .site
            .ok(&["ledger", "resolve", "--posting", id, "--cost-usd", "0.003"])
            .await;
    }
}

/// The same with a response that stops the agent for good, a provider that fails in between, and a model
/// that is billed by tokens of audio.
#[tokio::test]
async fn the_loop_pauses_the_agent_whatever_the_provider_answers() {
    let place = Place::with(budget("daily", "agent", "0.20", "pause")).await;
    place.upstream.manner(|manner| {
        manner.transcript = String::new();
        manner.millis = 30_000;
    });
    for fault in [
        Fault::Status {
            status: 500,
            bills: true,
        },
        Fault::Garbage,
        Fault::NoUsage,
        Fault::DropAfter(1),
    ] {
        place.upstream.once(fault);
    }
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let (mut turns, is_resolved) = (0, Cell::new(false));
    let recording = wav(30_000);
    loop {
        assert!(turns < FOR_EVER, "nothing stopped it");
        turns += 1;
        let model = if turns % 2 == 0 { WHISPER.name } else { LISTENER.name };
        let request = async { worker.transcribe("meeting.wav", &recording, &[("model", model)]).await };
        // Once it is paused its calls are parked, so they are not waited for.
        let paused = wait::until("a pause", SOON, async || {
            let shown = place.site.json(&["status", "worker"]).await;
            (shown["status"] == "paused").then_some(())
        });
        tokio::select! {
            biased;
            reply = request => {
                if reply.status == 402 && is_resolved.replace(true) {
                    place.site.until_status(&daemon, "worker", "paused").await;
                    break;
                }
                if reply.status == 402 {
                    // What nobody knows the end of refuses calls, and stops nobody; a person finds out what it was.
                    assert_eq!(place.site.json(&["status", "worker"]).await["status"], "active");
                    resolve(&place).await;
                }
            }
            () = paused => break,
        }
    }
    assert!(turns < 120, "{turns}");
    let count = place.upstream.count();
    assert!(count.billed() <= cents(20) && count.calls > 10, "{count:?}");
    let shown = place.site.json(&["status", "worker"]).await;
    assert!(
        shown["reason"].as_str().is_some_and(|why| why.contains("daily")),
        "{shown:#}"
    );
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    books.assert_covers(count.billed());
}
