//! The instance profiles that groups launch machines with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::{AutoScalingGroup, LaunchTemplateSpecification};
use aws_sdk_ec2::types::LaunchTemplateVersion;
use futures_util::{StreamExt as _, stream};

use super::names::Names;
use crate::cloud::aws::services::{Place, pages};
use crate::ports::CloudError;

/// Auto Scaling tells so many launch configurations in one call.
const CONFIGURATIONS: usize = 50;

/// EC2 tells so many versions in one page, and takes as many in one question.
const VERSIONS: usize = 200;

/// Versions by number that are remembered; beyond that the memory starts anew.
const REMEMBERED: usize = 10_000;

/// What a group launches its machines from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Configuration(String),
    /// A template's id and version: a number, `$Latest` or `$Default`.
    Template(String, String),
}

impl Source {
    /// A mixed group may launch from several.
    pub(super) fn of(group: &AutoScalingGroup) -> BTreeSet<Self> {
        let mixed = group
            .mixed_instances_policy()
            .and_then(|policy| policy.launch_template());
        let overrides = mixed.map(|mixed| mixed.overrides()).unwrap_or_default();
        let templates = group
            .launch_template()
            .into_iter()
            .chain(mixed.and_then(|mixed| mixed.launch_template_specification()))
            .chain(overrides.iter().filter_map(|one| one.launch_template_specification()));
        let configuration = group
            .launch_configuration_name()
            .map(|name| Self::Configuration(name.to_owned()));
        templates.filter_map(Self::of_template).chain(configuration).collect()
    }

    fn of_template(template: &LaunchTemplateSpecification) -> Option<Self> {
        let version = template.version().unwrap_or("$Default");
        Some(Self::Template(
            template.launch_template_id()?.to_owned(),
            version.to_owned(),
        ))
    }
}

/// The ARN of a profile. Of one that is still known by its name alone it is made of the group's account, without a
/// path.
pub(super) fn arn(profile: &str, group_arn: Option<&str>) -> String {
    if profile.starts_with("arn:") {
        return profile.to_owned();
    }
    let mut parts = group_arn.unwrap_or_default().split(':').skip(1);
    let partition = parts.next().unwrap_or("aws");
    let account = parts.nth(2).unwrap_or_default();
    format!("arn:{partition}:iam::{account}:instance-profile/{profile}")
}

#[derive(Debug)]
pub(super) struct Profiles {
    /// What was learnt of versions by number.
    versions: Mutex<BTreeMap<Source, Option<String>>>,
    names: Names,
}

impl Profiles {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            versions: Mutex::default(),
            names: Names::new(place),
        }
    }

    /// The profiles of these sources by ARN, or by name where only that can be learnt; and of which it could
    /// not be learnt.
    pub(super) async fn of(&self, place: &Place, client: &Client, sources: &BTreeSet<Source>) -> Known {
        let mut names: Vec<String> = Vec::new();
        let mut follows = false;
        let mut numbered: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut known: BTreeMap<Source, Option<String>> = BTreeMap::new();
        {
            let remembered = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
            for source in sources {
                match source {
                    Source::Configuration(name) => names.push(name.clone()),
                    Source::Template(_, version) if version.starts_with('$') => follows = true,
                    Source::Template(id, version) => match remembered.get(source) {
                        Some(profile) => drop(known.insert(source.clone(), profile.clone())),
                        None => numbered.entry(id.clone()).or_default().push(version.clone()),
                    },
                }
            }
        }
        let following = async {
            if follows {
                following(place).await
            } else {
                Ok(BTreeMap::new())
            }
        };
        let (configurations, following, (numbered, failed)) = tokio::join!(
            configurations(place, client, &names),
            following,
            by_number(place, numbered)
        );
        {
            let mut remembered = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() + numbered.len() > REMEMBERED {
                remembered.clear();
            }
            remembered.extend(numbered.clone());
        }
        known.extend(numbered);
        let mut unread: BTreeMap<Source, String> = failed;
        let is_configuration = |source: &&Source| matches!(source, Source::Configuration(_));
        let follows = |source: &&Source| matches!(source, Source::Template(_, version) if version.starts_with('$'));
        let parts: [(Learnt, Concerns<'_>); 2] = [(configurations, &is_configuration), (following, &follows)];
        for (learnt, is_concerned) in parts {
            match learnt {
                Ok(learnt) => known.extend(learnt),
                Err(error) => {
                    unknown(place, &error);
                    let concerned = sources.iter().filter(|source| is_concerned(source));
                    unread.extend(concerned.map(|source| (source.clone(), error.to_string())));
                }
            }
        }
        let known = known.into_iter().filter(|(source, _)| sources.contains(source));
        let mut known: BTreeMap<Source, String> =
            known.filter_map(|(source, profile)| Some((source, profile?))).collect();
        let named = known.values().filter(|profile| !profile.starts_with("arn:"));
        let (arns, nameless) = self.names.arns(place, named.map(String::as_str).collect()).await;
        for (source, profile) in &mut known {
            if let Some(arn) = arns.get(profile) {
                profile.clone_from(arn);
            } else if let Some(why) = nameless.get(profile) {
                unread.insert(source.clone(), why.clone());
            }
        }
        Known { arns: known, unread }
    }
}

/// What was learnt of sources.
#[derive(Debug, Default)]
pub(super) struct Known {
    arns: BTreeMap<Source, String>,
    /// Why the profile of a source, which may have one, is not known.
    unread: BTreeMap<Source, String>,
}

impl Known {
    /// The profiles of what a group launches from, and why they may not be all.
    pub(super) fn of(&self, group: &AutoScalingGroup) -> (BTreeSet<String>, Option<String>) {
        let sources = Source::of(group);
        let profiles = sources.iter().filter_map(|source| self.arns.get(source));
        let arns = profiles.map(|profile| arn(profile, group.auto_scaling_group_arn()));
        let unread = sources.iter().find_map(|source| self.unread.get(source));
        (arns.collect(), unread.cloned())
    }
}

type Learnt = Result<BTreeMap<Source, Option<String>>, CloudError>;

/// Which sources an answer is about.
type Concerns<'a> = &'a dyn Fn(&&Source) -> bool;

async fn configurations(place: &Place, client: &Client, names: &[String]) -> Learnt {
    let call = place.read("autoscaling:DescribeLaunchConfigurations");
    let mut learnt = BTreeMap::new();
    for some in names.chunks(CONFIGURATIONS) {
        let found = pages(&call, |token| async {
            let _permit = place.look().await;
            let request = client.describe_launch_configurations();
            let request = request.set_launch_configuration_names(Some(some.to_vec()));
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.launch_configurations.unwrap_or_default(), page.next_token))
        });
        let found = found.await?.into_iter();
        learnt.extend(found.filter_map(|one| {
            let name = one.launch_configuration_name?;
            Some((
                Source::Configuration(name),
                one.iam_instance_profile.filter(|profile| !profile.is_empty()),
            ))
        }));
    }
    Ok(learnt)
}

/// The latest and the default version of every template in the region.
async fn following(place: &Place) -> Learnt {
    let versions = ["$Latest", "$Default"].map(str::to_owned).to_vec();
    let mut latest: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
    let mut learnt = BTreeMap::new();
    for version in versions_of(place, None, versions).await? {
        let profile = profile_of(&version);
        let Some(id) = version.launch_template_id else { continue };
        if version.default_version == Some(true) {
            learnt.insert(Source::Template(id.clone(), "$Default".to_owned()), profile.clone());
        }
        let number = version.version_number.unwrap_or(0);
        if latest.get(&id).is_none_or(|(other, _)| *other < number) {
            latest.insert(id, (number, profile));
        }
    }
    let latest = latest.into_iter();
    learnt.extend(latest.map(|(id, (_, profile))| (Source::Template(id, "$Latest".to_owned()), profile)));
    Ok(learnt)
}

/// What was learnt, and why the rest was not: one that cannot be learnt keeps nobody from the others.
async fn by_number(
    place: &Place,
    templates: BTreeMap<String, Vec<String>>,
) -> (BTreeMap<Source, Option<String>>, BTreeMap<Source, String>) {
    let mut questions = Vec::new();
    for (id, versions) in &templates {
        questions.extend(versions.chunks(VERSIONS).map(|some| async move {
            let found = versions_that_are(place, id, some).await;
            (id, some, found)
        }));
    }
    let answers: Vec<_> = stream::iter(questions).buffer_unordered(place.parallel).collect().await;
    let (mut found, mut failed) = (BTreeMap::new(), BTreeMap::new());
    for (id, asked, answer) in answers {
        match answer {
            Ok(versions) => found.extend(versions.into_iter().filter_map(|one| {
                let profile = profile_of(&one);
                let number = one.version_number?.to_string();
                Some((Source::Template(one.launch_template_id?, number), profile))
            })),
            Err(error) => {
                unknown(place, &error);
                let sources = asked
                    .iter()
                    .map(|version| Source::Template(id.clone(), version.clone()));
                failed.extend(sources.map(|source| (source, error.to_string())));
            }
        }
    }
    (found, failed)
}

/// Those of some versions of a template that are there: nothing is launched from one that was deleted, and a
/// question that names it is refused as a whole.
async fn versions_that_are(
    place: &Place,
    template: &String,
    versions: &[String],
) -> Result<Vec<LaunchTemplateVersion>, CloudError> {
    match versions_of(place, Some(template), versions.to_vec()).await {
        Err(error) if is_gone(&error) && versions.len() > 1 => {
            let mut found = Vec::new();
            for version in versions {
                match versions_of(place, Some(template), vec![version.clone()]).await {
                    Err(error) if is_gone(&error) => {}
                    answer => found.extend(answer?),
                }
            }
            Ok(found)
        }
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        answer => answer,
    }
}

/// There is no such template, or no such version of it.
fn is_gone(error: &CloudError) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    code.starts_with("InvalidLaunchTemplate") && code.contains("NotFound")
}

fn unknown(place: &Place, error: &CloudError) {
    tracing::warn!(
        region = %place.region, %error,
        "the instance profiles of some groups are unknown; whose such a group is, its tags and its maker may tell"
    );
}

async fn versions_of(
    place: &Place,
    template: Option<&String>,
    versions: Vec<String>,
) -> Result<Vec<LaunchTemplateVersion>, CloudError> {
    let call = place.read("ec2:DescribeLaunchTemplateVersions");
    // EC2 gives no more than this in a page.
    let size = i32::try_from(VERSIONS).unwrap_or(200);
    let all = pages(&call, |token| async {
        let _permit = place.look().await;
        let request = place.ec2.looks().describe_launch_template_versions().max_results(size);
        let request = request
            .set_launch_template_id(template.cloned())
            .set_versions(Some(versions.clone()));
        let page = request.set_next_token(token).send().await;
        let page = page.map_err(|e| call.failed(e))?;
        Ok((page.launch_template_versions.unwrap_or_default(), page.next_token))
    });
    all.await
}

fn profile_of(version: &LaunchTemplateVersion) -> Option<String> {
    let profile = version.launch_template_data()?.iam_instance_profile()?;
    let profile = profile.arn().or(profile.name())?;
    (!profile.is_empty()).then(|| profile.to_owned())
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::{LaunchTemplate, LaunchTemplateOverrides, MixedInstancesPolicy};

    use super::*;

    #[test]
    fn a_group_launches_from_all_that_it_names() {
        let template = |id: &str, version: Option<&str>| {
            let named = LaunchTemplateSpecification::builder().launch_template_id(id);
            named.set_version(version.map(str::to_owned)).build()
        };
        let of = |id: &str, version: &str| Source::Template(id.to_owned(), version.to_owned());
        let plain = AutoScalingGroup::builder().launch_configuration_name("old");
        assert_eq!(
            Source::of(&plain.build()),
            BTreeSet::from([Source::Configuration("old".to_owned())])
        );
        let plain = AutoScalingGroup::builder().launch_template(template("lt-1", None));
        assert_eq!(Source::of(&plain.build()), BTreeSet::from([of("lt-1", "$Default")]));
        let arm = LaunchTemplateOverrides::builder().launch_template_specification(template("lt-3", Some("$Latest")));
        let mixed = LaunchTemplate::builder().launch_template_specification(template("lt-2", Some("7")));
        let mixed = mixed
            .overrides(LaunchTemplateOverrides::builder().build())
            .overrides(arm.build());
        let policy = MixedInstancesPolicy::builder().launch_template(mixed.build()).build();
        let group = AutoScalingGroup::builder().mixed_instances_policy(policy).build();
        assert_eq!(
            Source::of(&group),
            BTreeSet::from([of("lt-2", "7"), of("lt-3", "$Latest")])
        );
        assert_eq!(Source::of(&AutoScalingGroup::builder().build()), BTreeSet::new());
    }

    #[test]
    fn a_profile_by_name_is_of_the_groups_account() {
        let whole = "arn:aws:iam::123456789012:instance-profile/agents/a";
        assert_eq!(arn(whole, None), whole);
        let group = "arn:aws-cn:autoscaling:cn-north-1:123456789012:autoScalingGroup:id:autoScalingGroupName/g";
        assert_eq!(arn("a", Some(group)), "arn:aws-cn:iam::123456789012:instance-profile/a");
    }
}
