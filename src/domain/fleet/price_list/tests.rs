//! Products in the form of the Price List Query API (documented). Prices of eu-west-2 are those of its offer files
//! (third party, 2026-09); the others are synthetic.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn region() -> Region {
    Region("eu-west-2".to_owned())
}

/// A product with one price, or several tiers of (begin, price).
fn product(family: &str, attributes: &[(&str, &str)], unit: &str, tiers: &[(&str, &str)]) -> String {
    let mut fields = json!({"regionCode": "eu-west-2", "locationType": "AWS Region", "location": "EU (London)"});
    for (name, value) in attributes {
        fields[*name] = json!(value);
    }
    let mut dimensions = json!({});
    for (n, (begin, price)) in tiers.iter().enumerate() {
        dimensions[format!("SKU.JRTCKXETXF.{n}")] = json!({
            "unit": unit, "beginRange": begin, "endRange": "Inf", "description": "a price", "appliesTo": [],
            "rateCode": format!("SKU.JRTCKXETXF.{n}"), "pricePerUnit": {"USD": price}
        });
    }
    json!({
        "product": {"productFamily": family, "attributes": fields, "sku": "SKU"},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {"SKU.JRTCKXETXF": {
            "priceDimensions": dimensions, "sku": "SKU", "effectiveDate": "2026-11-01T00:00:00Z",
            "offerTermCode": "JRTCKXETXF", "termAttributes": {}
        }}, "Reserved": {"SKU.38NPMPTW36": {"priceDimensions": {"x": {"unit": "Hrs", "pricePerUnit": {"USD": "9"}}}}}},
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z"
    })
    .to_string()
}

fn rate_of(document: &str) -> Option<(String, i64)> {
    let read = read(document, &region()).expect("it is read");
    read.map(|(rate, price)| (rate.0, price.nanos()))
}

const LINUX: [(&str, &str); 6] = [
    ("instanceType", "t3.large"),
    ("operatingSystem", "Linux"),
    ("tenancy", "Shared"),
    ("preInstalledSw", "NA"),
    ("capacitystatus", "Used"),
    ("operation", "RunInstances"),
];

#[test]
fn every_rate_is_found_in_its_product_by_the_hour() {
    let of = |usage| [("usagetype", usage)];
    let cases: Vec<(String, &str, i64)> = vec![
        (
            product("Compute Instance", &LINUX, "Hrs", &[("0", "0.0944000000")]),
            "ec2/t3.large",
            94_400_000,
        ),
        (
            product(
                "Storage",
                &[("volumeApiName", "gp3"), ("usagetype", "EUW2-EBS:VolumeUsage.gp3")],
                "GB-Mo",
                &[("0", "0.0928000000")],
            ),
            "ebs/gp3",
            // 0.0928 / 730 = 0.000127123287671..., up.
            127_124,
        ),
        (
            product(
                "System Operation",
                &of("EUW2-EBS:VolumeP-IOPS.piops"),
                "IOPS-Mo",
                &[("0", "0.0730000000")],
            ),
            "ebs-iops/io1",
            100_000,
        ),
        (
            // The first 3,000 of a volume are free.
            product(
                "System Operation",
                &of("EUW2-EBS:VolumeP-IOPS.gp3"),
                "IOPS-Mo",
                &[("3000", "0.0073000000"), ("0", "0.0000000000")],
            ),
            "ebs-iops/gp3",
            10_000,
        ),
        (
            product(
                "Provisioned Throughput",
                &of("EUW2-EBS:VolumeP-Throughput.gp3"),
                "GiBps-mo",
                &[("0", "40.9600000000")],
            ),
            "ebs-throughput/gp3",
            // 40.96 / 1024 / 730 = 0.00005479452...
            54_795,
        ),
        (
            product(
                "NAT Gateway",
                &of("EUW2-NatGateway-Hours"),
                "Hrs",
                &[("0", "0.0500000000")],
            ),
            "nat",
            50_000_000,
        ),
        (
            product(
                "NAT Gateway",
                &of("EUW2-RegionalNatGateway-Hours"),
                "Hrs",
                &[("0", "0.0700000000")],
            ),
            "nat/regional",
            70_000_000,
        ),
        (
            product("", &of("EUW2-PublicIPv4:IdleAddress"), "Hrs", &[("0", "0.0050000000")]),
            "ipv4",
            5_000_000,
        ),
        (
            product(
                "Load Balancer-Application",
                &of("EUW2-LoadBalancerUsage"),
                "Hrs",
                &[("0", "0.0264600000")],
            ),
            "balancer/application",
            26_460_000,
        ),
        (
            product("Load Balancer", &of("LoadBalancerUsage"), "Hrs", &[("0", "0.0294")]),
            "balancer/classic",
            29_400_000,
        ),
        (
            product(
                "Load Balancer-Gateway",
                &of("EU-LoadBalancerUsage"),
                "Hrs",
                &[("0", "0.0147")],
            ),
            "balancer/gateway",
            14_700_000,
        ),
        (
            product(
                "Compute",
                &of("EUW2-Fargate-ARM-vCPU-Hours:perCPU"),
                "hours",
                &[("0", "0.0323800000")],
            ),
            "fargate/arm/vcpu",
            32_380_000,
        ),
        (
            product("Compute", &of("Fargate-GB-Hours"), "hours", &[("0", "0.0044450000")]),
            "fargate/x86/gib",
            4_445_000,
        ),
        (
            product(
                "Serverless",
                &[
                    ("group", "AWS-Lambda-Provisioned-Concurrency"),
                    ("usagetype", "EUW2-Lambda-Provisioned-Concurrency"),
                ],
                "Lambda-GB-Second",
                &[("0", "0.0000041667")],
            ),
            "lambda-provisioned/x86",
            // Brought to the hour before it is rounded: rounded first it would be 15,001,200.
            15_000_120,
        ),
    ];
    for (document, rate, nanos) in cases {
        assert_eq!(rate_of(&document), Some((rate.to_owned(), nanos)), "{document}");
        let query = query(&RateKey(rate.to_owned()), &region()).expect("there is a question for it");
        assert!(
            query.filters.contains(&("regionCode", "eu-west-2".to_owned())),
            "{query:?}"
        );
    }
}

#[test]
fn what_is_not_plain_linux_has_a_rate_of_its_own() {
    let windows = [
        ("instanceType", "t3.large"),
        ("operatingSystem", "Windows"),
        ("tenancy", "Shared"),
        ("preInstalledSw", "SQL Ent"),
        ("licenseModel", "No License required"),
        ("capacitystatus", "Used"),
        ("operation", "RunInstances:0102"),
    ];
    let told = |attributes: &[(&str, &str)]| rate_of(&product("Compute Instance", attributes, "Hrs", &[("0", "1.6")]));
    let rate = "ec2-os/RunInstances:0102/shared/t3.large";
    assert_eq!(told(&windows), Some((rate.to_owned(), 1_600_000_000)));
    let mut own = LINUX.to_vec();
    own[2].1 = "Dedicated";
    let dedicated = "ec2-os/RunInstances/dedicated/t3.large";
    assert_eq!(told(&own), Some((dedicated.to_owned(), 1_600_000_000)));

    let asked = query(&RateKey(rate.to_owned()), &region()).expect("it is asked for");
    let filters = [
        ("instanceType", "t3.large"),
        ("operation", "RunInstances:0102"),
        ("tenancy", "Shared"),
        ("capacitystatus", "Used"),
        ("regionCode", "eu-west-2"),
    ];
    let filters: Vec<(&str, String)> = filters.map(|(field, value)| (field, value.to_owned())).to_vec();
    assert_eq!((asked.service, asked.filters), ("AmazonEC2", filters));
    for odd in [
        "ec2-os/",
        "ec2-os/RunInstances/t3.large",
        "ec2-os/RunInstances/moon/t3.large",
        "ec2-spot-os/a/shared/b",
    ] {
        assert_eq!(query(&RateKey(odd.to_owned()), &region()), None, "{odd}");
    }
}

#[test]
fn a_product_of_another_kind_is_none_of_ours() {
    let with = |field: &'static str, value: &'static str| {
        let mut attributes = LINUX.to_vec();
        attributes.push((field, value));
        product("Compute Instance", &attributes, "Hrs", &[("0", "1")])
    };
    for (field, value) in [
        ("operatingSystem", "Windows"),
        ("preInstalledSw", "SQL Std"),
        ("capacitystatus", "UnusedCapacityReservation"),
        ("marketoption", "CapacityBlock"),
        ("regionCode", "eu-west-1"),
        ("locationType", "AWS Local Zone"),
    ] {
        assert_eq!(rate_of(&with(field, value)), None, "{field}={value}");
    }
    for (family, usage) in [
        ("Load Balancer-Application", "EUW2-TS-LoadBalancerUsage"),
        ("Load Balancer-Application", "TS-LoadBalancerUsage"),
        ("Load Balancer-Application", "EUW2-LCUUsage"),
        ("NAT Gateway", "EUW2-NatGateway-Bytes"),
        ("System Operation", "EUW2-EBS:VolumeP-IOPS.io2.tier2"),
        ("Storage", "EUW2-EBS:VolumeUsage.gp3"),
        ("Storage Snapshot", "EUW2-EBS:SnapshotUsage"),
    ] {
        assert_eq!(
            rate_of(&product(family, &[("usagetype", usage)], "Hrs", &[("0", "1")])),
            None,
            "{usage}"
        );
    }
}

#[test]
fn of_tiers_the_first_that_costs_something_and_of_offers_the_dearest() {
    let usage = [("usagetype", "EUW2-NatGateway-Hours")];
    let tiers = [("100", "0.04"), ("0", "0.00"), ("10", "0.05")];
    assert_eq!(
        rate_of(&product("NAT Gateway", &usage, "Hrs", &tiers)),
        Some(("nat".to_owned(), 50_000_000))
    );
    let mut two: Value = serde_json::from_str(&product("NAT Gateway", &usage, "Hrs", &[("0", "0.05")])).expect("JSON");
    let mut dearer = two["terms"]["OnDemand"]["SKU.JRTCKXETXF"].clone();
    dearer["priceDimensions"]["SKU.JRTCKXETXF.0"]["pricePerUnit"]["USD"] = json!("0.06");
    two["terms"]["OnDemand"]["SKU.OTHER"] = dearer;
    assert_eq!(rate_of(&two.to_string()), Some(("nat".to_owned(), 60_000_000)));
}

#[test]
fn a_price_of_nothing_is_no_price() {
    let usage = [("usagetype", "EUW2-NatGateway-Hours")];
    let no_price = |document: String| {
        let rate = RateKey("nat".to_owned());
        assert_eq!(
            read(&document, &region()),
            Err(PriceRejection::NoPrice { rate }),
            "{document}"
        );
    };
    no_price(product("NAT Gateway", &usage, "Hrs", &[("0", "0.0000000000")]));
    no_price(product("NAT Gateway", &usage, "Fortnights", &[("0", "0.05")]));
    no_price(product("NAT Gateway", &usage, "Hrs", &[]));
    no_price(product("NAT Gateway", &usage, "Hrs", &[("0", "-1")]));
    no_price(product("NAT Gateway", &usage, "Hrs", &[("0", "free")]));
    no_price(product("NAT Gateway", &usage, "Hrs", &[("0", "0.05")]).replace("USD", "CNY"));
    assert_eq!(read("{}", &region()), Err(PriceRejection::NoAttributes));
    assert!(matches!(read("[", &region()), Err(PriceRejection::Json(_))));
}

#[test]
fn one_question_serves_the_rates_that_it_answers() {
    let rates = [
        "ec2/t3.large",
        "ec2/m8g.12xlarge",
        "ebs/gp3",
        "ebs/io2",
        "fargate/x86/vcpu",
        "fargate/x86/gib",
        "fargate/arm/gib",
        "nat",
        "nat/regional",
        "ec2-spot/t3.large",
        "fargate-spot/x86/vcpu",
        "balancer/odd",
        "something/new",
        "ec2/",
    ];
    let rates = rates.map(|rate| RateKey(rate.to_owned()));
    let queries = queries(&rates, &region());
    let asked: Vec<(&str, &str, &str)> = queries
        .iter()
        .map(|query| (query.service, query.filters[0].0, query.filters[0].1.as_str()))
        .collect();
    assert_eq!(
        asked,
        [
            ("AmazonEC2", "instanceType", "m8g.12xlarge"),
            ("AmazonEC2", "instanceType", "t3.large"),
            ("AmazonEC2", "productFamily", "NAT Gateway"),
            ("AmazonEC2", "productFamily", "Storage"),
            ("AmazonECS", "productFamily", "Compute"),
        ]
    );
}

proptest! {
    #[test]
    fn a_months_price_is_an_hours_rounded_up_once(nanos in 1_i64..1_000_000_000_000, digits in 0_u32..1_000) {
        // Up to twelve decimals, as exact as the list will ever be.
        let text = format!("{}.{:09}{digits:03}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let finest = i128::from(nanos) * 1_000 + i128::from(digits);
        let expected = (finest + 729_999) / 730_000;
        prop_assert_eq!(hourly(&text, "GB-Mo").map(|price| i128::from(price.nanos())), Some(expected));
        let second = (finest * 3_600 + 999) / 1_000;
        prop_assert_eq!(hourly(&text, "Seconds").map(|price| i128::from(price.nanos())), Some(second));
    }

    #[test]
    fn no_document_makes_it_panic(
        document in "[\\[\\]{}\",:a-zA-Z0-9. -]{0,200}",
        unit in ".{0,12}",
        price in ".{0,40}",
    ) {
        let _ = read(&document, &region());
        let _ = hourly(&price, &unit);
        let told = product("NAT Gateway", &[("usagetype", &price)], &unit, &[("0", &price), (&unit, "1")]);
        let _ = read(&told, &region());
    }
}
