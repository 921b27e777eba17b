//! The deny's fallback: a managed policy of our name, below our path, attached where an inline one has no
//! room.
//!
//! There is one in an account for all agents. It is made when it is first needed, its default version is
//! made to say what we say whenever it says something else, and it is deleted once nobody has it. Its path
//! is the guard's: nobody else has any business with a policy of that name there, and the agents'
//! permission boundary keeps them from it. An attachment holds up to its quota of 10, more by request; when
//! that is used up as well, IAM says so, and only a person can make room.

use aws_sdk_iam::types::PolicyVersion;

use super::{Iam, MAX_PAGES, decode, found};
use crate::cloud::aws::error::Call;
use crate::domain::containment::deny;
use crate::domain::containment::target::Principal;
use crate::ports::CloudError;

/// The policy's ARN in the principal's account.
fn policy_arn(call: &Call, principal: &Principal, policy: &str) -> Result<String, CloudError> {
    let mut parts = principal.arn().splitn(6, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("arn"), Some(partition), Some("iam"), Some(""), Some(account)) if !account.is_empty() => Ok(format!(
            "arn:{partition}:iam::{account}:policy{}{policy}",
            deny::POLICY_PATH
        )),
        _ => Err(call.refusal(
            "NoAccount",
            format!("{} does not say which account it is of", principal.arn()),
        )),
    }
}

/// A managed policy as it stands.
struct Found {
    document: String,
    /// Principals that have it, as a policy or as a boundary.
    users: i32,
}

impl Iam {
    /// What the managed policy of our name says, if it is attached to the principal.
    pub(super) async fn attached(&self, principal: &Principal, policy: &str) -> Result<Option<String>, CloudError> {
        let Some(arn) = self.attached_arn(principal, policy).await? else {
            return Ok(None);
        };
        // Detached and deleted between the two looks: then it is not attached.
        Ok(self.managed(&arn).await?.map(|found| found.document))
    }

    async fn attached_arn(&self, principal: &Principal, policy: &str) -> Result<Option<String>, CloudError> {
        let name = principal.name();
        let call = Call::read(match principal {
            Principal::Role(_) => "iam:ListAttachedRolePolicies",
            Principal::User(_) => "iam:ListAttachedUserPolicies",
        });
        let _permit = self.permit().await;
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let page = match principal {
                Principal::Role(_) => {
                    let request = self.looks.list_attached_role_policies().role_name(name);
                    let request = request.path_prefix(deny::POLICY_PATH).set_marker(marker);
                    let page = found(&call, request.send().await)?;
                    page.map(|page| (page.attached_policies, page.is_truncated, page.marker))
                }
                Principal::User(_) => {
                    let request = self.looks.list_attached_user_policies().user_name(name);
                    let request = request.path_prefix(deny::POLICY_PATH).set_marker(marker);
                    let page = found(&call, request.send().await)?;
                    page.map(|page| (page.attached_policies, page.is_truncated, page.marker))
                }
            };
            let Some((attached, is_truncated, next)) = page else {
                return Ok(None);
            };
            let mut attached = attached.unwrap_or_default().into_iter();
            let ours = attached.find(|one| one.policy_name.as_deref() == Some(policy));
            if let Some(ours) = ours {
                return match ours.policy_arn {
                    Some(arn) => Ok(Some(arn)),
                    None => Err(call.nonsense("the answer has a policy without an ARN")),
                };
            }
            marker = next;
            if !is_truncated || marker.is_none() {
                return Ok(None);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }

    /// A managed policy's default version, if there is such a policy.
    async fn managed(&self, arn: &str) -> Result<Option<Found>, CloudError> {
        let call = Call::read("iam:GetPolicy");
        let _permit = self.permit().await;
        let answer = self.looks.get_policy().policy_arn(arn).send().await;
        let Some(answer) = found(&call, answer)? else {
            return Ok(None);
        };
        let Some(policy) = answer.policy else {
            return Err(call.nonsense("the answer has no policy in it"));
        };
        let Some(version) = policy.default_version_id else {
            return Err(call.nonsense("the answer has a policy without a default version"));
        };
        let users = policy
            .attachment_count
            .unwrap_or(1)
            .saturating_add(policy.permissions_boundary_usage_count.unwrap_or(0));
        let call = Call::read("iam:GetPolicyVersion");
        let request = self.looks.get_policy_version().policy_arn(arn).version_id(version);
        let answer = found(&call, request.send().await)?;
        let document = answer
            .and_then(|answer| answer.policy_version)
            .and_then(|version| version.document);
        Ok(document.map(|document| Found {
            document: decode(&document),
            users,
        }))
    }

    pub(in crate::cloud::aws) async fn attach_deny(
        &self,
        principal: &Principal,
        policy: &str,
        document: &str,
    ) -> Result<(), CloudError> {
        let name = principal.name();
        let call = Call::change(match principal {
            Principal::Role(_) => "iam:AttachRolePolicy",
            Principal::User(_) => "iam:AttachUserPolicy",
        });
        let arn = policy_arn(&call, principal, policy)?;
        match self.managed(&arn).await? {
            Some(found) if deny::same(&found.document, document) => {}
            Some(_) => self.put_version(&arn, document).await?,
            None => self.create(policy, document).await?,
        }
        let _permit = self.permit().await;
        match principal {
            Principal::Role(_) => {
                let request = self.changes.attach_role_policy().role_name(name).policy_arn(&arn);
                request.send().await.map_err(|e| call.failed(e))?;
            }
            Principal::User(_) => {
                let request = self.changes.attach_user_policy().user_name(name).policy_arn(&arn);
                request.send().await.map_err(|e| call.failed(e))?;
            }
        }
        tracing::debug!(principal = principal.arn(), policy, "deny attached");
        Ok(())
    }

    async fn create(&self, policy: &str, document: &str) -> Result<(), CloudError> {
        let call = Call::change("iam:CreatePolicy");
        let _permit = self.permit().await;
        let request = self.changes.create_policy().path(deny::POLICY_PATH).policy_name(policy);
        match request
            .policy_document(document)
            .send()
            .await
            .map_err(|e| call.failed(e))
        {
            // Made meanwhile, for another principal; what it says is read back by the next sweep.
            Err(error) if error.code.as_deref() == Some("EntityAlreadyExists") => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    /// Makes the policy say what we say. IAM keeps five versions: the oldest that is not in force goes if
    /// there is no room for one more.
    async fn put_version(&self, arn: &str, document: &str) -> Result<(), CloudError> {
        let put = async || {
            let _permit = self.permit().await;
            let request = self.changes.create_policy_version().policy_arn(arn);
            let request = request.policy_document(document).set_as_default(true);
            let answer = request.send().await;
            answer.map_err(|e| Call::change("iam:CreatePolicyVersion").failed(e))
        };
        match put().await {
            Err(error) if error.code.as_deref() == Some(deny::NO_ROOM) => {
                let spare = self.spare_versions(arn).await?;
                let oldest = spare
                    .into_iter()
                    .min_by_key(|version| version.create_date.map(|at| at.secs()));
                if let Some(id) = oldest.and_then(|version| version.version_id) {
                    self.delete_version(arn, &id).await?;
                }
                put().await.map(|_| ())
            }
            answer => answer.map(|_| ()),
        }
    }

    /// The versions that are not in force.
    async fn spare_versions(&self, arn: &str) -> Result<Vec<PolicyVersion>, CloudError> {
        let call = Call::read("iam:ListPolicyVersions");
        let _permit = self.permit().await;
        // There are five at most: one page.
        let answer = self.looks.list_policy_versions().policy_arn(arn).send().await;
        let versions = found(&call, answer)?.and_then(|page| page.versions);
        let versions = versions.unwrap_or_default().into_iter();
        Ok(versions.filter(|version| !version.is_default_version).collect())
    }

    async fn delete_version(&self, arn: &str, version: &str) -> Result<(), CloudError> {
        let call = Call::change("iam:DeletePolicyVersion");
        let _permit = self.permit().await;
        let request = self.changes.delete_policy_version().policy_arn(arn).version_id(version);
        found(&call, request.send().await)?;
        Ok(())
    }

    pub(in crate::cloud::aws) async fn detach_deny(
        &self,
        principal: &Principal,
        policy: &str,
    ) -> Result<(), CloudError> {
        let name = principal.name();
        let call = Call::change(match principal {
            Principal::Role(_) => "iam:DetachRolePolicy",
            Principal::User(_) => "iam:DetachUserPolicy",
        });
        let arn = policy_arn(&call, principal, policy)?;
        {
            let _permit = self.permit().await;
            match principal {
                Principal::Role(_) => {
                    let request = self.changes.detach_role_policy().role_name(name).policy_arn(&arn);
                    found(&call, request.send().await)?;
                }
                Principal::User(_) => {
                    let request = self.changes.detach_user_policy().user_name(name).policy_arn(&arn);
                    found(&call, request.send().await)?;
                }
            }
        }
        tracing::debug!(principal = principal.arn(), policy, "deny detached");
        self.delete_unused(&arn).await
    }

    /// Deletes the policy if nobody has it and it says what we say. One whose last user IAM still counts
    /// stays: it takes no room of anybody's and serves the next containment.
    async fn delete_unused(&self, arn: &str) -> Result<(), CloudError> {
        match self.managed(arn).await? {
            Some(found) if found.users == 0 && deny::is_ours(&found.document) => {}
            _ => return Ok(()),
        }
        for version in self.spare_versions(arn).await? {
            if let Some(id) = version.version_id {
                self.delete_version(arn, &id).await?;
            }
        }
        let call = Call::change("iam:DeletePolicy");
        let _permit = self.permit().await;
        let answer = self.changes.delete_policy().policy_arn(arn).send().await;
        match found(&call, answer) {
            // Attached to somebody meanwhile.
            Err(error) if error.code.as_deref() == Some("DeleteConflict") => Ok(()),
            answer => answer.map(|_| ()),
        }
    }
}
