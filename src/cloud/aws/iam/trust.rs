//! A role's trust policy, read for one question: who else could become this role.
//!
//! It is read generously, because a principal that is missed is a way around the deny that nobody sees:
//! conditions are left aside, `NotPrincipal` is anybody, and so is a policy that cannot be read.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::containment::guard::{PrincipalKind, PrincipalName};
use crate::domain::containment::target::Principal;

const ANYBODY: &str = "*";

/// The AWS principals of every allowing statement, as the policy writes them, sorted: ARNs, account ids,
/// or `*` for anybody. Services and identity providers are no principals that we could deny.
pub(super) fn trusted(document: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    match serde_json::from_str::<Value>(document) {
        Ok(Value::Object(policy)) => match policy.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().for_each(|one| statement(one, &mut found)),
            Some(one) => statement(one, &mut found),
            None => {}
        },
        _ => {
            found.insert(ANYBODY.to_owned());
        }
    }
    found.into_iter().collect()
}

/// Whether what a role trusts takes in one of these principals: by name, by a session of it, by its whole
/// account (which leaves it to the principal's own policies), or because it trusts anybody.
pub(super) fn takes_in(trusted: &[String], principals: &[Principal]) -> bool {
    trusted.iter().any(|entry| {
        principals.iter().any(|principal| {
            if entry == ANYBODY {
                return true;
            }
            let Some(wanted) = PrincipalName::parse(principal.arn()) else {
                return entry == principal.arn();
            };
            let is_account =
                |named: &PrincipalName| named.kind == PrincipalKind::Root && named.account == wanted.account;
            *entry == wanted.account
                || PrincipalName::parse(entry).is_some_and(|named| named == wanted || is_account(&named))
        })
    })
}

fn statement(statement: &Value, found: &mut BTreeSet<String>) {
    let Some(statement) = statement.as_object() else {
        found.insert(ANYBODY.to_owned());
        return;
    };
    if statement.get("Effect").and_then(Value::as_str) != Some("Allow") {
        return;
    }
    if statement.contains_key("NotPrincipal") {
        found.insert(ANYBODY.to_owned());
    }
    match statement.get("Principal") {
        Some(Value::String(any)) => {
            found.insert(any.clone());
        }
        Some(Value::Object(kinds)) => match kinds.get("AWS") {
            Some(Value::String(one)) => {
                found.insert(one.clone());
            }
            Some(Value::Array(many)) => found.extend(many.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{takes_in, trusted};
    use crate::domain::containment::target::Principal;

    #[test]
    fn a_role_takes_in_whom_it_names_in_any_way() {
        let principals = [Principal::Role(
            "arn:aws:iam::123456789012:role/agents/transcriber".to_owned(),
        )];
        for entry in [
            "*",
            "123456789012",
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:role/agents/transcriber",
            "arn:aws:sts::123456789012:assumed-role/transcriber/run-1",
        ] {
            assert!(takes_in(&[entry.to_owned()], &principals), "{entry}");
        }
        for entry in [
            "210987654321",
            "arn:aws:iam::210987654321:root",
            "arn:aws:iam::123456789012:role/agents/planner",
            "arn:aws:iam::123456789012:user/transcriber",
            "AROAEXAMPLEOFADELETED",
        ] {
            assert!(!takes_in(&[entry.to_owned()], &principals), "{entry}");
        }
        assert!(!takes_in(&["*".to_owned()], &[]), "nobody is asked about");
    }

    #[test]
    fn every_way_of_naming_a_principal_is_read() {
        let document = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:role/b"},"Action":"sts:AssumeRole"},
            {"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::123456789012:user/a","210987654321"],
             "Service":"ec2.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]},
            {"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::123456789012:role/denied"},"Action":"sts:AssumeRole"},
            {"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
        assert_eq!(
            trusted(document),
            [
                "210987654321",
                "arn:aws:iam::123456789012:role/b",
                "arn:aws:iam::123456789012:user/a"
            ]
        );
        let single = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}"#;
        assert_eq!(trusted(single), ["*"]);
    }

    #[test]
    fn what_cannot_be_read_is_anybody() {
        for document in [
            "",
            "%7B",
            "[]",
            r#"{"Statement":["x"]}"#,
            r#"{"Statement":{"Effect":"Allow","NotPrincipal":{"AWS":"arn:aws:iam::123456789012:role/b"}}}"#,
        ] {
            assert_eq!(trusted(document), ["*"], "{document}");
        }
        assert_eq!(trusted(r#"{"Version":"2012-10-17"}"#), Vec::<String>::new());
    }
}
