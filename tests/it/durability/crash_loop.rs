//! A daemon that crashes again and again with a call open each time. What those calls cost nobody
//! knows, so it counts (L7) and fills the budget; but it is nobody's fault, so it contains nobody (L3).

use serde_json::json;

use super::site::{AGENT, Client, Site, hold_id};
use crate::harness::daemon::{backstop, run_cli};

const CRASHES: usize = 100;
/// Holds of a dollar that fit.
const FITTING: usize = 60;

const BUDGETS: &str = r#"
[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "60"
alert_at = [50, 80]
response = "contain"
"#;

#[tokio::test]
async fn l3_a_hundred_crash_loops_contain_nobody() {
    let site = Site::new("reserve_mb = 0", BUDGETS);
    let mut known: Option<Client> = None;
    let mut admitted = Vec::new();
    for crash in 0..CRASHES {
        let daemon = site.start().await;
        let client = match &known {
            Some(client) => client.at(&daemon),
            None => Client::new(&daemon).await,
        };
        let (status, body) = client.hold("1").await.expect("the daemon answers");
        if crash < FITTING {
            assert_eq!(status, 201, "crash {crash}: {body}");
            admitted.push(hold_id(&body));
        } else {
            // Small enough for a breach, if what filled the line were spend that somebody answers for.
            assert_eq!(
                (status, &body["error"]["code"]),
                (402, &json!("budget_exceeded")),
                "crash {crash}: {body}"
            );
        }
        daemon.kill();
        known = Some(client);
    }

    let daemon = site.start().await;
    let client = known.expect("there were crashes").at(&daemon);
    let (_, budget) = client.get("/v1/budget").await.expect("the daemon answers");
    assert_eq!(
        (&budget["status"], &budget["lines"][0]["unresolved_usd"]),
        (&json!("active"), &json!("60.00")),
        "{budget}"
    );
    assert_eq!(budget["lines"][0]["breached"], json!(false), "{budget}");
    let (_, status) = client.admin_get("/api/v1/status").await.expect("the daemon answers");
    assert_eq!(
        (&status["containments"], &status["reviews"]),
        (&json!([]), &json!([])),
        "{status}"
    );
    assert!(daemon.stop().await.success());
    let books = site.books().await;
    books.assert_sound();
    books.assert_nobody_is_stopped();
    assert_eq!(books.view.holds.len(), FITTING);
    for id in &admitted {
        books.assert_unresolved_at_its_bound(books.hold(id).expect("it was admitted"));
    }

    // An operator who learned that the calls cost nothing frees what they held.
    let daemon = site.start().await;
    let client = client.at(&daemon);
    let (status, _) = client.hold("1").await.expect("the daemon answers");
    assert_eq!(status, 402);
    let mut command = backstop();
    command.arg("--socket").arg(site.state().join("admin.sock")).args([
        "ledger",
        "resolve",
        "--cost-usd",
        "0",
        "--hold",
        &admitted[0],
    ]);
    let resolved = run_cli(command, site.path()).await;
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    for id in &admitted[1..] {
        let (status, body) = client
            .admin_post("/api/v1/ledger/resolve", &json!({ "hold": id, "cost_usd": "0.25" }))
            .await
            .expect("the daemon answers");
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) = client.hold("45.25").await.expect("the daemon answers");
    assert_eq!(status, 201, "all but 59 quarters is free again: {body}");
    let path = format!("/v1/holds/{}/capture", hold_id(&body));
    let (status, body) = client
        .post(&path, &json!({ "cost_usd": "0.25" }))
        .await
        .expect("an answer");
    assert_eq!(status, 200, "{body}");
    let (_, agent) = client
        .admin_get(&format!("/api/v1/agents/{AGENT}"))
        .await
        .expect("the daemon answers");
    assert_eq!(agent["status"], "active", "{agent}");
    assert!(daemon.stop().await.success());
    let books = site.books().await;
    books.assert_sound();
    books.assert_nobody_is_stopped();
}
