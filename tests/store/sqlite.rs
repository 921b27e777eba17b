//! What only a file can show: rights, schemas, full disks, broken rows, copies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop::domain::containment::image::{Before, BeforeImage};
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::target::{Region, Resource};
use backstop::domain::id::ContainmentId;
use backstop::domain::ledger::batch::{Batch, LedgerRules, Op, Outcome};
use backstop::ports::{PostingQuery, Store, StoreError};
use backstop::store::sqlite::{OpenError, SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::fixture::{is_sound, line, open_sqlite, send};
use crate::make::*;

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("data/backstop.db")
}

/// A connection as an operator with a SQLite shell has it.
fn shell(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Reports `from..to` of a dollar each on one line of the day.
async fn report_some(store: &dyn Store, seq: i64, from: u128, to: u128) -> Vec<Outcome> {
    let epoch = store.open_epoch(now(), "here").await.unwrap();
    let ops = (from..to)
        .map(|n| Op::Report(report(n, full("a"), usd(1), vec![spec("daily", "a", usd(1_000_000))])))
        .collect();
    let batch = Batch {
        epoch,
        seq,
        now: now(),
        ops,
    };
    send(store, &batch).await
}

#[tokio::test]
async fn a_new_store_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    store.open_epoch(now(), "here").await.unwrap();
    assert_eq!(mode(&dir.path().join("data")), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let file = entry.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{file:?}");
        files += 1;
    }
    assert!(files >= 4, "the database, its log, its shared memory and a lock");
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    for path in ["", ":memory:", "file::memory:"] {
        let opened = SqliteStore::open(SqliteOptions::new(path)).await;
        assert!(matches!(opened, Err(OpenError::InMemory)), "{path:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.db");
    std::fs::write(
        &text,
        "this is no database, and it is long enough to be looked at as one".repeat(40),
    )
    .unwrap();
    assert!(SqliteStore::open(SqliteOptions::new(&text)).await.is_err());
    let unchanged = std::fs::read_to_string(&text).unwrap();
    assert!(unchanged.starts_with("this is no database"));
}

#[tokio::test]
async fn the_log_is_synced_at_every_commit() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_sqlite(&dir).await);
    let journal = shell(&path(&dir)).pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
    assert_eq!(journal.unwrap(), "wal");
}

#[tokio::test]
async fn opening_again_finds_everything_and_migrates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    report_some(&store, 1, 0, 3).await;
    store.close().await.unwrap();
    assert!(
        !dir.path().join("data/backstop.db-wal").exists(),
        "the log was moved into the file"
    );
    let (one, two) = tokio::join!(open_sqlite(&dir), open_sqlite(&dir));
    assert_eq!(line(&one, &spec("daily", "a", usd(1)).key).await.posted, usd(3));
    is_sound(&two, now()).await;
    assert_eq!(migrations(&shell(&path(&dir))), [1, 2, 3, 4, 5]);
}

fn migrations(db: &Connection) -> Vec<i64> {
    let mut select = db.prepare("SELECT version FROM migration ORDER BY version").unwrap();
    let versions = select.query_map([], |row| row.get(0)).unwrap();
    versions.map(Result::unwrap).collect()
}

/// What the versions before this record of migrations kept in its place: the rows of one of them.
const EARLIER_RECORD: &str = "
DROP TABLE fleet_book;
DROP TABLE creation;
DROP TABLE fleet_price;
DROP TABLE drill;
DROP INDEX image_restored;
DROP TABLE migration;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES
    (1, 'ledger', '2026-11-20 13:40:48', 1,
     unhex('8D436E68DB6D17A1ECB60763B268983761B24C926D0705A4' ||
           '487521F304016CD4F612463060E0E93440627D2A603FE150'), 4846731),
    (2, 'control', '2026-11-20 13:40:48', 1,
     unhex('8BBDB314A3CDA8643CEBEC6050EAC1574C5F12518CE4BE6E' ||
           'BC967E749EBD9EF69FA2083AE6DEC5CD9750DBE91F4C44C3'), 2199365),
    (3, 'cloud_memory', '2026-11-20 13:40:48', 1,
     unhex('5D58CFC259505A6A4A106C43430BE771CC2D8569614F45F9' ||
           '3E08E06DEBE3C39087C76101BC57BA2BB0E03539207DD20E'), 522265);
";

#[tokio::test]
async fn a_store_of_an_earlier_version_opens_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    report_some(&store, 1, 0, 3).await;
    store.close().await.unwrap();
    shell(&path(&dir)).execute_batch(EARLIER_RECORD).unwrap();

    let (one, two) = tokio::join!(open_sqlite(&dir), open_sqlite(&dir));
    assert_eq!(line(&one, &spec("daily", "a", usd(1)).key).await.posted, usd(3));
    report_some(&two, 1, 3, 5).await;
    is_sound(&one, now()).await;
    let db = shell(&path(&dir));
    assert_eq!(migrations(&db), [1, 2, 3, 4, 5]);
    let left = db.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'",
        [],
        |row| row.get::<_, i64>(0),
    );
    assert_eq!(
        left.unwrap(),
        0,
        "an earlier version no longer takes the store for its own"
    );
}

#[tokio::test]
async fn several_may_make_the_same_store_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = tokio::join!(open_sqlite(&dir), open_sqlite(&dir), open_sqlite(&dir));
    for store in [a, b, c] {
        store.open_epoch(now(), "here").await.unwrap();
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open_sqlite(&dir).await.close().await.unwrap();
    let newer = "INSERT INTO migration (version, digest) VALUES (99, zeroblob(32))";
    shell(&path(&dir)).execute_batch(newer).unwrap();
    let error = SqliteStore::open(SqliteOptions::new(path(&dir))).await.err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 99,
                known: 5,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("newer"), "{error}");
}

#[tokio::test]
async fn a_before_image_that_cannot_be_read_back_is_not_acknowledged() {
    // C1: something takes the second one out of the file as it is written.
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    let thief = "CREATE TRIGGER thief AFTER INSERT ON image WHEN NEW.resource LIKE '%i-2' \
                 BEGIN DELETE FROM image WHERE seq = NEW.seq; END";
    shell(&path(&dir)).execute_batch(thief).unwrap();
    let lease = store.lease("containment/1", "me", now(), Duration::from_secs(60)).await;
    let lease = lease.unwrap().unwrap();
    let image = |id: &str| BeforeImage {
        agent: agent("a"),
        resource: Resource::Instance {
            region: Region("eu-west-1".to_owned()),
            id: id.to_owned(),
        },
        before: Before::Instance {
            state: InstanceState::Running,
        },
        containment: ContainmentId(uuid::Uuid::from_u128(1)),
        account: None,
        recorded_at: now(),
        changed_at: None,
        restored_at: None,
        outcome: None,
    };
    let both = store.record_images(&lease, &[image("i-1"), image("i-2")]).await;
    assert!(matches!(both, Err(StoreError::Conflict { .. })), "{both:?}");
    assert_eq!(
        store.record_images(&lease, &[image("i-1")]).await.unwrap(),
        [image("i-1")]
    );
}

#[tokio::test]
async fn a_full_store_fails_closed_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SqliteOptions::new(path(&dir));
    options.reserve_bytes = 0;
    options.max_bytes = Some(400 * 4096);
    let store = SqliteStore::open(options).await.unwrap();
    let epoch = store.open_epoch(now(), "here").await.unwrap();
    let batch = |seq: i64| Batch {
        epoch,
        seq,
        now: now(),
        ops: (0..100)
            .map(|n| {
                let id = u128::try_from(seq).unwrap() * 100 + n;
                Op::Report(report(id, full("a"), usd(1), vec![spec("daily", "a", usd(1_000_000))]))
            })
            .collect(),
    };
    let rules = LedgerRules::default();
    let mut posted = 0;
    let mut full = None;
    for seq in 1..500 {
        match store.commit(&batch(seq), &rules).await {
            Ok(outcomes) => posted += outcomes.len(),
            Err(error) => {
                full = Some((seq, error));
                break;
            }
        }
    }
    let (seq, error) = full.expect("the store becomes full");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(posted > 0);
    // It says so again and again, and goes on reading and standing on what was committed.
    for _ in 0..3 {
        let error = store.commit(&batch(seq), &rules).await.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    }
    let dollars = i64::try_from(posted).unwrap();
    let key = spec("daily", "a", usd(1)).key;
    assert_eq!(line(&store, &key).await.posted, usd(dollars));
    is_sound(&store, now()).await;

    // Another process finds room: the same batch goes through, in the same epoch.
    let roomy = open_sqlite(&dir).await;
    roomy.commit(&batch(seq), &rules).await.unwrap();
    assert_eq!(line(&roomy, &key).await.posted, usd(dollars + 100));
    is_sound(&roomy, now()).await;
}

#[tokio::test]
async fn below_the_reserve_only_new_spend_stops() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    let epoch = store.open_epoch(now(), "here").await.unwrap();
    let lines = || vec![spec("daily", "a", usd(10))];
    let batch = |seq, ops| Batch {
        epoch,
        seq,
        now: now(),
        ops,
    };
    send(&store, &batch(1, vec![admit(1, of("a"), usd(1), lines())])).await;

    let mut options = SqliteOptions::new(path(&dir));
    options.reserve_bytes = u64::MAX;
    let low = SqliteStore::open(options).await.unwrap();
    let rules = LedgerRules::default();
    let error = low
        .commit(&batch(2, vec![admit(2, of("a"), usd(1), lines())]), &rules)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("reserve"), "{error}");
    send(
        &low,
        &batch(
            3,
            vec![capture(1, usd(1)), Op::Report(report(5, of("a"), usd(1), lines()))],
        ),
    )
    .await;
    assert_eq!(line(&low, &lines()[0].key).await.posted, usd(2));
}

#[tokio::test]
async fn another_writer_is_waited_for_and_then_named_busy() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SqliteOptions::new(path(&dir));
    options.busy_timeout = std::time::Duration::from_millis(50);
    let store = SqliteStore::open(options).await.unwrap();
    let db = shell(&path(&dir));
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.advance_clock(now()).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    assert!(store.agents().await.is_ok(), "readers do not wait for a writer");
    db.execute_batch("ROLLBACK").unwrap();
    store.advance_clock(now()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_write_leaves_no_transaction_open() {
    // Dropped after every number of polls: before it is sent, in the queue, while it runs.
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    for polls in 0..200 {
        let mut write = Box::pin(store.advance_clock(later(polls)));
        for _ in 0..polls {
            let done = tokio::select! {
                biased;
                done = &mut write => Some(done),
                () = tokio::task::yield_now() => None,
            };
            if let Some(done) = done {
                done.unwrap();
                break;
            }
        }
    }
    assert_eq!(store.advance_clock(later(1000)).await.unwrap(), later(1000));
    // Nobody else is shut out either.
    open_sqlite(&dir).await.advance_clock(later(2000)).await.unwrap();
}

#[tokio::test]
async fn nothing_recorded_can_be_edited_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    report_some(&store, 1, 0, 3).await;
    let entry = backstop::domain::audit::NewAudit {
        at: now(),
        actor: "backstop".to_owned(),
        action: "paused".to_owned(),
        agent: None,
        reason: String::new(),
        evidence: "{}".to_owned(),
    };
    store.append_audit(&[entry]).await.unwrap();
    let before = is_sound(&store, now()).await;
    let db = shell(&path(&dir));
    for sql in [
        "UPDATE posting SET amount = 0",
        "DELETE FROM posting",
        "UPDATE entry SET amount = 0",
        "DELETE FROM entry",
        "UPDATE report SET digest = zeroblob(32)",
        "DELETE FROM report",
        "UPDATE audit SET body = '{}'",
        "DELETE FROM audit",
    ] {
        let refused = db.execute_batch(sql).unwrap_err();
        assert!(refused.to_string().contains("never"), "{sql}: {refused}");
    }
    let after = is_sound(&store, now()).await;
    assert_eq!(before.postings, after.postings);
    assert_eq!(before.entries, after.entries);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_corrupt_and_never_zero() {
    let page = PostingQuery {
        limit: 10,
        ..PostingQuery::default()
    };
    for sql in [
        "PRAGMA ignore_check_constraints = ON; DROP TRIGGER posting_is_not_edited; UPDATE posting SET kind = 77",
        "DROP TRIGGER posting_is_not_edited; UPDATE posting SET agent = 'no good name'",
        "DROP TRIGGER posting_is_not_edited; UPDATE posting SET labels = '{'",
        "DROP TRIGGER posting_is_not_edited; UPDATE posting SET occurred_at = 9000000000000000000",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open_sqlite(&dir).await;
        report_some(&store, 1, 0, 1).await;
        shell(&path(&dir)).execute_batch(sql).unwrap();
        let error = store.postings(&page).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{sql}: {error:?}");
        assert!(matches!(store.audit_view().await, Err(StoreError::Corrupt { .. })));
    }
    for sql in ["UPDATE line SET rule = '{}'", "UPDATE line SET alerted = 70000"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open_sqlite(&dir).await;
        report_some(&store, 1, 0, 1).await;
        shell(&path(&dir)).execute_batch(sql).unwrap();
        let epoch = store.open_epoch(now(), "here").await.unwrap();
        let batch = Batch {
            epoch,
            seq: 1,
            now: now(),
            ops: vec![admit(1, of("a"), usd(1), vec![spec("daily", "a", usd(1_000_000))])],
        };
        let error = store.commit(&batch, &LedgerRules::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{sql}: {error:?}");
        assert!(
            store.hold(hold_id(1)).await.unwrap().is_none(),
            "new spend fails closed"
        );
    }
}

#[tokio::test]
async fn a_backup_is_a_whole_store_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    report_some(&store, 1, 0, 100).await;
    let copy = dir.path().join("copy.db");
    // It is made while others write.
    let (stats, _) = tokio::join!(store.backup(&copy), report_some(&store, 1, 100, 200));
    let stats = stats.unwrap();
    assert!(stats.postings == 100 || stats.postings == 200, "{stats:?}");
    assert_eq!(stats.bytes, std::fs::metadata(&copy).unwrap().len());
    assert_eq!(mode(&copy), 0o600);
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "nothing lies beside the copy: {names:?}");

    let again = store.backup(&copy).await.unwrap_err();
    assert!(matches!(again, StoreError::Conflict { .. }), "{again:?}");
    let restored = SqliteStore::open(SqliteOptions::new(&copy)).await.unwrap();
    let view = is_sound(&restored, now()).await;
    assert_eq!(i64::try_from(view.postings.len()).unwrap(), stats.postings);
    // Whoever was alive there is dead here.
    let dead = restored.bury_dead_epochs(now(), &LedgerRules::default()).await.unwrap();
    assert!(!dead.epochs.is_empty());
}

#[tokio::test]
async fn a_backup_of_a_ledger_that_does_not_add_up_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    report_some(&store, 1, 0, 10).await;
    let less = "UPDATE line SET posted = posted - 1000000000";
    shell(&path(&dir)).execute_batch(less).unwrap();
    let copy = dir.path().join("copy.db");
    let error = store.backup(&copy).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(!copy.exists());
}

#[tokio::test]
async fn stats_count_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    report_some(&store, 1, 0, 7).await;
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.postings, stats.open_holds, stats.lines), (7, 0, 1));
    assert!(stats.bytes > 0 && stats.free_bytes.is_some_and(|free| free > 0));
}

#[tokio::test]
async fn spenders_are_those_of_the_line_and_of_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_sqlite(&dir).await;
    let epoch = store.open_epoch(now(), "here").await.unwrap();
    let mut fleet_hour = rolling("fleet", "a", usd(100), 3600, 60);
    fleet_hour.key.agent = None;
    fleet_hour.rule.scope = backstop::domain::ledger::line::Scope::Fleet;
    let own = spec("daily", "a", usd(100));
    let report_at = |n: u128, name: &str, seconds: i64| {
        let mut report = report(n, of(name), usd(i64::try_from(n).unwrap()), vec![fleet_hour.clone()]);
        report.occurred_at = later(seconds);
        report
    };
    let mut claim = report(50, of("a"), usd(50), vec![fleet_hour.clone(), own.clone()]);
    claim.trust = backstop::domain::ledger::posting::Trust::Agent;
    let ops = [report_at(1, "a", 0), report_at(2, "b", 600), claim];
    let batch = |seq, at, ops: Vec<Op>| Batch {
        epoch,
        seq,
        now: at,
        ops,
    };
    send(&store, &batch(1, later(600), ops.map(Op::Report).to_vec())).await;
    let spenders = store.spenders(&fleet_hour.key, 10).await.unwrap();
    assert_eq!(
        spenders,
        [(agent("b"), usd(2)), (agent("a"), usd(1))],
        "an agent's claim is not the fleet's"
    );
    let alone = store.spenders(&own.key, 10).await.unwrap();
    assert_eq!(alone, [(agent("a"), usd(50))]);

    let third = Op::Report(report_at(3, "c", 3700));
    send(&store, &batch(2, later(3700), vec![third])).await;
    let spenders = store.spenders(&fleet_hour.key, 10).await.unwrap();
    assert_eq!(
        spenders,
        [(agent("c"), usd(3)), (agent("b"), usd(2))],
        "the first has left the window"
    );
}
