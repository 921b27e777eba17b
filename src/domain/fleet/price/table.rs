//! The built-in table of rates besides machines: an hour of one unit in us-east-1, in pico-dollars.
//!
//! Sources (all third party, each quoting AWS's own price pages): Fargate, Linux and Windows with its licence,
//! and storage beyond what comes with a task: vantage.sh, read November 2026; load balancers: awsnegotiations.com, May 2026; NAT gateways (a regional one by
//! the zone) and public IPv4 addresses: cloudburn.io,
//! February 2026; volumes and provisioned concurrency: AWS's price list as of 2025. What is sold by the month
//! is divided by AWS's 730 hours and rounded up; provisioned concurrency is sold by the second. Machines'
//! licences are not in it: they come with the bill.

/// Dearer than one unit of anything that is charged by the hour and is not listed: the largest accelerated
/// machine that is common.
pub(super) const UNKNOWN: u64 = 150_000_000_000_000;

/// A licence for an hour and vCPU at the most, with at least four of them: Windows with SQL Server Enterprise, the
/// dearest that AWS sells by the hour, is $0.046 and $0.375 (third party: AWS's price pages as of 2025). The
/// surcharge for hardware of one's own is far less.
pub(super) const LICENCE: u64 = 500_000_000_000;
pub(super) const LICENCE_VCPUS: u64 = 4;

/// A month's price in micro-dollars as an hour's in pico-dollars.
const fn monthly(micros: u64) -> u64 {
    (micros * 1_000_000).div_ceil(730)
}

pub(super) const RATES: &[(&str, u64)] = &[
    ("balancer/application", 22_500_000_000),
    ("balancer/classic", 25_000_000_000),
    ("balancer/gateway", 12_500_000_000),
    ("balancer/network", 22_500_000_000),
    ("ebs-iops/gp3", monthly(5_000)),
    ("ebs-iops/io1", monthly(65_000)),
    ("ebs-iops/io2", monthly(65_000)),
    ("ebs-throughput/gp3", monthly(40_000)),
    ("ebs/gp2", monthly(100_000)),
    ("ebs/gp3", monthly(80_000)),
    ("ebs/io1", monthly(125_000)),
    ("ebs/io2", monthly(125_000)),
    ("ebs/sc1", monthly(15_000)),
    ("ebs/st1", monthly(45_000)),
    ("ebs/standard", monthly(50_000)),
    ("fargate-spot/arm/gib", 3_560_000_000),
    ("fargate-spot/arm/vcpu", 32_380_000_000),
    ("fargate-spot/x86/gib", 4_445_000_000),
    ("fargate-spot/x86/vcpu", 40_480_000_000),
    ("fargate/arm/gib", 3_560_000_000),
    ("fargate/arm/vcpu", 32_380_000_000),
    ("fargate/storage", 111_000_000),
    ("fargate/windows/gib", 10_050_000_000),
    ("fargate/windows/os", 46_000_000_000),
    ("fargate/windows/vcpu", 91_480_000_000),
    ("fargate/x86/gib", 4_445_000_000),
    ("fargate/x86/vcpu", 40_480_000_000),
    ("ipv4", 5_000_000_000),
    ("lambda-provisioned/arm", 12_000_240_000),
    ("lambda-provisioned/x86", 15_000_120_000),
    ("nat", 45_000_000_000),
    ("nat/regional", 45_000_000_000),
];
