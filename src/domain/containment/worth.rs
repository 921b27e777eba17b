//! What the agent's things cost an hour, at list prices: for telling what a containment saves, and what a reset
//! starts again.

use std::collections::BTreeMap;

use super::hourly::Hourly;
use super::image::Before;
use super::observed::Instance;
use super::plan::{AssetCost, Images};
use super::restore::Uncap;
use crate::domain::fleet::asset::Asset;
use crate::domain::fleet::price::{self, FleetPrices};
use crate::domain::fleet::rate::Meter;
use crate::domain::money::Usd;

/// The cost of an asset as it stands; `None` if it is not charged for.
pub(super) fn asset(prices: &FleetPrices, asset: &Asset) -> Option<AssetCost> {
    prices.asset(asset).map(|hourly| AssetCost {
        what: described(&asset.meters),
        hourly,
        runs: true,
    })
}

/// What a machine costs while it runs.
pub(super) fn machine(prices: &FleetPrices, instance: &Instance) -> Hourly {
    prices.unit(&instance.region, &instance.on_demand())
}

/// What uncapping an asset starts again, beside machines, as it cost before: what it is charged for itself, and
/// as many of what it started and we ended as its settings say, each at the dearest of them. `None` where
/// neither was seen.
pub fn uncapped(uncap: &Uncap, images: &Images, hourly: &BTreeMap<String, Hourly>) -> Option<Hourly> {
    let own = hourly.get(&uncap.asset.to_string()).copied();
    let children: Vec<Hourly> = images
        .iter()
        .filter(|(_, image)| matches!(&image.before, Before::Ran { parent: Some(parent) } if *parent == uncap.asset))
        .filter_map(|(resource, _)| hourly.get(&resource.to_string()).copied())
        .collect();
    let dearest = children.iter().copied().max_by_key(|hourly| hourly.usd);
    let started = dearest.map(|dearest| {
        let numbers = uncap.settings.values().filter_map(|value| value.parse::<i64>().ok());
        // Of settings that are no numbers, those that ran are all that is known.
        let count = numbers
            .max()
            .unwrap_or_else(|| i64::try_from(children.len()).unwrap_or(i64::MAX));
        Hourly {
            usd: Usd::from_nanos(dearest.usd.nanos().saturating_mul(count.max(0))),
            ..dearest
        }
    });
    own.into_iter().chain(started).reduce(price::add)
}

/// Meters as a person reads them: `0.25 fargate/x86/vcpu, 8 ebs/gp3`.
fn described(meters: &[Meter]) -> String {
    let one = |meter: &Meter| {
        let (whole, rest) = (meter.thousandths / 1_000, meter.thousandths % 1_000);
        let fraction = format!("{rest:03}");
        match fraction.trim_end_matches('0') {
            "" => format!("{whole} {}", meter.rate),
            fraction => format!("{whole}.{fraction} {}", meter.rate),
        }
    };
    meters.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_are_read_by_people() {
        let meters = [Meter::of("fargate/x86/vcpu", 250), Meter::of("ebs/gp3", 8_000)];
        assert_eq!(described(&meters), "0.25 fargate/x86/vcpu, 8 ebs/gp3");
    }
}
