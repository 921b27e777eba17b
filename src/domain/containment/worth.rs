//! What the agent's things cost an hour, as far as a price is known.

use super::hourly::{Hourly, PriceBasis, hourly};
use super::plan::AssetCost;
use super::target::Region;
use crate::domain::fleet::rate::Meter;
use crate::domain::money::Usd;

/// Rates of instances begin with this.
const INSTANCES: &str = "ec2/";

/// What meters come to in an hour; `None` as soon as one of them has no price here, because a sum without
/// it would be too small (L7).
pub(super) fn worth(meters: &[Meter], region: &Region) -> Option<Hourly> {
    let nothing = Hourly {
        usd: Usd::ZERO,
        basis: PriceBasis::Listed,
    };
    meters.iter().try_fold(nothing, |sum, meter| {
        let each = hourly(meter.rate.0.strip_prefix(INSTANCES)?, region);
        let nanos = i128::from(each.usd.nanos()) * i128::from(meter.thousandths);
        let usd = Usd::from_i128((nanos + 999) / 1_000).unwrap_or(Usd::MAX);
        Some(Hourly {
            usd: sum.usd.saturating_add(usd),
            basis: sum.basis.max(each.basis),
        })
    })
}

/// The cost of something that is charged for by these meters; `None` if it is not charged for.
pub(super) fn cost(meters: &[Meter], region: &Region) -> Option<AssetCost> {
    (!meters.is_empty()).then(|| AssetCost {
        what: described(meters),
        hourly: worth(meters, region),
        runs: true,
    })
}

/// Meters as a person reads them: `0.25 fargate/x86/vcpu, 8 ebs/gp3`.
pub(super) fn described(meters: &[Meter]) -> String {
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
    fn what_has_no_price_makes_the_whole_unknown() {
        let region = Region("us-east-1".to_owned());
        let machines = [Meter::of("ec2/m7g.large", 2_500)];
        let known = worth(&machines, &region).unwrap();
        assert_eq!(known.usd.to_string(), "0.204");
        let some = [Meter::one("ec2/m7g.large"), Meter::one("nat")];
        assert_eq!(worth(&some, &region), None);
        assert_eq!(cost(&[], &region), None);
        assert_eq!(cost(&some, &region).unwrap().hourly, None);
    }

    #[test]
    fn meters_are_read_by_people() {
        let meters = [Meter::of("fargate/x86/vcpu", 250), Meter::of("ebs/gp3", 8_000)];
        assert_eq!(described(&meters), "0.25 fargate/x86/vcpu, 8 ebs/gp3");
    }
}
