//! What the gateway follows of the config: replaced as a whole, read once for each call.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem::Finder;

use crate::domain::call::{Api, CallRejection, CallRules, LimitField, is_plain, path_matches};
use crate::domain::id::{AgentId, ServiceId};
use crate::domain::manifest::Manifest;
use crate::domain::money::Usd;
use crate::domain::price::Region;
use crate::ports::Upstream;

/// The rules of every call.
#[derive(Default)]
pub struct GatewaySettings {
    /// The agents of the config: nobody else calls anything.
    pub agents: HashMap<AgentId, Arc<AgentRules>>,
    pub providers: HashMap<String, Arc<Provider>>,
    pub limits: CallLimits,
}

/// What one agent may ask for.
#[derive(Debug, Default)]
pub struct AgentRules {
    pub calls: CallRules,
    pub manifest: Option<Arc<Manifest>>,
}

/// An upstream as calls see it.
pub struct Provider {
    pub(super) name: Arc<str>,
    pub(super) api: Api,
    /// Whose prices apply.
    pub(super) service: ServiceId,
    /// The header that carries our credential there. It is marked as sensitive.
    pub(super) credential: Option<(HeaderName, HeaderValue)>,
    /// Finds that credential in what comes back.
    secret: Option<Finder<'static>>,
    /// What a call of a route that is not metered is charged; a path that ends in `/*` takes one segment more.
    ceilings: Vec<(String, Usd)>,
    /// Whether agents that have a manifest may use those routes too.
    pub(super) ungated_ceilings: bool,
    /// Where it heeds the limit of a chat completion.
    pub(super) limit_field: LimitField,
    /// Where it works, whatever its answers leave out of it.
    pub(super) region: Region,
    /// Fields of its usage that cost nothing, beyond those that are known.
    pub(super) free_usage: Arc<BTreeSet<String>>,
    pub(super) port: Arc<dyn Upstream>,
}

/// The shortest key that is looked for in answers: a shorter one would be found where it is not.
const MIN_SECRET: usize = 6;
/// What stands in its place.
const VEIL: &[u8] = b"***";

impl Provider {
    /// `None`: the key fits in no header.
    pub fn new(
        name: &str,
        (api, service): (Api, ServiceId),
        key: Option<&str>,
        ceilings: Vec<(String, Usd)>,
        port: Arc<dyn Upstream>,
    ) -> Option<Self> {
        let credential = match key {
            Some(key) => Some(credential(api, key)?),
            None => None,
        };
        let secret = key.filter(|key| key.len() >= MIN_SECRET);
        Some(Self {
            name: name.into(),
            api,
            service,
            credential,
            secret: secret.map(|key| Finder::new(key.as_bytes()).into_owned()),
            ceilings,
            ungated_ceilings: false,
            limit_field: LimitField::default(),
            region: Region::Global,
            free_usage: Arc::default(),
            port,
        })
    }

    /// The same for a provider that heeds the limit of a chat completion in this field.
    #[must_use]
    pub fn with_limit_field(self, limit_field: LimitField) -> Self {
        Self { limit_field, ..self }
    }

    /// The same for a provider that works in one region.
    #[must_use]
    pub fn with_region(self, region: Region) -> Self {
        Self { region, ..self }
    }

    /// The same, with routes that have a ceiling open to agents that have a manifest, or not.
    #[must_use]
    pub fn with_ungated_ceilings(self, ungated_ceilings: bool) -> Self {
        Self {
            ungated_ceilings,
            ..self
        }
    }

    /// The same for one whose usage has fields of these names, which cost nothing.
    #[must_use]
    pub fn with_free_usage(self, fields: BTreeSet<String>) -> Self {
        let free_usage = Arc::new(fields);
        Self { free_usage, ..self }
    }

    /// How many bytes at the end of these may be the beginning of our credential.
    pub(super) fn secret_begun(&self, bytes: &[u8]) -> usize {
        let Some(secret) = &self.secret else { return 0 };
        let secret = secret.needle();
        let longest = bytes.len().min(secret.len() - 1);
        (1..=longest)
            .rev()
            .find(|&begun| bytes.ends_with(&secret[..begun]))
            .unwrap_or(0)
    }

    /// The same without our credential, which a provider may quote when it does not like it.
    pub(super) fn veiled(&self, bytes: Bytes) -> Bytes {
        let Some(secret) = &self.secret else { return bytes };
        let Some(mut at) = secret.find(&bytes) else {
            return bytes;
        };
        let mut rest: &[u8] = &bytes;
        let mut veiled = Vec::with_capacity(bytes.len());
        loop {
            veiled.extend_from_slice(&rest[..at]);
            veiled.extend_from_slice(VEIL);
            rest = &rest[at + secret.needle().len()..];
            match secret.find(rest) {
                Some(next) => at = next,
                None => break,
            }
        }
        veiled.extend_from_slice(rest);
        veiled.into()
    }

    /// The same for headers: one that quotes it is dropped.
    pub(super) fn veil(&self, headers: &mut HeaderMap) {
        let Some(secret) = &self.secret else { return };
        let quotes =
            |(name, value): (&HeaderName, &HeaderValue)| secret.find(value.as_bytes()).is_some().then(|| name.clone());
        let quoting: Vec<HeaderName> = headers.iter().filter_map(quotes).collect();
        for name in quoting {
            headers.remove(name);
        }
    }

    /// What the operator lets a call of this path cost.
    pub(super) fn ceiling(&self, path: &str) -> Result<Option<Usd>, CallRejection> {
        if !is_plain(path) {
            return Err(CallRejection::AmbiguousPath);
        }
        Ok(self
            .ceilings
            .iter()
            .find(|(pattern, _)| path_matches(pattern, path))
            .map(|(_, ceiling)| *ceiling))
    }
}

/// The header in which this API takes a key.
fn credential(api: Api, key: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, text) = match api {
        Api::Openai => (http::header::AUTHORIZATION, format!("Bearer {key}")),
        Api::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// Limits in time and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Calls under way at most, with those that wait and those whose client has gone.
    pub max_calls: u64,
    /// Calls of paused agents that wait at most.
    pub max_parked: u64,
    pub park_wait: Duration,
    /// From the request to the head of its answer.
    pub response_timeout: Duration,
    /// Between two pieces of an answer, and for a client to take one.
    pub idle_timeout: Duration,
    /// From the request to the end of its answer.
    pub call_timeout: Duration,
    /// Of an answer that is not passed on as it comes, and of what is kept of one that is.
    pub max_response_bytes: usize,
    /// Bytes of answers that are kept at once, in all.
    pub response_memory: u64,
    /// How long a call is read on for its usage when its client has gone.
    pub drain: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            max_calls: 4_096,
            max_parked: 1_000,
            park_wait: Duration::from_secs(600),
            response_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(120),
            call_timeout: Duration::from_secs(3600),
            max_response_bytes: 64 << 20,
            response_memory: 512 << 20,
            drain: Duration::from_secs(30),
        }
    }
}

impl CallLimits {
    /// How long a hold may be open: longer than its call can take, so that none expires under its call.
    pub(super) fn hold_ttl(&self) -> Duration {
        self.call_timeout
            .saturating_add(self.drain)
            .saturating_add(Duration::from_secs(60))
    }
}
