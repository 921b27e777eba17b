//! A provider that does what it is told: answers, waits, breaks, never answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstop::domain::call::{Api, Metering, Route};
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use backstop::ports::{Clock, Store, Upstream, UpstreamError, UpstreamFault, UpstreamRequest, UpstreamResponse};
use backstop::store::memory::MemoryStore;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::time::SimClock;

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Play {
    pub(super) after: Duration,
    pub(super) head: Result<u16, UpstreamFault>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) steps: Vec<Step>,
    /// What is on the provider's bill for it.
    pub(super) bill: Usd,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Wait(Duration),
    Piece(Bytes),
    Break(UpstreamFault),
    Panic,
}

impl Play {
    pub(super) fn fault(what: UpstreamFault) -> Self {
        Self {
            head: Err(what),
            ..Self::raw(200, "application/json", b"")
        }
    }

    pub(super) fn raw(status: u16, content_type: &'static str, body: &[u8]) -> Self {
        Self {
            after: Duration::ZERO,
            head: Ok(status),
            headers: vec![("content-type", content_type)],
            steps: vec![Step::Piece(Bytes::copy_from_slice(body))],
            bill: Usd::ZERO,
        }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::raw(status, "application/json", body.to_string().as_bytes())
    }

    /// A chat completion of this usage.
    pub(super) fn chat(prompt: u64, completion: u64) -> Self {
        Self::json(200, &completion_of(prompt, completion))
    }

    /// The same as a stream, a piece a word, with a wait before each event.
    pub(super) fn stream(wait: Duration, words: usize, usage: Option<(u64, u64)>) -> Self {
        let chunk = |delta: Value, finish: Value| {
            json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini",
                "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
            })
        };
        let mut events: Vec<Value> = (0..words)
            .map(|_| chunk(json!({ "content": "word " }), Value::Null))
            .collect();
        events.push(chunk(json!({}), json!("stop")));
        if let Some((prompt, completion)) = usage {
            let mut last = chunk(json!({}), Value::Null);
            last["choices"] = json!([]);
            last["usage"] = usage_of(prompt, completion);
            events.push(last);
        }
        let mut play = Self {
            after: wait,
            ..Self::raw(200, "text/event-stream", b"")
        };
        play.steps.clear();
        for event in events {
            play.steps.push(Step::Wait(wait));
            play.steps.push(Step::Piece(format!("data: {event}\n\n").into()));
        }
        play.steps.push(Step::Piece(Bytes::from_static(b"data: [DONE]\n\n")));
        play
    }

    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.after = wait;
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn billed(mut self, bill: Usd) -> Self {
        self.bill = bill;
        self
    }

    /// Goes so far and then does this.
    pub(super) fn then(mut self, steps: usize, then: Step) -> Self {
        self.steps.truncate(steps);
        self.steps.push(then);
        self
    }
}

fn usage_of(prompt: u64, completion: u64) -> Value {
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
    })
}

pub(super) fn completion_of(prompt: u64, completion: u64) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini",
        "choices": [{
            "index": 0, "message": { "role": "assistant", "content": "Hello" }, "finish_reason": "stop",
        }],
        "usage": usage_of(prompt, completion),
    })
}

/// The refusal of a provider in its own form, which names the parameter that it did not take.
pub(super) fn error_body() -> Value {
    json!({ "error": { "message": "no", "type": "invalid_request_error", "param": "messages", "code": null } })
}

#[derive(Clone)]
pub(super) struct SimProvider {
    clock: SimClock,
    /// Where the holds of its calls must be.
    store: Arc<MemoryStore>,
    plays: Arc<Mutex<VecDeque<Play>>>,
    pub(super) seen: Arc<Mutex<Vec<UpstreamRequest>>>,
    /// Answers whose reading has ended, by whoever.
    pub(super) closed: Arc<AtomicUsize>,
    bill: Arc<Mutex<Usd>>,
    /// Calls that came without a hold.
    unheld: Arc<Mutex<Vec<String>>>,
}

impl SimProvider {
    pub(super) fn new(clock: &SimClock, store: &Arc<MemoryStore>) -> Self {
        Self {
            clock: clock.clone(),
            store: Arc::clone(store),
            plays: Arc::default(),
            seen: Arc::default(),
            closed: Arc::default(),
            bill: Arc::new(Mutex::new(Usd::ZERO)),
            unheld: Arc::default(),
        }
    }

    pub(super) fn play(&self, play: Play) {
        self.plays.lock().unwrap().push_back(play);
    }

    pub(super) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The sum of its bills.
    pub(super) fn billed(&self) -> Usd {
        *self.bill.lock().unwrap()
    }

    /// L4: what may cost something comes with a hold that is open in the store. One of them is this call's, so
    /// there are no fewer holds than such calls. A panic here would be the call's, so the test is told at its
    /// end.
    async fn check_held(&self, request: &UpstreamRequest) {
        let is_charged = |request: &UpstreamRequest| {
            let path = request.path_and_query.split('?').next().unwrap_or_default();
            let route = Route::find(Api::Openai, request.method.as_str(), path);
            route.map_or(true, |route| route.metering() == Metering::Metered)
        };
        if !is_charged(request) {
            return;
        }
        let holds = self.store.audit_view().await.expect("the store reads").holds;
        let open = holds.iter().filter(|hold| hold.state == HoldState::Open).count();
        let calls = self.seen.lock().unwrap().iter().filter(|seen| is_charged(seen)).count();
        if open == 0 || calls >= holds.len() {
            let sent = format!("{} {}", request.method, request.path_and_query);
            let found = format!("{sent}, after {calls} calls, with {} holds, {open} open", holds.len());
            self.unheld.lock().unwrap().push(found);
        }
    }

    /// # Panics
    /// When a call was sent without its hold.
    pub(super) fn assert_held(&self) {
        let unheld = self.unheld.lock().unwrap();
        assert!(unheld.is_empty(), "L4: {unheld:#?}");
    }

    fn error(what: UpstreamFault) -> UpstreamError {
        UpstreamError {
            upstream: "openai".to_owned(),
            what,
            source: None,
        }
    }
}

/// Counts when it is dropped.
struct Closing(Arc<AtomicUsize>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Upstream for SimProvider {
    async fn call(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        self.check_held(&request).await;
        self.seen.lock().unwrap().push(request);
        let play = self
            .plays
            .lock()
            .unwrap()
            .pop_front()
            .expect("a call that was expected");
        {
            let mut bill = self.bill.lock().unwrap();
            *bill = bill.saturating_add(play.bill);
        }
        self.clock.sleep(play.after).await;
        let status = StatusCode::from_u16(play.head.map_err(Self::error)?).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in play.headers {
            headers.append(name, value.parse().unwrap());
        }
        let state = (
            self.clock.clone(),
            play.steps.into_iter(),
            Closing(Arc::clone(&self.closed)),
        );
        let body = stream::unfold(state, async |(clock, mut steps, closing)| {
            loop {
                match steps.next()? {
                    Step::Wait(wait) => clock.sleep(wait).await,
                    Step::Piece(piece) => return Some((Ok(piece), (clock, steps, closing))),
                    Step::Break(what) => return Some((Err(Self::error(what)), (clock, steps, closing))),
                    Step::Panic => panic!("the provider's adapter panics, as it was told"),
                }
            }
        });
        Ok(UpstreamResponse {
            status,
            headers,
            body: body.boxed(),
        })
    }
}
