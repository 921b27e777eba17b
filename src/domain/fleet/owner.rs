//! Whose an asset is, by what can be seen of it.
//!
//! Evidence in order: the ownership *tag*; what it *acts as* (an agent's role or one of its instance
//! profiles); its *creator* (a call of an agent's principal, from the cloud's own record); its *parent* (a
//! member of an agent's group is the agent's). The tag goes first because a person put it there or the
//! boundary enforced it; the parent comes late because it is only as good as what is known of the parent.
//!
//! But an agent writes tags as well. So where the cloud's own word (hands, creator) names another agent than
//! the tag and nothing of it agrees with the tag, that one is charged, and it is said: else an agent could
//! have its machines charged to another by a tag, and that other one contained for it.
//!
//! Where nothing names anybody now, it is whose it was *before*: a role that cannot be asked about and a tag
//! that was taken off make nothing nobody's.
//!
//! Evidence that names two agents decides nothing, and the next kind is asked: money is never put on an
//! agent by the order of a list. What nothing names is an *orphan*: it is shown with its burn, and nobody is
//! charged for it or stopped because of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::asset::{Asset, AssetRef};
use crate::domain::containment::guard::PrincipalName;
use crate::domain::containment::target::CloudTargets;
use crate::domain::id::AgentId;

/// Parents of parents that are followed: a task, its service, the service's stack; and no ring for ever.
const MAX_DEPTH: usize = 4;

/// What one agent may be known by.
#[derive(Debug, Clone)]
pub struct Claim {
    pub agent: AgentId,
    pub targets: CloudTargets,
    /// Instance profiles of its roles, by ARN.
    pub profiles: BTreeSet<String>,
}

/// What named the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    Tag,
    ActsAs,
    Creator,
    Parent,
    /// Nothing names an owner now, and this agent was named before.
    Before,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "owner")]
pub enum Owner {
    Agent {
        agent: AgentId,
        by: Evidence,
        /// It lies in an account and region that the agent declares. Elsewhere it is charged for all the same,
        /// and a person is asked before it is stopped.
        declared: bool,
        /// The agent whose tag it carries, where the cloud's own word names this one instead.
        tagged: Option<AgentId>,
    },
    /// Nobody's; `between` are those whom the evidence named together.
    Orphan { between: Vec<AgentId> },
}

impl Owner {
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Agent { agent, .. } => Some(agent),
            Self::Orphan { .. } => None,
        }
    }
}

/// Claims, made ready for many look-ups.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    claims: Vec<Claim>,
    tags: BTreeMap<(String, String), Vec<usize>>,
    hands: BTreeMap<String, Vec<usize>>,
}

impl Owners {
    pub fn new(claims: Vec<Claim>) -> Self {
        let mut owners = Self::default();
        for (place, claim) in claims.iter().enumerate() {
            for (key, value) in &claim.targets.tags {
                owners.tags.entry((key.clone(), value.clone())).or_default().push(place);
            }
            let principals = claim.targets.principals.iter().map(|principal| hand(principal.arn()));
            for hand in principals.chain(claim.profiles.iter().cloned()) {
                let known = owners.hands.entry(hand).or_default();
                if known.last() != Some(&place) {
                    known.push(place);
                }
            }
        }
        owners.claims = claims;
        owners
    }

    /// The agent whose principal this ARN names, if it is one agent's alone.
    pub fn principal(&self, arn: &str) -> Option<&AgentId> {
        let places = self.hands.get(&hand(arn))?;
        one(places.iter().copied()).ok().map(|place| &self.claims[place].agent)
    }

    /// Whether the config says anything of this agent's cloud side.
    pub fn declares(&self, agent: &AgentId) -> bool {
        self.claims.iter().any(|claim| claim.agent == *agent)
    }

    /// The owner of each asset. `creators` says which principal made what, by ARN; `before` whose it was when
    /// it was seen last; `account` is the one that the assets were seen in.
    pub fn attribute<'a>(
        &self,
        assets: impl IntoIterator<Item = &'a Asset>,
        creators: &BTreeMap<AssetRef, String>,
        before: &BTreeMap<AssetRef, AgentId>,
        account: &str,
    ) -> BTreeMap<AssetRef, Owner> {
        let was = |what: &AssetRef| {
            let agent = before.get(what)?;
            self.claims.iter().position(|claim| claim.agent == *agent)
        };
        let assets: BTreeMap<&AssetRef, &Asset> = assets.into_iter().map(|asset| (&asset.what, asset)).collect();
        let own: BTreeMap<&AssetRef, Result<Found, Vec<usize>>> = assets
            .iter()
            .map(|(what, asset)| (*what, self.by_itself(asset, creators)))
            .collect();
        let mut owners = BTreeMap::new();
        for (what, asset) in &assets {
            let found = match &own[what] {
                Ok(found) => Ok(*found),
                Err(between) => self
                    .by_parent(asset, &assets, &own, creators, was)
                    .map(|place| Found::by(Evidence::Parent, place))
                    .or_else(|| Some(Found::by(Evidence::Before, was(what)?)))
                    .ok_or_else(|| between.clone()),
            };
            let owner = match found {
                Ok(Found { place, by, tagged }) => {
                    let claim = &self.claims[place];
                    let regions = &claim.targets.regions;
                    let here = regions.is_empty() || regions.contains(&what.region);
                    Owner::Agent {
                        agent: claim.agent.clone(),
                        by,
                        declared: here && claim.targets.account == account,
                        tagged: tagged.map(|place| self.claims[place].agent.clone()),
                    }
                }
                Err(between) => Owner::Orphan {
                    between: between.iter().map(|place| self.claims[*place].agent.clone()).collect(),
                },
            };
            owners.insert((*what).clone(), owner);
        }
        owners
    }

    /// By its own evidence; `Err` are those whom a kind of evidence named together.
    fn by_itself(&self, asset: &Asset, creators: &BTreeMap<AssetRef, String>) -> Result<Found, Vec<usize>> {
        let tags = asset.tags.iter();
        let tags = tags.filter_map(|(key, value)| self.tags.get(&(key.clone(), value.clone())));
        let hands = asset.acts_as.iter().filter_map(|arn| self.hands.get(&hand(arn)));
        let creator = creators.get(&asset.what).and_then(|arn| self.hands.get(&hand(arn)));
        let tag = one(tags.flatten().copied());
        let word = [
            (one(hands.flatten().copied()), Evidence::ActsAs),
            (one(creator.into_iter().flatten().copied()), Evidence::Creator),
        ];
        let named = |(named, by): &(Result<usize, _>, Evidence)| Some(Found::by(*by, *named.as_ref().ok()?));
        let mut said = word.iter().filter_map(named);
        match (&tag, said.next()) {
            (Ok(tag), Some(first)) if first.place != *tag && said.all(|other| other.place != *tag) => Ok(Found {
                tagged: Some(*tag),
                ..first
            }),
            (Ok(tag), _) => Ok(Found::by(Evidence::Tag, *tag)),
            (Err(_), Some(first)) => Ok(first),
            (Err(several), None) => {
                let others = word.iter().filter_map(|(named, _)| named.as_ref().err());
                let between: BTreeSet<usize> = others.chain([several]).flatten().copied().collect();
                Err(between.into_iter().collect())
            }
        }
    }

    fn by_parent<'a>(
        &self,
        asset: &'a Asset,
        assets: &BTreeMap<&'a AssetRef, &'a Asset>,
        own: &BTreeMap<&'a AssetRef, Result<Found, Vec<usize>>>,
        creators: &BTreeMap<AssetRef, String>,
        was: impl Fn(&AssetRef) -> Option<usize>,
    ) -> Option<usize> {
        let mut parent = asset.parent.as_ref()?;
        for _ in 0..MAX_DEPTH {
            match own.get(parent) {
                Some(Ok(found)) => return Some(found.place),
                // A parent that is gone, or was not seen, may still be known by who made it.
                None => {
                    let named = creators.get(parent).and_then(|arn| self.hands.get(&hand(arn)));
                    return one(named.into_iter().flatten().copied()).ok();
                }
                Some(Err(_)) => match assets.get(parent)?.parent.as_ref() {
                    Some(above) => parent = above,
                    None => return was(parent),
                },
            }
        }
        None
    }
}

/// Who was found, by the place of the claim.
#[derive(Debug, Clone, Copy)]
struct Found {
    place: usize,
    by: Evidence,
    /// Whom the tag names, where it was outvoted.
    tagged: Option<usize>,
}

impl Found {
    fn by(by: Evidence, place: usize) -> Self {
        Self {
            place,
            by,
            tagged: None,
        }
    }
}

/// The only one that is named; else all of them.
fn one(named: impl IntoIterator<Item = usize>) -> Result<usize, Vec<usize>> {
    let named: BTreeSet<usize> = named.into_iter().collect();
    match (named.len(), named.first()) {
        (1, Some(place)) => Ok(*place),
        _ => Err(named.into_iter().collect()),
    }
}

/// A principal as it is compared: a role is the same whatever its path, and so is the session of one.
pub fn hand(arn: &str) -> String {
    match PrincipalName::parse(arn) {
        Some(name) => name.to_string(),
        None => arn.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::containment::target::{Principal, Region};
    use crate::domain::fleet::asset::{Brake, Kind};

    const ACCOUNT: &str = "123456789012";

    fn what(kind: &'static str, id: &str) -> AssetRef {
        AssetRef {
            kind: Kind::named(kind),
            region: Region("eu-west-1".to_owned()),
            id: id.to_owned(),
        }
    }

    fn asset(kind: &'static str, id: &str) -> Asset {
        Asset {
            what: what(kind, id),
            service: "AmazonEC2".into(),
            tags: BTreeMap::new(),
            acts_as: Vec::new(),
            unread: None,
            parent: None,
            created_at: None,
            meters: Vec::new(),
            brake: Brake::Stop,
        }
    }

    fn role(name: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/agents/{name}")
    }

    fn owners() -> Owners {
        let claim = |name: &str| Claim {
            agent: AgentId::new(name).unwrap(),
            targets: CloudTargets {
                account: ACCOUNT.to_owned(),
                principals: vec![Principal::Role(role(name)), Principal::Role(role("shared"))],
                tags: BTreeMap::from([("backstop:agent".to_owned(), name.to_owned())]),
                regions: vec![Region("eu-west-1".to_owned())],
            },
            profiles: BTreeSet::from([format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}")]),
        };
        Owners::new(vec![claim("a"), claim("b")])
    }

    fn said(asset: Asset, more: Vec<Asset>, creators: &[(AssetRef, String)]) -> String {
        said_after(asset, more, creators, &[])
    }

    fn said_after(
        asset: Asset,
        more: Vec<Asset>,
        creators: &[(AssetRef, String)],
        before: &[(&AssetRef, &str)],
    ) -> String {
        let creators = creators.iter().cloned().collect();
        let before = before
            .iter()
            .map(|(what, name)| ((*what).clone(), AgentId::new(*name).unwrap()));
        let owners = owners().attribute(more.iter().chain([&asset]), &creators, &before.collect(), ACCOUNT);
        match &owners[&asset.what] {
            Owner::Agent {
                agent,
                by,
                declared,
                tagged: None,
            } => format!("{agent} {by:?} {declared}"),
            Owner::Agent { agent, by, tagged, .. } => format!("{agent} {by:?} and not {}", tagged.as_ref().unwrap()),
            Owner::Orphan { between } => format!("orphan {}", between.len()),
        }
    }

    fn tagged(mut asset: Asset, name: &str) -> Asset {
        asset.tags.insert("backstop:agent".to_owned(), name.to_owned());
        asset
    }

    fn acting(mut asset: Asset, arn: String) -> Asset {
        asset.acts_as.push(arn);
        asset
    }

    fn child(mut asset: Asset, parent: &AssetRef) -> Asset {
        asset.parent = Some(parent.clone());
        asset
    }

    #[test]
    fn evidence_counts_in_its_order() {
        let i = || asset("instance", "i-1");
        let by = |name: &str| vec![(what("instance", "i-1"), role(name))];
        assert_eq!(said(tagged(i(), "a"), vec![], &[]), "a Tag true");
        assert_eq!(said(acting(i(), role("b")), vec![], &by("a")), "b ActsAs true");
        assert_eq!(said(i(), vec![], &by("a")), "a Creator true");
        let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/a/session");
        assert_eq!(
            said(i(), vec![], &[(what("instance", "i-1"), session)]),
            "a Creator true"
        );
        assert_eq!(said(i(), vec![], &by("stranger")), "orphan 0");
        let profile = format!("arn:aws:iam::{ACCOUNT}:instance-profile/a");
        assert_eq!(said(acting(i(), profile), vec![], &[]), "a ActsAs true");
    }

    /// An agent that tags its machines as another's is charged for them all the same.
    #[test]
    fn the_clouds_own_word_outvotes_a_tag_that_nothing_else_agrees_with() {
        let i = |tag: &str| tagged(asset("instance", "i-1"), tag);
        let by = |name: &str| vec![(what("instance", "i-1"), role(name))];
        let outvoted = "a ActsAs and not b";
        assert_eq!(said(acting(i("b"), role("a")), vec![], &by("a")), outvoted);
        assert_eq!(said(acting(i("b"), role("a")), vec![], &[]), outvoted);
        assert_eq!(said(i("b"), vec![], &by("a")), "a Creator and not b");
        // Made by one for the other: what it acts as agrees with the tag.
        assert_eq!(said(acting(i("b"), role("b")), vec![], &by("a")), "b Tag true");
        assert_eq!(said(acting(i("b"), role("a")), vec![], &by("b")), "b Tag true");
        // Hands that several agents have say nothing.
        assert_eq!(said(acting(i("b"), role("shared")), vec![], &[]), "b Tag true");
        assert_eq!(said(i("b"), vec![], &by("stranger")), "b Tag true");
    }

    #[test]
    fn what_names_two_decides_nothing() {
        let i = || acting(asset("instance", "i-1"), role("shared"));
        assert_eq!(said(i(), vec![], &[]), "orphan 2");
        let by = [(what("instance", "i-1"), role("b"))];
        assert_eq!(said(i(), vec![], &by), "b Creator true");
    }

    #[test]
    fn a_member_is_whose_its_group_is() {
        let group = what("group", "g");
        let i = || child(asset("instance", "i-1"), &group);
        let of = |asset: Asset| vec![asset];
        assert_eq!(said(i(), of(tagged(asset("group", "g"), "b")), &[]), "b Parent true");
        // Also of a group that is gone, by its maker.
        assert_eq!(said(i(), vec![], &[(group.clone(), role("a"))]), "a Parent true");
        assert_eq!(said(i(), of(asset("group", "g")), &[]), "orphan 0");
        // A ring ends.
        let ring = child(asset("group", "g"), &what("instance", "i-1"));
        assert_eq!(said(i(), of(ring), &[]), "orphan 0");
    }

    #[test]
    fn what_nothing_names_is_whose_it_was() {
        let i = || asset("instance", "i-1");
        let (own, group) = (what("instance", "i-1"), what("group", "g"));
        assert_eq!(said_after(i(), vec![], &[], &[(&own, "a")]), "a Before true");
        // Any evidence counts more, but what names two is none.
        let named = tagged(i(), "b");
        assert_eq!(said_after(named, vec![], &[], &[(&own, "a")]), "b Tag true");
        let shared = acting(i(), role("shared"));
        assert_eq!(said_after(shared, vec![], &[], &[(&own, "a")]), "a Before true");
        // A new member of a group is whose the group was.
        let member = child(i(), &group);
        let groups = vec![asset("group", "g")];
        assert_eq!(said_after(member, groups, &[], &[(&group, "b")]), "b Parent true");
        assert_eq!(said_after(i(), vec![], &[], &[(&own, "gone")]), "orphan 0");
    }

    #[test]
    fn elsewhere_is_said() {
        let mut far = tagged(asset("instance", "i-1"), "a");
        far.what.region = Region("us-east-1".to_owned());
        assert_eq!(said(far, vec![], &[]), "a Tag false");
    }
}
