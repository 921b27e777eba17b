//! `[aws]` and `[agent.aws]`: what may be touched in the cloud, and what never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::arn::{IamArn, Identity, Kind};
use super::reader::{Item, Table};
use super::settings::Aws;
use super::values;
use crate::domain::containment::guard::is_below_guard_path;
use crate::domain::containment::target::{CloudTargets, Guard, Principal, Region};
use crate::domain::fleet::asset::Kind as FleetKind;

/// `[aws]`, with who its guard principals are.
pub(super) struct AwsSection {
    pub(super) aws: Aws,
    pub(super) guarded: BTreeSet<Identity>,
}

pub(super) fn aws(table: &Table<'_>) -> Option<AwsSection> {
    let second = Duration::from_secs(1);
    let minute = Duration::from_secs(60);
    let enabled = table.get("enabled").and_then(|item| item.boolean());
    let regions = table.get("regions").and_then(|item| regions(&item));
    let kinds = table.get("kinds").and_then(|item| kinds(&item));
    let endpoint_url = table.get("endpoint_url").and_then(|item| endpoint(&item));
    let guard_principals = table.get("guard_principals").and_then(|item| item.texts(1000, guard));
    let guard_instances = table.get("guard_instances").and_then(|item| {
        item.texts(1000, |item, text| {
            let sound = values::is_instance(text);
            if !sound {
                item.error(
                    &format!("{} is not an instance id", values::shown(text)),
                    "such as i-0123456789abcdef0",
                );
            }
            sound.then(|| text.to_owned())
        })
    });
    let terminate_unstoppable = table.get("terminate_unstoppable").and_then(|item| item.boolean());
    let sweep_spacing = table
        .get("sweep_spacing")
        .and_then(|item| item.duration(second..=10 * minute));
    let step_patience = table
        .get("step_patience")
        .and_then(|item| item.duration(second..=10 * minute));
    let hold_sweep_every = table
        .get("hold_sweep_every")
        .and_then(|item| item.duration(10 * second..=60 * minute));
    let health_patience = table
        .get("health_patience")
        .and_then(|item| item.duration(second..=60 * minute));
    let watch = table.get("watch").and_then(|item| item.boolean());
    let poll_every = table
        .get("poll_every")
        .and_then(|item| item.duration(second..=10 * minute));
    let accrue_every = table
        .get("accrue_every")
        .and_then(|item| item.duration(second..=10 * minute));
    let reaction_time = table
        .get("reaction_time")
        .and_then(|item| item.duration(second..=60 * minute));
    let orphan_notice = table.get("orphan_notice_usd").and_then(|item| item.usd());
    table.finish();
    let guard_principals = guard_principals?;
    let guarded = guard_principals
        .iter()
        .filter_map(|arn| Some(IamArn::parse(arn)?.identity()))
        .collect();
    Some(AwsSection {
        aws: Aws {
            enabled: enabled?,
            regions: regions?,
            kinds: kinds?,
            endpoint_url: endpoint_url?,
            guard: Guard {
                principals: guard_principals,
                instances: guard_instances?,
            },
            terminate_unstoppable: terminate_unstoppable?,
            sweep_spacing: sweep_spacing?,
            step_patience: step_patience?,
            hold_sweep_every: hold_sweep_every?,
            health_patience: health_patience?,
            watch: watch?,
            poll_every: poll_every?,
            accrue_every: accrue_every?,
            reaction_time: reaction_time?,
            orphan_notice: orphan_notice?,
        },
        guarded,
    })
}

/// Empty for `["all"]`.
fn regions(item: &Item<'_>) -> Option<Vec<Region>> {
    let regions = item.texts(100, |item, text| {
        let sound = text == "all" || values::is_region(text);
        if !sound {
            item.error(
                &format!("{} is not a region", values::shown(text)),
                "such as eu-west-1, or [\"all\"]",
            );
        }
        sound.then(|| Region(text.to_owned()))
    })?;
    if regions.is_empty() {
        item.error("names no region", "[\"all\"] is every region enabled for the account");
        return None;
    }
    if regions.iter().all(|region| region.0 == "all") {
        return Some(Vec::new());
    }
    if regions.iter().any(|region| region.0 == "all") {
        item.error("names \"all\" and others", "either [\"all\"] or the regions");
        return None;
    }
    Some(regions)
}

/// `Some(None)` for `["all"]`. Instances are looked for in any case, and may be named.
fn kinds(item: &Item<'_>) -> Option<Option<BTreeSet<FleetKind>>> {
    let mut known = FleetKind::CHOICE.to_vec();
    known.push(FleetKind::INSTANCE);
    let names = item.texts(100, |item, text| {
        let kind = known.iter().find(|kind| kind.as_str() == text).cloned();
        if kind.is_none() && text != "all" {
            let all = known.iter().map(FleetKind::as_str).collect::<Vec<_>>().join(", ");
            item.error_hint(
                &format!("{} is not a kind of asset", values::shown(text)),
                format!("[\"all\"], or some of {all}"),
            );
            return None;
        }
        Some(kind)
    })?;
    if names.is_empty() {
        item.error("names no kind", "[\"all\"], or [\"instance\"] for machines alone");
        return None;
    }
    if names.iter().all(Option::is_none) {
        return Some(None);
    }
    let kinds: Option<BTreeSet<FleetKind>> = names.into_iter().collect();
    if kinds.is_none() {
        item.error("names \"all\" and others", "either [\"all\"] or the kinds");
    }
    kinds.map(Some)
}

/// `Some(None)` for AWS itself. The value is not echoed: a URL can carry a password.
fn endpoint(item: &Item<'_>) -> Option<Option<String>> {
    let text = item.text()?;
    if text.is_empty() {
        return Some(None);
    }
    let Ok(url) = reqwest::Url::parse(text) else {
        item.error("is not a URL", "such as http://127.0.0.1:5000");
        return None;
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        item.error("is not an http or https URL", "such as http://127.0.0.1:5000");
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        item.error(
            "carries credentials (they are not shown here)",
            "they come from the usual AWS places",
        );
        return None;
    }
    Some(Some(text.to_owned()))
}

const ARN_FORM: &str = "such as arn:aws:iam::123456789012:role/path/name";

fn guard(item: &Item<'_>, text: &str) -> Option<String> {
    if IamArn::parse(text).is_none() {
        item.error(
            &format!("{} is not the ARN of a role or user", values::shown(text)),
            ARN_FORM,
        );
        return None;
    }
    Some(text.to_owned())
}

/// Who owns which principal and tag so far, to find two agents that share one.
#[derive(Default)]
pub(super) struct Owners {
    /// The one account that a daemon works in, and the agent that declared it first.
    account: Option<(String, String)>,
    principals: BTreeMap<Identity, String>,
    tags: BTreeMap<(String, String, String), String>,
}

/// `[agent.aws]`
pub(super) fn targets(
    table: &Table<'_>,
    agent: &str,
    guarded: &BTreeSet<Identity>,
    default_regions: &[Region],
    owners: &mut Owners,
) -> Option<CloudTargets> {
    let account = table
        .required(
            "account",
            "the twelve digits of the AWS account that the agent works in, quoted",
        )
        .and_then(|item| owners.account(&item, agent));
    let roles = table.get("roles");
    let users = table.get("users");
    let tags_item = table.get("tags");
    let regions_item = table.get("regions");
    let named = [&roles, &users, &tags_item].iter().any(|item| item.is_some());

    let mut principals = Some(Vec::new());
    for (item, kind) in [(roles, Kind::Role), (users, Kind::User)] {
        let Some(item) = item else { continue };
        let read = item.texts(200, |item, text| {
            principal(item, text, kind, account.as_deref(), guarded)
        });
        let Some(read) = read else {
            principals = None;
            continue;
        };
        for (text, identity) in read {
            if let Some(owner) = owners.principals.insert(identity, agent.to_owned()) {
                let whose = if owner == agent {
                    "this agent, twice".to_owned()
                } else {
                    format!("agent {owner} as well")
                };
                let message = format!("{} belongs to {whose}", values::shown(text.arn()));
                item.error(&message, "containing one agent would stop the other: give each its own");
                principals = None;
            } else if let Some(principals) = &mut principals {
                principals.push(text);
            }
        }
    }
    let tags = match tags_item {
        Some(item) => tags(&item, agent, account.as_deref(), owners),
        None => Some(BTreeMap::new()),
    };
    let regions = match regions_item {
        Some(item) => regions(&item),
        None => Some(default_regions.to_vec()),
    };
    table.finish();
    let targets = CloudTargets {
        account: account?,
        principals: principals?,
        tags: tags?,
        regions: regions?,
    };
    if targets.principals.is_empty() && targets.tags.is_empty() {
        let hint = "name roles, users or tags, or leave [agent.aws] out".to_owned();
        let message = if named {
            "all of roles, users and tags are empty"
        } else {
            "names nothing of the agent's"
        };
        table.error(message, Some(hint));
        return None;
    }
    Some(targets)
}

impl Owners {
    /// The account of an agent. A second one is refused: the daemon has the credentials of one, and would see
    /// nothing of what runs in the other.
    fn account(&mut self, item: &Item<'_>, agent: &str) -> Option<String> {
        let found = account(item)?;
        let (first, of) = self.account.get_or_insert_with(|| (found.clone(), agent.to_owned()));
        if *first != found {
            let message = format!("is {found}, but agent {of} is in account {first}");
            item.error(
                &message,
                "one daemon works in one account: run another one for this account's agents",
            );
            return None;
        }
        Some(found)
    }
}

fn account(item: &Item<'_>) -> Option<String> {
    const FORM: &str = "an AWS account has twelve digits, in quotes: \"123456789012\"";
    let text = item.quoted("put it in quotes, since an account can begin with 0")?;
    if !values::is_account(text) {
        item.error(&format!("{} is not an AWS account", values::shown(text)), FORM);
        return None;
    }
    Some(text.to_owned())
}

fn principal(
    item: &Item<'_>,
    text: &str,
    kind: Kind,
    account: Option<&str>,
    guarded: &BTreeSet<Identity>,
) -> Option<(Principal, Identity)> {
    let Some(arn) = IamArn::parse(text) else {
        item.error(
            &format!("{} is not the ARN of a {}", values::shown(text), kind.as_str()),
            ARN_FORM,
        );
        return None;
    };
    if arn.kind != kind {
        let message = format!(
            "{} is a {}, not a {}",
            values::shown(text),
            arn.kind.as_str(),
            kind.as_str()
        );
        item.error_hint(&message, format!("list it under {}s", arn.kind.as_str()));
        return None;
    }
    if let Some(account) = account
        && arn.account != account
    {
        let message = format!(
            "{} is in account {}, not in {account}",
            values::shown(text),
            arn.account
        );
        item.error(&message, "an agent's principals are in its own account");
        return None;
    }
    if let Some(why) = arn.managed_by_aws() {
        item.error(
            &format!("{} is {why}", values::shown(text)),
            "name a role that your own account manages",
        );
        return None;
    }
    if is_below_guard_path(text) {
        let message = format!("{} is below the guard's own path", values::shown(text));
        item.error(
            &message,
            "what is below /backstop/ can never be a target: agents live elsewhere",
        );
        return None;
    }
    if guarded.contains(&arn.identity()) {
        let message = format!(
            "{} is in aws.guard_principals, which can never be a target",
            values::shown(text)
        );
        item.error(
            &message,
            "an agent must not share a role with the guard or with break-glass access",
        );
        return None;
    }
    Some((arn.principal(text), arn.identity()))
}

fn tags(item: &Item<'_>, agent: &str, account: Option<&str>, owners: &mut Owners) -> Option<BTreeMap<String, String>> {
    let table = item.table()?;
    let entries = table.items();
    if entries.len() > 50 {
        item.error(&format!("has {} tags, and AWS takes at most 50", entries.len()), None);
        return None;
    }
    let mut tags = Some(BTreeMap::new());
    for (key, value) in entries {
        let Some(text) = value.text() else {
            tags = None;
            continue;
        };
        let fault = if key.is_empty() || key.chars().count() > 128 {
            Some("a tag's key has 1 to 128 characters")
        } else if text.chars().count() > 256 {
            Some("a tag's value has at most 256 characters")
        } else if text.contains(['*', '?']) || key.contains(['*', '?']) {
            Some("a tag is matched as it is written; * and ? would match other owners' machines")
        } else {
            None
        };
        if let Some(fault) = fault {
            value.error(fault, None);
            tags = None;
            continue;
        }
        let owned = (account.unwrap_or_default().to_owned(), key.to_owned(), text.to_owned());
        if let Some(owner) = owners.tags.insert(owned, agent.to_owned())
            && account.is_some()
        {
            let message = format!(
                "the tag {} belongs to agent {owner} as well",
                values::shown(&format!("{key}={text}"))
            );
            value.error(&message, "containing one agent would stop the other: give each its own");
            tags = None;
        } else if let Some(tags) = &mut tags {
            tags.insert(key.to_owned(), text.to_owned());
        }
    }
    tags
}
