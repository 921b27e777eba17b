//! What a look of the watcher costs: whose each thing is, its price, its charge in the book, and the book's
//! text, which is saved whenever what runs has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use backstop::domain::burn::{Book, Seen};
use backstop::domain::containment::observed::Instance;
use backstop::domain::containment::plan::RegionView;
use backstop::domain::containment::target::{CloudTargets, Principal};
use backstop::domain::fleet::asset::{Asset, Kind};
use backstop::domain::fleet::owner::{Claim, Owner, Owners};
use backstop::domain::fleet::price::FleetPrices;
use backstop::domain::id::AgentId;
use criterion::Criterion;
use jiff::{SignedDuration, Timestamp};

use super::fleet::{ACCOUNT, Size, now};

/// The watcher's knowledge, without its locks and calls.
pub struct Watcher {
    owners: Owners,
    prices: FleetPrices,
    book: Book,
    at: Timestamp,
}

impl Watcher {
    pub fn new() -> Self {
        let claims = ["agent", "other"].map(|name| Claim {
            agent: AgentId::new(name).expect("a name"),
            targets: CloudTargets {
                account: ACCOUNT.to_owned(),
                principals: vec![Principal::Role(format!("arn:aws:iam::{ACCOUNT}:role/agents/{name}"))],
                tags: BTreeMap::from([("backstop:agent".to_owned(), name.to_owned())]),
                regions: Vec::new(),
            },
            profiles: BTreeSet::from([format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}")]),
        });
        Self {
            owners: Owners::new(claims.into()),
            prices: FleetPrices::default(),
            book: Book::default(),
            at: now(),
        }
    }

    /// Looks at everything once, fifteen seconds later; the length of the book's text.
    pub fn look(&mut self, views: &[RegionView]) -> usize {
        self.at = self
            .at
            .saturating_add(SignedDuration::from_secs(15))
            .expect("a time in this century");
        for view in views {
            let machines = view.instances.iter().flatten().map(Instance::to_asset);
            let others = view.assets.values().flatten().flatten().cloned();
            let assets: Vec<Asset> = machines.chain(others).collect();
            let owners = self
                .owners
                .attribute(&assets, &BTreeMap::new(), &BTreeMap::new(), ACCOUNT);
            let mut kinds: BTreeMap<Kind, Vec<Seen>> = BTreeMap::new();
            for asset in &assets {
                let seen = kinds.entry(asset.what.kind.clone()).or_default();
                seen.extend(self.prices.asset(asset).map(|hourly| Seen {
                    what: asset.what.clone(),
                    parent: asset.parent.clone(),
                    agent: owners.get(&asset.what).and_then(Owner::agent).cloned(),
                    tagged: None,
                    service: asset.service.clone().into_owned(),
                    since: asset.created_at,
                    hourly,
                }));
            }
            for (kind, seen) in kinds {
                self.book.look(&view.region, &kind, seen, self.at);
            }
        }
        black_box(self.book.burn());
        serde_json::to_string(&self.book).map_or(0, |text| text.len())
    }
}

/// A third of them are the agent's.
pub fn looks(c: &mut Criterion) {
    let mut group = c.benchmark_group("look");
    group.sample_size(20);
    for (name, ours) in [("1500_machines", 500), ("10200_machines", 3_400)] {
        let views = Size::machines(ours).views(false);
        let mut watcher = Watcher::new();
        watcher.look(&views);
        group.bench_function(name, |b| b.iter(|| watcher.look(black_box(&views))));
    }
    group.finish();
}
