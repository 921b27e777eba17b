//! What an asset is charged for: a rate, which prices know, and how much of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A thing that has a price by the hour in a region, in words that adapters and prices share: a path from
/// the general to the special, such as `ec2/m7g.large`, `ebs/gp3`, `fargate/arm/vcpu`, `nat`. A rate that
/// is not known is priced by the ceiling of the nearest part that is, and never at nothing (L7).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateKey(pub String);

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// So much of a rate, in thousandths of its unit: an instance is 1,000 of `ec2/…`, a volume of 8 GiB is
/// 8,000 of `ebs/gp3`, a task of a quarter vCPU is 250 of `fargate/x86/vcpu`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    pub rate: RateKey,
    pub thousandths: u64,
}

impl Meter {
    pub fn one(rate: impl Into<String>) -> Self {
        Self::of(rate, 1_000)
    }

    pub fn of(rate: impl Into<String>, thousandths: u64) -> Self {
        Self {
            rate: RateKey(rate.into()),
            thousandths,
        }
    }
}
