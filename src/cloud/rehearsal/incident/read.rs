//! Reading an incident's file: all its bounds are checked here, so that a script cannot ask for more than
//! the rehearsal can hold.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};

use super::{Incident, What};
use crate::domain::money::Usd;

/// Things that a script makes at most, tasks and members counted.
const MAX_THINGS: u64 = 100_000;

/// Hours of an incident at most.
const MAX_HOURS: u32 = 14 * 24;

/// The longest file.
const MAX_BYTES: usize = 1 << 20;

/// What is wrong with a file, for whoever wrote it.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    #[error("an incident's file has at most {MAX_BYTES} bytes")]
    TooLong,
    #[error("the incident cannot be read: {0}")]
    Toml(#[from] Box<toml::de::Error>),
    #[error("the incident lasts 1 to {MAX_HOURS} hours, not {0}")]
    Hours(u32),
    #[error("the limit and the published bill are above $0")]
    NoMoney,
    #[error("the script makes more than {MAX_THINGS} things")]
    TooMuch,
    #[error("wave {0} repeats without a time between; give it every_s")]
    AllAtOnce(usize),
    #[error("{0:?} has no price: add a [[price]] for the rate")]
    NoPrice(String),
}

/// Dollars are written as text, so that no fraction is lost on the way.
pub(super) fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

impl Incident {
    pub fn parse(text: &str) -> Result<Self, IncidentError> {
        if text.len() > MAX_BYTES {
            return Err(IncidentError::TooLong);
        }
        let incident: Self = toml::from_str(text).map_err(Box::new)?;
        incident.check()?;
        Ok(incident)
    }

    fn check(&self) -> Result<(), IncidentError> {
        if self.hours == 0 || self.hours > MAX_HOURS {
            return Err(IncidentError::Hours(self.hours));
        }
        if self.limit_usd <= Usd::ZERO || self.published.usd <= Usd::ZERO {
            return Err(IncidentError::NoMoney);
        }
        let mut things = 0_u64;
        for (number, wave) in self.waves.iter().enumerate() {
            if wave.times > 1 && wave.every_s == 0 {
                return Err(IncidentError::AllAtOnce(number + 1));
            }
            for make in &wave.make {
                let each = 1 + u64::from(make.of.children());
                let all = u64::from(wave.times).saturating_mul(u64::from(make.count));
                things = things.saturating_add(all.saturating_mul(each));
                // What has no price would cost nothing in the rehearsal, and the comparison would be a lie.
                let unpriced = make.of.rates().into_iter().find(|rate| !self.prices_it(rate));
                if let Some(rate) = unpriced {
                    return Err(IncidentError::NoPrice(rate));
                }
            }
        }
        if things > MAX_THINGS {
            return Err(IncidentError::TooMuch);
        }
        Ok(())
    }

    fn prices_it(&self, rate: &str) -> bool {
        self.prices.iter().any(|price| price.rate == rate)
    }
}

impl What {
    /// What one of it brings along.
    fn children(&self) -> u32 {
        match self {
            Self::Group { members, .. } => *members,
            Self::Service { tasks, .. } => *tasks,
            _ => 0,
        }
    }

    fn rates(&self) -> Vec<String> {
        match self {
            Self::Machine { instance_type } | Self::Group { instance_type, .. } => vec![instance_type.clone()],
            Self::Service { .. } => vec!["fargate/x86/vcpu".to_owned(), "fargate/x86/gib".to_owned()],
            Self::Function { .. } => Vec::new(),
            Self::Balancer => vec!["balancer/application".to_owned()],
            Self::Volume { .. } => vec!["ebs/gp3".to_owned()],
            Self::Address => vec!["ipv4".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FIVE_HUNDRED_SERVICES, NETWORK_SCAN};
    use super::*;

    #[test]
    fn the_incidents_that_are_shipped_can_be_read() {
        for (text, name) in [(FIVE_HUNDRED_SERVICES, "500-services"), (NETWORK_SCAN, "network-scan")] {
            let incident = Incident::parse(text).unwrap();
            assert_eq!(incident.name, name);
            assert!(incident.prices.iter().all(|price| !price.source.is_empty()));
            assert!(!incident.assumptions.is_empty() && !incident.published.source.is_empty());
        }
    }

    fn refused(change: impl FnOnce(String) -> String) -> String {
        Incident::parse(&change(NETWORK_SCAN.to_owned()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        let said = refused(|text| text.replace("hours = 24", "hours = 0"));
        assert_eq!(said, "the incident lasts 1 to 336 hours, not 0");
        let said = refused(|text| text.replace("limit_usd = \"50\"", "limit_usd = \"0\""));
        assert_eq!(said, "the limit and the published bill are above $0");
        let said = refused(|text| text.replace("every_s = 1791", ""));
        assert_eq!(said, "wave 1 repeats without a time between; give it every_s");
        let said = refused(|text| text.replace("rate = \"m8g.12xlarge\"", "rate = \"m8g.48xlarge\""));
        assert_eq!(said, "\"m8g.12xlarge\" has no price: add a [[price]] for the rate");
        let said = refused(|text| text.replace("times = 49", "times = 4000000000"));
        assert_eq!(said, "the script makes more than 100000 things");
        let said = refused(|text| text.replace("times = 49", "time = 49"));
        assert!(said.contains("unknown field `time`"), "{said}");
        let said = refused(|text| text.replace("kind = \"balancer\"", "kind = \"moon\""));
        assert!(said.contains("unknown variant `moon`"), "{said}");
        assert!(Incident::parse(&" ".repeat(MAX_BYTES + 1)).is_err());
    }
}
