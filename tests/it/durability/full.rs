//! A disk that is short, and one that takes nothing more: new spend fails closed (D4), and nothing that
//! was acknowledged is lost (L5).

use std::process::Command;

use serde_json::json;

use super::site::{Client, Site, report};
use crate::harness::scarce::{self, RESERVE_MB};

const BUDGETS: &str = r#"
[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "1000"
response = "contain"
"#;

#[tokio::test]
async fn d4_below_the_reserve_holds_are_refused_and_reports_are_kept() {
    let scarce = scarce::dir();
    let reserve = format!("reserve_mb = {RESERVE_MB}");
    let site = Site::with_ledger(scarce.path().join("backstop.db"), &reserve, BUDGETS);
    let daemon = site.start().await;
    let client = Client::new(&daemon).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..24 {
        let client = client.clone();
        asked.spawn(async move {
            for round in 0..4 {
                let (status, body) = client.hold("0.01").await.expect("the daemon answers");
                assert_eq!((status, &body["error"]["code"]), (503, &json!("store_full")), "{body}");
                // Money that is spent is written down as long as there is room, whoever else was refused.
                let row = report(&format!("spent-{n}-{round}"), "0.01");
                let (status, body) = client.post("/v1/usage", &row).await.expect("the daemon answers");
                assert_eq!(status, 200, "{body}");
            }
        });
    }
    asked.join_all().await;
    assert!(daemon.stop().await.success());
    let books = site.books().await;
    books.assert_sound();
    assert_eq!((books.view.holds.len(), books.view.postings.len()), (0, 24 * 4));
}

#[tokio::test]
async fn d4_l5_a_disk_that_takes_no_more_loses_nothing_acknowledged() {
    let site = Site::new("reserve_mb = 0", BUDGETS);
    // No file may grow past a megabyte or two (the unit is the shell's), so the log fills up.
    let serve = site.command();
    let mut short = Command::new("sh");
    short
        .args(["-c", r#"trap "" XFSZ; ulimit -f 2048; exec "$@""#, "sh"])
        .arg(serve.get_program())
        .args(serve.get_args())
        .current_dir(site.path());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => short.env(name, value),
            None => short.env_remove(name),
        };
    }
    let daemon = site.start_as(short).await;
    let client = Client::new(&daemon).await;
    let mut acknowledged = 0;
    let refused = loop {
        let rows: Vec<_> = (0..100)
            .map(|n| report(&format!("b{acknowledged}-{n}"), "0.01"))
            .collect();
        let (status, body) = client
            .post("/v1/usage", &json!(rows))
            .await
            .expect("the daemon answers");
        if status != 200 {
            break (status, body);
        }
        acknowledged += 1;
        assert!(acknowledged < 1_000, "the file has outgrown its limit");
    };
    assert_eq!(refused.0, 503, "{}", refused.1);
    let (status, body) = client.hold("0.01").await.expect("the daemon answers");
    assert_eq!(status, 503, "{body}");
    let (status, body) = client.admin_get("/readyz").await.expect("the daemon answers");
    assert_eq!((status, &body["store_down"]), (503, &json!(true)), "{body}");
    daemon.kill();

    // With room again it goes on, and the refused batch may be sent once more.
    let daemon = site.start().await;
    let client = client.at(&daemon);
    let rows: Vec<_> = (0..100)
        .map(|n| report(&format!("b{acknowledged}-{n}"), "0.01"))
        .collect();
    let (status, body) = client
        .post("/v1/usage", &json!(rows))
        .await
        .expect("the daemon answers");
    assert_eq!(status, 200, "{body}");
    assert!(daemon.stop().await.success());
    let books = site.books().await;
    books.assert_sound();
    for batch in 0..=acknowledged {
        for n in 0..100 {
            assert_eq!(books.of_report(&format!("b{batch}-{n}")).len(), 1, "b{batch}-{n}");
        }
    }
    assert_eq!(books.view.postings.len(), (acknowledged + 1) * 100);
}
