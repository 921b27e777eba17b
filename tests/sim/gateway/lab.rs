//! A gateway over a ledger in memory and a provider that does what it is told, in virtual time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use backstop::audit::Refusals;
use backstop::domain::agent::{AgentState, AgentStatus};
use backstop::domain::budget::{Budget, Selector};
use backstop::domain::call::{Api, CallRules};
use backstop::domain::id::{AgentId, BudgetId, HoldId, ServiceId};
use backstop::domain::ledger::hold::{Hold, HoldState};
use backstop::domain::ledger::line::{Line, Response, Scope};
use backstop::domain::ledger::posting::Posting;
use backstop::domain::manifest::Manifest;
use backstop::domain::money::Usd;
use backstop::domain::price::Catalogue;
use backstop::domain::rejection::Rejection;
use backstop::domain::window::Window;
use backstop::gateway::{
    AgentRules, CallFailure, CallHead, CallLimits, CutOff, Failed, Gateway, GatewayDeps, GatewaySettings, Provider,
    Reply, ReplyBody, Share,
};
use backstop::hooks::LogNotifier;
use backstop::http::body::placed;
use backstop::intake::usage::Intake;
use backstop::ledger::{self, Deps, LedgerSettings};
use backstop::ports::{AuditView, Clock, Judgement, LineQuery, PostingQuery, Store};
use backstop::store::memory::MemoryStore;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::provider::SimProvider;
use super::time::{SimClock, run};
use crate::kill::Counting;

pub(super) const AGENT: &str = "a";

pub(super) struct Lab {
    pub(super) clock: SimClock,
    pub(super) store: Arc<MemoryStore>,
    pub(super) gateway: Gateway,
    pub(super) provider: SimProvider,
    pub(super) settings: Arc<ArcSwap<GatewaySettings>>,
    refusals: Arc<Refusals>,
    /// Whether the agent's key is revoked.
    pub(super) revoked: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
    /// The ledger's and the gateway's own work; it ends with the lab.
    _tasks: JoinSet<()>,
}

pub(super) fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn budget(limit: Usd) -> Budget {
    Budget {
        id: BudgetId::new("cap").unwrap(),
        scope: Scope::Agent,
        label: None,
        selector: Selector::default(),
        window: Window::Total,
        limit,
        alert_at: vec![],
        response: Response::Alert,
    }
}

pub(super) fn agent() -> AgentId {
    AgentId::new(AGENT).unwrap()
}

/// Runs a test with a budget of so many dollars.
pub(super) fn lab<F: Future<Output = ()>>(limit: &str, test: impl FnOnce(Lab) -> F) {
    let clock = SimClock::default();
    run(&clock, async {
        let lab = Lab::open(&clock, usd(limit)).await;
        let provider = lab.provider.clone();
        test(lab).await;
        provider.assert_held();
    });
}

impl Lab {
    async fn open(clock: &SimClock, limit: Usd) -> Self {
        let store = Arc::new(MemoryStore::new());
        let shared_clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let deps = Deps {
            store: Arc::clone(&store) as _,
            clock: Arc::clone(&shared_clock),
            entropy: Arc::new(Counting::default()),
            notifier: Arc::new(LogNotifier),
        };
        let opened = ledger::open(deps, LedgerSettings::default(), vec![budget(limit)], "lab").await;
        let (ledger, task, _) = opened.expect("it opens");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ended = task.run(CancellationToken::new()).await;
        });
        let provider = SimProvider::new(clock, &store);
        let settings = Arc::new(ArcSwap::from_pointee(settings(&provider, CallLimits::default(), None)));
        let catalogue = Arc::new(ArcSwap::from_pointee(Catalogue::builtin()));
        let refusals = Arc::new(Refusals::new());
        let revoked = Arc::new(AtomicBool::new(false));
        let intake = Intake::new(
            ledger.clone(),
            Arc::clone(&catalogue),
            Arc::new(ArcSwap::from_pointee(vec![agent()])),
            Arc::default(),
            Arc::clone(&shared_clock),
            Arc::clone(&refusals),
        );
        let gateway = Gateway::new(GatewayDeps {
            ledger: ledger.clone(),
            intake: Arc::new(intake),
            catalogue,
            settings: Arc::clone(&settings),
            refusals: Arc::clone(&refusals),
            store: Arc::clone(&store) as _,
            clock: shared_clock,
            whose: {
                let revoked = Arc::clone(&revoked);
                Arc::new(move |headers| match headers.contains_key("authorization") {
                    true if !revoked.load(Ordering::SeqCst) => Ok(agent()),
                    _ => Err(Rejection::BadCredential),
                })
            },
        });
        let stop = CancellationToken::new();
        let (running, token) = (gateway.clone(), stop.clone());
        tasks.spawn(async move { running.run(token, secs(10)).await });
        Self {
            clock: clock.clone(),
            store,
            gateway,
            provider,
            settings,
            refusals,
            revoked,
            stop,
            _tasks: tasks,
        }
    }

    pub(super) fn limits(&self, limits: CallLimits) {
        self.settings.store(Arc::new(settings(&self.provider, limits, None)));
    }

    /// With a manifest that lists this tool alone.
    pub(super) fn manifest(&self, tool: &str) {
        self.declares(json!({ "allowed_tools": [{ "tool_name": tool }] }));
    }

    /// With a manifest of this text, but for its version and its agent.
    pub(super) fn declares(&self, mut manifest: Value) {
        manifest["schema_version"] = json!("v1");
        manifest["agent_id"] = json!(AGENT);
        let manifest = Manifest::parse(manifest.to_string().as_bytes()).expect("a manifest");
        let settings = settings(&self.provider, CallLimits::default(), Some(Arc::new(manifest)));
        self.settings.store(Arc::new(settings));
    }

    /// The operator lets agents with a manifest use routes that have a ceiling.
    pub(super) fn ungated_ceilings(&self) {
        let now = self.settings.load();
        let upstream = upstream(&self.provider).with_ungated_ceilings(true);
        self.settings.store(Arc::new(GatewaySettings {
            agents: now.agents.clone(),
            providers: HashMap::from([("openai".to_owned(), Arc::new(upstream))]),
            limits: now.limits,
        }));
    }

    /// With a tool at the provider whose uses in one call may cost this.
    pub(super) fn server_tool(&self, tool: &str, fee: &str) {
        let mut settings = settings(&self.provider, CallLimits::default(), None);
        let calls = CallRules {
            server_tools: [(tool.to_owned(), usd(fee))].into(),
            ..CallRules::default()
        };
        let rules = Arc::new(AgentRules { calls, manifest: None });
        settings.agents.insert(agent(), rules);
        self.settings.store(Arc::new(settings));
    }

    /// A call as the edge makes it.
    pub(super) fn call(&self, path: &str, body: Value) -> impl Future<Output = Result<Reply, Failed>> + Send + use<> {
        self.call_of(path, body, None)
    }

    /// The same for a body that has its place.
    pub(super) fn call_of(
        &self,
        path: &str,
        body: Value,
        place: Option<Share>,
    ) -> impl Future<Output = Result<Reply, Failed>> + Send + use<> {
        let method = if body.is_null() { Method::GET } else { Method::POST };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("authorization", "Bearer the-agents-own-key".parse().unwrap());
        let head = CallHead {
            agent: agent(),
            upstream: "openai".to_owned(),
            method,
            path: path.to_owned(),
            query: None,
            headers,
        };
        let gateway = self.gateway.clone();
        async move {
            let bytes = if body.is_null() {
                Bytes::new()
            } else {
                body.to_string().into()
            };
            let target = gateway.target(head)?;
            gateway.call(target, placed(bytes, place)).await
        }
    }

    pub(super) fn chat(&self) -> impl Future<Output = Result<Reply, Failed>> + Send + use<> {
        self.call("/v1/chat/completions", chat_body(false))
    }

    pub(super) fn chat_stream(&self) -> impl Future<Output = Result<Reply, Failed>> + Send + use<> {
        self.call("/v1/chat/completions", chat_body(true))
    }

    /// Lets everything that needs no time happen, and some time pass.
    pub(super) async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn hold(&self, id: HoldId) -> Hold {
        self.store.hold(id).await.unwrap().expect("the hold is there")
    }

    /// All holds, oldest first.
    pub(super) async fn holds(&self) -> Vec<Hold> {
        let AuditView { mut holds, .. } = self.store.audit_view().await.unwrap();
        holds.sort_by_key(|hold| hold.opened_at);
        holds
    }

    pub(super) async fn postings(&self) -> Vec<Posting> {
        let all = PostingQuery {
            limit: 10_000,
            ..PostingQuery::default()
        };
        self.store.postings(&all).await.unwrap()
    }

    pub(super) async fn line(&self) -> Line {
        let lines = self.store.lines(&LineQuery::default()).await.unwrap();
        lines.into_iter().next().expect("a line")
    }

    /// How the only hold ended, and what was posted for it.
    pub(super) async fn outcome(&self) -> (HoldState, Usd) {
        // What was handed over is written within this time.
        self.pass(secs(1)).await;
        let holds = self.holds().await;
        assert_eq!(holds.len(), 1, "{holds:#?}");
        let line = self.line().await;
        assert_eq!(line.held, Usd::ZERO, "nothing is held any more");
        (holds[0].state, line.posted)
    }

    /// What was refused, as the audit log has it: its code and its reason (D3).
    pub(super) async fn refused(&self) -> Vec<(String, String)> {
        let finished = self.refusals.finish(&*self.store, self.clock.now()).await;
        finished.expect("the store takes it");
        let entries = self.store.audit(1, 10_000).await.unwrap();
        let refused = entries.into_iter().filter(|entry| entry.entry.action == "refused");
        let told = refused.map(|entry| {
            let evidence: Value = serde_json::from_str(&entry.entry.evidence).unwrap();
            (
                evidence["code"].as_str().expect("a code").to_owned(),
                entry.entry.reason,
            )
        });
        told.collect()
    }

    pub(super) async fn bound(&self) -> Usd {
        self.holds().await[0].bound
    }

    /// Somebody else, such as another process, changes the agent's state.
    pub(super) async fn set_status(&self, status: AgentStatus) {
        let state = self.store.agent(&agent()).await.unwrap();
        let judgement = Judgement {
            agents: vec![AgentState {
                status,
                since: self.clock.now(),
                reason: "a test".to_owned(),
                version: state.version + 1,
                ..state
            }],
            ..Judgement::default()
        };
        self.store.judge(&judgement).await.unwrap();
    }
}

pub(super) fn chat_body(stream: bool) -> Value {
    json!({
        "model": "gpt-5-mini", "stream": stream, "max_completion_tokens": 1000,
        "messages": [{ "role": "user", "content": "Hello" }],
    })
}

fn settings(provider: &SimProvider, limits: CallLimits, manifest: Option<Arc<Manifest>>) -> GatewaySettings {
    let rules = AgentRules {
        calls: CallRules::default(),
        manifest,
    };
    GatewaySettings {
        agents: HashMap::from([(agent(), Arc::new(rules))]),
        providers: HashMap::from([("openai".to_owned(), Arc::new(upstream(provider)))]),
        limits,
    }
}

fn upstream(provider: &SimProvider) -> Provider {
    let terms = (Api::Openai, ServiceId::new("openai").unwrap());
    let ceilings = vec![("/v1/batches".to_owned(), usd("0.10"))];
    let port = Arc::new(provider.clone());
    let upstream = Provider::new("openai", terms, Some("sk-of-the-provider"), ceilings, port);
    upstream.expect("a key that fits in a header")
}

/// What stands at the end of a body that is not whole.
pub(super) const CUT_OFF: &[u8] = b"[cut off]";

/// The whole body of a reply, as a client that reads on gets it.
pub(super) async fn read(reply: Reply) -> String {
    let bytes = match reply.body {
        ReplyBody::Whole(bytes) => bytes.to_vec(),
        ReplyBody::Pieces(mut pieces) => {
            let mut all = Vec::new();
            while let Some(piece) = pieces.next().await {
                match piece {
                    Ok(piece) => all.extend_from_slice(&piece),
                    Err(CutOff) => all.extend_from_slice(CUT_OFF),
                }
            }
            all
        }
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The stable code of a refusal.
pub(super) fn code(answered: Result<Reply, Failed>) -> &'static str {
    match answered.map(|reply| reply.status).expect_err("no answer").failure {
        CallFailure::Rejected(rejection) => rejection.code(),
        CallFailure::Unavailable(_) => "unavailable",
        CallFailure::Store(_) => "store",
        CallFailure::Upstream { .. } => "upstream",
        CallFailure::Redirected { .. } => "redirected",
        CallFailure::Unreadable { .. } => "unreadable",
        CallFailure::Crowded { .. } => "no_memory_for_answer",
        CallFailure::RefusedCredential { .. } => "refused_credential",
        CallFailure::Stopping { .. } => "stopping",
        CallFailure::Overloaded => "overloaded",
        CallFailure::Internal => "internal",
    }
}
