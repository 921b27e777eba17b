//! List prices of what was seen, fetched slowly and kept: the built-in table stands in until they are here,
//! and for as long as they cannot be had.

use std::collections::{BTreeMap, BTreeSet};
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
        let mut asked = Asked::default();
        loop {
            let now = self.now();
            let wait = match self.next_unpriced(&asked, now) {
                None => IDLE,
                Some((region, rates)) => {
                    let settings = self.settings();
                    let (answered, why) = match self.fetch(&region, &rates, now).await {
                        Ok(answered) => (answered, None),
                        Err(why) => (BTreeSet::new(), Some(why)),
                    };
                    let failed = rates.len() - rates.iter().filter(|rate| answered.contains(*rate)).count();
                    let why = why.or_else(|| (failed > 0).then(|| format!("{failed} rates could not be asked for")));
                    if let Some(why) = &why {
                        tracing::debug!(%region, why, "list prices could not be fetched; the built-in table is used");
                    }
                    let why = why.map(|why| format!("{region}: {why}"));
                    self.state().note_trouble("prices", why, now);
                    for rate in rates {
                        let wait = if answered.contains(&rate) {
                            settings.prices_fresh
                        } else {
                            settings.prices_again
                        };
                        asked.again.insert((region.clone(), rate), after(now, wait));
                    }
                    asked.last = Some(region);
                    BETWEEN
                }
            };
            self.clock.sleep(wait).await;
        }
    }

    /// Rates of one region whose price is not known, or was fetched too long ago: the regions by turns.
    fn next_unpriced(&self, asked: &Asked, now: Timestamp) -> Option<(Region, Vec<RateKey>)> {
        let fresh = SignedDuration::try_from(self.settings().prices_fresh).unwrap_or(SignedDuration::MAX);
        let is_fresh = |at: Timestamp| now.duration_since(at) < fresh;
        let state = self.state();
        let later = state
            .regions
            .iter()
            .filter(|(region, _)| Some(*region) > asked.last.as_ref());
        let others = state
            .regions
            .iter()
            .filter(|(region, _)| Some(*region) <= asked.last.as_ref());
        later.chain(others).find_map(|(region, seeing)| {
            let assets = seeing.kinds.values().flat_map(|looked| &looked.assets);
            let mut rates: Vec<&RateKey> = assets
                .flat_map(|asset| &asset.meters)
                .map(|meter| &meter.rate)
                .collect();
            rates.sort_unstable();
            rates.dedup();
            rates.retain(|rate| {
                let listed = state.prices.listed(region, rate).map(|listed| listed.fetched_at);
                let again = asked.again.get(&(region.clone(), (*rate).clone()));
                !listed.is_some_and(is_fresh) && again.is_none_or(|again| *again <= now)
            });
            let rates: Vec<RateKey> = rates.into_iter().take(RATES).cloned().collect();
            (!rates.is_empty()).then(|| (region.clone(), rates))
        })
    }

    /// The rates that were answered for, whether the list has them or not.
    async fn fetch(&self, region: &Region, rates: &[RateKey], now: Timestamp) -> Result<BTreeSet<RateKey>, String> {
        let found = self.within(self.cloud.list_prices(region, rates)).await?;
        let answered: BTreeSet<RateKey> = found.keys().cloned().collect();
        let found = found.into_iter().filter_map(|(rate, usd)| Some((rate, usd?)));
        // A list that says nothing for what is charged has been misread.
        let found = found.filter(|(_, usd)| *usd > Usd::ZERO);
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
        for row in rows {
            state.prices.put(row.region, row.rate, row.listed);
        }
        Ok(answered)
    }
}

/// What was asked for.
#[derive(Debug, Default)]
struct Asked {
    /// When each may be asked for again: what the list does not have not before it could have changed, what could
    /// not be asked for soon.
    again: BTreeMap<(Region, RateKey), Timestamp>,
    /// The region that was asked for last.
    last: Option<Region>,
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}
