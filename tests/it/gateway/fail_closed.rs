//! Failing closed, and stopping in order: no new spend where the books cannot be kept, and what is in
//! flight stays accounted (D4).

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::agent::{CHAT_PATH, MESSAGES_PATH, chat, message, streamed};
use super::place::{Config, Place, SOON, cents, total};
use super::upstream::manner::Fault;
use super::upstream::prices::{CLAUDE_TWO_CENTS, TWO_CENTS};
use crate::harness::daemon::Daemon;
use crate::harness::scarce::{self, RESERVE_MB};
use crate::harness::wait;

/// Tells the daemon to stop, and waits until it has begun to.
async fn stop_listening(daemon: &mut Daemon) {
    daemon.terminate();
    wait::until("the listener to close", SOON, async || {
        let address = daemon.addresses().agent.clone()?;
        TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
}

/// SIGTERM: streams in flight come to their end and are settled before the ledger closes.
#[tokio::test]
async fn sigterm_drains_what_is_in_flight() {
    let place = Place::with(total("10")).await;
    let mut daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut calls = JoinSet::new();
    for (path, body, fault) in [
        (CHAT_PATH, streamed(chat(&TWO_CENTS, 100)), Fault::WaitAfter(2)),
        (CHAT_PATH, chat(&TWO_CENTS, 100), Fault::WaitBeforeHead),
        (
            MESSAGES_PATH,
            streamed(message(&CLAUDE_TWO_CENTS, 100)),
            Fault::WaitAfter(2),
        ),
        (MESSAGES_PATH, message(&CLAUDE_TWO_CENTS, 100), Fault::WaitAfter(1)),
    ] {
        place.upstream.once(fault);
        let agent = worker.clone();
        calls.spawn(async move { agent.post(path, &body).await });
    }
    place.upstream.has_counted(4).await;
    stop_listening(&mut daemon).await;
    place.upstream.open_gate();
    for reply in calls.join_all().await {
        let reply = reply.ok();
        assert!(!reply.body.contains("\"error\":{"), "{reply:#?}");
    }
    let ended = daemon.ended().await;
    assert!(ended.success(), "{ended}");
    let books = place.books().await;
    books.assert_sound();
    assert_eq!(books.holds(HoldState::Captured).len(), 4);
    assert_eq!(books.posted(), place.upstream.count().billed());
}

/// What does not end within `drain_timeout` is cut, and counts at its bound, now or after the next start.
#[tokio::test]
async fn what_does_not_end_in_time_is_cut_and_counts_at_its_bound() {
    let place = Place::new(&Config {
        server: "drain_timeout = \"1s\"".to_owned(),
        gateway: "drain = \"1s\"".to_owned(),
        more: total("10"),
        ..Config::default()
    })
    .await;
    let mut daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut calls = JoinSet::new();
    for fault in [Fault::WaitAfter(2), Fault::WaitBeforeHead] {
        place.upstream.once(fault);
        let agent = worker.clone();
        calls.spawn(async move {
            let request = agent.posting(CHAT_PATH).json(&streamed(chat(&TWO_CENTS, 100)));
            agent.send(request).await
        });
    }
    place.upstream.has_counted(2).await;
    stop_listening(&mut daemon).await;
    assert!(daemon.ended().await.success());
    let whole = calls.join_all().await.into_iter().flatten();
    assert!(whole.into_iter().all(|reply| !reply.body.contains("[DONE]")));
    let daemon = place.start().await;
    worker.move_to(&daemon);
    let sums = place.settled(&worker).await;
    assert_eq!((sums.posted, sums.unresolved), (cents(4), cents(4)));
    place.close(daemon).await;
}

/// Below the reserve of disk space nothing new is spent, and the provider is not asked.
#[tokio::test]
async fn d4_below_the_reserve_no_call_goes_out() {
    let scarce = scarce::dir();
    let config = Config {
        storage: format!("reserve_mb = {RESERVE_MB}"),
        ..Config::with(total("10"))
    };
    let place = Place::with_ledger(scarce.path().join("backstop.db"), &config).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for body in [chat(&TWO_CENTS, 100), streamed(chat(&TWO_CENTS, 100))] {
        worker.chat(&body).await.refused(503, "store_full");
    }
    worker
        .messages(&message(&CLAUDE_TWO_CENTS, 100))
        .await
        .refused(503, "store_full");
    assert_eq!(place.upstream.seen().len(), 0);
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), Usd::ZERO);
}
