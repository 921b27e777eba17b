//! What a containment or a reset would do, as the command line prints it before it asks for `--yes`.

use serde_json::{Value, json};

use crate::domain::containment::hourly::{AS_OF, Hourly, PriceBasis};
use crate::domain::fleet::asset::Settings;
use crate::domain::judgement::reset::LineChanges;
use crate::domain::ledger::line::LineKey;
use crate::domain::money::Usd;
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

/// What a machine is and costs: `m7g.large, $0.0816 an hour`.
fn machine_note(what: &str, hourly: Hourly) -> String {
    let usd = hourly.usd;
    match hourly.basis {
        PriceBasis::Listed => format!("{what}, ${usd} an hour"),
        PriceBasis::Estimated => format!("{what}, about ${usd} an hour"),
        PriceBasis::Ceiling => format!("{what}, no price known: ${usd} an hour as a ceiling"),
    }
}

/// Settings as a person reads them: `desired=0`.
fn settings_note(settings: &Settings) -> String {
    let each = settings.iter().map(|(name, value)| format!("{name}={value}"));
    each.collect::<Vec<_>>().join(", ")
}

/// Where the dollars come from, and what the least sure of them is worth.
fn prices_note(basis: PriceBasis) -> String {
    let sure = match basis {
        PriceBasis::Listed => "",
        PriceBasis::Estimated => ", times what a region costs on the whole",
        PriceBasis::Ceiling => ", with ceilings for types or regions that it does not have",
    };
    format!("list prices for Linux on demand, as of {AS_OF}{sure}; no discounts, disks or traffic")
}

pub(super) fn plan_view(report: &PlanReport) -> Value {
    let plan = &report.plan;
    let mut steps = Vec::new();
    for deny in &plan.principals.denies {
        let note = match (deny.put_back, deny.attach) {
            (true, _) => "somebody took it away: it is put back",
            (false, true) => "its inline policies leave no room: by a managed policy",
            (false, false) => "",
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
    for credential in &plan.principals.credentials {
        let target = format!("{}/{}", credential.user, credential.id);
        steps.push(step("deactivate service credential", &target, None, ""));
    }
    let mut spared = Usd::ZERO;
    for region in &plan.regions {
        let name = Some(region.region.0.as_str());
        for cap in &region.caps {
            let mut note = settings_note(&cap.settings);
            if cap.put_back {
                note.push_str("; somebody uncapped it: it is put back");
            }
            steps.push(step("cap", &cap.asset.to_string(), name, &note));
        }
        let mut spare = |id: &String| {
            region.costs.get(id).map(|cost| {
                spared = spared.saturating_add(cost.hourly.usd);
                machine_note(&cost.what, cost.hourly)
            })
        };
        for asset in &region.ends {
            let id = asset.to_string();
            steps.push(step("end", &id, name, &spare(&id).unwrap_or_default()));
        }
        for (action, batches) in [("stop", &region.stops), ("terminate", &region.terminates)] {
            for id in batches.iter().flatten() {
                let resource = format!("instance:{}/{id}", region.region);
                let refused = report.would_refuse.iter().any(|line| line.resource == resource);
                let note = if refused {
                    let cost = region.costs.get(&resource);
                    cost.map(|cost| machine_note(&cost.what, cost.hourly))
                } else {
                    spare(&resource)
                };
                steps.push(step(action, id, name, &note.unwrap_or_default()));
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
        warnings.push(format!("{}: {}; a person is asked", ask.resource, ask.why));
    }
    let burning: Vec<_> = report
        .coverage
        .still_burning
        .iter()
        .chain(&report.would_refuse)
        .collect();
    let burn = report.coverage.burn;
    json!({
        "agent": report.agent,
        "mode": report.mode,
        "account": report.account,
        "live": report.live,
        "usd_per_hour": burn.map(|burn| burn.now.to_string()),
        "usd_per_hour_after": burn.map(|burn| burn.now.saturating_sub(spared).to_string()),
        "prices": burn.map(|burn| prices_note(burn.basis)),
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
        let note = machine_note(&start.instance_type, start.hourly);
        steps.push(step("start", &start.resource, None, &note));
    }
    for lift in &impact.plan.lifts {
        steps.push(step("lift the deny", lift.principal.arn(), None, ""));
    }
    for principal in &impact.plan.detaches {
        steps.push(step("detach the deny", principal.arn(), None, ""));
    }
    for (user, id) in &impact.plan.credentials {
        steps.push(step("activate service credential", &format!("{user}/{id}"), None, ""));
    }
    for (user, key) in &impact.plan.keys {
        steps.push(step("activate key", &format!("{user}/{key}"), None, ""));
    }
    for uncap in &impact.uncaps {
        let note = match uncap.hourly {
            Some(hourly) => machine_note(&settings_note(&uncap.uncap.settings), hourly),
            None => format!(
                "{}; what it starts besides the machines above is not known, and not in the price",
                settings_note(&uncap.uncap.settings)
            ),
        };
        steps.push(step("uncap", &uncap.uncap.asset.to_string(), None, &note));
    }
    let basis = impact.starts.iter().map(|start| start.hourly.basis);
    let uncapped = impact.uncaps.iter().filter_map(|uncap| Some(uncap.hourly?.basis));
    let basis = basis.chain(uncapped).max();
    json!({
        "agent": impact.agent,
        "containment": impact.containment,
        "usd_per_hour": impact.usd_per_hour.to_string(),
        "unpriced_machines": impact.unpriced,
        "prices": basis.map(prices_note),
        "kept_stopped": impact.plan.kept,
        "steps": steps,
        "still_burning": impact.plan.waiting,
        "refused": refused,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::containment::attribution::Attribution;
    use crate::domain::containment::coverage::after_sweep;
    use crate::domain::containment::hourly::hourly;
    use crate::domain::containment::plan::{AssetCost, Plan, RegionPlan};
    use crate::domain::containment::restore::RestorePlan;
    use crate::domain::containment::state::{Containment, Mode, StillBurning};
    use crate::domain::containment::target::Region;
    use crate::domain::id::{AgentId, ContainmentId};
    use crate::killswitch::report::StartImpact;

    fn region() -> Region {
        Region("us-east-1".to_owned())
    }

    fn cost(kind: &str) -> AssetCost {
        AssetCost {
            what: kind.to_owned(),
            hourly: hourly(kind, &region()),
            runs: true,
        }
    }

    fn containment() -> Containment {
        let (id, agent) = (ContainmentId(uuid::Uuid::nil()), AgentId::new("a").unwrap());
        Containment::opened(id, agent, 1, Mode::Contain, "", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_plan_says_what_it_saves_and_what_would_go_on() {
        let mut in_region = RegionPlan::empty(region());
        in_region.stops = vec![vec!["i-1".to_owned(), "i-protected".to_owned()]];
        for (id, kind) in [
            ("i-1", "m7g.large"),
            ("i-protected", "m7g.large"),
            ("i-spot", "p9.48xlarge"),
        ] {
            in_region.costs.insert(format!("instance:us-east-1/{id}"), cost(kind));
        }
        let plan = Plan {
            regions: vec![in_region],
            ..Plan::default()
        };
        let spacing = jiff::SignedDuration::ZERO;
        let known = Attribution::default();
        let (after, _) = after_sweep(&containment(), &plan, Timestamp::UNIX_EPOCH, spacing, &known);
        let view = plan_view(&PlanReport {
            agent: AgentId::new("a").unwrap(),
            mode: Mode::Contain,
            account: None,
            live: None,
            plan,
            coverage: after.coverage,
            would_refuse: vec![StillBurning {
                resource: "instance:us-east-1/i-protected".to_owned(),
                why: "protected".to_owned(),
            }],
        });
        assert_eq!(view["usd_per_hour"], "144.1632");
        assert_eq!(view["usd_per_hour_after"], "144.0816");
        assert_eq!(view["steps"][0]["note"], "m7g.large, $0.0816 an hour");
        assert!(view["prices"].as_str().unwrap().contains("ceilings"), "{view}");
    }

    #[test]
    fn a_reset_says_what_each_machine_costs_and_what_is_only_a_ceiling() {
        let start = |id: &str, kind: &str| StartImpact {
            resource: format!("instance:us-east-1/{id}"),
            instance_type: kind.to_owned(),
            hourly: hourly(kind, &region()),
        };
        let impact = ResetImpact {
            agent: AgentId::new("a").unwrap(),
            containment: ContainmentId(uuid::Uuid::nil()),
            plan: RestorePlan::default(),
            uncaps: Vec::new(),
            starts: vec![start("i-1", "m8g.12xlarge"), start("i-2", "m99.large")],
            usd_per_hour: Usd::from_nanos(2_654_240_000),
            unpriced: 1,
        };
        let view = reset_view(&impact, Ok(LineChanges::default()));
        assert_eq!(view["usd_per_hour"], "2.65424");
        assert_eq!(view["steps"][0]["note"], "m8g.12xlarge, $2.15424 an hour");
        assert_eq!(
            view["steps"][1]["note"],
            "m99.large, no price known: $0.50 an hour as a ceiling"
        );
        assert_eq!(view["unpriced_machines"], 1);
        assert!(view["prices"].as_str().unwrap().contains(AS_OF));
        let nothing = reset_view(
            &ResetImpact {
                starts: vec![],
                ..impact
            },
            Ok(LineChanges::default()),
        );
        assert!(nothing["prices"].is_null());
    }
}
