//! The table of an incident, for a person and as data.

use std::io::Write as _;

use anyhow::bail;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::defence::Defence;
use super::{Outcome, run};
use crate::cloud::rehearsal::incident::Incident;
use crate::domain::money::Usd;

/// An incident under every defence.
#[derive(Debug, Clone)]
pub struct Table {
    pub incident: Incident,
    pub outcomes: Vec<Outcome>,
}

/// Runs an incident against everything and prints what it cost. An error if it does not show what it is to.
pub fn demo(text: &str, as_json: bool) -> anyhow::Result<()> {
    let incident = Incident::parse(text)?;
    let mut outcomes = Vec::new();
    for defence in Defence::all() {
        // A reader that went away does not stop the demo.
        let _ = writeln!(std::io::stderr(), "simulating {} h: {}", incident.hours, defence.name());
        outcomes.push(run(&incident, defence)?);
    }
    let table = Table { incident, outcomes };
    let _ = if as_json {
        writeln!(std::io::stdout(), "{:#}", table.json())
    } else {
        write!(std::io::stdout(), "{}", table.text())
    };
    if table.checks().iter().all(|(kept, _)| *kept) {
        Ok(())
    } else {
        bail!("the incident does not show what it is to; see above")
    }
}

impl Table {
    fn of(&self, wanted: impl Fn(&Defence) -> bool) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |outcome| wanted(&outcome.defence))
    }

    /// What the table has to show, and whether it does.
    pub fn checks(&self) -> Vec<(bool, String)> {
        let published = self.incident.published.usd;
        let least = if self.incident.published.at_least {
            "at least "
        } else {
            ""
        };
        let nothing = self
            .of(|defence| *defence == Defence::Nothing)
            .map(|outcome| outcome.lost);
        let nothing = nothing.max().unwrap_or_default();
        let mut checks = vec![(
            self.incident.is_as_published(nothing),
            format!("with nothing it costs what is published: {least}${}", cents(published)),
        )];
        let budgets = self.of(|defence| matches!(defence, Defence::Budgets(_)));
        let least_of_budgets = budgets.map(|outcome| outcome.lost).min().unwrap_or_default();
        for outcome in self.of(|defence| matches!(defence, Defence::Backstop { .. })) {
            let percent = 100.0 * outcome.lost.as_f64_lossy() / nothing.as_f64_lossy();
            checks.push((
                percent < 2.0 && outcome.lost < least_of_budgets,
                format!("{}: {percent:.2} % of the loss", outcome.defence.name()),
            ));
        }
        checks
    }

    pub fn text(&self) -> String {
        let incident = &self.incident;
        let mut text = format!(
            "{}: {}\n{} hours; the agent's limit is ${} a day\n\n",
            incident.name, incident.story, incident.hours, incident.limit_usd
        );
        text.push_str(&format!(
            "{:<48} {:>12} {:>13} {:>9} {:>10} {:>10}\n",
            "against", "lost", "goes on, h", "breach", "first stop", "contained"
        ));
        for outcome in &self.outcomes {
            let [breached, first, contained] = outcome.stopped.as_ref().map_or_else(Default::default, |stopped| {
                [stopped.breached, stopped.first_stop, stopped.contained].map(clock)
            });
            text.push_str(&format!(
                "{:<48} {:>12} {:>13} {breached:>9} {first:>10} {contained:>10}\n",
                outcome.defence.name(),
                format!("${}", cents(outcome.lost)),
                format!("${}", cents(outcome.burn_after)),
            ));
        }
        text.push_str("\nassumed\n");
        for assumption in incident
            .assumptions
            .iter()
            .map(String::as_str)
            .chain(ASSUMED.iter().copied())
        {
            text.push_str(&format!("- {assumption}\n"));
        }
        text.push_str(&format!("the bill: {}\n\n", incident.published.source));
        for (kept, what) in self.checks() {
            text.push_str(&format!("{}  {what}\n", if kept { "ok    " } else { "BROKEN" }));
        }
        text
    }

    pub fn json(&self) -> Value {
        let row = |outcome: &Outcome| {
            let stopped = outcome.stopped.as_ref().map(|stopped| {
                json!({
                    "breached_s": stopped.breached.as_secs_f64(),
                    "first_stop_s": stopped.first_stop.as_secs_f64(),
                    "contained_s": stopped.contained.as_secs_f64(),
                    "lost_by_then_usd": stopped.lost_by_then.to_string(),
                    "peak_usd_per_hour": stopped.peak.to_string(),
                    "posted_usd": stopped.posted.to_string(),
                    "still_burning": stopped.still_burning,
                    "api_calls": stopped.calls,
                })
            });
            json!({
                "against": outcome.defence,
                "name": outcome.defence.name(),
                "lost_usd": outcome.lost.to_string(),
                "goes_on_usd_per_hour": outcome.burn_after.to_string(),
                "made": outcome.played.made,
                "refused": outcome.played.refused,
                "backstop": stopped,
            })
        };
        let checks = self.checks();
        let checks = checks.iter().map(|(kept, what)| json!({ "what": what, "kept": kept }));
        json!({
            "incident": self.incident.name,
            "story": self.incident.story,
            "hours": self.incident.hours,
            "limit_usd": self.incident.limit_usd.to_string(),
            "published_usd": self.incident.published.usd.to_string(),
            "published_source": self.incident.published.source,
            "assumptions": self.incident.assumptions.iter().map(String::as_str).chain(ASSUMED.iter().copied())
                .collect::<Vec<_>>(),
            "outcomes": self.outcomes.iter().map(row).collect::<Vec<_>>(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }
}

/// What every incident assumes.
const ASSUMED: &[&str] = &[
    "lost is the rehearsal's own bill over the whole time, which goes by what ran and for how long, and not by what \
     Backstop posted; goes on is what still costs at the end",
    "AWS Budgets acts 8 or 12 hours after the true bill crosses the limit, once; its policy denies the agent's role at \
     once; stopping machines is taken to reach all that run, though its instances have to be named beforehand",
    "Backstop watches already; a call to the cloud takes no time; machines and tasks cost until they are down, 8 s \
     after they are told to",
];

/// Dollars with thousands and cents; cut, not rounded.
fn cents(usd: Usd) -> String {
    let cents = usd.nanos() / 10_000_000;
    let whole = (cents / 100).to_string();
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text}.{:02}", cents % 100)
}

/// Hours, minutes and seconds since the agent began.
fn clock(since: SignedDuration) -> String {
    let seconds = since.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("+{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("+{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_people() {
        for (usd, text) in [
            ("0.009", "0.00"),
            ("999.99", "999.99"),
            ("100329.5", "100,329.50"),
            ("1234567", "1,234,567.00"),
        ] {
            assert_eq!(cents(usd.parse().unwrap()), text);
        }
        assert_eq!(clock(SignedDuration::from_secs(151)), "+2:31");
        assert_eq!(clock(SignedDuration::from_secs(9_003)), "+2:30:03");
    }
}
