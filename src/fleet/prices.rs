//! List prices of what was seen, fetched slowly and kept: the built-in table stands in until they are here,
//! and for as long as they cannot be had.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Fleet;
use crate::domain::containment::target::Region;
use crate::domain::fleet::price::{FleetPrices, Listed, ListedRate};
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;

/// Rates in one request to the adapter.
const RATES: usize = 50;

/// Between two requests, and between two looks for what is not priced.
const BETWEEN: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(60);

impl Fleet {
    pub(super) async fn keep_prices(&self) -> Infallible {
        match self.store.fleet_prices().await {
            Ok(rows) => {
                let rows = rows.into_iter().map(|row| ((row.region, row.rate), row.listed));
                self.state().prices = FleetPrices::new(rows);
            }
            Err(error) => tracing::warn!(%error, "the list prices of an earlier run cannot be read"),
        }
        // What the list does not have is not asked for again before it could have changed.
        let mut asked: BTreeMap<(Region, RateKey), Timestamp> = BTreeMap::new();
        loop {
            let now = self.now();
            let wait = match self.next_unpriced(&asked, now) {
                None => IDLE,
                Some((region, rates)) => match self.fetch(&region, &rates, now).await {
                    Ok(()) => {
                        asked.extend(rates.into_iter().map(|rate| ((region.clone(), rate), now)));
                        BETWEEN
                    }
                    Err(why) => {
                        tracing::debug!(%region, why, "list prices could not be fetched; the built-in table is used");
                        self.state()
                            .note_trouble("prices", Some(format!("{region}: {why}")), now);
                        self.settings().prices_again
                    }
                },
            };
            self.clock.sleep(wait).await;
        }
    }

    /// Rates of one region whose price is not known, or was fetched too long ago.
    fn next_unpriced(
        &self,
        asked: &BTreeMap<(Region, RateKey), Timestamp>,
        now: Timestamp,
    ) -> Option<(Region, Vec<RateKey>)> {
        let fresh = SignedDuration::try_from(self.settings().prices_fresh).unwrap_or(SignedDuration::MAX);
        let is_fresh = |at: Timestamp| now.duration_since(at) < fresh;
        let state = self.state();
        state.regions.iter().find_map(|(region, seeing)| {
            let assets = seeing.kinds.values().flat_map(|looked| &looked.assets);
            let mut rates: Vec<&RateKey> = assets
                .flat_map(|asset| &asset.meters)
                .map(|meter| &meter.rate)
                .collect();
            rates.sort_unstable();
            rates.dedup();
            rates.retain(|rate| {
                let listed = state.prices.listed(region, rate).map(|listed| listed.fetched_at);
                let tried = asked.get(&(region.clone(), (*rate).clone())).copied();
                !listed.into_iter().chain(tried).any(is_fresh)
            });
            let rates: Vec<RateKey> = rates.into_iter().take(RATES).cloned().collect();
            (!rates.is_empty()).then(|| (region.clone(), rates))
        })
    }

    async fn fetch(&self, region: &Region, rates: &[RateKey], now: Timestamp) -> Result<(), String> {
        let found = self.within(self.cloud.list_prices(region, rates)).await?;
        // A list that says nothing for what is charged has been misread.
        let found = found.into_iter().filter(|(_, usd)| *usd > Usd::ZERO);
        let rows: Vec<ListedRate> = found
            .map(|(rate, usd)| ListedRate {
                region: region.clone(),
                rate,
                listed: Listed { usd, fetched_at: now },
            })
            .collect();
        if let Err(error) = self.store.save_fleet_prices(&rows).await {
            tracing::warn!(%error, "list prices cannot be kept for the next start");
        }
        let mut state = self.state();
        state.note_trouble("prices", None, now);
        for row in rows {
            state.prices.put(row.region, row.rate, row.listed);
        }
        Ok(())
    }
}
