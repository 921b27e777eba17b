//! The cap test: a dollar, calls of two cents, a thousand of them, and however they are sent, abandoned
//! or cut short by the daemon's death, the provider counts fifty at most.
//!
//! What is compared are three books that know nothing of each other: the provider's count and bill, what
//! the gateway shows of its ledger while it runs, and the ledger's rows after it has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstop::domain::money::Usd;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::agent::{Agent, CHAT_PATH, chat, streamed};
use super::place::{Place, Sums, WORKER, total};
use super::upstream::manner::{Fault, Much};
use super::upstream::prices::TWO_CENTS;
use crate::harness::daemon::Daemon;

const CALLS: usize = 1_000;
/// How many calls of two cents a dollar pays.
const FITTING: u64 = 50;
/// The daemon is killed when the provider has counted so many. The provider lets some of those calls wait
/// for their answers, so that there is something to cut short.
const DEATHS: [u64; 2] = [11, 27];
/// Those whose answers wait, by their number.
const WAIT: [std::ops::Range<u64>; 2] = [10..18, 26..34];
/// When the provider begins to let them wait for the second death.
const AGAIN: u64 = 20;

#[derive(Debug, Clone, Copy)]
struct Case {
    at_once: usize,
    streams: bool,
    /// Every third client goes away before its answer is whole.
    aborts: bool,
    kills: bool,
}

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicUsize,
    refused: AtomicUsize,
    broken: AtomicUsize,
    abandoned: AtomicUsize,
}

async fn one_call(agent: &Agent, place: &Place, body: &Value, number: usize, case: Case, seen: &Seen) {
    if case.aborts && number.is_multiple_of(3) {
        // Before anything comes back, or in the midst of it.
        match number / 3 % 3 {
            0 => {
                let next = place.upstream.count().calls + 1;
                agent
                    .abandon_at(CHAT_PATH, body, place.upstream.has_counted(next))
                    .await;
            }
            pieces => agent.abandon_after(CHAT_PATH, body, pieces - 1).await,
        }
        seen.abandoned.fetch_add(1, Ordering::SeqCst);
        return;
    }
    loop {
        let mut moves = agent.moves();
        let counter = match agent.send(agent.posting(CHAT_PATH).json(body)).await {
            Some(answer) if answer.status == 200 => &seen.answered,
            Some(answer) if answer.status == 402 && answer.code() == "budget_exceeded" => &seen.refused,
            // Cut short, or nobody is there: this agent asks again when somebody is.
            None if case.kills => {
                seen.broken.fetch_add(1, Ordering::SeqCst);
                moves.changed().await.expect("the agent is there");
                continue;
            }
            answer => panic!("call {number}: {answer:#?}"),
        };
        counter.fetch_add(1, Ordering::SeqCst);
        return;
    }
}

/// The provider's bill lies between what is settled and what is in the ledger, open holds included. It
/// is read first for the upper side and last for the lower, since it only grows.
async fn assert_between(place: &Place, agent: &Agent) -> Sums {
    let first = place.upstream.count().billed();
    let sums = agent.sums().await;
    let last = place.upstream.count().billed();
    let covered = sums.posted.saturating_add(sums.held);
    assert!(first <= covered, "billed {first}, covered {covered}: {sums:?}");
    assert!(
        sums.settled() <= last,
        "settled {}, billed {last}: {sums:?}",
        sums.settled()
    );
    assert!(covered <= sums.limit, "{sums:?}");
    sums
}

async fn run(case: Case) {
    let place = Arc::new(Place::with(total("1.00")).await);
    // A call costs what its limit allows: its bound to the nano-dollar.
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    if case.kills {
        for call in 0..FITTING {
            let waits = WAIT.iter().any(|range| range.contains(&call));
            place
                .upstream
                .once(if waits { Fault::WaitBeforeHead } else { Fault::Answers });
        }
    }
    let mut daemon = place.start().await;
    let worker = place.agent(&daemon, WORKER).await;
    let body = match case.streams {
        true => streamed(chat(&TWO_CENTS, 100)),
        false => chat(&TWO_CENTS, 100),
    };
    let (seen, body) = (Arc::new(Seen::default()), Arc::new(body));
    let turns = Arc::new(Semaphore::new(case.at_once));
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let turn = Arc::clone(&turns);
        let (agent, place, body, seen) = (worker.clone(), Arc::clone(&place), Arc::clone(&body), Arc::clone(&seen));
        calls.spawn(async move {
            let _turn = turn.acquire_owned().await.expect("nobody closes it");
            one_call(&agent, &place, &body, number, case, &seen).await;
        });
    }
    let mut deaths = if case.kills { DEATHS.to_vec() } else { Vec::new() };
    let mut is_closed = true;
    loop {
        let death = deaths.first().copied();
        tokio::select! {
            biased;
            () = place.upstream.has_counted(AGAIN), if death == Some(DEATHS[1]) && !is_closed => {
                place.upstream.close_gate();
                is_closed = true;
            }
            () = place.upstream.has_counted(death.unwrap_or_default()), if death.is_some() => {
                deaths.remove(0);
                daemon = die_and_rise(&place, &worker, daemon).await;
                place.upstream.open_gate();
                is_closed = false;
            }
            done = calls.join_next() => match done {
                Some(done) => done.unwrap_or_else(|error| panic!("{case:?}: {error}")),
                None => break,
            },
        }
        if calls.len() % 200 == 199 {
            assert_between(&place, &worker).await;
        }
    }
    let count = place.upstream.count();
    // The first death may leave the whole budget unresolved, and then the provider never counts to the second.
    let died = if case.kills { DEATHS.len() - deaths.len() } else { 0 };
    assert!(!case.kills || died > 0, "{case:?}: it was never killed");
    assert!(
        deaths.iter().all(|at| count.calls < *at),
        "{case:?}: it was not killed at {deaths:?}, {count:?}"
    );
    assert!(
        count.calls <= FITTING,
        "{case:?}: the provider counts {count:?}, {seen:?}"
    );

    // At every moment after the run: at once, when all is settled, after another death, and in the rows.
    assert_between(&place, &worker).await;
    place.settled(&worker).await;
    let sums = assert_between(&place, &worker).await;
    let daemon = die_and_rise(&place, &worker, daemon).await;
    assert_eq!(
        assert_between(&place, &worker).await,
        sums,
        "a death changes nothing that was settled"
    );
    assert_eq!(
        place.upstream.count(),
        count,
        "nobody asks the provider behind our back"
    );
    assert_eq!(place.spend().await, sums.posted);
    let books = Arc::into_inner(place).expect("every call is done").close(daemon).await;
    books.assert_covers(count.billed());
    // Nobody was refused while there was room. What was cut short stands at its bound, also when it had not
    // gone out yet: nobody knows.
    assert_eq!(books.posted(), Usd::from_dollars(1), "{case:?}: {seen:?}");
    match case.kills {
        true => assert!(books.unresolved().len() >= died, "{case:?}: {seen:?}"),
        false => assert_eq!(count.calls, FITTING, "{case:?}: {seen:?}"),
    }
    if !case.kills && !case.aborts {
        let answered = seen.answered.load(Ordering::SeqCst);
        assert_eq!(
            (answered, books.posted()),
            (50, Usd::from_dollars(1)),
            "{case:?}: {seen:?}"
        );
        assert!(books.unresolved().is_empty(), "{case:?}");
    }
}

/// `kill -9`, and a new daemon on what is left.
async fn die_and_rise(place: &Place, agent: &Agent, daemon: Daemon) -> Daemon {
    daemon.kill();
    let daemon = place.start().await;
    agent.move_to(&daemon);
    daemon
}

async fn run_all(at_once: usize) {
    for kills in [false, true] {
        for aborts in [false, true] {
            for streams in [false, true] {
                run(Case {
                    at_once,
                    streams,
                    aborts,
                    kills,
                })
                .await;
            }
        }
    }
}

#[tokio::test]
async fn l2_l4_a_dollar_is_fifty_calls_one_by_one() {
    run_all(1).await;
}

#[tokio::test]
async fn l2_l4_a_dollar_is_fifty_calls_ten_at_once() {
    run_all(10).await;
}

#[tokio::test]
async fn l2_l4_a_dollar_is_fifty_calls_a_hundred_at_once() {
    run_all(100).await;
}

#[tokio::test]
async fn l2_l4_a_dollar_is_fifty_calls_five_hundred_at_once() {
    run_all(500).await;
}
