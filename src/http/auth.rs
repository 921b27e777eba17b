//! Credentials, host names and peers.
//!
//! An agent's key is 32 random bytes after a readable prefix. The store keeps its SHA-256 only: a slow
//! password hash would add nothing, since nobody can guess 256 random bits, and every call pays for it.
//! The key ring in memory is read again at every change and once a second, so that a key which another
//! process revoked is refused within that time.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::id::{AgentId, KeyId};
use crate::domain::rejection::Rejection;
use crate::ports::{AgentKey, Clock, Entropy, Store, StoreError};

/// Bytes of a credential at most; the config takes no longer admin token.
const MAX_CREDENTIAL: usize = 4096;
/// What every agent key begins with, so that secret scanners and people know it.
pub const KEY_PREFIX: &str = "bsk_";

/// The hashes of all keys that are not revoked.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: ArcSwap<HashMap<[u8; 32], (AgentId, KeyId)>>,
}

impl KeyRing {
    /// Reads the keys again.
    pub async fn refresh(&self, store: &dyn Store) -> Result<(), StoreError> {
        let live = store.keys().await?.into_iter().filter(|key| key.revoked_at.is_none());
        self.keys
            .store(Arc::new(live.map(|key| (key.hash, (key.agent, key.id))).collect()));
        Ok(())
    }

    /// The agent whose key the request carries. Looking a hash up in a map leaks no more than the hash
    /// of what the caller sent itself.
    pub fn agent(&self, headers: &HeaderMap) -> Result<AgentId, Rejection> {
        let secret = credential(headers)?;
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        self.keys
            .load()
            .get(&hash)
            .map(|(agent, _)| agent.clone())
            .ok_or(Rejection::BadCredential)
    }
}

/// Makes a key: the secret, to be shown once, and what is stored of it.
pub fn new_key(agent: AgentId, clock: &dyn Clock, entropy: &dyn Entropy) -> (String, AgentKey) {
    let mut random = [0_u8; 32];
    entropy.fill(&mut random);
    let secret = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let now: Timestamp = clock.now();
    let key = AgentKey {
        id: KeyId(entropy.id(now)),
        agent,
        hash: Sha256::digest(secret.as_bytes()).into(),
        created_at: now,
        revoked_at: None,
    };
    (secret, key)
}

/// The one credential of a request. Two of them are refused: we and an upstream might read different
/// ones.
pub fn credential(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut found = None;
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| (true, value));
    let plain = ["x-api-key", "api-key"]
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .map(|value| (false, value));
    for (is_bearer, value) in bearer.chain(plain) {
        if found.is_some() {
            return Err(Rejection::TwoCredentials);
        }
        let text = value.to_str().map_err(|_| Rejection::BadCredential)?;
        let secret = if is_bearer {
            match text.split_once(' ') {
                Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
                _ => return Err(Rejection::BadCredential),
            }
        } else {
            text.trim()
        };
        found = Some(secret);
    }
    match found {
        None => Err(Rejection::NoCredential),
        Some(secret) if secret.is_empty() || secret.len() > MAX_CREDENTIAL => Err(Rejection::BadCredential),
        Some(secret) => Ok(secret),
    }
}

/// The admin token on TCP, kept as its hash so that no dump of the daemon's settings shows it.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Only `Authorization: Bearer` counts here, and only the admin token: an agent's credential never
    /// works on admin.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        let sent: [u8; 32] = Sha256::digest(credential(headers)?.as_bytes()).into();
        if headers.contains_key(header::AUTHORIZATION) && bool::from(self.0.ct_eq(&sent)) {
            Ok(())
        } else {
            Err(Rejection::BadCredential)
        }
    }
}

/// Checks the `Host` header against the names that a listener answers to. A web page that made a
/// browser resolve its own name to this address would send its own name.
pub fn check_host(headers: &HeaderMap, allowed: &[String]) -> Result<(), Rejection> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Rejection::HostNotAllowed);
    };
    let host = host.to_str().map_err(|_| Rejection::HostNotAllowed)?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let bare = |own: &str| {
        own.trim_start_matches('[')
            .trim_end_matches(']')
            .eq_ignore_ascii_case(name)
    };
    let local = ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .any(|own| own.eq_ignore_ascii_case(name));
    if local || allowed.iter().any(|own| bare(own)) {
        Ok(())
    } else {
        Err(Rejection::HostNotAllowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    #[test]
    fn exactly_one_credential() {
        assert_eq!(credential(&headers(&[("authorization", "Bearer abc")])), Ok("abc"));
        assert_eq!(credential(&headers(&[("x-api-key", "abc")])), Ok("abc"));
        assert_eq!(credential(&headers(&[("api-key", "abc")])), Ok("abc"));
        assert_eq!(credential(&headers(&[])), Err(Rejection::NoCredential));
        assert_eq!(
            credential(&headers(&[("authorization", "Basic abc")])),
            Err(Rejection::BadCredential)
        );
        for two in [
            [("authorization", "Bearer abc"), ("x-api-key", "abc")],
            [("x-api-key", "abc"), ("x-api-key", "abc")],
            [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ] {
            assert_eq!(credential(&headers(&two)), Err(Rejection::TwoCredentials));
        }
    }

    #[test]
    fn hosts_are_ours_or_listed() {
        for own in ["localhost:8700", "127.0.0.1", "[::1]:8700", "backstop.internal:8700"] {
            assert_eq!(
                check_host(&headers(&[("host", own)]), &["backstop.internal".to_owned()]),
                Ok(()),
                "{own}"
            );
        }
        for foreign in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8700", ""] {
            assert!(check_host(&headers(&[("host", foreign)]), &[]).is_err(), "{foreign}");
        }
        assert!(check_host(&headers(&[("host", "localhost"), ("host", "evil")]), &[]).is_err());
    }

    #[test]
    fn the_admin_token_is_no_agent_key() {
        let token = AdminToken::new("s3cret-admin-token");
        assert!(
            token
                .check(&headers(&[("authorization", "Bearer s3cret-admin-token")]))
                .is_ok()
        );
        assert!(token.check(&headers(&[("x-api-key", "s3cret-admin-token")])).is_err());
        assert!(token.check(&headers(&[("authorization", "Bearer bsk_x")])).is_err());
    }
}
