//! IAM's own simulation of what a principal may do.

use aws_sdk_iam::types::PolicyEvaluationDecisionType;

use super::{Iam, MAX_PAGES};
use crate::cloud::aws::error::Call;
use crate::domain::containment::observed::Simulated;
use crate::domain::containment::target::Principal;
use crate::ports::CloudError;

impl Iam {
    pub(in crate::cloud::aws) async fn simulate(
        &self,
        principal: &Principal,
        actions: &[String],
    ) -> Result<Vec<Simulated>, CloudError> {
        let call = Call::read("iam:SimulatePrincipalPolicy");
        let _permit = self.permit().await;
        let mut answers = Vec::with_capacity(actions.len());
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.simulate_principal_policy().set_marker(marker);
            let request = request
                .policy_source_arn(principal.arn())
                .set_action_names(Some(actions.to_vec()));
            let page = request.send().await.map_err(|e| call.failed(e))?;
            let results = page.evaluation_results.unwrap_or_default().into_iter();
            answers.extend(results.map(|result| Simulated {
                action: result.eval_action_name,
                allowed: result.eval_decision == PolicyEvaluationDecisionType::Allowed,
            }));
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                return Ok(answers);
            }
        }
        Err(call.nonsense(format!("the answer does not end after {MAX_PAGES} pages")))
    }
}
