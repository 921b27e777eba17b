//! Figures for a person.

use std::time::Duration;

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
pub fn say(line: &str) {
    println!("{line}");
}

/// Times that were taken, to be asked for percentiles.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// In percent; zero when nothing was timed.
    pub fn at(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0
            .get((self.0.len() * percent / 100).min(last))
            .copied()
            .unwrap_or_default()
    }
}

pub fn head() {
    say(&format!(
        "| {:<46} | {:>9} | {:>9} | {:>9} | {:>19} | {:>9} | {:>10} |",
        "what", "a second", "p50", "p99", "commit p50 / p99", "in one", "CPU a call"
    ));
    say(&format!(
        "|{:-<48}|{:->11}|{:->11}|{:->11}|{:->21}|{:->11}|{:->12}|",
        "", ":", ":", ":", ":", ":", ":"
    ));
}

pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

pub fn micros(time: Duration) -> String {
    match time.as_micros() {
        micros if micros < 10_000 => format!("{micros} µs"),
        micros => format!("{} ms", micros / 1_000),
    }
}

/// One phase: how many of what a second, the latency of a request, and the daemon's side of it.
pub fn row(what: &str, rate: f64, times: &mut Times, side: &crate::daemon::Side) {
    say(&format!(
        "| {what:<46} | {rate:>9.0} | {:>9} | {:>9} | {:>19} | {:>9.1} | {:>7.0} µs |",
        millis(times.at(50)),
        millis(times.at(99)),
        format!("{} / {}", millis(side.commit_p50), millis(side.commit_p99)),
        side.operations_a_commit,
        side.cpu_a_call.as_secs_f64() * 1e6,
    ));
}
