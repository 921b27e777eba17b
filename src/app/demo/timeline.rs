//! What the demo prints: one line for each thing that happens, with the dollars at that point.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::checks::Checks;
use crate::domain::money::Usd;
use crate::ports::{Clock, Notice, NoticeKind, Notifier};

pub(super) struct Moment {
    pub(super) at: Timestamp,
    pub(super) what: String,
    pub(super) text: String,
    pub(super) spent: Option<Usd>,
    /// Dollars an hour of the fleet's machines.
    pub(super) burn: Option<Usd>,
}

/// Collects and prints. What the daemon tells people arrives as a notice, in the middle of the play.
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    began: Timestamp,
    quiet: bool,
    moments: Mutex<Vec<Moment>>,
    comparison: Mutex<Value>,
}

impl Timeline {
    /// `quiet` keeps everything for one JSON document at the end.
    pub(super) fn new(clock: Arc<dyn Clock>, quiet: bool) -> Self {
        let began = clock.now();
        Self {
            clock,
            began,
            quiet,
            moments: Mutex::default(),
            comparison: Mutex::default(),
        }
    }

    pub(super) fn title(&self, text: &str) {
        self.print(&format!(
            "{text}\n\n{:>9}  {:>9}  {:>9}  event",
            "time", "spent", "burn/h"
        ));
    }

    pub(super) fn add(&self, moment: Moment) {
        let seconds = moment.at.duration_since(self.began).as_secs();
        let dollars = |usd: Option<Usd>| usd.map_or_else(String::new, |usd| format!("${}", cents(usd)));
        let (spent, burn) = (dollars(moment.spent), dollars(moment.burn));
        let time = format!("+{}:{:02}", seconds / 60, seconds % 60);
        self.print(&format!(
            "{time:>9}  {spent:>9}  {burn:>9}  {:<14} {}",
            moment.what, moment.text
        ));
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
    }

    /// How often something was told.
    pub(super) fn count(&self, what: &str) -> usize {
        let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        moments.iter().filter(|moment| moment.what == what).count()
    }

    /// What the same night would have cost otherwise. The delay is AWS's own figure for its billing data
    /// (AWS Budgets: information is updated up to three times a day, 8 to 12 hours after the previous
    /// update; AWS Cost Management user guide), and the loop's rate is this demo's.
    pub(super) fn compare(&self, with: Usd, per_hour: Usd) {
        let after = |hours: i64| Usd::from_nanos(per_hour.nanos().saturating_mul(hours));
        let (eight, twelve, day) = (after(8), after(12), after(24));
        self.print(&format!(
            "\nwith Backstop ${}; until AWS Budgets would have said so (8 to 12 h) ${} to ${}; by the next day ${}",
            cents(with),
            cents(eight),
            cents(twelve),
            cents(day)
        ));
        *self.comparison.lock().unwrap_or_else(PoisonError::into_inner) = json!({
            "with_backstop_usd": with.to_string(),
            "after_8_hours_usd": eight.to_string(),
            "after_12_hours_usd": twelve.to_string(),
            "after_24_hours_usd": day.to_string(),
        });
    }

    /// Prints the checks; whether all are kept.
    pub(super) fn verdict(&self, checks: &Checks) -> bool {
        self.print("");
        for check in checks.all() {
            let mark = if check.kept { "ok    " } else { "BROKEN" };
            self.print(&format!("{mark}  {:<12} {}", check.promise, check.what));
        }
        checks.all().iter().all(|check| check.kept)
    }

    /// For `--json`: the whole play as one document.
    pub(super) fn finish(&self, as_json: bool, checks: &Checks) -> anyhow::Result<()> {
        if !as_json {
            return Ok(());
        }
        let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let moments: Vec<Value> = moments
            .iter()
            .map(|moment| {
                json!({
                    "at": moment.at,
                    "seconds": moment.at.duration_since(self.began).as_secs(),
                    "event": moment.what,
                    "text": moment.text,
                    "spent_usd": moment.spent.map(|usd| usd.to_string()),
                    "burn_usd_per_hour": moment.burn.map(|usd| usd.to_string()),
                })
            })
            .collect();
        let comparison = self.comparison.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let checks: Vec<Value> = checks
            .all()
            .iter()
            .map(|check| json!({ "promise": check.promise, "what": check.what, "kept": check.kept }))
            .collect();
        let document = json!({ "timeline": moments, "comparison": comparison, "checks": checks });
        writeln!(std::io::stdout(), "{document:#}")?;
        Ok(())
    }

    fn print(&self, line: &str) {
        if !self.quiet {
            // A reader that went away (`| head`) does not stop the demo.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

impl Notifier for Timeline {
    fn notify(&self, notice: Notice) {
        let what = match notice.kind {
            NoticeKind::Alert => "alert",
            NoticeKind::Breach => "breach",
            NoticeKind::Containing => "freeze",
            NoticeKind::Restoring => "reset",
            NoticeKind::StillBurning => "still burning",
            // The play says these itself, with the dollars.
            NoticeKind::Contained | NoticeKind::Reset => return,
            NoticeKind::Paused
            | NoticeKind::Resumed
            | NoticeKind::Review
            | NoticeKind::StoreDown
            | NoticeKind::ClockJump => "notice",
        };
        self.add(Moment {
            at: self.clock.now(),
            what: what.to_owned(),
            text: notice.text,
            spent: None,
            burn: None,
        });
    }
}

/// Dollars and cents, for reading; cut, not rounded, so that a limit never looks reached before it is.
fn cents(usd: Usd) -> String {
    let cents = usd.nanos() / 10_000_000;
    format!("{}.{:02}", cents / 100, (cents % 100).abs())
}
