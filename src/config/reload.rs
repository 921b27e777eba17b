//! Settings that live: read by everyone, replaced as a whole, and only by sound ones.
//!
//! A reload loads the file again. If anything is wrong the settings stay as they were and the problems
//! are the answer. If not, they are swapped in one step, except for those that need a restart: these
//! keep the value that the running daemon was built with, and are named, so that nobody believes a
//! listener moved that did not. What loosens a budget is listed for the audit log, since a raised
//! limit is an override (section 5 of the design), and so is every difference in a manifest.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use super::load::{Loaded, Loader};
use super::problem::{Problem, Problems};
use super::settings::{BudgetRule, Settings};
use crate::domain::id::{AgentId, BudgetId};
use crate::domain::manifest;
use crate::domain::money::Usd;

/// The settings in force.
pub struct LiveSettings {
    current: ArcSwap<Settings>,
    loader: Loader,
    path: Option<PathBuf>,
    /// One reload at a time: each compares with what the one before left.
    reloading: Mutex<()>,
}

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Change {
    /// Settings that were changed in the file and take effect at the next start.
    pub needs_restart: Vec<&'static str>,
    /// Sections with other changes, which are in force now.
    pub sections: Vec<&'static str>,
    pub agents_added: Vec<AgentId>,
    pub agents_removed: Vec<AgentId>,
    pub agents_changed: Vec<AgentId>,
    pub budgets: Vec<BudgetChange>,
    pub manifests: Vec<ManifestChange>,
    pub warnings: Vec<Problem>,
}

/// A budget that is new, gone or different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetChange {
    pub budget: BudgetId,
    /// `None` if it is new.
    #[serde(rename = "old_limit_usd", serialize_with = "decimal")]
    pub old: Option<Usd>,
    /// `None` if it is gone.
    #[serde(rename = "new_limit_usd", serialize_with = "decimal")]
    pub new: Option<Usd>,
    /// Something that lets more through: a raised limit, a softer response, a budget gone, or a window
    /// or selector that is another one.
    pub loosened: bool,
    /// One sentence for a person and for the audit log.
    pub what: String,
}

/// A manifest that is new, gone or different, of an agent that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestChange {
    pub agent: AgentId,
    /// Each difference as a phrase.
    pub what: Vec<String>,
}

/// Money travels as decimal text.
fn decimal<S: serde::Serializer>(amount: &Option<Usd>, serializer: S) -> Result<S::Ok, S::Error> {
    match amount {
        Some(amount) => serializer.collect_str(amount),
        None => serializer.serialize_none(),
    }
}

impl Change {
    pub fn is_empty(&self) -> bool {
        let Self {
            needs_restart,
            sections,
            agents_added,
            agents_removed,
            agents_changed,
            budgets,
            manifests,
            warnings: _,
        } = self;
        needs_restart.is_empty()
            && sections.is_empty()
            && agents_added.is_empty()
            && agents_removed.is_empty()
            && agents_changed.is_empty()
            && budgets.is_empty()
            && manifests.is_empty()
    }

    /// Budgets that let more through than before: each is an override, to be audited.
    pub fn overrides(&self) -> impl Iterator<Item = &BudgetChange> {
        self.budgets.iter().filter(|change| change.loosened)
    }
}

impl LiveSettings {
    pub fn new(loaded: Loaded, loader: Loader) -> Self {
        Self {
            current: ArcSwap::from_pointee(loaded.settings),
            loader,
            path: loaded.path,
            reloading: Mutex::new(()),
        }
    }

    /// The settings in force now. Take them once for one decision: the next call may answer others.
    pub fn current(&self) -> Arc<Settings> {
        self.current.load_full()
    }

    /// The file that they came from.
    pub fn path(&self) -> Option<&std::path::Path> {
        self.path.as_deref()
    }

    /// Loads the file again. It reads files, so not on an async thread that must not wait.
    pub fn reload(&self) -> Result<Change, Problems> {
        self.reload_with(|_, _| Ok(())).map(|(change, _, ())| change)
    }

    /// The same, where more must be sound than the settings themselves: `prepare` makes of them what is
    /// to be put in force with them. If it cannot, they stay as they were.
    pub fn reload_with<T>(
        &self,
        prepare: impl FnOnce(&Settings, &Change) -> Result<T, String>,
    ) -> Result<(Change, Arc<Settings>, T), Problems> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.loader.load(self.path.as_deref())?;
        let old = self.current();
        let mut new = loaded.settings;
        let needs_restart = keep_what_needs_a_restart(&old, &mut new);
        let change = Change {
            needs_restart,
            warnings: loaded.warnings,
            ..compare(&old, &new)
        };
        let prepared = prepare(&new, &change).map_err(|message| {
            let source = self
                .path
                .as_ref()
                .map_or_else(|| "the config".to_owned(), |path| path.display().to_string());
            Problems::of(&source, message)
        })?;
        let new = Arc::new(new);
        self.current.store(Arc::clone(&new));
        Ok((change, new, prepared))
    }
}

/// Puts the running values back into the new settings and names those that differed.
fn keep_what_needs_a_restart(old: &Settings, new: &mut Settings) -> Vec<&'static str> {
    let mut named = Vec::new();
    macro_rules! keep {
        ($($section:ident . $field:ident as $name:literal),* $(,)?) => {
            $(if new.$section.$field != old.$section.$field {
                new.$section.$field = old.$section.$field.clone();
                named.push($name);
            })*
        };
    }
    keep!(
        server.agent_listen as "server.agent_listen",
        server.admin_listen as "server.admin_listen",
        server.admin_socket as "server.admin_socket",
        server.state_dir as "server.state_dir",
        server.insecure_listen as "server.insecure_listen",
        server.max_body_bytes as "server.max_body_bytes",
        server.max_connections as "server.max_connections",
        server.header_timeout as "server.header_timeout",
        server.request_timeout as "server.request_timeout",
        server.drain_timeout as "server.drain_timeout",
        server.allowed_hosts as "server.allowed_hosts",
        storage.store as "storage.url",
        storage.reserve_bytes as "storage.reserve_mb",
        ledger.hold_wait as "ledger.hold_wait",
        ledger.hold_ttl as "ledger.hold_ttl",
        ledger.max_overtakes as "ledger.max_overtakes",
        ledger.max_waiters as "ledger.max_waiters",
        ledger.rules as "ledger.breach_bound_percent, ledger.late_grace",
        admin.token as "admin.token_file, admin.token_env",
        admin.peer_uids as "admin.peer_uids",
        audit.key_file as "audit.key_file",
        audit.heads_file as "audit.heads_file",
        aws.enabled as "aws.enabled",
        aws.regions as "aws.regions",
        aws.kinds as "aws.kinds",
        aws.endpoint_url as "aws.endpoint_url",
        log.format as "log.format",
        log.filter as "log.filter",
    );
    named
}

fn compare(old: &Settings, new: &Settings) -> Change {
    let mut change = Change::default();
    macro_rules! sections {
        ($($section:ident),*) => {
            $(if old.$section != new.$section {
                change.sections.push(stringify!($section));
            })*
        };
    }
    sections!(storage, prices, reports, tasks, tools, aws, gateway);
    if old.upstreams != new.upstreams {
        change.sections.push("upstream");
    }
    for agent in &new.agents {
        match old.agent(&agent.id) {
            None => change.agents_added.push(agent.id.clone()),
            Some(before) if before != agent => {
                change.agents_changed.push(agent.id.clone());
                let what = manifest::changes(before.manifest.as_deref(), agent.manifest.as_deref());
                if !what.is_empty() {
                    change.manifests.push(ManifestChange {
                        agent: agent.id.clone(),
                        what,
                    });
                }
            }
            Some(_) => {}
        }
    }
    let gone = old.agents.iter().filter(|agent| new.agent(&agent.id).is_none());
    change.agents_removed = gone.map(|agent| agent.id.clone()).collect();
    for rule in &new.budgets {
        let before = old.budget(&rule.budget.id);
        if before != Some(rule) {
            change.budgets.push(budget_change(before, rule));
        }
    }
    for rule in old.budgets.iter().filter(|rule| new.budget(&rule.budget.id).is_none()) {
        change.budgets.push(BudgetChange {
            budget: rule.budget.id.clone(),
            old: Some(rule.budget.limit),
            new: None,
            loosened: true,
            what: format!(
                "budget {} with its limit of ${} is gone",
                rule.budget.id, rule.budget.limit
            ),
        });
    }
    change
}

fn budget_change(before: Option<&BudgetRule>, rule: &BudgetRule) -> BudgetChange {
    let new = &rule.budget;
    let Some(before) = before else {
        return BudgetChange {
            budget: new.id.clone(),
            old: None,
            new: Some(new.limit),
            loosened: false,
            what: format!("budget {} is new, with a limit of ${}", new.id, new.limit),
        };
    };
    let old = &before.budget;
    let mut parts = Vec::new();
    let mut loosened = false;
    if new.limit != old.limit {
        let verb = if new.limit > old.limit { "raised" } else { "lowered" };
        loosened |= new.limit > old.limit;
        parts.push(format!("its limit is {verb} from ${} to ${}", old.limit, new.limit));
    }
    if new.response != old.response {
        loosened |= new.response < old.response;
        parts.push(format!("its response is {:?} instead of {:?}", new.response, old.response).to_lowercase());
    }
    if new.window != old.window || new.scope != old.scope || new.label != old.label {
        loosened = true;
        parts.push("it adds up by another scope or window".to_owned());
    }
    if before.patterns != rule.patterns {
        loosened = true;
        parts.push("it selects differently".to_owned());
    }
    if new.alert_at != old.alert_at {
        parts.push("it alerts at other percentages".to_owned());
    }
    BudgetChange {
        budget: new.id.clone(),
        old: Some(old.limit),
        new: Some(new.limit),
        loosened,
        what: format!("budget {}: {}", new.id, parts.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    const BASE: &str = "[[agent]]\nid = \"a\"\n[[budget]]\nname = \"daily\"\nscope = \"agent\"\nwindow = \"day\"\n\
                        limit_usd = 50\nresponse = \"contain\"\n";

    struct Bench {
        dir: tempfile::TempDir,
        live: LiveSettings,
    }

    impl Bench {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("config.toml");
            std::fs::write(&path, text).unwrap();
            let loader = Loader::for_daemon(Environment::default());
            let loaded = loader.load(Some(&path)).expect("sound");
            Self {
                dir,
                live: LiveSettings::new(loaded, loader),
            }
        }

        fn reload(&self, text: &str) -> Result<Change, Problems> {
            std::fs::write(self.dir.path().join("config.toml"), text).unwrap();
            self.live.reload()
        }
    }

    #[test]
    fn wrong_new_settings_leave_the_old_ones() {
        let bench = Bench::new(BASE);
        let before = bench.live.current();
        let problems = bench.reload(&BASE.replace("50", "-50")).expect_err("a negative limit");
        assert_eq!(problems.0.len(), 1);
        assert!(Arc::ptr_eq(&before, &bench.live.current()));
        std::fs::remove_file(bench.dir.path().join("config.toml")).unwrap();
        assert!(bench.live.reload().is_err(), "a file that went away is no empty config");
        assert!(Arc::ptr_eq(&before, &bench.live.current()));
    }

    #[test]
    fn what_cannot_be_prepared_leaves_the_old_ones() {
        let bench = Bench::new(BASE);
        std::fs::write(bench.dir.path().join("config.toml"), BASE.replace("50", "60")).unwrap();
        let problems = bench
            .live
            .reload_with::<()>(|_, _| Err("no".to_owned()))
            .expect_err("not prepared");
        assert!(problems.to_string().ends_with("config.toml: no"), "{problems}");
        assert_eq!(bench.live.current().budgets[0].budget.limit, Usd::from_dollars(50));
        let (change, in_force, seen) = bench
            .live
            .reload_with(|new, change| Ok((new.budgets[0].budget.limit, change.overrides().count())))
            .expect("sound");
        assert_eq!((change.overrides().count(), seen), (1, (Usd::from_dollars(60), 1)));
        assert!(Arc::ptr_eq(&in_force, &bench.live.current()));
    }

    #[test]
    fn a_raised_limit_is_an_override_and_a_lowered_one_is_not() {
        let bench = Bench::new(BASE);
        let change = bench.reload(&BASE.replace("50", "75.5")).expect("sound");
        let raised: Vec<_> = change
            .overrides()
            .map(|change| (change.old, change.new, change.what.as_str()))
            .collect();
        assert_eq!(
            raised,
            [(
                Some(Usd::from_dollars(50)),
                Some(Usd::from_nanos(75_500_000_000)),
                "budget daily: its limit is raised from $50.00 to $75.50"
            )]
        );
        assert_eq!(
            bench.live.current().budgets[0].budget.limit,
            Usd::from_nanos(75_500_000_000)
        );
        let change = bench.reload(BASE).expect("sound");
        assert_eq!((change.budgets.len(), change.overrides().count()), (1, 0));
        let softer = bench.reload(&BASE.replace("contain", "alert")).expect("sound");
        assert_eq!(softer.overrides().count(), 1);
        let gone = bench.reload("[[agent]]\nid = \"a\"\n").expect("sound");
        assert_eq!(gone.overrides().count(), 1);
        assert_eq!(
            serde_json::to_value(&gone.budgets[0]).unwrap()["old_limit_usd"],
            serde_json::json!("50.00"),
            "money travels as decimal text"
        );
    }

    #[test]
    fn what_needs_a_restart_is_named_and_keeps_its_value() {
        let bench = Bench::new(BASE);
        let text = format!("[server]\nagent_listen = \"127.0.0.1:9999\"\n[reports]\nmax_rows = 5\n{BASE}");
        for _ in 0..2 {
            let change = bench.reload(&text).expect("sound");
            assert_eq!(
                change.needs_restart,
                ["server.agent_listen"],
                "as long as it is not restarted"
            );
        }
        assert_eq!(bench.live.current().server.agent_listen.port(), 8700);
        assert_eq!(bench.live.current().reports.max_rows, 5);
    }

    #[test]
    fn nothing_changed_is_no_change() {
        let bench = Bench::new(BASE);
        assert!(bench.live.reload().expect("sound").is_empty());
        let change = bench.reload(&format!("{BASE}[[agent]]\nid = \"b\"\n")).expect("sound");
        assert_eq!(change.agents_added, [AgentId::new("b").unwrap()]);
        let change = bench.reload(BASE).expect("sound");
        assert_eq!(change.agents_removed, [AgentId::new("b").unwrap()]);
    }
}
