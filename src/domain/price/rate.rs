//! Rates: exact integers, so that a price list and a bill agree to the last digit.
//!
//! Providers quote dollars per million tokens, lists on the web dollars per token, audio dollars per
//! minute. All become nano-dollars per million units in an `i64`: $0.000283333333333 a second is
//! 283,333,333,333 of them, $0.01 a million tokens is 10,000,000. A text with more decimals than that
//! (a float that was printed carelessly) rounds up in the fifteenth decimal of a dollar.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::usage::TokenClass;
use crate::domain::money::Usd;

/// Nano-dollars per million units. Never negative, at most a thousand dollars a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Rate(i64);

/// Why a text or number cannot be a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateRejection {
    #[error("not a decimal number of dollars, such as 1.25")]
    NotDecimal,
    #[error("a rate cannot be negative")]
    Negative,
    #[error("more than a thousand dollars for one unit, which no provider charges")]
    Absurd,
}

impl Rate {
    pub const ZERO: Self = Self(0);
    /// A thousand dollars a unit. A list that says more has a unit wrong.
    pub const MAX: Self = Self(1_000_000_000_000_000_000);
    /// A dollar a token. The dearest token on any list costs about a thousandth of a cent.
    pub const MAX_PER_TOKEN: Self = Self(1_000_000_000_000_000);

    /// From nano-dollars per million units.
    pub const fn from_nanos_per_million(nanos: i64) -> Result<Self, RateRejection> {
        if nanos < 0 {
            Err(RateRejection::Negative)
        } else if nanos > Self::MAX.0 {
            Err(RateRejection::Absurd)
        } else {
            Ok(Self(nanos))
        }
    }

    /// From decimal dollars per million units: `1.25`.
    pub fn per_million(text: &str) -> Result<Self, RateRejection> {
        match text.parse::<Usd>() {
            Ok(usd) => Self::from_nanos_per_million(usd.nanos()),
            Err(crate::domain::money::ParseUsdError::NotDecimal) => Err(RateRejection::NotDecimal),
            Err(crate::domain::money::ParseUsdError::OutOfRange) if text.trim_start().starts_with('-') => {
                Err(RateRejection::Negative)
            }
            Err(crate::domain::money::ParseUsdError::OutOfRange) => Err(RateRejection::Absurd),
        }
    }

    /// From decimal dollars for one unit: `1.25e-06`. Exact, because only the exponent is moved.
    pub fn per_unit(text: &str) -> Result<Self, RateRejection> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => {
                let exponent: i32 = text[at + 1..].parse().map_err(|_| RateRejection::NotDecimal)?;
                (&text[..at], exponent)
            }
            None => (text, 0),
        };
        let exponent = exponent.checked_add(6).ok_or(RateRejection::Absurd)?;
        Self::per_million(&format!("{mantissa}e{exponent}"))
    }

    pub const fn nanos_per_million(self) -> i64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This rate as dollars for a million units, for listings.
    pub const fn usd_per_million(self) -> Usd {
        Usd::from_nanos(self.0)
    }
}

impl TryFrom<i64> for Rate {
    type Error = RateRejection;
    fn try_from(nanos: i64) -> Result<Self, RateRejection> {
        Self::from_nanos_per_million(nanos)
    }
}

impl From<Rate> for i64 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}/M", Usd::from_nanos(self.0))
    }
}

/// A multiplier in thousandths, such as 1,100 for a regional surcharge of a tenth. Never below 1,000:
/// a discount belongs into the rates, where it is seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Permille(u32);

impl Permille {
    pub const ONE: Self = Self(1_000);
    /// A hundredfold; a list that says more is wrong.
    pub const MAX: Self = Self(100_000);

    pub const fn new(thousandths: u32) -> Result<Self, RateRejection> {
        if thousandths < Self::ONE.0 {
            Err(RateRejection::Negative)
        } else if thousandths > Self::MAX.0 {
            Err(RateRejection::Absurd)
        } else {
            Ok(Self(thousandths))
        }
    }

    /// From a decimal factor such as `1.1`, rounded up to a thousandth.
    pub fn factor(text: &str) -> Result<Self, RateRejection> {
        let nanos = text.parse::<Usd>().map_err(|_| RateRejection::NotDecimal)?.nanos();
        if nanos < 0 {
            return Err(RateRejection::Negative);
        }
        let thousandths = nanos / 1_000_000 + i64::from(nanos % 1_000_000 != 0);
        Self::new(u32::try_from(thousandths).map_err(|_| RateRejection::Absurd)?)
    }

    pub const fn thousandths(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Permille {
    type Error = RateRejection;
    fn try_from(thousandths: u32) -> Result<Self, RateRejection> {
        Self::new(thousandths)
    }
}

impl From<Permille> for u32 {
    fn from(permille: Permille) -> Self {
        permille.0
    }
}

/// A rate for each token class that has one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rates([Option<Rate>; TokenClass::COUNT]);

impl Rates {
    pub const fn get(&self, class: TokenClass) -> Option<Rate> {
        self.0[class.index()]
    }

    pub const fn set(&mut self, class: TokenClass, rate: Rate) {
        self.0[class.index()] = Some(rate);
    }

    pub const fn put(&mut self, class: TokenClass, rate: Option<Rate>) {
        self.0[class.index()] = rate;
    }

    #[must_use]
    pub fn with(mut self, class: TokenClass, rate: Rate) -> Self {
        self.set(class, rate);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The classes that have a rate, with it.
    pub fn iter(&self) -> impl Iterator<Item = (TokenClass, Rate)> + '_ {
        TokenClass::ALL
            .into_iter()
            .filter_map(|class| Some((class, self.get(class)?)))
    }

    /// The highest rate of any class.
    pub fn highest(&self) -> Option<Rate> {
        self.0.iter().flatten().copied().max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_read_exactly() {
        let cases = [
            ("1.25e-06", 1_250_000_000),
            ("2.5e-8", 25_000_000),
            ("0.000283333333333", 283_333_333_333),
            ("0.0001", 100_000_000_000),
            ("5e-09", 5_000_000),
            ("0.03", 30_000_000_000_000),
            ("0", 0),
            ("0.0", 0),
            ("8.000000000000001E-7", 800_000_001),
            ("1e-40", 1),
        ];
        for (text, nanos) in cases {
            assert_eq!(Rate::per_unit(text).map(Rate::nanos_per_million), Ok(nanos), "{text}");
        }
        assert_eq!(Rate::per_million("1.25"), Rate::per_unit("0.00000125"));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for (text, why) in [
            ("-1e-6", RateRejection::Negative),
            ("-1e300", RateRejection::Negative),
            ("NaN", RateRejection::NotDecimal),
            ("Infinity", RateRejection::NotDecimal),
            ("", RateRejection::NotDecimal),
            ("1e", RateRejection::NotDecimal),
            ("1e99999999999", RateRejection::NotDecimal),
            ("1e2147483647", RateRejection::Absurd),
            ("1e308", RateRejection::Absurd),
            ("1001", RateRejection::Absurd),
        ] {
            assert_eq!(Rate::per_unit(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_factor_never_discounts() {
        assert_eq!(Permille::factor("1.1").map(Permille::thousandths), Ok(1_100));
        assert_eq!(Permille::factor("1.10001").map(Permille::thousandths), Ok(1_101));
        assert_eq!(Permille::factor("0.5"), Err(RateRejection::Negative));
        assert_eq!(Permille::factor("-2"), Err(RateRejection::Negative));
        assert_eq!(Permille::factor("1e6"), Err(RateRejection::Absurd));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[-+0-9.eE]{0,40}|\\PC{0,20}") {
            let _ = Rate::per_unit(&text);
            let _ = Permille::factor(&text);
        }
    }
}
