//! What a command prints. Standard output is data, standard error is talk.
//!
//! Answers are rendered from the API's JSON by their own field names, so that a field which the daemon
//! adds shows up without a change here, and `--json` is the answer as it came. Texts in it may have
//! been written by an agent: control characters never reach the terminal.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

use super::client::Answer;
use super::failure::Failure;

#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// Prints an answer: verbatim for `--json`, else as `render` makes it.
    pub fn answer(self, answer: &Answer, render: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        if self.json {
            self.data(answer.text.trim_end())
        } else {
            self.data(&render(&answer.value))
        }
    }

    /// Data, for standard output.
    pub fn data(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = if text.is_empty() {
            Ok(())
        } else {
            writeln!(out, "{text}").and_then(|()| out.flush())
        };
        match written {
            // Who reads us has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    /// Talk, for standard error. Nobody is there to be told when that fails.
    pub fn say(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// The list in an answer: the answer itself, or the field of that name.
pub fn rows<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value.as_array().or_else(|| value.get(name)?.as_array());
    list.map_or(&[], Vec::as_slice)
}

/// A field by a path such as `entry.actor`.
pub fn field<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(value, |value, key| value.get(key))
        .filter(|value| !value.is_null())
}

pub fn text(value: &Value, path: &str) -> String {
    field(value, path).map_or_else(String::new, show)
}

/// A table of the columns that any row has something in; of all scalar fields if none are named.
pub fn table(rows: &[Value], columns: &[&str], empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_owned();
    }
    let all: Vec<String>;
    let wanted: Vec<&str> = if columns.is_empty() {
        all = all_columns(rows);
        all.iter().map(String::as_str).collect()
    } else {
        columns.to_vec()
    };
    let used: Vec<&str> = wanted
        .into_iter()
        .filter(|path| rows.iter().any(|row| !text(row, path).is_empty()))
        .collect();
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(
        used.iter()
            .map(|path| Cell::new(title(path)).set_alignment(alignment(path))),
    );
    for row in rows {
        table.add_row(
            used.iter()
                .map(|path| Cell::new(text(row, path)).set_alignment(alignment(path))),
        );
    }
    table
        .to_string()
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

fn all_columns(rows: &[Value]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys) {
        if !columns.contains(key) {
            columns.push(key.clone());
        }
    }
    columns
}

/// `limit_usd` is `LIMIT USD`, and of a path the last part counts.
fn title(path: &str) -> String {
    path.rsplit('.')
        .next()
        .unwrap_or_default()
        .replace('_', " ")
        .to_uppercase()
}

fn alignment(path: &str) -> CellAlignment {
    let numeric = path.ends_with("_usd") || matches!(path, "seq" | "postings" | "percent" | "keys" | "open_reviews");
    if numeric {
        CellAlignment::Right
    } else {
        CellAlignment::Left
    }
}

/// An object: its plain fields one a line, then its lists as tables, then its objects, each with a
/// heading. Empty ones are left out.
pub fn record(value: &Value, leave_out: &[&str]) -> String {
    let Some(object) = value.as_object() else {
        return show(value);
    };
    let fields: Vec<(&String, &Value)> = object
        .iter()
        .filter(|(key, value)| !leave_out.contains(&key.as_str()) && !is_empty(value))
        .collect();
    let width = fields
        .iter()
        .filter(|(_, value)| is_plain(value))
        .map(|(key, _)| key.len())
        .max()
        .unwrap_or(0);
    let mut blocks: Vec<String> = Vec::new();
    let plain: Vec<String> = fields
        .iter()
        .filter(|(_, value)| is_plain(value))
        .map(|(key, value)| format!("{:width$}  {}", key.replace('_', " "), show(value)))
        .collect();
    if !plain.is_empty() {
        blocks.push(plain.join("\n"));
    }
    for (key, value) in fields.iter().filter(|(_, value)| !is_plain(value)) {
        let body = match value {
            Value::Array(items) if items.iter().all(Value::is_object) => table(items, &[], ""),
            Value::Array(items) => items.iter().map(show).collect::<Vec<_>>().join("\n"),
            other => record(other, leave_out),
        };
        let body = indent(&body);
        blocks.push(format!("{}:\n{body}", key.replace('_', " ")));
    }
    blocks.join("\n\n")
}

/// Two blanks before every line that has something in it.
pub fn indent(text: &str) -> String {
    let line = |line: &str| {
        if line.is_empty() {
            String::new()
        } else {
            format!("  {line}")
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_plain(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

/// A value in one line: lists joined by commas, objects as `key=value`.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => match without_fraction(text) {
            Some(seconds) => seconds,
            None => clean(text),
        },
        Value::Array(items) => items.iter().map(show).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{}={}", clean(key), show(value));
            fields.iter().map(field).collect::<Vec<_>>().join(" ")
        }
    }
}

/// A time of the API to the second: the rest is for `--json`.
fn without_fraction(text: &str) -> Option<String> {
    let (seconds, fraction) = text.strip_suffix('Z')?.split_once('.')?;
    let is_time = seconds.len() == "2026-11-20T02:00:00".len()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<jiff::Timestamp>().is_ok();
    is_time.then(|| format!("{seconds}Z"))
}

/// Without control characters, which could rewrite what a terminal shows.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_the_columns_that_say_something() {
        let rows = json!([
            {"id": "a", "status": "active", "reason": "", "fullest": {"limit_usd": "5.00"}},
            {"id": "bb", "status": "paused", "reason": "", "fullest": null},
        ]);
        let rendered = table(
            super::rows(&rows, "agents"),
            &["id", "status", "reason", "fullest.limit_usd"],
            "none",
        );
        assert_eq!(rendered, " ID  STATUS  LIMIT USD\n a   active       5.00\n bb  paused");
        assert_eq!(table(&[], &["id"], "no agents"), "no agents");
    }

    #[test]
    fn a_record_shows_plain_fields_first_and_leaves_out_what_is_empty() {
        let value = json!({
            "lines": [{"budget": "daily", "limit_usd": "5.00"}], "status": "active", "reason": "", "clock": {"ok": true}
        });
        assert_eq!(
            record(&value, &[]),
            "status  active\n\nclock:\n  ok  yes\n\nlines:\n   BUDGET  LIMIT USD\n   daily        5.00"
        );
    }

    #[test]
    fn a_time_is_shown_to_the_second() {
        assert_eq!(show(&json!("2026-11-20T02:00:00.123456789Z")), "2026-11-20T02:00:00Z");
        for other in ["2026-11-20T02:00:00Z", "1.5Z", "2026-99-20T02:00:00.1Z", "a.b"] {
            assert_eq!(show(&json!(other)), other);
        }
    }

    #[test]
    fn what_an_agent_wrote_cannot_steer_the_terminal() {
        let shown = show(&json!("a\u{1b}[2Jb\nc\u{9b}1m"));
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
}
