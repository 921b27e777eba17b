//! The integration tests: the real binary, real sockets, the real AWS SDK against an emulator.
//!
//! One binary, so that it is linked once. Each test starts what it needs on ports that the system
//! chooses and stops it by its handle; none depends on another or on a clock.

mod audit;
mod aws_ec2;
mod aws_faults;
mod aws_fleet;
mod aws_iam;
mod aws_places;
mod aws_requests;
mod aws_revocation;
mod bad_input;
mod cli;
mod containment_aws;
mod containment_crash;
mod containment_crowd;
mod crowded;
mod doctor;
mod drill;
mod durability;
mod fleet;
mod fuzz_seeds;
mod gateway;
mod harness;
mod iam_policies;
mod operator;
mod reload;
mod tools;
mod unit;
mod whole_loop;
