//! The deny: the inline policy that takes every right from a role or user at once.
//!
//! An explicit deny wins over every allow and binds sessions that were already issued, so it is the
//! fastest true stop of a principal, and taking it away restores exactly what was there. It is put
//! under a name of our own, so that no policy of the customer is ever overwritten.
//!
//! Two documents are compared as JSON, never as text: IAM may answer in another layout than was put.

use serde_json::Value;

/// The name of our inline policy.
pub const POLICY_NAME: &str = "backstop-deny";

/// The document. One canonical text, so that before-images, audit and tests show the same.
pub const DOCUMENT: &str = concat!(
    r#"{"Version":"2012-10-17","Statement":[{"#,
    r#""Sid":"BackstopDeny","Effect":"Deny","Action":"*","Resource":"*"}]}"#
);

/// Whether a policy document found under our name is our deny.
pub fn is_ours(document: &str) -> bool {
    same(document, DOCUMENT)
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
}
