//! Looks that cost and change nothing, tried for the sake of the answer: whether a service answers in a
//! region, whether we may ask it, and what time it is there.
//!
//! Each asks for the least that there is: one entry, or in EC2 a dry run, which answers only whether it would be
//! allowed. A refusal is an answer; only silence and a server's own failure are none. The time is the
//! answer's own date, which is there when a signature is refused as well.
//!
//! [`PROBES`] is the table. Of each service the first line shows that it can be reached.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use jiff::Timestamp;

use super::error::Call;
use super::{Aws, pricing};
use crate::domain::containment::target::Region;
use crate::ports::{Answered, CloudError, Probe, Retry};

/// What can be tried.
pub(super) const PROBES: &[Probe] = &[
    once("sts:GetCallerIdentity"),
    once("iam:ListRoles"),
    once("pricing:GetProducts"),
    each("ec2:DescribeRegions"),
    each("ec2:DescribeAddresses"),
    each("ec2:DescribeInstanceStatus"),
    each("ec2:DescribeInstances"),
    each("ec2:DescribeNatGateways"),
    each("ec2:DescribeNetworkInterfaces"),
    each("ec2:DescribeSpotInstanceRequests"),
    each("ec2:DescribeVolumes"),
    each("autoscaling:DescribeAutoScalingGroups"),
    each("autoscaling:DescribeLaunchConfigurations"),
    each("ecs:ListClusters"),
    each("elasticloadbalancing:DescribeLoadBalancers"),
    each("lambda:ListFunctions"),
    each("cloudtrail:LookupEvents"),
];

const fn once(action: &'static str) -> Probe {
    Probe {
        action,
        in_each_region: false,
    }
}

const fn each(action: &'static str) -> Probe {
    Probe {
        action,
        in_each_region: true,
    }
}

/// The date of an answer, whatever the answer is.
#[derive(Debug, Clone, Default)]
struct Date(Arc<Mutex<Option<Timestamp>>>);

impl Date {
    fn read(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "the date of an answer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(timestamp);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

/// A date as HTTP writes it.
fn timestamp(text: &str) -> Option<Timestamp> {
    let at = DateTime::from_str(text, Format::HttpDate).ok()?;
    Timestamp::from_second(at.secs()).ok()
}

/// What a tried look came to.
fn answered<T, E>(
    call: &Call,
    date: &Date,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<Answered, CloudError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let at = date.read();
    let Err(error) = answer else {
        return Ok(Answered { at, refused: None });
    };
    if error.code() == Some("DryRunOperation") {
        return Ok(Answered { at, refused: None });
    }
    let is_named = error.code().is_some();
    let error = call.failed(error);
    // A throttle answers too; a server that fails does not.
    if is_named && !matches!(error.retry, Retry::Transient | Retry::UnknownOutcome) {
        return Ok(Answered {
            at,
            refused: Some(error),
        });
    }
    // A stale signature is told under a name, with the date that says why.
    let is_stale = error.code.as_deref().is_some_and(super::error::is_stale_caller);
    if is_stale {
        return Ok(Answered {
            at,
            refused: Some(error),
        });
    }
    Err(error)
}

/// Sends a request of any service, and reads its answer and the date of it.
macro_rules! tried {
    ($call:expr, $request:expr) => {{
        let date = Date::default();
        let answer = $request.customize().interceptor(date.clone()).send().await;
        answered($call, &date, answer)
    }};
}

impl Aws {
    /// Tries one line of the table. The region counts for what is there in each.
    pub(super) async fn try_probe(&self, region: &Region, action: &'static str) -> Result<Answered, CloudError> {
        let call = &Call::read(action).within(region);
        let here = || self.sdk_in(region);
        let ec2 = self.ec2(region);
        let ec2 = ec2.looks();
        match action {
            "sts:GetCallerIdentity" => tried!(call, aws_sdk_sts::Client::new(&self.sdk).get_caller_identity()),
            "iam:ListRoles" => tried!(call, aws_sdk_iam::Client::new(&self.sdk).list_roles().max_items(1)),
            "pricing:GetProducts" => match pricing::first_place(region) {
                Some(place) => {
                    let client = aws_sdk_pricing::Client::new(&self.sdk_in(&place));
                    tried!(call, client.get_products().service_code("AmazonEC2").max_results(1))
                }
                None => Err(call.refusal("NoPriceList", "this partition of AWS has no price list")),
            },
            "ec2:DescribeRegions" => tried!(call, ec2.describe_regions().dry_run(true)),
            "ec2:DescribeAddresses" => tried!(call, ec2.describe_addresses().dry_run(true)),
            "ec2:DescribeInstanceStatus" => tried!(call, ec2.describe_instance_status().dry_run(true)),
            "ec2:DescribeInstances" => tried!(call, ec2.describe_instances().dry_run(true)),
            "ec2:DescribeNatGateways" => tried!(call, ec2.describe_nat_gateways().dry_run(true)),
            "ec2:DescribeNetworkInterfaces" => tried!(call, ec2.describe_network_interfaces().dry_run(true)),
            "ec2:DescribeSpotInstanceRequests" => tried!(call, ec2.describe_spot_instance_requests().dry_run(true)),
            "ec2:DescribeVolumes" => tried!(call, ec2.describe_volumes().dry_run(true)),
            "autoscaling:DescribeAutoScalingGroups" => {
                let client = aws_sdk_autoscaling::Client::new(&here());
                tried!(call, client.describe_auto_scaling_groups().max_records(1))
            }
            "autoscaling:DescribeLaunchConfigurations" => {
                let client = aws_sdk_autoscaling::Client::new(&here());
                tried!(call, client.describe_launch_configurations().max_records(1))
            }
            "ecs:ListClusters" => tried!(call, aws_sdk_ecs::Client::new(&here()).list_clusters().max_results(1)),
            "elasticloadbalancing:DescribeLoadBalancers" => {
                let client = aws_sdk_elasticloadbalancingv2::Client::new(&here());
                tried!(call, client.describe_load_balancers().page_size(1))
            }
            "lambda:ListFunctions" => tried!(call, aws_sdk_lambda::Client::new(&here()).list_functions().max_items(1)),
            "cloudtrail:LookupEvents" => {
                let client = aws_sdk_cloudtrail::Client::new(&here());
                tried!(call, client.lookup_events().max_results(1))
            }
            _ => Err(call.refusal("UnknownProbe", format!("nothing here tries {action}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::iam::permissions::{ALL, On};

    /// What is tried is what the daemon may do, on everything, and reads.
    #[test]
    fn every_probe_is_a_read_of_the_table() {
        let mut seen = BTreeSet::new();
        for probe in PROBES {
            assert!(seen.insert(probe.action), "{} twice", probe.action);
            let known = ALL
                .iter()
                .any(|one| one.action == probe.action && matches!(one.on, On::Everything | On::Nothing));
            assert!(known, "{} is not in the table", probe.action);
        }
    }

    /// Every service that the daemon asks is tried; KMS is asked by EC2 alone.
    #[test]
    fn every_service_of_the_table_is_reached() {
        let service = |action: &'static str| action.split(':').next().unwrap_or_default();
        let asked: BTreeSet<&str> = ALL
            .iter()
            .map(|one| service(one.action))
            .filter(|one| *one != "kms")
            .collect();
        let tried: BTreeSet<&str> = PROBES.iter().map(|one| service(one.action)).collect();
        assert_eq!(asked, tried);
    }

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        let at = timestamp("Fri, 20 Nov 2026 16:20:00 GMT").expect("a date");
        assert_eq!(at.to_string(), "2026-11-20T16:20:00Z");
        assert_eq!(timestamp("soon"), None);
    }
}
