//! `backstop usage import`

use std::collections::VecDeque;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::context::Context;
use super::failure::Failure;
use super::output::{rows, table, text};
use crate::domain::id::AgentId;

#[derive(Debug, Subcommand)]
pub enum Usage {
    /// Post usage reports from a file: a JSON array, one object, or one object a line
    ///
    /// The form is that of POST /v1/usage. A report that was posted before is recognised by its id and
    /// not counted twice, so an import that broke off can be repeated.
    #[command(
        after_help = "Examples:\n  backstop usage import reports.jsonl --agent support-bot\n  zcat reports.gz | backstop usage import - --all-or-nothing"
    )]
    Import(Import),
}

#[derive(Debug, Args)]
pub struct Import {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The agent for rows that name none
    #[arg(long)]
    agent: Option<AgentId>,
    /// Keep nothing if any row is wrong; only for what fits into one request
    #[arg(long)]
    all_or_nothing: bool,
}

/// Bytes read at most.
const MAX_INPUT: u64 = 1 << 30;
/// One request: well below the daemon's default limits, 10,000 rows and 16 megabytes.
const MAX_ROWS: usize = 5_000;
const MAX_BYTES: usize = 8 << 20;

impl Usage {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::Import(import) = self;
        import.run(context).await
    }
}

impl Import {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let input = split(&self.read()?)?;
        if input.is_empty() {
            return Err(Failure::failed("there are no rows in it"));
        }
        let batches = batches(&input);
        if self.all_or_nothing && batches.len() > 1 {
            let message = format!(
                "{} rows do not fit into one request, so they cannot be kept all or not at all",
                input.len()
            );
            return Err(Failure::Usage {
                message,
                hint: Some("leave --all-or-nothing out: a repeated import posts no row twice".to_owned()),
            });
        }
        let client = context.client()?;
        let progress = progress(input.len(), batches.len());
        let mut merged: Option<Answer> = None;
        let mut left = VecDeque::from(batches);
        while let Some(batch) = left.pop_front() {
            let answer = match self.send(&client, batch).await {
                Ok(answer) => answer,
                // The daemon takes less at once than it does by default, and has kept nothing of it.
                Err(failure) if is_too_much(&failure) && batch.len() > 1 && !self.all_or_nothing => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    left.push_front(second);
                    left.push_front(first);
                    continue;
                }
                Err(failure) => {
                    progress.finish_and_clear();
                    if let Some(merged) = &merged {
                        let until = summary(&merged.value);
                        context.output.say(&format!("it broke off; until then: {until}"));
                    }
                    return Err(failure);
                }
            };
            progress.inc(batch.len() as u64);
            merged = Some(merge(merged, answer));
        }
        progress.finish_and_clear();
        let Some(answer) = merged else { return Ok(()) };
        context.output.answer(&answer, |value| rejected_table(value, &input))?;
        context.output.say(&summary(&answer.value));
        if count(&answer.value, "rejected") > 0 {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }

    fn read(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let name = self.file.display();
        let read = if self.file.as_os_str() == "-" {
            std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text)
        } else {
            std::fs::File::open(&self.file).and_then(|file| file.take(MAX_INPUT + 1).read_to_string(&mut text))
        };
        let length = read.map_err(|error| Failure::failed(format!("{name} cannot be read: {error}")))?;
        if length as u64 > MAX_INPUT {
            return Err(Failure::failed(format!("{name} is larger than a gigabyte: split it")));
        }
        Ok(text)
    }

    async fn send(&self, client: &Client, batch: &[Row]) -> Result<Answer, Failure> {
        let mut body = Vec::with_capacity(batch.iter().map(|row| row.text.len() + 1).sum());
        for row in batch {
            body.extend_from_slice(row.text.as_bytes());
            body.push(b'\n');
        }
        let mut query = Vec::new();
        query.extend(self.agent.as_ref().map(|agent| ("agent", agent.as_str())));
        if self.all_or_nothing {
            query.push(("all_or_nothing", "true"));
        }
        client.upload(&["usage"], &query, "application/jsonl", body).await
    }
}

/// One report as it was written, without line breaks, and where it stands in the input.
struct Row {
    text: String,
    /// The line, or for an array the element; counts from 1.
    place: usize,
}

/// Splits the input into rows without reading what they say: that is for the daemon to judge, row by
/// row, and a number must reach it as it was written.
fn split(input: &str) -> Result<Vec<Row>, Failure> {
    let trimmed = input.trim_start_matches('\u{feff}').trim();
    let one_line = |raw: &RawValue| raw.get().replace(['\n', '\r'], " ");
    if trimmed.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(trimmed)
            .map_err(|error| Failure::failed(format!("it is not a JSON array: {error}; nothing was sent")))?;
        let row = |(index, raw): (usize, &&RawValue)| Row {
            text: one_line(raw),
            place: index + 1,
        };
        return Ok(items.iter().enumerate().map(row).collect());
    }
    // One object over several lines; one object a line does not parse as one.
    if let Ok(raw) = serde_json::from_str::<&RawValue>(trimmed) {
        return Ok(vec![Row {
            text: one_line(raw),
            place: 1,
        }]);
    }
    let lines = input.trim_start_matches('\u{feff}').lines().enumerate();
    let filled = lines
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty());
    Ok(filled
        .map(|(place, line)| Row {
            text: line.to_owned(),
            place,
        })
        .collect())
}

fn batches(rows: &[Row]) -> Vec<&[Row]> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, row) in rows.iter().enumerate() {
        let length = row.text.len() + 1;
        if index > start && (index - start == MAX_ROWS || bytes + length > MAX_BYTES) {
            batches.push(&rows[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += length;
    }
    batches.push(&rows[start..]);
    batches
}

fn is_too_much(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { code, .. } if matches!(code.as_str(), "too_many_rows" | "body_too_large"))
}

/// Only on a terminal, and only where there is something to wait for.
fn progress(rows: usize, batches: usize) -> ProgressBar {
    let shown = batches > 1 && std::io::stderr().is_terminal();
    let target = if shown {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(rows as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} rows {per_sec} {eta}") {
        bar.set_style(style);
    }
    if shown {
        bar.enable_steady_tick(Duration::from_millis(250));
    }
    bar
}

fn count(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// Adds the answer to a further batch: counts and sums add up, its rows count on.
fn merge(before: Option<Answer>, next: Answer) -> Answer {
    let Some(Answer { value: mut all, .. }) = before else {
        return next;
    };
    // What an answer holds is the daemon's to say: only an object has fields to be set.
    let set = |value: &mut Value, key: &str, to: Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.insert(key.to_owned(), to);
        }
    };
    let offset = count(&all, "rows_total");
    let mut more = rows(&next.value, "rows").to_vec();
    for row in &mut more {
        let index = count(row, "row").saturating_add(offset);
        set(row, "row", json!(index));
    }
    for key in ["rows_total", "posted", "duplicates", "rejected"] {
        let sum = count(&all, key).saturating_add(count(&next.value, key));
        set(&mut all, key, json!(sum));
    }
    let amount = |value: &Value| {
        text(value, "posted_usd")
            .parse()
            .unwrap_or(crate::domain::money::Usd::ZERO)
    };
    let sum = amount(&all).saturating_add(amount(&next.value));
    set(&mut all, "posted_usd", json!(sum.to_string()));
    if let Some(list) = all.get_mut("rows").and_then(Value::as_array_mut) {
        list.append(&mut more);
    }
    Answer {
        text: all.to_string(),
        value: all,
    }
}

fn summary(value: &Value) -> String {
    format!(
        "{} rows: {} posted (${}), {} seen before, {} rejected",
        count(value, "rows_total"),
        count(value, "posted"),
        text(value, "posted_usd"),
        count(value, "duplicates"),
        count(value, "rejected")
    )
}

/// The rows that were not kept, by their place in the input.
fn rejected_table(value: &Value, input: &[Row]) -> String {
    let rejected: Vec<Value> = rows(value, "rows")
        .iter()
        .filter(|row| text(row, "status") == "rejected")
        .map(|row| {
            let place = usize::try_from(count(row, "row"))
                .ok()
                .and_then(|index| input.get(index))
                .map(|row| row.place);
            let mut shown = row.clone();
            shown["line"] = json!(place);
            shown
        })
        .collect();
    table(&rejected, &["line", "id", "error.code", "error.message"], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Vec<(usize, String)> {
        split(input)
            .map(|rows| rows.into_iter().map(|row| (row.place, row.text)).collect())
            .unwrap_or_default()
    }

    #[test]
    fn every_form_becomes_rows_as_they_were_written() {
        assert_eq!(
            texts("[{\"a\": 1.10},\n {\"b\":\n 2}]"),
            [(1, "{\"a\": 1.10}".to_owned()), (2, "{\"b\":  2}".to_owned())]
        );
        assert_eq!(texts("{\n\"a\": 1\n}\n"), [(1, "{ \"a\": 1 }".to_owned())]);
        assert_eq!(
            texts("\u{feff}{\"a\":1}\n\n{broken\n"),
            [(1, "{\"a\":1}".to_owned()), (3, "{broken".to_owned())],
            "a broken line is for the daemon to judge"
        );
        assert!(split("[1,").is_err());
        assert!(split(" \n ").is_ok_and(|rows| rows.is_empty()));
    }

    #[test]
    fn batches_hold_so_many_rows_and_bytes() {
        let row = |length: usize| Row {
            text: "x".repeat(length),
            place: 1,
        };
        let many: Vec<Row> = (0..MAX_ROWS * 2 + 1).map(|_| row(1)).collect();
        assert_eq!(
            batches(&many).iter().map(|batch| batch.len()).collect::<Vec<_>>(),
            [MAX_ROWS, MAX_ROWS, 1]
        );
        let large = [row(MAX_BYTES), row(1), row(MAX_BYTES)];
        assert_eq!(
            batches(&large).iter().map(|batch| batch.len()).collect::<Vec<_>>(),
            [1, 1, 1]
        );
    }

    #[test]
    fn answers_add_up() {
        let answer = |rejected: u64| {
            let value = json!({
                "rows_total": 2, "posted": 2 - rejected, "duplicates": 0, "rejected": rejected, "posted_usd": "0.10",
                "rows": [{"row": 0, "status": "posted"},
                         {"row": 1, "status": "rejected", "error": {"code": "invalid_field", "message": "no"}}]
            });
            Answer {
                text: value.to_string(),
                value,
            }
        };
        let merged = merge(Some(merge(None, answer(0))), answer(1)).value;
        assert_eq!(summary(&merged), "4 rows: 3 posted ($0.20), 0 seen before, 1 rejected");
        assert_eq!(merged["rows"][3]["row"], 3);
        let input: Vec<Row> = (0..4)
            .map(|index| Row {
                text: String::new(),
                place: index * 2 + 1,
            })
            .collect();
        assert!(
            rejected_table(&merged, &input).contains(" 7 "),
            "{}",
            rejected_table(&merged, &input)
        );
    }
}
