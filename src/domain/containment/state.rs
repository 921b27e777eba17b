//! A containment's own record: its phase, its steps, its coverage.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::canary::Canary;
use super::hourly::{Hourly, PriceBasis};
use super::target::{CloudTargets, Resource};
use crate::domain::fleet::asset::Kind;
use crate::domain::id::{AgentId, ContainmentId};
use crate::domain::money::Usd;

/// How far a containment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Ends after the deny; machines run on.
    Revoke,
    Contain,
}

/// Where it stands. `Closed` is the only end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Frozen; principals and machines are being brought down.
    Containing,
    /// Two quiet sweeps in a row; swept again until reset (C2, C3).
    Contained,
    /// A person asked for a reset; things are being put back.
    Restoring,
    /// Restored, and the agent has thawed.
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containment {
    pub id: ContainmentId,
    pub agent: AgentId,
    /// Counts this agent's containments from 1.
    pub generation: i64,
    pub mode: Mode,
    /// It is a drill on these alone, and not the agent's containment: the agent goes on working.
    #[serde(default)]
    pub canary: Option<Canary>,
    pub phase: Phase,
    /// Why, in a sentence for a person.
    pub cause: String,
    /// When the line was tripped whose breach opened it, if one did.
    #[serde(default)]
    pub breached_at: Option<Timestamp>,
    pub opened_at: Timestamp,
    pub contained_at: Option<Timestamp>,
    pub restoring_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub sweeps: i64,
    /// Quiet sweeps in a row, up to now.
    pub quiet: i64,
    pub coverage: Coverage,
    /// While restoring: what the operator asked for.
    pub restore: Option<RestoreRequest>,
    /// What the agent declared when it was swept, and at any sweep since: a config that is changed in
    /// the midst of a containment takes nothing out of its sight (C2).
    #[serde(default)]
    pub targets: Option<CloudTargets>,
    /// Raised at every write; writes are conditional on it.
    pub version: i64,
}

impl Containment {
    /// One that begins: nothing is observed yet.
    pub fn opened(
        id: ContainmentId,
        agent: AgentId,
        generation: i64,
        mode: Mode,
        cause: &str,
        opened_at: Timestamp,
    ) -> Self {
        Self {
            id,
            agent,
            generation,
            mode,
            canary: None,
            phase: Phase::Containing,
            cause: cause.to_owned(),
            breached_at: None,
            opened_at,
            contained_at: None,
            restoring_at: None,
            closed_at: None,
            sweeps: 0,
            quiet: 0,
            coverage: Coverage::default(),
            restore: None,
            targets: None,
            version: 1,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    pub by: String,
    pub at: Timestamp,
    /// What to put back, by stable id or plain id: machines, groups, services, functions; all if empty.
    pub only: Vec<String>,
    /// The agent's lines were looked at after the reset had begun. Until then nothing is put back: what
    /// overtook the reset was judged while the agent was still contained, and only this look finds it.
    #[serde(default)]
    pub lines_checked: bool,
}

/// What the last observation proved (C3).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coverage {
    pub observed_at: Option<Timestamp>,
    pub denied: Vec<String>,
    pub stopped: Vec<String>,
    /// What starts others, or costs by its settings, and is halted by them.
    #[serde(default)]
    pub capped: Vec<String>,
    /// What was ended for good.
    #[serde(default)]
    pub ended: Vec<String>,
    /// So many more were ended earlier and are gone; they are not named any more.
    #[serde(default)]
    pub ended_before: u64,
    pub still_burning: Vec<StillBurning>,
    /// What each thing named above costs an hour, or cost before it was halted; also of some that are gone since.
    #[serde(default)]
    pub hourly: BTreeMap<String, Hourly>,
    /// While the record of calls is not read up to then, the agent's creations may still be on their way, and
    /// *contained* is not the last word.
    pub attribution_pending_until: Option<Timestamp>,
    /// The regions whose record is not read that far, and why.
    #[serde(default)]
    pub attribution_pending: Vec<StillBurning>,
    /// What the agent's things cost, where they were looked at.
    #[serde(default)]
    pub burn: Option<FleetBurn>,
    /// What they cost since the containment was opened.
    #[serde(default)]
    pub burnt: Option<Burnt>,
    /// When each class of steps was done.
    #[serde(default)]
    pub times: BTreeMap<StepClass, Span>,
}

/// What an agent's things cost an hour, at list prices: those that were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetBurn {
    /// With what we halted.
    pub before: Usd,
    /// What still runs.
    pub now: Usd,
    /// How well the least known of the prices is known.
    pub basis: PriceBasis,
}

/// Dollars that went on being spent during a containment, reckoned from what was seen to run at two looks:
/// the larger burn of the two, for all the time between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burnt {
    pub usd: Usd,
    pub until: Timestamp,
}

/// What a report tells the times of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepClass {
    Deny,
    Cap,
    End,
    Stop,
    /// Sweeps that found nothing left to do.
    Quiet,
}

/// The first and the last time of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub first: Timestamp,
    pub last: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillBurning {
    /// The resource's stable id.
    pub resource: String,
    /// Why it could not be stopped, for a person.
    pub why: String,
}

impl StillBurning {
    /// A kind of assets that is switched off in the config: whatever runs of it is not seen (C3).
    pub fn not_looked_at(kind: &Kind) -> Self {
        Self {
            resource: format!("kind:{kind}"),
            why: "not looked at: aws.kinds leaves it out, so what the agent has of it is neither seen nor halted"
                .to_owned(),
        }
    }
}

/// One action of a containment or restore; its id is stable, so that a repetition is the same step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub containment: ContainmentId,
    /// Such as `deny/role:arn…` or `stop/instance:eu-west-1/i-0abc`.
    pub id: String,
    pub resource: Resource,
    pub action: Action,
    pub state: StepState,
    pub attempts: i64,
    /// An earlier attempt may have worked, although nothing was noted of it: what a later one came to
    /// says nothing about that.
    #[serde(default)]
    pub maybe_done: bool,
    pub last_error: Option<String>,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

impl Step {
    /// Whether what is seen now, if it is as the step would leave it, is to be taken for our doing.
    pub fn may_have_happened(&self) -> bool {
        self.maybe_done || matches!(self.state, StepState::Started | StepState::Done)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    PutDeny,
    /// Attaches the managed policy of our name, where the inline one has no room.
    AttachDeny,
    DeactivateKey,
    /// Of a credential for one service.
    DeactivateCredential,
    /// Puts the settings that halt an asset.
    Cap,
    /// Ends an asset for good, such as a task.
    End,
    StopInstance,
    TerminateInstance,
    StartInstance,
    LiftDeny,
    DetachDeny,
    ActivateKey,
    ActivateCredential,
    /// Puts an asset's settings back.
    Uncap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Written before the call is made.
    Started,
    Done,
    /// Will be tried again by the next sweep.
    Failing,
    /// Cannot be done; the coverage says why.
    GivenUp,
}
