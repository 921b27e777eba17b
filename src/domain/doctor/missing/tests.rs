//! What is missing is told with the statement that would allow it: the table's, for this account, no wider.

use proptest::prelude::*;
use serde_json::json;

use super::super::Standing;
use super::*;
use crate::domain::iam::simulation::Question;

const ACCOUNT: &str = "123456789012";
const GUARD: &str = "arn:aws:iam::123456789012:role/backstop/guard";

fn scope() -> Scope {
    Scope {
        account: ACCOUNT.to_owned(),
        ..Scope::default()
    }
}

fn asked(on: On, resource: &str, tag: Option<&str>) -> Asked {
    Asked {
        on,
        tag: tag.map(str::to_owned),
        question: Question {
            actions: Vec::new(),
            resource: resource.to_owned(),
            keys: Vec::new(),
        },
    }
}

fn ruling(action: &str, decision: Decision) -> Ruling {
    Ruling {
        action: action.to_owned(),
        decision,
        by: Vec::new(),
        boundary_allows: None,
        organisation_allows: None,
        missing_keys: Vec::new(),
    }
}

fn missing(on: On, resource: &str, tag: Option<&str>, actions: &[&str]) -> Vec<Missing> {
    let asked = asked(on, resource, tag);
    let all = actions
        .iter()
        .map(|action| Missing::of(&asked, &ruling(action, Decision::NotAllowed)));
    all.flatten().collect()
}

#[test]
fn a_missing_permission_is_the_shipped_statement_with_that_action_alone() {
    let role = "arn:aws:iam::123456789012:role/agents/a";
    let made = statements(
        &missing(
            On::AgentRoles,
            role,
            None,
            &["iam:DeleteRolePolicy", "iam:PutRolePolicy"],
        ),
        &scope(),
    );
    assert_eq!(
        made,
        [json!({
            "Sid": "AgentRoles",
            "Effect": "Allow",
            "Action": ["iam:PutRolePolicy", "iam:DeleteRolePolicy"],
            "Resource": "arn:aws:iam::123456789012:role/agents/*",
        })]
    );
    let stop = "arn:aws:ec2:eu-west-1:123456789012:instance/i-00000000000000000";
    let mut both = missing(On::Instances, stop, Some("backstop:agent"), &["ec2:StopInstances"]);
    let group = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:u:autoScalingGroupName/x";
    both.extend(missing(
        On::Groups,
        group,
        Some("backstop:agent"),
        &["autoscaling:SuspendProcesses"],
    ));
    assert_eq!(
        statements(&both, &scope()),
        [json!({
            "Sid": "OwnedByTag",
            "Effect": "Allow",
            "Action": ["autoscaling:SuspendProcesses", "ec2:StopInstances"],
            "Resource": [
                "arn:aws:ec2:*:123456789012:instance/*",
                "arn:aws:autoscaling:*:123456789012:autoScalingGroup:*",
            ],
            "Condition": {"StringLike": {"aws:ResourceTag/backstop:agent": "?*"}},
        })]
    );
    let attach = missing(On::AgentsAndDeny, role, None, &["iam:AttachRolePolicy"]);
    let attach = statements(&attach, &scope());
    assert_eq!(
        attach[0]["Condition"],
        json!({"ArnLike": {"iam:PolicyARN": "arn:aws:iam::123456789012:policy/backstop/backstop-deny"}})
    );
    assert_eq!(
        attach[0]["Resource"], "arn:aws:iam::123456789012:role/agents/*",
        "no user was asked about"
    );
}

#[test]
fn what_the_table_does_not_take_in_is_named_itself() {
    let stranger = "arn:aws:iam::123456789012:role/service-role/b";
    let made = statements(
        &missing(On::AgentRoles, stranger, None, &["iam:PutRolePolicy"]),
        &scope(),
    );
    assert_eq!(made[0]["Resource"], stranger);
    let stop = "arn:aws:ec2:eu-west-1:123456789012:instance/i-00000000000000000";
    let made = statements(
        &missing(On::Instances, stop, Some("team"), &["ec2:StopInstances"]),
        &scope(),
    );
    assert_eq!(
        made[0]["Condition"],
        json!({"StringLike": {"aws:ResourceTag/team": "?*"}})
    );
}

#[test]
fn each_reason_has_its_own_advice() {
    let asked = asked(On::AgentRoles, "arn:aws:iam::123456789012:role/agents/a", None);
    let told = |change: fn(&mut Ruling)| {
        let mut one = ruling("iam:PutRolePolicy", Decision::NotAllowed);
        change(&mut one);
        let missing: Vec<Missing> = Missing::of(&asked, &one).into_iter().collect();
        let mut found = findings(&missing, &scope(), GUARD);
        assert_eq!(found.len(), 1);
        found.remove(0)
    };
    let plain = told(|_| {});
    assert_eq!((plain.standing, plain.statements.len()), (Standing::Fail, 1));
    assert!(
        plain.found.contains("iam:PutRolePolicy (puts the deny"),
        "{}",
        plain.found
    );
    let keys = told(|one| one.missing_keys = vec!["aws:SourceVpc".to_owned()]);
    assert!(keys.todo.unwrap().contains("aws:SourceVpc"));
    let denied = told(|one| {
        one.decision = Decision::Denied;
        one.by = vec!["no-iam".to_owned()];
    });
    assert!(denied.statements.is_empty() && denied.todo.unwrap().contains("no-iam"));
    let bound = told(|one| one.boundary_allows = Some(false));
    assert!(bound.statements.is_empty() && bound.todo.unwrap().contains("boundary"));
    let scp = told(|one| one.organisation_allows = Some(false));
    assert!(scp.statements.is_empty() && scp.todo.unwrap().contains("SCP"));
}

#[test]
fn what_only_the_doctor_needs_is_a_warning() {
    let found = findings(
        &missing(On::GuardRole, GUARD, None, &["iam:SimulatePrincipalPolicy"]),
        &scope(),
        GUARD,
    );
    assert_eq!(found[0].standing, Standing::Warn);
    assert_eq!(
        found[0].statements[0]["Resource"],
        "arn:aws:iam::123456789012:role/backstop/*"
    );
}

#[test]
fn an_action_without_a_ruling_is_not_taken_for_allowed() {
    let mut one = asked(On::Everything, "*", None);
    one.question.actions = ["ec2:DescribeInstances", "ec2:DescribeRegions"]
        .map(str::to_owned)
        .to_vec();
    let rulings = [ruling("ec2:describeregions", Decision::Allowed)];
    assert_eq!(unanswered(&one, &rulings), ["ec2:DescribeInstances"]);
}

#[test]
fn a_pattern_takes_in_what_iam_would() {
    for (pattern, arn, fits) in [
        ("arn:aws:iam::1:role/agents/*", "arn:aws:iam::1:role/agents/x/y", true),
        ("arn:aws:iam::1:role/agents/*", "arn:aws:iam::1:role/agent", false),
        (
            "arn:aws:ec2:*:1:instance/*",
            "arn:aws:ec2:eu-west-1:1:instance/i-1",
            true,
        ),
        (
            "arn:aws:ec2:*:1:instance/*",
            "arn:aws:ec2:eu-west-1:2:instance/i-1",
            false,
        ),
        ("arn:aws:iam::*:policy/b", "arn:aws:iam::1:policy/b", true),
        ("arn:aws:iam::*:policy/b", "arn:aws:iam::1:policy/b/c", false),
        ("*", "*", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*a", "a", false),
        ("a*a", "aba", true),
    ] {
        assert_eq!(takes_in(pattern, arn), fits, "{pattern} {arn}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is missing is in the statements, once, and nothing else is; and each may not.
    #[test]
    fn the_statements_allow_what_is_missing_and_nothing_more(picked in prop::collection::btree_set(0..ALL.len(), 1..ALL.len())) {
        let basis = super::super::questions::Basis {
            scope: scope(),
            guard: GUARD.to_owned(),
            region: crate::domain::containment::target::Region("eu-west-1".to_owned()),
            agents: BTreeMap::new(),
        };
        let wanted: BTreeSet<(&str, On)> =
            picked.iter().map(|&n| (ALL[n].action, ALL[n].on)).filter(|(_, on)| *on != On::Nothing).collect();
        let mut all = Vec::new();
        for asked in super::super::questions::plan(&basis).asked {
            for action in asked.question.actions.clone() {
                let is_wanted = wanted.iter().any(|(one, on)| *one == action && *on == asked.on);
                let decision = if is_wanted { Decision::NotAllowed } else { Decision::Allowed };
                all.extend(Missing::of(&asked, &ruling(&action, decision)));
            }
        }
        let made = statements(&all, &scope());
        let mut granted: BTreeSet<String> = BTreeSet::new();
        for statement in &made {
            prop_assert_eq!(&statement["Effect"], "Allow");
            let actions = match &statement["Action"] {
                Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>(),
                one => one.as_str().map(str::to_owned).into_iter().collect(),
            };
            for action in actions {
                prop_assert!(wanted.iter().any(|(one, _)| *one == action), "{} was not missing", action);
                granted.insert(action);
            }
        }
        let names: BTreeSet<String> = wanted.iter().map(|(action, _)| (*action).to_owned()).collect();
        prop_assert_eq!(granted, names);
        let found = findings(&all, &scope(), GUARD);
        prop_assert!(found.iter().all(|one| !one.statements.is_empty()));
    }
}
