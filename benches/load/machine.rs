//! What the figures were taken on: they mean nothing without.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;

use super::clock;
use super::table::{Times, millis, say};

/// Prints the machine, how busy it is, and what a sync of its disk costs.
pub fn describe(dir: &Path) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    say(&format!(
        "machine: {cores} cores of {cpu}, {memory}; load average before: {}",
        load.join(" ")
    ));
    let mut file = fs::File::create(dir.join("sync"))?;
    let mut times = Times::default();
    for _ in 0..200 {
        let start = clock();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    say(&format!(
        "disk: append 4 KiB and sync: p50 {}, p99 {}",
        millis(times.at(50)),
        millis(times.at(99))
    ));
    Ok(())
}

/// A field of a file of `name : value` lines.
pub fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
