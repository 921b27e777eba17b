//! What a rate costs an hour in a region: the cloud's own list where it was fetched, else a built-in table.
//!
//! Prices are list prices on demand, without discounts and without what is charged by use (traffic, load
//! balancer units, invocations): those come with the bill. They are for acting early, and where they are not
//! sure they are high: a rate that is not listed is estimated from another region, one that is not known at
//! all is priced at a ceiling, and nothing that is charged for costs nothing (L7).

mod table;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::asset::Asset;
use super::rate::{Meter, RateKey};
use crate::domain::containment::hourly::{self, Hourly, PriceBasis};
use crate::domain::containment::target::Region;
use crate::domain::money::Usd;

/// A price of the cloud's own list, and when it was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// For one unit and hour.
    pub usd: Usd,
    pub fetched_at: Timestamp,
}

/// A price of the list with what it is of: a row of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRate {
    pub region: Region,
    pub rate: RateKey,
    pub listed: Listed,
}

/// Prices by region and rate: what was fetched, over what is built in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetPrices {
    listed: BTreeMap<(Region, RateKey), Listed>,
}

impl FleetPrices {
    pub fn new(listed: impl IntoIterator<Item = ((Region, RateKey), Listed)>) -> Self {
        Self {
            listed: listed.into_iter().collect(),
        }
    }

    pub fn put(&mut self, region: Region, rate: RateKey, listed: Listed) {
        self.listed.insert((region, rate), listed);
    }

    pub fn listed(&self, region: &Region, rate: &RateKey) -> Option<Listed> {
        // The map's keys are owned pairs; a look-up makes one, which is nothing beside the call it saves.
        self.listed.get(&(region.clone(), rate.clone())).copied()
    }

    /// The price of one unit for an hour.
    pub fn unit(&self, region: &Region, rate: &RateKey) -> Hourly {
        match self.listed(region, rate) {
            // A list that says nothing for what is charged has been misread.
            Some(listed) if listed.usd > Usd::ZERO => Hourly {
                usd: listed.usd,
                basis: PriceBasis::Listed,
            },
            _ => self
                .sold_otherwise(region, rate)
                .unwrap_or_else(|| built_in(region, rate)),
        }
    }

    /// A machine that is not sold as plain Linux, while the list does not say what it costs: plain Linux and the
    /// dearest licence. A spot machine never costs more than one on demand.
    fn sold_otherwise(&self, region: &Region, rate: &RateKey) -> Option<Hourly> {
        let (family, rest) = rate.0.split_once('/')?;
        let kind = rest.rsplit('/').next().unwrap_or_default();
        if family == "ec2-spot-os" {
            let on_demand = self.unit(region, &RateKey(format!("ec2-os/{rest}")));
            let basis = on_demand.basis.max(PriceBasis::Estimated);
            return Some(Hourly { basis, ..on_demand });
        }
        if family != "ec2-os" {
            return None;
        }
        let linux = self.unit(region, &RateKey(format!("ec2/{kind}")));
        let vcpus = hourly::vcpus(kind).max(table::LICENCE_VCPUS);
        let licence = hourly::in_region(table::LICENCE.saturating_mul(vcpus), region);
        Some(Hourly {
            usd: linux.usd.saturating_add(licence.usd),
            basis: PriceBasis::Ceiling,
        })
    }

    pub fn meter(&self, region: &Region, meter: &Meter) -> Hourly {
        let unit = self.unit(region, &meter.rate);
        let nanos = i128::from(unit.usd.nanos()) * i128::from(meter.thousandths);
        let nanos = nanos.saturating_add(999) / 1_000;
        Hourly {
            usd: Usd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)),
            basis: unit.basis,
        }
    }

    /// What an asset costs an hour as it stands; `None` for one that is not charged for.
    pub fn asset(&self, asset: &Asset) -> Option<Hourly> {
        let meters = asset.meters.iter().filter(|meter| meter.thousandths > 0);
        meters.map(|meter| self.meter(&asset.what.region, meter)).reduce(add)
    }
}

/// Two prices that are paid together are known as well as the lesser known.
pub fn add(a: Hourly, b: Hourly) -> Hourly {
    Hourly {
        usd: a.usd.saturating_add(b.usd),
        basis: a.basis.max(b.basis),
    }
}

fn built_in(region: &Region, rate: &RateKey) -> Hourly {
    let key = rate.0.as_str();
    if let Some(instance_type) = key.strip_prefix("ec2/") {
        return hourly::hourly(instance_type, region);
    }
    if let Some(instance_type) = key.strip_prefix("ec2-spot/") {
        // The spot price changes by the minute and, unless somebody bid more, is never above this.
        let hourly = hourly::hourly(instance_type, region);
        return Hourly {
            basis: hourly.basis.max(PriceBasis::Estimated),
            ..hourly
        };
    }
    if let Some((_, picos)) = table::RATES.iter().find(|(known, _)| *known == key) {
        return hourly::in_region(*picos, region);
    }
    let ceiling = nearest(key).unwrap_or(table::UNKNOWN);
    Hourly {
        basis: PriceBasis::Ceiling,
        ..hourly::in_region(ceiling, region)
    }
}

/// The dearest of the rates that share the longest beginning, part by part.
fn nearest(key: &str) -> Option<u64> {
    let mut parent = key;
    while let Some((head, _)) = parent.rsplit_once('/') {
        parent = head;
        let under = |known: &str| {
            let rest = known.strip_prefix(parent);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let known = table::RATES.iter().filter(|(known, _)| under(known));
        if let Some(dearest) = known.map(|(_, picos)| *picos).max() {
            return Some(dearest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(region: &str, rate: &str) -> (String, PriceBasis) {
        let price = FleetPrices::default().unit(&Region(region.to_owned()), &RateKey(rate.to_owned()));
        (price.usd.to_string(), price.basis)
    }

    #[test]
    fn what_is_built_in_is_an_hours_price() {
        let rows = [
            ("ec2/m7g.large", "0.0816"),
            ("nat", "0.045"),
            ("ipv4", "0.005"),
            ("balancer/application", "0.0225"),
            ("balancer/classic", "0.025"),
            ("fargate/x86/vcpu", "0.04048"),
            ("fargate/arm/gib", "0.00356"),
            ("lambda-provisioned/x86", "0.01500012"),
            // $0.08 and $0.125 a month of 730 hours.
            ("ebs/gp3", "0.00010959"),
            ("ebs/io2", "0.000171233"),
        ];
        for (rate, usd) in rows {
            assert_eq!(unit("us-east-1", rate), (usd.to_owned(), PriceBasis::Listed), "{rate}");
        }
        assert_eq!(unit("eu-west-1", "nat"), ("0.0504".to_owned(), PriceBasis::Estimated));
        assert_eq!(
            unit("us-east-1", "ec2-spot/m7g.large"),
            ("0.0816".to_owned(), PriceBasis::Estimated)
        );
    }

    #[test]
    fn what_is_not_known_costs_a_ceiling() {
        assert_eq!(
            unit("us-east-1", "ebs/io9"),
            ("0.000171233".to_owned(), PriceBasis::Ceiling)
        );
        assert_eq!(
            unit("us-east-1", "fargate/risc/vcpu"),
            ("0.09148".to_owned(), PriceBasis::Ceiling)
        );
        assert_eq!(
            unit("us-east-1", "balancer/quantum"),
            ("0.025".to_owned(), PriceBasis::Ceiling)
        );
        assert_eq!(
            unit("us-east-1", "rds/db.r9"),
            ("150.00".to_owned(), PriceBasis::Ceiling)
        );
        assert_eq!(unit("us-east-1", ""), ("150.00".to_owned(), PriceBasis::Ceiling));
    }

    #[test]
    fn what_is_not_plain_linux_never_has_its_price() {
        // Linux at $0.1008 for two vCPUs, and a licence for at least four.
        let windows = "ec2-os/RunInstances:0002/shared/m7i.large";
        assert_eq!(unit("us-east-1", windows), ("2.1008".to_owned(), PriceBasis::Ceiling));
        let spot = "ec2-spot-os/RunInstances:0002/shared/m7i.large";
        assert_eq!(unit("us-east-1", spot), ("2.1008".to_owned(), PriceBasis::Ceiling));
        let own = "ec2-os/RunInstances/dedicated/m7i.48xlarge";
        assert_eq!(unit("us-east-1", own), ("105.6768".to_owned(), PriceBasis::Ceiling));

        let region = Region("us-east-1".to_owned());
        let mut prices = FleetPrices::default();
        let listed = |usd: &str| Listed {
            usd: usd.parse().unwrap(),
            fetched_at: Timestamp::UNIX_EPOCH,
        };
        prices.put(region.clone(), RateKey("ec2/m7i.large".to_owned()), listed("0.11"));
        let price = prices.unit(&region, &RateKey(windows.to_owned()));
        assert_eq!(
            (price.usd.to_string().as_str(), price.basis),
            ("2.11", PriceBasis::Ceiling)
        );
        prices.put(region.clone(), RateKey(windows.to_owned()), listed("0.1928"));
        let price = |rate: &str| prices.unit(&region, &RateKey(rate.to_owned()));
        assert_eq!(price(windows).basis, PriceBasis::Listed);
        assert_eq!(
            (price(spot).usd, price(spot).basis),
            (price(windows).usd, PriceBasis::Estimated)
        );
    }

    #[test]
    fn the_clouds_own_list_goes_before_the_table() {
        let region = Region("us-east-1".to_owned());
        let rate = RateKey("nat".to_owned());
        let listed = |usd: &str| Listed {
            usd: usd.parse().unwrap(),
            fetched_at: Timestamp::UNIX_EPOCH,
        };
        let mut prices = FleetPrices::default();
        prices.put(region.clone(), rate.clone(), listed("0.06"));
        let meter = Meter {
            rate: rate.clone(),
            thousandths: 2_500,
        };
        assert_eq!(prices.meter(&region, &meter).usd.to_string(), "0.15");
        prices.put(region.clone(), rate.clone(), listed("0"));
        assert_eq!(prices.unit(&region, &rate).usd.to_string(), "0.045");
    }

    #[test]
    fn nothing_is_listed_twice_and_nothing_is_free() {
        let names: std::collections::BTreeSet<_> = table::RATES.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), table::RATES.len());
        assert!(
            table::RATES
                .iter()
                .all(|(_, picos)| *picos > 0 && *picos < table::UNKNOWN)
        );
    }

    proptest! {
        #[test]
        fn any_rate_costs_something(rate in ".{0,40}", region in ".{0,20}", thousandths in 1_u64..) {
            let prices = FleetPrices::default();
            let meter = Meter { rate: RateKey(rate), thousandths };
            prop_assert!(prices.meter(&Region(region), &meter).usd > Usd::ZERO);
        }
    }
}
