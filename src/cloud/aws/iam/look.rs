//! What a sweep reads of a principal: whether it is there, both denies, its credentials, its profiles.

use aws_sdk_iam::types::{AttachedPermissionsBoundary, StatusType};

use super::{Iam, MAX_PAGES, decode, found, same, trust};
use crate::cloud::aws::error::Call;
use crate::domain::containment::observed::{AccessKey, Blind, PrincipalState, ServiceCredential};
use crate::domain::containment::target::Principal;
use crate::ports::{CloudError, Retry};

impl Iam {
    pub(in crate::cloud::aws) async fn principal(
        &self,
        principal: &Principal,
        policy: &str,
    ) -> Result<PrincipalState, CloudError> {
        let mut state = PrincipalState::absent(principal.clone());
        let name = principal.name();
        let attached;
        match principal {
            Principal::Role(arn) => {
                let Some((trust, boundary)) = self.role_trust(arn, name).await? else {
                    return Ok(state);
                };
                state.boundary = boundary;
                state.trusted = trust::trusted(&trust);
                // The deny waits for no list of where the role is carried.
                let profiles = async { Ok(self.profiles(name).await) };
                let listed;
                (state.deny_document, attached, listed) = tokio::try_join!(
                    self.role_policy(name, policy),
                    self.attached(principal, policy),
                    profiles
                )?;
                (state.profile_arns, state.profiles_unseen) = seen(listed);
            }
            Principal::User(arn) => {
                let Some(boundary) = self.user_boundary(arn, name).await? else {
                    return Ok(state);
                };
                state.boundary = boundary;
                // The deny waits for no list of keys and credentials that it binds anyway.
                let keys = async { Ok(self.access_keys(name).await) };
                let credentials = async { Ok(self.service_credentials(name).await) };
                let (keys_listed, credentials_listed);
                (state.deny_document, attached, keys_listed, credentials_listed) = tokio::try_join!(
                    self.user_policy(name, policy),
                    self.attached(principal, policy),
                    keys,
                    credentials
                )?;
                (state.keys, state.keys_unseen) = seen(keys_listed);
                (state.service_credentials, state.credentials_unseen) = seen(credentials_listed);
            }
        }
        state.deny_attached = attached.is_some();
        state.attached_document = attached;
        state.exists = true;
        Ok(state)
    }

    /// The decoded trust policy of the role, and its boundary; `None` if there is no such role.
    async fn role_trust(&self, arn: &str, name: &str) -> Result<Option<(String, Option<String>)>, CloudError> {
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
        let trust = decode(role.assume_role_policy_document.as_deref().unwrap_or_default());
        Ok(Some((trust, boundary(role.permissions_boundary))))
    }

    /// The user's boundary, if it has one; `None` if there is no such user.
    async fn user_boundary(&self, arn: &str, name: &str) -> Result<Option<Option<String>>, CloudError> {
        let call = Call::read("iam:GetUser");
        let _permit = self.permit().await;
        let answer = self.looks.get_user().user_name(name).send().await;
        let Some(answer) = found(&call, answer)? else {
            return Ok(None);
        };
        let Some(user) = answer.user else {
            return Err(call.nonsense("the answer has no user in it"));
        };
        same(&call, arn, &user.arn)?;
        Ok(Some(boundary(user.permissions_boundary)))
    }

    pub(super) async fn role_policy(&self, name: &str, policy: &str) -> Result<Option<String>, CloudError> {
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

    pub(super) async fn user_policy(&self, name: &str, policy: &str) -> Result<Option<String>, CloudError> {
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

    /// A user's credentials of every service that can still be used. One that has expired cannot, and
    /// cannot be activated either: it is as good as gone.
    async fn service_credentials(&self, user: &str) -> Result<Vec<ServiceCredential>, CloudError> {
        let call = Call::read("iam:ListServiceSpecificCredentials");
        let _permit = self.permit().await;
        let mut credentials = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.list_service_specific_credentials().user_name(user);
            let Some(page) = found(&call, request.set_marker(marker).send().await)? else {
                return Ok(credentials);
            };
            let usable = page.service_specific_credentials.unwrap_or_default().into_iter();
            credentials.extend(
                usable
                    .filter(|one| one.status != StatusType::Expired)
                    .map(|one| ServiceCredential {
                        active: one.status == StatusType::Active,
                        id: one.service_specific_credential_id,
                        service: one.service_name,
                    }),
            );
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                return Ok(credentials);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }
}

/// A part of a look, or why it is missing.
fn seen<T>(listed: Result<Vec<T>, CloudError>) -> (Vec<T>, Option<Blind>) {
    match listed {
        Ok(listed) => (listed, None),
        Err(error) => {
            let refused = error.retry == Retry::Never;
            let why = error.to_string();
            (Vec::new(), Some(Blind { why, refused }))
        }
    }
}

fn boundary(attached: Option<AttachedPermissionsBoundary>) -> Option<String> {
    attached.and_then(|attached| attached.permissions_boundary_arn)
}
