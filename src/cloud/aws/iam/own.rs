//! IAM's simulation of our own permissions, for drills: may we do this, on that, as it is tagged.
//!
//! The simulation is limited harder than other reads, so what can be asked together is: all actions on the
//! same things, so many things at a time.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, PolicyEvaluationDecisionType};

use super::{Iam, MAX_PAGES};
use crate::cloud::aws::error::Call;
use crate::ports::{CloudError, Permission};

/// ARNs in one question.
const RESOURCES: usize = 50;

/// Questions that can be asked together: the same things, in the same light.
type Question<'a> = (&'a BTreeMap<String, String>, Vec<&'a str>);

impl Iam {
    /// What the simulation says of each, in their order; `None` of one that it did not mention.
    pub(in crate::cloud::aws) async fn simulate_each(
        &self,
        us: &str,
        asked: &[Permission],
    ) -> Result<Vec<Option<bool>>, CloudError> {
        let mut said: BTreeMap<(String, String, &BTreeMap<String, String>), bool> = BTreeMap::new();
        for ((context, resources), actions) in questions(asked) {
            for some in resources.chunks(RESOURCES) {
                for (action, resource, allowed) in self.ask(us, &actions, some, context).await? {
                    said.insert((action, resource, context), allowed);
                }
            }
        }
        let of = |one: &Permission| {
            said.get(&(one.action.clone(), one.resource.clone(), &one.context))
                .copied()
        };
        Ok(asked.iter().map(of).collect())
    }

    async fn ask(
        &self,
        us: &str,
        actions: &[&str],
        resources: &[&str],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<(String, String, bool)>, CloudError> {
        let call = Call::read("iam:SimulatePrincipalPolicy");
        let _permit = self.permit().await;
        let owned = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
        let context: Vec<ContextEntry> = context
            .iter()
            .map(|(key, value)| {
                ContextEntry::builder()
                    .context_key_name(key)
                    .context_key_type(ContextKeyTypeEnum::String)
                    .context_key_values(value)
                    .build()
            })
            .collect();
        let mut answers = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.simulate_principal_policy().policy_source_arn(us);
            let request = request.set_action_names(owned(actions)).set_marker(marker);
            let request = request
                .set_resource_arns(owned(resources))
                .set_context_entries((!context.is_empty()).then(|| context.clone()));
            let page = request.send().await.map_err(|e| call.failed(e))?;
            for result in page.evaluation_results.unwrap_or_default() {
                let is_allowed =
                    |decision: &PolicyEvaluationDecisionType| *decision == PolicyEvaluationDecisionType::Allowed;
                let action = result.eval_action_name().to_owned();
                if let Some(resource) = result.eval_resource_name() {
                    let allowed = is_allowed(result.eval_decision());
                    answers.push((action.clone(), resource.to_owned(), allowed));
                }
                // Where it tells them apart, that is the better word.
                for one in result.resource_specific_results() {
                    let allowed = is_allowed(one.eval_resource_decision());
                    answers.push((action.clone(), one.eval_resource_name().to_owned(), allowed));
                }
            }
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                return Ok(answers);
            }
        }
        Err(call.nonsense(format!("the answer does not end after {MAX_PAGES} pages")))
    }
}

/// As few questions as there can be: actions on the same things are asked about together.
fn questions(asked: &[Permission]) -> BTreeMap<Question<'_>, Vec<&str>> {
    let mut by_action: BTreeMap<(&str, &BTreeMap<String, String>), BTreeSet<&str>> = BTreeMap::new();
    for one in asked {
        let of_action = by_action.entry((&one.action, &one.context)).or_default();
        of_action.insert(&one.resource);
    }
    let mut questions: BTreeMap<Question<'_>, Vec<&str>> = BTreeMap::new();
    for ((action, context), resources) in by_action {
        let question = (context, resources.into_iter().collect());
        questions.entry(question).or_default().push(action);
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_on_the_same_things_are_one_question() {
        let one = |action: &str, resource: &str, tag: &str| Permission {
            action: action.to_owned(),
            resource: resource.to_owned(),
            context: BTreeMap::from([("aws:ResourceTag/backstop:agent".to_owned(), tag.to_owned())]),
        };
        let asked = [
            one("cap", "g1", "a"),
            one("cap", "g2", "a"),
            one("uncap", "g1", "a"),
            one("uncap", "g2", "a"),
            one("cap", "g3", "b"),
            one("reserve", "f", "a"),
        ];
        let questions: BTreeSet<(usize, usize)> = questions(&asked)
            .into_iter()
            .map(|((_, resources), actions)| (resources.len(), actions.len()))
            .collect();
        assert_eq!(questions, [(1, 1), (2, 2)].into());
    }
}
