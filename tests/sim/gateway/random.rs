//! Crowds of calls against a provider that does anything, with clients that go away at any moment: nothing
//! stays held, nothing is posted that the provider did not have a right to, and the cap holds.

use backstop::domain::ledger::auditor::audit;
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use backstop::ports::{Clock, Store, UpstreamFault};
use tokio::task::JoinSet;

use super::lab::{Lab, chat_body, lab, read, secs, usd};
use super::provider::{Play, Step, error_body};
use crate::rng::Rng;
use crate::seeds::{self, caught, keep_panics, panics};

const CLIENTS: usize = 60;

/// What a provider's adapter that panics says, which is part of the simulation.
const TOLD: &str = "as it was told";

/// An answer, billed by the provider whoever reads it, unless it turned the request away.
fn draw(rng: &mut Rng) -> Play {
    let (prompt, completion) = (1 + rng.below(60), 1 + rng.below(900));
    // gpt-5-mini: $0.25 and $2 a million.
    let cost = Usd::from_nanos(i64::try_from(prompt * 250 + completion * 2_000).unwrap());
    let wait = rng.millis(3_000);
    let words = usize::try_from(rng.below(20)).unwrap();
    let chat = || Play::chat(prompt, completion).after(wait).billed(cost);
    let stream = |usage| Play::stream(wait / 4, words + 1, usage).billed(cost);
    match rng.below(13) {
        0 => Play::fault(UpstreamFault::Unreachable),
        1 => Play::fault(UpstreamFault::Broken).after(wait).billed(cost),
        2 => Play::json(429, &error_body()).after(wait),
        3 => Play::json(500, &error_body()).after(wait).billed(cost),
        4 => chat().then(0, Step::Break(UpstreamFault::Broken)),
        5 => chat().then(0, Step::Panic),
        6 => stream(Some((prompt, completion))).then(words, Step::Break(UpstreamFault::Broken)),
        7 => stream(None),
        8 | 9 => stream(Some((prompt, completion))),
        _ => chat(),
    }
}

/// One seed: what was wrong with it.
fn run(seed: u64) -> Vec<String> {
    keep_panics();
    let ran = caught(|| lab("0.05", |lab: Lab| crowd(lab, seed)));
    // The gateway survives a panic of a call, and the books may even be right. It is a mistake all the same.
    let mut found: Vec<String> = panics().into_iter().filter(|panic| !panic.contains(TOLD)).collect();
    if found.is_empty() {
        found.extend(ran.err());
    }
    found
}

async fn crowd(lab: Lab, seed: u64) {
    let mut rng = Rng::new(seed).fork("crowd");
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        lab.provider.play(draw(&mut rng));
        let call = lab.call("/v1/chat/completions", chat_body(rng.below(2) == 0));
        let clock = lab.clock.clone();
        let leaves = (rng.below(10) < 3).then(|| rng.millis(8_000));
        clients.spawn(async move {
            let reading = async {
                if let Ok(reply) = call.await {
                    read(reply).await;
                }
            };
            match leaves {
                None => reading.await,
                Some(after) => {
                    tokio::select! {
                        () = reading => {}
                        () = clock.sleep(after) => {}
                    }
                }
            }
        });
        lab.pass(rng.millis(400)).await;
    }
    while clients.join_next().await.is_some() {}
    lab.pass(secs(120)).await;

    let line = lab.line().await;
    let billed = lab.provider.billed();
    assert_eq!(line.held, Usd::ZERO, "{line:#?}");
    assert!(billed <= line.posted, "billed {billed}, posted {}", line.posted);
    assert!(line.posted <= line.limit(), "the cap holds: {line:#?}");
    let settled = line.posted.saturating_sub(line.unresolved);
    assert!(settled <= billed, "settled {settled}, billed {billed}");
    let holds = lab.holds().await;
    assert!(holds.iter().all(|hold| hold.state != HoldState::Open), "{holds:#?}");
    assert!(lab.provider.calls() <= holds.len(), "not one byte without a hold");
    let view = lab.store.audit_view().await.unwrap();
    let findings = audit(&view.parts(lab.clock.now()));
    assert!(findings.is_empty(), "{findings:#?}");
}

/// Whatever happens, everything is accounted.
fn part(part: u64) {
    seeds::part(part, "gateway::random::seeds_", run);
}

#[test]
fn seeds_part_0() {
    part(0);
}

#[test]
fn seeds_part_1() {
    part(1);
}

#[test]
fn seeds_part_2() {
    part(2);
}

#[test]
fn seeds_part_3() {
    part(3);
}

#[test]
fn a_cap_of_ten_calls_lets_ten_through() {
    lab("0.0225", async |lab: Lab| {
        // Bound $0.0037 (priority may be billed), cost $0.002: the tenth fits, the eleventh does not.
        let cost = usd("0.002");
        (0..11).for_each(|_| lab.provider.play(Play::chat(0, 1_000)));
        let mut clients = JoinSet::from_iter((0..50).map(|_| lab.chat()));
        let mut served = 0;
        while let Some(answered) = clients.join_next().await {
            served += usize::from(answered.expect("no panic").is_ok());
        }
        lab.pass(secs(1)).await;
        assert_eq!((served, lab.provider.calls()), (10, 10));
        assert_eq!(lab.line().await.posted, Usd::from_nanos(cost.nanos() * 10));
    });
}
