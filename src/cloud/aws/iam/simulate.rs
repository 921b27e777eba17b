//! IAM's own simulation of what a principal may do.

use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, EvaluationResult, PolicyEvaluationDecisionType as Said};

use super::{Iam, MAX_PAGES};
use crate::cloud::aws::error::Call;
use crate::domain::containment::observed::Simulated;
use crate::domain::containment::target::Principal;
use crate::domain::iam::simulation::{Decision, Key, KeyKind, Question, Ruling};
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
                allowed: result.eval_decision == Said::Allowed,
            }));
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                return Ok(answers);
            }
        }
        Err(call.nonsense(format!("the answer does not end after {MAX_PAGES} pages")))
    }

    /// The rulings on one question. They come page by page, each action once.
    pub(in crate::cloud::aws) async fn rule(
        &self,
        principal: &Principal,
        question: &Question,
    ) -> Result<Vec<Ruling>, CloudError> {
        let call = Call::read("iam:SimulatePrincipalPolicy");
        let _place = self.questions.acquire().await.ok();
        let mut rulings = Vec::with_capacity(question.actions.len());
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.simulate_principal_policy().set_marker(marker);
            let request = request
                .policy_source_arn(principal.arn())
                .set_action_names(Some(question.actions.clone()))
                .resource_arns(&question.resource);
            let request = question
                .keys
                .iter()
                .fold(request, |request, key| request.context_entries(entry(key)));
            let page = request.send().await.map_err(|e| call.failed(e))?;
            rulings.extend(page.evaluation_results.unwrap_or_default().into_iter().map(ruling));
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                return Ok(rulings);
            }
        }
        Err(call.nonsense(format!("the answer does not end after {MAX_PAGES} pages")))
    }
}

fn entry(key: &Key) -> ContextEntry {
    let kind = match key.kind {
        KeyKind::Text => ContextKeyTypeEnum::String,
        KeyKind::Boolean => ContextKeyTypeEnum::Boolean,
    };
    ContextEntry::builder()
        .context_key_name(&key.name)
        .context_key_values(&key.value)
        .context_key_type(kind)
        .build()
}

/// Of one resource, so that what is said of all resources is said of it. What is missing is told there or here.
fn ruling(result: EvaluationResult) -> Ruling {
    let decision = match result.eval_decision {
        Said::Allowed => Decision::Allowed,
        Said::ExplicitDeny => Decision::Denied,
        // One that is not known yet allows nothing that we could rely on.
        _ => Decision::NotAllowed,
    };
    let specific = result.resource_specific_results.unwrap_or_default();
    let mut missing_keys = result.missing_context_values.unwrap_or_default();
    let boundary = result.permissions_boundary_decision_detail.or_else(|| {
        let mut details = specific.iter();
        details.find_map(|one| one.permissions_boundary_decision_detail.clone())
    });
    missing_keys.extend(
        specific
            .into_iter()
            .flat_map(|one| one.missing_context_values.unwrap_or_default()),
    );
    missing_keys.sort();
    missing_keys.dedup();
    let statements = result.matched_statements.unwrap_or_default().into_iter();
    let mut by: Vec<String> = statements.filter_map(|one| one.source_policy_id).collect();
    by.dedup();
    Ruling {
        action: result.eval_action_name,
        decision,
        by,
        boundary_allows: boundary.map(|detail| detail.allowed_by_permissions_boundary),
        organisation_allows: result
            .organizations_decision_detail
            .map(|detail| detail.allowed_by_organizations),
        missing_keys,
    }
}
