//! `backstop audit`

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;
use serde_json::{Value, json};

use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::output::{rows, table};
use crate::domain::audit::AuditEntry;
use crate::domain::audit::head::{SignedHead, Verifier};

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Decisions and their reasons
    #[command(after_help = "Example:\n  backstop audit list --limit 20")]
    List {
        /// From this entry on; without it the latest ones
        #[arg(long, value_name = "SEQ")]
        from: Option<i64>,
        /// At most this many; 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Recompute the hash chain and hold it against the signed heads that were exported
    ///
    /// It is done here and not by the daemon: the log comes from the daemon, the heads and the key from
    /// files. Heads that were copied to another machine show what somebody rewrote on this one.
    #[command(
        after_help = "Examples:\n  backstop audit verify\n  backstop audit verify --heads copy/audit.heads --key copy/audit.heads.pub"
    )]
    Verify(Verify),
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Signed heads; else those that the config names
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Public keys as PEM, one a file; else the file beside the heads with .pub at its end
    #[arg(long, value_name = "FILE", num_args = 1..)]
    key: Vec<PathBuf>,
}

const COLUMNS: [&str; 6] = [
    "seq",
    "entry.at",
    "entry.actor",
    "entry.action",
    "entry.agent",
    "entry.reason",
];
/// Entries of one request.
const PAGE: &str = "1000";
/// Unsigned entries at most before a signer that works would have signed: twice its own batch.
const MAX_UNSIGNED: i64 = 512;
/// Bytes of a key or heads file at most.
const MAX_FILE: u64 = 256 << 20;

impl Audit {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::List { from, limit } => {
                let from = match from {
                    Some(from) => from,
                    None => (last(&client).await? - i64::from(limit) + 1).max(1),
                };
                let query = [("from", from.to_string()), ("limit", limit.to_string())];
                let query = query.each_ref().map(|(key, value)| (*key, value.as_str()));
                let answer = client.get(&["audit"], &query).await?;
                context.output.answer(&answer, |value| {
                    table(rows(value, "entries"), &COLUMNS, "the audit log is empty")
                })
            }
            Self::Verify(verify) => verify.run(context, &client).await,
        }
    }
}

/// The number of the last entry; 0 of an empty log. Entries count from 1 without gaps, so it is found
/// by doubling and halving.
async fn last(client: &Client) -> Result<i64, Failure> {
    let is_there = async |seq: i64| -> Result<bool, Failure> {
        let page = client
            .get(&["audit"], &[("from", &seq.to_string()), ("limit", "1")])
            .await?;
        Ok(!rows(&page.value, "entries").is_empty())
    };
    let mut beyond: i64 = 1;
    while is_there(beyond).await? {
        beyond = beyond.saturating_mul(2);
    }
    let mut there = beyond / 2;
    while beyond - there > 1 {
        let middle = there + (beyond - there) / 2;
        if is_there(middle).await? {
            there = middle
        } else {
            beyond = middle
        }
    }
    Ok(there)
}

impl Verify {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let heads_path = match self.heads {
            Some(path) => path,
            None => {
                let loaded = context.loader().load(context.config_path().as_deref());
                loaded
                    .map_err(|problems| Failure::failed(format!("the config has mistakes\n{problems}")))?
                    .settings
                    .audit
                    .heads_file
            }
        };
        let key_paths = if self.key.is_empty() {
            vec![beside(&heads_path)]
        } else {
            self.key
        };
        let keys = key_paths
            .iter()
            .map(|path| read_key(path))
            .collect::<Result<Vec<_>, _>>()?;
        let heads = read_heads(&heads_path)?;
        if heads.is_empty() {
            return Err(Failure::Failed {
                message: format!(
                    "{} holds no signed head, and without one the log proves nothing",
                    heads_path.display()
                ),
                hint: Some("a new log is signed within seconds; a copy of the heads is named with --heads".to_owned()),
            });
        }
        let mut verifier = Verifier::new(heads, &keys)
            .map_err(|error| Failure::failed(format!("the heads are not sound: {error}")))?;
        loop {
            let from = verifier.wants();
            let page = client
                .get(&["audit"], &[("from", &from.to_string()), ("limit", PAGE)])
                .await?;
            let entries = rows(&page.value, "entries");
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                verifier
                    .next(&read_entry(entry)?)
                    .map_err(|broken| Failure::failed(broken.to_string()))?;
            }
        }
        let verified = verifier
            .finish()
            .map_err(|broken| Failure::failed(broken.to_string()))?;
        let is_covered = verified.unsigned <= MAX_UNSIGNED;
        let report = json!({
            "entries": verified.end.seq,
            "heads": verified.heads,
            "signed_to": verified.signed_to,
            "unsigned": verified.unsigned,
            "is_covered": is_covered,
        });
        if context.output.json {
            context.output.data(&report.to_string())?;
        } else {
            context.output.data(&format!(
                "{} entries follow each other without a gap; {} signed heads agree, the last one of entry {}",
                verified.end.seq, verified.heads, verified.signed_to
            ))?;
        }
        if is_covered {
            return Ok(());
        }
        Err(Failure::Failed {
            message: format!(
                "{} entries are not signed, more than a working signer leaves",
                verified.unsigned
            ),
            hint: Some("was the heads' file shortened, or is it an old copy?".to_owned()),
        })
    }
}

fn read_entry(value: &Value) -> Result<AuditEntry, Failure> {
    serde_json::from_value(value.clone()).map_err(|error| Failure::failed(format!("an entry cannot be read: {error}")))
}

/// `audit.heads` has its key in `audit.heads.pub`.
fn beside(heads: &Path) -> PathBuf {
    let mut name = heads.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

fn read_key(path: &Path) -> Result<VerifyingKey, Failure> {
    VerifyingKey::from_public_key_pem(&read(path)?)
        .map_err(|error| Failure::failed(format!("{} holds no Ed25519 public key: {error}", path.display())))
}

/// One head a line; a last line without its end was cut by a crash and is none.
fn read_heads(path: &Path) -> Result<Vec<SignedHead>, Failure> {
    let text = read(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let head = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| Failure::failed(format!("{}:{}: not a signed head: {error}", path.display(), index + 1)))
    };
    lines.map(head).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    let metadata = fs::metadata(path);
    if metadata.as_ref().is_ok_and(|metadata| metadata.len() > MAX_FILE) {
        return Err(Failure::failed(format!(
            "{} is too large to be what it should be",
            path.display()
        )));
    }
    metadata
        .and_then(|_| fs::read_to_string(path))
        .map_err(|error| Failure::Failed {
            message: format!("{} cannot be read: {error}", path.display()),
            hint: Some("it belongs to the daemon's user; name a copy with --heads and --key".to_owned()),
        })
}
