//! The independent record: what was sent, held against AWS's models and against the shipped policy.

use std::collections::{BTreeMap, BTreeSet};

use super::AGENT;
use super::world::World;
use crate::aws_requests::problems;
use crate::harness::fault_proxy::Asked;
use crate::harness::moto::ACCOUNT;
use crate::harness::permitted::{Facts, arn_of};
use crate::harness::policy::Policy;

const IAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam");

/// Kinds of what the daemon changes.
const CHANGED: [&str; 5] = ["instance", "group", "ecs-service", "ecs-task", "function"];

fn shipped(name: &str) -> Policy {
    let text = std::fs::read_to_string(format!("{IAM}/{name}.json")).expect("it is shipped");
    Policy::parse(&text)
}

/// AWS would take every request, and the shipped policy allows it: `guard.json` all but the changes of what
/// carries no ownership tag, and `guard.stop-untagged.json` all.
pub async fn assert_sound(world: &World, asked: &[Asked]) {
    assert_sound_with(world, asked, &BTreeMap::new()).await;
}

/// The same, where the agent has got these too since; and whether they carry its tag.
pub async fn assert_sound_with(world: &World, asked: &[Asked], since: &BTreeMap<String, bool>) {
    let distinct: BTreeMap<String, Asked> = asked
        .iter()
        .map(|one| {
            (
                format!(
                    "{} {} {:?} {:?} {:?}",
                    one.service, one.action, one.params, one.json, one.rest
                ),
                one.clone(),
            )
        })
        .collect();
    let distinct: Vec<Asked> = distinct.into_values().collect();
    assert_eq!(problems(&distinct).await, Vec::<String>::new());

    let facts = facts(world, since);
    assert_eq!(facts.refused(&shipped("guard.stop-untagged"), asked), Vec::new());
    let bare = since.iter().filter(|(_, is_tagged)| !**is_tagged);
    let untagged = world.built.untagged().into_iter().chain(bare.map(|(id, _)| id.clone()));
    let untagged: BTreeSet<String> = untagged.map(|id| arn_of(ACCOUNT, &id)).collect();
    let refused = facts.refused(&shipped("guard"), asked);
    let beyond: Vec<_> = refused.iter().filter(|(_, arn)| !untagged.contains(arn)).collect();
    assert_eq!(beyond, Vec::<&(String, String)>::new());
    assert_changes_ours(world, asked, since, &facts);
}

/// The account, as AWS would look it up.
fn facts(world: &World, since: &BTreeMap<String, bool>) -> Facts {
    let people = |path: &str| -> BTreeMap<String, String> {
        let all = world.before.at(&["iam", path]).as_object().into_iter().flatten();
        all.map(|(name, one)| (name.clone(), one["Arn"].as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    let is_changed = |id: &String| CHANGED.iter().any(|kind| id.starts_with(&format!("{kind}:")));
    let tagged = |is_tagged: bool| -> BTreeMap<String, String> {
        let tag = is_tagged.then(|| ("backstop:agent".to_owned(), AGENT.to_owned()));
        tag.into_iter().collect()
    };
    let since = since.iter().map(|(id, is_tagged)| (id.clone(), tagged(*is_tagged)));
    let tags = world
        .built
        .tags()
        .into_iter()
        .filter(|(id, _)| is_changed(id))
        .chain(since);
    Facts {
        account: ACCOUNT.to_owned(),
        roles: people("roles"),
        users: people("users"),
        profiles: world.built.profiles(),
        tags: tags.map(|(id, tags)| (arn_of(ACCOUNT, &id), tags)).collect(),
    }
}

/// No change names anything but what is the agent's.
fn assert_changes_ours(world: &World, asked: &[Asked], since: &BTreeMap<String, bool>, facts: &Facts) {
    let ours = CHANGED.iter().flat_map(|kind| world.built.of(AGENT, kind));
    let ours = ours.chain(since.keys().cloned());
    let ours: BTreeSet<String> = ours.map(|id| arn_of(ACCOUNT, &id)).collect();
    let of_principals = [
        format!("arn:aws:iam::{ACCOUNT}:role/agents/{AGENT}"),
        format!("arn:aws:iam::{ACCOUNT}:user/agents/{AGENT}-bot"),
    ];
    for one in asked.iter().filter(|one| !reads(one)) {
        for request in facts.requests(one) {
            let arn = &request.resource;
            assert!(
                ours.contains(arn) || of_principals.contains(arn),
                "{} of {arn}",
                one.action
            );
        }
    }
}

/// Whether a call changes nothing.
pub fn reads(asked: &Asked) -> bool {
    let is_dry = asked.params.get("DryRun").is_some_and(|dry| dry == "true");
    let verbs = ["Describe", "Get", "List", "Lookup", "Simulate"];
    is_dry || verbs.iter().any(|verb| asked.action.starts_with(verb))
}

/// Calls by operation, the most frequent first.
pub fn counted(asked: &[Asked]) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for one in asked {
        *counts.entry(format!("{}:{}", one.service, one.action)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
