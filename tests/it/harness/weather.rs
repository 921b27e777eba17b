//! Bad weather between the daemon and AWS: some of all calls fail, each in one of the ways in which AWS fails.
//!
//! What becomes of a call follows from the seed, its action, its region and how many of the kind there were
//! before, so that a seed means much the same in each run however its calls interleave.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::fault_proxy::{Asked, Fault};

/// The longest that an answer is late: no time limit is passed by it.
const LATEST: u64 = 1_500;

#[derive(Debug)]
pub struct Weather {
    seed: u64,
    percent: u64,
    seen: BTreeMap<(String, String, String), u64>,
    /// How many calls met which fault.
    met: BTreeMap<&'static str, usize>,
}

/// What comes over a call.
#[derive(Debug, Clone)]
pub enum Gust {
    Fault(Fault),
    /// It is answered, this much later.
    Late(Duration),
}

impl Weather {
    pub fn new(seed: u64, percent: u64) -> Self {
        Self {
            seed,
            percent,
            seen: BTreeMap::new(),
            met: BTreeMap::new(),
        }
    }

    pub(super) fn gust(&mut self, asked: &Asked) -> Option<Gust> {
        let key = (asked.service.clone(), asked.region.clone(), asked.action.clone());
        let before = self.seen.entry(key).or_default();
        let place = format!("{}/{}/{}/{before}", asked.service, asked.region, asked.action);
        *before += 1;
        let (name, gust) = drawn(self.seed, self.percent, &place, &asked.service)?;
        *self.met.entry(name).or_default() += 1;
        Some(gust)
    }

    pub fn met(&self) -> &BTreeMap<&'static str, usize> {
        &self.met
    }
}

fn drawn(seed: u64, percent: u64, place: &str, service: &str) -> Option<(&'static str, Gust)> {
    let mut numbers = numbers(seed, place);
    if numbers.next()? % 100 >= percent {
        return None;
    }
    let (kind, time) = (numbers.next()? % 5, numbers.next()? % LATEST);
    Some(match kind {
        0 => ("throttled", Gust::Fault(throttle(service))),
        1 => ("unavailable", Gust::Fault(Fault::Html(503))),
        2 => ("reset", Gust::Fault(Fault::Reset)),
        3 => ("late", Gust::Late(Duration::from_millis(time))),
        _ => ("reply lost", Gust::Fault(Fault::LoseReply)),
    })
}

/// Numbers that a seed and a text give.
pub fn numbers(seed: u64, text: &str) -> impl Iterator<Item = u64> + use<> {
    let digest: [u8; 32] = Sha256::digest(format!("{seed}/{text}")).into();
    let number = move |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[at * 8..at * 8 + 8]);
        u64::from_be_bytes(bytes)
    };
    (0..4).map(number)
}

/// How a service says that it is asked too often.
fn throttle(service: &str) -> Fault {
    let (status, code) = match service {
        "ec2" => (503, "RequestLimitExceeded"),
        "lambda" => (429, "TooManyRequestsException"),
        "ecs" | "cloudtrail" | "pricing" => (400, "ThrottlingException"),
        _ => (400, "Throttling"),
    };
    Fault::Refuse {
        status,
        code,
        message: "Rate exceeded",
    }
}

#[test]
fn weather_is_as_bad_as_it_should_be_and_the_same_for_a_seed() {
    let draw = |seed: u64| -> Vec<&str> {
        let drawn = (0..10_000).filter_map(|n| drawn(seed, 20, &format!("ec2/r/DescribeVolumes/{n}"), "ec2"));
        drawn.map(|(name, _)| name).collect()
    };
    let all = draw(7);
    assert!((1_800..2_200).contains(&all.len()), "{}", all.len());
    for name in ["throttled", "unavailable", "reset", "late", "reply lost"] {
        let some = all.iter().filter(|one| **one == name).count();
        assert!((300..500).contains(&some), "{name}: {some}");
    }
    assert_eq!(draw(7), all);
    assert_ne!(draw(8), all);
}
