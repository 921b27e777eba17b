//! What is different in a new manifest, for the audit log: a wider one is an override like a raised limit
//! (**D3**), and whoever reads the log later should see which tool was let in when.

use super::{Manifest, Rate, Tool};

/// Differences that are told one by one.
const MAX_TOLD: usize = 20;

/// What changed, each as a phrase; nothing when both allow the same.
pub fn changes(old: Option<&Manifest>, new: Option<&Manifest>) -> Vec<String> {
    let mut told = match (old, new) {
        (None, None) => Vec::new(),
        (None, Some(new)) => vec![format!("it has a manifest now, with {} tools", new.tools.len())],
        (Some(old), None) => vec![format!("its manifest with {} tools is gone", old.tools.len())],
        (Some(old), Some(new)) => between(old, new),
    };
    if told.len() > MAX_TOLD {
        let more = told.len() - MAX_TOLD;
        told.truncate(MAX_TOLD);
        told.push(format!("and {more} more differences"));
    }
    told
}

fn between(old: &Manifest, new: &Manifest) -> Vec<String> {
    let mut told = Vec::new();
    for (name, tool) in &new.tools {
        match old.tools.get(name) {
            None => told.push(format!("{name} is allowed{}", described(tool))),
            Some(before) if before != tool => {
                told.push(format!(
                    "{name} is now{} instead of{}",
                    described(tool),
                    described(before)
                ));
            }
            Some(_) => {}
        }
    }
    let gone = old.tools.keys().filter(|name| !new.tools.contains_key(*name));
    told.extend(gone.map(|name| format!("{name} is no longer allowed")));
    let freed = old.blacklisted.difference(&new.blacklisted);
    told.extend(freed.map(|name| format!("{name} is no longer blacklisted")));
    let banned = new.blacklisted.difference(&old.blacklisted);
    told.extend(banned.map(|name| format!("{name} is blacklisted")));
    if old.models() != new.models() {
        let shown = |models: Option<&[String]>| models.map_or_else(|| "all".to_owned(), shown_globs);
        told.push(format!(
            "its models are {} instead of {}",
            shown(new.models()),
            shown(old.models())
        ));
    }
    if old.max_tokens != new.max_tokens {
        let shown = |tokens: Option<u64>| tokens.map_or_else(|| "unlimited".to_owned(), |tokens| tokens.to_string());
        let (new, old) = (shown(new.max_tokens), shown(old.max_tokens));
        told.push(format!("its max_tokens is {new} instead of {old}"));
    }
    told
}

fn described(tool: &Tool) -> String {
    let rate = tool.rate.map_or_else(|| " at the default rate".to_owned(), shown_rate);
    format!("{rate}{}", if tool.read_only { " (read-only)" } else { "" })
}

fn shown_rate(rate: Rate) -> String {
    format!(" {} in {} s", rate.requests(), rate.per_seconds())
}

fn shown_globs(globs: &[String]) -> String {
    const MAX: usize = 5;
    let mut text = globs.iter().take(MAX).cloned().collect::<Vec<_>>().join(", ");
    if globs.len() > MAX {
        text.push_str(&format!(" and {} more", globs.len() - MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(tools: &str, rest: &str) -> Manifest {
        let text = format!(r#"{{"schema_version": "v1", "agent_id": "a", "allowed_tools": [{tools}]{rest}}}"#);
        Manifest::parse(text.as_bytes()).expect("sound")
    }

    #[test]
    fn every_difference_is_told() {
        let old = manifest(
            r#"{"tool_name": "a"}, {"tool_name": "b", "rate_limit": {"requests": 1, "per_seconds": 2}}, {"tool_name": "c"}"#,
            r#", "blacklisted_tools": ["x"], "max_tokens": 5"#,
        );
        let new = manifest(
            r#"{"tool_name": "a", "read_only": true}, {"tool_name": "b"}, {"tool_name": "d"}"#,
            r#", "blacklisted_tools": ["y"], "models": ["m*"]"#,
        );
        assert_eq!(
            changes(Some(&old), Some(&new)),
            [
                "a is now at the default rate (read-only) instead of at the default rate",
                "b is now at the default rate instead of 1 in 2 s",
                "d is allowed at the default rate",
                "c is no longer allowed",
                "x is no longer blacklisted",
                "y is blacklisted",
                "its models are m* instead of all",
                "its max_tokens is unlimited instead of 5",
            ]
        );
        assert_eq!(changes(Some(&old), Some(&old)), [""; 0]);
        assert_eq!(changes(None, Some(&old)), ["it has a manifest now, with 3 tools"]);
        assert_eq!(changes(Some(&old), None), ["its manifest with 3 tools is gone"]);
        let many: Vec<String> = (0..50).map(|index| format!(r#"{{"tool_name": "t{index}"}}"#)).collect();
        let many = changes(Some(&manifest("", "")), Some(&manifest(&many.join(","), "")));
        assert_eq!((many.len(), many[20].as_str()), (21, "and 30 more differences"));
    }
}
