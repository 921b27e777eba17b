//! What an incident costs: the same script against nothing, against AWS Budgets, and against Backstop.
//!
//! Everything runs on the rehearsal fleet in virtual time, so a day is over in a second and every run is the
//! same. Nothing is reckoned by a formula: the figure is the rehearsal's own bill, which adds up what ran for
//! how long and knows nothing of our accrual; and what stands against the incident is the real watcher,
//! ledger, judgement and kill switch (see [`guard`]).
//!
//! `backstop demo 500-services` and `backstop demo network-scan` print it; the simulations in `tests/sim`
//! hold its order and its bounds.

pub mod defence;
pub mod guard;
mod show;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{Either, select};
use jiff::{SignedDuration, Timestamp};

use crate::cloud::rehearsal::Rehearsal;
use crate::cloud::rehearsal::incident::{Incident, Played};
use crate::domain::containment::state::StillBurning;
use crate::domain::money::Usd;
use crate::ports::{Clock, Store};
use crate::system::virtual_time::{self, Counting, VirtualClock};
use defence::Defence;
use guard::{Guard, Setup};

pub use show::{Table, demo};

/// When the agent begins: on a night in November.
const BEGINS: i64 = 1_795_053_600;

/// How long Backstop has been watching when the agent begins. It is no multiple of a poll, so that the
/// incident begins somewhere between two.
const BEFORE: Duration = Duration::from_secs(127);

/// How long after it is contained anything new is expected: CloudTrail tells within a quarter of an hour.
const LATEST: Duration = Duration::from_mins(20);

/// How often the burn is looked at for its peak.
const PEAK_EVERY: Duration = Duration::from_secs(5);

/// What became of an incident under one defence.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub defence: Defence,
    /// The rehearsal's bill at the end.
    pub lost: Usd,
    /// Dollars an hour that go on then.
    pub burn_after: Usd,
    pub played: Played,
    /// What Backstop did, and when.
    pub stopped: Option<Stopped>,
}

/// How a containment went, in seconds since the agent began.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub breached: SignedDuration,
    /// The first call that halted something.
    pub first_stop: SignedDuration,
    pub contained: SignedDuration,
    /// The bill when it was contained.
    pub lost_by_then: Usd,
    /// The most that burnt at any time.
    pub peak: Usd,
    /// What it says that it cannot stop.
    pub still_burning: Vec<StillBurning>,
    /// Posted by our own accrual, for comparison with the bill.
    pub posted: Usd,
    pub calls: usize,
}

/// Runs an incident to its end under one defence.
pub fn run(incident: &Incident, defence: Defence) -> anyhow::Result<Outcome> {
    let began = Timestamp::from_second(BEGINS)?;
    let clock = Arc::new(VirtualClock::starting_at(began));
    let cloud = Arc::new(Rehearsal::new(incident.fleet(), clock.clone()));
    let day = Duration::try_from(incident.lasts())?;
    let played = virtual_time::run(&clock, async {
        match &defence {
            Defence::Nothing => {
                let (played, ()) = futures_util::join!(incident.play(&cloud, &*clock), clock.sleep(day));
                anyhow::Ok((played, None))
            }
            Defence::Budgets(budgets) => {
                let acts = budgets.act(incident, &cloud, &*clock);
                let plays = async { futures_util::join!(incident.play(&cloud, &*clock), clock.sleep(day)).0 };
                futures_util::pin_mut!(acts, plays);
                let played = match select(acts, plays).await {
                    Either::Left(((), plays)) => plays.await,
                    Either::Right((played, _)) => played,
                };
                Ok((played, None))
            }
            Defence::Backstop { poll_every } => {
                let setup = Setup::of(incident, *poll_every);
                let guard = Guard::new(clock.clone(), Arc::new(Counting::default()), cloud.clone(), setup);
                let (played, stopped) = guard.live(watched(incident, &guard, &cloud, &clock, day)).await??;
                Ok((played, Some(stopped)))
            }
        }
    });
    let (played, stopped) = played.context("the simulation is stuck")??;
    Ok(Outcome {
        defence,
        lost: cloud.spent(),
        burn_after: cloud.burn(),
        played,
        stopped,
    })
}

/// The incident while Backstop runs, and what it did about it.
async fn watched(
    incident: &Incident,
    guard: &Guard,
    cloud: &Rehearsal,
    clock: &VirtualClock,
    day: Duration,
) -> anyhow::Result<(Played, Stopped)> {
    clock.sleep(BEFORE).await;
    let began = clock.now();
    let contained = async {
        let mut peak = Usd::ZERO;
        while !guard.is_contained(&incident.agent).await? {
            peak = peak.max(cloud.burn());
            clock.sleep(PEAK_EVERY).await;
        }
        anyhow::Ok((peak, cloud.spent()))
    };
    let plays = async { futures_util::join!(incident.play(cloud, clock), clock.sleep(day)).0 };
    futures_util::pin_mut!(contained, plays);
    let (played, (peak, lost_by_then)) = match select(contained, plays).await {
        Either::Left((contained, plays)) => {
            let calms = async {
                clock.sleep(LATEST).await;
                guard.relax();
            };
            (futures_util::join!(plays, calms).0, contained?)
        }
        Either::Right(_) => anyhow::bail!("it was not contained before the incident was over"),
    };
    let containments = guard.store.containments_of(&incident.agent, 1).await?;
    let last = containments.into_iter().next().context("there is no containment")?;
    let calls = cloud.calls();
    let first = calls.iter().find(|call| call.changes && call.region.is_some());
    let posted = guard.store.lines(&crate::ports::LineQuery::default()).await?;
    let since = |at: Timestamp| at.duration_since(began);
    let stopped = Stopped {
        breached: since(last.breached_at.unwrap_or(last.opened_at)),
        first_stop: since(first.context("nothing was stopped")?.at),
        contained: since(guard.contained_at().context("it was never proved")?),
        lost_by_then,
        peak,
        still_burning: last.coverage.still_burning,
        posted: posted.iter().map(|line| line.posted).sum(),
        calls: calls.len(),
    };
    Ok((played, stopped))
}
