//! `[[upstream]]`: the providers that agents reach through the gateway.

use std::collections::BTreeMap;

use super::agents::place;
use super::gateway::amounts;
use super::reader::{Item, Table};
use super::references::References;
use super::secret::Secret;
use super::settings::Upstream;
use super::tree::Origin;
use super::values;
use crate::domain::call::{Api, Route, is_plain};
use crate::domain::id::ServiceId;

const MAX_UPSTREAMS: usize = 100;
/// First segments of paths that are, or will be, Backstop's own.
const RESERVED: [&str; 8] = ["v1", "api", "mcp", "sns", "healthz", "readyz", "metrics", "dashboard"];

pub(super) fn upstreams(
    item: Option<Item<'_>>,
    references: &References<'_>,
    insecure: Option<bool>,
) -> Option<Vec<Upstream>> {
    let Some(item) = item else { return Some(Vec::new()) };
    let tables = item.tables()?;
    if tables.len() > MAX_UPSTREAMS {
        item.error(
            &format!("{} upstreams, and at most {MAX_UPSTREAMS} are taken", tables.len()),
            None,
        );
        return None;
    }
    let mut seen: BTreeMap<String, &Origin> = BTreeMap::new();
    let read: Vec<Option<Upstream>> = tables
        .iter()
        .map(|table| upstream(table, references, insecure, &mut seen))
        .collect();
    let whole = tables.len() == item.len();
    read.into_iter().collect::<Option<Vec<_>>>().filter(|_| whole)
}

fn upstream<'a>(
    table: &Table<'a>,
    references: &References<'_>,
    insecure: Option<bool>,
    seen: &mut BTreeMap<String, &'a Origin>,
) -> Option<Upstream> {
    let name = table
        .required(
            "name",
            "every upstream has a name = \"…\", the first part of its path here",
        )
        .and_then(|item| name(&item, seen));
    let kind = table
        .required("kind", "whose API it speaks: \"openai\" or \"anthropic\"")
        .and_then(|item| item.word(&[("openai", Api::Openai), ("anthropic", Api::Anthropic)]));
    let base_url = table
        .required("base_url", "where it is, such as \"https://api.openai.com\"")
        .and_then(|item| base_url(&item, insecure));
    let api_key = api_key(table, references);
    let service = match (table.get("service"), kind) {
        (Some(item), _) => item
            .text()
            .and_then(|text| ServiceId::new(text).map_err(|error| item.no_name(&error)).ok()),
        (None, Some(kind)) => ServiceId::new(kind.name()).ok(),
        (None, None) => None,
    };
    let ceilings = match table.get("ceilings") {
        Some(item) => item
            .table()
            .and_then(|table| amounts(&table, |item, path| is_ceiling(item, path, kind))),
        None => Some(BTreeMap::new()),
    };
    table.finish();
    Some(Upstream {
        name: name?,
        kind: kind?,
        base_url: base_url?,
        api_key: api_key?,
        service: service?,
        ceilings: ceilings?,
    })
}

fn name<'a>(item: &Item<'a>, seen: &mut BTreeMap<String, &'a Origin>) -> Option<String> {
    let text = item.text()?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        item.error(
            &format!("{} cannot be the first part of a path", values::shown(text)),
            "small letters, digits, - and _, such as \"openai\"",
        );
        return None;
    }
    if RESERVED.contains(&text) {
        item.error(&format!("{text} is a path of Backstop's own"), "such as \"openai\"");
        return None;
    }
    if let Some(first) = seen.insert(text.to_owned(), item.origin()) {
        item.error(
            &format!("upstream {text} is named twice, first {}", place(first)),
            "names are unique",
        );
        return None;
    }
    Some(text.to_owned())
}

/// The base without a slash at its end. The value is not echoed: a URL can carry a password.
fn base_url(item: &Item<'_>, insecure: Option<bool>) -> Option<String> {
    const FORM: &str = "such as https://api.openai.com";
    let text = item.text()?;
    let Ok(url) = reqwest::Url::parse(text) else {
        item.error("is not a URL", FORM);
        return None;
    };
    let (Some(host), "http" | "https") = (url.host_str(), url.scheme()) else {
        item.error("is not an http or https URL", FORM);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        item.error(
            "carries credentials (they are not shown here)",
            "name them with api_key_env or api_key_file",
        );
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        item.error("has a query or a fragment", FORM);
        return None;
    }
    let path = url.path().trim_end_matches('/');
    if !path.is_empty() && !is_plain(path) {
        item.error("has a path that could be read in more than one way", FORM);
        return None;
    }
    if path.ends_with("/v1") {
        item.error(
            "ends in /v1, which is part of every path that a client sends",
            "leave it out here; clients use http://HOST:8700/NAME/v1",
        );
        return None;
    }
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    // When the switch itself could not be read, only that is reported.
    if url.scheme() == "http" && !is_local && insecure == Some(false) {
        item.error(
            "is plain HTTP to another machine, which carries the credential",
            "use https, or set gateway.insecure_upstream = true for a network that you trust",
        );
        return None;
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

/// `Some(None)` for an upstream that wants no credential.
fn api_key(table: &Table<'_>, references: &References<'_>) -> Option<Option<Secret>> {
    let named = |key| {
        let item = table.get(key)?;
        let text = item.text()?;
        (!text.is_empty()).then_some((item, text))
    };
    match (named("api_key_file"), named("api_key_env")) {
        (Some(_), Some((item, _))) => {
            item.error("api_key_file is set as well", "set one of the two");
            None
        }
        (Some((item, text)), None) => Some(references.key_file(&item, text)),
        (None, Some((item, text))) => Some(references.key_variable(&item, text)),
        (None, None) => Some(None),
    }
}

fn is_ceiling(item: &Item<'_>, path: &str, kind: Option<Api>) -> bool {
    let plain = is_plain(path.strip_suffix("/*").unwrap_or(path));
    if !plain {
        item.error(
            &format!("{} is no path", values::shown(path)),
            "such as \"/v1/batches\"; /* at its end stands for one more part",
        );
    }
    let known = |api| {
        ["POST", "GET"]
            .iter()
            .any(|method| Route::find(api, method, path).is_ok())
    };
    let metered = kind.is_some_and(known);
    if metered {
        item.error(
            "is a route that is metered already",
            "its cost is bounded and metered call by call",
        );
    }
    plain && !metered
}
