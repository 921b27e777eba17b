//! What the inline policies of a principal take of the room that IAM gives them.

use super::{Iam, MAX_PAGES, found};
use crate::cloud::aws::error::Call;
use crate::domain::containment::deny;
use crate::domain::containment::target::Principal;
use crate::ports::CloudError;

impl Iam {
    /// Characters without white space of its inline policies but for `ours`; a call a policy.
    pub(in crate::cloud::aws) async fn inline_chars(
        &self,
        principal: &Principal,
        ours: &str,
    ) -> Result<usize, CloudError> {
        let name = principal.name();
        let mut sum = 0_usize;
        for policy in self.inline_names(principal).await? {
            if policy == ours {
                continue;
            }
            let document = match principal {
                Principal::Role(_) => self.role_policy(name, &policy).await?,
                Principal::User(_) => self.user_policy(name, &policy).await?,
            };
            sum = sum.saturating_add(document.as_deref().map_or(0, deny::chars));
        }
        Ok(sum)
    }

    async fn inline_names(&self, principal: &Principal) -> Result<Vec<String>, CloudError> {
        let name = principal.name();
        let call = Call::read(match principal {
            Principal::Role(_) => "iam:ListRolePolicies",
            Principal::User(_) => "iam:ListUserPolicies",
        });
        let _permit = self.permit().await;
        let mut names = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let page = match principal {
                Principal::Role(_) => {
                    let request = self.looks.list_role_policies().role_name(name).set_marker(marker);
                    let page = found(&call, request.send().await)?;
                    page.map(|page| (page.policy_names, page.is_truncated, page.marker))
                }
                Principal::User(_) => {
                    let request = self.looks.list_user_policies().user_name(name).set_marker(marker);
                    let page = found(&call, request.send().await)?;
                    page.map(|page| (page.policy_names, page.is_truncated, page.marker))
                }
            };
            let Some((found, is_truncated, next)) = page else {
                return Ok(names);
            };
            names.extend(found);
            marker = next;
            if !is_truncated || marker.is_none() {
                return Ok(names);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }
}
