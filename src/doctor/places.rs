//! The clock against AWS's, and whether its services answer in the regions that count.

use std::collections::{BTreeMap, BTreeSet};

use super::{Doctor, is_denied, some_at_once};
use crate::domain::containment::target::Region;
use crate::domain::doctor::{Finding, some, time};
use crate::ports::{CloudError, Probe};

/// The name of the check.
const CHECK: &str = "endpoints";

/// Who we are is asked for nothing and refused to nobody: the best clock that there is.
const WHAT_TIME: &str = "sts:GetCallerIdentity";

/// Prices are a comfort: without a list there are built-in ones.
const COMFORT: &str = "pricing";

/// Probes at once, of all regions together.
const AT_ONCE: usize = 4;

impl Doctor {
    pub(super) async fn clock_of_cloud(&self, region: &Region) -> Vec<Finding> {
        let before = self.clock.now();
        let answer = self.within(self.cloud.probe(region, WHAT_TIME)).await;
        let after = self.clock.now();
        vec![match answer.map(|answered| answered.at) {
            Ok(Some(theirs)) => time::of_cloud(before, theirs, after),
            Ok(None) => Finding::not_checked(time::CHECK, "AWS's answer has no date to compare the clock with"),
            Err(error) => Finding::not_checked(
                time::CHECK,
                format!("no answer of AWS to compare the clock with: {error}"),
            ),
        }]
    }

    /// One probe of each service, in each region where it has a place.
    pub(super) async fn places(&self, regions: &Result<Vec<Region>, CloudError>, near: &Region) -> Vec<Finding> {
        let mut findings = Vec::new();
        let regions: Vec<Region> = match regions {
            Ok(regions) => regions.clone(),
            Err(error) => {
                let found = format!("which regions are enabled cannot be seen: {error}");
                let todo =
                    "an agent without regions of its own is looked for in all of them: name regions, or allow this";
                findings.push(Finding::fail("regions", found, todo));
                vec![near.clone()]
            }
        };
        let probes = firsts(self.cloud.probes());
        if probes.is_empty() {
            findings.push(Finding::not_checked(CHECK, "this cloud offers nothing to try"));
            return findings;
        }
        let everywhere = regions.iter().flat_map(|region| {
            let each = probes.iter().filter(|probe| probe.in_each_region);
            each.map(move |probe| (region, *probe))
        });
        let once = probes
            .iter()
            .filter(|probe| !probe.in_each_region)
            .map(|probe| (near, *probe));
        let tries: Vec<(&Region, Probe)> = once.chain(everywhere).collect();
        let count = tries.len();
        let mut troubles: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut slowed = BTreeSet::new();
        let mut comfort = Vec::new();
        let tries = tries.into_iter().map(|(region, probe)| async move {
            (region, probe, self.within(self.cloud.probe(region, probe.action)).await)
        });
        let tried = some_at_once(tries, AT_ONCE).await;
        for (region, probe, answer) in tried {
            let place = if probe.in_each_region {
                region.to_string()
            } else {
                "all regions".to_owned()
            };
            let service = service(probe);
            let trouble = match answer {
                Ok(answered) => match answered.refused {
                    None => continue,
                    // Whether it is allowed is another question, and asked elsewhere.
                    Some(error) if is_denied(&error) => continue,
                    Some(error) if matches!(error.retry, crate::ports::Retry::After(_)) => {
                        slowed.insert(format!("{service} in {place}"));
                        continue;
                    }
                    Some(error) => refused(service, &error),
                },
                Err(error) => format!("{service} does not answer: {error}"),
            };
            if service == COMFORT {
                comfort.push(trouble);
            } else {
                troubles.entry(place).or_default().push(trouble);
            }
        }
        let names: Vec<String> = probes.iter().map(|probe| service(*probe).to_owned()).collect();
        let names: BTreeSet<String> = names.into_iter().collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        if troubles.is_empty() {
            let shown: Vec<String> = regions.iter().map(ToString::to_string).collect();
            let found = format!("{count} endpoints answer: {names}; in {}", some(&shown));
            findings.push(Finding::ok(CHECK, found));
        }
        for (place, whys) in troubles {
            let todo =
                "let the daemon's network reach it, or take the region out of the config; what runs there is not seen";
            findings.push(Finding::fail(CHECK, format!("{place}: {}", some(&whys)), todo));
        }
        if !comfort.is_empty() {
            let todo = "prices then come from the built-in table, at ceilings where it knows none";
            findings.push(Finding::warn(CHECK, some(&comfort), todo));
        }
        if !slowed.is_empty() {
            let slowed: Vec<String> = slowed.into_iter().collect();
            let todo = "somebody uses up the account's rate of calls: containment would be slowed down as well";
            findings.push(Finding::warn(CHECK, format!("throttled: {}", some(&slowed)), todo));
        }
        findings
    }
}

/// The first probe of each service.
fn firsts(probes: &'static [Probe]) -> Vec<Probe> {
    let mut seen = BTreeSet::new();
    probes
        .iter()
        .copied()
        .filter(|probe| seen.insert(service(*probe)))
        .collect()
}

fn service(probe: Probe) -> &'static str {
    probe.action.split(':').next().unwrap_or_default()
}

/// AWS knows the credentials elsewhere, and not here.
fn refused(service: &str, error: &CloudError) -> String {
    let strange = [
        "AuthFailure",
        "InvalidClientTokenId",
        "OptInRequired",
        "SubscriptionRequiredException",
        "UnrecognizedClientException",
    ];
    match error.code.as_deref() {
        Some(code) if strange.contains(&code) => {
            format!("{service} does not know the account here ({code}): is the region enabled for it?")
        }
        _ => format!("{service}: {error}"),
    }
}
