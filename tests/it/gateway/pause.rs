//! Pause without loss, and containment: calls of a paused agent wait and go on, those of a contained one
//! are refused, and a stream in flight is cut and accounted (D2).

use std::sync::Arc;

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use tokio::task::JoinSet;

use super::agent::{Agent, CHAT_PATH, MESSAGES_PATH, Reply, chat, message, streamed};
use super::place::{Config, Place, SOON, cents, total};
use super::upstream::manner::Fault;
use super::upstream::prices::{CLAUDE_TWO_CENTS, TWO_CENTS};
use crate::harness::daemon::Daemon;
use crate::harness::wait;

/// The gauge of calls that wait for their agent to be resumed.
const PARKED: &str = "backstop_calls_parked";

/// Calls in the background, by their number.
fn in_background(agent: &Agent, calls: usize) -> JoinSet<Reply> {
    let mut sent = JoinSet::new();
    for number in 0..calls {
        let agent = agent.clone();
        sent.spawn(async move {
            match number % 3 {
                0 => agent.chat(&chat(&TWO_CENTS, 100)).await,
                1 => agent.chat(&streamed(chat(&TWO_CENTS, 100))).await,
                _ => agent.messages(&message(&CLAUDE_TWO_CENTS, 100)).await,
            }
        });
    }
    sent
}

async fn pause(place: &Place) {
    place.site.ok(&["pause", "worker", "--reason", "it looks odd"]).await;
}

/// Until so many calls wait for their agent to be resumed.
async fn until_parked(place: &Place, daemon: &Daemon, calls: usize) {
    let calls = calls.to_string();
    wait::until(&format!("{calls} calls to be parked"), SOON, async || {
        let parked = place.metric(daemon, PARKED).await?;
        (parked.to_string() == calls).then_some(())
    })
    .await;
}

#[tokio::test]
async fn d2_calls_of_a_paused_agent_wait_and_go_on() {
    let place = Place::with(total("10")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    worker.chat(&chat(&TWO_CENTS, 100)).await.ok();
    pause(&place).await;
    let mut calls = in_background(&worker, 30);
    until_parked(&place, &daemon, 30).await;
    assert_eq!(place.upstream.count().calls, 1, "none goes on before it is resumed");
    assert_eq!(worker.sums().await.held, Usd::ZERO, "what is parked holds nothing");
    assert!(calls.try_join_next().is_none(), "and none is answered");
    place.site.ok(&["resume", "worker"]).await;
    let replies = calls.join_all().await;
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:#?}");
    assert_eq!(place.upstream.count().calls, 31);
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    books.assert_exact(place.upstream.count().billed());
}

/// What waits when the daemon ends is told to come again, and the pause is there when it does.
#[tokio::test]
async fn d2_a_pause_outlives_the_daemon() {
    let place = Place::with(total("10")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    pause(&place).await;
    let waiting = in_background(&worker, 6);
    until_parked(&place, &daemon, 6).await;
    let ended = daemon.stop().await;
    assert!(ended.success(), "{ended}");
    for reply in waiting.join_all().await {
        let reply = reply.refused(503, "stopping");
        assert!(reply.header("retry-after").is_some(), "{reply:#?}");
        assert_ne!(reply.header("x-should-retry"), Some("false"), "{reply:#?}");
    }

    let daemon = place.start().await;
    worker.move_to(&daemon);
    let mut calls = in_background(&worker, 6);
    until_parked(&place, &daemon, 6).await;
    assert!(calls.try_join_next().is_none(), "none is answered");
    assert_eq!(place.upstream.seen().len(), 0, "and none was made");
    place.site.ok(&["resume", "worker"]).await;
    for reply in calls.join_all().await {
        reply.ok();
    }
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    books.assert_exact(place.upstream.count().billed());
    assert_eq!(books.view.postings.len(), 6);
}

#[tokio::test]
async fn beyond_the_limit_a_parked_call_is_told_when_to_come_again() {
    let place = Place::new(&Config {
        gateway: "max_parked = 3".to_owned(),
        more: total("10"),
        ..Config::default()
    })
    .await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    pause(&place).await;
    let mut calls = in_background(&worker, 12);
    let mut refused = Vec::new();
    while refused.len() < 9 {
        let reply = calls
            .join_next()
            .await
            .expect("there are calls")
            .expect("a call does not panic");
        refused.push(reply.refused(503, "agent_paused"));
    }
    for reply in &refused {
        let seconds: u64 = reply
            .header("retry-after")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        assert!((1..=60).contains(&seconds), "{reply:#?}");
        assert!(reply.body.contains("it looks odd"), "why: {}", reply.body);
    }
    assert!(calls.try_join_next().is_none(), "three wait");
    place.site.ok(&["resume", "worker"]).await;
    let replies = calls.join_all().await;
    assert_eq!(
        replies.iter().filter(|reply| reply.status == 200).count(),
        3,
        "{replies:#?}"
    );
    assert_eq!(place.upstream.count().calls, 3);
    place.settled(&worker).await;
    place.close(daemon).await;
}

/// A client that goes away while its call is parked is forgotten: nobody pays for a call that nobody
/// waits for.
#[tokio::test]
async fn a_parked_call_whose_client_has_gone_is_not_made() {
    let place = Place::with(total("10")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    pause(&place).await;
    let mut calls = in_background(&worker, 6);
    until_parked(&place, &daemon, 6).await;
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    until_parked(&place, &daemon, 0).await;
    place.site.ok(&["resume", "worker"]).await;
    worker.chat(&chat(&TWO_CENTS, 100)).await.ok();
    place.settled(&worker).await;
    assert_eq!(place.upstream.count().calls, 1);
    place.close(daemon).await;
}

/// Contained while its calls are parked: they are refused, not made.
#[tokio::test]
async fn containment_refuses_what_is_parked_and_what_comes() {
    let place = Place::with(total("10")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    pause(&place).await;
    let calls = in_background(&worker, 6);
    until_parked(&place, &daemon, 6).await;
    place.site.ok(&["contain", "worker", "--yes"]).await;
    for reply in calls.join_all().await {
        reply.refused(403, "agent_contained");
    }
    worker
        .chat(&chat(&TWO_CENTS, 100))
        .await
        .refused(403, "agent_contained");
    worker
        .messages(&message(&CLAUDE_TWO_CENTS, 100))
        .await
        .refused(403, "agent_contained");
    assert_eq!(place.upstream.seen().len(), 0);
    place.close(daemon).await;
}

/// Streams in flight are cut at containment: the client is told in the stream, the provider is left, and
/// what it may have spent is in the books. A pause lets them end.
#[tokio::test]
async fn a_stream_in_flight_is_cut_at_containment_and_not_at_a_pause() {
    let place = Arc::new(Place::with(total("10")).await);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut streams = JoinSet::new();
    for (path, body) in [
        (CHAT_PATH, streamed(chat(&TWO_CENTS, 100))),
        (CHAT_PATH, streamed(chat(&TWO_CENTS, 100))),
        (MESSAGES_PATH, streamed(message(&CLAUDE_TWO_CENTS, 100))),
    ] {
        place.upstream.once(Fault::WaitAfter(3));
        let agent = worker.clone();
        streams.spawn(async move { agent.post_cut(path, &body).await });
    }
    place.upstream.has_counted(3).await;
    pause(&place).await;
    assert!(streams.try_join_next().is_none(), "a pause lets go on what was begun");
    place.site.ok(&["contain", "worker", "--yes"]).await;
    for reply in streams.join_all().await {
        assert_eq!(reply.status, 200, "the head was sent before: {reply:#?}");
        let last = reply.events().pop().expect("an event");
        assert!(last["error"].is_object(), "{reply:#?}");
        assert!(last.to_string().contains("contained"), "{last:#}");
        assert!(
            !reply.body.contains("[DONE]") && !reply.body.contains("message_stop"),
            "{reply:#?}"
        );
    }
    wait::until("the provider to be left", SOON, async || {
        (place.upstream.ends().1 == 3).then_some(())
    })
    .await;
    let sums = place.settled(&worker).await;
    assert_eq!((sums.posted, sums.unresolved), (cents(6), cents(6)));
    let place = Arc::into_inner(place).expect("every call is done");
    let books = place.close(daemon).await;
    assert_eq!(books.holds(HoldState::Unresolved).len(), 3);
    books.assert_covers(place.upstream.count().billed());
}
