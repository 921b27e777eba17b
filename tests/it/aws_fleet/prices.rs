//! The price list. The emulator has none: the answers are synthetic products in the documented form.

use backstop::domain::fleet::rate::RateKey;
use backstop::domain::money::Usd;
use backstop::ports::{Cloud as _, Retry};
use serde_json::{Value, json};

use super::*;
use crate::harness::fault_proxy::{Fault, Rule};

fn product(family: &str, attributes: &Value, unit: &str, price: &str) -> String {
    let mut fields = json!({"regionCode": REGION, "locationType": "AWS Region"});
    for (name, value) in attributes.as_object().expect("fields") {
        fields[name] = value.clone();
    }
    let dimension = json!({"unit": unit, "beginRange": "0", "endRange": "Inf", "pricePerUnit": {"USD": price}});
    json!({"product": {"productFamily": family, "attributes": fields, "sku": "SKU"}, "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {"SKU.JRTCKXETXF": {"priceDimensions": {"SKU.JRTCKXETXF.6YS6EN2CT7": dimension}}}}})
    .to_string()
}

fn page(products: &[String], next: Option<&str>) -> Fault {
    Fault::Json(json!({"FormatVersion": "aws_v1", "PriceList": products, "NextToken": next}))
}

fn linux(kind: &str, price: &str) -> String {
    let fields = json!({"instanceType": kind, "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA",
        "capacitystatus": "Used", "operation": "RunInstances"});
    product("Compute Instance", &fields, "Hrs", price)
}

fn rates(names: &[&str]) -> Vec<RateKey> {
    names.iter().map(|name| RateKey((*name).to_owned())).collect()
}

#[tokio::test]
async fn prices_are_asked_for_by_product_and_read_over_all_pages() {
    let bench = Bench::start().await;
    let volume = |kind: &str, price| {
        let fields = json!({"volumeApiName": kind, "usagetype": format!("EUC1-EBS:VolumeUsage.{kind}")});
        product("Storage", &fields, "GB-Mo", price)
    };
    bench
        .proxy
        .inject(Rule::on("GetProducts", page(&[volume("io2", "0.1490000000")], None)).naming("more"));
    bench.proxy.inject(
        Rule::on(
            "GetProducts",
            page(&[volume("gp3", "0.0952000000"), volume("st1", "9")], Some("more")),
        )
        .naming("Storage"),
    );
    let machines = page(
        &[
            linux("m8g.12xlarge", "2.4"),
            linux("m8g.12xlarge", "2.5"),
            "{".to_owned(),
        ],
        None,
    );
    bench
        .proxy
        .inject(Rule::on("GetProducts", machines).naming("m8g.12xlarge"));
    bench.proxy.inject(Rule::on("GetProducts", page(&[], None)));
    let asked = rates(&[
        "ec2/m8g.12xlarge",
        "ebs/gp3",
        "ebs/io2",
        "ec2/odd.large",
        "ec2-spot/m8g.12xlarge",
    ]);
    let prices = bench.cloud.list_prices(&region(), &asked).await.expect("they are had");
    let told: Vec<(&str, Option<Usd>)> = prices.iter().map(|(rate, price)| (rate.0.as_str(), *price)).collect();
    assert_eq!(
        told,
        [
            // 0.0952 / 730, up.
            ("ebs/gp3", Some(Usd::from_nanos(130_411))),
            ("ebs/io2", Some(Usd::from_nanos(204_110))),
            ("ec2-spot/m8g.12xlarge", None),
            ("ec2/m8g.12xlarge", Some(Usd::from_nanos(2_500_000_000))),
            ("ec2/odd.large", None),
        ],
        "of two the dearer, and what is not listed is said to be so"
    );
    let asked = bench.proxy.take_asked();
    assert_eq!(problems(&asked).await, Vec::<String>::new());
    assert_eq!(asked.len(), 4);
    assert!(
        asked
            .iter()
            .all(|one| one.region == "us-east-1" && one.service == "pricing")
    );
    let machine = asked
        .iter()
        .find(|one| one.params.values().any(|value| value == "m8g.12xlarge"))
        .expect("asked");
    let filter = |field: &str, value: &str| json!({"Type": "TERM_MATCH", "Field": field, "Value": value});
    assert_eq!(
        machine.json,
        Some(
            json!({"ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "MaxResults": 100, "Filters": [
            filter("instanceType", "m8g.12xlarge"), filter("operatingSystem", "Linux"), filter("tenancy", "Shared"),
            filter("preInstalledSw", "NA"), filter("capacitystatus", "Used"), filter("regionCode", REGION)]})
        )
    );
}

#[tokio::test]
async fn another_region_is_asked_when_the_first_is_down_and_one_failure_costs_no_other_price() {
    let bench = Bench::start().await;
    let refused = || Fault::Refuse {
        status: 400,
        code: "InvalidParameterException",
        message: "no",
    };
    bench
        .proxy
        .inject(Rule::on("GetProducts", Fault::Html(500)).in_region("us-east-1"));
    bench
        .proxy
        .inject(Rule::on("GetProducts", page(&[linux("t3.large", "0.0960")], None)).naming("t3.large"));
    bench.proxy.inject(Rule::on("GetProducts", refused()));
    let prices = bench
        .cloud
        .list_prices(&region(), &rates(&["ec2/t3.large", "ec2/t3.nano"]))
        .await;
    let prices = prices.expect("one is had");
    assert_eq!(
        prices.into_iter().collect::<Vec<_>>(),
        [(RateKey("ec2/t3.large".to_owned()), Some(Usd::from_nanos(96_000_000)))],
        "what could not be asked for is left out"
    );
    let asked = bench.proxy.take_asked();
    assert!(asked.iter().any(|one| one.region == "eu-central-1"), "{asked:?}");

    bench.proxy.heal();
    bench.proxy.inject(Rule::on("GetProducts", refused()));
    let error = bench
        .cloud
        .list_prices(&region(), &rates(&["ec2/t3.large", "nat"]))
        .await
        .expect_err("none is had");
    assert_eq!((error.operation, error.retry), ("pricing:GetProducts", Retry::Never));
    bench.proxy.take_asked();
    let spot = bench.cloud.list_prices(&region(), &rates(&["ec2-spot/t3.large"])).await;
    let spot = spot.expect("nothing to ask");
    assert_eq!(spot.into_values().collect::<Vec<_>>(), [None]);
    let closed = Region("us-gov-west-1".to_owned());
    let error = bench
        .cloud
        .list_prices(&closed, &rates(&["nat"]))
        .await
        .expect_err("there is no list");
    assert_eq!(error.code.as_deref(), Some("NoPriceList"));
    assert!(bench.proxy.take_asked().is_empty());
}
