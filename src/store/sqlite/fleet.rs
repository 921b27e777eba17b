//! What is kept of the fleet: its book, who made what, and list prices.

use jiff::{SignedDuration, Timestamp};

use super::SqliteStore;
use super::codec::{self, body};
use super::lease;
use crate::domain::containment::target::Region;
use crate::domain::fleet::creation::{Creation, KEEP_DAYS, MAX_CREATIONS};
use crate::domain::fleet::price::{Listed, ListedRate};
use crate::domain::fleet::rate::RateKey;
use crate::ports::{FleetBook, Lease, StoreError};

pub(super) async fn book(store: &SqliteStore, account: &str) -> Result<Option<FleetBook>, StoreError> {
    let account = account.to_owned();
    let context = "reading the fleet's book";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT book, outbox FROM fleet_book WHERE account = ?1")?
                .text(&account)
                .row("the fleet's book", |columns| {
                    Ok(FleetBook {
                        book: columns.text()?.to_owned(),
                        outbox: columns.text()?.to_owned(),
                    })
                })
        })
        .await
}

pub(super) async fn save_book(
    store: &SqliteStore,
    lease: &Lease,
    account: &str,
    book: &FleetBook,
) -> Result<(), StoreError> {
    let (lease, account, book) = (lease.clone(), account.to_owned(), book.clone());
    let context = "saving the fleet's book";
    store
        .write(context, move |db| {
            lease::check(db, &lease)?;
            db.statement(
                context,
                "INSERT INTO fleet_book (account, book, outbox) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (account) DO UPDATE SET book = excluded.book, outbox = excluded.outbox",
            )?
            .text(&account)
            .text(&book.book)
            .text(&book.outbox)
            .run()
            .map(|_| ())
        })
        .await
}

pub(super) async fn note_creations(
    store: &SqliteStore,
    creations: &[Creation],
    now: Timestamp,
) -> Result<(), StoreError> {
    let creations = creations.to_vec();
    let oldest = now
        .checked_sub(SignedDuration::from_hours(24 * KEEP_DAYS))
        .unwrap_or(Timestamp::MIN);
    let context = "noting creations";
    store
        .write(context, move |db| {
            let mut put = db.statement(
                context,
                "INSERT INTO creation (event, account, at, body) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (event) DO NOTHING",
            )?;
            for creation in &creations {
                put.text(&creation.event)
                    .text(&creation.account)
                    .time(creation.at)
                    .text(&codec::json(creation)?)
                    .run()?;
            }
            db.statement("forgetting old creations", "DELETE FROM creation WHERE at < ?1")?
                .time(oldest)
                .run()?;
            let kept = db
                .statement("counting creations", "SELECT count(*) FROM creation")?
                .row("creations", |columns| columns.int())?
                .unwrap_or(0);
            let over = usize::try_from(kept).unwrap_or(0).saturating_sub(MAX_CREATIONS);
            if over > 0 {
                db.statement(
                    "forgetting creations",
                    "DELETE FROM creation WHERE event IN (SELECT event FROM creation ORDER BY at, event LIMIT ?1)",
                )?
                .count(over)
                .run()?;
            }
            Ok(())
        })
        .await
}

pub(super) async fn creations(
    store: &SqliteStore,
    account: &str,
    since: Timestamp,
) -> Result<Vec<Creation>, StoreError> {
    let account = account.to_owned();
    let context = "reading creations";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT body FROM creation WHERE at >= ?1 AND account = ?2 ORDER BY at, event",
            )?
            .time(since)
            .text(&account)
            .rows("a creation", body)
        })
        .await
}

pub(super) async fn save_prices(store: &SqliteStore, prices: &[ListedRate]) -> Result<(), StoreError> {
    let prices = prices.to_vec();
    let context = "saving list prices";
    store
        .write(context, move |db| {
            let mut put = db.statement(
                context,
                "INSERT INTO fleet_price (region, rate, usd, fetched_at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (region, rate) DO UPDATE SET usd = excluded.usd, fetched_at = excluded.fetched_at",
            )?;
            for price in &prices {
                put.text(&price.region.0)
                    .text(&price.rate.0)
                    .usd(price.listed.usd)
                    .time(price.listed.fetched_at)
                    .run()?;
            }
            Ok(())
        })
        .await
}

pub(super) async fn prices(store: &SqliteStore) -> Result<Vec<ListedRate>, StoreError> {
    let context = "reading list prices";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT region, rate, usd, fetched_at FROM fleet_price ORDER BY region, rate",
            )?
            .rows("a list price", |columns| {
                Ok(ListedRate {
                    region: Region(columns.text()?.to_owned()),
                    rate: RateKey(columns.text()?.to_owned()),
                    listed: Listed {
                        usd: columns.usd()?,
                        fetched_at: columns.time()?,
                    },
                })
            })
        })
        .await
}
