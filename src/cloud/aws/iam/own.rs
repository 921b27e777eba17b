//! IAM's simulation of our own permissions, for drills: may we do this, on that, as it is tagged.
//!
//! The simulation is limited harder than other reads, so what can be asked together is: all actions on the
//! same things, so many things at a time.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, EvaluationResult, PolicyEvaluationDecisionType};

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
        let mut results = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.looks.simulate_principal_policy().policy_source_arn(us);
            let request = request.set_action_names(owned(actions)).set_marker(marker);
            let request = request
                .set_resource_arns(owned(resources))
                .set_context_entries((!context.is_empty()).then(|| context.clone()));
            let page = request.send().await.map_err(|e| call.failed(e))?;
            results.extend(page.evaluation_results.unwrap_or_default());
            marker = page.marker;
            if !page.is_truncated || marker.is_none() {
                let each = actions.iter().flat_map(|action| said_of(action, resources, &results));
                return Ok(each.collect());
            }
        }
        Err(call.nonsense(format!("the answer does not end after {MAX_PAGES} pages")))
    }
}

/// What the results say of one action on each thing. Asked about several things, IAM's own word on an action is
/// the strictest of all of them: then a yes is one for all, and a no is nobody's in particular.
fn said_of(action: &str, resources: &[&str], results: &[EvaluationResult]) -> Vec<(String, String, bool)> {
    let is_allowed = |decision: &PolicyEvaluationDecisionType| *decision == PolicyEvaluationDecisionType::Allowed;
    let own: Vec<&EvaluationResult> = results.iter().filter(|one| one.eval_action_name() == action).collect();
    let one = |resource: &str, allowed| (action.to_owned(), resource.to_owned(), allowed);
    let specific = own.iter().flat_map(|result| result.resource_specific_results());
    let specific: Vec<_> = specific
        .map(|said| one(said.eval_resource_name(), is_allowed(said.eval_resource_decision())))
        .collect();
    if !specific.is_empty() {
        return specific;
    }
    if let ([result], [resource]) = (own.as_slice(), resources) {
        return vec![one(resource, is_allowed(result.eval_decision()))];
    }
    if own.len() == resources.len() {
        let named = own.iter().filter_map(|result| {
            let resource = result.eval_resource_name()?;
            Some(one(resource, is_allowed(result.eval_decision())))
        });
        return named.collect();
    }
    let all = !own.is_empty() && own.iter().all(|result| is_allowed(result.eval_decision()));
    let yes = resources.iter().filter(|_| all);
    yes.map(|resource| one(resource, true)).collect()
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

    fn result(resource: Option<&str>, decision: PolicyEvaluationDecisionType) -> EvaluationResult {
        let result = EvaluationResult::builder()
            .eval_action_name("cap")
            .eval_decision(decision);
        result
            .set_eval_resource_name(resource.map(str::to_owned))
            .build()
            .unwrap()
    }

    #[test]
    fn a_strict_word_on_all_is_no_word_on_one() {
        use PolicyEvaluationDecisionType::{Allowed, ImplicitDeny};
        let both = ["g1", "g2"];
        let said = |results: &[EvaluationResult]| -> Vec<(String, bool)> {
            let said = said_of("cap", &both, results);
            said.into_iter()
                .map(|(_, resource, allowed)| (resource, allowed))
                .collect()
        };
        let told = |g1, g2| vec![("g1".to_owned(), g1), ("g2".to_owned(), g2)];
        assert_eq!(said(&[result(None, Allowed)]), told(true, true));
        assert_eq!(said(&[result(Some("g1"), ImplicitDeny)]), []);
        assert_eq!(said(&[]), []);
        let each = [result(Some("g1"), Allowed), result(Some("g2"), ImplicitDeny)];
        assert_eq!(said(&each), told(true, false));
        let specific = |name: &str, decision| {
            let one = aws_sdk_iam::types::ResourceSpecificResult::builder().eval_resource_name(name);
            one.eval_resource_decision(decision).build().unwrap()
        };
        let strict = EvaluationResult::builder()
            .eval_action_name("cap")
            .eval_decision(ImplicitDeny)
            .resource_specific_results(specific("g1", Allowed))
            .resource_specific_results(specific("g2", ImplicitDeny));
        assert_eq!(said(&[strict.build().unwrap()]), told(true, false));
    }

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
