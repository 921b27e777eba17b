//! Every permission is asked about, on what it is needed on, with the keys by which policies condition it.

use proptest::prelude::*;

use super::*;

const ACCOUNT: &str = "123456789012";

/// An agent: its id, its principals below the account, its tags.
type Declared<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

fn basis(agents: &[Declared<'_>]) -> Basis {
    let targets = |principals: &[&str], tags: &[(&str, &str)]| CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: principals
            .iter()
            .map(|path| {
                let arn = format!("arn:aws:iam::{ACCOUNT}:{path}");
                if path.starts_with("role/") {
                    Principal::Role(arn)
                } else {
                    Principal::User(arn)
                }
            })
            .collect(),
        tags: tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        regions: Vec::new(),
    };
    Basis {
        scope: Scope {
            account: ACCOUNT.to_owned(),
            ..Scope::default()
        },
        guard: format!("arn:aws:iam::{ACCOUNT}:role/backstop/guard"),
        region: Region("eu-west-1".to_owned()),
        agents: agents
            .iter()
            .map(|(agent, principals, tags)| (AgentId::new(*agent).unwrap(), targets(principals, tags)))
            .collect(),
    }
}

fn found<'a>(plan: &'a Plan, action: &str) -> Vec<&'a Question> {
    let asked = plan.asked.iter().map(|one| &one.question);
    asked.filter(|one| one.actions.iter().any(|a| a == action)).collect()
}

/// A question's keys as `name=value`.
fn keys(question: &Question) -> Vec<String> {
    question
        .keys
        .iter()
        .map(|key| format!("{}={}", key.name, key.value))
        .collect()
}

#[test]
fn every_permission_of_the_table_is_asked_about_before_there_is_an_agent() {
    let plan = plan(&basis(&[]));
    for one in ALL.iter().filter(|one| one.on != On::Nothing) {
        let on = plan
            .asked
            .iter()
            .any(|asked| asked.on == one.on && asked.question.actions.iter().any(|action| action == one.action));
        assert!(on, "{} on {:?} is not asked about", one.action, one.on);
    }
    assert_eq!(plan.left_out, 0);
    let stop = found(&plan, "ec2:StopInstances");
    assert!(keys(stop[0]).contains(&"aws:ResourceTag/backstop:agent=backstop-doctor".to_owned()));
}

#[test]
fn a_permission_is_asked_about_on_the_real_principals_and_by_the_real_tags() {
    let plan = plan(&basis(&[
        ("a", &["role/agents/a", "user/agents/old"], &[("backstop:agent", "a")]),
        ("b", &["role/service-role/b"], &[("team", "b")]),
    ]));
    let on = |action: &str| {
        let mut on: Vec<&str> = found(&plan, action).iter().map(|one| one.resource.as_str()).collect();
        on.sort_unstable();
        on
    };
    let arn = |path: &str| format!("arn:aws:iam::{ACCOUNT}:{path}");
    assert_eq!(
        on("iam:PutRolePolicy"),
        [arn("role/agents/a"), arn("role/service-role/b")]
    );
    assert_eq!(on("iam:UpdateAccessKey"), [arn("user/agents/old")]);
    assert_eq!(
        on("iam:AttachRolePolicy"),
        [arn("role/agents/a"), arn("role/service-role/b")]
    );
    assert_eq!(on("iam:AttachUserPolicy"), [arn("user/agents/old")]);
    assert_eq!(on("iam:CreatePolicy"), [arn("policy/backstop/backstop-deny")]);
    assert_eq!(
        keys(found(&plan, "iam:AttachRolePolicy")[0]),
        [format!("iam:PolicyARN={}", arn("policy/backstop/backstop-deny"))]
    );
    let tags: Vec<Vec<String>> = found(&plan, "ec2:StopInstances").into_iter().map(keys).collect();
    assert_eq!(tags.len(), 2);
    assert_eq!(
        tags[1],
        [
            "aws:ResourceTag/team=b",
            "ec2:ResourceTag/team=b",
            "aws:RequestedRegion=eu-west-1"
        ]
    );
    assert_eq!(
        on("ec2:StopInstances")[0],
        format!("arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/i-00000000000000000")
    );
    assert!(on("autoscaling:SuspendProcesses")[0].ends_with("autoScalingGroupName/backstop-doctor"));
    assert_eq!(
        on("lambda:PutFunctionConcurrency")[0],
        format!("arn:aws:lambda:eu-west-1:{ACCOUNT}:function:backstop-doctor")
    );
    let grant = found(&plan, "kms:CreateGrant")[0];
    assert!(grant.keys.contains(&Key::yes("kms:GrantIsForAWSResource")));
    assert!(keys(grant).contains(&"kms:ViaService=ec2.eu-west-1.amazonaws.com".to_owned()));
}

#[test]
fn of_agents_that_have_no_user_nothing_is_asked_about_users() {
    let plan = plan(&basis(&[("a", &["role/agents/a"], &[("backstop:agent", "a")])]));
    assert!(found(&plan, "iam:PutUserPolicy").is_empty());
    assert!(!found(&plan, "iam:PutRolePolicy").is_empty());
}

#[test]
fn to_terminate_is_asked_about_when_it_is_chosen() {
    let mut basis = basis(&[]);
    assert!(found(&plan(&basis), TERMINATE).is_empty());
    basis.scope.choices.push(Choice::TerminateUnstoppable);
    assert_eq!(found(&plan(&basis), TERMINATE).len(), 1);
}

#[test]
fn a_guard_that_is_a_user_is_asked_about_no_role() {
    let mut basis = basis(&[]);
    basis.guard = format!("arn:aws:iam::{ACCOUNT}:user/backstop/guard");
    let plan = plan(&basis);
    let own = found(&plan, "iam:SimulatePrincipalPolicy");
    assert!(
        own.iter()
            .any(|one| one.resource == basis.guard && one.actions.len() == 1)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However many agents there are, there is an end, what is left out is counted, and every kind of thing was asked about.
    #[test]
    fn a_large_fleet_is_cut_evenly(agents in 1_usize..150) {
        let names: Vec<(String, String)> = (0..agents).map(|n| (format!("a{n}"), format!("role/agents/a{n}"))).collect();
        let mut basis = basis(&[]);
        for (name, path) in &names {
            let one = super::tests::basis(&[(name, &[path], &[("backstop:agent", name)])]);
            basis.agents.extend(one.agents);
        }
        let made = plan(&basis);
        prop_assert!(made.asked.len() <= MOST);
        let kinds: BTreeSet<On> = made.asked.iter().map(|one| one.on).collect();
        prop_assert!(ALL.iter().all(|one| matches!(one.on, On::Nothing | On::AgentUsers) || kinds.contains(&one.on)));
        // Three questions a role, five a tag, and five that are about no agent.
        prop_assert_eq!(made.asked.len() + made.left_out, agents * 8 + 5);
        for one in &made.asked {
            let open = one.question.resource.contains('$');
            prop_assert!(!one.question.actions.is_empty() && !open);
            prop_assert!(one.question.resource == "*" || !one.question.resource.contains('*'));
        }
    }
}
