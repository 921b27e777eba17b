//! The settings of a function as texts, and back.

use std::collections::BTreeMap;

use aws_sdk_lambda::types::ProvisionedConcurrencyConfigListItem as Provisioned;

use crate::domain::fleet::asset::Settings;

pub(super) const RESERVED: &str = "reserved";
pub(super) const PROVISIONED: &str = "provisioned";
pub(super) const NONE: &str = "none";

/// The value that halts.
pub(super) fn capped(name: &str) -> &'static str {
    if name == PROVISIONED { NONE } else { "0" }
}

/// Provisioned concurrency by alias or version, such as `3=2,live=10`.
pub(super) fn text(configs: &[Provisioned]) -> String {
    let counts = configs.iter().filter_map(|config| {
        let count = config.requested_provisioned_concurrent_executions.unwrap_or(0);
        Some((qualifier(config)?, count)).filter(|(_, count)| *count > 0)
    });
    let counts: BTreeMap<&str, i32> = counts.collect();
    if counts.is_empty() {
        return NONE.to_owned();
    }
    let parts = counts.iter().map(|(qualifier, count)| format!("{qualifier}={count}"));
    parts.collect::<Vec<_>>().join(",")
}

/// The alias or version of a configuration.
pub(super) fn qualifier(config: &Provisioned) -> Option<&str> {
    config.function_arn().and_then(|arn| arn.split(':').nth(7))
}

/// What a function is to be brought to; what is not said stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// `None` within is no reservation.
    pub reserved: Option<Option<i32>>,
    pub provisioned: Option<BTreeMap<String, i32>>,
}

impl Wanted {
    /// `Err` is the setting that is none.
    pub fn of(settings: &Settings) -> Result<Self, (&str, &str)> {
        let mut wanted = Self::default();
        for (name, value) in settings {
            let unknown = (name.as_str(), value.as_str());
            match name.as_str() {
                RESERVED if value == NONE => wanted.reserved = Some(None),
                RESERVED => wanted.reserved = Some(Some(count(value).ok_or(unknown)?)),
                PROVISIONED => wanted.provisioned = Some(counts(value).ok_or(unknown)?),
                _ => return Err(unknown),
            }
        }
        Ok(wanted)
    }
}

fn count(text: &str) -> Option<i32> {
    text.parse().ok().filter(|count: &i32| *count >= 0)
}

fn counts(text: &str) -> Option<BTreeMap<String, i32>> {
    if text == NONE {
        return Some(BTreeMap::new());
    }
    let parts = text.split(',').map(|part| {
        let (qualifier, text) = part.split_once('=')?;
        let count = count(text).filter(|count| *count > 0)?;
        (!qualifier.is_empty()).then(|| (qualifier.to_owned(), count))
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provisioned(qualifier: &str, requested: i32) -> Provisioned {
        let arn = format!("arn:aws:lambda:eu-west-1:123456789012:function:f:{qualifier}");
        let one = Provisioned::builder().function_arn(arn);
        one.requested_provisioned_concurrent_executions(requested).build()
    }

    #[test]
    fn provisioned_concurrency_comes_back_as_it_was() {
        assert_eq!(text(&[]), NONE);
        let text = text(&[provisioned("live", 10), provisioned("3", 2)]);
        assert_eq!(text, "3=2,live=10");
        let settings = Settings::from([(PROVISIONED.to_owned(), text), (RESERVED.to_owned(), "40".to_owned())]);
        let wanted = Wanted::of(&settings).unwrap();
        assert_eq!(wanted.reserved, Some(Some(40)));
        let counts = BTreeMap::from([("3".to_owned(), 2), ("live".to_owned(), 10)]);
        assert_eq!(wanted.provisioned, Some(counts));
        let none = Settings::from([(PROVISIONED.to_owned(), capped(PROVISIONED).to_owned())]);
        assert_eq!(Wanted::of(&none).unwrap().provisioned, Some(BTreeMap::new()));
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for (name, value) in [
            ("reserved", "-1"),
            ("reserved", "all"),
            ("provisioned", ""),
            ("provisioned", "live"),
            ("provisioned", "live=0"),
            ("provisioned", "=1"),
            ("provisioned", "a=1,,b=2"),
            ("memory", "0"),
        ] {
            let settings = Settings::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(Wanted::of(&settings), Err((name, value)));
        }
    }
}
