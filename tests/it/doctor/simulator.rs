//! IAM's policy simulator, as far as the doctor asks it: answers by the real policies that it is given,
//! evaluated on exactly what a request names, in the form that the API documents.
//!
//! The emulator's own simulation knows no conditions. This one knows what the shipped policies use, and a
//! key that a question does not give does not exist for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::harness::fault_proxy::{Asked, Fault};
use crate::harness::policy::{Policy, Request, Verdict};

/// Who has which policy, by ARN.
#[derive(Debug, Default)]
pub struct Simulator(BTreeMap<String, Policy>);

impl Simulator {
    pub fn with(mut self, principal: &str, policy: &str) -> Self {
        self.0.insert(principal.to_owned(), Policy::parse(policy));
        self
    }

    pub fn answers(self) -> Fault {
        Fault::reckon(move |asked| self.answer(asked))
    }

    fn answer(&self, asked: &Asked) -> String {
        let principal = &asked.params["PolicySourceArn"];
        let policy = self.0.get(principal);
        let policy = policy.unwrap_or_else(|| panic!("nobody said what {principal} may do"));
        let resource = &asked.params["ResourceArns.member.1"];
        assert!(
            !asked.params.contains_key("ResourceArns.member.2"),
            "one resource a question"
        );
        let keys = keys(asked);
        let keys: Vec<(&str, &str)> = keys
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let mut members = String::new();
        for action in listed(asked, "ActionNames.member.") {
            let decision = match policy.verdict(&Request::new(action, resource, &keys)) {
                Verdict::Allowed => "allowed",
                Verdict::NotAllowed => "implicitDeny",
                Verdict::Denied => "explicitDeny",
            };
            write!(
                members,
                "<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{resource}</EvalResourceName>\
                 <EvalDecision>{decision}</EvalDecision><MatchedStatements/><MissingContextValues/></member>"
            )
            .expect("a string can be written to");
        }
        format!(
            "<SimulatePrincipalPolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
             <SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated>\
             <EvaluationResults>{members}</EvaluationResults></SimulatePrincipalPolicyResult>\
             <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>"
        )
    }
}

fn listed<'a>(asked: &'a Asked, prefix: &str) -> Vec<&'a str> {
    let all = (1..).map_while(|n| asked.params.get(&format!("{prefix}{n}")));
    all.map(String::as_str).collect()
}

/// The keys of a question, with their values.
pub fn keys(asked: &Asked) -> BTreeMap<String, String> {
    let entry = |n: usize| {
        let part = |part: &str| asked.params.get(&format!("ContextEntries.member.{n}.{part}")).cloned();
        Some((part("ContextKeyName")?, part("ContextKeyValues.member.1")?))
    };
    (1..).map_while(entry).collect()
}
