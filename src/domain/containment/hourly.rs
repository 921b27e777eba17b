//! What a machine costs an hour, for telling people: what a containment saves, what a reset starts again.
//!
//! It is a built-in, dated table, and no bill: list prices of Linux on demand, without discounts, disks or
//! traffic. Prices within a family are in proportion to its size, so most families are one figure; what
//! is not so is listed by type. A region is a factor. A type or a size that is not in the table is priced
//! at a ceiling, and said to be: unknown is never nothing (L7).

mod table;

use serde::{Deserialize, Serialize};

use super::target::Region;
use crate::domain::money::Usd;

/// The date of the table, for a person.
pub const AS_OF: &str = "2025-03-02";

/// What a machine costs an hour, and how well that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hourly {
    pub usd: Usd,
    pub basis: PriceBasis,
}

/// From sure to unsure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceBasis {
    /// The list price of the type, in a region of which the list was taken.
    Listed,
    /// The list price, times what the region costs on the whole.
    Estimated,
    /// The type or the region is not in the table: no machine of that size is known to cost more.
    Ceiling,
}

/// A `large` in the units of [`units`]: a nano is one.
const LARGE: u64 = 16;

/// For a `large` of a family that is not in the table, in micro-dollars; above every one that is. An
/// accelerator costs more than anything else of its size.
const CEILING: u64 = 500_000;
const ACCELERATED_CEILING: u64 = 1_500_000;

/// The size that is taken for one that is not known: 48xlarge, the largest that is common.
const LARGEST: u64 = 48 * 2 * LARGE;

/// The factor of a region that is not in the table, in percent: the dearest that is.
const DEAREST: u64 = 160;

/// The price of a type in a region. Any text is a type; what is not one costs the ceiling.
pub fn hourly(instance_type: &str, region: &Region) -> Hourly {
    let (price, known) = in_virginia(instance_type);
    let factor = find(table::REGIONS, &region.0);
    let basis = match (known, factor) {
        (true, Some(100)) => PriceBasis::Listed,
        (true, Some(_)) => PriceBasis::Estimated,
        _ => PriceBasis::Ceiling,
    };
    let percent = u128::from(factor.unwrap_or(DEAREST));
    // Micro-dollars times sixteenths times percent, in nano-dollars, rounded up.
    let nanos = price.saturating_mul(percent).saturating_mul(1_000);
    let nanos = nanos.div_ceil(u128::from(LARGE) * 100);
    Hourly {
        usd: Usd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)),
        basis,
    }
}

/// Virtual processors of a type at the most, by its size; of one that is not known, those of the largest that is
/// common.
pub fn vcpus(instance_type: &str) -> u64 {
    let (family, size) = instance_type.split_once('.').unwrap_or((instance_type, ""));
    let metal = table::FAMILIES
        .iter()
        .find(|(name, _, xlarges)| *name == family && *xlarges > 0);
    let size = match (size, metal) {
        ("metal", Some((_, _, xlarges))) => Some(xlarges * 2 * LARGE),
        _ => units(size),
    };
    // A `large` has two.
    size.unwrap_or(LARGEST).saturating_mul(2).div_ceil(LARGE)
}

/// What costs so many pico-dollars an hour in us-east-1, in another region.
pub fn in_region(picos: u64, region: &Region) -> Hourly {
    let factor = find(table::REGIONS, &region.0);
    let basis = match factor {
        Some(100) => PriceBasis::Listed,
        Some(_) => PriceBasis::Estimated,
        None => PriceBasis::Ceiling,
    };
    let nanos = (u128::from(picos) * u128::from(factor.unwrap_or(DEAREST))).div_ceil(100 * 1_000);
    Hourly {
        usd: Usd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)),
        basis,
    }
}

/// Sixteenths of micro-dollars an hour in us-east-1, and whether the type is in the table.
fn in_virginia(instance_type: &str) -> (u128, bool) {
    if let Some(price) = find(table::TYPES, instance_type) {
        return (u128::from(price) * u128::from(LARGE), true);
    }
    let (family, size) = instance_type.split_once('.').unwrap_or((instance_type, ""));
    let found = table::FAMILIES.iter().find(|(name, _, _)| *name == family);
    let per_large = found.map_or_else(|| ceiling(family), |(_, price, _)| *price);
    let size = match (size, found) {
        ("metal", Some((_, _, xlarges @ 1..))) => Some(xlarges * 2 * LARGE),
        _ => units(size),
    };
    let price = u128::from(per_large) * u128::from(size.unwrap_or(LARGEST));
    (price, found.is_some() && size.is_some())
}

/// A size in sixteenths of a `large`, as AWS's normalisation factors have them.
fn units(size: &str) -> Option<u64> {
    match size {
        "nano" => return Some(1),
        "micro" => return Some(2),
        "small" => return Some(4),
        "medium" => return Some(8),
        "large" => return Some(LARGE),
        "xlarge" => return Some(2 * LARGE),
        _ => {}
    }
    let many = match size.strip_prefix("metal-") {
        Some(metal) => metal.strip_suffix("xl")?,
        None => size.strip_suffix("xlarge")?,
    };
    // Nothing is near as large; a larger number is no size.
    let many: u64 = many.parse().ok().filter(|many| (1..=10_000).contains(many))?;
    many.checked_mul(2 * LARGE)
}

fn ceiling(family: &str) -> u64 {
    let letters: String = family.chars().take_while(char::is_ascii_alphabetic).collect();
    match letters.as_str() {
        "a" | "c" | "d" | "h" | "hpc" | "i" | "im" | "is" | "m" | "mac" | "r" | "t" | "x" | "z" => CEILING,
        // p, g, trn, inf, dl, u, and what nobody has heard of yet.
        _ => ACCELERATED_CEILING,
    }
}

fn find(table: &[(&str, u64)], name: &str) -> Option<u64> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn priced(kind: &str, region: &str) -> (String, PriceBasis) {
        let hourly = hourly(kind, &Region(region.to_owned()));
        (hourly.usd.to_string(), hourly.basis)
    }

    #[test]
    fn a_family_is_priced_by_its_size() {
        // Prices of AWS's list for us-east-1.
        let rows = [
            ("t3.nano", "0.0052"),
            ("t3.micro", "0.0104"),
            ("t3a.large", "0.0752"),
            ("t4g.small", "0.0168"),
            ("t2.medium", "0.0464"),
            ("m5.2xlarge", "0.384"),
            ("m7g.large", "0.0816"),
            ("m7i.48xlarge", "9.6768"),
            ("m8g.12xlarge", "2.15424"),
            ("c6g.16xlarge", "2.176"),
            ("c7g.metal", "2.32"),
            ("c8g.metal-48xl", "7.65696"),
            ("r6i.32xlarge", "8.064"),
            ("r7i.metal-24xl", "6.3504"),
            ("i3.metal", "4.992"),
            ("i4i.32xlarge", "10.976"),
            ("g4dn.4xlarge", "1.204"),
            ("g5.12xlarge", "5.672"),
            ("g6.48xlarge", "13.3504"),
            ("inf2.xlarge", "0.7582"),
            ("p3.2xlarge", "3.06"),
            ("p3.16xlarge", "24.48"),
            ("trn1.2xlarge", "1.343752"),
        ];
        for (kind, usd) in rows {
            assert_eq!(
                priced(kind, "us-east-1"),
                (usd.to_owned(), PriceBasis::Listed),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_size_has_its_processors() {
        let rows = [
            ("m7i.large", 2),
            ("m7i.xlarge", 4),
            ("m7i.48xlarge", 192),
            ("c7i.metal-24xl", 96),
            ("i3.metal", 64),
            ("t3.nano", 1),
            ("m7i.enormous", 192),
            ("", 192),
        ];
        for (kind, expected) in rows {
            assert_eq!(vcpus(kind), expected, "{kind}");
        }
    }

    #[test]
    fn another_region_is_an_estimate() {
        assert_eq!(
            priced("m7g.large", "us-west-2"),
            ("0.0816".to_owned(), PriceBasis::Listed)
        );
        assert_eq!(
            priced("m7g.large", "eu-west-1"),
            ("0.091392".to_owned(), PriceBasis::Estimated)
        );
        assert_eq!(
            priced("m7g.large", "xx-new-1"),
            ("0.13056".to_owned(), PriceBasis::Ceiling)
        );
    }

    #[test]
    fn what_is_not_known_costs_a_ceiling_and_never_nothing() {
        let rows = [
            ("m99g.large", "0.50"),
            ("m99g.4xlarge", "4.00"),
            ("p9.48xlarge", "144.00"),
            ("quantum1.xlarge", "3.00"),
            ("m99g.metal", "48.00"),
            ("m7g.enormous", "7.8336"),
            ("m7i.metal", "9.6768"),
            ("m7g.0xlarge", "7.8336"),
            ("m7g.99999999999999999999xlarge", "7.8336"),
            ("unknown", "144.00"),
            ("", "144.00"),
        ];
        for (kind, usd) in rows {
            assert_eq!(
                priced(kind, "us-east-1"),
                (usd.to_owned(), PriceBasis::Ceiling),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_ceiling_is_above_everything_that_is_known() {
        for (family, price, _) in table::FAMILIES {
            assert!(ceiling(family) > *price, "{family}");
        }
        for (kind, price) in table::TYPES {
            let (family, size) = kind.split_once('.').unwrap();
            if let Some(size) = units(size) {
                assert!(ceiling(family) * size / LARGE > *price, "{kind}");
            }
        }
        assert!(
            table::REGIONS
                .iter()
                .all(|(_, percent)| (100..=DEAREST).contains(percent))
        );
    }

    #[test]
    fn nothing_is_listed_twice() {
        let names: BTreeSet<&str> = table::FAMILIES.iter().map(|(name, _, _)| *name).collect();
        assert_eq!(names.len(), table::FAMILIES.len());
        let names: BTreeSet<&str> = table::TYPES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), table::TYPES.len());
        for (kind, _) in table::TYPES {
            let family = kind.split_once('.').unwrap().0;
            assert!(!table::FAMILIES.iter().any(|(name, _, _)| *name == family), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_price_above_nothing(kind in ".{0,40}", region in ".{0,20}") {
            prop_assert!(hourly(&kind, &Region(region)).usd > Usd::ZERO);
        }

        #[test]
        fn any_size_has_a_price_above_nothing(many in 0_u64..u64::MAX, metal in any::<bool>()) {
            let kind = if metal { format!("m7g.metal-{many}xl") } else { format!("m7g.{many}xlarge") };
            let priced = hourly(&kind, &Region("us-east-1".to_owned()));
            prop_assert!(priced.usd > Usd::ZERO);
        }
    }
}
