//! The schema, brought up to date.
//!
//! All that is missing is run in one transaction, together with the record that it ran: a process that
//! dies in it leaves the old schema. The record (`migration`) has a digest of each file as it was run; one
//! that was released is never edited, and where a database tells of another text than the binary has,
//! nobody knows what its tables are, so it is not opened. Nor is one that is newer than the binary:
//! what this one writes might lack what the newer rules count on.
//!
//! Earlier versions kept that record by a library, in a table of the library's (`_sqlx_migrations`). It is
//! taken over once, checked in the same way, and then dropped: with it gone such an earlier version
//! cannot take the database for one that it knows, whatever was migrated since.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use sha2::{Digest, Sha256, Sha384};

/// Why a schema cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("it has schema {found}, and this binary knows up to {known}")]
    Newer { found: i64, known: i64 },
    #[error("its migration {version} is not the one that this binary has")]
    Edited { version: i64 },
    #[error("its migration {version} was begun and not ended")]
    Unfinished { version: i64 },
    #[error("migration {version} is missing among those that ran")]
    Skipped { version: i64 },
    #[error("migration {version} failed")]
    Failed {
        version: i64,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the record of migrations cannot be read or written")]
    Record(#[from] rusqlite::Error),
}

struct Migration {
    version: i64,
    sql: &'static str,
}

/// Every migration, oldest first, numbered from 1 without a gap.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sql: include_str!("../../../migrations/sqlite/0001_ledger.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("../../../migrations/sqlite/0002_control.sql"),
    },
    Migration {
        version: 3,
        sql: include_str!("../../../migrations/sqlite/0003_cloud_memory.sql"),
    },
    Migration {
        version: 4,
        sql: include_str!("../../../migrations/sqlite/0004_fleet.sql"),
    },
    Migration {
        version: 5,
        sql: include_str!("../../../migrations/sqlite/0005_drill.sql"),
    },
];

const RECORD: &str = "CREATE TABLE migration (
    version  INTEGER PRIMARY KEY,
    digest   BLOB    NOT NULL CHECK (length(digest) = 32)
) STRICT";

pub(super) fn migrate(connection: &mut Connection) -> Result<(), MigrateError> {
    run(connection, MIGRATIONS)
}

fn run(connection: &mut Connection, migrations: &[Migration]) -> Result<(), MigrateError> {
    if is_up_to_date(connection, migrations)? {
        return Ok(());
    }
    // Looked at again with the file's write lock: another process may have been at it.
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = match has_table(&tx, "migration")? {
        true => recorded(&tx, migrations)?,
        false => {
            let done = taken_over(&tx, migrations)?;
            tx.execute_batch(RECORD)?;
            for migration in migrations.iter().take(done) {
                record(&tx, migration)?;
            }
            done
        }
    };
    for migration in migrations.iter().skip(done) {
        let version = migration.version;
        tx.execute_batch(migration.sql)
            .map_err(|source| MigrateError::Failed { version, source })?;
        record(&tx, migration)?;
    }
    Ok(tx.commit()?)
}

fn is_up_to_date(db: &Connection, migrations: &[Migration]) -> Result<bool, MigrateError> {
    Ok(has_table(db, "migration")? && recorded(db, migrations)? == migrations.len())
}

fn has_table(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    let found = db.query_row(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1",
        [name],
        |_| Ok(()),
    );
    found.optional().map(|found| found.is_some())
}

fn digest(migration: &Migration) -> Vec<u8> {
    Sha256::digest(migration.sql).to_vec()
}

fn record(db: &Connection, migration: &Migration) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO migration (version, digest) VALUES (?1, ?2)",
        (migration.version, digest(migration)),
    )
    .map(|_| ())
}

/// How many of ours ran; those are the first ones, and nothing else ran.
fn recorded(db: &Connection, migrations: &[Migration]) -> Result<usize, MigrateError> {
    let mut select = db.prepare("SELECT version, digest FROM migration ORDER BY version")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    check(&rows.collect::<Result<Vec<_>, _>>()?, migrations, digest)
}

/// The same by the record of an earlier version, which is gone afterwards.
fn taken_over(db: &Connection, migrations: &[Migration]) -> Result<usize, MigrateError> {
    if !has_table(db, "_sqlx_migrations")? {
        return Ok(0);
    }
    let mut select = db.prepare("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version")?;
    let rows = select.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    let rows = rows.collect::<Result<Vec<((i64, Vec<u8>), bool)>, _>>()?;
    if let Some(((version, _), _)) = rows.iter().find(|(_, success)| !success) {
        return Err(MigrateError::Unfinished { version: *version });
    }
    let ran: Vec<(i64, Vec<u8>)> = rows.into_iter().map(|(ran, _)| ran).collect();
    let done = check(&ran, migrations, |migration| Sha384::digest(migration.sql).to_vec())?;
    drop(select);
    db.execute_batch("DROP TABLE _sqlx_migrations")?;
    Ok(done)
}

fn check(
    ran: &[(i64, Vec<u8>)],
    migrations: &[Migration],
    digest: impl Fn(&Migration) -> Vec<u8>,
) -> Result<usize, MigrateError> {
    let known = migrations.last().map_or(0, |last| last.version);
    // Said first: whatever else a newer version has changed about its record is its own affair.
    if let Some((found, _)) = ran.iter().max().filter(|(found, _)| *found > known) {
        return Err(MigrateError::Newer { found: *found, known });
    }
    for (migration, (version, digested)) in migrations.iter().zip(ran) {
        if *version != migration.version {
            return Err(MigrateError::Skipped {
                version: migration.version,
            });
        }
        if *digested != digest(migration) {
            return Err(MigrateError::Edited { version: *version });
        }
    }
    Ok(ran.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Migration = Migration {
        version: 1,
        sql: "CREATE TABLE a (x INTEGER) STRICT;\n-- A comment; with a semicolon.\nINSERT INTO a VALUES (7);\n",
    };
    const SECOND: Migration = Migration {
        version: 2,
        sql: "CREATE TABLE b (x INTEGER) STRICT; UPDATE a SET x = x + 1;",
    };

    fn x(db: &Connection) -> i64 {
        db.query_row("SELECT x FROM a", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn each_runs_once_and_those_that_are_new_run_later() {
        let mut db = Connection::open_in_memory().unwrap();
        run(&mut db, &[FIRST]).unwrap();
        run(&mut db, &[FIRST]).unwrap();
        assert_eq!(x(&db), 7);
        for _ in 0..2 {
            run(&mut db, &[FIRST, SECOND]).unwrap();
            assert_eq!(x(&db), 8);
        }
        let newer = run(&mut db, &[FIRST]).unwrap_err();
        assert!(matches!(newer, MigrateError::Newer { found: 2, known: 1 }), "{newer:?}");
    }

    #[test]
    fn one_that_fails_leaves_nothing_of_any() {
        const WRONG: Migration = Migration {
            version: 2,
            sql: "CREATE TABLE b (x INTEGER) STRICT; CREATE TABLE b (x INTEGER) STRICT;",
        };
        let mut db = Connection::open_in_memory().unwrap();
        let failed = run(&mut db, &[FIRST, WRONG]).unwrap_err();
        assert!(matches!(failed, MigrateError::Failed { version: 2, .. }), "{failed:?}");
        assert!(db.is_autocommit() && !has_table(&db, "a").unwrap() && !has_table(&db, "migration").unwrap());
        run(&mut db, &[FIRST, SECOND]).unwrap();
        assert_eq!(x(&db), 8);
    }

    #[test]
    fn one_that_was_edited_or_skipped_is_found() {
        let mut db = Connection::open_in_memory().unwrap();
        run(&mut db, &[FIRST, SECOND]).unwrap();
        let edited = Migration {
            version: 1,
            sql: "CREATE TABLE a (x TEXT) STRICT;",
        };
        let refused = run(&mut db, &[edited, SECOND]).unwrap_err();
        assert!(matches!(refused, MigrateError::Edited { version: 1 }), "{refused:?}");
        db.execute("DELETE FROM migration WHERE version = 1", []).unwrap();
        let refused = run(&mut db, &[FIRST, SECOND]).unwrap_err();
        assert!(matches!(refused, MigrateError::Skipped { version: 1 }), "{refused:?}");
    }

    /// A database as an earlier version left it after its first migration.
    fn earlier(success: bool, sql: &str) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(FIRST.sql).unwrap();
        db.execute_batch(
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
             installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
             checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
        )
        .unwrap();
        db.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (1, 'first', ?1, ?2, 5)",
            (success, Sha384::digest(sql).to_vec()),
        )
        .unwrap();
        db
    }

    #[test]
    fn the_record_of_an_earlier_version_is_taken_over() {
        let mut db = earlier(true, FIRST.sql);
        run(&mut db, &[FIRST, SECOND]).unwrap();
        assert_eq!(x(&db), 8, "the first did not run again, the second did");
        assert!(!has_table(&db, "_sqlx_migrations").unwrap());
        assert_eq!(recorded(&db, &[FIRST, SECOND]).unwrap(), 2);
    }

    #[test]
    fn an_earlier_record_that_does_not_fit_is_left_alone() {
        let refused = |db: &mut Connection| {
            let refused = run(db, &[FIRST, SECOND]).unwrap_err();
            assert!(has_table(db, "_sqlx_migrations").unwrap() && !has_table(db, "migration").unwrap());
            assert_eq!(x(db), 7);
            refused
        };
        let unfinished = refused(&mut earlier(false, FIRST.sql));
        assert!(
            matches!(unfinished, MigrateError::Unfinished { version: 1 }),
            "{unfinished:?}"
        );
        let edited = refused(&mut earlier(true, "something else"));
        assert!(matches!(edited, MigrateError::Edited { version: 1 }), "{edited:?}");
        let mut newer = earlier(true, FIRST.sql);
        newer.execute("UPDATE _sqlx_migrations SET version = 3", []).unwrap();
        let newer = refused(&mut newer);
        assert!(matches!(newer, MigrateError::Newer { found: 3, known: 2 }), "{newer:?}");
    }

    #[test]
    fn migrations_are_numbered_without_a_gap() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, version);
        }
    }
}
