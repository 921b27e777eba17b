//! Two daemons on one ledger file: they share its limits, and each leaves the other's life alone.

use std::time::Duration;

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use serde_json::json;
use tokio::task::JoinSet;

use super::site::{Client, Site, hold_id, report};
use crate::harness::wait;

const BUDGETS: &str = r#"
[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "20"
response = "contain"
[[budget]]
name = "day"
scope = "agent"
window = "day"
limit_usd = "10"
response = "contain"
"#;

/// Holds of a quarter that the shorter line has room for.
const FITTING: usize = 40;
/// What each of two daemons is asked for.
const ASKED: usize = 60;

/// Dead epochs are looked for every half minute.
const BURIED_WITHIN: Duration = Duration::from_secs(180);

enum Asked {
    /// By which daemon.
    Admitted(usize, String),
    Held,
    Busy,
}

#[tokio::test]
async fn l2_two_daemons_share_one_limit_and_bury_only_the_dead() {
    let site = Site::new("reserve_mb = 0", BUDGETS);
    let beside = site.beside("reserve_mb = 0", BUDGETS);
    let (one, two) = (site.start().await, beside.start().await);
    let client = Client::new(&one).await;
    let clients = [client.clone(), client.at(&two)];
    // A key that one daemon made is known to the other within a second.
    wait::until("the key to be known", Duration::from_secs(60), async || {
        let (status, _) = clients[1].get("/v1/budget").await?;
        (status == 200).then_some(())
    })
    .await;

    let mut asked = JoinSet::new();
    for n in 0..2 * ASKED {
        let client = clients[n % 2].clone();
        asked.spawn(async move {
            let (status, body) = client.hold("0.25").await.expect("the daemon answers");
            match status {
                201 => Asked::Admitted(n % 2, hold_id(&body)),
                429 => Asked::Held,
                // One writes at a time: on a slow disk the other may have to wait for too long.
                503 => Asked::Busy,
                _ => panic!("{status} {body}"),
            }
        });
    }
    let (mut admitted, mut busy) = (Vec::new(), 0);
    for answer in asked.join_all().await {
        match answer {
            Asked::Admitted(by, id) => admitted.push((by, id)),
            Asked::Held => {}
            Asked::Busy => busy += 1,
        }
    }
    assert!(admitted.len() <= FITTING, "not one more than fits: {}", admitted.len());
    assert!(
        busy > 0 || admitted.len() == FITTING,
        "as many as fit: {}",
        admitted.len()
    );
    let of = |daemon: usize| -> Vec<String> {
        let own = admitted.iter().filter(|(by, _)| *by == daemon);
        own.map(|(_, id)| id.clone()).collect()
    };
    let (of_one, of_two) = (of(0), of(1));

    // A third start buries nobody: both live.
    let third_site = site.beside("reserve_mb = 0", BUDGETS);
    let third = third_site.start().await;
    for id in of_one.iter().chain(&of_two) {
        assert_eq!(clients[0].hold_state(id).await.as_deref(), Some("open"));
    }
    // The first dies with a hold of its own open, whatever the race gave it.
    let (_, freed) = clients[1]
        .post(
            &format!(
                "/v1/holds/{}/capture",
                of_two.first().or(of_one.first()).expect("some were admitted")
            ),
            &json!({ "cost_usd": "0.05" }),
        )
        .await
        .expect("the daemon answers");
    assert_eq!(freed["repeated"], false, "{freed}");
    let waiting = json!({ "bound_usd": "0.20", "wait_s": 60 });
    let (status, body) = clients[0]
        .post("/v1/holds", &waiting)
        .await
        .expect("the daemon answers");
    assert_eq!(status, 201, "what one daemon captured, the other may hold: {body}");
    let dying = hold_id(&body);
    one.kill();
    wait::until("a living daemon to bury the dead one", BURIED_WITHIN, async || {
        (clients[1].hold_state(&dying).await? == "unresolved").then_some(())
    })
    .await;
    for id in of_two.iter().skip(1) {
        assert_eq!(
            clients[1].hold_state(id).await.as_deref(),
            Some("open"),
            "its daemon lives"
        );
    }
    // The survivors go on: their epochs are their own.
    for id in of_two.iter().skip(1) {
        let (status, body) = clients[1]
            .post(&format!("/v1/holds/{id}/capture"), &json!({ "cost_usd": "0.25" }))
            .await
            .expect("the daemon answers");
        assert_eq!(status, 200, "{body}");
    }
    let on_third = client.at(&third);
    let (status, body) = on_third
        .post("/v1/usage", &report("after-the-burial", "0.01"))
        .await
        .expect("the daemon answers");
    assert_eq!(status, 200, "{body}");
    assert!(two.stop().await.success());
    assert!(third.stop().await.success());

    let books = site.books().await;
    books.assert_sound();
    for line in &books.view.lines {
        // All but the report was asked for first: so nothing is past the limit but that.
        let report: Usd = "0.01".parse().expect("an amount");
        let limit = line.limit().saturating_add(report);
        assert!(line.posted.saturating_add(line.held) <= limit, "{line:#?}");
    }
    let mut unresolved = 0;
    for hold in &books.view.holds {
        match hold.state {
            HoldState::Unresolved => {
                books.assert_unresolved_at_its_bound(hold);
                unresolved += 1;
            }
            HoldState::Captured => {}
            state => panic!("{state:?}: {hold:#?}"),
        }
    }
    let captured_of_one = usize::from(of_two.is_empty());
    assert_eq!(
        unresolved,
        of_one.len() - captured_of_one + 1,
        "those of the dead, and no other"
    );
}
