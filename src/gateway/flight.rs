//! A call that has its hold: sent, answered, metered, settled.
//!
//! From here on the call is its own task and outlives its client: what was sent must be accounted, whoever
//! still listens. It waits for the provider and for whatever may end it early at once, and each of its ways
//! out says what becomes of the hold; a way that says nothing (a panic, a runtime that ends) leaves it
//! unresolved, because the hold itself does (**L3**).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

use super::Shared;
use super::answers::Kept;
use super::ends::{End, Ends};
use super::failure::{CallFailure, Failed};
use super::hold::OpenHold;
use super::reading::For;
use super::reply::{Reply, ReplyBody, Told, passed};
use super::settle::{Bill, Cost, Terms};
use super::shares::{Share, with_owner};
use super::target::{Target, Way};
use super::turned_away::{code_of, is_turned_away};
use super::work::beside;
use crate::domain::call::{Answer, CallRejection, Route, ToolGate, UsageFault, read_answer_with};
use crate::domain::money::Usd;
use crate::ports::{UpstreamError, UpstreamFault, UpstreamRequest, UpstreamResponse};

pub(super) type Pieces = BoxStream<'static, Result<Bytes, UpstreamError>>;

/// Why a call is unresolved whose answer found no memory.
pub(super) const NO_ROOM: &str = "there was no room for the answer in time: others are not taken by their agents";

/// Everything that a call has with it.
pub(super) struct Flight {
    pub(super) shared: Arc<Shared>,
    pub(super) target: Target,
    pub(super) bill: Bill,
    /// `None` for a call that costs nothing.
    pub(super) hold: Option<OpenHold>,
    pub(super) told: Told,
    pub(super) ends: Ends,
    /// Gone when the agent has its answer.
    pub(super) reply: Option<oneshot::Sender<Result<Reply, Failed>>>,
    pub(super) stream: StreamWish,
    /// The memory that its answer takes.
    pub(super) kept: Kept,
    pub(super) _under_way: UnderWay,
}

/// A call that is under way, as the metrics count it.
pub(super) struct UnderWay {
    _share: Share,
}

impl UnderWay {
    pub(super) fn new(share: Share) -> Self {
        metrics::gauge!("backstop_calls_under_way").increment(1);
        Self { _share: share }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        metrics::gauge!("backstop_calls_under_way").decrement(1);
    }
}

/// What the request says of its stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamWish {
    pub(super) strip_usage: bool,
    /// Output tokens that the hold covers.
    pub(super) output_limit: Option<u64>,
}

/// How a call ended; a label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Captured,
    Voided,
    Unresolved,
    Free,
}

impl Ended {
    const fn name(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Unresolved => "unresolved",
            Self::Free => "free",
        }
    }
}

impl Flight {
    /// Makes the call.
    pub(super) async fn run(mut self, request: UpstreamRequest) {
        let Some(response) = self.head(request).await else {
            return;
        };
        let UpstreamResponse { status, headers, body } = response;
        if status.is_redirection() {
            let upstream = self.target.upstream();
            self.fail(CallFailure::Redirected { upstream });
            self.unresolved("the upstream answered with a redirect");
            return;
        }
        self.ends.allow_silence(self.target.limits.idle_timeout);
        let route = match self.target.way {
            Way::Known(route) => Some(route),
            Way::Ceiling(_) => None,
        };
        let plain = is_plain(&headers);
        let is_refusal = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
        if is_refusal && self.target.provider.credential.is_some() {
            self.refused_credential(status, body, plain).await;
            return;
        }
        match route {
            Some(route) if status.is_success() && plain && has_type(&headers, "text/event-stream") => {
                self.stream(route, status, headers, body).await;
            }
            // An error is short, and whether it is one decides about the hold.
            _ if !status.is_success() && plain => self.turned_down(status, headers, body).await,
            Some(route) if plain && !is_opaque(route, &headers) => self.whole(route, status, headers, body).await,
            // What is encoded cannot be read, so it cannot be gated.
            Some(route) if !plain && route != Route::Speech && self.gate() != ToolGate::All => self.withhold(),
            _ => self.opaque(status, headers, body, plain).await,
        }
    }

    /// Nothing was sent, and nothing will be.
    pub(super) fn give_up(mut self, failure: CallFailure) {
        self.voided();
        self.fail(failure);
    }

    /// Sends the request and waits for the head of its answer.
    async fn head(&mut self, request: UpstreamRequest) -> Option<UpstreamResponse> {
        let limits = self.target.limits;
        self.ends.end_within(limits.call_timeout);
        self.ends.allow_silence(limits.response_timeout);
        if let Some(hold) = &mut self.hold {
            hold.sent();
        }
        let provider = Arc::clone(&self.target.provider);
        match self.wait(For::Upstream, provider.port.call(request)).await? {
            Ok(response) => Some(response),
            Err(error) => {
                self.broken(&error);
                None
            }
        }
    }

    /// A way out before the answer is there. `None`: it is waited for all the same, for what it used.
    pub(super) async fn ended(&mut self, end: End, waits: For) -> Option<&'static str> {
        match end {
            // Nobody needs to know what a call used that costs nothing.
            End::Gone if self.hold.is_none() => Some("the client went away"),
            End::Gone => {
                self.ends.end_within(self.target.limits.drain);
                None
            }
            End::Contained => {
                // What it used is still worth knowing; what it says is not for the agent any more.
                let rejection = self.shared.contained(&self.target.head.agent).await;
                self.fail(rejection);
                self.ends.end_within(self.target.limits.drain);
                None
            }
            End::Stopped => {
                self.fail(self.shared.stopping());
                Some("the daemon stopped before the answer was there")
            }
            End::TimedOut => {
                let (failure, why) = match waits {
                    For::Upstream => {
                        let (upstream, fault) = (self.target.upstream(), UpstreamFault::TimedOut);
                        let failure = CallFailure::Upstream { upstream, fault };
                        (failure, "the upstream did not answer in time")
                    }
                    For::Room => (self.crowded(), NO_ROOM),
                };
                Some(if self.fail(failure) {
                    why
                } else {
                    "the client went away, and the answer did not come within gateway.drain"
                })
            }
        }
    }

    /// The connection failed. Whether a byte was sent decides about the hold.
    pub(super) fn broken(&mut self, error: &UpstreamError) {
        self.shared.upstream_failed(&self.target, error);
        self.fail(CallFailure::Upstream {
            upstream: error.upstream.clone(),
            fault: error.what,
        });
        if error.what.may_have_cost() {
            self.unresolved(&error.to_string());
        } else {
            self.voided();
        }
    }

    /// An answer that is no success.
    async fn turned_down(mut self, status: StatusCode, headers: HeaderMap, body: Pieces) {
        let Some((body, turn)) = self.read_for_work(body).await else {
            return;
        };
        beside(turn, move || {
            self.end_by_refusal(status, &body, true);
            self.answer(status, headers, body);
        })
        .await;
    }

    /// The provider does not take our credential. What it says is for our operator, and may quote it.
    async fn refused_credential(mut self, status: StatusCode, body: Pieces, plain: bool) {
        let Some((body, turn)) = self.read_for_work(body).await else {
            return;
        };
        beside(turn, move || {
            self.shared
                .credential_refused(&self.target, status, code_of(&body).as_deref());
            self.end_by_refusal(status, &body, plain);
            let upstream = self.target.upstream();
            self.fail(CallFailure::RefusedCredential { upstream });
        })
        .await;
    }

    /// A refusal of the provider's costs nothing where that is certain. One that is not `plain` cannot be read.
    fn end_by_refusal(&mut self, status: StatusCode, body: &[u8], plain: bool) {
        if plain && is_turned_away(self.target.api(), status, body, self.bill.runs_tools()) {
            self.told.cost = self.hold.is_some().then_some(Usd::ZERO);
            self.voided();
        } else {
            self.unresolved(&format!("the upstream answered {}", status.as_u16()));
        }
    }

    /// An answer that nobody can read is not passed on.
    fn withhold(mut self) {
        self.unresolved("the answer is encoded, so that its usage cannot be read");
        let upstream = self.target.upstream();
        self.fail(CallFailure::Unreadable { upstream });
    }

    /// A whole answer that can be read.
    async fn whole(mut self, route: Route, status: StatusCode, headers: HeaderMap, body: Pieces) {
        let Some((body, turn)) = self.read_for_work(body).await else {
            return;
        };
        beside(turn, move || self.judged(route, status, headers, body)).await;
    }

    /// Ends a call by its whole answer.
    fn judged(mut self, route: Route, status: StatusCode, headers: HeaderMap, body: Bytes) {
        let read = match read_answer_with(route, &body, &self.target.provider.free_usage) {
            Ok(read) => read,
            Err(unreadable) => {
                self.unresolved(&unreadable.to_string());
                // What cannot be read cannot be gated.
                if self.gate() == ToolGate::All {
                    self.answer(status, headers, body);
                } else {
                    let upstream = self.target.upstream();
                    self.fail(CallFailure::Unreadable { upstream });
                }
                return;
            }
        };
        let withheld = self.forbidden(&read);
        self.settle(&read, &body);
        match withheld {
            Some(why) => {
                self.shared
                    .note_refusal(&self.target.head.agent, &why.clone().into(), self.told.cost);
                self.fail(why);
            }
            None => self.answer(status, headers, body),
        }
    }

    /// Why an answer is withheld: it calls a tool that the agent has not declared.
    fn forbidden(&self, answer: &Answer) -> Option<CallRejection> {
        let gate = self.gate();
        match answer.tool_calls.iter().find(|tool| !gate.allows(tool)) {
            Some(called) => self.not_declared(called),
            // Nothing is listed under no name, and what was not kept was not looked for.
            None if answer.calls_others && gate != ToolGate::All => self.not_declared(""),
            None => None,
        }
    }

    /// Why the agent gets no call of this tool, which its gate does not let pass.
    pub(super) fn not_declared(&self, called: &str) -> Option<CallRejection> {
        if called.is_empty() {
            let unnamed = "without a name, or one of too many".to_owned();
            return Some(CallRejection::ToolNotInManifest(unnamed));
        }
        self.target.rules.manifest.as_ref()?.tool(called).err()
    }

    pub(super) fn gate(&self) -> ToolGate {
        let manifest = self.target.rules.manifest.as_ref();
        manifest.map_or(ToolGate::All, |manifest| manifest.gate())
    }

    // --- the hold's end ---------------------------------------------------------------------------

    /// Ends the hold by what an answer says.
    pub(super) fn settle(&mut self, answer: &Answer, body: &[u8]) {
        if answer.on_limit {
            self.shared.on_limit(&self.target);
        }
        if let (Some(UsageFault::Usage(why)), Some(_)) = (&answer.fault, &self.hold) {
            self.shared.usage_unknown(&self.target, why);
        }
        match self.bill.cost(answer, body, &self.shared.deps.catalogue.load()) {
            Cost::Known {
                usd,
                upstream_request,
                detail,
            } => {
                let Some(hold) = self.hold.take() else {
                    self.count(Ended::Free);
                    return;
                };
                self.told.cost = Some(usd);
                // What the hold kept and the call did not use is free again.
                let unused = hold.bound().saturating_sub(usd);
                self.told.remaining = self.told.remaining.map(|left| left.saturating_add(unused));
                hold.capture(usd, upstream_request, detail);
                self.count(Ended::Captured);
            }
            Cost::Unknown(why) => self.unresolved(&why),
        }
    }

    pub(super) fn unresolved(&mut self, why: &str) {
        match self.hold.take() {
            Some(hold) => {
                tracing::debug!(
                    upstream = %self.target.provider.name, call = ?self.told.call, why,
                    "a call is unresolved at its bound"
                );
                hold.unresolved(why);
                self.count(Ended::Unresolved);
            }
            None => self.count(Ended::Free),
        }
    }

    fn voided(&mut self) {
        match self.hold.take() {
            Some(hold) => {
                let bound = hold.bound();
                self.told.remaining = self.told.remaining.map(|left| left.saturating_add(bound));
                hold.void();
                self.count(Ended::Voided);
            }
            None => self.count(Ended::Free),
        }
    }

    fn count(&self, ended: Ended) {
        self.shared.count(&self.target, ended.name());
    }

    /// Whether a success is charged whatever its body says.
    pub(super) fn charged_by_head(&self) -> Option<Answer> {
        matches!(self.bill.terms, Terms::Free | Terms::Ceiling(_)).then(Answer::default)
    }

    // --- the agent's answer -----------------------------------------------------------------------

    fn answer(&mut self, status: StatusCode, headers: HeaderMap, body: Bytes) {
        let body = self.target.provider.veiled(body);
        let body = match self.kept.part(body.len()) {
            // It counts until its agent has taken it.
            Some(share) => with_owner(body, share),
            None => body,
        };
        self.give(status, headers, ReplyBody::Whole(body));
    }

    pub(super) fn give(&mut self, status: StatusCode, headers: HeaderMap, body: ReplyBody) {
        let mut headers = passed(headers);
        self.target.provider.veil(&mut headers);
        let reply = Reply {
            status,
            headers,
            told: self.told.clone(),
            body,
        };
        if let Some(to) = self.reply.take() {
            drop(to.send(Ok(reply)));
        }
    }

    /// Tells the agent that it gets no answer; whether there was still somebody to tell.
    fn fail(&mut self, failure: impl Into<CallFailure>) -> bool {
        let failed = Failed {
            failure: failure.into(),
            told: self.told.clone(),
        };
        self.reply.take().is_some_and(|to| to.send(Err(failed)).is_ok())
    }
}

/// Whether a body comes as it is.
fn is_plain(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(wanted)
}

/// Whether an answer is a file that passes through while it arrives: speech, unless it is told in JSON.
fn is_opaque(route: Route, headers: &HeaderMap) -> bool {
    route == Route::Speech && !has_type(headers, "application/json")
}
