//! What the agent's things cost an hour, at list prices: for telling what a containment saves.

use super::hourly::Hourly;
use super::observed::Instance;
use super::plan::AssetCost;
use crate::domain::fleet::asset::Asset;
use crate::domain::fleet::price::FleetPrices;
use crate::domain::fleet::rate::Meter;

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
