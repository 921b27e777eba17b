//! The account's roles: our own by name, and those that would let an agent become them.

use super::{Iam, MAX_PAGES, decode, trust};
use crate::cloud::aws::error::Call;
use crate::domain::containment::target::Principal;
use crate::ports::CloudError;

/// IAM gives no more roles in one page, and an account has no more than 5,000.
const ROLES_PAGE: i32 = 1_000;

impl Iam {
    /// The whole ARN of the account's role of that name.
    pub(in crate::cloud::aws) async fn role_arn(&self, name: &str) -> Result<String, CloudError> {
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

    /// ARNs of the account's roles that trust one of the principals, sorted. Read generously, as `trust` is.
    pub(in crate::cloud::aws) async fn trusting(&self, principals: &[Principal]) -> Result<Vec<String>, CloudError> {
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
}
