//! The fixed sections. Every key has a value, because the built-in file is below the user's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Item, Table};
use super::references::References;
use super::settings::{
    Admin, Audit, Ledger, Log, LogFormat, Prices, Reports, Server, Storage, StoreLocation, Tasks, UnknownModel,
};
use super::values;
use crate::domain::ledger::batch::LedgerRules;
use crate::domain::money::{MAX_POSTING, Usd};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A path that the user wrote; relative ones start at the config's directory.
pub(super) fn path(item: &Item<'_>, base: &Path) -> Option<PathBuf> {
    let text = item.text()?;
    if text.is_empty() || text.contains('\0') {
        item.error("must name a file", None);
        return None;
    }
    Some(base.join(text))
}

/// Whether a value is the one of the manual, be it built in or in a copy of the manual: then it means
/// "in `state_dir`". What the environment says is meant as it is said.
fn is_default(item: &Item<'_>, default: &str) -> bool {
    item.is_built_in() || (!item.is_environment() && item.text_is(default))
}

/// A path that lies in `state_dir` unless it was set to another one.
fn state_path(item: &Item<'_>, base: &Path, state_dir: Option<&Path>, name: &str) -> Option<PathBuf> {
    if is_default(item, &format!("data/{name}")) {
        state_dir.map(|dir| dir.join(name))
    } else {
        path(item, base)
    }
}

pub(super) fn server(table: &Table<'_>, base: &Path) -> Option<Server> {
    let insecure_listen = table.get("insecure_listen").and_then(|item| item.boolean());
    let agent_listen = table
        .get("agent_listen")
        .and_then(|item| listen(&item, insecure_listen));
    let admin_item = table.get("admin_listen");
    let admin_listen = admin_item.as_ref().and_then(|item| listen(item, insecure_listen));
    if let (Some(agent), Some(admin), Some(item)) = (agent_listen, admin_listen, &admin_item)
        && agent == admin
        && agent.port() != 0
    {
        item.error(
            "is the same as agent_listen",
            "an agent must not reach the admin API: use another port",
        );
    }
    let state_dir = table.get("state_dir").and_then(|item| path(&item, base));
    let admin_socket = admin_socket(table, base);
    let max_body_bytes = table
        .get("max_body_bytes")
        .and_then(|item| item.integer(1024..=1_073_741_824_usize));
    let max_connections = table
        .get("max_connections")
        .and_then(|item| item.integer(1..=1_000_000_u32));
    let header_timeout = table
        .get("header_timeout")
        .and_then(|item| item.duration(Duration::from_millis(100)..=10 * MINUTE));
    let request_timeout = table
        .get("request_timeout")
        .and_then(|item| item.duration(SECOND..=HOUR));
    let drain_timeout = table
        .get("drain_timeout")
        .and_then(|item| item.duration(Duration::ZERO..=10 * MINUTE));
    let allowed_hosts = table
        .get("allowed_hosts")
        .and_then(|item| item.texts(100, allowed_host));
    table.finish();
    Some(Server {
        agent_listen: agent_listen?,
        admin_listen: admin_listen?,
        admin_socket: admin_socket?,
        state_dir: state_dir?,
        insecure_listen: insecure_listen?,
        max_body_bytes: max_body_bytes?,
        max_connections: max_connections?,
        header_timeout: header_timeout?,
        request_timeout: request_timeout?,
        drain_timeout: drain_timeout?,
        allowed_hosts: allowed_hosts?,
    })
}

/// Read on its own by who only wants to reach the daemon.
pub(super) fn admin_socket(table: &Table<'_>, base: &Path) -> Option<PathBuf> {
    let item = table.get("admin_socket")?;
    // When the directory is wrong, its own reader says so.
    let state_dir = table
        .get("state_dir")
        .and_then(|item| item.plain_text())
        .map(|dir| base.join(dir));
    state_path(&item, base, state_dir.as_deref(), "admin.sock")
}

fn listen(item: &Item<'_>, insecure: Option<bool>) -> Option<SocketAddr> {
    let text = item.text()?;
    let address = match values::listen(text) {
        Ok(address) => address,
        Err(hint) => {
            item.error(&format!("{} is not an address to listen on", values::shown(text)), hint);
            return None;
        }
    };
    // When the switch itself could not be read, only that is reported.
    if !address.ip().is_loopback() && insecure == Some(false) {
        item.error(
            &format!("{address} is not a loopback address, and plain HTTP carries credentials"),
            "listen on 127.0.0.1 behind a TLS proxy, or set server.insecure_listen = true",
        );
        return None;
    }
    Some(address)
}

fn allowed_host(item: &Item<'_>, text: &str) -> Option<String> {
    let host = values::host(text);
    if host.is_none() {
        item.error(
            &format!("{} is not a host name", values::shown(text)),
            "a name or an address, without http://",
        );
    }
    host
}

pub(super) fn storage(table: &Table<'_>, base: &Path, state_dir: Option<&Path>) -> Option<Storage> {
    let store = table.get("url").and_then(|item| {
        if is_default(&item, "sqlite:data/backstop.db") {
            return state_dir.map(|dir| StoreLocation::Sqlite {
                path: dir.join("backstop.db"),
            });
        }
        store_location(&item, base)
    });
    let retention_days = table
        .get("retention_days")
        .and_then(|item| item.integer(0..=36_500_u32));
    let reserve_mb = table.get("reserve_mb").and_then(|item| item.integer(0..=1_000_000_u64));
    table.finish();
    Some(Storage {
        store: store?,
        retention_days: retention_days?,
        reserve_bytes: reserve_mb? * 1_000_000,
    })
}

/// The value is never echoed: the URL of another kind of store may carry a password.
fn store_location(item: &Item<'_>, base: &Path) -> Option<StoreLocation> {
    const FORM: &str = "sqlite:PATH, such as sqlite:data/backstop.db, or memory:";
    let text = item.text()?;
    if text == "memory:" || text == "memory" {
        return Some(StoreLocation::Memory);
    }
    let Some(rest) = text.strip_prefix("sqlite:") else {
        item.error("is not a store that Backstop knows", FORM);
        return None;
    };
    let file = rest.strip_prefix("//").unwrap_or(rest);
    if file.is_empty() || file.contains(['?', '\0']) || file.starts_with(':') {
        item.error("does not name a file", FORM);
        return None;
    }
    Some(StoreLocation::Sqlite { path: base.join(file) })
}

pub(super) fn ledger(table: &Table<'_>) -> Option<Ledger> {
    let hold_wait = table
        .get("hold_wait")
        .and_then(|item| item.duration(Duration::ZERO..=10 * MINUTE));
    let hold_ttl = table.get("hold_ttl").and_then(|item| item.duration(SECOND..=DAY));
    let max_overtakes = table
        .get("max_overtakes")
        .and_then(|item| item.integer(1..=1_000_000_u32));
    let max_waiters = table
        .get("max_waiters")
        .and_then(|item| item.integer(1..=1_000_000_u32));
    let percent = table
        .get("breach_bound_percent")
        .and_then(|item| item.integer(0..=100_u32));
    let late_grace = table
        .get("late_grace")
        .and_then(|item| item.duration(Duration::ZERO..=90 * DAY));
    table.finish();
    Some(Ledger {
        hold_wait: hold_wait?,
        hold_ttl: hold_ttl?,
        max_overtakes: max_overtakes?,
        max_waiters: max_waiters?,
        rules: LedgerRules {
            breach_bound_percent: percent?,
            late_grace_s: i64::try_from(late_grace?.as_secs()).unwrap_or(i64::MAX),
        },
    })
}

pub(super) fn admin(table: &Table<'_>, references: &References<'_>) -> Option<Admin> {
    let file = table
        .get("token_file")
        .and_then(|item| Some((item.clone(), item.text()?)))
        .filter(|(_, text)| !text.is_empty());
    let env = table
        .get("token_env")
        .and_then(|item| Some((item.clone(), item.text()?)))
        .filter(|(_, text)| !text.is_empty());
    if let (Some(_), Some((item, _))) = (&file, &env) {
        item.error("token_file is set as well", "set one of the two");
    }
    let token = match (&file, &env) {
        (Some((item, text)), _) => references.file(item, text),
        (None, Some((item, text))) => references.variable(item, text),
        (None, None) => None,
    };
    let peer_uids = table
        .get("peer_uids")
        .and_then(|item| item.integers(1000, &(0..=u32::MAX)));
    table.finish();
    Some(Admin {
        token,
        peer_uids: peer_uids?,
    })
}

pub(super) fn audit(table: &Table<'_>, base: &Path, state_dir: Option<&Path>) -> Option<Audit> {
    let key_file = table
        .get("key_file")
        .and_then(|item| state_path(&item, base, state_dir, "audit.key"));
    let heads_file = table
        .get("heads_file")
        .and_then(|item| state_path(&item, base, state_dir, "audit.heads"));
    table.finish();
    Some(Audit {
        key_file: key_file?,
        heads_file: heads_file?,
    })
}

pub(super) fn prices(table: &Table<'_>, base: &Path, references: &References<'_>) -> Option<Prices> {
    #[derive(Clone, Copy)]
    enum Word {
        Refuse,
        Ceiling,
    }
    let price_file = |item: &Item<'_>, text: &str| {
        if text.is_empty() {
            item.error("must name a file", None);
            return None;
        }
        let file = base.join(text);
        references.price_file(item, &file).then_some(file)
    };
    let files = table.get("files").and_then(|item| item.texts(100, price_file));
    let word = table
        .get("unknown_model")
        .and_then(|item| item.word(&[("refuse", Word::Refuse), ("ceiling", Word::Ceiling)]));
    let ceiling = table.get("ceiling_usd_per_million").and_then(|item| {
        let amount = item.usd()?;
        let sound = amount > Usd::ZERO && amount <= Usd::from_dollars(1_000_000);
        if !sound {
            item.error("must be above zero and at most 1000000 dollars a million tokens", None);
        }
        sound.then_some(amount)
    });
    table.finish();
    let unknown_model = match word? {
        Word::Refuse => UnknownModel::Refuse,
        Word::Ceiling => UnknownModel::Ceiling { per_million: ceiling? },
    };
    Some(Prices {
        files: files?,
        unknown_model,
    })
}

pub(super) fn reports(table: &Table<'_>) -> Option<Reports> {
    let max_rows = table.get("max_rows").and_then(|item| item.integer(1..=100_000_u32));
    let max_future = table
        .get("max_future")
        .and_then(|item| item.duration(Duration::ZERO..=DAY));
    let max_age = table.get("max_age").and_then(|item| item.duration(HOUR..=3650 * DAY));
    table.finish();
    Some(Reports {
        max_rows: max_rows?,
        max_future: max_future?,
        max_age: max_age?,
    })
}

pub(super) fn tasks(table: &Table<'_>) -> Option<Tasks> {
    let max_new_per_hour = table
        .get("max_new_per_hour")
        .and_then(|item| item.integer(1..=1_000_000_u32));
    table.finish();
    Some(Tasks {
        max_new_per_hour: max_new_per_hour?,
    })
}

pub(super) fn log(table: &Table<'_>) -> Option<Log> {
    let format = table
        .get("format")
        .and_then(|item| item.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)]));
    let filter = table.get("filter").and_then(|item| {
        let text = item.text()?;
        if text.len() > 4096 || tracing_subscriber::EnvFilter::try_new(text).is_err() {
            item.error(
                &format!("{} is not a log filter", values::shown(text)),
                "such as \"info,backstop::store=debug\"",
            );
            return None;
        }
        Some(text.to_owned())
    });
    table.finish();
    Some(Log {
        format: format?,
        filter: filter?,
    })
}

/// The largest limit that a budget can have.
pub(super) const MAX_LIMIT: Usd = MAX_POSTING;
