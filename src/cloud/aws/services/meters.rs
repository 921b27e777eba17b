//! Every meter that anything here can name has a price of its own (L7).
//!
//! The sources say what they are: each place that makes a meter is found, and stands in [`MADE`] with all that
//! can come of it. A meter that is new fails the test until it is priced, and one that is gone until it is
//! taken out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aws_sdk_ec2::types::VolumeType;
use aws_sdk_elasticloadbalancingv2::types::LoadBalancerTypeEnum;

use crate::domain::containment::hourly::PriceBasis;
use crate::domain::containment::target::Region;
use crate::domain::fleet::price::FleetPrices;
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;

/// How a rate is written in the sources, and what it becomes. Without any, it is itself.
const MADE: &[(&str, &[&str])] = &[
    // Volumes.
    ("ebs/{kind}", &[]),
    (
        "{rate}/{kind}",
        &["ebs-iops/gp3", "ebs-iops/io1", "ebs-iops/io2", "ebs-throughput/gp3"],
    ),
    // Tasks.
    (
        "{fargate}/{kind}/vcpu",
        &[
            "fargate/x86/vcpu",
            "fargate/arm/vcpu",
            "fargate/windows/vcpu",
            "fargate-spot/x86/vcpu",
            "fargate-spot/arm/vcpu",
        ],
    ),
    (
        "{fargate}/{kind}/gib",
        &[
            "fargate/x86/gib",
            "fargate/arm/gib",
            "fargate/windows/gib",
            "fargate-spot/x86/gib",
            "fargate-spot/arm/gib",
        ],
    ),
    ("fargate/windows/os", &["fargate/windows/os"]),
    ("fargate/storage", &["fargate/storage"]),
    (
        "lambda-provisioned/{kind}",
        &["lambda-provisioned/x86", "lambda-provisioned/arm"],
    ),
    ("balancer/{kind}", &[]),
    ("balancer/classic", &["balancer/classic"]),
    ("nat", &["nat"]),
    ("nat/regional", &["nat/regional"]),
    ("ipv4", &["ipv4"]),
    // Of the rehearsal alone.
    ("fargate/x86/vcpu", &["fargate/x86/vcpu"]),
    ("fargate/x86/gib", &["fargate/x86/gib"]),
    ("ebs/gp3", &["ebs/gp3"]),
    ("balancer/application", &["balancer/application"]),
];

/// All that can come of what is written so.
fn rates(written: &str, becomes: &[&str]) -> Vec<String> {
    match written {
        "ebs/{kind}" => VolumeType::values().iter().map(|kind| format!("ebs/{kind}")).collect(),
        "balancer/{kind}" => {
            let kinds = LoadBalancerTypeEnum::values().iter();
            kinds.map(|kind| format!("balancer/{kind}")).collect()
        }
        _ => becomes.iter().map(|rate| (*rate).to_owned()).collect(),
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("meters.rs") {
            found.push(path);
        }
    }
}

/// The rates that a source writes, outside its tests.
fn written(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let makers = ["Meter::of(", "Meter::one("];
    let mut found = Vec::new();
    for maker in makers {
        for (at, _) in text.match_indices(maker) {
            let rest = text[at + maker.len()..].trim_start();
            let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
            let literal = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let (literal, _) = literal.unwrap_or_else(|| panic!("no literal: {}", &rest[..rest.len().min(60)]));
            found.push(literal.to_owned());
        }
    }
    found
}

#[test]
fn l7_every_meter_that_anything_here_can_name_has_a_price() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root.join("cloud"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        let own = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(
            !own.contains("RateKey("),
            "{}: meters are made by Meter::of",
            file.display()
        );
        found.extend(written(own));
    }
    let known: BTreeSet<String> = MADE.iter().map(|(written, _)| (*written).to_owned()).collect();
    assert_eq!(found, known);

    let (prices, home) = (FleetPrices::default(), Region("us-east-1".to_owned()));
    for (written, becomes) in MADE {
        let rates = rates(written, becomes);
        assert!(!rates.is_empty(), "{written}");
        for rate in rates {
            let price = prices.unit(&home, &RateKey(rate.clone()));
            assert!(price.usd > Usd::ZERO, "{rate}");
            assert_ne!(price.basis, PriceBasis::Ceiling, "{rate} has no price of its own");
        }
    }
    // A machine names its own rate; the table has families of types.
    for rate in ["ec2/m7g.large", "ec2/p5.48xlarge", "ec2-spot/m7g.large"] {
        let price = prices.unit(&home, &RateKey(rate.to_owned()));
        assert!(
            price.usd > Usd::ZERO && price.basis != PriceBasis::Ceiling,
            "{rate}: {price:?}"
        );
    }
    for rate in [
        "ec2-os/RunInstances:0002/default/m7i.large",
        "ec2-spot-os/RunInstances:0002/default/m7i.large",
    ] {
        assert!(prices.unit(&home, &RateKey(rate.to_owned())).usd > Usd::ZERO, "{rate}");
    }
    // What AWS offers tomorrow has none, and is never free.
    for rate in [
        "ebs/gp9",
        "balancer/unknown",
        "lambda-provisioned/riscv",
        "ec2/z99.large",
    ] {
        let price = prices.unit(&home, &RateKey(rate.to_owned()));
        assert!(
            price.usd > Usd::ZERO && price.basis == PriceBasis::Ceiling,
            "{rate}: {price:?}"
        );
    }
}

#[test]
fn what_a_source_writes_is_found() {
    let text = "Meter::of(format!(\"a/{kind}\"), 3); x(Meter::one(\n    \"b\"))\n#[cfg(test)] Meter::one(\"c\")";
    assert_eq!(written(text), ["a/{kind}", "b"]);
}
