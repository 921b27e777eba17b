//! The cloud's own price list: what to ask it for a rate, and what an answer says.
//!
//! AWS sells by *products* with attributes and *terms*, not by our rates. This is the one place that knows
//! which product a rate is, both ways: [`query`] picks the products that can hold it, and [`read`] says
//! which rate a product is. What comes back is checked again, since a filter that matches too much (another
//! region, a Windows licence, an idle reservation) would give a price that is somebody else's.
//!
//! Fields and values as in the AWS Price List Query API ("Finding services and products", Billing User
//! Guide, read 2026-11-20) and in the offer files of AmazonEC2, AmazonVPC, AWSELB, AmazonECS and AWSLambda
//! (as third parties that read them describe them, 2026-09).
//!
//! Amounts are exact: a price per GiB and month or per GiB and second is brought to the hour before it is
//! rounded, once and up. Of several products for one rate the dearest counts, of several tiers the first
//! that costs something: later tiers are cheaper, and a free allowance is an account's, not an agent's. A price
//! of nothing is no price (L7).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::rate::RateKey;
use crate::domain::containment::target::Region;
use crate::domain::money::Usd;
use crate::domain::wire::json::{JsonLimits, JsonRejection, parse_strict};

/// Hours in AWS's month.
pub const MONTH_HOURS: i128 = 730;

/// A product with its terms is a few kilobytes, more where it can be reserved in many ways.
const LIMITS: JsonLimits = JsonLimits {
    bytes: 1 << 20,
    depth: 16,
    values: 50_000,
};

/// A question to the list: a service's code, and fields with the values that they must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    pub service: &'static str,
    pub filters: Vec<(&'static str, String)>,
}

/// Why a product cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceRejection {
    #[error("the product is not read: {0}")]
    Json(#[from] JsonRejection),
    #[error("the product has no attributes")]
    NoAttributes,
    #[error("the product of {rate} has no price on demand by the hour, month or second in dollars")]
    NoPrice { rate: RateKey },
}

/// What to ask for these rates: one question where one answer holds several.
pub fn queries(rates: &[RateKey], region: &Region) -> Vec<Query> {
    let queries: BTreeSet<Query> = rates.iter().filter_map(|rate| query(rate, region)).collect();
    queries.into_iter().collect()
}

/// What to ask for one rate; `None` where the list has none, as for spot, whose price is a market's.
pub fn query(rate: &RateKey, region: &Region) -> Option<Query> {
    let (family, rest) = rate.0.split_once('/').unwrap_or((&rate.0, ""));
    let product = |name: &str| vec![("productFamily", name.to_owned())];
    let group = |name: &str| vec![("group", name.to_owned())];
    let (service, mut filters) = match family {
        "ec2" if !rest.is_empty() => {
            let fixed = [
                ("operatingSystem", "Linux"),
                ("tenancy", "Shared"),
                ("preInstalledSw", "NA"),
                ("capacitystatus", "Used"),
            ];
            let mut filters = vec![("instanceType", rest.to_owned())];
            filters.extend(fixed.map(|(field, value)| (field, value.to_owned())));
            ("AmazonEC2", filters)
        }
        "ec2-os" => {
            let (operation, tenancy, kind) = sold_as(rest)?;
            let filters = [
                ("instanceType", kind),
                ("operation", operation),
                ("tenancy", tenancy),
                ("capacitystatus", "Used"),
            ];
            (
                "AmazonEC2",
                filters.map(|(field, value)| (field, value.to_owned())).to_vec(),
            )
        }
        "ebs" => ("AmazonEC2", product("Storage")),
        "ebs-iops" => ("AmazonEC2", product("System Operation")),
        "ebs-throughput" => ("AmazonEC2", product("Provisioned Throughput")),
        "nat" => ("AmazonEC2", product("NAT Gateway")),
        "ipv4" => ("AmazonVPC", group("VPCPublicIPv4Address")),
        "balancer" => {
            let (_, product_family) = BALANCERS.iter().find(|(name, _)| *name == rest)?;
            ("AWSELB", product(product_family))
        }
        "fargate" => ("AmazonECS", product("Compute")),
        "lambda-provisioned" => {
            let (_, name) = PROVISIONED.iter().find(|(name, _)| *name == rest)?;
            ("AWSLambda", group(name))
        }
        _ => return None,
    };
    filters.push(("regionCode", region.0.clone()));
    Some(Query { service, filters })
}

/// Whose hardware, as we and as the list name it.
const TENANCIES: [(&str, &str); 3] = [("shared", "Shared"), ("dedicated", "Dedicated"), ("host", "Host")];

/// Operation, tenancy as the list names it, and type of `RunInstances:0002/shared/m7i.large`.
fn sold_as(rest: &str) -> Option<(&str, &'static str, &str)> {
    let mut parts = rest.splitn(3, '/');
    let (operation, tenancy, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let (_, tenancy) = TENANCIES.iter().find(|(ours, _)| *ours == tenancy)?;
    (!operation.is_empty() && !kind.is_empty()).then_some((operation, *tenancy, kind))
}

const BALANCERS: [(&str, &str); 4] = [
    ("application", "Load Balancer-Application"),
    ("network", "Load Balancer-Network"),
    ("gateway", "Load Balancer-Gateway"),
    ("classic", "Load Balancer"),
];

const PROVISIONED: [(&str, &str); 2] = [
    ("x86", "AWS-Lambda-Provisioned-Concurrency"),
    ("arm", "AWS-Lambda-Provisioned-Concurrency-ARM"),
];

/// Usage types, without their region, and the rates that they are.
const USAGE: &[(&str, &str)] = &[
    ("EBS:VolumeP-IOPS.gp3", "ebs-iops/gp3"),
    ("EBS:VolumeP-IOPS.piops", "ebs-iops/io1"),
    ("EBS:VolumeP-IOPS.io2", "ebs-iops/io2"),
    ("EBS:VolumeP-Throughput.gp3", "ebs-throughput/gp3"),
    ("NatGateway-Hours", "nat"),
    ("RegionalNatGateway-Hours", "nat/regional"),
    ("PublicIPv4:InUseAddress", "ipv4"),
    ("PublicIPv4:IdleAddress", "ipv4"),
    ("Fargate-vCPU-Hours:perCPU", "fargate/x86/vcpu"),
    ("Fargate-GB-Hours", "fargate/x86/gib"),
    ("Fargate-ARM-vCPU-Hours:perCPU", "fargate/arm/vcpu"),
    ("Fargate-ARM-GB-Hours", "fargate/arm/gib"),
    ("Fargate-Windows-vCPU-Hours:perCPU", "fargate/windows/vcpu"),
    ("Fargate-Windows-GB-Hours", "fargate/windows/gib"),
    ("Fargate-Windows-OS-Hours:perCPU", "fargate/windows/os"),
    ("Fargate-EphemeralStorage-GB-Hours", "fargate/storage"),
];

/// Units of the list, in small letters: what one is in our units and hours, as a fraction.
const UNITS: &[(&str, i128, i128)] = &[
    ("hrs", 1, 1),
    ("hour", 1, 1),
    ("hours", 1, 1),
    ("vcpu-hours", 1, 1),
    ("gb-hours", 1, 1),
    ("gb-mo", 1, MONTH_HOURS),
    ("gb-month", 1, MONTH_HOURS),
    ("iops-mo", 1, MONTH_HOURS),
    ("mibps-mo", 1, MONTH_HOURS),
    ("gibps-mo", 1, MONTH_HOURS * 1_024),
    ("second", 3_600, 1),
    ("seconds", 3_600, 1),
    ("gb-second", 3_600, 1),
    ("lambda-gb-second", 3_600, 1),
];

/// The rate that a product is in this region, and its price by the hour; `None` for any other product.
pub fn read(document: &str, region: &Region) -> Result<Option<(RateKey, Usd)>, PriceRejection> {
    let document = parse_strict(document.as_bytes(), &LIMITS)?;
    let product = &document["product"];
    let attributes = product["attributes"].as_object().ok_or(PriceRejection::NoAttributes)?;
    let family = product["productFamily"].as_str().unwrap_or_default();
    let is_here = text(attributes, "regionCode") == Some(&region.0)
        // Outposts and Local Zones bear their region's code, and prices of their own.
        && text(attributes, "locationType").is_none_or(|kind| kind == "AWS Region");
    let Some(rate) = rate(family, attributes).filter(|_| is_here) else {
        return Ok(None);
    };
    match price(&document["terms"]["OnDemand"]) {
        Some(price) => Ok(Some((rate, price))),
        None => Err(PriceRejection::NoPrice { rate }),
    }
}

fn rate(family: &str, attributes: &Map<String, Value>) -> Option<RateKey> {
    let is = |field: &str, value: &str| text(attributes, field).is_none_or(|found| found == value);
    let usage = usage(text(attributes, "usagetype").unwrap_or_default());
    match family {
        "Compute Instance" | "Compute Instance (bare metal)" => {
            let is_plain = text(attributes, "operatingSystem") == Some("Linux")
                && text(attributes, "tenancy") == Some("Shared")
                && is("preInstalledSw", "NA")
                && is("capacitystatus", "Used")
                && is("operation", "RunInstances")
                && is("marketoption", "OnDemand");
            let kind = text(attributes, "instanceType")?;
            if is_plain {
                return Some(RateKey(format!("ec2/{kind}")));
            }
            // Of anything else the operation says what it is, a licence included.
            let is_sold = is("capacitystatus", "Used") && is("marketoption", "OnDemand");
            let operation = text(attributes, "operation").filter(|_| is_sold)?;
            let tenancy = text(attributes, "tenancy")?;
            let (tenancy, _) = TENANCIES.iter().find(|(_, theirs)| *theirs == tenancy)?;
            let is_linux = operation == "RunInstances" && *tenancy == "shared";
            (!is_linux).then(|| RateKey(format!("ec2-os/{operation}/{tenancy}/{kind}")))
        }
        "Storage" if usage.starts_with("EBS:VolumeUsage") => {
            let kind = text(attributes, "volumeApiName")?;
            Some(RateKey(format!("ebs/{kind}")))
        }
        _ if usage == "LoadBalancerUsage" => {
            let (name, _) = BALANCERS.iter().find(|(_, product_family)| *product_family == family)?;
            Some(RateKey(format!("balancer/{name}")))
        }
        _ => {
            let group = text(attributes, "group");
            if let Some((name, _)) = PROVISIONED.iter().find(|(_, of)| group == Some(of)) {
                return Some(RateKey(format!("lambda-provisioned/{name}")));
            }
            let (_, rate) = USAGE.iter().find(|(name, _)| *name == usage)?;
            Some(RateKey((*rate).to_owned()))
        }
    }
}

/// `LoadBalancerUsage` of `EUW2-LoadBalancerUsage`; in us-east-1 there is no such prefix. `TS-` is no region's
/// but that of a balancer's trust store.
fn usage(usage: &str) -> &str {
    match usage.split_once('-') {
        Some((prefix, rest))
            if prefix != "TS" && prefix.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) =>
        {
            rest
        }
        _ => usage,
    }
}

/// The dearest of the offers, each at its first tier that costs something.
fn price(offers: &Value) -> Option<Usd> {
    let offers = offers.as_object()?.values();
    offers.filter_map(|offer| first_tier(&offer["priceDimensions"])).max()
}

fn first_tier(dimensions: &Value) -> Option<Usd> {
    let tiers = dimensions.as_object()?.values().filter_map(|tier| {
        let begin: Usd = tier["beginRange"].as_str().unwrap_or("0").parse().ok()?;
        let price = hourly(tier["pricePerUnit"]["USD"].as_str()?, tier["unit"].as_str()?)?;
        (price > Usd::ZERO).then_some((begin, price))
    });
    // Of two that begin alike the dearer.
    let first = tiers.min_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))?;
    Some(first.1)
}

fn hourly(price: &str, unit: &str) -> Option<Usd> {
    let unit = unit.to_ascii_lowercase();
    let (_, times, over) = UNITS.iter().find(|(name, ..)| *name == unit)?;
    // A millionth of a nano-dollar is finer than any price of the list, and the rounding is to come last.
    let fine: Usd = format!("{price}e6").parse().ok()?;
    let (amount, over) = (i128::from(fine.nanos()).checked_mul(*times)?, 1_000_000 * over);
    Usd::from_i128(amount.checked_add(over - 1)?.div_euclid(over))
}

fn text<'a>(attributes: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    attributes.get(name)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
