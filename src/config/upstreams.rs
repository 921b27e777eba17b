//! `[[upstream]]`: the providers that agents reach through the gateway.

use std::collections::{BTreeMap, BTreeSet};

use super::agents::place;
use super::gateway::amounts;
use super::reader::{Item, Table};
use super::references::References;
use super::secret::Secret;
use super::settings::Upstream;
use super::tree::Origin;
use super::values;
use crate::domain::call::{Api, LimitField, Route, is_plain, is_upstream_name};
use crate::domain::id::ServiceId;
use crate::domain::price::Region;

const MAX_UPSTREAMS: usize = 100;
/// Names of fields of a usage, and bytes of one: what is longer is shown cut, so it would match nothing.
const MAX_FIELDS: usize = 100;
const MAX_FIELD: usize = 64;

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
        (None, Some(kind)) => unnamed_service(table, kind, base_url.as_deref()),
        (None, None) => None,
    };
    let stated = match table.get("limit_field") {
        Some(item) => item
            .word(&[
                ("max_completion_tokens", LimitField::New),
                ("max_tokens", LimitField::Old),
            ])
            .map(Some),
        None => Some(None),
    };
    let limit_field = stated
        .zip(service.as_ref())
        .map(|(stated, service)| limit_field(stated, service));
    let region = match table.get("region") {
        Some(item) => item.word(&[("global", Region::Global), ("eu", Region::Eu), ("us", Region::Us)]),
        None => Some(base_url.as_deref().map_or(Region::Global, region_of)),
    };
    let free_usage_fields = match table.get("free_usage_fields") {
        Some(item) => item.texts(MAX_FIELDS, usage_field),
        None => Some(Vec::new()),
    };
    let ceilings = match table.get("ceilings") {
        Some(item) => item
            .table()
            .and_then(|table| amounts(&table, |item, path| is_ceiling(item, path, kind, service.as_ref()))),
        None => Some(BTreeMap::new()),
    };
    let ceilings_ungated = table.get("ceilings_ungated").map_or(Some(false), |item| item.boolean());
    table.finish();
    Some(Upstream {
        name: name?,
        kind: kind?,
        base_url: base_url?,
        api_key: api_key?,
        service: service?,
        limit_field: limit_field?,
        region: region?,
        free_usage_fields: free_usage_fields?.into_iter().collect::<BTreeSet<_>>(),
        ceilings: ceilings?,
        ceilings_ungated: ceilings_ungated?,
    })
}

/// The service of an upstream that names none: the kind's own, at that provider's own host. What another
/// provider charges, and which fields it heeds, is not known from the API that it speaks (**L7**). On this
/// machine a proxy or an emulator of the provider is as likely as another one, so there it is a warning.
fn unnamed_service(table: &Table<'_>, kind: Api, base_url: Option<&str>) -> Option<ServiceId> {
    let own = kind.name();
    let url = base_url.and_then(|text| reqwest::Url::parse(text).ok());
    if let Some(host) = url.as_ref().and_then(reqwest::Url::host_str) {
        let hint = format!("say whose prices apply: service = \"{own}\", or another that `backstop prices show` lists");
        if is_local(host) {
            let message = format!("has no service, and is taken for {own} itself, with its prices and free routes");
            table.warning(&message, Some(hint));
        } else if !is_own_host(kind, host) {
            table.error(&format!("has no service, and its host is not {own}'s own"), Some(hint));
            return None;
        }
    }
    ServiceId::new(own).ok()
}

fn is_own_host(kind: Api, host: &str) -> bool {
    match kind {
        Api::Openai => host == "api.openai.com" || host.ends_with(".api.openai.com"),
        Api::Anthropic => host == "api.anthropic.com",
    }
}

fn is_local(host: &str) -> bool {
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// OpenAI itself heeds both. Of another provider it is not known that it heeds the newer one.
fn limit_field(stated: Option<LimitField>, service: &ServiceId) -> LimitField {
    match stated {
        Some(LimitField::New) | None if service.as_str() == Api::Openai.name() => LimitField::Either,
        Some(stated) => stated,
        None => LimitField::Old,
    }
}

fn name<'a>(item: &Item<'a>, seen: &mut BTreeMap<String, &'a Origin>) -> Option<String> {
    let text = item.text()?;
    if !is_upstream_name(text) {
        item.error(
            &format!("{} cannot be the first part of an upstream's path", values::shown(text)),
            "small letters, digits, - and _, and none of Backstop's own such as v1, such as \"openai\"",
        );
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
    // When the switch itself could not be read, only that is reported.
    if url.scheme() == "http" && !is_local(host) && insecure == Some(false) {
        item.error(
            "is plain HTTP to another machine, which carries the credential",
            "use https, or set gateway.insecure_upstream = true for a network that you trust",
        );
        return None;
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

/// The region of a host whose provider has one for each and says so in no answer.
fn region_of(base_url: &str) -> Region {
    let host = reqwest::Url::parse(base_url).ok();
    match host.as_ref().and_then(reqwest::Url::host_str) {
        Some("eu.api.openai.com") => Region::Eu,
        Some("us.api.openai.com") => Region::Us,
        _ => Region::Global,
    }
}

fn usage_field(item: &Item<'_>, name: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let sound = !name.is_empty() && name.len() <= MAX_FIELD && name.bytes().all(plain);
    if !sound {
        item.error(
            &format!("{} is no name of a field", values::shown(name)),
            "its name alone, such as \"vendor_latency\"",
        );
    }
    sound.then(|| name.to_owned())
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

fn is_ceiling(item: &Item<'_>, path: &str, kind: Option<Api>, service: Option<&ServiceId>) -> bool {
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
            .filter_map(|method| Route::find(api, method, path).ok())
            .any(|route| service.is_none_or(|service| route.is_known_at(service)))
    };
    let metered = kind.is_some_and(known);
    if metered {
        item.error(
            "is a route that is metered already",
            "its cost is bounded and metered call by call",
        );
    }
    let elsewhere = kind.and_then(|kind| Route::metered_by_another(kind, path));
    if let Some(api) = elsewhere {
        item.error(
            &format!(
                "lets through a route that an upstream with kind = \"{}\" meters",
                api.name()
            ),
            "name only routes that nobody meters, and add an [[upstream]] of that kind for this one",
        );
    }
    plain && !metered && elsewhere.is_none()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::settings::{Gateway, Settings};
    use crate::config::{Environment, Loader};
    use crate::domain::call::{Api, LimitField, Unlisted};
    use crate::domain::money::Usd;
    use crate::domain::price::Region;

    fn loader() -> Loader {
        Loader::for_daemon([("UP_KEY", "sk-1")].into_iter().collect::<Environment>())
    }

    fn settings(text: &str) -> Settings {
        match loader().parse(None, "config.toml", text) {
            Ok(loaded) => loaded.settings,
            Err(problems) => panic!("{problems}"),
        }
    }

    /// The problems of an upstream with these lines in place of the usual ones of the same keys.
    fn problems(lines: &[&str]) -> String {
        let usual = [
            "name = \"up\"",
            "kind = \"openai\"",
            "base_url = \"https://up.example\"",
            "service = \"openai\"",
        ];
        let key = |line: &str| line.split(" =").next().unwrap_or_default().to_owned();
        let kept = usual
            .iter()
            .filter(|usual| lines.iter().all(|line| key(line) != key(usual)));
        let text: Vec<&str> = ["[[upstream]]"].iter().chain(kept).chain(lines).copied().collect();
        let found = loader().parse(None, "config.toml", &text.join("\n"));
        found.err().map(|problems| problems.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_upstream_is_read() {
        let settings = settings(
            r#"
[gateway]
max_tokens = 2000
unlisted_tools = "strip"
free_fields = ["chat/completions:vendor_hint"]
free_betas = ["context-2m"]
park_wait = "30s"
[gateway.server_tools]
web_search = "0.50"
[[upstream]]
name = "openai"
kind = "openai"
base_url = "https://api.openai.com/"
api_key_env = "UP_KEY"
ceilings = { "/v1/batches" = "0.10", "/v1/files/*" = 0.01 }
ceilings_ungated = true
[[upstream]]
name = "local"
kind = "anthropic"
base_url = "http://127.0.0.1:9000/proxy"
service = "bedrock"
[[upstream]]
name = "groq"
kind = "openai"
base_url = "https://api.groq.com/openai"
service = "groq"
ceilings = { "/v1/moderations" = "0.001" }
limit_field = "max_completion_tokens"
[[upstream]]
name = "vllm"
kind = "openai"
base_url = "http://127.0.0.1:9001"
limit_field = "max_tokens"
region = "us"
free_usage_fields = ["vendor_latency"]
[[upstream]]
name = "europe"
kind = "openai"
base_url = "https://eu.api.openai.com"
"#,
        );
        let [openai, local, groq, vllm, europe] = settings.upstreams.as_slice() else {
            panic!("five upstreams")
        };
        assert_eq!(openai.base_url, "https://api.openai.com");
        assert_eq!((openai.kind, openai.service.as_str()), (Api::Openai, "openai"));
        assert_eq!(
            openai.api_key.as_ref().map(|key| key.expose()),
            Some("sk-1"),
            "short, and not ours to choose"
        );
        let fields = [openai, local, groq, vllm].map(|upstream| upstream.limit_field);
        let expected = [LimitField::Either, LimitField::Old, LimitField::New, LimitField::Old];
        assert_eq!(fields, expected);
        let regions = [openai, vllm, europe].map(|upstream| upstream.region);
        assert_eq!(regions, [Region::Global, Region::Us, Region::Eu]);
        assert!(vllm.free_usage_fields.contains("vendor_latency") && openai.free_usage_fields.is_empty());
        assert_eq!(openai.ceilings["/v1/batches"], Usd::from_nanos(100_000_000));
        assert!(
            openai.ceilings_ungated && !groq.ceilings_ungated,
            "only where it says so"
        );
        assert_eq!(
            groq.ceilings["/v1/moderations"],
            Usd::from_nanos(1_000_000),
            "OpenAI alone moderates for nothing"
        );
        assert_eq!((local.kind, local.service.as_str()), (Api::Anthropic, "bedrock"));
        assert_eq!(
            (local.api_key.as_ref(), local.base_url.as_str()),
            (None, "http://127.0.0.1:9000/proxy")
        );
        let Gateway {
            max_tokens,
            unlisted_tools,
            park_wait,
            server_tools,
            searches_per_call,
            default_max_tokens,
            ..
        } = settings.gateway;
        assert_eq!((max_tokens, default_max_tokens), (Some(2_000), 4_096));
        assert_eq!((unlisted_tools, park_wait), (Unlisted::Strip, Duration::from_secs(30)));
        assert_eq!(server_tools["web_search"], Usd::from_nanos(500_000_000));
        assert_eq!(searches_per_call, 5);
        assert!(
            format!("{:?}", settings.upstreams).contains("***"),
            "a secret prints as stars"
        );
    }

    #[test]
    fn mistakes_are_named_with_what_to_do() {
        assert_eq!(problems(&[]), "");
        for (line, expected) in [
            ("name = \"v1\"", "cannot be the first part"),
            ("name = \"a/b\"", "cannot be the first part"),
            ("kind = \"azure\"", "is not one of"),
            ("base_url = \"api.openai.com\"", "is not a URL"),
            ("base_url = \"ftp://api.openai.com\"", "is not an http or https URL"),
            ("base_url = \"http://api.openai.com\"", "plain HTTP to another machine"),
            ("base_url = \"https://api.openai.com/v1\"", "ends in /v1"),
            ("base_url = \"https://api.openai.com/?a=b\"", "has a query"),
            (
                "base_url = \"https://api.openai.com/a%2fb\"",
                "could be read in more than one way",
            ),
            ("api_key_env = \"NOT_SET\"", "is not set"),
            (
                "api_key = \"sk-very-secret\"",
                "a secret is never written in the config",
            ),
            ("ceilings = { \"batches\" = \"0.1\" }", "is no path"),
            ("ceilings = { \"/v1/batches\" = \"0\" }", "must be above zero"),
            ("ceilings = { \"/v1/chat/completions\" = \"1\" }", "metered already"),
            ("ceilings = { \"/v1/moderations\" = \"1\" }", "metered already"),
            ("ceilings = { \"/v1/messages\" = \"1\" }", "kind = \"anthropic\""),
            ("ceilings = { \"/v1/*\" = \"1\" }", "kind = \"anthropic\""),
            ("ceilings_ungated = \"yes\"", "true or false"),
            ("limit_field = \"max\"", "is not one of"),
            ("region = \"mars\"", "is not one of"),
            ("free_usage_fields = [\"a b\"]", "no name of a field"),
            ("retries = 3", "unknown key"),
        ] {
            let found = problems(&[line]);
            assert!(found.contains(expected), "{line}: {found}");
            assert!(!found.contains("very-secret"), "{found}");
        }
        let secret = problems(&["base_url = \"https://me:very-secret@up.example\""]);
        assert!(
            secret.contains("carries credentials") && !secret.contains("very-secret"),
            "{secret}"
        );
        let twice = "[[upstream]]\nname = \"a\"\nkind = \"openai\"\nbase_url = \"https://api.openai.com\"\n".repeat(2);
        let twice = loader()
            .parse(None, "config.toml", &twice)
            .expect_err("a mistake")
            .to_string();
        assert!(twice.contains("is named twice"), "{twice}");
    }

    /// A provider that is taken for another has that one's prices, and its free routes (**L7**).
    #[test]
    fn whose_prices_apply_is_known_or_said() {
        let found = |kind: &str, host: &str| {
            let text = format!("[[upstream]]\nname = \"up\"\nkind = \"{kind}\"\nbase_url = \"{host}\"\n");
            match loader().parse(None, "config.toml", &text) {
                Ok(loaded) => (true, crate::config::Problems(loaded.warnings).to_string()),
                Err(problems) => (false, problems.to_string()),
            }
        };
        for (kind, own) in [
            ("openai", "https://api.openai.com"),
            ("openai", "https://us.api.openai.com"),
            ("anthropic", "https://api.anthropic.com"),
        ] {
            assert_eq!(found(kind, own), (true, String::new()), "{own}");
        }
        for (kind, other) in [
            ("openai", "https://api.groq.com/openai"),
            ("openai", "https://myapi.openai.com"),
            ("openai", "https://api.openai.com.example"),
            ("openai", "https://api.anthropic.com"),
            ("anthropic", "https://api.openai.com"),
        ] {
            let (sound, told) = found(kind, other);
            assert!(!sound && told.contains("has no service"), "{other}: {told}");
            assert!(told.contains(&format!("service = \"{kind}\"")), "{told}");
        }
        for local in ["http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost:9000"] {
            let (sound, told) = found("openai", local);
            assert!(sound && told.contains("is taken for openai itself"), "{local}: {told}");
        }
    }

    #[test]
    fn the_rules_of_calls_are_checked() {
        for (line, expected) in [
            ("free_fields = [\"vendor_hint\"]", "names no field of a route"),
            ("free_fields = [\"no/such/route:hint\"]", "names no field of a route"),
            ("free_betas = [\"a b\"]", "no value of a beta header"),
            ("least_tokens = 5000", "is above default_max_tokens"),
            ("unlisted_tools = \"pass\"", "is not one of"),
            ("drain = \"2h\"", "the nearest is 1h"),
            ("searches_per_call = 0", "searches_per_call"),
            ("server_tools = { web_search = \"-1\" }", "must be above zero"),
            ("max_tokns = 5", "did you mean max_tokens?"),
        ] {
            let found = loader().parse(None, "config.toml", &format!("[gateway]\n{line}\n"));
            let found = found.expect_err(line).to_string();
            assert!(found.contains(expected), "{line}: {found}");
        }
    }
}
