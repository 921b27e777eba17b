//! Drills: rehearsing the kill switch, and what is kept of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::order::Order;
use super::{AdminApi, agent_of};
use crate::domain::containment::canary::{Canary, Candidates, MAX, TAG};
use crate::domain::containment::state::{Action, Containment, Phase};
use crate::domain::drill::evidence::{DOES_NOT_PROVE, PROVES};
use crate::domain::drill::{Drill, DrillHead, readiness};
use crate::domain::fleet::asset::AssetRef;
use crate::domain::id::{AgentId, DrillId};
use crate::domain::rejection::Rejection;
use crate::http::agent::query;
use crate::http::error::Failure;
use crate::http::path::Path;
use crate::ports::StoreError;

/// Drills that a list tells at most.
const MAX_LISTED: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DrillBody {
    canary: bool,
    /// What was shown and confirmed, by stable id: for a canary drill.
    assets: Vec<String>,
}

/// Rehearses now, and answers with the report; or begins a canary drill, which the kill switch has from here.
pub(super) async fn run(
    State(api): State<Arc<AdminApi>>,
    Order { by, agent, asked }: Order<DrillBody>,
) -> Result<Json<Value>, Failure> {
    if !asked.canary {
        let drill = api.killswitch.drill(&agent, &by.0).await?;
        return Ok(Json(whole(&drill)));
    }
    let found = api.killswitch.canaries(&agent).await?;
    let canary = Canary {
        drill: DrillId(api.entropy.id(api.clock.now())),
        by: by.0,
        assets: confirmed(&asked.assets, &found)?,
    };
    let opened = api.watch.drill(&agent, &canary).await?;
    Ok(Json(under_way(&opened, &canary)))
}

/// What is drilled is what a person saw: all of it must be a canary still.
fn confirmed(wanted: &[String], found: &Candidates) -> Result<BTreeSet<AssetRef>, Rejection> {
    let field = |problem: String| Rejection::Field {
        field: "assets".to_owned(),
        problem,
    };
    if found.fit.is_empty() {
        return Err(Rejection::State(no_canary(found)));
    }
    if wanted.is_empty() || wanted.len() > MAX {
        return Err(field(format!("names 1 to {MAX} canaries, as the impact shows them")));
    }
    let each = wanted.iter().map(|id| {
        let one = found.fit.iter().find(|one| one.asset.to_string() == *id);
        one.map(|one| one.asset.clone())
            .ok_or_else(|| field(format!("{id:.200} is no canary that could be stopped and put back now")))
    });
    each.collect()
}

fn no_canary(found: &Candidates) -> String {
    let (key, value) = TAG;
    let make = format!(
        "start an instance with the agent's ownership tag, and put the tag {key} = {value} on it as well; a t-size \
         machine of a few cents a day will do"
    );
    match found.unfit.as_slice() {
        [] => format!("there is no canary: {make}"),
        [one] => format!("the only canary is not fit ({}: {}); {make}", one.resource, one.why),
        many => format!(
            "none of {} canaries is fit ({}: {}); {make}",
            many.len(),
            many[0].resource,
            many[0].why
        ),
    }
}

/// The impact of a canary drill, as it is printed before it is asked for.
pub(super) fn canary_view(agent: &AgentId, found: &Candidates) -> Value {
    let steps = found.fit.iter().map(|one| {
        let (action, back) = match one.action {
            Action::Cap => ("cap and uncap", "its settings are put back within minutes"),
            _ => ("stop and start", "what it has in memory and on instance stores is lost"),
        };
        let price = one
            .hourly
            .map_or_else(String::new, |hourly| format!(", ${} an hour", hourly.usd));
        json!({
            "action": action,
            "resource": one.asset.to_string(),
            "region": one.asset.region,
            "note": format!("{}{price}; {back}", one.what),
        })
    });
    let refused = if found.fit.is_empty() {
        Some(no_canary(found))
    } else if found.fit.len() > MAX {
        let many = found.fit.len();
        Some(format!(
            "there are {many} canaries, and a drill takes {MAX}: take the tag off some of them"
        ))
    } else {
        None
    };
    json!({
        "agent": agent,
        "steps": steps.collect::<Vec<_>>(),
        "assets": found.fit.iter().map(|one| one.asset.to_string()).collect::<Vec<_>>(),
        "not_fit": found.unfit,
        "proves": PROVES,
        "does_not_prove": DOES_NOT_PROVE,
        "refused": refused.map(|message| json!({ "code": "no_canary", "message": message })),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    #[serde(default)]
    limit: Option<u32>,
}

/// An agent's drills, newest first, and the one that is under way.
pub(super) async fn list(
    State(api): State<Arc<AdminApi>>,
    Path(id): Path<String>,
    parameters: Result<Query<ListParameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let agent = agent_of(&api, &id).await?;
    let limit = query(parameters)?.limit.unwrap_or(20).min(MAX_LISTED);
    let drills = api.store.drills(&agent, limit).await?;
    let live = api.store.live_containments().await?;
    let live = live.iter().find(|one| one.agent == agent);
    let canary = live.and_then(|one| Some(under_way(one, one.canary.as_ref()?)));
    let plan = || {
        let stage = api.killswitch.drill_stage(&agent)?;
        Some(json!({ "kind": "plan", "stage": stage }))
    };
    Ok(Json(json!({
        "agent": agent,
        "readiness": readiness_of(&api, &agent).await?,
        "under_way": canary.or_else(plan),
        "drills": drills.iter().map(head).collect::<Vec<_>>(),
    })))
}

/// One drill with its report; one that is under way tells how far it is.
pub(super) async fn show(State(api): State<Arc<AdminApi>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let unknown = || Rejection::NotFound {
        what: "drill",
        id: id.chars().take(64).collect(),
    };
    let wanted: DrillId = id.parse().map_err(|_| unknown())?;
    if let Some(drill) = api.store.drill(wanted).await? {
        return Ok(Json(whole(&drill)));
    }
    let live = api.store.live_containments().await?;
    let canary = live.iter().find_map(|one| {
        let canary = one.canary.as_ref().filter(|canary| canary.drill == wanted)?;
        Some(under_way(one, canary))
    });
    match canary {
        Some(view) => Ok(Json(view)),
        // It may have ended between the two reads.
        None => match api.store.drill(wanted).await? {
            Some(drill) => Ok(Json(whole(&drill))),
            None => Err(unknown().into()),
        },
    }
}

/// A canary drill that is under way.
fn under_way(containment: &Containment, canary: &Canary) -> Value {
    let coverage = &containment.coverage;
    let down = coverage.stopped.len() + coverage.capped.len();
    let of = canary.assets.len();
    let stage = match containment.phase {
        Phase::Containing => format!("stopping: {down} of {of} canaries are down"),
        Phase::Contained => format!("{down} of {of} canaries are proved down"),
        Phase::Restoring => format!("putting back {of} canaries"),
        Phase::Closed => "over".to_owned(),
    };
    json!({
        "id": canary.drill,
        "agent": containment.agent,
        "kind": "canary",
        "state": "under_way",
        "by": canary.by,
        "began_at": containment.opened_at,
        "stage": stage,
        "canaries": canary.assets.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn head(head: &DrillHead) -> Value {
    json!({
        "id": head.id,
        "agent": head.agent,
        "kind": head.kind,
        "state": "over",
        "by": head.by,
        "began_at": head.began_at,
        "ended_at": head.ended_at,
        "outcome": head.outcome,
        "summary": head.summary,
        "stopping_s": head.stopping.map(|took| took.as_secs_f64()),
        "report_sha256": head.digest,
    })
}

fn whole(drill: &Drill) -> Value {
    let mut view = head(&drill.head);
    view["intact"] = drill.is_intact().into();
    view["report"] = serde_json::from_str(&drill.report).unwrap_or_else(|_| drill.report.clone().into());
    view
}

/// When an agent was last drilled, and what that says of today; nothing for one without a cloud side.
pub(super) async fn readiness_of(api: &AdminApi, agent: &AgentId) -> Result<Value, StoreError> {
    Ok(standing(api, agent, &api.store.last_drills().await?))
}

/// The same, from the newest drills of all agents.
pub(super) fn standing(api: &AdminApi, agent: &AgentId, last: &[DrillHead]) -> Value {
    let settings = api.killswitch.settings();
    let Some(declared) = settings.targets.get(agent) else {
        return Value::Null;
    };
    let own = || last.iter().filter(|head| head.agent == *agent);
    let now = readiness(own(), Some(declared), api.clock.now());
    json!({
        "state": now.state,
        "last_at": own().map(|head| head.ended_at).max(),
        "why": now.why,
    })
}
