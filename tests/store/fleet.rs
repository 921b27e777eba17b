//! What is kept of the fleet: its book behind a lease, who made what, list prices.

use std::time::Duration;

use backstop::domain::containment::target::Region;
use backstop::domain::fleet::asset::{AssetRef, Kind};
use backstop::domain::fleet::creation::{Creation, KEEP_DAYS};
use backstop::domain::fleet::price::{Listed, ListedRate};
use backstop::domain::fleet::rate::RateKey;
use backstop::domain::money::Usd;
use backstop::ports::{FleetBook, Lease, Store, StoreError};
use jiff::Timestamp;

use crate::conform;
use crate::fixture::Fixture;
use crate::make::later;

conform!(
    a_book_is_saved_whole_and_by_one,
    a_creation_is_kept_once_and_for_its_time,
    a_later_price_takes_the_place_of_an_earlier,
);

const ACCOUNT: &str = "123456789012";

async fn take(store: &dyn Store, holder: &str, at: i64) -> Lease {
    let ttl = Duration::from_secs(10);
    let lease = store.lease("fleet/123456789012", holder, later(at), ttl).await;
    lease.unwrap().unwrap()
}

fn book(text: &str) -> FleetBook {
    FleetBook {
        book: format!("{{\"it's\": \"{text}\"}}"),
        outbox: format!("[\"{text}\"]"),
    }
}

async fn a_book_is_saved_whole_and_by_one(f: Fixture) {
    assert_eq!(f.store.fleet_book(ACCOUNT).await.unwrap(), None);
    let first = take(&*f.store, "one", 0).await;
    f.store.save_fleet_book(&first, ACCOUNT, &book("one")).await.unwrap();
    f.store
        .save_fleet_book(&first, "another", &book("another"))
        .await
        .unwrap();
    assert_eq!(f.another().await.fleet_book(ACCOUNT).await.unwrap(), Some(book("one")));
    let second = take(&*f.another().await, "two", 20).await;
    let late = f.store.save_fleet_book(&first, ACCOUNT, &book("late")).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    f.another()
        .await
        .save_fleet_book(&second, ACCOUNT, &book("two"))
        .await
        .unwrap();
    let (store, _, _remains) = f.crash().await;
    assert_eq!(store.fleet_book(ACCOUNT).await.unwrap(), Some(book("two")));
    assert_eq!(store.fleet_book("another").await.unwrap(), Some(book("another")));
}

fn creation(event: &str, at: i64, account: &str) -> Creation {
    Creation {
        event: event.to_owned(),
        call: "RunInstances".to_owned(),
        at: later(at),
        account: account.to_owned(),
        region: Region("eu-west-1".to_owned()),
        by: format!("arn:aws:iam::{account}:role/agents/a"),
        made: vec![AssetRef {
            kind: Kind::INSTANCE,
            region: Region("eu-west-1".to_owned()),
            id: format!("i-{event}"),
        }],
    }
}

async fn a_creation_is_kept_once_and_for_its_time(f: Fixture) {
    f.store.note_creations(&[], later(0)).await.unwrap();
    let (two, one) = (creation("two", 2, ACCOUNT), creation("one", 1, ACCOUNT));
    let other = creation("other", 1, "another");
    let all = [two.clone(), one.clone(), other.clone()];
    f.store.note_creations(&all, later(3)).await.unwrap();
    // The same event again, by whatever way, and with whatever words.
    let again = Creation {
        call: "CreateFleet".to_owned(),
        ..one.clone()
    };
    f.another().await.note_creations(&[again], later(4)).await.unwrap();
    let since = |at| f.store.creations(ACCOUNT, at);
    assert_eq!(since(Timestamp::MIN).await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(since(later(2)).await.unwrap(), std::slice::from_ref(&two));
    assert_eq!(since(later(3)).await.unwrap(), []);
    assert_eq!(f.store.creations("another", later(0)).await.unwrap(), [other]);
    // The first has its time behind it, and the second not yet.
    let end = later(2 + KEEP_DAYS * 86_400);
    f.store.note_creations(&[], end).await.unwrap();
    let (store, _, _remains) = f.crash().await;
    assert_eq!(store.creations(ACCOUNT, Timestamp::MIN).await.unwrap(), [two]);
}

fn price(rate: &str, usd: &str, at: i64) -> ListedRate {
    ListedRate {
        region: Region("eu-west-1".to_owned()),
        rate: RateKey(rate.to_owned()),
        listed: Listed {
            usd: usd.parse::<Usd>().unwrap(),
            fetched_at: later(at),
        },
    }
}

async fn a_later_price_takes_the_place_of_an_earlier(f: Fixture) {
    assert_eq!(f.store.fleet_prices().await.unwrap(), []);
    f.store.save_fleet_prices(&[]).await.unwrap();
    let both = [price("nat", "0.048", 1), price("ec2/m7g.large", "0.0911", 1)];
    f.store.save_fleet_prices(&both).await.unwrap();
    let newer = price("nat", "0.05", 2);
    f.another()
        .await
        .save_fleet_prices(std::slice::from_ref(&newer))
        .await
        .unwrap();
    let (store, _, _remains) = f.crash().await;
    assert_eq!(store.fleet_prices().await.unwrap(), [both[1].clone(), newer]);
}
