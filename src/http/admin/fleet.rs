//! The fleet: what runs, whose it is, what it costs an hour.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminApi;
use crate::domain::burn::BurnRow;
use crate::domain::fleet::owner::Owner;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;
use crate::fleet::{AssetRow, FleetReport, RegionReport, Wanted};
use crate::http::agent::query;
use crate::http::error::Failure;

/// Assets in one answer at most, and if it is not said.
const MOST: usize = 1_000;
const USUAL: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetParameters {
    agent: Option<AgentId>,
    #[serde(default)]
    orphans: bool,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// Assets, the dearest first, a page at a time.
pub(super) async fn list(
    State(api): State<Arc<AdminApi>>,
    parameters: Result<Query<FleetParameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let asked = query(parameters)?;
    let wanted = Wanted {
        agent: asked.agent,
        orphans: asked.orphans,
        offset: asked.offset,
        limit: asked.limit.unwrap_or(USUAL).min(MOST),
    };
    let page = api.fleet.assets(&wanted);
    let next = asked.offset.saturating_add(page.rows.len());
    let report = api.fleet.report();
    Ok(Json(json!({
        "watching": report.standing,
        "account": report.account,
        "assets": page.rows.iter().map(asset).collect::<Vec<_>>(),
        "total": page.total,
        "usd_per_hour": page.usd_per_hour.to_string(),
        "next_offset": (next < page.total && !page.rows.is_empty()).then_some(next),
        "regions": regions(&report, api.clock.now()),
        "not_looked_at": report.not_looked_at,
    })))
}

fn asset(row: &AssetRow) -> Value {
    let (agent, by, declared, tagged, between) = match &row.owner {
        Owner::Agent {
            agent,
            by,
            declared,
            tagged,
        } => (Some(agent), Some(by), Some(*declared), tagged.as_ref(), None),
        Owner::Orphan { between } => (None, None, None, None, (!between.is_empty()).then_some(between)),
    };
    json!({
        "id": row.what.to_string(),
        "kind": row.what.kind,
        "region": row.what.region,
        "service": row.service,
        "agent": agent,
        "evidence": by,
        "in_declared_place": declared,
        "tagged_as": tagged,
        "claimed_by": between,
        "usd_per_hour": row.hourly.map(|hourly| hourly.usd.to_string()),
        "price_basis": row.hourly.map(|hourly| hourly.basis),
        "state": row.state,
        "note": row.note,
        "parent": row.parent.as_ref().map(ToString::to_string),
        "created_at": row.created_at,
        "seen_at": row.seen_at,
    })
}

/// What burns, in the status of the daemon.
pub(super) fn summary(report: &FleetReport, now: Timestamp) -> Value {
    let orphans = report.burn.iter().filter(|row| row.agent.is_none());
    let troubles = report
        .troubles
        .iter()
        .map(|(about, since, why)| json!({ "about": about, "since": since, "why": why }));
    json!({
        "watching": report.standing,
        "account": report.account,
        "usd_per_hour": sum(report.burn.iter()).to_string(),
        "orphans_usd_per_hour": sum(orphans).to_string(),
        "unposted_usd": report.unposted.to_string(),
        "burn": burn(&report.burn),
        "regions": regions(report, now),
        "not_looked_at": report.not_looked_at,
        "troubles": troubles.collect::<Vec<_>>(),
        "saved_at": report.saved_at,
    })
}

/// Rows of what burns, and the sum of them.
pub(super) fn burn_of(rows: &[BurnRow]) -> Value {
    json!({ "usd_per_hour": sum(rows.iter()).to_string(), "by_service": burn(rows) })
}

fn burn(rows: &[BurnRow]) -> Vec<Value> {
    let mut rows: Vec<&BurnRow> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.usd_per_hour));
    let view = |row: &BurnRow| {
        json!({
            "agent": row.agent,
            "service": row.service,
            "region": row.region,
            "assets": row.assets,
            "usd_per_hour": row.usd_per_hour.to_string(),
            "basis": row.basis,
        })
    };
    rows.into_iter().map(view).collect()
}

fn regions(report: &FleetReport, now: Timestamp) -> Vec<Value> {
    let view = |region: &RegionReport| {
        let failing = region
            .failing
            .iter()
            .map(|(kind, since, why)| json!({ "kind": kind, "since": since, "why": why }));
        json!({
            "region": region.region,
            "assets": region.assets,
            "looked_at": region.looked_at,
            "age_s": region.looked_at.map(|at| now.duration_since(at).as_secs().max(0)),
            "failing": failing.collect::<Vec<_>>(),
            "creations_read_at": region.creations_read_at,
            "creations_failing": region.creations_failing.as_ref()
                .map(|(since, why)| json!({ "since": since, "why": why })),
        })
    };
    report.regions.iter().map(view).collect()
}

fn sum<'a>(rows: impl Iterator<Item = &'a BurnRow>) -> Usd {
    rows.fold(Usd::ZERO, |sum, row| sum.saturating_add(row.usd_per_hour))
}
