//! How a call ends in the ledger, for every way in which a provider can end it: metered where the
//! provider said what was used, void only where nothing can have been spent, and at its whole bound where
//! nobody knows (L3, L7).

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};

use super::agent::{Agent, CHAT_PATH, MESSAGES_PATH, Reply, chat, message, streamed};
use super::place::{Config, Place, Sums, total};
use super::upstream::manner::{Fault, Much};
use super::upstream::prices::{CHAT, CLAUDE_TWO_CENTS, TIERED, TWO_CENTS};
use crate::harness::wait;

/// The bound of a call of these tests, and what its usual answer costs.
const BOUND: Usd = Usd::from_nanos(20_000_000);
const COST: Usd = Usd::from_nanos(6_000_000);

/// How a call must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Metered,
    Void,
    AtBound,
}

/// All calls of one kind: the API, as a stream or whole.
fn calls() -> [(&'static str, Value); 4] {
    let (openai, anthropic) = (chat(&TWO_CENTS, 100), message(&CLAUDE_TWO_CENTS, 100));
    [
        (CHAT_PATH, openai.clone()),
        (CHAT_PATH, streamed(openai)),
        (MESSAGES_PATH, anthropic.clone()),
        (MESSAGES_PATH, streamed(anthropic)),
    ]
}

/// Sends a call whose answer may break off.
async fn send(agent: &Agent, path: &str, body: &Value) -> Option<Reply> {
    agent.send(agent.posting(path).json(body)).await
}

fn grown(before: Sums, after: Sums) -> (Usd, Usd) {
    let posted = after.posted.saturating_sub(before.posted);
    (posted, after.unresolved.saturating_sub(before.unresolved))
}

/// Runs every kind of call into this fault and compares what the ledger makes of it.
async fn assert_ends(place: &Place, agent: &Agent, fault: &Fault, end: End) {
    for (path, body) in calls() {
        let before = place.settled(agent).await;
        place.upstream.once(fault.clone());
        let answer = send(agent, path, &body).await;
        let after = place.settled(agent).await;
        let expected = match end {
            End::Metered => (if *fault == Fault::ZeroUsage { Usd::ZERO } else { COST }, Usd::ZERO),
            End::Void => (Usd::ZERO, Usd::ZERO),
            End::AtBound => (BOUND, BOUND),
        };
        assert_eq!(
            grown(before, after),
            expected,
            "{fault:?} at {path} {body}: {answer:#?}"
        );
        let billed = place.upstream.count().billed();
        assert!(
            billed <= after.posted,
            "{fault:?}: {billed} billed, {} in the ledger",
            after.posted
        );
    }
}

async fn new_place(gateway: &str) -> Place {
    Place::new(&Config {
        gateway: gateway.to_owned(),
        more: total("100"),
        ..Config::default()
    })
    .await
}

#[tokio::test]
async fn a_refusal_of_the_provider_costs_nothing_and_comes_through() {
    let place = new_place("").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for status in [400, 401, 403, 404, 413, 422, 429] {
        let fault = Fault::Status { status, bills: false };
        assert_ends(&place, &worker, &fault, End::Void).await;
        place.upstream.once(fault);
        let answer = worker.chat(&chat(&TWO_CENTS, 100)).await;
        match status {
            // The house's own credential was refused, which is none of the agent's mistakes.
            401 | 403 => drop(answer.refused(502, "upstream_refused_credential")),
            _ => assert_eq!(answer.status, status, "{answer:#?}"),
        }
    }
    let books = place.close(daemon).await;
    let voided = books.holds(HoldState::Voided).len();
    assert_eq!((voided, books.posted()), (7 * 5, Usd::ZERO));
}

#[tokio::test]
async fn l3_l7_what_nobody_knows_counts_at_its_bound() {
    let place = new_place("max_response_bytes = 1048576").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut faults = Vec::new();
    for status in [500, 502, 503, 504, 529] {
        faults.push(Fault::Status { status, bills: true });
        faults.push(Fault::Status { status, bills: false });
    }
    faults.extend([
        Fault::DropBeforeHead { bills: true },
        Fault::DropBeforeHead { bills: false },
        Fault::DropAfter(0),
        Fault::DropAfter(1),
        Fault::Garbage,
        Fault::Page,
        Fault::NoUsage,
        Fault::OtherObject,
        Fault::Huge(4 << 20),
    ]);
    for fault in &faults {
        assert_ends(&place, &worker, fault, End::AtBound).await;
    }
    // One attempt each: what may have been billed is not repeated behind the agent's back.
    let count = place.upstream.count();
    assert_eq!(count.calls, u64::try_from(faults.len() * 4).expect("few"));
    let books = place.close(daemon).await;
    books.assert_covers(count.billed());
    assert_eq!(books.holds(HoldState::Unresolved).len(), faults.len() * 4);
}

#[tokio::test]
async fn a_provider_that_goes_silent_is_given_up() {
    let place = new_place("response_timeout = \"1s\"\nidle_timeout = \"1s\"\ndrain = \"1s\"").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for fault in [Fault::WaitBeforeHead, Fault::WaitAfter(1)] {
        assert_ends(&place, &worker, &fault, End::AtBound).await;
    }
    place.upstream.once(Fault::WaitBeforeHead);
    worker
        .chat(&chat(&TWO_CENTS, 100))
        .await
        .refused(504, "upstream_timeout");
    // In a stream, the client is told in the stream.
    place.upstream.once(Fault::WaitAfter(2));
    let answer = worker.post_cut(CHAT_PATH, &streamed(chat(&TWO_CENTS, 100))).await;
    assert_eq!(answer.last_code(), "upstream_timeout", "{answer:#?}");
    assert!(!answer.body.contains("[DONE]"), "{answer:#?}");
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    books.assert_covers(place.upstream.count().billed());
}

#[tokio::test]
async fn what_is_metered_is_captured_and_an_explicit_zero_stays_zero() {
    let place = new_place("").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    // A fault that is none: the gate is open.
    place.upstream.open_gate();
    assert_ends(&place, &worker, &Fault::WaitAfter(1), End::Metered).await;
    assert_ends(&place, &worker, &Fault::ZeroUsage, End::Metered).await;
    let books = place.close(daemon).await;
    books.assert_exact(place.upstream.count().billed());
    assert_eq!(books.holds(HoldState::Captured).len(), 8);
}

/// No connection was made, so nothing can have been spent.
#[tokio::test]
async fn a_provider_that_cannot_be_reached_costs_nothing() {
    // A port that is ours as long as the test runs, and on which we do not listen.
    let gone = TcpSocket::new_v4().expect("a socket");
    gone.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = gone.local_addr().expect("a bound socket has an address");
    let more = format!(
        "{}\n[[upstream]]\nname = \"gone\"\nkind = \"openai\"\nbase_url = \"http://{address}\"\n\
         api_key_env = \"FIXTURE_OPENAI_KEY\"\n",
        total("1")
    );
    let place = Place::with(more).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for _ in 0..3 {
        let answer = worker.post("/gone/v1/chat/completions", &chat(&TWO_CENTS, 100)).await;
        answer.refused(502, "upstream_unreachable");
    }
    drop(gone);
    let sums = place.settled(&worker).await;
    assert_eq!((sums.posted, sums.held), (Usd::ZERO, Usd::ZERO));
    let books = place.close(daemon).await;
    assert_eq!(books.holds(HoldState::Voided).len(), 3);
}

/// A provider that charges above the bound is believed, and the excess is flagged (L2).
#[tokio::test]
async fn a_bill_above_the_bound_is_an_overage_that_shows() {
    let place = new_place("").await;
    place.upstream.manner(|manner| manner.prompt = Much::Exactly(50_000));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let answer = worker.chat(&chat(&CHAT, 30)).await.ok();
    let billed = place.upstream.count().billed();
    assert_eq!(answer.cost(), billed);
    let sums = place.settled(&worker).await;
    assert_eq!((sums.posted, sums.unresolved), (billed, Usd::ZERO));
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), billed);
    let hold = books.holds(HoldState::Captured)[0];
    assert!(hold.bound < billed, "the bound was {}", hold.bound);
}

/// A provider that goes on writing past the limit that it was given is cut off.
#[tokio::test]
async fn a_stream_that_passes_its_limit_is_cut() {
    let place = new_place("").await;
    place.upstream.manner(|manner| manner.pieces = 20_000);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for (path, body) in [
        (CHAT_PATH, streamed(chat(&TWO_CENTS, 100))),
        (MESSAGES_PATH, streamed(message(&CLAUDE_TWO_CENTS, 100))),
    ] {
        let answer = worker.post_cut(path, &body).await;
        assert_eq!(answer.last_code(), "output_limit", "the client is told");
        assert!(!answer.body.contains("word19999"), "it was cut");
    }
    wait::until("the provider to be left", super::place::SOON, async || {
        (place.upstream.ends().1 == 2).then_some(())
    })
    .await;
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    books.assert_covers(place.upstream.count().billed());
}

/// What speaks no HTTP at all.
#[tokio::test]
async fn a_provider_that_speaks_no_http_counts_at_its_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 1024];
            let _ = stream.read(&mut some).await;
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n\0\0\r\n\r\n").await;
        }
    });
    let more = format!(
        "{}\n[[upstream]]\nname = \"mail\"\nkind = \"openai\"\nbase_url = \"http://{address}\"\n\
         api_key_env = \"FIXTURE_OPENAI_KEY\"\n",
        total("1")
    );
    let place = Place::with(more).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let answer = worker.post("/mail/v1/chat/completions", &chat(&TWO_CENTS, 100)).await;
    answer.refused(502, "upstream_broken");
    let sums = place.settled(&worker).await;
    assert_eq!((sums.posted, sums.unresolved), (BOUND, BOUND));
    place.close(daemon).await;
}

/// Two answers are two calls, also when the provider gives them one id.
#[tokio::test]
async fn a_provider_that_repeats_its_ids_is_paid_for_each_call() {
    let place = new_place("").await;
    place
        .upstream
        .manner(|manner| manner.id = Some("always-the-same".to_owned()));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for (path, body) in calls() {
        for _ in 0..2 {
            worker.post(path, &body).await.ok();
        }
    }
    let sums = place.settled(&worker).await;
    assert_eq!(sums.posted, Usd::from_nanos(8 * COST.nanos()));
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), place.upstream.count().billed());
}

/// A tier is settled at its own rates, by what the answer says; what is held covers the dearest that the
/// provider may choose.
#[tokio::test]
async fn tiers_settle_at_their_own_rates() {
    let place = new_place("").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let usual = 3 * 2_500 + 30 * 10_000;
    let respond = json!({ "model": TIERED.name, "input": "Say something.", "max_output_tokens": 50 });
    let mut posted = Usd::ZERO;
    for (asked, served, cost) in [
        (None, "default", usual),
        (Some("default"), "default", usual),
        (Some("flex"), "flex", usual / 2),
        // Out of room in its tier, it is served in the usual one.
        (Some("flex"), "default", usual),
        (Some("auto"), "priority", usual * 2),
        (Some("priority"), "priority", usual * 2),
        (None, "priority", usual * 2),
    ] {
        place.upstream.manner(|manner| manner.tier = served);
        for (path, mut body) in [
            (CHAT_PATH, chat(&TIERED, 50)),
            ("/openai/v1/responses", respond.clone()),
        ] {
            if let Some(tier) = asked {
                body["service_tier"] = tier.into();
            }
            for body in [body.clone(), streamed(body)] {
                worker.post(path, &body).await.ok();
                posted = posted.saturating_add(Usd::from_nanos(cost));
                let sums = place.settled(&worker).await;
                assert_eq!(
                    (sums.posted, sums.overage),
                    (posted, Usd::ZERO),
                    "{asked:?} served {served}: {body}"
                );
            }
        }
    }
    let books = place.close(daemon).await;
    books.assert_exact(place.upstream.count().billed());
}
