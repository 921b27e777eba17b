//! The phases, each with a daemon of its own on one ledger that grows.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::LocalSet;

use super::client::{Connection, Target};
use super::daemon::{Daemon, Side, prepare};
use super::fill::fill;
use super::table::{self, Times, millis, say};
use super::{Args, clock};

/// Rows in a batch of reports.
const BATCH: u64 = 100;
/// Connections of the phase at a fixed rate: more than it ever needs, so that none waits for another.
const FIXED_CONNECTIONS: usize = 256;

pub async fn run(args: &Args, dir: &Path) -> Result<()> {
    prepare(dir)?;
    let load = Load { args, dir };
    let daemon = load.start().await?;
    let fresh = load.idle(&daemon).await?;
    daemon.stop().await?;
    table::head();
    load.reports(1, args.connections).await?;
    load.reports(BATCH, args.connections).await?;
    load.holds().await?;
    load.fixed_rate().await?;
    load.spend().await?;
    let daemon = load.start().await?;
    let full = load.idle(&daemon).await?;
    daemon.stop().await?;
    say(&format!(
        "idle memory (VmRSS): {:.1} MiB on a new ledger, {:.1} MiB on the full one",
        fresh / 1024.0,
        full / 1024.0
    ));
    Ok(())
}

struct Load<'a> {
    args: &'a Args,
    dir: &'a Path,
}

/// What one connection has done.
#[derive(Default)]
struct Done {
    calls: u64,
    times: Times,
    took: Duration,
}

impl Load<'_> {
    async fn start(&self) -> Result<Daemon> {
        Daemon::start(&self.args.binary, self.dir).await
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.args.seconds)
    }

    /// Kilobytes that are resident once nothing has happened for a while.
    async fn idle(&self, daemon: &Daemon) -> Result<f64> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(f64::from(u32::try_from(daemon.resident()?)?))
    }

    /// Usage reports, each request with so many rows.
    async fn reports(&self, rows: u64, connections: usize) -> Result<()> {
        let daemon = self.start().await?;
        let (cpu, length) = (daemon.cpu()?, self.length());
        let done = crowd(connections, &daemon.agent, async move |mut connection, n, start| {
            let mut done = Done::default();
            while start.elapsed() < length {
                let body = reports(rows, n, done.calls);
                let sent = clock();
                connection.must(200, "POST", "/v1/usage", &body).await?;
                done.times.push(sent.elapsed());
                done.calls += 1;
            }
            Ok(done)
        })
        .await?;
        let what = match rows {
            1 => format!("usage reports, single, {connections} connections"),
            rows => format!("usage reports, {rows} a request, {connections} connections"),
        };
        self.close(daemon, &what, done, rows, cpu).await.map(drop)
    }

    /// Holds placed and captured as fast as they go.
    async fn holds(&self) -> Result<()> {
        let daemon = self.start().await?;
        let connections = self.args.connections;
        let (cpu, length) = (daemon.cpu()?, self.length());
        let done = crowd(connections, &daemon.agent, async move |mut connection, _, start| {
            let mut done = Done::default();
            while start.elapsed() < length {
                let sent = clock();
                let hold = place(&mut connection).await?;
                done.times.push(sent.elapsed());
                capture(&mut connection, &hold).await?;
                done.calls += 1;
            }
            Ok(done)
        })
        .await?;
        let what = format!("holds placed and captured, {connections} connections");
        self.close(daemon, &what, done, 1, cpu).await.map(drop)
    }

    /// Holds at a fixed rate, whatever the answers take (an open loop): what a hold adds to a call.
    async fn fixed_rate(&self) -> Result<()> {
        let daemon = self.start().await?;
        let (cpu, length) = (daemon.cpu()?, self.length());
        let pairs = self.args.rate / 2;
        let spacing = Duration::from_secs(1) / u32::try_from(pairs.max(1))?;
        let next = Rc::new(Cell::new(0_u32));
        let done = crowd(
            FIXED_CONNECTIONS,
            &daemon.agent,
            async move |mut connection, _, start| {
                let mut done = Done::default();
                loop {
                    let mut due = start + spacing * next.replace(next.get() + 1);
                    if due >= start + length {
                        return Ok(done);
                    }
                    if clock() < due {
                        tokio::time::sleep_until(due.into()).await;
                        // The timer's own lateness is the load's, not the daemon's. One that finds no free
                        // connection is late because of the daemon, and counts from when it was due.
                        due = clock();
                    }
                    let hold = place(&mut connection).await?;
                    done.times.push(due.elapsed());
                    capture(&mut connection, &hold).await?;
                    done.calls += 1;
                }
            },
        )
        .await?;
        let what = format!("holds placed and captured, {} requests/s", self.args.rate);
        let (mut times, side) = self.close(daemon, &what, done, 1, cpu).await?;
        let commits = |time: Duration, commit: Duration| time.as_secs_f64() / commit.as_secs_f64().max(1e-9);
        say(&format!(
            "placing a hold adds {:.2} commits at p50 ({}; budget 1.5 commits + 150 µs = {}), {:.2} at p99 ({}; budget 3 commits + 1 ms = {})",
            commits(times.at(50), side.commit_p50),
            millis(times.at(50)),
            millis(side.commit_p50 * 3 / 2 + Duration::from_micros(150)),
            commits(times.at(99), side.commit_p99),
            millis(times.at(99)),
            millis(side.commit_p99 * 3 + Duration::from_millis(1)),
        ));
        Ok(())
    }

    /// The spend report over many postings, over the admin API.
    async fn spend(&self) -> Result<()> {
        let (written, took) = fill(&self.dir.join("state/backstop.db"), self.args.postings).await?;
        say(&format!(
            "filled up to {} postings: {written} in {:.1} s through the store",
            self.args.postings,
            took.as_secs_f64()
        ));
        let daemon = self.start().await?;
        let mut admin = Connection::open(&daemon.admin).await?;
        for (what, query) in [
            ("by agent", "by=agent"),
            ("by model", "by=model"),
            ("by day", "by=day"),
            ("by task", "by=task"),
            ("by task, one agent", "by=task&agent=agent-7"),
        ] {
            let mut times = Times::default();
            for _ in 0..20 {
                let sent = clock();
                admin.must(200, "GET", &format!("/api/v1/spend?{query}"), "").await?;
                times.push(sent.elapsed());
            }
            say(&format!(
                "spend {what} over {} postings: p50 {}, p99 {}",
                self.args.postings,
                millis(times.at(50)),
                millis(times.at(99))
            ));
        }
        daemon.stop().await
    }

    /// Prints a phase and stops its daemon.
    async fn close(
        &self,
        daemon: Daemon,
        what: &str,
        mut done: Done,
        rows: u64,
        cpu: Duration,
    ) -> Result<(Times, Side)> {
        let side = daemon.side(u32::try_from(done.calls)?, cpu).await?;
        let units = f64::from(u32::try_from(done.calls * rows)?);
        table::row(what, units / done.took.as_secs_f64(), &mut done.times, &side);
        daemon.stop().await?;
        Ok((done.times, side))
    }
}

/// Runs the same work on so many connections at once, on this thread. The work is told when it began:
/// after every connection was open.
async fn crowd<F>(connections: usize, target: &Target, work: F) -> Result<Done>
where
    F: AsyncFn(Connection, usize, Instant) -> Result<Done> + 'static,
{
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(target).await?);
    }
    let (local, work, start) = (LocalSet::new(), Rc::new(work), clock());
    let spawn = |(n, connection)| {
        let work = Rc::clone(&work);
        local.spawn_local(async move { work(connection, n, start).await })
    };
    let tasks: Vec<_> = open.into_iter().enumerate().map(spawn).collect();
    let all = async {
        let mut sum = Done::default();
        for task in tasks {
            let done = task.await??;
            sum.calls += done.calls;
            sum.times.merge(done.times);
        }
        sum.took = start.elapsed();
        anyhow::Ok(sum)
    };
    local.run_until(all).await
}

/// A report, or an array of them; ids are unique in a ledger since the phase's rows are in them.
fn reports(rows: u64, connection: usize, call: u64) -> String {
    let row = |n: u64| {
        format!(
            r#"{{"id":"{rows}-{connection}-{call}-{n}","service":"openai","model":"gpt-5-mini","task":"run-{connection}","usage":{{"prompt_tokens":1200,"completion_tokens":300}}}}"#
        )
    };
    if rows == 1 {
        return row(0);
    }
    let all: Vec<String> = (0..rows).map(row).collect();
    format!("[{}]", all.join(","))
}

async fn place(connection: &mut Connection) -> Result<String> {
    let body = r#"{"bound_usd":"0.01","service":"openai","model":"gpt-5-mini","task":"run-1"}"#;
    let answer = connection.must(201, "POST", "/v1/holds", body).await?;
    let (_, rest) = answer.split_once("\"hold_id\":\"").context("a hold has an id")?;
    Ok(rest.chars().take_while(|&c| c != '"').collect())
}

async fn capture(connection: &mut Connection, hold: &str) -> Result<()> {
    let path = format!("/v1/holds/{hold}/capture");
    connection
        .must(200, "POST", &path, r#"{"cost_usd":"0.004"}"#)
        .await
        .map(drop)
}
