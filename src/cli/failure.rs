//! How a command fails, and with which exit status.

use std::fmt;

use serde_json::Value;

use super::output::clean;

/// Exit statuses, besides 0.
pub const REFUSED: u8 = 1;
pub const USAGE: u8 = 2;
pub const UNREACHABLE: u8 = 3;

#[derive(Debug)]
pub enum Failure {
    /// The daemon said no.
    Refused {
        code: String,
        message: String,
        hint: Option<String>,
        /// The whole answer, for `--json`.
        body: Option<String>,
    },
    /// Something that was to be done here did not work.
    Failed {
        message: String,
        hint: Option<String>,
    },
    /// What was asked for makes no sense.
    Usage {
        message: String,
        hint: Option<String>,
    },
    Unreachable {
        message: String,
        hint: Option<String>,
    },
    /// What went wrong was printed already.
    Reported,
    /// The same, with an exit status of its own.
    ReportedAs(u8),
}

impl Failure {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            hint: None,
        }
    }

    pub fn usage(message: impl Into<String>, hint: &str) -> Self {
        Self::Usage {
            message: message.into(),
            hint: Some(hint.to_owned()),
        }
    }

    /// From an answer's `{"error": {…}}`, or the problems of a config that could not be loaded; anything
    /// else is shown by its status.
    pub fn from_answer(status: u16, body: &str) -> Self {
        let answer: Option<Value> = serde_json::from_str(body).ok();
        let error = answer.as_ref().and_then(|answer| answer.get("error"));
        let text = |key: &str| Some(error?.get(key)?.as_str()?.to_owned());
        let problems = answer.as_ref().and_then(|answer| answer.get("problems")?.as_array());
        let problems = problems.map(|list| {
            let lines: Vec<String> = list.iter().map(problem).collect();
            format!(
                "the config has mistakes, and the daemon goes on with the old one\n{}",
                lines.join("\n")
            )
        });
        Self::Refused {
            code: text("code").unwrap_or_else(|| format!("http_{status}")),
            message: text("message")
                .or(problems)
                .unwrap_or_else(|| format!("the daemon answered with status {status}")),
            hint: text("hint"),
            body: answer.is_some().then(|| body.to_owned()),
        }
    }

    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Failed { .. } | Self::Reported => REFUSED,
            Self::Usage { .. } => USAGE,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::ReportedAs(status) => *status,
        }
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. }
            | Self::Failed { hint, .. }
            | Self::Usage { hint, .. }
            | Self::Unreachable { hint, .. } => hint.as_deref(),
            Self::Reported | Self::ReportedAs(_) => None,
        }
    }

    /// The form of the API's errors, for `--json`.
    pub fn to_json(&self) -> String {
        let code = match self {
            Self::Refused { body: Some(body), .. } => return body.clone(),
            Self::Refused { code, .. } => code.as_str(),
            Self::Failed { .. } | Self::Reported | Self::ReportedAs(_) => "failed",
            Self::Usage { .. } => "usage",
            Self::Unreachable { .. } => "unreachable",
        };
        serde_json::json!({ "error": { "code": code, "message": self.to_string(), "hint": self.hint() } }).to_string()
    }
}

/// `config.toml:12: budget[2].limit_usd: must be above zero (hint: …)`, as `backstop check` says it.
fn problem(problem: &Value) -> String {
    let text = |key: &str| clean(problem.get(key).and_then(Value::as_str).unwrap_or_default());
    let mut line = text("source");
    if let Some(number) = problem.get("line").and_then(Value::as_u64) {
        line.push_str(&format!(":{number}"));
    }
    for part in [text("key"), text("message")] {
        if !part.is_empty() {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&part);
        }
    }
    if !text("hint").is_empty() {
        line.push_str(&format!(" (hint: {})", text("hint")));
    }
    line
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { message, .. }
            | Self::Failed { message, .. }
            | Self::Usage { message, .. }
            | Self::Unreachable { message, .. } => f.write_str(message),
            Self::Reported | Self::ReportedAs(_) => f.write_str("it did not work"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_what_it_says() {
        let body = r#"{"error":{"code":"wrong_state","message":"the agent is active","hint":null}}"#;
        let failure = Failure::from_answer(409, body);
        assert_eq!(
            (failure.to_string().as_str(), failure.exit_status()),
            ("the agent is active", 1)
        );
        assert_eq!(failure.to_json(), body, "--json shows the answer as it came");
        let reload = r#"{"reloaded":false,"problems":[{"severity":"error","source":"c.toml","line":3,"key":"log.format","message":"no","hint":"so"}]}"#;
        assert!(
            Failure::from_answer(422, reload)
                .to_string()
                .ends_with("\nc.toml:3: log.format: no (hint: so)")
        );
        let odd = Failure::from_answer(502, "<html>");
        assert_eq!(odd.to_string(), "the daemon answered with status 502");
        assert!(odd.to_json().contains("http_502"));
    }
}
