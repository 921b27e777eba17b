//! Whose a thing in the cloud is.
//!
//! A thing is the agent's by its ownership tag; because it acts with the agent's role or instance profile;
//! because the cloud's own record says that the agent's principals made it; because what started it is the
//! agent's; or because this containment changed it already (its tag may have been taken off meanwhile, to
//! slip away). The same rules hold for instances and for every other kind.
//!
//! A thing with the ownership tag of another declared agent is that agent's, whoever made it and whatever it
//! acts with: two agents may share a role, and halting one must not halt the other. That it looks like this
//! agent's is said. One with the tags of two agents, or with this agent's tag and only another's hands, is
//! disputed: whoever may tag it could have another agent's machine halted so. A person is asked.
//!
//! What an hour's burn is charged to is decided elsewhere and more narrowly
//! ([`fleet::owner`](crate::domain::fleet::owner)): evidence that names two agents charges neither, but what
//! acts with the hands of an agent that is being contained is halted.
//!
//! A canary drill knows one rule alone, which [`canary`](super::canary) gives.
//!
//! All of this counts within the declared account and regions. A match outside asks a person and is not
//! touched before.

use std::collections::{BTreeMap, BTreeSet};

use super::canary::is_marked;
use super::observed::Instance;
use super::plan::{Frame, RegionView};
use super::state::{Action, Step};
use super::target::{Principal, Region, Resource};
use crate::domain::fleet::asset::{Asset, AssetRef, Kind};
use crate::domain::fleet::owner::hand;
use crate::domain::id::AgentId;

/// How far a chain of parents is followed: a task's service is one step.
const MAX_PARENTS: u8 = 4;

/// Why something is taken for the agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// This containment changed it.
    Touched,
    Tag,
    ActsAs,
    Creator,
    Parent,
}

impl Match {
    fn by(self) -> &'static str {
        match self {
            Self::Tag => "its tag",
            Self::ActsAs => "the role or instance profile that it acts with",
            Self::Creator => "who made it",
            Self::Parent => "what started it",
            Self::Touched => "what this containment did to it",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nothing says that it is the agent's.
    Nobody,
    Agent(Match),
    /// It is tagged as another agent's.
    Other {
        agent: AgentId,
        by: Match,
    },
    /// It is tagged as this agent's, but something says that it is another's.
    Disputed(Dispute),
}

/// Why a tag alone does not decide, and what a person did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dispute {
    pub why: String,
    pub is_asked: bool,
}

/// What may be done about something that is the agent's, by where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    Within,
    /// Left alone, and why.
    Left(String),
    /// A person is to be asked, and why.
    Ask(String),
}

/// What decides about one thing.
#[derive(Clone, Copy)]
struct Traits<'a> {
    what: &'a AssetRef,
    tags: &'a BTreeMap<String, String>,
    acts_as: &'a [String],
    parent: Option<&'a AssetRef>,
}

/// Whose everything in a region is.
pub(super) struct Owners<'a> {
    pub frame: &'a Frame<'a>,
    /// ARNs of the agent's roles and of their instance profiles.
    hands: BTreeSet<String>,
    /// Roles of other agents.
    theirs: BTreeMap<String, &'a AgentId>,
    assets: BTreeMap<&'a AssetRef, &'a Asset>,
    /// What the guard itself runs in.
    guards_home: BTreeSet<AssetRef>,
}

impl<'a> Owners<'a> {
    pub fn of(frame: &'a Frame<'a>, view: &'a RegionView, profiles: &BTreeSet<String>) -> Self {
        let roles = frame.principals().into_iter().filter_map(|principal| match principal {
            Principal::Role(arn) => Some(arn),
            Principal::User(_) => None,
        });
        let instances = view.instances.iter().flatten();
        let guards = instances.filter(|instance| frame.guard.covers_instance(&instance.id));
        Self {
            frame,
            theirs: frame
                .others
                .iter()
                .flat_map(|(agent, marks)| marks.principals.iter().map(move |arn| (hand(arn), agent)))
                .collect(),
            hands: roles.chain(profiles.iter().cloned()).map(|arn| hand(&arn)).collect(),
            assets: view
                .assets
                .values()
                .flatten()
                .flatten()
                .map(|asset| (&asset.what, asset))
                .collect(),
            guards_home: guards.filter_map(Instance::parent).collect(),
        }
    }

    pub fn asset(&self, asset: &Asset) -> Owner {
        self.owner(traits(asset), 0)
    }

    pub fn instance(&self, instance: &Instance) -> Owner {
        let (what, parent) = (instance.asset_ref(), instance.started_by());
        let traits = Traits {
            what: &what,
            tags: &instance.tags,
            acts_as: instance.profile_arn.as_slice(),
            parent: parent.as_ref(),
        };
        self.owner(traits, 0)
    }

    fn owner(&self, thing: Traits<'_>, depth: u8) -> Owner {
        let tagged =
            |tags: &BTreeMap<String, String>| tags.iter().any(|(key, value)| thing.tags.get(key) == Some(value));
        if let Some(canary) = &self.frame.containment.canary {
            // Both tags as they are now, and nothing else.
            let is_one = canary.assets.contains(thing.what) && is_marked(thing.tags);
            let is_ours = is_one && tagged(&self.frame.targets.tags);
            return if is_ours {
                Owner::Agent(Match::Tag)
            } else {
                Owner::Nobody
            };
        }
        if self.is_touched(thing.what) {
            return Owner::Agent(Match::Touched);
        }
        let other = self.frame.others.iter().find(|(_, marks)| tagged(&marks.tags));
        let other = other.map(|(agent, _)| agent);
        let has_our_hands = thing.acts_as.iter().any(|arn| self.hands.contains(&hand(arn)));
        if tagged(&self.frame.targets.tags) {
            let theirs = || thing.acts_as.iter().find_map(|arn| self.theirs.get(&role_of(arn)));
            return match (other, theirs()) {
                (Some(agent), _) => self.disputed(thing.what, agent, "it is tagged as that one's as well"),
                (None, Some(agent)) if !has_our_hands => self.disputed(thing.what, agent, "it acts with its role"),
                (None, _) => Owner::Agent(Match::Tag),
            };
        }
        let by = if has_our_hands {
            Match::ActsAs
        } else if self.frame.created.contains(thing.what) {
            Match::Creator
        } else if self.is_started_by_ours(thing.parent, depth) {
            Match::Parent
        } else {
            return Owner::Nobody;
        };
        match other {
            Some(agent) => Owner::Other {
                agent: agent.clone(),
                by,
            },
            None => Owner::Agent(by),
        }
    }

    fn disputed(&self, what: &AssetRef, agent: &AgentId, because: &str) -> Owner {
        let why = format!("it is tagged as this agent's, but seems to be {agent}'s: {because}");
        match self.frame.foreign.get(&what.to_string()) {
            Some(true) => Owner::Agent(Match::Tag),
            Some(false) => Owner::Disputed(Dispute {
                why: "a person decided to leave it running".to_owned(),
                is_asked: false,
            }),
            None => Owner::Disputed(Dispute { why, is_asked: true }),
        }
    }

    /// Whether it carries the tag of another declared agent.
    pub fn is_anothers(&self, asset: &Asset) -> bool {
        let mut tags = self.frame.others.values().flat_map(|marks| &marks.tags);
        tags.any(|(key, value)| asset.tags.get(key) == Some(value))
    }

    fn is_started_by_ours(&self, parent: Option<&AssetRef>, depth: u8) -> bool {
        parent.is_some_and(|what| match self.assets.get(what) {
            Some(parent) => depth < MAX_PARENTS && matches!(self.owner(traits(parent), depth + 1), Owner::Agent(_)),
            // A fleet or a spot request is listed nowhere, and a group may be gone: who made it is on record.
            None => self.frame.created.contains(what),
        })
    }

    fn is_touched(&self, what: &AssetRef) -> bool {
        let resource = resource_of(what);
        let actions = [
            Action::StopInstance,
            Action::TerminateInstance,
            Action::Cap,
            Action::End,
        ];
        actions.into_iter().any(|action| {
            let step = self.frame.steps.get(action, &resource);
            step.is_some_and(Step::may_have_happened)
        })
    }

    /// Whether the guard itself runs in it, or with it (C5).
    pub fn is_guarded(&self, asset: &Asset) -> bool {
        let acts = |asset: &Asset| asset.acts_as.iter().any(|arn| self.frame.guard.covers_arn(arn));
        let parent = asset.parent.as_ref().and_then(|parent| self.assets.get(parent));
        acts(asset) || self.guards_home.contains(&asset.what) || parent.is_some_and(|parent| acts(parent))
    }

    /// What may be done about it where it is. What was started by something is decided with that.
    pub fn scope(&self, region: &Region, id: &str, by: Match, parent: Option<&AssetRef>) -> Scope {
        if by == Match::Touched || self.frame.in_scope(region) {
            return Scope::Within;
        }
        let parent = parent.filter(|_| by == Match::Parent).map(ToString::to_string);
        match self.frame.foreign.get(parent.as_deref().unwrap_or(id)) {
            Some(true) => Scope::Within,
            Some(false) => Scope::Left("a person decided to leave it running".to_owned()),
            None => match parent {
                Some(parent) => Scope::Left(format!("{}; it is decided with {parent}", self.outside(region, by))),
                None => Scope::Ask(self.outside(region, by)),
            },
        }
    }

    fn outside(&self, region: &Region, by: Match) -> String {
        let by = by.by();
        if self.frame.declares(region) {
            let account = self.frame.account.unwrap_or("unknown");
            format!("it is the agent's by {by}, but runs in account {account}, which the agent does not declare")
        } else {
            format!("it is the agent's by {by}, but runs in {region}, which the agent does not declare")
        }
    }
}

fn traits(asset: &Asset) -> Traits<'_> {
    Traits {
        what: &asset.what,
        tags: &asset.tags,
        acts_as: &asset.acts_as,
        parent: asset.parent.as_ref(),
    }
}

/// The role that an ARN stands for: an instance profile is taken for that of the role of its name, which it is
/// unless somebody made it otherwise. Only for doubts: what is taken so is asked about.
fn role_of(arn: &str) -> String {
    let role = arn.split_once(":instance-profile/");
    role.map_or_else(|| hand(arn), |(account, path)| hand(&format!("{account}:role/{path}")))
}

/// Why something that looks like the agent's is left to another one.
pub(super) fn others(agent: &AgentId, by: Match) -> String {
    format!(
        "it looks like this agent's by {}, but is tagged as {agent}'s; it is left alone",
        by.by()
    )
}

/// The resource that an asset is.
pub(super) fn resource_of(what: &AssetRef) -> Resource {
    if what.kind == Kind::INSTANCE {
        Resource::Instance {
            region: what.region.clone(),
            id: what.id.clone(),
        }
    } else {
        Resource::Asset { asset: what.clone() }
    }
}
