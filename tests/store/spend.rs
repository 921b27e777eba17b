//! The spend report against sums that a test makes by hand from the postings.

use std::collections::BTreeMap;

use backstop::domain::id::{ModelId, ServiceId, TaskId, ToolName};
use backstop::domain::ledger::batch::Op;
use backstop::domain::ledger::posting::{Posting, PostingKind};
use backstop::domain::money::Usd;
use backstop::ports::{SpendBy, SpendQuery, SpendRow};
use jiff::Timestamp;

use crate::conform;
use crate::fixture::Fixture;
use crate::make::*;

conform!(
    every_grouping_is_the_sum_of_its_postings,
    a_report_is_cut_to_its_limit,
    spend_without_postings_is_nothing,
);

const GROUPINGS: [SpendBy; 6] = [
    SpendBy::Agent,
    SpendBy::Task,
    SpendBy::Model,
    SpendBy::Service,
    SpendBy::Tool,
    SpendBy::Day,
];

fn all(by: SpendBy) -> SpendQuery {
    SpendQuery {
        agent: None,
        task: None,
        by,
        since: None,
        until: None,
        limit: 10_000,
    }
}

fn key(by: SpendBy, posting: &Posting) -> String {
    let of = &posting.attribution;
    let text = match by {
        SpendBy::Agent => Some(of.agent.to_string()),
        SpendBy::Task => Some(format!("{}/{}", of.agent, of.task)),
        SpendBy::Model => of.model.as_ref().map(ToString::to_string),
        SpendBy::Service => of.service.as_ref().map(ToString::to_string),
        SpendBy::Tool => of.tool.as_ref().map(ToString::to_string),
        SpendBy::Day => Some(posting.occurred_at.strftime("%Y-%m-%d").to_string()),
    };
    text.unwrap_or_else(|| "-".to_owned())
}

fn hour(time: Timestamp) -> i64 {
    time.as_second().div_euclid(3600)
}

fn by_hand(query: &SpendQuery, postings: &[Posting]) -> BTreeMap<String, (Usd, Usd, i64)> {
    let mut sums: BTreeMap<String, (Usd, Usd, i64)> = BTreeMap::new();
    for posting in postings {
        let of = &posting.attribution;
        let at = hour(posting.occurred_at);
        let until = query.until.map(|until| (until.as_second() + 3599).div_euclid(3600));
        if query.agent.as_ref().is_some_and(|agent| *agent != of.agent)
            || query.task.as_ref().is_some_and(|task| *task != of.task)
            || query.since.is_some_and(|since| at < hour(since))
            || until.is_some_and(|until| at >= until)
        {
            continue;
        }
        let unresolved = match posting.kind {
            PostingKind::Unresolved => posting.amount,
            PostingKind::Correction => {
                let target = postings.iter().find(|p| Some(p.id) == posting.corrects).unwrap();
                Usd::ZERO.saturating_sub(target.amount)
            }
            PostingKind::Report | PostingKind::Capture => Usd::ZERO,
        };
        let sum = sums.entry(key(query.by, posting)).or_default();
        sum.0 = sum.0.saturating_add(posting.amount);
        sum.1 = sum.1.saturating_add(unresolved);
        sum.2 += 1;
    }
    sums
}

fn as_map(rows: &[SpendRow]) -> BTreeMap<String, (Usd, Usd, i64)> {
    let map: BTreeMap<_, _> = rows
        .iter()
        .map(|row| (row.key.clone(), (row.amount, row.unresolved, row.postings)))
        .collect();
    assert_eq!(map.len(), rows.len(), "a key appears once");
    map
}

/// Some hundreds of postings of every kind over five days, two of them before 1970.
async fn fill(f: &Fixture) -> Vec<Posting> {
    let mut dice = Dice(7);
    let starts: [Timestamp; 5] = [
        now(),
        later(-86_400),
        later(-2 * 86_400),
        "1969-12-30T23:10:00Z".parse().unwrap(),
        "1969-12-31T01:50:00Z".parse().unwrap(),
    ];
    for batch in 0..6_u128 {
        let mut ops = Vec::new();
        for n in 0..50_u128 {
            let id = batch * 100 + n;
            let name: &str = dice.pick::<&str>(&["a", "b", "c"]);
            let mut of = of(name);
            of.task = dice
                .pick(&[TaskId::none(), TaskId::new("1").unwrap(), TaskId::new("x/2").unwrap()])
                .clone();
            of.model = dice
                .pick(&[
                    None,
                    Some(ModelId::new("m").unwrap()),
                    Some(ModelId::new("m 2").unwrap()),
                ])
                .clone();
            of.service = dice.pick(&[None, Some(ServiceId::new("openai").unwrap())]).clone();
            of.tool = dice.pick(&[None, Some(ToolName::new("t").unwrap())]).clone();
            let lines = vec![total("total", of.agent.as_str(), usd(1_000_000))];
            let amount = Usd::from_nanos(i64::try_from(dice.roll(5_000_000_000)).unwrap());
            if dice.roll(3) == 0 {
                let bound = amount.saturating_add(usd(1));
                ops.push(admit(id, of, bound, lines));
                match dice.roll(3) {
                    0 => ops.push(capture(id, amount)),
                    1 => ops.push(expire(id)),
                    _ => ops.extend([expire(id), resolve(id, 10_000 + id, amount)]),
                }
            } else {
                let mut report = report(id, of, amount, lines);
                let seconds = i64::try_from(dice.roll(20 * 3600)).unwrap();
                report.occurred_at = *dice.pick(&starts) - jiff::SignedDuration::from_secs(seconds);
                ops.push(Op::Report(report));
            }
        }
        f.commit(ops).await;
    }
    f.is_sound().await.postings
}

async fn every_grouping_is_the_sum_of_its_postings(f: Fixture) {
    let postings = fill(&f).await;
    assert!(postings.iter().any(|p| p.kind == PostingKind::Correction));
    let day = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let ranges = [
        (None, None),
        (Some(later(-3600)), None),
        (None, Some(later(-5400))),
        (Some(later(-30 * 3600)), Some(later(-3 * 3600))),
        (Some(later(-7200)), Some(later(-3700))),
        (day("2026-01-14T00:00:00Z"), day("2026-01-15T00:00:00Z")),
        (day("1969-12-30T04:30:00Z"), day("1970-01-01T00:00:00Z")),
        (Some(later(60)), Some(later(30))),
    ];
    let mut compared = 0;
    for by in GROUPINGS {
        for (since, until) in ranges {
            for (of, task) in [
                (None, None),
                (Some("b"), None),
                (Some("b"), Some("1")),
                (None, Some("x/2")),
            ] {
                let query = SpendQuery {
                    agent: of.map(agent),
                    task: task.map(|task| TaskId::new(task).unwrap()),
                    since,
                    until,
                    ..all(by)
                };
                let rows = f.store.spend(&query).await.unwrap();
                assert_eq!(as_map(&rows), by_hand(&query, &postings), "{query:?}");
                compared += rows.len();
            }
        }
    }
    assert!(compared > 200, "{compared} rows");
}

async fn a_report_is_cut_to_its_limit(f: Fixture) {
    fill(&f).await;
    for by in GROUPINGS {
        let rows = f.store.spend(&all(by)).await.unwrap();
        let cut = SpendQuery { limit: 2, ..all(by) };
        assert_eq!(f.store.spend(&cut).await.unwrap(), rows[..2]);
        let sum = |of: fn(&SpendRow) -> Usd| rows.iter().map(of).sum::<Usd>();
        let total = (sum(|row| row.amount), sum(|row| row.unresolved));
        assert_eq!(
            f.store.spend_total(&cut).await.unwrap(),
            total,
            "the sum is of all, not of the rows"
        );
        match by {
            SpendBy::Day => assert!(rows.windows(2).all(|p| p[0].key < p[1].key)),
            _ => assert!(rows.windows(2).all(|p| p[0].amount >= p[1].amount), "{rows:?}"),
        }
    }
}

async fn spend_without_postings_is_nothing(f: Fixture) {
    for by in GROUPINGS {
        assert_eq!(f.store.spend(&all(by)).await.unwrap(), []);
    }
}
