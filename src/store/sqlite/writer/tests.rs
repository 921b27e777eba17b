//! What the one writer promises to callers who wait, go away, give up or bring it down.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tempfile::TempDir;

use super::*;

const PATIENT: Limits = Limits {
    queue: Duration::from_secs(60),
    commit: Duration::from_secs(60),
};
const HASTY: Limits = Limits {
    queue: Duration::from_millis(50),
    commit: Duration::from_millis(50),
};

struct Site {
    dir: TempDir,
    writer: Writer,
}

fn site(limits: Limits, prepare: impl FnOnce(&mut Connection)) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(dir.path().join("b.db"));
    std::fs::write(&options.path, "").unwrap();
    let mut connection = options.connect_writer().unwrap();
    connection
        .execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT")
        .unwrap();
    prepare(&mut connection);
    Site {
        dir,
        writer: Writer::start(options, connection, limits).unwrap(),
    }
}

fn insert(db: &Db<'_>, n: i64) -> Result<(), StoreError> {
    db.statement("inserting", "INSERT INTO t (n) VALUES (?1)")?
        .int(n)
        .run()
        .map(|_| ())
}

fn read(db: &Db<'_>) -> Result<Vec<i64>, StoreError> {
    db.statement("reading", "SELECT n FROM t ORDER BY n")?
        .rows("a number", |columns| columns.int())
}

impl Site {
    async fn put(&self, n: i64) -> Result<(), StoreError> {
        self.writer.write("inserting", move |db| insert(db, n)).await
    }

    /// What is there, once all that was begun before has ended.
    async fn found(&self) -> Vec<i64> {
        loop {
            match self.writer.write("reading", read).await {
                // The hasty give up on it, and ask again.
                Err(StoreError::Busy { .. } | StoreError::UnknownCommit { .. }) => {}
                found => return found.unwrap(),
            }
        }
    }
}

/// A door that keeps whoever comes to it until it is opened.
fn door() -> (SyncSender<()>, Receiver<()>) {
    sync_channel(1)
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let site = site(PATIENT, |_| {});
    site.put(1).await.unwrap();
    let failed = site.writer.write("failing", |db| {
        insert(db, 2)?;
        insert(db, 1)
    });
    let error = failed.await.unwrap_err();
    assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
    site.put(3).await.unwrap();
    assert_eq!(site.found().await, [1, 3]);
}

#[tokio::test]
async fn what_is_discarded_is_answered_and_not_written() {
    let site = site(PATIENT, |_| {});
    let answer = site.writer.write("discarding", |db| {
        insert(db, 1)?;
        db.discard();
        read(db)
    });
    assert_eq!(answer.await.unwrap(), [1]);
    assert_eq!(site.found().await, Vec::<i64>::new());
}

#[tokio::test]
async fn whoever_gives_up_in_the_queue_is_told_busy_and_never_runs() {
    let queue = Duration::from_secs(1);
    let site = site(Limits { queue, ..PATIENT }, |_| {});
    let (open, closed) = door();
    let (entered, inside) = oneshot::channel();
    let first = site.writer.write("holding up", move |db| {
        let _ = entered.send(());
        let _ = closed.recv();
        insert(db, 1)
    });
    let second = async {
        inside.await.unwrap();
        let error = site.put(2).await.unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
        open.send(()).unwrap();
    };
    let (first, ()) = tokio::join!(first, second);
    first.unwrap();
    assert_eq!(site.found().await, [1]);
}

#[tokio::test]
async fn whoever_is_dropped_in_the_queue_never_runs_and_once_begun_is_finished() {
    let site = site(PATIENT, |_| {});
    let (open, closed) = door();
    let (entered, inside) = oneshot::channel();
    let first = site.writer.write("holding up", move |db| {
        let _ = entered.send(());
        let _ = closed.recv();
        insert(db, 1)
    });
    tokio::select! {
        biased;
        _ = first => panic!("the door is closed"),
        entered = inside => entered.unwrap(),
    }
    // The first is dropped here, begun; the second is in the queue behind it, and dropped there.
    tokio::select! {
        biased;
        _ = site.put(2) => panic!("the door is closed"),
        () = tokio::task::yield_now() => {}
    }
    open.send(()).unwrap();
    assert_eq!(site.found().await, [1]);
}

#[tokio::test]
async fn whoever_gives_up_before_the_commit_is_told_busy_and_is_rolled_back() {
    let site = site(HASTY, |_| {});
    let (open, closed) = door();
    let given_up = site.writer.write("holding up", move |db| {
        insert(db, 1)?;
        let _ = closed.recv();
        Ok(())
    });
    let error = given_up.await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    open.send(()).unwrap();
    assert_eq!(site.found().await, Vec::<i64>::new());
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_unknown_and_goes_on() {
    let (open, closed) = door();
    let closed = Mutex::new(Some(closed));
    let site = site(HASTY, |connection| {
        let hold_up = move || {
            // Only the first COMMIT finds a door.
            let door = closed.lock().unwrap().take();
            door.map(|door| door.recv());
            false
        };
        connection.commit_hook(Some(hold_up)).unwrap();
    });
    let error = loop {
        match site.put(1).await.unwrap_err() {
            // It had not come to its COMMIT.
            StoreError::Busy { .. } => {}
            error => break error,
        }
    };
    assert!(
        matches!(error, StoreError::UnknownCommit { source: None, .. }),
        "{error:?}"
    );
    open.send(()).unwrap();
    assert_eq!(site.found().await, [1]);
}

#[tokio::test]
async fn a_commit_that_fails_is_unknown_and_its_connection_is_replaced() {
    let site = site(PATIENT, |connection| {
        connection.commit_hook(Some(|| true)).unwrap();
    });
    let error = site.put(1).await.unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownCommit { source: Some(_), .. }),
        "{error:?}"
    );
    // The new one has no such hook.
    site.put(2).await.unwrap();
    assert_eq!(site.found().await, [2]);
}

#[tokio::test]
async fn a_panic_ends_its_transaction_and_nothing_else() {
    let site = site(PATIENT, |_| {});
    for n in 0..3 {
        let panicked = site.writer.write("panicking", move |db| {
            insert(db, n)?;
            assert!(n < 0, "as the test wants it");
            Ok(())
        });
        let error = panicked.await.unwrap_err();
        assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
        site.put(n + 10).await.unwrap();
    }
    assert_eq!(site.found().await, [10, 11, 12]);
}

#[tokio::test]
async fn where_sqlite_itself_rolls_back_the_next_transaction_finds_nothing_open() {
    let site = site(PATIENT, |_| {});
    site.put(1).await.unwrap();
    let or_rollback = |db: &Db<'_>| {
        insert(db, 2)?;
        db.statement("ending", "INSERT OR ROLLBACK INTO t (n) VALUES (1)")?
            .run()
    };
    site.writer.write("ending", or_rollback).await.unwrap_err();
    site.put(3).await.unwrap();
    // Who passes over such an error is not told that it was written.
    let passed_over = site.writer.write("passing over", move |db| {
        let _ = or_rollback(db);
        Ok(())
    });
    let error = passed_over.await.unwrap_err();
    assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
    site.put(4).await.unwrap();
    assert_eq!(site.found().await, [1, 3, 4]);
}

#[tokio::test]
async fn writers_are_served_one_after_the_other() {
    let site = site(PATIENT, |_| {});
    let next = |db: &Db<'_>| {
        let last = read(db)?.last().copied().unwrap_or(0);
        insert(db, last + 1)
    };
    let all = (0..200).map(|_| site.writer.write("counting", next));
    for written in futures_util::future::join_all(all).await {
        written.unwrap();
    }
    assert_eq!(site.found().await, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn closing_leaves_no_log_behind() {
    let Site { dir, writer } = site(PATIENT, |_| {});
    writer.write("inserting", |db| insert(db, 1)).await.unwrap();
    let log = dir.path().join("b.db-wal");
    assert!(log.exists());
    writer.close().await.unwrap();
    assert!(!log.exists());
}
