//! How long a containment would take, phase by phase, counted from its opening.
//!
//! The model follows the kill switch as it works, and is fed with what the drill itself has seen:
//!
//! 1. *Pick-up*: at the driver's next look at the store, [`Rules::poll_every`] at the latest; a daemon that has
//!    just started asks first who it is.
//! 2. *Deny*: the principals are looked at, then denied, and their credentials made inactive.
//! 3. *Cap*: the regions begin when that is done, or after `step_patience`; each is looked at, its kinds five
//!    at a time, and then what starts others is capped.
//! 4. *Stop* and *end*: machines in batches and tasks one by one, once the caps are done.
//! 5. *Down*: machines take their time to stop. The drill cannot see how long, a canary drill can: its figure
//!    is used where there is one, and an assumption, said to be one, where not.
//! 6. *Quiet*: a sweep every `settle_spacing` until one finds nothing left; a second one, `sweep_spacing` later,
//!    proves it.
//!
//! Calls that go at once are counted in rounds: as many at a time as our own limits let through
//! ([`Limits::in_flight`]), and where a service's quota is paced, a gap apart ([`Limits::gap`]). A round takes
//! as long as a call of the same class took in this drill: IAM's calls by IAM's, a region's by that region's.
//!
//! Three figures come out. *Least* is what the rules alone force, with calls that take no time. *Likely* takes
//! calls at their mean. *Most* takes every call at twice the slowest of its class that was seen (of all classes, where only a few were), every wait at
//! its longest, and no overlap that is not sure. None of them knows of an outage or of throttling by the
//! cloud: then calls are tried again, and `most` does not hold. What a drill must never do is promise less time
//! than the rules force; so the parts are added up here, from the settings in force, and nowhere measured once
//! and written down.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::containment::state::StepClass;

/// How long machines take to stop, where no canary drill has seen it: an assumption.
const STOPPING: (Duration, Duration, Duration) = (
    Duration::from_secs(3),
    Duration::from_secs(30),
    Duration::from_secs(120),
);

/// How long tasks take to end once they are told to: ECS gives a container 30 s by default and 120 s at most
/// before it is killed ("stopTimeout", Amazon ECS Developer Guide, read 2026-11).
const ENDING: (Duration, Duration, Duration) = (Duration::ZERO, Duration::from_secs(30), Duration::from_secs(120));

/// One write of the store: each step is written before its call and after.
const WRITE: (Duration, Duration, Duration) = (Duration::ZERO, Duration::from_millis(3), Duration::from_millis(20));

/// Kinds of assets that are listed at once in a region.
const KINDS_AT_ONCE: usize = 5;

/// What the cloud's side lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Calls of one service in one region at once.
    pub in_flight: usize,
    /// Between calls where a service's quota is paced.
    pub gap: Duration,
}

impl Default for Limits {
    /// A cloud without limits of its own.
    fn default() -> Self {
        Self {
            in_flight: usize::MAX,
            gap: Duration::ZERO,
        }
    }
}

/// The settings by which the kill switch works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub poll_every: Duration,
    pub settle_spacing: Duration,
    pub sweep_spacing: Duration,
    pub step_patience: Duration,
    /// Principals that are looked at at once.
    pub principals_at_once: usize,
    /// Batches of one region at once.
    pub batches_at_once: usize,
    /// Caps and ends of one region at once.
    pub changes_at_once: usize,
    pub limits: Limits,
}

/// How long calls of one class took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tempo {
    pub calls: u32,
    pub total: Duration,
    pub slowest: Duration,
}

impl Tempo {
    pub fn add(&mut self, took: Duration) {
        self.calls = self.calls.saturating_add(1);
        self.total = self.total.saturating_add(took);
        self.slowest = self.slowest.max(took);
    }

    fn mean(&self) -> Duration {
        self.total.checked_div(self.calls).unwrap_or_default()
    }
}

/// What is to be done in one region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegionWork {
    /// Kinds that are listed.
    pub kinds: usize,
    pub caps: usize,
    pub ends: usize,
    /// Calls that stop or terminate machines.
    pub batches: usize,
    pub tempo: Tempo,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Principals that are looked at.
    pub principals: usize,
    /// Denies, keys and service credentials.
    pub denials: usize,
    pub iam: Tempo,
    pub regions: Vec<RegionWork>,
    /// How long a canary took to stop, by the last drill that saw it.
    pub stopping: Option<Duration>,
}

/// So many calls of a class tell how slow its slowest is; of fewer, those of other classes are taken too.
const SURE: u32 = 20;

impl Work {
    /// A handful of calls may all have been quick ones.
    fn with_sure_tempos(&self) -> Self {
        let slowest = self.regions.iter().map(|region| region.tempo.slowest);
        let slowest = slowest.fold(self.iam.slowest, Duration::max);
        let sure = |tempo: Tempo| Tempo {
            slowest: if tempo.calls < SURE { slowest } else { tempo.slowest },
            ..tempo
        };
        let regions = self.regions.iter().map(|region| RegionWork {
            tempo: sure(region.tempo),
            ..region.clone()
        });
        Self {
            iam: sure(self.iam),
            regions: regions.collect(),
            ..self.clone()
        }
    }
}

/// Seconds from the opening of the containment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub least_s: f64,
    pub likely_s: f64,
    pub most_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// When the last step of each class is done, for classes that have any. `quiet` is the first sweep that
    /// finds nothing left to do.
    pub done: BTreeMap<StepClass, Range>,
    /// When *contained* can be claimed: the second quiet sweep.
    pub contained: Range,
    /// What the figures rest on, for a person.
    pub rests_on: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    Least,
    Likely,
    Most,
}

impl Tier {
    fn of<T>(self, three: (T, T, T)) -> T {
        match self {
            Self::Least => three.0,
            Self::Likely => three.1,
            Self::Most => three.2,
        }
    }

    fn call(self, tempo: &Tempo) -> Duration {
        self.of((Duration::ZERO, tempo.mean(), tempo.slowest.saturating_mul(2)))
    }

    /// So many calls, at most so many at once.
    fn rounds(self, calls: usize, at_once: usize, tempo: &Tempo) -> Duration {
        let rounds = calls.div_ceil(at_once.max(1));
        self.call(tempo)
            .saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    fn writes(self, writes: usize) -> Duration {
        self.of(WRITE).saturating_mul(u32::try_from(writes).unwrap_or(u32::MAX))
    }
}

/// The times of one tier.
struct Times {
    denied: Duration,
    capped: Duration,
    ended: Duration,
    stopped: Duration,
    quiet: Duration,
    contained: Duration,
}

pub fn predict(work: &Work, rules: &Rules) -> Prediction {
    let work = &work.with_sure_tempos();
    let [least, likely, most] = [Tier::Least, Tier::Likely, Tier::Most].map(|tier| times(work, rules, tier));
    let range = |of: fn(&Times) -> Duration| Range {
        least_s: seconds(of(&least)),
        likely_s: seconds(of(&likely)),
        most_s: seconds(of(&most)),
    };
    let any = |count: fn(&RegionWork) -> usize| work.regions.iter().any(|region| count(region) > 0);
    let mut done = BTreeMap::new();
    let mut note = |is_there: bool, class, of| {
        if is_there {
            done.insert(class, range(of));
        }
    };
    note(work.denials > 0, StepClass::Deny, |times| times.denied);
    note(any(|region| region.caps), StepClass::Cap, |times| times.capped);
    note(any(|region| region.ends), StepClass::End, |times| times.ended);
    note(any(|region| region.batches), StepClass::Stop, |times| times.stopped);
    note(true, StepClass::Quiet, |times| times.quiet);
    Prediction {
        done,
        contained: range(|times| times.contained),
        rests_on: rests_on(work, rules),
    }
}

fn times(work: &Work, rules: &Rules, tier: Tier) -> Times {
    let in_flight = rules.limits.in_flight.max(1);
    // A daemon that has just started asks who it is before it touches anybody.
    let who = tier.of((Duration::ZERO, Duration::ZERO, tier.call(&work.iam)));
    let picked_up = tier.of((Duration::ZERO, Duration::ZERO, rules.poll_every)) + who + tier.writes(1);
    let people = tier.rounds(work.principals, rules.principals_at_once.min(in_flight), &work.iam);
    let denials = tier.rounds(work.denials, in_flight, &work.iam) + tier.writes(3 * work.denials);
    let denied = picked_up + people + denials;
    // The regions do not wait for longer than that.
    let begun = denied.min(picked_up + rules.step_patience);
    let (mut capped, mut ended, mut stopped, mut look) = (begun, begun, begun, people);
    for region in &work.regions {
        let seen = tier.rounds(region.kinds + 1, KINDS_AT_ONCE, &region.tempo);
        let gaps = u32::try_from(region.caps).unwrap_or(u32::MAX);
        let gaps = tier
            .of((Duration::ZERO, Duration::ZERO, rules.limits.gap))
            .saturating_mul(gaps);
        let at_once = rules.changes_at_once.min(in_flight);
        let caps = tier.rounds(region.caps, at_once, &region.tempo) + gaps + tier.writes(3 * region.caps);
        let ends = tier.rounds(region.ends, at_once, &region.tempo) + tier.writes(3 * region.ends);
        let at_once = rules.batches_at_once.min(in_flight);
        let stops = tier.rounds(region.batches, at_once, &region.tempo) + tier.writes(3 * region.batches);
        let here = begun + seen + caps;
        capped = capped.max(here);
        // They go together, and share the store.
        let together = tier.of((Duration::ZERO, Duration::ZERO, ends.min(stops)));
        ended = ended.max(here + ends + together);
        stopped = stopped.max(here + stops + together);
        look = look.max(people + seen);
    }
    let swept = denied.max(capped).max(ended).max(stopped) + tier.call(&work.iam) + tier.writes(2);
    let poll = tier.of((Duration::ZERO, rules.poll_every / 2, rules.poll_every));
    let look = look + tier.call(&work.iam) + tier.writes(2);
    let down = down(work, tier).map(|(machines, tasks)| (stopped + machines).max(ended + tasks));
    let did_something = work.denials > 0 || down.is_some() || work.regions.iter().any(|region| region.caps > 0);
    let quiet = match did_something {
        false => swept,
        true => {
            // The first look after all of it is down: the one that is just missed costs another round.
            let missed = tier.of((Duration::ZERO, rules.settle_spacing / 2, rules.settle_spacing)) + poll + look;
            let down = down.map_or(Duration::ZERO, |down| down + missed);
            down.max(swept + rules.settle_spacing + poll) + look
        }
    };
    Times {
        denied,
        capped,
        ended,
        stopped,
        quiet,
        contained: quiet + rules.sweep_spacing + poll + look,
    }
}

/// How long machines take to stop and tasks to end, if there are any.
fn down(work: &Work, tier: Tier) -> Option<(Duration, Duration)> {
    let any = |count: fn(&RegionWork) -> usize| work.regions.iter().any(|region| count(region) > 0);
    let (machines, tasks) = (any(|region| region.batches), any(|region| region.ends));
    let stopping = match work.stopping {
        Some(seen) => (seen / 2, seen, seen.saturating_mul(3)),
        None => STOPPING,
    };
    let of = |is_there: bool, three| if is_there { tier.of(three) } else { Duration::ZERO };
    (machines || tasks).then(|| (of(machines, stopping), of(tasks, ENDING)))
}

fn rests_on(work: &Work, rules: &Rules) -> Vec<String> {
    let mut lines = vec![
        format!(
            "calls as fast as in this drill: IAM {} (slowest {}), regions {} (slowest {}); no throttling, no outage",
            shown(work.iam.mean()),
            shown(work.iam.slowest),
            shown(all(work).mean()),
            shown(all(work).slowest),
        ),
        format!(
            "two quiet sweeps, {} apart; a sweep every {} until then",
            shown(rules.sweep_spacing),
            shown(rules.settle_spacing)
        ),
    ];
    if rules.limits.in_flight != usize::MAX {
        lines.push(format!(
            "{} calls at once of each service in a region, and {} between those that are paced",
            rules.limits.in_flight,
            shown(rules.limits.gap)
        ));
    }
    if down(work, Tier::Most).is_some() {
        lines.push(match work.stopping {
            Some(seen) => format!("machines stop as the last canary did, in {}", shown(seen)),
            None => format!(
                "an assumption: machines stop in {} to {}; a canary drill measures it",
                shown(STOPPING.0),
                shown(STOPPING.2)
            ),
        });
    }
    lines
}

fn all(work: &Work) -> Tempo {
    let mut all = Tempo::default();
    for region in &work.regions {
        all.calls = all.calls.saturating_add(region.tempo.calls);
        all.total = all.total.saturating_add(region.tempo.total);
        all.slowest = all.slowest.max(region.tempo.slowest);
    }
    all
}

fn shown(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", seconds(duration))
    }
}

/// To a tenth.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            poll_every: Duration::from_secs(1),
            settle_spacing: Duration::from_secs(2),
            sweep_spacing: Duration::from_secs(10),
            step_patience: Duration::from_secs(10),
            principals_at_once: 40,
            batches_at_once: 4,
            changes_at_once: 16,
            limits: Limits::default(),
        }
    }

    fn tempo(millis: u64) -> Tempo {
        let mut tempo = Tempo::default();
        tempo.add(Duration::from_millis(millis));
        tempo
    }

    fn work(batches: usize) -> Work {
        Work {
            principals: 2,
            denials: 3,
            iam: tempo(100),
            regions: vec![RegionWork {
                kinds: 9,
                caps: 4,
                batches,
                tempo: tempo(200),
                ..RegionWork::default()
            }],
            stopping: None,
        }
    }

    #[test]
    fn what_the_rules_force_is_never_left_out() {
        let told = predict(&work(2), &rules());
        // Two quiet sweeps, ten seconds apart, and machines that take at least three to stop.
        assert_eq!(told.contained.least_s, 13.0);
        assert!(
            told.contained.likely_s > 40.0 && told.contained.most_s > 130.0,
            "{told:#?}"
        );
        let nothing = predict(&Work::default(), &rules());
        assert_eq!(nothing.contained.least_s, 10.0);
        assert_eq!(nothing.done.keys().collect::<Vec<_>>(), [&StepClass::Quiet]);
    }

    #[test]
    fn later_phases_come_later_and_wider_tiers_are_wider() {
        let told = predict(&work(3), &rules());
        let all: Vec<&Range> = told.done.values().chain([&told.contained]).collect();
        for range in &all {
            assert!(
                range.least_s <= range.likely_s && range.likely_s <= range.most_s,
                "{range:?}"
            );
        }
        let likely = |class| told.done[&class].likely_s;
        assert!(likely(StepClass::Deny) < likely(StepClass::Cap));
        assert!(likely(StepClass::Cap) < likely(StepClass::Stop));
        assert!(likely(StepClass::Stop) < likely(StepClass::Quiet));
        assert!(!told.done.contains_key(&StepClass::End));
    }

    #[test]
    fn our_own_limits_and_slow_calls_cost_time() {
        let stop = |work: &Work, rules: &Rules| predict(work, rules).done[&StepClass::Stop].most_s;
        let free = stop(&work(8), &rules());
        let narrow = Rules {
            limits: Limits {
                in_flight: 1,
                gap: Duration::from_millis(100),
            },
            ..rules()
        };
        assert!(stop(&work(8), &narrow) > free + 3.0);
        let mut slow = work(8);
        slow.regions[0].tempo = tempo(2_000);
        slow.regions[0].tempo.calls = 40;
        assert!(stop(&slow, &rules()) > free + 10.0);
    }

    #[test]
    fn a_canary_takes_the_place_of_the_assumption() {
        let mut seen = work(1);
        seen.stopping = Some(Duration::from_secs(8));
        let told = predict(&seen, &rules());
        assert!(told.contained.most_s < predict(&work(1), &rules()).contained.most_s);
        assert!(
            told.rests_on
                .iter()
                .any(|line| line.contains("as the last canary did, in 8 s"))
        );
        assert!(told.rests_on.iter().all(|line| !line.contains("an assumption")));
    }

    #[test]
    fn slow_principals_hold_the_regions_back_for_so_long_and_no_longer() {
        let mut slow = work(1);
        slow.iam = tempo(60_000);
        let told = predict(&slow, &rules());
        assert!(told.done[&StepClass::Deny].likely_s > 100.0);
        assert!(told.done[&StepClass::Stop].likely_s < 20.0, "{told:#?}");
    }
}
