//! What is enforced, what is recorded, and what was spent are one number.

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::agent::{CHAT_PATH, MESSAGES_PATH, answered, at_once, chat, message, open_chat, streamed};
use super::super::place::{Config, Place, SOON, budget, cents, total, usd};
use super::super::upstream::manner::{Fault, Much};
use super::super::upstream::prices::{CHAT, CLAUDE, CLAUDE_TWO_CENTS, EMBED, TWO_CENTS};
use crate::harness::wait;

/// Way 1. The counter that refuses and the one that is shown are the same, to the nano-dollar: a call whose
/// bound is exactly what is left goes through, and one more token does not.
#[tokio::test]
async fn way_01_enforced_differs_from_recorded() {
    let place = Place::with(total("1.00")).await;
    place.upstream.manner(|manner| manner.output = Much::Exactly(7));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut costs = Usd::ZERO;
    let mut sum = |cost: Usd| costs = costs.saturating_add(cost);
    for _ in 0..3 {
        sum(worker.chat(&chat(&CHAT, 33)).await.ok().cost());
        sum(worker.messages(&message(&CLAUDE, 33)).await.ok().cost());
        let texts = json!({ "model": EMBED.name, "input": ["one", "and another"] });
        sum(worker.post("/openai/v1/embeddings", &texts).await.ok().cost());
    }
    let shown = place.settled(&worker).await;
    let lines = worker.lines().await;
    let left = usd(&lines[0]["remaining_usd"]);
    assert_eq!(costs, place.upstream.count().billed(), "each answer told what it cost");
    assert_eq!((shown.posted, left), (costs, cents(100).saturating_sub(costs)));
    assert_eq!(place.spend().await, costs);

    let tokens = u64::try_from(left.nanos() / 200_000).expect("something is left");
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    worker
        .chat(&chat(&TWO_CENTS, tokens + 1))
        .await
        .refused(402, "budget_exceeded");
    let last = worker.chat(&chat(&TWO_CENTS, tokens)).await.ok();
    assert!(
        last.usd("x-backstop-remaining-usd") < Usd::from_nanos(200_000),
        "{last:#?}"
    );
    worker.chat(&chat(&TWO_CENTS, 1)).await.refused(402, "budget_exceeded");
    place.settled(&worker).await;
    let spent = place.spend().await;
    let books = place.close(daemon).await;
    assert_eq!(
        (books.posted(), spent),
        (place.upstream.count().billed(), books.posted())
    );
}

/// Way 2. Calls that are checked at the same moment do not all find the same room: two APIs, streams and
/// whole answers, stated limits and none, three budgets, one of them almost used up.
#[tokio::test]
async fn way_02_concurrent_overshoot() {
    let budgets = [
        total("2.00"),
        budget("fleet", "fleet", "0.30", "alert"),
        budget("model", "model", "0.25", "alert"),
    ];
    let place = Place::with(budgets.concat()).await;
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut calls = JoinSet::new();
    for (path, body) in [
        (CHAT_PATH, chat(&TWO_CENTS, 100)),
        (CHAT_PATH, streamed(chat(&TWO_CENTS, 100))),
        (CHAT_PATH, streamed(open_chat(&TWO_CENTS))),
        (MESSAGES_PATH, message(&CLAUDE_TWO_CENTS, 100)),
        (MESSAGES_PATH, streamed(message(&CLAUDE_TWO_CENTS, 100))),
    ] {
        let agent = worker.clone();
        calls.spawn(async move { at_once(&agent, path, &body, 60).await });
    }
    let replies: Vec<_> = calls.join_all().await.into_iter().flatten().collect();
    assert!(
        replies.iter().all(|reply| [200, 402].contains(&reply.status)),
        "{replies:#?}"
    );
    let billed = place.upstream.count().billed();
    assert!(billed <= cents(30), "{} served for {billed}", answered(&replies));
    assert!(billed > cents(24), "{} served for {billed}", answered(&replies));
    wait::until("the calls to settle", SOON, async || {
        let lines = worker.lines().await;
        lines.iter().all(|line| line["held_usd"] == "0.00").then_some(())
    })
    .await;
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), billed);
    for line in &books.view.lines {
        assert!(line.posted <= line.limit() && line.overage == Usd::ZERO, "{line:#?}");
    }
}

/// Way 3. When the books cannot be written nothing is let through, and what is under way stays accounted.
#[tokio::test]
async fn way_03_store_failure_lets_calls_through() {
    let place = Place::with(total("1000")).await;
    let daemon = place.start_with_little_room().await;
    let worker = place.worker(&daemon).await;
    worker.chat(&chat(&TWO_CENTS, 100)).await.ok();
    // A call is under way while the disk fills up.
    place.upstream.once(Fault::WaitBeforeHead);
    let (agent, under_way) = (worker.clone(), chat(&TWO_CENTS, 100));
    let mut open = JoinSet::new();
    open.spawn(async move { agent.chat(&under_way).await });
    place.upstream.has_counted(2).await;
    for batch in 0.. {
        assert!(batch < 1_000, "the file has outgrown its limit");
        let rows: Vec<_> = (0..100)
            .map(|n| json!({ "id": format!("b{batch}-{n}"), "amount_usd": "0.01", "model": "m" }))
            .collect();
        if worker.post("/v1/usage", &json!(rows)).await.status == 503 {
            break;
        }
    }
    for body in [chat(&TWO_CENTS, 100), open_chat(&CHAT), streamed(chat(&CHAT, 1))] {
        let refused = worker.chat(&body).await;
        assert_eq!(refused.status, 503, "{refused:#?}");
        assert!(refused.header("retry-after").is_some(), "{refused:#?}");
        let message = refused.json()["error"]["message"].clone();
        assert!(
            message.as_str().is_some_and(|text| text.contains("ledger")),
            "{refused:#?}"
        );
    }
    let refused = worker.messages(&message(&CLAUDE, 5)).await;
    assert_eq!(
        (refused.status, refused.json()["type"].as_str()),
        (503, Some("error")),
        "{refused:#?}"
    );
    assert_eq!(place.upstream.count().calls, 2, "nothing more reached the provider");
    place.upstream.open_gate();
    let answers = open.join_all().await;
    assert_eq!(answers[0].status, 200, "what was paid for is handed over: {answers:#?}");
    daemon.kill();

    // With room again the call that could not be settled stands at its bound, or at its cost.
    let daemon = place.start().await;
    worker.move_to(&daemon);
    worker.chat(&chat(&TWO_CENTS, 100)).await.ok();
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    let calls: Vec<_> = books
        .view
        .postings
        .iter()
        .filter(|posting| posting.hold.is_some())
        .collect();
    assert_eq!(calls.len(), 3, "{calls:#?}");
    let amounts: Usd = calls
        .iter()
        .fold(Usd::ZERO, |sum, posting| sum.saturating_add(posting.amount));
    assert!(amounts >= place.upstream.count().billed(), "{calls:#?}");
}

/// Way 5. A client that goes away does not take the bill along: the provider's answer is read to its end
/// for what it used, and where it has none in time the call counts at its bound.
#[tokio::test]
async fn way_05_disconnect_loses_the_spend() {
    let place = Place::new(&Config {
        gateway: "drain = \"1s\"".to_owned(),
        more: total("1.00"),
        ..Config::default()
    })
    .await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let (whole, stream) = (chat(&TWO_CENTS, 100), streamed(chat(&TWO_CENTS, 100)));
    let mut calls = 0;
    // Before the head, with the head, in the midst: the provider goes on, and what it says counts.
    for body in [&whole, &stream] {
        for fault in [Fault::WaitBeforeHead, Fault::WaitAfter(1)] {
            calls += 1;
            place.upstream.close_gate();
            place.upstream.once(fault.clone());
            let upstream = &place.upstream;
            match (&fault, body["stream"].as_bool()) {
                (Fault::WaitAfter(_), Some(true)) => worker.abandon_after(CHAT_PATH, body, 1).await,
                _ => worker.abandon_at(CHAT_PATH, body, upstream.has_counted(calls)).await,
            }
            place.upstream.open_gate();
        }
    }
    let sums = place.settled(&worker).await;
    assert_eq!(place.upstream.count().billed(), Usd::from_nanos(4 * 6_000_000));
    assert_eq!(
        (sums.posted, sums.unresolved),
        (Usd::from_nanos(4 * 6_000_000), Usd::ZERO)
    );
    // And a provider that says nothing more: at the bound, and no longer held.
    place.upstream.close_gate();
    for (body, fault) in [(&whole, Fault::WaitBeforeHead), (&stream, Fault::WaitAfter(2))] {
        calls += 1;
        place.upstream.once(fault);
        match body["stream"].as_bool() {
            Some(true) => worker.abandon_after(CHAT_PATH, body, 1).await,
            _ => {
                worker
                    .abandon_at(CHAT_PATH, body, place.upstream.has_counted(calls))
                    .await
            }
        }
        let sums = place.settled(&worker).await;
        assert!(sums.unresolved >= cents(2), "{sums:?}");
    }
    let books = place.close(daemon).await;
    books.assert_covers(place.upstream.count().billed());
    assert_eq!(books.holds(HoldState::Unresolved).len(), 2);
    assert_eq!(books.posted(), Usd::from_nanos(4 * 6_000_000 + 2 * 20_000_000));
}

/// Way 8. The limit is the store's, not the daemon's: a second one beside the first adds nothing.
#[tokio::test]
async fn way_08_replicas_multiply_the_cap() {
    let config = Config::with(total("1.00"));
    let place = Place::new(&config).await;
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    let beside = place.beside(&config);
    let (first, second) = (place.start().await, beside.start().await);
    let worker = place.worker(&first).await;
    let there = worker.at(&second);
    // A key that one daemon made is known to the other within a second.
    wait::until("the key to be known", SOON, async || {
        (there.get("/v1/budget").await.status == 200).then_some(())
    })
    .await;
    let (plain, stream) = (chat(&TWO_CENTS, 100), streamed(chat(&TWO_CENTS, 100)));
    let (one, two) = tokio::join!(
        at_once(&worker, CHAT_PATH, &plain, 150),
        at_once(&there, CHAT_PATH, &stream, 150)
    );
    for reply in one.iter().chain(&two) {
        // One writes at a time: on a slow disk the other may have to wait for too long.
        assert!([200, 402, 503].contains(&reply.status), "{reply:#?}");
    }
    let count = place.upstream.count();
    assert!(count.calls <= 50, "{count:?}");
    let busy = one.iter().chain(&two).any(|reply| reply.status == 503);
    assert!(busy || count.calls == 50, "{count:?}");
    place.settled(&worker).await;
    assert!(second.stop().await.success());
    let books = place.close(first).await;
    books.assert_covers(count.billed());
    assert!(books.posted() <= cents(100));
}
