//! Requests as the SDKs send them, and as nobody should.
//!
//! `sdk_requests.jsonl` holds what the Python SDKs `openai` 3.51.0 and `anthropic` 2.10.0 sent to a local
//! server, byte for byte, credentials left out.

mod bodies;
mod bounds;
mod drafts;
mod fields;
mod headers;
mod shapes;

use std::sync::LazyLock;

use bytes::Bytes;
use serde::Deserialize;

use super::*;
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;

/// One request of an SDK.
#[derive(Deserialize)]
struct Sent {
    name: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Sent {
    fn route(&self) -> Route {
        let path = self.path.split('?').next().unwrap_or_default();
        let api = if path.starts_with("/v1/messages") {
            Api::Anthropic
        } else {
            Api::Openai
        };
        Route::find(api, "POST", path).expect("a route that is known")
    }

    fn read(&self, rules: &CallRules) -> Result<Asked, Rejection> {
        read(self.route(), &Bytes::from(self.body.clone()), rules)
    }
}

static SENT: LazyLock<Vec<Sent>> = LazyLock::new(|| {
    let lines = include_str!("sdk_requests.jsonl").lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a request a line"))
        .collect()
});

fn sent(name: &str) -> &'static Sent {
    SENT.iter()
        .find(|sent| sent.name == name)
        .expect("a request of that name")
}

/// Reads a request that is understood.
fn asked(name: &str, rules: &CallRules) -> Asked {
    sent(name).read(rules).unwrap_or_else(|why| panic!("{name}: {why}"))
}

fn read_text(route: Route, body: &str) -> Result<Asked, Rejection> {
    read(route, &Bytes::from(body.to_owned()), &CallRules::default())
}

fn refused(route: Route, body: &str) -> CallRejection {
    match read_text(route, body) {
        Err(Rejection::Call(why)) => why,
        other => panic!("{body}: {other:?}"),
    }
}

fn usd(text: &str) -> Usd {
    text.parse().expect("an amount")
}

/// Config that prices the provider's own tools.
fn priced(tools: &[(&str, &str)]) -> CallRules {
    CallRules {
        server_tools: tools
            .iter()
            .map(|(tool, most)| ((*tool).to_owned(), usd(most)))
            .collect(),
        ..CallRules::default()
    }
}
