//! The files that are shipped are those that are made here, within AWS's limits, and say what they mean.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::permissions::{ALL, Mode, On};
use super::policy::{Actions, Effect};
use super::{Choice, Document, Scope, ScopeProblem, cloudformation, text};

fn shipped(name: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/iam").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    (path, text)
}

#[test]
fn what_is_shipped_is_what_is_made() {
    let wide = Scope {
        choices: vec![Choice::StopUntagged],
        ..Scope::default()
    };
    let mut files = vec![("guard.stop-untagged.json".to_owned(), Document::Guard.text(&wide))];
    for which in Document::ALL {
        let name = which.name();
        files.push((format!("{name}.json"), which.text(&Scope::default())));
        files.push((
            format!("{name}.cloudformation.json"),
            text(&cloudformation::template(which)),
        ));
    }
    for (name, made) in files {
        let (path, found) = shipped(&name);
        assert_eq!(
            found.trim_end(),
            made,
            "{} is not what `backstop aws policy` prints; write it anew",
            path.display()
        );
    }
}

#[test]
fn every_document_fits_whatever_is_chosen_and_however_long_its_names_are() {
    let scopes = [
        Scope::default(),
        Scope {
            partition: "aws-us-gov".to_owned(),
            account: "123456789012".to_owned(),
            agent_path: "/platform/agents/".to_owned(),
            break_glass_path: "/emergency/access/".to_owned(),
            choices: Choice::ALL.to_vec(),
        },
    ];
    for scope in scopes {
        scope.check().unwrap();
        for which in Document::ALL {
            let (size, limit) = which.size(&which.text(&scope));
            println!("{}: {size} of {limit}", which.name());
            assert!(size <= limit, "{} has {size} characters of {limit}", which.name());
        }
    }
}

#[test]
fn a_scope_is_checked() {
    let bad = |change: fn(&mut Scope)| {
        let mut scope = Scope::default();
        change(&mut scope);
        scope.check().unwrap_err()
    };
    assert!(matches!(
        bad(|s| s.account = "12345678901".into()),
        ScopeProblem::Account(_)
    ));
    assert!(matches!(
        bad(|s| s.partition = "gcp".into()),
        ScopeProblem::Partition(_)
    ));
    for path in ["/", "agents", "/agents", "//", "/a b/", "/a*/"] {
        let scope = Scope {
            agent_path: path.to_owned(),
            ..Scope::default()
        };
        assert!(matches!(scope.check(), Err(ScopeProblem::Path(_))), "{path}");
    }
    for path in ["/backstop/", "/backstop/agents/", "/break-glass/x/"] {
        let scope = Scope {
            agent_path: path.to_owned(),
            ..Scope::default()
        };
        assert!(matches!(scope.check(), Err(ScopeProblem::GuardPath(_))), "{path}");
    }
}

#[test]
fn the_table_has_each_call_once_for_each_thing_and_says_why() {
    let mut seen = BTreeSet::new();
    for one in ALL {
        assert!(seen.insert((one.action, one.on)), "{} twice", one.action);
        assert!(!one.why.is_empty());
        let (service, name) = one.action.split_once(':').unwrap();
        assert!(
            !service.is_empty() && name.starts_with(char::is_uppercase),
            "{}",
            one.action
        );
        assert!(!one.action.contains('*'), "{} is one call", one.action);
    }
    // What changes something is never allowed on everything.
    for one in ALL
        .iter()
        .filter(|one| matches!(one.mode, Mode::Contain | Mode::Restore))
    {
        assert_ne!(one.on, On::Everything, "{}", one.action);
    }
}

#[test]
fn the_guard_may_nothing_with_a_wildcard_and_changes_only_by_tag_path_or_name() {
    for statement in Document::Guard.policy().statements {
        if statement.effect == Effect::Deny {
            continue;
        }
        let Actions::These(actions) = &statement.actions else {
            panic!("{} allows what it does not name", statement.sid);
        };
        assert!(actions.iter().all(|action| !action.contains('*')), "{}", statement.sid);
        let reads = ["Describe", "Get", "List", "Lookup", "Simulate"];
        let is_read = |action: &String| {
            reads
                .iter()
                .any(|verb| action.split(':').nth(1).unwrap().starts_with(verb))
        };
        let everywhere = statement.resources.iter().any(|resource| resource == "*");
        assert!(!everywhere || actions.iter().all(is_read), "{}", statement.sid);
    }
}

#[test]
fn no_placeholder_is_left_and_iams_own_variables_are() {
    for which in Document::ALL {
        let policy = which.text(&Scope::default());
        for part in policy.split("${").skip(1) {
            assert!(part.starts_with("aws:"), "{}: {part}", which.name());
        }
        let template = cloudformation::template(which);
        walk(&template, &mut |value| {
            if let Some(sub) = value.get("Fn::Sub").and_then(Value::as_str) {
                for part in sub.split("${").skip(1) {
                    let known = ["AWS::", "AgentPath}", "BreakGlassPath}", "!aws:"];
                    assert!(known.iter().any(|one| part.starts_with(one)), "{sub}");
                }
            }
        });
    }
}

fn walk(value: &Value, look: &mut impl FnMut(&Value)) {
    look(value);
    match value {
        Value::Object(fields) => fields.values().for_each(|inner| walk(inner, look)),
        Value::Array(items) => items.iter().for_each(|inner| walk(inner, look)),
        _ => {}
    }
}
