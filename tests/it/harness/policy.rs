//! Reads the policies that Backstop ships and says what they allow, offline.
//!
//! It knows what those policies use and no more: an operator, an element or a variable that it does not
//! know fails the test, so that nothing is taken for granted. An explicit deny wins, then any allow, and
//! what nothing allows is refused. Absence follows IAM: a negated comparison holds for a key that is not
//! there, any other does not.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a request is judged by besides its action and resource: keys in lower case, with their values.
pub type Context = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub action: String,
    pub resource: String,
    pub context: Context,
}

impl Request {
    pub fn new(action: &str, resource: &str, context: &[(&str, &str)]) -> Self {
        let mut all = Context::new();
        for (key, value) in context {
            all.entry(key.to_lowercase()).or_default().push((*value).to_owned());
        }
        Self {
            action: action.to_owned(),
            resource: resource.to_owned(),
            context: all,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// By a statement that denies.
    Denied,
    /// By none that allows.
    NotAllowed,
}

#[derive(Debug)]
struct Statement {
    allows: bool,
    actions: Vec<String>,
    all_but: bool,
    resources: Vec<String>,
    elsewhere: bool,
    /// Operator, key, values.
    conditions: Vec<(String, String, Vec<String>)>,
}

#[derive(Debug)]
pub struct Policy(Vec<Statement>);

impl Policy {
    pub fn parse(text: &str) -> Self {
        let document: Value = serde_json::from_str(text).expect("a policy is JSON");
        assert_eq!(document["Version"], "2012-10-17");
        let statements = document["Statement"].as_array().expect("a list of statements");
        Self(statements.iter().map(statement).collect())
    }

    /// Every action that it names, with wildcards.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|one| one.actions.iter().map(String::as_str))
    }

    pub fn verdict(&self, request: &Request) -> Verdict {
        let mut hits = self.0.iter().filter(|statement| statement.hits(request));
        if hits.clone().any(|statement| !statement.allows) {
            Verdict::Denied
        } else if hits.any(|statement| statement.allows) {
            Verdict::Allowed
        } else {
            Verdict::NotAllowed
        }
    }
}

fn statement(value: &Value) -> Statement {
    let fields = value.as_object().expect("a statement is an object");
    let known = [
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    ];
    for name in fields.keys() {
        assert!(known.contains(&name.as_str()), "the element {name} is not known here");
    }
    let elsewhere = fields.contains_key("NotResource");
    let all_but = fields.contains_key("NotAction");
    let conditions = fields.get("Condition").and_then(Value::as_object);
    let conditions = conditions.into_iter().flatten().flat_map(|(operator, tests)| {
        let tests = tests.as_object().expect("tests by key");
        let test = move |(key, values): (&String, &Value)| (operator.clone(), key.to_lowercase(), list(values));
        tests.iter().map(test).collect::<Vec<_>>()
    });
    Statement {
        allows: match value["Effect"].as_str() {
            Some("Allow") => true,
            Some("Deny") => false,
            other => panic!("the effect {other:?}"),
        },
        actions: list(if all_but { &value["NotAction"] } else { &value["Action"] }),
        all_but,
        resources: list(if elsewhere {
            &value["NotResource"]
        } else {
            &value["Resource"]
        }),
        elsewhere,
        conditions: conditions.collect(),
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().flat_map(list).collect(),
        other => panic!("neither a text nor a list of texts: {other}"),
    }
}

impl Statement {
    fn hits(&self, request: &Request) -> bool {
        let action = request.action.to_lowercase();
        let named = self.actions.iter().any(|one| glob(&one.to_lowercase(), &action));
        named != self.all_but
            && self.resources.iter().any(|one| glob(one, &request.resource)) != self.elsewhere
            && self
                .conditions
                .iter()
                .all(|(operator, key, values)| holds(operator, key, values, &request.context))
    }
}

fn holds(operator: &str, key: &str, values: &[String], context: &Context) -> bool {
    let found = context.get(key).map(Vec::as_slice).unwrap_or_default();
    // A variable that is not in the request and has no default equals nothing.
    let values: Vec<String> = values.iter().filter_map(|value| filled(value, context)).collect();
    let any = |test: &dyn Fn(&str, &str) -> bool| found.iter().any(|have| values.iter().any(|want| test(want, have)));
    match operator {
        "StringEquals" | "ForAnyValue:StringEquals" => any(&|want, have| want == have),
        // Of no values at all it holds too.
        "ForAllValues:StringNotEquals" | "StringNotEquals" => !any(&|want, have| want == have),
        "StringLike" => any(&glob),
        "ArnLike" => any(&arn_like),
        "ArnNotLike" => !any(&arn_like),
        "Bool" => any(&|want, have| want.eq_ignore_ascii_case(have)),
        "Null" => values == [if found.is_empty() { "true" } else { "false" }],
        other => panic!("the operator {other} is not known here"),
    }
}

fn filled(value: &str, context: &Context) -> Option<String> {
    let Some((before, rest)) = value.split_once("${") else {
        return Some(value.to_owned());
    };
    let (name, after) = rest.split_once('}').expect("a variable ends");
    let (name, default) = match name.split_once(", ") {
        Some((name, default)) => (name, Some(default.trim_matches('\''))),
        None => (name, None),
    };
    let found = context.get(&name.to_lowercase()).and_then(|values| values.first());
    let found = found.map(String::as_str).or(default)?;
    Some(format!("{before}{found}{after}"))
}

/// ARNs are compared part by part, so that a wildcard stays within its part.
fn arn_like(pattern: &str, arn: &str) -> bool {
    let parts = |text: &str| text.splitn(6, ':').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, arn) = (parts(pattern), parts(arn));
    pattern.len() == arn.len() && pattern.iter().zip(&arn).all(|(want, have)| glob(want, have))
}

/// `*` is any text, `?` any one character.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Which beginnings of the text the pattern up to here can be.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for one in pattern {
        let mut next = vec![false; text.len() + 1];
        for end in 0..=text.len() {
            next[end] = match one {
                '*' => reach[end] || (end > 0 && next[end - 1]),
                '?' => end > 0 && reach[end - 1],
                exact => end > 0 && reach[end - 1] && text[end - 1] == exact,
            };
        }
        reach = next;
    }
    reach[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("?*", "", false),
            ("arn:*:role/agents/*", "arn:aws:iam::1:role/agents/x/y", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
        assert!(arn_like("arn:aws:iam::*:role/a/*", "arn:aws:iam::1:role/a/b"));
        assert!(!arn_like("arn:aws:*:role/a/*", "arn:aws:iam::1:role/a/b"));
    }

    #[test]
    fn a_deny_wins_and_absence_is_refused() {
        let policy = Policy::parse(
            r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":["ec2:*"],"Resource":"*"},
            {"Effect":"Deny","Action":"ec2:Delete*","Resource":"*"},
            {"Effect":"Deny","NotAction":"ec2:*","Resource":"arn:x"}]}"#,
        );
        let verdict = |action: &str, resource: &str| policy.verdict(&Request::new(action, resource, &[]));
        assert_eq!(verdict("ec2:StopInstances", "*"), Verdict::Allowed);
        assert_eq!(verdict("EC2:deletevolume", "*"), Verdict::Denied);
        assert_eq!(verdict("s3:GetObject", "*"), Verdict::NotAllowed);
        assert_eq!(verdict("s3:GetObject", "arn:x"), Verdict::Denied);
        let elsewhere = Policy::parse(
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","NotResource":"arn:x*"}]}"#,
        );
        let verdict = |resource| elsewhere.verdict(&Request::new("a:B", resource, &[]));
        assert_eq!(
            (verdict("arn:xy"), verdict("arn:y")),
            (Verdict::NotAllowed, Verdict::Denied)
        );
    }

    #[test]
    fn conditions_follow_iam() {
        let policy = |condition: &str| {
            Policy::parse(&format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*",
                "Condition":{condition}}}]}}"#
            ))
        };
        let passes = |condition: &str, context: &[(&str, &str)]| {
            policy(condition).verdict(&Request::new("a:B", "*", context)) == Verdict::Allowed
        };
        let tag = "aws:RequestTag/backstop:agent";
        let own = r#"{"StringNotEquals":{"aws:RequestTag/backstop:agent":"${aws:PrincipalTag/backstop:agent}"}}"#;
        let me = ("aws:PrincipalTag/backstop:agent", "a");
        assert!(passes(own, &[me]), "absent is not equal");
        assert!(passes(own, &[me, (tag, "b")]));
        assert!(!passes(own, &[me, (tag, "a")]));
        assert!(passes(own, &[(tag, "a")]), "an unknown variable equals nothing");
        let known = own.replace("agent}", "agent, '-'}");
        assert!(passes(&known, &[(tag, "a")]), "nor does a default");
        assert!(!passes(&known, &[(tag, "-")]));
        let lacks = r#"{"ForAllValues:StringNotEquals":{"aws:TagKeys":"x"}}"#;
        assert!(passes(lacks, &[]) && passes(lacks, &[("aws:TagKeys", "X")]));
        assert!(!passes(lacks, &[("aws:TagKeys", "y"), ("aws:TagKeys", "x")]));
        assert!(passes(r#"{"Null":{"aws:TagKeys":"true"}}"#, &[]));
        assert!(!passes(r#"{"Null":{"aws:TagKeys":"true"}}"#, &[("aws:TagKeys", "x")]));
        assert!(!passes(r#"{"StringLike":{"k":"?*"}}"#, &[("k", "")]));
        assert!(passes(
            r#"{"ForAnyValue:StringEquals":{"k":["a","b"]}}"#,
            &[("k", "x"), ("k", "b")]
        ));
        assert!(passes(
            r#"{"Bool":{"k":"true"},"StringEquals":{"j":"1"}}"#,
            &[("k", "true"), ("j", "1")]
        ));
        assert!(!passes(
            r#"{"Bool":{"k":"true"},"StringEquals":{"j":"1"}}"#,
            &[("k", "true")]
        ));
    }
}
