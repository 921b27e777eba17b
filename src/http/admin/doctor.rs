//! The doctor, as an operator asks the running daemon: what it sees of itself and, with its own credentials,
//! of the cloud.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;

use super::AdminApi;
use crate::config::Settings;
use crate::domain::doctor::{Finding, Report, some, time};
use crate::fleet::{FleetReport, Standing};
use crate::ledger::Status;
use crate::ports::{StoreError, StoreStats};

/// How many polls a look may be old.
const MISSED_POLLS: u32 = 4;

/// The daemon's findings. It changes nothing, and takes as long as AWS takes, within its limits.
pub(super) async fn examine(State(api): State<Arc<AdminApi>>) -> Json<Report> {
    let settings = api.settings.current();
    let mut findings = of_ledger(&api.ledger.status());
    findings.push(of_disk(api.store.stats().await, settings.storage.reserve_bytes));
    findings.push(of_audit(api.audit.health.broken(), api.audit.health.unsigned()));
    findings.extend(of_watcher(&api.fleet.report(), &settings, api.clock.now()));
    let case = (api.case)();
    let cloud = api.doctor.examine(&case, &|_| {}).await;
    findings.extend(cloud.findings);
    Json(Report {
        subject: cloud.subject,
        findings,
    })
}

fn of_ledger(status: &Status) -> Vec<Finding> {
    let version = env!("CARGO_PKG_VERSION");
    let mut findings = Vec::new();
    if status.store_down {
        let found = format!("Backstop {version} runs, and its ledger cannot be written: all new spend is refused");
        findings.push(Finding::fail(
            "daemon",
            found,
            "look at its log, at the disk and at the rights of its state",
        ));
    } else if status.draining {
        let found = format!("Backstop {version} is stopping: all new spend is refused");
        findings.push(Finding::warn(
            "daemon",
            found,
            "wait until it has ended, and start it again",
        ));
    } else {
        let (epoch, open) = (status.epoch, status.open_holds);
        let found = format!("Backstop {version} runs and its ledger is healthy (epoch {epoch}, open holds: {open})");
        findings.push(Finding::ok("daemon", found));
    }
    findings.push(time::of_ledger(status.clock));
    findings
}

fn of_disk(stats: Result<StoreStats, StoreError>, reserve: u64) -> Finding {
    const CHECK: &str = "disk";
    let free = match stats {
        Ok(stats) => stats.free_bytes,
        Err(error) => {
            return Finding::fail(
                CHECK,
                format!("the store does not answer: {error}"),
                "look at the daemon's log",
            );
        }
    };
    let Some(free) = free else {
        return Finding::not_checked(CHECK, "the store does not say how much room it has");
    };
    let megabytes = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    let (has, kept) = (megabytes(free), megabytes(reserve));
    let todo = "make room where the ledger is, or lower storage.reserve_bytes";
    if free < reserve {
        let found = format!("{has} are free and {kept} are kept in reserve: new spend is refused");
        return Finding::fail(CHECK, found, todo);
    }
    if free < reserve.saturating_mul(2) {
        return Finding::warn(
            CHECK,
            format!("{has} are free; below {kept} new spend is refused"),
            todo,
        );
    }
    Finding::ok(CHECK, format!("{has} are free; below {kept} new spend is refused"))
}

fn of_audit(broken: Option<&str>, unsigned: i64) -> Finding {
    const CHECK: &str = "audit";
    match broken {
        Some(why) => Finding::fail(
            CHECK,
            format!("the audit log cannot be signed: {why}"),
            "see backstop audit verify",
        ),
        None => Finding::ok(
            CHECK,
            format!("the audit log is signed (entries since the last head: {unsigned})"),
        ),
    }
}

fn of_watcher(report: &FleetReport, settings: &Settings, now: Timestamp) -> Vec<Finding> {
    const CHECK: &str = "watcher";
    if !settings.aws.enabled || !settings.aws.watch {
        return vec![Finding::not_checked(
            CHECK,
            "the fleet is not watched: aws.enabled and aws.watch are not both true",
        )];
    }
    match report.standing {
        Standing::Watching => {}
        Standing::Elsewhere => {
            let found = "another daemon on this store has the lease and watches the fleet";
            return vec![Finding::ok(CHECK, found)];
        }
        Standing::Unknown | Standing::Off => {
            let found = "the fleet is not watched yet: AWS has not said who the daemon is there";
            return vec![Finding::fail(
                CHECK,
                found,
                "see identity; nothing is seen, charged or foreseen until then",
            )];
        }
    }
    let limit = settings
        .aws
        .poll_every
        .saturating_mul(MISSED_POLLS)
        .as_secs()
        .saturating_add(30);
    let age = |at: Timestamp| now.duration_since(at).as_secs().max(0).unsigned_abs();
    let (mut stale, mut failing, mut oldest) = (Vec::new(), Vec::new(), 0);
    for region in &report.regions {
        let name = &region.region;
        match region.looked_at.map(age) {
            Some(age) if age <= limit => oldest = oldest.max(age),
            Some(age) => stale.push(format!("{name} {age} s ago")),
            None => stale.push(format!("{name} never")),
        }
        let kinds = region
            .failing
            .iter()
            .map(|(kind, since, why)| format!("{name}: {kind} since {since}: {why}"));
        failing.extend(kinds);
    }
    let mut findings = Vec::new();
    if stale.is_empty() && failing.is_empty() {
        let found = format!(
            "the last look at every region is at most {oldest} s old (regions: {})",
            report.regions.len()
        );
        findings.push(Finding::ok(CHECK, found));
    }
    if !stale.is_empty() {
        let found = format!("not looked at within {limit} s: {}", some(&stale));
        findings.push(Finding::fail(
            CHECK,
            found,
            "see endpoints and permissions; what runs there is charged as it was",
        ));
    }
    if !failing.is_empty() {
        let found = format!("cannot be seen, and is charged for as it was: {}", some(&failing));
        findings.push(Finding::warn(
            CHECK,
            found,
            "see permissions: a look that is refused is one that is missing",
        ));
    }
    for (about, since, why) in &report.troubles {
        let found = format!("{about} failing since {since}: {why}");
        findings.push(Finding::warn(CHECK, found, "see endpoints and permissions"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::doctor::Standing as Stands;

    #[test]
    fn a_disk_is_judged_before_it_refuses() {
        let stats = |free: Option<u64>| {
            Ok(StoreStats {
                free_bytes: free,
                ..StoreStats::default()
            })
        };
        for (free, standing) in [
            (Some(99), Stands::Fail),
            (Some(100), Stands::Warn),
            (Some(199), Stands::Warn),
            (Some(200), Stands::Ok),
            (None, Stands::NotChecked),
        ] {
            assert_eq!(of_disk(stats(free), 100).standing, standing, "{free:?}");
        }
        assert_eq!(of_disk(stats(Some(0)), 0).standing, Stands::Ok, "no reserve is kept");
        let gone = Err(StoreError::NotFound { what: "the file" });
        assert_eq!(of_disk(gone, 100).standing, Stands::Fail);
    }

    #[test]
    fn a_log_that_cannot_be_signed_is_a_failure() {
        assert_eq!(of_audit(Some("the key is gone"), 0).standing, Stands::Fail);
        assert_eq!(of_audit(None, 3).standing, Stands::Ok);
    }
}
