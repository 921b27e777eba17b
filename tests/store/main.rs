//! The conformance suite: every test against every store.
//!
//! A case is a function that takes a [`Fixture`]; `conform!` makes one test of it for each store. What
//! only one store can show (a full disk, an older schema) is in that store's own file.

#![expect(clippy::unwrap_used, reason = "in a test a failed `unwrap` is the failed test")]

mod audit;
mod control;
mod differential;
mod drills;
mod epochs;
mod fixture;
mod fleet;
mod images;
mod ledger;
mod lines;
mod make;
mod pages;
mod reports;
mod rollup;
mod spend;
mod sqlite;

/// Makes a test of every case for every store.
macro_rules! conform {
    ($($case:ident),+ $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(crate::fixture::Fixture::sqlite().await).await;
                }
            )+
        }

        mod on_memory {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(crate::fixture::Fixture::memory().await).await;
                }
            )+
        }
    };
}
pub(crate) use conform;
