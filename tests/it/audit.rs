//! The audit log in a real store, against somebody who can write the database but does not hold the key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop::audit::{
    AuditError, AuditHealth, AuditTask, Cadence, Checked, Refusals, Signer, load_or_create, read_heads, verify,
};
use backstop::domain::audit::{AuditEntry, Break, Head, NewAudit, chain};
use backstop::domain::id::AgentId;
use backstop::ports::{Clock as _, Store};
use backstop::store::sqlite::{SqliteOptions, SqliteStore};
use backstop::system::{SystemClock, SystemEntropy};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::wait;

const CADENCE: Cadence = Cadence {
    entries: 4,
    period: SignedDuration::from_secs(10),
};

/// A log in a store, its key and its exported heads.
struct Log {
    dir: TempDir,
    store: SqliteStore,
}

impl Log {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut options = SqliteOptions::new(dir.path().join("backstop.db"));
        options.reserve_bytes = 0;
        let store = SqliteStore::open(options).await.expect("a new store opens");
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn signer(&self) -> Result<Signer, AuditError> {
        let key = load_or_create(&self.path("audit.key"), &SystemEntropy)?;
        Signer::open(key, &self.path("audit.heads"), CADENCE)
    }

    async fn append(&self, count: i64) {
        let entries: Vec<NewAudit> = (0..count).map(|at| entry(at, "no_budget")).collect();
        self.store.append_audit(&entries).await.expect("appended");
    }

    async fn check(&self) -> Result<Checked, AuditError> {
        let key = load_or_create(&self.path("audit.key"), &SystemEntropy)?;
        verify(&self.store, &self.path("audit.heads"), &[key.verifying_key()], CADENCE).await
    }

    /// What somebody does who has the file: the triggers that forbid it are no obstacle.
    fn tamper(&self, statements: &[&str]) {
        let db = Connection::open(self.path("backstop.db")).expect("the file can be opened");
        for trigger in ["audit_is_not_edited", "audit_is_not_deleted"] {
            let drop = format!("DROP TRIGGER IF EXISTS {trigger}");
            db.execute(&drop, []).expect("dropped");
        }
        for statement in statements {
            let done = db.execute(statement, []).expect("it is SQL");
            assert!(done > 0, "{statement}");
        }
        db.close().expect("closed");
    }

    /// Computes the whole chain anew with one entry changed, as Backstop itself would.
    async fn rewrite(&self, changed: i64, reason: &str) {
        let log = self.store.audit(1, 1000).await.expect("read");
        self.tamper(&["DELETE FROM audit"]);
        let mut head = Head::GENESIS;
        for original in log {
            let mut entry = original.entry;
            if original.seq == changed {
                entry.reason = reason.to_owned();
            }
            let next: AuditEntry = chain(head, entry);
            head = next.head();
            self.store.append_audit(&[next.entry]).await.expect("appended");
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_763_620_000 + second).expect("in range")
}

fn entry(second: i64, reason: &str) -> NewAudit {
    NewAudit {
        at: at(second),
        actor: "backstop".to_owned(),
        action: "refused".to_owned(),
        agent: Some(AgentId::new("transcriber").expect("a name")),
        reason: reason.to_owned(),
        evidence: r#"{"budget":"daily"}"#.to_owned(),
    }
}

/// Ten entries of which eight are signed.
async fn signed_log() -> Log {
    let log = Log::new().await;
    let mut signer = log.signer().expect("opened");
    log.append(8).await;
    let head = signer
        .advance(&log.store, at(10))
        .await
        .expect("advanced")
        .expect("signed");
    assert_eq!(head.seq, 8);
    log.append(2).await;
    assert_eq!(signer.advance(&log.store, at(11)).await.expect("advanced"), None);
    assert_eq!(signer.unsigned(), 2);
    log
}

fn broken(checked: Result<Checked, AuditError>) -> Break {
    match checked {
        Err(AuditError::Broken(broken)) => broken,
        other => panic!("the log must be broken: {other:?}"),
    }
}

#[tokio::test]
async fn a_log_that_nobody_touched_verifies_and_goes_on_after_a_restart() {
    let log = signed_log().await;
    let found = log.check().await.expect("sound");
    assert_eq!(
        (
            found.verified.end.seq,
            found.verified.signed_to,
            found.verified.unsigned
        ),
        (10, 8, 2)
    );
    assert!(found.is_covered);

    let mut again = log.signer().expect("opened");
    again.finish(&log.store, at(12)).await.expect("finished");
    assert_eq!(log.check().await.expect("sound").verified.unsigned, 0);
    let heads: Vec<i64> = read_heads(&log.path("audit.heads"))
        .expect("read")
        .iter()
        .map(|head| head.seq)
        .collect();
    assert_eq!(heads, [8, 10]);
}

#[tokio::test]
async fn an_edited_entry_shows() {
    let log = signed_log().await;
    log.tamper(&["UPDATE audit SET body = replace(body, 'no_budget', 'approved') WHERE seq = 5"]);
    assert_eq!(broken(log.check().await), Break::Changed { seq: 5 });
}

#[tokio::test]
async fn a_removed_entry_shows_and_a_cut_tail_too() {
    let log = signed_log().await;
    log.tamper(&["DELETE FROM audit WHERE seq > 7"]);
    assert!(matches!(
        broken(log.check().await),
        Break::Cut { last: 7, signed: 8, .. }
    ));
    // The next daemon does not go on either: it would sign a shorter past.
    let mut signer = log.signer().expect("opened");
    let refused = signer.advance(&log.store, at(20)).await.expect_err("entry 8 is gone");
    assert!(
        matches!(refused, AuditError::Broken(Break::Gone { seq: 8 })),
        "{refused:?}"
    );
    log.tamper(&["DELETE FROM audit WHERE seq = 3"]);
    assert_eq!(broken(log.check().await), Break::Gap { expected: 3, found: 4 });
}

#[tokio::test]
async fn a_chain_computed_anew_shows() {
    let log = signed_log().await;
    log.rewrite(5, "approved").await;
    assert!(matches!(broken(log.check().await), Break::Rewritten { seq: 8, .. }));
    let mut signer = log.signer().expect("opened");
    let refused = signer
        .advance(&log.store, at(20))
        .await
        .expect_err("entry 8 is another");
    assert!(
        matches!(refused, AuditError::Broken(Break::Changed { seq: 8 })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_log_without_its_heads_is_not_covered() {
    let log = signed_log().await;
    std::fs::remove_file(log.path("audit.heads")).expect("removed");
    log.rewrite(5, "approved").await;
    let found = log.check().await.expect("the chain alone is sound");
    assert_eq!(
        (found.verified.heads, found.verified.unsigned, found.is_covered),
        (0, 10, false)
    );
}

#[tokio::test]
async fn the_task_writes_refusals_signs_and_says_when_the_log_breaks() {
    let log = signed_log().await;
    let (refusals, health) = (Arc::new(Refusals::new()), Arc::new(AuditHealth::default()));
    let dir = log.dir;
    let heads = dir.path().join("audit.heads");
    let store = Arc::new(log.store);
    let key = load_or_create(&dir.path().join("audit.key"), &SystemEntropy).expect("read");
    let task = AuditTask {
        signer: Signer::open(key, &heads, CADENCE).expect("opened"),
        refusals: Arc::clone(&refusals),
        health: Arc::clone(&health),
        store: Arc::clone(&store) as Arc<dyn Store>,
        clock: Arc::new(SystemClock),
    };
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(stop.clone()));

    for code in ["no_budget", "paused", "contained", "no_budget"] {
        // Now, since a refusal of long ago would be folded and written at once.
        let refusal = NewAudit {
            at: SystemClock.now(),
            ..entry(0, code)
        };
        refusals.note(code, refusal);
    }
    let signed = |heads: &Path| read_heads(heads).expect("read").last().map(|head| head.seq);
    wait::until("13 entries to be signed", Duration::from_secs(60), async || {
        (signed(&heads) == Some(13)).then_some(())
    })
    .await;
    assert_eq!(health.broken(), None);

    // Somebody cuts the log under the running daemon.
    let tampered = Log {
        dir,
        store: SqliteStore::open({
            let mut options = SqliteOptions::new(heads.with_file_name("backstop.db"));
            options.reserve_bytes = 0;
            options
        })
        .await
        .expect("two processes may share the file"),
    };
    tampered.tamper(&["DELETE FROM audit WHERE seq > 11"]);
    let why = wait::until("the break to be seen", Duration::from_secs(60), async || {
        health.broken().map(str::to_owned)
    })
    .await;
    assert!(why.contains("13 is gone"), "{why}");
    stop.cancel();
    wait::until("the task to end", Duration::from_secs(60), async || {
        tasks.try_join_next()
    })
    .await
    .expect("the task does not panic");
    // What was folded when it ended is written, what happened is on record, and nothing more is signed.
    let log = store.audit(12, 100).await.expect("read");
    let actions: Vec<&str> = log.iter().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(actions, ["audit_broken", "refused"]);
    assert_eq!(signed(&heads), Some(13));
}
