//! Single values: what a text must look like to be a duration, an amount, an address, an ARN.

use std::net::SocketAddr;
use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::domain::money::Usd;

/// A sum of whole numbers with units, such as `1h30m`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..end] {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        millis = millis.checked_add(number.checked_mul(unit)?)?;
        rest = rest[end..].trim_start();
    }
    Some(Duration::from_millis(millis))
}

/// The shortest text that reads back as this duration.
pub fn show_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if millis >= size {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    text
}

/// A text for a message: quoted, escaped and bounded.
pub(super) fn shown(text: &str) -> String {
    const MAX: usize = 60;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// An amount that nano-dollars hold without rounding.
pub(super) fn exact_usd(text: &str) -> Result<Usd, String> {
    let amount: Usd = text
        .parse()
        .map_err(|error: crate::domain::money::ParseUsdError| error.to_string())?;
    let (mantissa, exponent) = text.trim().split_once(['e', 'E']).unwrap_or((text.trim(), "0"));
    let decimals = mantissa
        .split_once('.')
        .map_or("", |(_, decimals)| decimals)
        .trim_end_matches('0');
    let scale = exponent.parse::<i64>().unwrap_or(0);
    if i64::try_from(decimals.len()).unwrap_or(i64::MAX).saturating_sub(scale) > 9 && !amount.is_zero() {
        return Err("finer than a nano-dollar, and would be rounded".to_owned());
    }
    Ok(amount)
}

/// An address and port. Names are not resolved: what is bound must not depend on a name server.
pub(super) fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| {
        if text.starts_with("localhost:") {
            "write the address: 127.0.0.1 or [::1], then a colon and the port"
        } else {
            "an address and a port, such as 127.0.0.1:8700 or [::1]:8700"
        }
    })
}

/// A host name or address without a port, as it may stand in a Host header.
pub(super) fn host(text: &str) -> Option<String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    (!text.is_empty() && text.len() <= 253 && text.bytes().all(plain)).then(|| text.to_ascii_lowercase())
}

/// Compiles globs; `*` matches any characters, a slash too.
pub(super) fn globs<'t>(patterns: impl Iterator<Item = &'t str>) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).ok()?);
    }
    set.build().ok()
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `eu-west-1`, `us-gov-east-1`, `ap-southeast-3`.
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return false;
    };
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    text.len() <= 32
        && letters(first)
        && !middle.is_empty()
        && middle.iter().all(letters)
        && (1..=2).contains(&last.len())
        && last.bytes().all(|b| b.is_ascii_digit())
}

/// `i-` and 8 or 17 hexadecimal digits.
pub(super) fn is_instance(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|id| {
        matches!(id.len(), 8 | 17) && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("60s", 60_000),
            ("1h30m", 5_400_000),
            ("90d", 7_776_000_000),
            ("1m 500ms", 60_500),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "60",
            "s",
            "-1s",
            "1.5h",
            "1 fortnight",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn regions_and_instances() {
        for region in ["eu-west-1", "us-gov-east-1", "ap-southeast-3"] {
            assert!(is_region(region), "{region}");
        }
        for region in [
            "",
            "eu",
            "eu-west",
            "eu-west-",
            "EU-west-1",
            "eu-west-1a",
            "all",
            "eu--1",
        ] {
            assert!(!is_region(region), "{region}");
        }
        assert!(is_instance("i-0123456789abcdef0") && is_instance("i-01234567"));
        assert!(!is_instance("i-xyz") && !is_instance("0123456789abcdef0"));
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        assert_eq!(exact_usd("0.1"), Ok(Usd::from_nanos(100_000_000)));
        assert_eq!(exact_usd("0.1000000000000"), Ok(Usd::from_nanos(100_000_000)));
        assert_eq!(exact_usd("5e-9"), Ok(Usd::from_nanos(5)));
        for text in ["0.0000000001", "1e-10", "2.5e-9"] {
            assert!(exact_usd(text).is_err(), "{text}");
        }
        assert!(exact_usd("nan").is_err());
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(millis in 0_u64..=u64::from(u32::MAX) * 1000) {
            let original = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(original)), Some(original));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = (duration(&text), listen(&text), host(&text), is_region(&text), exact_usd(&text));
            prop_assert!(shown(&text).len() <= 60 * 12);
        }
    }
}
