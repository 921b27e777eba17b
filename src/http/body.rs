//! Reads a request's body within its bounds: its type, its size, its time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::id::AgentId;
use crate::domain::rejection::Rejection;
use crate::gateway::{CallBody, CallFailure, Room, Share, Shares, with_owner};

/// Bodies that are being worked on at once, in all, in kilobytes: parsed JSON takes many times its text.
const AT_WORK_KB: u32 = 64 * 1024;

/// Bounds the work on bodies of one listener.
#[derive(Debug)]
pub struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_WORK_KB as usize)))
    }
}

/// Large bodies of calls that are kept at once, in all, in kilobytes.
const KEPT_KB: u64 = 512 * 1024;
/// Smaller ones are not counted: as many as there are connections have room.
const LARGE_KB: u64 = 64;

/// How long a call waits for a place.
const SHELF_WAIT: Duration = Duration::from_secs(10);

/// Bounds the memory that the bodies of calls take while their calls are made.
#[derive(Debug, Default)]
pub struct Shelf(Shares);

impl Shelf {
    /// A place for a body before it is read, by what its head says of its length; a small one needs none.
    /// One that does not say may be as long as any; what it did not need is given back when it is there.
    pub async fn place(
        &self,
        (agent, shared): (&AgentId, bool),
        headers: &HeaderMap,
        limits: BodyLimits,
    ) -> Result<Option<Share>, CallFailure> {
        let said = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes: usize = said.unwrap_or(limits.max_bytes);
        if bytes > limits.max_bytes {
            let limit = limits.max_bytes;
            return Err(Rejection::BodyTooLarge { limit }.into());
        }
        let kilobytes = kilobytes(bytes);
        if kilobytes <= LARGE_KB {
            return Ok(None);
        }
        let room = Room { most: KEPT_KB, shared };
        let place = self.0.wait(agent, kilobytes, room);
        match tokio::time::timeout(SHELF_WAIT.min(limits.timeout / 2), place).await {
            Ok(place) => Ok(Some(place)),
            Err(_elapsed) => Err(CallFailure::Overloaded),
        }
    }
}

fn kilobytes(bytes: usize) -> u64 {
    u64::try_from(bytes / 1024 + 1).unwrap_or(KEPT_KB).min(KEPT_KB)
}

/// A body with its place, which lasts as long as the body does: whoever works on it or sends it keeps it,
/// with or without a client.
pub fn placed(body: Bytes, place: Option<Share>) -> CallBody {
    match place {
        None => body.into(),
        Some(mut place) => {
            place.shrink(kilobytes(body.len()));
            let place = Arc::new(place);
            CallBody {
                bytes: with_owner(body, Arc::clone(&place)),
                place: Some(place),
            }
        }
    }
}

impl Desk {
    /// Waits until there is room to work on this body. The caller's own time limit bounds the wait.
    pub async fn room_for(&self, body: &[u8]) -> Option<OwnedSemaphorePermit> {
        let kilobytes = u32::try_from(body.len() / 1024 + 1)
            .unwrap_or(AT_WORK_KB)
            .min(AT_WORK_KB);
        // It is never closed, so there is always a permit in the end.
        Arc::clone(&self.0).acquire_many_owned(kilobytes).await.ok()
    }
}

/// The bounds of one body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    pub max_bytes: usize,
    /// Of the whole request.
    pub timeout: Duration,
}

/// What a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    /// One JSON value a line.
    JsonLines,
}

/// Reads the content type. A charset other than UTF-8 and a compressed body are refused: nobody here
/// would read them as the sender meant.
pub fn format(headers: &HeaderMap, lines_allowed: bool) -> Result<Format, Rejection> {
    let expected = if lines_allowed {
        "application/json, application/jsonl"
    } else {
        "application/json"
    };
    let refuse = |found: &str| Rejection::ContentType {
        found: found.chars().take(100).collect(),
        expected,
    };
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(refuse("a compressed body"));
    }
    let value = headers.get(header::CONTENT_TYPE).ok_or_else(|| refuse(""))?;
    let value = value.to_str().map_err(|_| refuse("not text"))?;
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    for parameter in parts {
        let utf8 = parameter.split_once('=').is_some_and(|(name, charset)| {
            name.trim().eq_ignore_ascii_case("charset")
                && charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        });
        if !utf8 {
            return Err(refuse(value));
        }
    }
    match essence.as_str() {
        "application/json" => Ok(Format::Json),
        "application/jsonl" | "application/x-ndjson" | "application/jsonlines" if lines_allowed => {
            Ok(Format::JsonLines)
        }
        _ => Err(refuse(value)),
    }
}

/// Reads the whole body, or says why not. It has half of the request's time, so that there is some left
/// to answer in, and a slow sender is told what was slow.
pub async fn read(body: Body, limits: BodyLimits) -> Result<Bytes, Rejection> {
    let collected = tokio::time::timeout(limits.timeout / 2, Limited::new(body, limits.max_bytes).collect()).await;
    match collected {
        Err(_elapsed) => Err(Rejection::BodyTooSlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(Rejection::BodyTooLarge {
            limit: limits.max_bytes,
        }),
        Ok(Err(error)) => Err(Rejection::Malformed(format!("the body broke off: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Bodies of these sizes in megabytes; how many are worked on at once.
    fn at_work(desk: &Desk, megabytes: &[usize]) -> Vec<OwnedSemaphorePermit> {
        let bodies = megabytes.iter().map(|size| vec![0; size * 1024 * 1024 - 1]);
        bodies
            .map_while(|body| desk.room_for(&body).now_or_never().flatten())
            .collect()
    }

    #[test]
    fn the_work_on_bodies_is_bounded_in_all() {
        let desk = Desk::default();
        let mut working = at_work(&desk, &[16, 16, 16, 16, 16]);
        assert_eq!(working.len(), 4, "64 megabytes");
        assert!(
            desk.room_for(b"").now_or_never().is_none(),
            "nor is there room for the smallest"
        );
        working.pop();
        assert_eq!(
            at_work(&desk, &[8, 8, 1]).len(),
            2,
            "what is done makes room, and no more than it had"
        );
        drop(working);
        assert_eq!(at_work(&desk, &[64]).len(), 1);
    }

    #[test]
    fn a_body_larger_than_the_desk_is_worked_on_alone() {
        let desk = Desk::default();
        let working = at_work(&desk, &[200, 1]);
        assert_eq!(working.len(), 1, "it waits for all others, not for ever");
        drop(working);
        let small = at_work(&desk, &[1]);
        let large = vec![0; 200 * 1024 * 1024];
        let mut waiting = Box::pin(desk.room_for(&large));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(
            desk.room_for(b"").now_or_never().is_none(),
            "whoever comes later does not overtake it"
        );
        drop(small);
        assert!(waiting.now_or_never().flatten().is_some());
    }

    fn of(content_type: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().expect("a header value"));
        headers
    }

    fn of_length(bytes: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, http::HeaderValue::from(bytes));
        headers
    }

    #[tokio::test]
    async fn only_large_bodies_need_a_place_and_only_for_what_they_are() {
        let shelf = Shelf::default();
        let agent = AgentId::new("a").unwrap();
        let of = (&agent, false);
        let limits = BodyLimits {
            max_bytes: 512 << 20,
            timeout: Duration::from_millis(20),
        };
        assert!(shelf.place(of, &of_length(60_000), limits).await.unwrap().is_none());
        let large = shelf.place(of, &of_length(80_000), limits).await.unwrap();
        assert!(large.is_some());
        let unsaid = shelf.place(of, &HeaderMap::new(), limits).await;
        assert!(
            matches!(unsaid, Err(CallFailure::Overloaded)),
            "it may be as long as any, and finds no room"
        );
        drop(large);
        let unsaid = shelf.place(of, &HeaderMap::new(), limits).await.unwrap();
        let body = placed(Bytes::from(vec![0; 100 << 10]), unsaid).bytes;
        assert_eq!(shelf.0.taken(), 101, "it was not as long as that");
        let part = body.slice(..10);
        drop(body);
        assert_eq!(shelf.0.taken(), 101, "all of it is kept");
        drop(part);
        assert_eq!(shelf.0.taken(), 0);
        let limit = limits.max_bytes;
        let too_large = shelf.place(of, &of_length(limit + 1), limits).await;
        assert!(matches!(
            too_large,
            Err(CallFailure::Rejected(Rejection::BodyTooLarge { .. }))
        ));
    }

    #[tokio::test]
    async fn one_agent_does_not_fill_the_shelf() {
        let shelf = Shelf::default();
        let limits = BodyLimits {
            max_bytes: 64 << 20,
            timeout: Duration::from_millis(20),
        };
        let (a, b) = (AgentId::new("a").unwrap(), AgentId::new("b").unwrap());
        let mut places = Vec::new();
        while let Ok(place) = shelf.place((&a, true), &HeaderMap::new(), limits).await {
            places.push(place);
        }
        assert!(shelf.place((&b, true), &HeaderMap::new(), limits).await.is_ok());
    }

    #[test]
    fn only_json_in_utf8_is_read() {
        assert_eq!(format(&of("application/json"), false), Ok(Format::Json));
        assert_eq!(format(&of("application/json; charset=UTF-8"), false), Ok(Format::Json));
        assert_eq!(format(&of("application/x-ndjson"), true), Ok(Format::JsonLines));
        for (refused, lines) in [
            ("application/x-ndjson", false),
            ("text/plain", true),
            ("application/json; charset=utf-16", true),
            ("application/x-www-form-urlencoded", true),
        ] {
            assert!(
                matches!(format(&of(refused), lines), Err(Rejection::ContentType { .. })),
                "{refused}"
            );
        }
        assert!(format(&HeaderMap::new(), true).is_err());
        let mut gzip = of("application/json");
        gzip.insert(header::CONTENT_ENCODING, "gzip".parse().expect("a header value"));
        assert!(format(&gzip, true).is_err());
    }
}
