//! What a containment or a reset would do, as the command line prints it before it asks for `--yes`.

use serde_json::{Value, json};

use crate::domain::judgement::reset::LineChanges;
use crate::domain::ledger::line::LineKey;
use crate::http::error::Failure;
use crate::killswitch::report::{PlanReport, ResetImpact};
use crate::watch::lifecycle::ResetError;

fn step(action: &str, resource: &str, region: Option<&str>, note: &str) -> Value {
    json!({ "action": action, "resource": resource, "region": region, "note": note })
}

/// A line as a person names it: `daily of support-bot [task 1]`.
fn line_name(line: &LineKey) -> String {
    let mut name = line.budget.to_string();
    if let Some(agent) = &line.agent {
        name.push_str(&format!(" of {agent}"));
    }
    if !line.value.is_empty() {
        name.push_str(&format!(" [{}]", line.value));
    }
    name
}

pub(super) fn plan_view(report: &PlanReport) -> Value {
    let plan = &report.plan;
    let mut steps = Vec::new();
    for deny in &plan.principals.denies {
        let note = if deny.put_back {
            "somebody took it away: it is put back"
        } else {
            ""
        };
        steps.push(step("deny", deny.principal.arn(), None, note));
    }
    for key in &plan.principals.keys {
        steps.push(step(
            "deactivate key",
            &format!("{}/{}", key.user, key.key_id),
            None,
            "",
        ));
    }
    for region in &plan.regions {
        let name = Some(region.region.0.as_str());
        for (action, batches) in [("stop", &region.stops), ("terminate", &region.terminates)] {
            for id in batches.iter().flatten() {
                steps.push(step(action, id, name, ""));
            }
        }
    }
    let guarded = plan
        .regions
        .iter()
        .flat_map(|region| &region.guarded)
        .chain(&plan.principals.guarded);
    let mut warnings: Vec<String> = guarded
        .map(|id| format!("{id} is the guard's own and is left alone"))
        .collect();
    for ask in plan.regions.iter().flat_map(|region| &region.ask) {
        warnings.push(format!(
            "{ask:?} matches outside the declared accounts and regions: a person is asked"
        ));
    }
    let burning: Vec<_> = report
        .coverage
        .still_burning
        .iter()
        .chain(&report.would_refuse)
        .collect();
    json!({
        "agent": report.agent,
        "mode": report.mode,
        "account": report.account,
        "live": report.live,
        "steps": steps,
        "still_burning": burning,
        "warnings": warnings,
    })
}

pub(super) fn reset_view(impact: &ResetImpact, checked: Result<LineChanges, ResetError>) -> Value {
    let mut steps = Vec::new();
    let (changes, refused) = match checked {
        Ok(changes) => (changes, None),
        Err(error) => (LineChanges::default(), Some(Failure::from(error).to_json())),
    };
    for change in &changes.overrides {
        let note = match change.lifted_until {
            Some(until) => format!("its limit is lifted until {until}"),
            None => format!("its raise becomes ${}", change.raise),
        };
        steps.push(step("override", &line_name(&change.line), None, &note));
    }
    for start in &impact.starts {
        let price = start
            .usd_per_hour
            .map_or_else(|| "price unknown".to_owned(), |usd| format!("${usd} an hour"));
        steps.push(step(
            "start",
            &start.resource,
            None,
            &format!("{}, {price}", start.instance_type),
        ));
    }
    for lift in &impact.plan.lifts {
        steps.push(step("lift the deny", lift.principal.arn(), None, ""));
    }
    for (user, key) in &impact.plan.keys {
        steps.push(step("activate key", &format!("{user}/{key}"), None, ""));
    }
    json!({
        "agent": impact.agent,
        "containment": impact.containment,
        "usd_per_hour": impact.usd_per_hour.to_string(),
        "unpriced_machines": impact.unpriced,
        "kept_stopped": impact.plan.kept,
        "steps": steps,
        "still_burning": impact.plan.waiting,
        "refused": refused,
    })
}
