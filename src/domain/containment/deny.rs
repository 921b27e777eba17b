//! The deny: the policy that takes every right from a role or user at once.
//!
//! An explicit deny wins over every allow, and a principal's policies are looked up anew at every request,
//! not when a session is issued. So it binds the sessions that are already out, those taken during the
//! containment, a user's keys, console sessions and service credentials alike, and taking it away
//! restores exactly what was there. (IAM User Guide, "Disabling permissions for temporary security
//! credentials" and "Revoke IAM role temporary security credentials", read 2026-11: AWS's own revocation
//! is such an inline deny, with a condition on the time of issue. Ours has none, since a contained agent
//! must not take a fresh session either.) What it does not bind is a session of *another* role that the
//! agent assumed before; such roles are looked for by their trust policies and reported (C3).
//!
//! It is put under a name of our own, so that no policy of the customer is ever overwritten; inline first.
//! An inline policy needs no second object and goes without a trace. Where it has no room, the managed
//! policy of the same name below [`POLICY_PATH`] is attached instead.
//!
//! How much room there is: the inline policies of a role may have 10,240 characters in sum, those of a
//! user 2,048, white space not counted; a managed policy 6,144; 10 managed policies are attached to a
//! principal, more by request (IAM User Guide, "IAM and AWS STS quotas", read 2026-11). To add up what is
//! used costs a call a policy, in front of the one call that matters, and is stale when it is done. So a
//! containment puts the deny and lets IAM say that it does not fit; only a rehearsal, which puts nothing,
//! adds up and foretells the fallback.
//!
//! Two documents are compared as JSON, never as text: IAM may answer in another layout than was put.

use serde_json::Value;

use super::observed::PrincipalState;
use super::target::Principal;

/// The name of our inline policy, and of the managed one.
pub const POLICY_NAME: &str = "backstop-deny";

/// The path of the managed policy: what is below it belongs to the guard.
pub const POLICY_PATH: &str = "/backstop/";

/// The document. One canonical text, so that before-images, audit and tests show the same.
pub const DOCUMENT: &str = concat!(
    r#"{"Version":"2012-10-17","Statement":[{"#,
    r#""Sid":"BackstopDeny","Effect":"Deny","Action":"*","Resource":"*"}]}"#
);

/// The code with which a cloud refuses what has no room: an inline policy, or one more attached one.
pub const NO_ROOM: &str = "LimitExceeded";

const ROLE_INLINE_CHARS: usize = 10_240;
const USER_INLINE_CHARS: usize = 2_048;

/// What a simulation is asked about: the dearest things that an agent does, and its ways out.
pub const SIMULATED: &[&str] = &[
    "bedrock:InvokeModel",
    "ec2:RunInstances",
    "ecs:RunTask",
    "iam:CreateAccessKey",
    "lambda:InvokeFunction",
    "sts:AssumeRole",
];

/// Whether a policy document found under our name is our deny.
pub fn is_ours(document: &str) -> bool {
    same(document, DOCUMENT)
}

/// Whether the principal is denied now, by either policy: as it was read, not as it was put.
pub fn is_in_place(state: &PrincipalState) -> bool {
    state.deny_document.as_deref().is_some_and(is_ours) || is_attached(state)
}

/// Whether the managed policy is attached and is our deny.
pub fn is_attached(state: &PrincipalState) -> bool {
    state.deny_attached && state.attached_document.as_deref().is_some_and(is_ours)
}

/// Whether the inline policy would fit; `None` while nobody added up what is used.
pub fn fits_inline(principal: &Principal, others: Option<usize>) -> Option<bool> {
    let limit = match principal {
        Principal::Role(_) => ROLE_INLINE_CHARS,
        Principal::User(_) => USER_INLINE_CHARS,
    };
    Some(others?.saturating_add(chars(DOCUMENT)) <= limit)
}

/// A document's size as IAM counts it: without white space.
pub fn chars(document: &str) -> usize {
    document.chars().filter(|c| !c.is_whitespace()).count()
}

/// Whether two policy documents say the same. Text that is not JSON equals only itself.
pub fn same(a: &str, b: &str) -> bool {
    match (serde_json::from_str::<Value>(a), serde_json::from_str::<Value>(b)) {
        (Ok(a), Ok(b)) => canonical(a) == canonical(b),
        _ => a == b,
    }
}

/// IAM lets a list of one stand as its only member (`"Action": "*"` is `"Action": ["*"]`).
fn canonical(value: Value) -> Value {
    match value {
        Value::Array(mut items) if items.len() == 1 => canonical(items.remove(0)),
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, canonical(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_a_document_does_not_matter() {
        let other = r#"{ "Statement": { "Resource": ["*"], "Action": ["*"], "Effect": "Deny",
                         "Sid": "BackstopDeny" }, "Version": "2012-10-17" }"#;
        assert!(is_ours(other));
        assert!(is_ours(DOCUMENT));
    }

    #[test]
    fn a_weaker_document_is_not_ours() {
        assert!(!is_ours(&DOCUMENT.replace("Deny\",\"Action", "Allow\",\"Action")));
        assert!(!is_ours(
            &DOCUMENT.replace("\"Resource\":\"*\"", "\"Resource\":\"arn:aws:s3:::x\"")
        ));
        assert!(!is_ours(
            &DOCUMENT.replace("\"Action\":\"*\"", "\"Action\":[\"*\",\"s3:*\"]")
        ));
        assert!(!is_ours("not json"));
        assert!(!is_ours(""));
    }

    #[test]
    fn a_managed_policy_denies_only_while_it_says_so() {
        let mut state = PrincipalState::absent(Principal::Role("r".to_owned()));
        state.deny_attached = true;
        assert!(!is_in_place(&state), "what it says is not known");
        state.attached_document = Some(DOCUMENT.replace("Deny\",\"Action", "Allow\",\"Action"));
        assert!(!is_in_place(&state));
        state.attached_document = Some(DOCUMENT.to_owned());
        assert!(is_in_place(&state));
    }

    #[test]
    fn white_space_takes_no_room() {
        assert_eq!(chars(" { \"a\" :\n\t1 } "), 7);
        let role = Principal::Role("r".to_owned());
        let user = Principal::User("u".to_owned());
        let ours = chars(DOCUMENT);
        assert_eq!(fits_inline(&role, None), None);
        assert_eq!(fits_inline(&role, Some(10_240 - ours)), Some(true));
        assert_eq!(fits_inline(&role, Some(10_240 - ours + 1)), Some(false));
        assert_eq!(fits_inline(&user, Some(2_048 - ours)), Some(true));
        assert_eq!(fits_inline(&user, Some(2_048 - ours + 1)), Some(false));
        assert!(ours <= 6_144, "the managed policy has room for it");
    }
}
