//! Crowds of calls against a provider that does anything, with clients that go away at any moment: nothing
//! stays held, nothing is posted that the provider did not have a right to, and the cap holds.

use std::time::Duration;

use backstop::domain::ledger::auditor::audit;
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use backstop::ports::{Clock, Store, UpstreamFault};
use tokio::task::JoinSet;

use super::lab::{Lab, chat_body, lab, read, secs, usd};
use super::provider::{Play, Step, error_body};

const SEEDS: u64 = 100;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    /// In `0..end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn millis(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

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

async fn crowd(lab: Lab, seed: u64) {
    let mut rng = Rng(seed);
    let mut clients = JoinSet::new();
    for _ in 0..60 {
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
    assert_eq!(line.held, Usd::ZERO, "seed {seed}: {line:#?}");
    assert!(
        billed <= line.posted,
        "seed {seed}: billed {billed}, posted {}",
        line.posted
    );
    assert!(line.posted <= line.limit(), "seed {seed}: the cap holds: {line:#?}");
    let settled = line.posted.saturating_sub(line.unresolved);
    assert!(settled <= billed, "seed {seed}: settled {settled}, billed {billed}");
    let holds = lab.holds().await;
    assert!(holds.iter().all(|hold| hold.state != HoldState::Open), "seed {seed}");
    assert!(
        lab.provider.calls() <= holds.len(),
        "seed {seed}: not one byte without a hold"
    );
    let view = lab.store.audit_view().await.unwrap();
    let findings = audit(&view.parts(lab.clock.now()));
    assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
}

#[test]
fn whatever_happens_everything_is_accounted() {
    for seed in 0..SEEDS {
        lab("0.05", |lab: Lab| crowd(lab, seed));
    }
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
