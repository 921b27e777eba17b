//! A place with a gateway: the real daemon in front of a fixture upstream, its config, and the books that
//! it leaves behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backstop::domain::ledger::auditor;
use backstop::domain::ledger::hold::{Hold, HoldState};
use backstop::domain::ledger::posting::{Posting, PostingKind};
use backstop::domain::money::Usd;
use backstop::ports::{AuditView, Clock as _, Store as _};
use backstop::store::sqlite::{SqliteOptions, SqliteStore};
use backstop::system::SystemClock;
use serde_json::Value;

use super::agent::Agent;
use super::upstream::{ANTHROPIC_KEY, OPENAI_KEY, Upstream, prices};
use crate::harness::daemon::Daemon;
use crate::harness::site::Site;
use crate::harness::wait;

/// The agent of most tests.
pub const WORKER: &str = "worker";

/// For what takes a moment on a machine that is building at the same time.
pub const SOON: Duration = Duration::from_secs(120);

pub struct Place {
    pub site: Site,
    pub upstream: Upstream,
    ledger: PathBuf,
    http: reqwest::Client,
}

/// A budget of everything that the agent ever spends, which only tells when it is breached.
pub fn total(limit_usd: &str) -> String {
    budget("total", "agent", limit_usd, "alert")
}

pub fn budget(name: &str, scope: &str, limit_usd: &str, response: &str) -> String {
    format!(
        "[[budget]]\nname = \"{name}\"\nscope = \"{scope}\"\nwindow = \"total\"\nlimit_usd = \"{limit_usd}\"\n\
         response = \"{response}\"\n"
    )
}

/// What a place's config says. Tables of the house's own come first, so that `more` may begin anywhere.
#[derive(Debug, Clone)]
pub struct Config {
    /// Further keys of tables that the place writes itself.
    pub server: String,
    /// What it says of the store besides where it is.
    pub storage: String,
    pub ledger: String,
    pub prices: String,
    pub gateway: String,
    /// Keys of the agent that is there.
    pub agent: String,
    /// Keys of the OpenAI upstream.
    pub upstream: String,
    /// Whatever else: budgets, agents.
    pub more: String,
}

impl Default for Config {
    fn default() -> Self {
        let none = String::new;
        Self {
            server: none(),
            // No opinion on how full this machine's disk is.
            storage: "reserve_mb = 0".to_owned(),
            ledger: none(),
            prices: none(),
            gateway: none(),
            agent: none(),
            upstream: none(),
            more: none(),
        }
    }
}

impl Config {
    pub fn with(more: impl Into<String>) -> Self {
        Self {
            more: more.into(),
            ..Self::default()
        }
    }

    fn text(&self, base_url: &str, ledger: &Path) -> String {
        let Self {
            server,
            storage,
            ledger: ledger_keys,
            prices,
            gateway,
            agent,
            upstream,
            more,
        } = self;
        let url = ledger.display();
        format!(
            r#"{server}
[storage]
url = "sqlite:{url}"
{storage}
[ledger]
{ledger_keys}
[prices]
files = ["prices.json"]
{prices}
[gateway]
{gateway}
[[upstream]]
name = "openai"
kind = "openai"
base_url = "{base_url}"
api_key_env = "FIXTURE_OPENAI_KEY"
{upstream}
[[upstream]]
name = "anthropic"
kind = "anthropic"
base_url = "{base_url}"
api_key_file = "anthropic.key"
[[agent]]
id = "{WORKER}"
{agent}
{more}
"#
        )
    }
}

impl Place {
    pub async fn new(config: &Config) -> Self {
        Self::at(Upstream::start().await, config, None)
    }

    /// With the ledger where the test wants it.
    pub async fn with_ledger(ledger: PathBuf, config: &Config) -> Self {
        Self::at(Upstream::start().await, config, Some(ledger))
    }

    /// With budgets and nothing else of its own.
    pub async fn with(more: impl Into<String>) -> Self {
        Self::new(&Config::with(more)).await
    }

    fn at(upstream: Upstream, config: &Config, ledger: Option<PathBuf>) -> Self {
        let site = Site::new("").with_env([("FIXTURE_OPENAI_KEY".to_owned(), OPENAI_KEY.to_owned())]);
        site.write("prices.json", &prices::file());
        site.write("anthropic.key", ANTHROPIC_KEY);
        let own = site.path("data/backstop.db");
        let place = Self {
            ledger: ledger.unwrap_or(own),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .no_proxy()
                .build()
                .expect("a client without settings can be built"),
            site,
            upstream,
        };
        place.configure(config);
        place
    }

    /// Writes the config anew; a running daemon does not look at it before it is told to.
    pub fn configure(&self, config: &Config) {
        let text = config.text(&self.upstream.base_url(), &self.ledger);
        self.site.configure(&text);
    }

    /// Another daemon's directory, on this ledger and this upstream.
    pub fn beside(&self, config: &Config) -> Site {
        let site = Site::new("").with_env([("FIXTURE_OPENAI_KEY".to_owned(), OPENAI_KEY.to_owned())]);
        site.write("prices.json", &prices::file());
        site.write("anthropic.key", ANTHROPIC_KEY);
        site.configure(&config.text(&self.upstream.base_url(), &self.ledger));
        site
    }

    pub async fn start(&self) -> Daemon {
        self.site.start().await
    }

    /// The daemon, where no file may grow past a megabyte or two: the ledger's log fills up.
    pub async fn start_with_little_room(&self) -> Daemon {
        let mut short = Command::new("sh");
        short.args(["-c", r#"trap "" XFSZ; ulimit -f 2048; exec "$@""#, "sh"]);
        self.site.start_under(short).await
    }

    /// What a gauge or a counter of the daemon says; of one with labels, the sum. `None` if it is not there.
    pub async fn metric(&self, daemon: &Daemon, name: &str) -> Option<f64> {
        let text = self
            .http
            .get(daemon.admin_url("/metrics"))
            .send()
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        let values = text
            .lines()
            .filter(of_name)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|sum, value| sum + value)
    }

    /// A client with a new key of the agent.
    pub async fn agent(&self, daemon: &Daemon, name: &str) -> Agent {
        let key = self.site.key(name).await;
        self.upstream.must_not_see(&key);
        Agent::new(daemon, &key)
    }

    pub async fn worker(&self, daemon: &Daemon) -> Agent {
        self.agent(daemon, WORKER).await
    }

    /// Waits until no hold is open any more.
    pub async fn settled(&self, agent: &Agent) -> Sums {
        let mut last = None;
        let found = wait::try_until(SOON, async || {
            let sums = agent.sums().await;
            last = Some(sums);
            (sums.held == Usd::ZERO).then_some(sums)
        })
        .await;
        found.unwrap_or_else(|| panic!("calls are still open: {last:?}"))
    }

    /// Stops the daemon, and reads what it has left behind: sound books, and a provider that was asked
    /// for nothing unseemly.
    pub async fn close(&self, daemon: Daemon) -> Books {
        let log = daemon.log();
        assert!(
            !log.contains(OPENAI_KEY) && !log.contains(ANTHROPIC_KEY),
            "a secret is in the log"
        );
        assert!(!log.contains("panicked"), "{log}");
        let ended = daemon.stop().await;
        assert!(ended.success(), "{ended}");
        let books = self.books().await;
        books.assert_sound();
        self.upstream.assert_clean();
        books
    }

    /// What the file holds.
    pub async fn books(&self) -> Books {
        let options = SqliteOptions {
            reserve_bytes: 0,
            ..SqliteOptions::new(&self.ledger)
        };
        let store = SqliteStore::open(options).await.expect("the ledger opens");
        let view = store.audit_view().await.expect("the ledger reads");
        store.close().await.expect("the ledger closes");
        Books { view }
    }

    /// Everything that is spent, as `backstop spend` says.
    pub async fn spend(&self) -> Usd {
        let spend = self.site.json(&["spend"]).await;
        usd(&spend["total_usd"])
    }
}

/// An amount as the interfaces write it.
pub fn usd(value: &Value) -> Usd {
    let text = value.as_str().unwrap_or_else(|| panic!("no amount: {value}"));
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub fn cents(cents: i64) -> Usd {
    Usd::from_nanos(cents * 10_000_000)
}

/// What a line says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    pub limit: Usd,
    pub posted: Usd,
    pub held: Usd,
    pub unresolved: Usd,
    pub overage: Usd,
}

impl Sums {
    pub fn of(line: &Value) -> Self {
        Self {
            limit: usd(&line["limit_usd"]),
            posted: usd(&line["posted_usd"]),
            held: usd(&line["held_usd"]),
            unresolved: usd(&line["unresolved_usd"]),
            overage: usd(&line["overage_usd"]),
        }
    }

    /// What is known to be spent.
    pub fn settled(&self) -> Usd {
        self.posted.saturating_sub(self.unresolved)
    }
}

/// Everything that the ledger holds.
pub struct Books {
    pub view: AuditView,
}

impl Books {
    /// L1, L2, L3 and L6, by the auditor that shares no code with the ledger.
    pub fn assert_sound(&self) {
        let findings = auditor::audit(&self.view.parts(SystemClock.now()));
        assert!(findings.is_empty(), "{findings:#?}");
        let open: Vec<&Hold> = self
            .view
            .holds
            .iter()
            .filter(|hold| hold.state == HoldState::Open)
            .collect();
        assert!(open.is_empty(), "holds were left open: {open:#?}");
    }

    pub fn holds(&self, state: HoldState) -> Vec<&Hold> {
        self.view.holds.iter().filter(|hold| hold.state == state).collect()
    }

    /// Every posting, and those that stand at their bound for want of evidence.
    pub fn posted(&self) -> Usd {
        sum(self.view.postings.iter().map(|posting| posting.amount))
    }

    pub fn unresolved(&self) -> Vec<&Posting> {
        let found = self.view.postings.iter();
        found
            .filter(|posting| posting.kind == PostingKind::Unresolved)
            .collect()
    }

    pub fn unresolved_usd(&self) -> Usd {
        sum(self.unresolved().iter().map(|posting| posting.amount))
    }

    /// The ledger has what the provider bills, to the nano-dollar, and nothing is unknown.
    pub fn assert_exact(&self, billed: Usd) {
        assert_eq!((self.posted(), self.unresolved().len()), (billed, 0));
    }

    /// Settled <= the provider's own bill <= the ledger; what lies between are calls that nobody knows
    /// the end of, each posted at its whole bound.
    pub fn assert_covers(&self, billed: Usd) {
        let (posted, unresolved) = (self.posted(), self.unresolved_usd());
        assert!(billed <= posted, "billed {billed}, in the ledger {posted}");
        let settled = posted.saturating_sub(unresolved);
        assert!(settled <= billed, "settled {settled}, billed {billed}");
        for posting in self.unresolved() {
            let id = posting.hold.expect("it comes of a hold");
            let hold = self.view.holds.iter().find(|hold| hold.id == id).expect("it is there");
            assert_eq!(posting.amount, hold.bound, "{posting:#?}");
        }
    }
}

fn sum(amounts: impl Iterator<Item = Usd>) -> Usd {
    amounts.fold(Usd::ZERO, Usd::saturating_add)
}
