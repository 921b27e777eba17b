//! Money: integer nano-dollars, never a float.
//!
//! One nano-dollar is the smallest unit in which providers' prices are exact: $0.15 a million tokens
//! is 150 nano-dollars a token. An `i64` of them reaches nine billion dollars, so a ledger of every
//! agent on earth fits, and products are taken in `i128`. A fraction of a nano-dollar is rounded up
//! once, when a posting is made, so that rounding can only ever count against the agent.
//!
//! What it must never do: wrap, saturate silently, or turn a float that is not a number into zero.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount in nano-dollars (1 USD = 1,000,000,000). Negative only in corrections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(i64);

/// Nano-dollars in a dollar.
pub const NANOS_PER_USD: i64 = 1_000_000_000;

/// The largest amount that may be posted: one billion dollars. A claim above it is kept and shown,
/// but never posted: no agent spends it, so it is a fault in the claim.
pub const MAX_POSTING: Usd = Usd(1_000_000_000 * NANOS_PER_USD);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUsdError {
    #[error("not a decimal number of dollars, such as 12.50")]
    NotDecimal,
    #[error("more than nine billion dollars, which is past what an amount can hold")]
    OutOfRange,
}

impl Usd {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);

    /// From nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole dollars; for constants and tests.
    ///
    /// # Panics
    /// At compile time or in a test, when the dollars do not fit.
    pub const fn from_dollars(dollars: i64) -> Self {
        match dollars.checked_mul(NANOS_PER_USD) {
            Some(nanos) => Self(nanos),
            None => panic!("dollars do not fit into nano-dollars"),
        }
    }

    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Narrows a product or sum that was taken in `i128`.
    pub fn from_i128(nanos: i128) -> Option<Self> {
        i64::try_from(nanos).ok().map(Self)
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Adds, stopping at the ends of the range. Right for sums that are compared with a limit: a sum
    /// that does not fit is above every limit, and `MAX` says so.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `percent` hundredths of this amount, rounded down. Percentages above 100 are meant.
    #[must_use]
    pub fn percent(self, percent: u32) -> Self {
        let product = i128::from(self.0) * i128::from(percent) / 100;
        Self::from_i128(product).unwrap_or(Self::MAX)
    }

    /// In dollars, for a gauge; the exact value travels as nano-dollars or decimal text.
    #[expect(clippy::cast_precision_loss, reason = "display only")]
    pub fn as_f64_lossy(self) -> f64 {
        self.0 as f64 / NANOS_PER_USD as f64
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Exact decimal dollars without trailing zeros past the cents: `12.50`, `0.000150`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let abs = self.0.unsigned_abs();
        let whole = abs / NANOS_PER_USD.unsigned_abs();
        let frac = format!("{:09}", abs % NANOS_PER_USD.unsigned_abs());
        let trimmed = frac.trim_end_matches('0');
        let frac = if trimmed.len() < 2 { &frac[..2] } else { trimmed };
        f.pad(&format!("{sign}{whole}.{frac}"))
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${self}")
    }
}

/// Decimal dollars with up to nine decimals exactly; more decimals round up (away from the agent's
/// favour); an exponent (`1e-5`) is accepted since JSON writers print small floats so.
impl FromStr for Usd {
    type Err = ParseUsdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match digits.find(['e', 'E']) {
            Some(at) => {
                let exponent: i32 = digits[at + 1..].parse().map_err(|_| ParseUsdError::NotDecimal)?;
                (&digits[..at], exponent)
            }
            None => (digits, 0),
        };
        let (whole, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && frac.is_empty()) || !all_digits(whole) || !all_digits(frac) || mantissa.len() > 400 {
            return Err(ParseUsdError::NotDecimal);
        }
        let mut significand = String::with_capacity(whole.len() + frac.len());
        significand.push_str(whole);
        significand.push_str(frac);
        // The value is significand x 10^(exponent - frac.len()) dollars; in nano-dollars nine more.
        let frac_len = i32::try_from(frac.len()).map_err(|_| ParseUsdError::OutOfRange)?;
        let shift = exponent
            .checked_sub(frac_len)
            .and_then(|s| s.checked_add(9))
            .ok_or(ParseUsdError::OutOfRange)?;
        let significand = significand.trim_start_matches('0');
        if significand.is_empty() {
            return Ok(Self::ZERO);
        }
        let nanos: i128 = if shift >= 0 {
            if significand.len() + usize::try_from(shift).unwrap_or(usize::MAX).min(1000) > 30 {
                return Err(ParseUsdError::OutOfRange);
            }
            let value: i128 = significand.parse().map_err(|_| ParseUsdError::OutOfRange)?;
            value * 10_i128.pow(shift.unsigned_abs())
        } else {
            let drop = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
            if significand.len() <= drop {
                1
            } else {
                let (kept, rest) = significand.split_at(significand.len() - drop);
                if kept.len() > 30 {
                    return Err(ParseUsdError::OutOfRange);
                }
                let value: i128 = kept.parse().map_err(|_| ParseUsdError::OutOfRange)?;
                value + i128::from(rest.bytes().any(|b| b != b'0'))
            }
        };
        let signed = if negative { -nanos } else { nanos };
        Self::from_i128(signed).ok_or(ParseUsdError::OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_and_json_write() {
        let cases = [
            ("12.50", 12_500_000_000),
            ("0", 0),
            ("-0.000000001", -1),
            ("1e-5", 10_000),
            ("2.5E2", 250_000_000_000),
            (".5", 500_000_000),
            ("0.0000000001", 1),
            ("9223372036.854775807", i64::MAX),
        ];
        for (text, nanos) in cases {
            assert_eq!(text.parse(), Ok(Usd::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in [
            "", ".", "NaN", "inf", "1,000", "0x10", "1e", "--1", "1.2.3", "$5", "1_000",
        ] {
            assert_eq!(text.parse::<Usd>(), Err(ParseUsdError::NotDecimal), "{text}");
        }
        for text in [
            "1e308",
            "9223372036.854775808",
            "1e2147483647",
            "99999999999999999999999999999999999",
        ] {
            assert_eq!(text.parse::<Usd>(), Err(ParseUsdError::OutOfRange), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(nanos in any::<i64>()) {
            let usd = Usd::from_nanos(nanos);
            prop_assert_eq!(usd.to_string().parse::<Usd>(), Ok(usd));
        }

        #[test]
        fn parsing_never_panics(text in "[-+0-9.eE]{0,40}") {
            let _ = text.parse::<Usd>();
        }
    }
}
