//! The fleet behind the `Cloud` port, with its faults.

use std::time::Duration;

use async_trait::async_trait;

use super::faults::Fate;
use super::people::Refusal;
use super::world::{Verb, World};
use super::{Call, Rehearsal, State};
use crate::domain::containment::deny;
use crate::domain::containment::observed::{
    BatchResult, Identity, Instance, InstanceState, PrincipalState, Refused, Simulated,
};
use crate::domain::containment::state::Action;
use crate::domain::containment::target::{Principal, Region, Resource};
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;
use crate::ports::Health;
use crate::ports::{Asking, Cloud, CloudError, InstanceFilter, LookUp, Permission, Recorded, Retry};
use std::collections::BTreeMap;

/// How AWS names the listing of a kind.
fn listing_of(kind: &Kind) -> &'static str {
    match kind.as_str() {
        "group" => "autoscaling:DescribeAutoScalingGroups",
        "ecs-service" => "ecs:DescribeServices",
        "ecs-task" => "ecs:DescribeTasks",
        "function" => "lambda:ListFunctions",
        "volume" => "ec2:DescribeVolumes",
        "nat" => "ec2:DescribeNatGateways",
        "address" => "ec2:DescribeAddresses",
        "balancer" => "elasticloadbalancing:DescribeLoadBalancers",
        _ => "the listing of assets",
    }
}

/// How AWS names the change that halts a kind.
fn change_of(kind: &Kind) -> &'static str {
    match kind.as_str() {
        "group" => "autoscaling:SuspendProcesses",
        "ecs-service" => "ecs:UpdateService",
        "function" => "lambda:PutFunctionConcurrency",
        _ => "the change of settings",
    }
}

/// How AWS names the permission that a change needs.
fn permission_of(asking: &Asking<'_>) -> String {
    let kind = match asking.resource {
        Resource::Asset { asset } => change_of(&asset.kind),
        _ => "",
    };
    match asking.action {
        Action::StopInstance => "ec2:StopInstances",
        Action::StartInstance => "ec2:StartInstances",
        Action::TerminateInstance => "ec2:TerminateInstances",
        Action::Cap => kind,
        Action::End => "ecs:StopTask",
        Action::Uncap if kind == "autoscaling:SuspendProcesses" => "autoscaling:ResumeProcesses",
        Action::Uncap if kind == "lambda:PutFunctionConcurrency" => "lambda:DeleteFunctionConcurrency",
        Action::Uncap => kind,
        Action::PutDeny => "iam:PutRolePolicy",
        Action::LiftDeny => "iam:DeleteRolePolicy",
        Action::AttachDeny => "iam:AttachRolePolicy",
        Action::DetachDeny => "iam:DetachRolePolicy",
        Action::DeactivateKey | Action::ActivateKey => "iam:UpdateAccessKey",
        Action::DeactivateCredential | Action::ActivateCredential => "iam:UpdateServiceSpecificCredential",
    }
    .to_owned()
}

/// A call as it is made: what it is named, where it goes, what it is about.
#[derive(Clone)]
struct Request {
    operation: &'static str,
    region: Option<Region>,
    subjects: Vec<String>,
    changes: bool,
    /// The kind that it lists.
    listed: Option<Kind>,
}

impl Request {
    fn read(operation: &'static str, region: Option<&Region>, subjects: Vec<String>) -> Self {
        Self {
            operation,
            region: region.cloned(),
            subjects,
            changes: false,
            listed: None,
        }
    }

    fn change(operation: &'static str, region: Option<&Region>, subjects: Vec<String>) -> Self {
        Self {
            changes: true,
            ..Self::read(operation, region, subjects)
        }
    }

    fn refusal(&self, refused: &Refused) -> CloudError {
        let retry = if refused.transient {
            Retry::Transient
        } else {
            Retry::Never
        };
        self.error(&refused.code, &refused.message, retry)
    }

    fn error(&self, code: &str, message: &str, retry: Retry) -> CloudError {
        CloudError {
            operation: self.operation,
            region: self.region.clone(),
            code: (!code.is_empty()).then(|| code.to_owned()),
            message: message.to_owned(),
            retry,
            source: None,
        }
    }
}

impl Rehearsal {
    /// Makes one call: it takes its time, may fail before it is applied, or lose its reply after.
    async fn call<T>(
        &self,
        request: Request,
        apply: impl FnOnce(&mut World, &Fate, jiff::Timestamp) -> Result<T, CloudError> + Send,
    ) -> Result<T, CloudError> {
        let fate = {
            let mut state = self.lock();
            let call = Call {
                at: self.clock.now(),
                operation: request.operation,
                region: request.region.clone(),
                subjects: request.subjects.clone(),
                changes: request.changes,
            };
            state.note(call);
            state.faults.draw(request.region.as_ref(), request.listed.as_ref())
        };
        if fate.hangs {
            // Nobody answers; the caller's own time limit ends it.
            loop {
                self.clock.sleep(Duration::from_secs(3600)).await;
            }
        }
        if !fate.delay.is_zero() {
            self.clock.sleep(fate.delay).await;
        }
        if fate.is_down {
            return Err(request.error("ServiceUnavailable", "the endpoint is down", Retry::Transient));
        }
        if fate.throttled {
            return Err(request.error("RequestLimitExceeded", "request limit exceeded", Retry::Transient));
        }
        if fate.fails {
            return Err(request.error("InternalError", "an internal error has occurred", Retry::Transient));
        }
        let now = self.clock.now();
        let State { world, .. } = &mut *self.lock();
        let answer = apply(world, &fate, now)?;
        if fate.reply_lost && request.changes {
            return Err(request.error("", "the connection was reset", Retry::UnknownOutcome));
        }
        Ok(answer)
    }

    async fn each(
        &self,
        operation: &'static str,
        verb: Verb,
        region: &Region,
        ids: &[String],
    ) -> Result<BatchResult, CloudError> {
        let request = Request::change(operation, Some(region), ids.to_vec());
        self.call(request, |world, _, now| {
            let is_down = |id: &&String| {
                let machine = world.machines.get(*id);
                machine.is_some_and(|m| matches!(m.seen.state, InstanceState::Stopping | InstanceState::Stopped))
            };
            let down: Vec<String> = match verb {
                Verb::Stop => ids.iter().filter(is_down).cloned().collect(),
                _ => Vec::new(),
            };
            let mut result = sorted(ids, |id| world.ask(verb, region, id, now));
            result.already = down.into_iter().filter(|id| result.accepted.contains(id)).collect();
            Ok(result)
        })
        .await
    }
}

/// A refusal as IAM writes it.
fn refuser(request: &Request) -> impl Fn(Refusal) -> CloudError + Send + 'static {
    let nobody = (request.operation, "NoSuchEntity", "there is no such role or user");
    let no_room = (request.operation, deny::NO_ROOM, "cannot exceed quota");
    move |refusal| {
        let (operation, code, message) = match refusal {
            Refusal::Nobody => nobody,
            Refusal::NoRoom => no_room,
        };
        CloudError {
            operation,
            region: None,
            code: Some(code.to_owned()),
            message: message.to_owned(),
            retry: Retry::Never,
            source: None,
        }
    }
}

fn sorted(ids: &[String], mut ask: impl FnMut(&str) -> Result<(), Refused>) -> BatchResult {
    let mut result = BatchResult::default();
    for id in ids {
        match ask(id) {
            Ok(()) => result.accepted.push(id.clone()),
            Err(refused) => result.refused.push((id.clone(), refused)),
        }
    }
    result
}

fn matches(instance: &Instance, filter: &InstanceFilter) -> bool {
    match filter {
        InstanceFilter::All => true,
        InstanceFilter::Tags(tags) => tags.iter().any(|(key, value)| instance.tags.get(key) == Some(value)),
        InstanceFilter::Profiles(arns) => instance.profile_arn.as_ref().is_some_and(|arn| arns.contains(arn)),
        InstanceFilter::Ids(ids) => ids.contains(&instance.id),
        InstanceFilter::Groups(names) => instance.group.as_ref().is_some_and(|group| names.contains(group)),
    }
}

#[async_trait]
impl Cloud for Rehearsal {
    async fn identity(&self) -> Result<Identity, CloudError> {
        let request = Request::read("sts:GetCallerIdentity", None, Vec::new());
        let down = request.error("ServiceUnavailable", "the endpoint is down", Retry::Transient);
        if self.lock().faults.sts_down {
            return Err(down);
        }
        self.call(request, |world, _, _| {
            Ok(Identity {
                account: world.account.clone(),
                arn: world.identity.clone(),
            })
        })
        .await
    }

    async fn credentials_mark(&self) -> Option<String> {
        let state = self.lock();
        Some(format!(
            "rehearsal {} {}",
            state.world.identity, state.world.credentials
        ))
    }

    async fn regions(&self) -> Result<Vec<Region>, CloudError> {
        let request = Request::read("ec2:DescribeRegions", None, Vec::new());
        let down = request.error("ServiceUnavailable", "the endpoint is down", Retry::Transient);
        if self.lock().faults.unlisted {
            return Err(down);
        }
        self.call(request, |world, _, _| Ok(world.regions.clone())).await
    }

    async fn instances(&self, region: &Region, filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError> {
        let request = Request::read("ec2:DescribeInstances", Some(region), Vec::new());
        self.call(request, |world, fate, now| {
            let mut listing = world.listing(region, fate.stale, now);
            listing.retain(|instance| matches(instance, filter));
            Ok(listing)
        })
        .await
    }

    async fn stop_protection(&self, region: &Region, instance: &str) -> Result<bool, CloudError> {
        let request = Request::read("ec2:DescribeInstanceAttribute", Some(region), vec![instance.to_owned()]);
        let missing = request.error(
            "InvalidInstanceID.NotFound",
            "the instance does not exist",
            Retry::Never,
        );
        self.call(request, |world, _, _| {
            world
                .machines
                .get(instance)
                .map(|machine| machine.protected)
                .ok_or(missing)
        })
        .await
    }

    async fn principal(&self, principal: &Principal, _policy_name: &str) -> Result<PrincipalState, CloudError> {
        let request = Request::read("iam:GetRole", None, vec![principal.arn().to_owned()]);
        self.call(request, |world, fate, now| {
            Ok(world.people.look(principal, fate.stale, now))
        })
        .await
    }

    async fn put_deny(&self, principal: &Principal, _policy_name: &str, document: &str) -> Result<(), CloudError> {
        let request = Request::change("iam:PutRolePolicy", None, vec![principal.arn().to_owned()]);
        let refused = refuser(&request);
        self.call(request, |world, _, now| {
            let put = world.people.set_inline(principal, Some(document.to_owned()), now);
            put.map_err(refused)
        })
        .await
    }

    async fn delete_deny(&self, principal: &Principal, _policy_name: &str) -> Result<(), CloudError> {
        let request = Request::change("iam:DeleteRolePolicy", None, vec![principal.arn().to_owned()]);
        self.call(request, |world, _, now| {
            // Nobody has no policy either.
            let _ = world.people.set_inline(principal, None, now);
            Ok(())
        })
        .await
    }

    async fn inline_chars(&self, principal: &Principal, _policy_name: &str) -> Result<usize, CloudError> {
        let request = Request::read("iam:ListRolePolicies", None, vec![principal.arn().to_owned()]);
        self.call(request, |world, _, _| {
            let person = world.people.get_mut(principal);
            Ok(person.map_or(0, |person| person.inline_chars))
        })
        .await
    }

    async fn set_access_key(&self, user: &str, key_id: &str, active: bool) -> Result<(), CloudError> {
        let request = Request::change("iam:UpdateAccessKey", None, vec![format!("{user}/{key_id}")]);
        let missing = request.error("NoSuchEntity", "there is no such access key", Retry::Never);
        self.call(request, |world, _, _| {
            let key = world.people.key_mut(Some(user), key_id);
            key.map(|key| key.active = active).ok_or(missing)
        })
        .await
    }

    async fn trusting(&self, principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        let request = Request::read("iam:ListRoles", None, Vec::new());
        self.call(request, |world, _, _| {
            let trusts = |arn: &String| principals.iter().any(|principal| principal.arn() == arn);
            let people = world.people.iter();
            Ok(people
                .filter(|(_, person)| person.trusted.iter().any(trusts))
                .map(|(principal, _)| principal.arn().to_owned())
                .collect())
        })
        .await
    }

    async fn stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.each("ec2:StopInstances", Verb::Stop, region, ids).await
    }

    async fn start(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.each("ec2:StartInstances", Verb::Start, region, ids).await
    }

    async fn may_stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        let request = Request::read("ec2:StopInstances (DryRun)", Some(region), ids.to_vec());
        self.call(request, |world, _, _| {
            Ok(sorted(ids, |id| world.may(Verb::Stop, region, id)))
        })
        .await
    }

    async fn terminate(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.each("ec2:TerminateInstances", Verb::Terminate, region, ids).await
    }

    async fn attach_deny(&self, principal: &Principal, _policy_name: &str, document: &str) -> Result<(), CloudError> {
        let request = Request::change("iam:AttachRolePolicy", None, vec![principal.arn().to_owned()]);
        let refused = refuser(&request);
        self.call(request, |world, _, now| {
            world.people.attach(principal, document, now).map_err(refused)
        })
        .await
    }

    async fn detach_deny(&self, principal: &Principal, _policy_name: &str) -> Result<(), CloudError> {
        let request = Request::change("iam:DetachRolePolicy", None, vec![principal.arn().to_owned()]);
        self.call(request, |world, _, now| {
            world.people.detach(principal, now);
            Ok(())
        })
        .await
    }

    async fn set_service_credential(&self, user: &str, id: &str, active: bool) -> Result<(), CloudError> {
        let subject = vec![format!("{user}/{id}")];
        let request = Request::change("iam:UpdateServiceSpecificCredential", None, subject);
        let missing = request.error("NoSuchEntity", "there is no such credential", Retry::Never);
        self.call(request, |world, _, _| {
            let credential = world.people.service_credential_mut(Some(user), id);
            credential.map(|credential| credential.active = active).ok_or(missing)
        })
        .await
    }

    async fn simulate(&self, principal: &Principal, actions: &[String]) -> Result<Vec<Simulated>, CloudError> {
        let request = Request::read("iam:SimulatePrincipalPolicy", None, vec![principal.arn().to_owned()]);
        let refused = refuser(&request);
        let down = request.error("ServiceUnavailable", "the endpoint is down", Retry::Transient);
        let is_down = self.lock().faults.simulation_down;
        self.call(request, |world, _, _| {
            if is_down {
                return Err(down);
            }
            let said = world.people.simulate(principal, actions);
            said.ok_or_else(|| refused(Refusal::Nobody))
        })
        .await
    }

    fn permission(&self, _us: &str, asking: &Asking<'_>) -> Option<Permission> {
        Some(Permission {
            action: permission_of(asking),
            resource: asking.resource.to_string(),
            context: asking.tags.clone(),
        })
    }

    async fn simulate_each(&self, us: &str, asked: &[Permission]) -> Result<Vec<Option<bool>>, CloudError> {
        let request = Request::read("iam:SimulatePrincipalPolicy", None, vec![us.to_owned()]);
        self.call(request, |world, _, _| {
            let allowed = |one: &Permission| Some(!world.lacking.contains(&one.action));
            Ok(asked.iter().map(allowed).collect())
        })
        .await
    }

    async fn health(&self, region: &Region, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        let request = Request::read("ec2:DescribeInstanceStatus", Some(region), ids.to_vec());
        self.call(request, |world, _, now| {
            let health = ids
                .iter()
                .filter_map(|id| Some((id.clone(), world.health(region, id, now)?)));
            Ok(health.collect())
        })
        .await
    }

    fn kinds(&self) -> Vec<Kind> {
        self.lock().world.kinds()
    }

    async fn assets(&self, region: &Region, kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let request = Request {
            listed: Some(kind.clone()),
            ..Request::read(listing_of(kind), Some(region), Vec::new())
        };
        let unread = self.lock().faults.unread;
        self.call(request, |world, fate, now| {
            let mut assets = world.assets(region, kind, fate.stale, now);
            for asset in assets.iter_mut().filter(|asset| unread && !asset.acts_as.is_empty()) {
                asset.acts_as.clear();
                asset.unread = Some("what it acts with cannot be read".to_owned());
            }
            Ok(assets)
        })
        .await
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        let request = Request::change(change_of(&asset.kind), Some(&asset.region), vec![asset.to_string()]);
        let error = |refused: Refused| request.refusal(&refused);
        self.call(request.clone(), |world, _, now| {
            world.put_settings(asset, settings, now).map_err(error)
        })
        .await
    }

    async fn end(&self, asset: &AssetRef) -> Result<(), CloudError> {
        let request = Request::change("ecs:StopTask", Some(&asset.region), vec![asset.to_string()]);
        let error = |refused: Refused| request.refusal(&refused);
        self.call(request.clone(), |world, _, now| world.end(asset, now).map_err(error))
            .await
    }

    async fn creations(&self, region: &Region, wanted: &LookUp<'_>) -> Result<Recorded, CloudError> {
        let request = Request::read("cloudtrail:LookupEvents", Some(region), Vec::new());
        let denied = request.error("AccessDeniedException", "not authorized to perform this", Retry::Never);
        if self.lock().faults.record_down {
            return Err(denied);
        }
        self.call(request, |world, _, now| Ok(world.recorded(region, wanted, now)))
            .await
    }

    async fn list_prices(
        &self,
        region: &Region,
        rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError> {
        let request = Request::read("pricing:GetProducts", Some(region), Vec::new());
        self.call(request, |world, _, _| Ok(world.list(rates))).await
    }
}
