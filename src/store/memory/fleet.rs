//! What is kept of the fleet: its book, who made what, and list prices.

use jiff::{SignedDuration, Timestamp};

use super::disk::Disk;
use crate::domain::fleet::creation::{Creation, KEEP_DAYS, MAX_CREATIONS};
use crate::domain::fleet::price::{Listed, ListedRate};
use crate::ports::{FleetBook, Lease, StoreError};

impl Disk {
    pub(super) fn save_fleet_book(&mut self, lease: &Lease, account: &str, book: &FleetBook) -> Result<(), StoreError> {
        self.check_lease(lease)?;
        self.fleet_books.insert(account.to_owned(), book.clone());
        Ok(())
    }

    /// The same event by two ways is one, and the first word of it stays.
    pub(super) fn note_creations(&mut self, creations: &[Creation], now: Timestamp) {
        for creation in creations {
            let known = self.creations.entry(creation.event.clone());
            known.or_insert_with(|| creation.clone());
        }
        let oldest = now
            .checked_sub(SignedDuration::from_hours(24 * KEEP_DAYS))
            .unwrap_or(Timestamp::MIN);
        self.creations.retain(|_, creation| creation.at >= oldest);
        let over = self.creations.len().saturating_sub(MAX_CREATIONS);
        if over > 0 {
            let mut by_age: Vec<(Timestamp, String)> =
                self.creations.values().map(|c| (c.at, c.event.clone())).collect();
            by_age.sort_unstable();
            for (_, event) in by_age.into_iter().take(over) {
                self.creations.remove(&event);
            }
        }
    }

    pub(super) fn creations(&self, account: &str, since: Timestamp) -> Vec<Creation> {
        let own = self.creations.values();
        let own = own.filter(|creation| creation.account == account && creation.at >= since);
        let mut own: Vec<Creation> = own.cloned().collect();
        own.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.event.cmp(&b.event)));
        own
    }

    pub(super) fn save_fleet_prices(&mut self, prices: &[ListedRate]) {
        for price in prices {
            let key = (price.region.clone(), price.rate.clone());
            self.fleet_prices.insert(key, price.listed);
        }
    }

    pub(super) fn fleet_prices(&self) -> Vec<ListedRate> {
        let row = |((region, rate), listed): (&(_, _), &Listed)| ListedRate {
            region: Clone::clone(region),
            rate: Clone::clone(rate),
            listed: *listed,
        };
        self.fleet_prices.iter().map(row).collect()
    }
}
