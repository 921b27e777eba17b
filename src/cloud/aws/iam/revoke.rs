//! The inline deny, and the status of keys and service credentials.

use aws_sdk_iam::types::StatusType;

use super::{Iam, found};
use crate::cloud::aws::error::Call;
use crate::domain::containment::target::Principal;
use crate::ports::CloudError;

impl Iam {
    pub(in crate::cloud::aws) async fn put_deny(
        &self,
        principal: &Principal,
        policy: &str,
        document: &str,
    ) -> Result<(), CloudError> {
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

    pub(in crate::cloud::aws) async fn delete_deny(
        &self,
        principal: &Principal,
        policy: &str,
    ) -> Result<(), CloudError> {
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

    pub(in crate::cloud::aws) async fn set_access_key(
        &self,
        user: &str,
        key: &str,
        active: bool,
    ) -> Result<(), CloudError> {
        let call = Call::change("iam:UpdateAccessKey");
        let _permit = self.permit().await;
        let request = self.changes.update_access_key().user_name(user).access_key_id(key);
        request
            .status(status(active))
            .send()
            .await
            .map_err(|e| call.failed(e))?;
        tracing::debug!(user, key, active, "access key set");
        Ok(())
    }

    pub(in crate::cloud::aws) async fn set_service_credential(
        &self,
        user: &str,
        id: &str,
        active: bool,
    ) -> Result<(), CloudError> {
        let call = Call::change("iam:UpdateServiceSpecificCredential");
        let _permit = self.permit().await;
        let request = self.changes.update_service_specific_credential().user_name(user);
        let request = request.service_specific_credential_id(id).status(status(active));
        request.send().await.map_err(|e| call.failed(e))?;
        tracing::debug!(user, id, active, "service credential set");
        Ok(())
    }
}

fn status(active: bool) -> StatusType {
    if active {
        StatusType::Active
    } else {
        StatusType::Inactive
    }
}
