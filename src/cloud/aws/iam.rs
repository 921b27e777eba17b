//! IAM: what a principal may do, and taking it away and giving it back.
//!
//! An inline policy is used because it needs no second object, takes effect on sessions that are already
//! issued, and is gone without a trace once it is deleted. IAM finds principals by name, within our own
//! account; so a principal that is found under the name but with another ARN is refused before anything
//! is written to it.

use aws_config::SdkConfig;
use aws_sdk_iam::Client;
use aws_sdk_iam::config::Builder;
use aws_sdk_iam::config::http::HttpResponse;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::types::StatusType;
use percent_encoding::percent_decode_str;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Call;
use super::once;
use crate::domain::containment::observed::{AccessKey, PrincipalState};
use crate::domain::containment::target::Principal;
use crate::ports::CloudError;

mod trust;

/// No list of IAM's that we read is longer than a few pages; this bounds one that never ends.
const MAX_PAGES: usize = 100;

/// IAM gives no more roles in one page, and an account has no more than 5,000.
const ROLES_PAGE: i32 = 1_000;

#[derive(Debug)]
pub(super) struct Iam {
    looks: Client,
    changes: Client,
    permits: Semaphore,
    /// The one place for the list of roles: the largest read of all takes no place of the denies.
    roles: Semaphore,
}

impl Iam {
    pub(super) fn new(sdk: &SdkConfig, parallel: usize) -> Self {
        Self {
            looks: Client::new(sdk),
            changes: Client::from_conf(Builder::from(sdk).retry_config(once()).build()),
            permits: Semaphore::new(parallel.max(1)),
            roles: Semaphore::new(1),
        }
    }

    /// A place among the calls in flight; it is waited for no longer than those calls take.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes this semaphore; if somebody did, the bound would be gone, not the kill switch.
        self.permits.acquire().await.ok()
    }

    /// The whole ARN of the account's role of that name.
    pub(super) async fn role_arn(&self, name: &str) -> Result<String, CloudError> {
        let call = Call::read("iam:GetRole");
        let _permit = self.permit().await;
        let answer = self
            .looks
            .get_role()
            .role_name(name)
            .send()
            .await
            .map_err(|e| call.failed(e))?;
        match answer.role {
            Some(role) => Ok(role.arn),
            None => Err(call.nonsense("the answer has no role in it")),
        }
    }

    pub(super) async fn principal(&self, principal: &Principal, policy: &str) -> Result<PrincipalState, CloudError> {
        let mut state = PrincipalState {
            principal: principal.clone(),
            exists: false,
            deny_document: None,
            deny_attached: false,
            inline_chars: None,
            service_credentials: Vec::new(),
            keys: Vec::new(),
            profile_arns: Vec::new(),
            trusted: Vec::new(),
        };
        let name = principal.name();
        match principal {
            Principal::Role(arn) => {
                let Some(trust) = self.role_trust(arn, name).await? else {
                    return Ok(state);
                };
                state.trusted = trust::trusted(&trust);
                (state.deny_document, state.profile_arns) =
                    tokio::try_join!(self.role_policy(name, policy), self.profiles(name))?;
            }
            Principal::User(arn) => {
                if !self.user_exists(arn, name).await? {
                    return Ok(state);
                }
                (state.deny_document, state.keys) =
                    tokio::try_join!(self.user_policy(name, policy), self.access_keys(name))?;
            }
        }
        state.exists = true;
        Ok(state)
    }

    /// The decoded trust policy of the role; `None` if there is no such role.
    async fn role_trust(&self, arn: &str, name: &str) -> Result<Option<String>, CloudError> {
        let call = Call::read("iam:GetRole");
        let _permit = self.permit().await;
        let answer = self.looks.get_role().role_name(name).send().await;
        let Some(answer) = found(&call, answer)? else {
            return Ok(None);
        };
        let Some(role) = answer.role else {
            return Err(call.nonsense("the answer has no role in it"));
        };
        same(&call, arn, &role.arn)?;
        Ok(Some(decode(
            role.assume_role_policy_document.as_deref().unwrap_or_default(),
        )))
    }

    async fn user_exists(&self, arn: &str, name: &str) -> Result<bool, CloudError> {
        let call = Call::read("iam:GetUser");
        let _permit = self.permit().await;
        let answer = self.looks.get_user().user_name(name).send().await;
        let Some(answer) = found(&call, answer)? else {
            return Ok(false);
        };
        let Some(user) = answer.user else {
            return Err(call.nonsense("the answer has no user in it"));
        };
        same(&call, arn, &user.arn)?;
        Ok(true)
    }

    async fn role_policy(&self, name: &str, policy: &str) -> Result<Option<String>, CloudError> {
        let call = Call::read("iam:GetRolePolicy");
        let _permit = self.permit().await;
        let answer = self
            .looks
            .get_role_policy()
            .role_name(name)
            .policy_name(policy)
            .send()
            .await;
        Ok(found(&call, answer)?.map(|answer| decode(&answer.policy_document)))
    }

    async fn user_policy(&self, name: &str, policy: &str) -> Result<Option<String>, CloudError> {
        let call = Call::read("iam:GetUserPolicy");
        let _permit = self.permit().await;
        let answer = self
            .looks
            .get_user_policy()
            .user_name(name)
            .policy_name(policy)
            .send()
            .await;
        Ok(found(&call, answer)?.map(|answer| decode(&answer.policy_document)))
    }

    async fn profiles(&self, role: &str) -> Result<Vec<String>, CloudError> {
        let call = Call::read("iam:ListInstanceProfilesForRole");
        let _permit = self.permit().await;
        let mut profiles = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.list_instance_profiles_for_role().role_name(role);
            let Some(page) = found(&call, request.set_marker(marker).send().await)? else {
                return Ok(profiles);
            };
            profiles.extend(page.instance_profiles.into_iter().map(|profile| profile.arn));
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                return Ok(profiles);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }

    async fn access_keys(&self, user: &str) -> Result<Vec<AccessKey>, CloudError> {
        let call = Call::read("iam:ListAccessKeys");
        let _permit = self.permit().await;
        let mut keys = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.list_access_keys().user_name(user);
            let Some(page) = found(&call, request.set_marker(marker).send().await)? else {
                return Ok(keys);
            };
            for key in page.access_key_metadata {
                let active = key.status == Some(StatusType::Active);
                match key.access_key_id {
                    Some(id) => keys.push(AccessKey { id, active }),
                    None => return Err(call.nonsense("the answer has a key without an id")),
                }
            }
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                return Ok(keys);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }

    /// ARNs of the account's roles that trust one of the principals, sorted. Read generously, as `trust` is.
    pub(super) async fn trusting(&self, principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        let call = Call::read("iam:ListRoles");
        let _permit = self.roles.acquire().await.ok();
        let mut roles = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.list_roles().max_items(ROLES_PAGE).set_marker(marker);
            let page = request.send().await.map_err(|e| call.failed(e))?;
            for role in page.roles {
                let policy = decode(role.assume_role_policy_document.as_deref().unwrap_or_default());
                if trust::takes_in(&trust::trusted(&policy), principals) {
                    roles.push(role.arn);
                }
            }
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                roles.sort();
                return Ok(roles);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }

    pub(super) async fn put_deny(&self, principal: &Principal, policy: &str, document: &str) -> Result<(), CloudError> {
        let _permit = self.permit().await;
        let name = principal.name();
        match principal {
            Principal::Role(_) => {
                let request = self.changes.put_role_policy().role_name(name).policy_name(policy);
                let answer = request.policy_document(document).send().await;
                answer.map_err(|e| Call::change("iam:PutRolePolicy").failed(e))?;
            }
            Principal::User(_) => {
                let request = self.changes.put_user_policy().user_name(name).policy_name(policy);
                let answer = request.policy_document(document).send().await;
                answer.map_err(|e| Call::change("iam:PutUserPolicy").failed(e))?;
            }
        }
        tracing::debug!(principal = principal.arn(), policy, "deny put");
        Ok(())
    }

    pub(super) async fn delete_deny(&self, principal: &Principal, policy: &str) -> Result<(), CloudError> {
        let _permit = self.permit().await;
        let name = principal.name();
        match principal {
            Principal::Role(_) => {
                let request = self.changes.delete_role_policy().role_name(name).policy_name(policy);
                found(&Call::change("iam:DeleteRolePolicy"), request.send().await)?;
            }
            Principal::User(_) => {
                let request = self.changes.delete_user_policy().user_name(name).policy_name(policy);
                found(&Call::change("iam:DeleteUserPolicy"), request.send().await)?;
            }
        }
        tracing::debug!(principal = principal.arn(), policy, "deny deleted");
        Ok(())
    }

    pub(super) async fn set_access_key(&self, user: &str, key: &str, active: bool) -> Result<(), CloudError> {
        let status = if active {
            StatusType::Active
        } else {
            StatusType::Inactive
        };
        let call = Call::change("iam:UpdateAccessKey");
        let _permit = self.permit().await;
        let request = self.changes.update_access_key().user_name(user).access_key_id(key);
        request.status(status).send().await.map_err(|e| call.failed(e))?;
        tracing::debug!(user, key, active, "access key set");
        Ok(())
    }
}

/// The answer, or `None` if the entity is not there.
fn found<T, E>(call: &Call, answer: Result<T, SdkError<E, HttpResponse>>) -> Result<Option<T>, CloudError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some("NoSuchEntity") => Ok(None),
        Err(error) => Err(call.failed(error)),
    }
}

/// Names are unique in an account whatever their path, so an ARN that differs is another principal's: the
/// config names one that does not exist, or one of another account.
fn same(call: &Call, asked: &str, answered: &str) -> Result<(), CloudError> {
    if asked == answered {
        return Ok(());
    }
    Err(call.refusal(
        "PrincipalMismatch",
        format!("asked for {asked}, but the account has {answered} under that name; correct the agent's ARN"),
    ))
}

/// IAM returns policies percent-encoded (RFC 3986: a plus is a plus).
fn decode(document: &str) -> String {
    percent_decode_str(document).decode_utf8_lossy().into_owned()
}
