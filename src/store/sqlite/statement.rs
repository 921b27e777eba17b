//! Statements on a connection, as the rooms of this store write them.
//!
//! A statement is prepared once for each connection and kept there. Its parameters are bound from left to
//! right and it is run, or bound and run again: a table's worth of rows costs one statement and one
//! step for each row. (As long as every statement was a message to another thread, rows travelled as one JSON
//! text that SQLite took apart again column by column. On the connection's own thread that is the dearer
//! way.) SQL is never put together at run time, and a value never becomes SQL.
//!
//! A failure says for what the statement was; a binding that fails is kept until the run, which then
//! does not take place, and so does not one with too few parameters: SQLite would take those for NULL.

use std::cell::Cell;
use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, ToSql};
use uuid::Uuid;

use super::codec::{self, Columns};
use super::error;
use crate::domain::money::Usd;
use crate::ports::StoreError;

/// A connection with a transaction open on it: all that the work in one sees.
pub(super) struct Db<'c> {
    connection: &'c Connection,
    discarded: Cell<bool>,
}

impl<'c> Db<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            discarded: Cell::new(false),
        }
    }

    pub(super) fn statement(&self, context: &'static str, sql: &'static str) -> Result<Statement<'c>, StoreError> {
        let prepared = self.connection.prepare_cached(sql);
        Ok(Statement {
            prepared: prepared.map_err(error::store(context))?,
            context,
            bound: 0,
            failed: None,
        })
    }

    /// A statement of a loop that may not need it: prepared when it is first wanted.
    pub(super) fn once<'s>(
        &self,
        slot: &'s mut Option<Statement<'c>>,
        context: &'static str,
        sql: &'static str,
    ) -> Result<&'s mut Statement<'c>, StoreError> {
        if let Some(prepared) = slot {
            return Ok(prepared);
        }
        Ok(slot.insert(self.statement(context, sql)?))
    }

    /// Nothing that was written so far is worth a sync: the transaction will be rolled back, and its
    /// answer stands.
    pub(super) fn discard(&self) {
        self.discarded.set(true);
    }

    pub(super) fn is_discarded(&self) -> bool {
        self.discarded.get()
    }
}

pub(super) struct Statement<'c> {
    prepared: CachedStatement<'c>,
    context: &'static str,
    bound: usize,
    failed: Option<rusqlite::Error>,
}

/// The next parameter.
impl Statement<'_> {
    fn bind(&mut self, value: impl ToSql) -> &mut Self {
        self.bound += 1;
        if let Err(error) = self.prepared.raw_bind_parameter(self.bound, value) {
            self.failed.get_or_insert(error);
        }
        self
    }

    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.bind(value)
    }

    pub(super) fn opt_int(&mut self, value: Option<i64>) -> &mut Self {
        self.bind(value)
    }

    pub(super) fn flag(&mut self, value: bool) -> &mut Self {
        self.bind(value)
    }

    /// A number of rows; more than there can be is all of them.
    pub(super) fn count(&mut self, value: usize) -> &mut Self {
        self.bind(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn usd(&mut self, value: Usd) -> &mut Self {
        self.bind(value.nanos())
    }

    pub(super) fn time(&mut self, value: Timestamp) -> &mut Self {
        self.bind(codec::micros(value))
    }

    pub(super) fn opt_time(&mut self, value: Option<Timestamp>) -> &mut Self {
        self.bind(value.map(codec::micros))
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.bind(value)
    }

    pub(super) fn opt_text(&mut self, value: Option<&str>) -> &mut Self {
        self.bind(value)
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.bind(value)
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.bind(&value.as_bytes()[..])
    }

    pub(super) fn opt_uuid(&mut self, value: Option<Uuid>) -> &mut Self {
        self.bind(value.as_ref().map(|id| &id.as_bytes()[..]))
    }
}

/// The run. The statement can be bound and run again afterwards.
impl Statement<'_> {
    /// Runs what answers no rows; returns how many it changed.
    pub(super) fn run(&mut self) -> Result<usize, StoreError> {
        self.ready()?;
        self.prepared.raw_execute().map_err(error::store(self.context))
    }

    /// The same, where a unique index may hold the value already.
    pub(super) fn run_unless_taken(&mut self, taken: StoreError) -> Result<usize, StoreError> {
        self.ready()?;
        self.prepared
            .raw_execute()
            .map_err(|failed| match error::is_unique_violation(&failed) {
                true => taken,
                false => error::of_statement(self.context, failed),
            })
    }

    /// Every row.
    pub(super) fn rows<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.walk(what, |columns| {
            found.push(read(columns)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The row, of a statement that finds at most one.
    pub(super) fn row<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.walk(what, |columns| {
            found = Some(read(columns)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// Row by row until `read` has seen enough.
    pub(super) fn walk(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Columns<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        self.ready()?;
        let context = self.context;
        let mut rows = self.prepared.raw_query();
        while let Some(row) = rows.next().map_err(error::store(context))? {
            if read(&mut Columns::of(row, what))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn ready(&mut self) -> Result<(), StoreError> {
        let bound = std::mem::take(&mut self.bound);
        let wanted = self.prepared.parameter_count();
        let failed = match self.failed.take() {
            None if bound != wanted => Some(rusqlite::Error::InvalidParameterCount(bound, wanted)),
            failed => failed,
        };
        failed.map_or(Ok(()), |failed| Err(error::of_statement(self.context, failed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (a INTEGER UNIQUE, b TEXT) STRICT")
            .unwrap();
        connection
    }

    #[test]
    fn a_statement_is_bound_and_run_again() {
        let connection = memory();
        let db = Db::new(&connection);
        let mut insert = db.statement("x", "INSERT INTO t (a, b) VALUES (?1, ?2)").unwrap();
        for n in 0..3 {
            assert_eq!(insert.int(n).opt_text((n > 0).then_some("b")).run().unwrap(), 1);
        }
        let mut select = db
            .statement("x", "SELECT a, b FROM t WHERE a >= ?1 ORDER BY a")
            .unwrap();
        for from in 0..3 {
            let read = |columns: &mut Columns<'_>| Ok((columns.int()?, columns.opt_text()?.map(str::to_owned)));
            let found = select.int(from).rows("t", read).unwrap();
            let wanted: Vec<_> = (from..3).map(|n| (n, (n > 0).then(|| "b".to_owned()))).collect();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn too_few_parameters_or_too_many_run_nothing() {
        let connection = memory();
        let db = Db::new(&connection);
        let mut insert = db.statement("x", "INSERT INTO t (a, b) VALUES (?1, ?2)").unwrap();
        insert.int(1).run().unwrap_err();
        insert.int(1).text("b").int(3).run().unwrap_err();
        let mut count = db.statement("x", "SELECT count(*) FROM t").unwrap();
        assert_eq!(count.row("t", |columns| columns.int()).unwrap(), Some(0));
        assert_eq!(
            insert.int(1).text("b").run().unwrap(),
            1,
            "and the next run is none the worse"
        );
    }

    #[test]
    fn what_is_taken_is_told_from_what_failed() {
        let connection = memory();
        let db = Db::new(&connection);
        let mut insert = db.statement("x", "INSERT INTO t (a, b) VALUES (?1, ?2)").unwrap();
        let taken = || StoreError::Conflict { what: "t" };
        insert.int(1).text("b").run_unless_taken(taken()).unwrap();
        let error = insert.int(1).text("b").run_unless_taken(taken()).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
        let error = insert.int(2).int(2).run_unless_taken(taken()).unwrap();
        assert_eq!(error, 1, "SQLite makes a text of it");
        let error = insert
            .text("no number")
            .text("b")
            .run_unless_taken(taken())
            .unwrap_err();
        assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
    }

    #[test]
    fn a_walk_ends_when_enough_was_seen() {
        let connection = memory();
        let db = Db::new(&connection);
        let mut seen = 0;
        let mut select = db.statement("x", "VALUES (1), (2), (3)").unwrap();
        select
            .walk("x", |columns| {
                seen += columns.int()?;
                Ok(if seen == 3 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })
            .unwrap();
        assert_eq!(seen, 3);
    }
}
