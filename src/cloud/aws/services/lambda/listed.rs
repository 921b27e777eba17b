//! Functions as the list of all their versions shows them.

use std::collections::BTreeMap;

use aws_sdk_lambda::types::{Architecture, FunctionConfiguration, ProvisionedConcurrencyConfigListItem as Provisioned};

use super::settings::qualifier;
use crate::cloud::aws::services::thousandths;
use crate::domain::fleet::rate::Meter;

/// The version that is no publication.
const LATEST: &str = "$LATEST";

/// A function with what its versions say.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub name: String,
    /// Of the function itself, and of no version.
    pub arn: String,
    pub role: Option<String>,
    pub is_published: bool,
    is_arm: bool,
    /// The memory of each version, in MiB. Behind an alias there may be any of them, so the largest counts.
    memory: BTreeMap<String, u64>,
}

impl Listed {
    pub fn from_versions(versions: Vec<FunctionConfiguration>) -> BTreeMap<String, Self> {
        let mut functions: BTreeMap<String, Self> = BTreeMap::new();
        for one in versions {
            let Some(name) = one.function_name else { continue };
            let version = one.version.unwrap_or_else(|| LATEST.to_owned());
            let listed = functions.entry(name.clone()).or_default();
            listed.name = name;
            if let Some(arn) = &one.function_arn {
                // arn:aws:lambda:REGION:ACCOUNT:function:NAME, and behind that the version.
                listed.arn = arn.split(':').take(7).collect::<Vec<_>>().join(":");
            }
            if version == LATEST || listed.role.is_none() {
                listed.role = one.role;
            }
            listed.is_published |= version != LATEST;
            listed.is_arm = one.architectures.unwrap_or_default().contains(&Architecture::Arm64);
            let memory = u64::try_from(one.memory_size.unwrap_or(0)).unwrap_or(0);
            // The least that a function has.
            listed.memory.insert(version, memory.max(128));
        }
        functions
    }

    pub fn meters(&self, configs: &[Provisioned]) -> Vec<Meter> {
        let mib = configs.iter().map(|config| {
            let counts = [
                config.requested_provisioned_concurrent_executions,
                config.allocated_provisioned_concurrent_executions,
            ];
            let count = counts.into_iter().flatten().max().unwrap_or(0);
            let qualifier = qualifier(config).unwrap_or_default();
            let memory = self.memory.get(qualifier).or_else(|| self.memory.values().max());
            u64::try_from(count)
                .unwrap_or(0)
                .saturating_mul(memory.copied().unwrap_or(128))
        });
        self.charged(mib.fold(0, u64::saturating_add))
    }

    /// What it is charged for at the most.
    pub fn bound(&self, count: u64) -> Vec<Meter> {
        let memory = self.memory.values().max().copied().unwrap_or(128);
        self.charged(memory.saturating_mul(count))
    }

    fn charged(&self, mib: u64) -> Vec<Meter> {
        let kind = if self.is_arm { "arm" } else { "x86" };
        let meter = Meter::of(format!("lambda-provisioned/{kind}"), thousandths(mib, 1_024));
        if mib > 0 { vec![meter] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, version: &str, memory: i32, architecture: Architecture) -> FunctionConfiguration {
        let one = FunctionConfiguration::builder().function_name(name).version(version);
        let one = one.memory_size(memory).architectures(architecture);
        let one = one.function_arn(format!(
            "arn:aws:lambda:eu-west-1:123456789012:function:{name}:{version}"
        ));
        one.role(format!("arn:aws:iam::123456789012:role/{version}")).build()
    }

    #[test]
    fn provisioned_concurrency_is_charged_for_by_its_versions_memory() {
        let arm = Architecture::Arm64;
        let functions = Listed::from_versions(vec![
            version("f", "1", 2_048, arm.clone()),
            version("f", LATEST, 128, arm.clone()),
            version("f", "2", 512, arm),
            version("g", LATEST, 128, Architecture::X8664),
        ]);
        assert_eq!(functions.len(), 2);
        let f = &functions["f"];
        assert!(f.is_published && f.is_arm && !functions["g"].is_published);
        assert_eq!(f.arn, "arn:aws:lambda:eu-west-1:123456789012:function:f");
        assert_eq!(f.role.as_deref(), Some("arn:aws:iam::123456789012:role/$LATEST"));
        let provisioned = |qualifier: &str, requested: i32, allocated: i32| {
            let arn = format!("arn:aws:lambda:eu-west-1:123456789012:function:f:{qualifier}");
            let one = Provisioned::builder().function_arn(arn);
            let one = one.requested_provisioned_concurrent_executions(requested);
            one.allocated_provisioned_concurrent_executions(allocated).build()
        };
        assert_eq!(
            f.meters(&[provisioned("2", 10, 4)]),
            [Meter::of("lambda-provisioned/arm", 5_000)]
        );
        // Behind an alias there may be any version.
        assert_eq!(
            f.meters(&[provisioned("live", 1, 1)]),
            [Meter::of("lambda-provisioned/arm", 2_000)]
        );
        assert_eq!(
            f.meters(&[provisioned("2", 2, 2), provisioned("1", 0, 3)]),
            [Meter::of("lambda-provisioned/arm", 7_000)]
        );
        assert_eq!(f.meters(&[]), []);
        assert_eq!(f.bound(50), [Meter::of("lambda-provisioned/arm", 100_000)]);
    }
}
