//! The whole cloud side at its full size: the real daemon, the real SDK, an emulator that enforces IAM.
//!
//! One agent of three has 500 machines in three regions, 12 Auto Scaling groups, 30 ECS services, 40 functions and
//! what only deletion stops; a tenth of the machines carry no tag. It is contained and reset, in calm (`calm`), under
//! faults and deaths of the daemon (`storms`), and while somebody goes on launching (`relaunch`). What came of
//! it is read past everything of ours, by boto3 (`fleet.py`), and held against what was there before, field
//! by field (`snapshot`). Every request is held against AWS's models and the shipped policy (`record`).

mod calm;
mod contained;
mod record;
mod relaunch;
mod snapshot;
mod storms;
mod trail;
mod world;

/// The agent that is contained.
const AGENT: &str = "scaler";
const REGIONS: [&str; 3] = ["eu-central-1", "eu-west-1", "us-east-1"];
