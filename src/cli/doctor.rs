//! `backstop doctor`
//!
//! The daemon examines itself and its cloud, because its credentials are what a containment will have. What
//! only this side can see is added here: the config as a restart would load it, whether the daemon answers, and
//! the unit that it runs under. Where no daemon answers, or with `--local`, the cloud is asked from here.

use std::fmt::Write as _;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::{Failure, UNREACHABLE};
use super::output::clean;
use super::{Entry, ExamineOptions, unit};
use crate::config::Settings;
use crate::domain::doctor::{Finding, Report, Standing};

/// Look at everything that a containment needs, before it is needed
///
/// Config, agents, credentials, clock, regions, every permission of the daemon, what agents could do to it,
/// its ledger and disk, and the hardening of its unit. Each is ok, warn, FAIL or not checked, with what to do;
/// for a missing permission the exact statement is printed. Nothing is changed, in AWS or here: it reads,
/// asks IAM's policy simulator, and lets EC2 answer dry runs.
///
/// The running daemon is asked, and looks with its own credentials. With --local, or where none answers,
/// this command looks, with yours.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 nothing failed (warnings are allowed, unless --strict), 1 something failed, 3 no daemon answers.

Examples:
  backstop doctor
  backstop doctor --strict --json | jq .missing_policy
  backstop doctor --local --role arn:aws:iam::123456789012:role/backstop/guard")]
pub struct Doctor {
    /// Ask AWS from here, with the credentials of this command, and no daemon
    #[arg(long)]
    local: bool,
    /// The role or user whose policies are looked at, by ARN, where it is not whose credentials these are
    #[arg(long, value_name = "ARN", requires = "local")]
    role: Option<String>,
    /// Let warnings fail as well
    #[arg(long)]
    strict: bool,
    /// The systemd unit, by its name or file; else backstop.service, unless the daemon is elsewhere
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
}

/// How long the daemon may take: an examination ends by its own limits, and may have to wait for another.
const EXAMINATION: Duration = Duration::from_secs(300);

/// How often it is said that it goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

impl Doctor {
    pub(super) async fn run(self, context: &Context, entry: Entry) -> Result<(), Failure> {
        let mut report = Report::default();
        let settings = config(context, &mut report);
        let mut unreachable = false;
        let by_daemon = if self.local {
            report
                .findings
                .push(Finding::not_checked("daemon", "--local: no daemon was asked"));
            None
        } else {
            context
                .output
                .say("asking the daemon to examine itself and its cloud, which can take a minute or two");
            match patiently(context, remote(context)).await {
                Ok(theirs) => Some(theirs),
                Err(failure) => {
                    unreachable = matches!(failure, Failure::Unreachable { .. });
                    report.findings.push(no_daemon(&failure));
                    None
                }
            }
        };
        let is_daemon = by_daemon.is_some();
        match (by_daemon, settings) {
            (Some(theirs), _) => add(&mut report, theirs),
            (None, Some(settings)) => {
                context
                    .output
                    .say("asking AWS from here, with the credentials of this command");
                let output = context.output;
                let options = ExamineOptions {
                    settings,
                    about: self.role.clone(),
                    tell: Box::new(move |text| output.say(text)),
                };
                add(&mut report, patiently(context, (entry.examine)(options)).await);
            }
            (None, None) => {
                let why = "the config does not load, so nobody knows what to look for";
                report.findings.push(Finding::not_checked("cloud", why));
            }
        }
        report.findings.extend(self.unit(context).await);
        self.print(context, &report, is_daemon)?;
        if unreachable {
            return Err(Failure::ReportedAs(UNREACHABLE));
        }
        if report.passes(self.strict) {
            Ok(())
        } else {
            Err(Failure::Reported)
        }
    }

    async fn unit(&self, context: &Context) -> Vec<Finding> {
        match (&self.unit, &context.global.admin_url) {
            (Some(unit), _) => unit::look(unit).await,
            (None, None) => unit::look(unit::USUAL).await,
            (None, Some(_)) => vec![Finding::not_checked(
                "unit",
                "with --admin-url the daemon may be on another machine; --unit looks at one here",
            )],
        }
    }

    fn print(&self, context: &Context, report: &Report, by_daemon: bool) -> Result<(), Failure> {
        let by = if by_daemon { "daemon" } else { "command" };
        if context.output.json {
            let counts = json!({
                "ok": report.count(Standing::Ok),
                "warn": report.count(Standing::Warn),
                "fail": report.count(Standing::Fail),
                "not_checked": report.count(Standing::NotChecked),
            });
            let all = json!({
                "ok": report.passes(self.strict),
                "strict": self.strict,
                "examined_by": by,
                "subject": report.subject,
                "counts": counts,
                "findings": report.findings,
                "missing_policy": report.missing_policy(),
            });
            return context.output.data(&all.to_string());
        }
        context.output.data(&shown(report))?;
        context.output.say(&summary(report, by_daemon));
        Ok(())
    }
}

/// Whether the config would load now; the settings, if it does.
fn config(context: &Context, report: &mut Report) -> Option<Settings> {
    let path = context.config_path();
    let name = path
        .as_ref()
        .map_or_else(|| "the built-in config".to_owned(), |path| path.display().to_string());
    match context.loader().load(path.as_deref()) {
        Ok(loaded) => {
            let (agents, budgets) = (loaded.settings.agents.len(), loaded.settings.budgets.len());
            let found = format!("{name} loads (agents: {agents}, budgets: {budgets})");
            report.findings.push(Finding::ok("config", found));
            for warning in &loaded.warnings {
                let todo = warning.hint.clone().unwrap_or_else(|| "see backstop check".to_owned());
                report.findings.push(Finding::warn("config", warning.to_string(), todo));
            }
            Some(loaded.settings)
        }
        Err(problems) => {
            let found = format!("{name} does not load (mistakes: {})", problems.errors().count());
            report.findings.push(Finding::fail(
                "config",
                found,
                "backstop check names each; a restart would fail",
            ));
            None
        }
    }
}

async fn remote(context: &Context) -> Result<Report, Failure> {
    let client = context.client()?;
    let answer = client.post_within(&["doctor"], &json!({}), EXAMINATION).await?;
    serde_json::from_value(answer.value).map_err(|error| {
        Failure::failed(format!(
            "the daemon's answer cannot be read ({error}): is it another version?"
        ))
    })
}

fn no_daemon(failure: &Failure) -> Finding {
    let todo = failure.hint().unwrap_or("see its log").to_owned();
    Finding::fail("daemon", format!("no examination by the daemon: {failure}"), todo)
}

fn add(report: &mut Report, theirs: Report) {
    report.subject = theirs.subject;
    report.findings.extend(theirs.findings);
}

/// Waits, and says now and then that it does.
async fn patiently<T>(context: &Context, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    for turn in 1_u64.. {
        match tokio::time::timeout(SIGN_OF_LIFE, &mut work).await {
            Ok(done) => return done,
            Err(_not_yet) => {
                let seconds = turn.saturating_mul(SIGN_OF_LIFE.as_secs());
                context.output.say(&format!("still examining ({seconds} s)"));
            }
        }
    }
    work.await
}

fn shown(report: &Report) -> String {
    let width = report.findings.iter().map(|one| one.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    let margin = " ".repeat(13 + width + 2);
    for one in &report.findings {
        let (word, check) = (one.standing.word(), clean(&one.check));
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{word:<13}{check:<width$}  {}", clean(&one.found));
        if let Some(todo) = &one.todo {
            let _ = writeln!(text, "{margin}→ {}", clean(todo));
        }
        for statement in &one.statements {
            for line in crate::domain::iam::text(statement).lines() {
                let _ = writeln!(text, "{margin}  {line}");
            }
        }
    }
    text.trim_end().to_owned()
}

fn summary(report: &Report, by_daemon: bool) -> String {
    let count = |standing: Standing| format!("{} {}", report.count(standing), standing.word());
    let standings = [Standing::Fail, Standing::Warn, Standing::NotChecked, Standing::Ok];
    let mut text = standings.map(count).join(", ");
    if let Some(subject) = &report.subject {
        let whose = if by_daemon {
            "the daemon's own credentials"
        } else {
            "the credentials of this command, which may differ from the daemon's"
        };
        let _ = write!(text, "; AWS was asked as {}, with {whose}", clean(&subject.asked_as));
        if subject.about != subject.asked_as {
            let _ = write!(text, ", about {}", clean(&subject.about));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::doctor::Subject;

    #[test]
    fn what_to_do_and_the_statement_stand_below_what_was_found() {
        let statement = json!({"Effect": "Allow", "Action": "iam:GetRole"});
        let report = Report {
            subject: Some(Subject {
                asked_as: "arn:a".to_owned(),
                about: "arn:b".to_owned(),
            }),
            findings: vec![
                Finding::ok("clock", "fine"),
                Finding::fail("permissions", "no\u{1b}[31m", "add this").with_statements(vec![statement]),
            ],
        };
        let text = shown(&report);
        assert!(
            text.starts_with("ok           clock        fine\nFAIL         permissions  no"),
            "{text}"
        );
        assert!(
            text.contains("→ add this\n") && text.contains("\"Action\": \"iam:GetRole\""),
            "{text}"
        );
        assert!(
            !text.contains('\u{1b}'),
            "what AWS says never reaches the terminal as it is"
        );
        let said = summary(&report, false);
        assert!(
            said.contains("1 FAIL") && said.contains("as arn:a") && said.contains("about arn:b"),
            "{said}"
        );
        assert!(said.contains("may differ"), "{said}");
        assert!(summary(&report, true).contains("the daemon's own"));
    }
}
