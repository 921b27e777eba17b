//! kill -9 in the middle of reports, batches, holds and captures, again and again on one ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::ledger::posting::PostingKind;
use backstop::domain::money::Usd;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::site::{Books, Client, Site, hold_id, report};
use crate::harness::wait;

const BUDGETS: &str = r#"
[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "100000"
response = "contain"
[[budget]]
name = "day"
scope = "agent"
window = "day"
limit_usd = "100000"
response = "contain"
[[budget]]
name = "by-model"
scope = "model"
rolling = "5h"
limit_usd = "100000"
response = "contain"
"#;

const ROUNDS: usize = 5;
const CLIENTS: usize = 16;
/// Acknowledgements after which a round's daemon is killed.
const ACKNOWLEDGED: usize = 120;
/// Nothing was acknowledged: on a slow disk a commit may take longer than its caller waits.
const BUSY: u16 = 503;
const LIMIT: Duration = Duration::from_secs(120);

/// What the clients sent, and what they were told.
#[derive(Debug, Default)]
struct Told {
    /// Report id: its amount, and whether it was acknowledged.
    reports: BTreeMap<String, (String, bool)>,
    /// Id of an admitted hold: its bound, and what became of its capture.
    holds: BTreeMap<String, (String, Capture)>,
    acknowledged: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    NotSent,
    /// Sent, and nobody knows what became of it.
    Sent,
    Acknowledged,
}

#[derive(Debug, Clone, Default)]
struct Ledger(Arc<Mutex<Told>>);

impl Ledger {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client, until the daemon is gone.
async fn work(client: Client, ledger: Ledger, name: String) {
    for n in 0_u32.. {
        let done = match n % 4 {
            0 | 3 => send(&client, &ledger, vec![format!("{name}-{n}")], false).await,
            1 => {
                let ids = (0..25).map(|row| format!("{name}-{n}-{row}")).collect();
                send(&client, &ledger, ids, true).await
            }
            _ => spend(&client, &ledger, n % 8 == 2).await,
        };
        if done.is_none() {
            return;
        }
    }
}

/// An amount that is a report's own, so that one taken for another shows.
fn amount_of(id: &str) -> String {
    let sum = id
        .bytes()
        .fold(7_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 999_983);
    format!("0.{:06}", sum + 1)
}

async fn send(client: &Client, ledger: &Ledger, ids: Vec<String>, batch: bool) -> Option<()> {
    let rows: Vec<Value> = ids.iter().map(|id| report(id, &amount_of(id))).collect();
    for id in &ids {
        ledger.told().reports.insert(id.clone(), (amount_of(id), false));
    }
    let body = if batch { json!(rows) } else { rows[0].clone() };
    let (status, body) = client.post("/v1/usage", &body).await?;
    if status == BUSY {
        return Some(());
    }
    assert_eq!(status, 200, "{body}");
    let mut told = ledger.told();
    told.acknowledged += 1;
    for id in &ids {
        if let Some((_, acknowledged)) = told.reports.get_mut(id) {
            *acknowledged = true;
        }
    }
    Some(())
}

async fn spend(client: &Client, ledger: &Ledger, leave_open: bool) -> Option<()> {
    let (status, body) = client.hold("0.25").await?;
    if status == BUSY {
        return Some(());
    }
    assert_eq!(status, 201, "{body}");
    let id = hold_id(&body);
    {
        let mut told = ledger.told();
        told.acknowledged += 1;
        let capture = if leave_open { Capture::NotSent } else { Capture::Sent };
        told.holds.insert(id.clone(), ("0.25".to_owned(), capture));
    }
    if leave_open {
        return Some(());
    }
    let path = format!("/v1/holds/{id}/capture");
    let (status, body) = client.post(&path, &json!({ "cost_usd": "0.11" })).await?;
    if status == BUSY {
        return Some(());
    }
    assert_eq!(status, 200, "{body}");
    let mut told = ledger.told();
    told.acknowledged += 1;
    if let Some((_, capture)) = told.holds.get_mut(&id) {
        *capture = Capture::Acknowledged;
    }
    Some(())
}

fn usd(text: &str) -> Usd {
    text.parse().expect("an amount")
}

/// L5 and L6: every acknowledged report once, every other at most once, each with its amount.
fn check_reports(told: &Told, books: &Books) {
    for (id, (amount, acknowledged)) in &told.reports {
        let postings = books.of_report(id);
        let least = usize::from(*acknowledged);
        assert!((least..=1).contains(&postings.len()), "report {id}: {postings:#?}");
        assert!(
            postings.iter().all(|posting| posting.amount == usd(amount)),
            "report {id}"
        );
    }
    let unheard_of = books.view.postings.iter().filter_map(|posting| posting.report.as_ref());
    for id in unheard_of {
        assert!(told.reports.contains_key(id.as_str()), "nobody sent {id}");
    }
}

/// L3 and L4: every hold that a client learned of is there; one that nobody ended when its epoch died
/// is unresolved at its bound, call by call.
fn check_holds(told: &Told, books: &Books) -> usize {
    let mut unresolved = 0;
    for (id, (bound, capture)) in &told.holds {
        let hold = books
            .hold(id)
            .unwrap_or_else(|| panic!("hold {id} was admitted and is gone"));
        assert_eq!(hold.bound, usd(bound));
        let ended = match capture {
            Capture::NotSent => HoldState::Unresolved,
            Capture::Acknowledged => HoldState::Captured,
            Capture::Sent => hold.state,
        };
        assert_eq!(hold.state, ended, "{hold:#?}");
    }
    for hold in &books.view.holds {
        match hold.state {
            HoldState::Unresolved => {
                books.assert_unresolved_at_its_bound(hold);
                unresolved += 1;
            }
            HoldState::Captured => {
                let postings = books.postings_of(hold);
                assert_eq!(postings.len(), 1, "{postings:#?}");
                assert_eq!(
                    (postings[0].kind, postings[0].amount),
                    (PostingKind::Capture, usd("0.11"))
                );
            }
            HoldState::Voided => assert!(books.postings_of(hold).is_empty(), "{hold:#?}"),
            HoldState::Open => panic!("nobody is left to end it: {hold:#?}"),
        }
    }
    unresolved
}

#[tokio::test]
async fn l1_to_l6_survive_kill_9_under_load() {
    let site = Site::new("reserve_mb = 0", BUDGETS);
    let ledger = Ledger::default();
    let mut operator: Option<Client> = None;
    for round in 0..ROUNDS {
        let daemon = site.start().await;
        let client = match &operator {
            Some(client) => client.at(&daemon),
            None => Client::new(&daemon).await,
        };
        let before = ledger.told().acknowledged;
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            clients.spawn(work(client.clone(), ledger.clone(), format!("r{round}c{n}")));
        }
        wait::until("the clients to be answered", LIMIT, async || {
            while let Some(ended) = clients.try_join_next() {
                ended.expect("a client was answered wrongly");
            }
            (ledger.told().acknowledged >= before + ACKNOWLEDGED).then_some(())
        })
        .await;
        daemon.kill();
        clients.join_all().await;
        operator = Some(client);
    }

    // The next start buries the last of the dead.
    let daemon = site.start().await;
    let client = operator.expect("there were rounds").at(&daemon);
    let (status, verified) = client
        .admin_post("/api/v1/ledger/verify", &json!({}))
        .await
        .expect("the daemon answers");
    assert_eq!((status, &verified["ok"]), (200, &json!(true)), "{verified}");
    assert!(daemon.stop().await.success());
    let books = site.books().await;
    books.assert_sound();
    books.assert_nobody_is_stopped();
    check_reports(&ledger.told(), &books);
    let unresolved = check_holds(&ledger.told(), &books);
    assert!(
        unresolved >= ROUNDS,
        "the load left holds open at every death: {unresolved}"
    );

    // Whoever was not answered sends again, and so does whoever was.
    let daemon = site.start().await;
    let client = client.at(&daemon);
    let reports = ledger.told().reports.clone();
    let all: Vec<_> = reports.iter().collect();
    for rows in all.chunks(200) {
        let sent: Vec<Value> = rows.iter().map(|(id, (amount, _))| report(id, amount)).collect();
        let (status, body) = client.post("/v1/usage", &json!(sent)).await.expect("an answer");
        assert_eq!(status, 200, "{body}");
        for ((id, (_, acknowledged)), row) in rows.iter().zip(body["rows"].as_array().expect("rows")) {
            let known = !books.of_report(id).is_empty();
            let expected = if known { "duplicate" } else { "posted" };
            assert_eq!(row["status"], expected, "{row}");
            assert!(known || !acknowledged, "{row}");
        }
    }
    assert!(daemon.stop().await.success());
    let books = site.books().await;
    books.assert_sound();
    for id in reports.keys() {
        assert_eq!(books.of_report(id).len(), 1, "report {id}");
    }
    let of_reports = books.view.postings.iter().filter(|posting| posting.report.is_some());
    assert_eq!(of_reports.count(), reports.len());
}
