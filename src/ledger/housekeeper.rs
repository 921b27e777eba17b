//! What has to be done whether or not anybody calls: holds expire, the clock's durable mark rises, lifts
//! of limits end, and the epochs of dead processes are buried.
//!
//! A failure here is logged and tried again at the next round: none of it loses anything by being late.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::shared::{Shared, lock};
use crate::domain::clock::Verdict;
use crate::domain::id::PostingId;
use crate::domain::ledger::batch::Op;
use crate::domain::money::Usd;
use crate::ports::{LineQuery, NoticeKind, StoreError};

/// Rounds of a single expiry scan at most; what is left is found by the next one.
const MAX_ROUNDS: usize = 64;

/// A hold that expired this long ago, and that the store does not have open, was ended elsewhere.
const SURELY_ENDED: SignedDuration = SignedDuration::from_secs(10);

/// A window that ended this long ago was looked at after its last lift had ended.
const LOOKED_AT: SignedDuration = SignedDuration::from_mins(1);

/// Runs until it is dropped.
pub(super) async fn keep_house(shared: Arc<Shared>) {
    let settings = shared.settings;
    let mut marked = shared.clock.monotonic();
    let mut buried = marked;
    let mut commits = 0;
    let mut clock_ok = true;
    let mut looked = marked;
    let mut ended = None;
    loop {
        shared.clock.sleep(settings.refresh_every).await;
        clock_ok = watch_clock(&shared, clock_ok);
        expire(&shared).await;
        let now = shared.clock.monotonic();
        // What was committed since must not be in the future of a restart, so the mark follows at once.
        let committed = shared.gauges.commits.load(Ordering::Relaxed);
        if committed != commits || now.saturating_sub(marked) >= settings.mark_every {
            commits = committed;
            marked = now;
            raise_mark(&shared).await;
        }
        if now.saturating_sub(looked) >= settings.mark_every {
            looked = now;
            end_lifts(&shared, &mut ended).await;
        }
        if now.saturating_sub(buried) >= settings.bury_every {
            buried = now;
            bury(&shared).await;
        }
    }
}

/// Says once that the clock is not what it should be, and once that it is again.
fn watch_clock(shared: &Shared, was_ok: bool) -> bool {
    let verdict = shared.read_clock().verdict;
    let off_by_s = verdict.off_by().as_secs();
    metrics::gauge!("backstop_clock_ok").set(f64::from(u8::from(verdict.is_ok())));
    match (was_ok, verdict.is_ok()) {
        (true, false) => {
            tracing::warn!(
                clock = verdict.name(),
                off_by_s,
                "the wall clock and the ledger's time differ"
            );
            shared.tell(NoticeKind::ClockJump, told(verdict));
        }
        (false, true) => tracing::info!("the wall clock is right again"),
        _ => {}
    }
    verdict.is_ok()
}

/// What a clock that is not right means, in a sentence.
fn told(verdict: Verdict) -> String {
    let off_by_s = verdict.off_by().as_secs();
    if verdict.admits() {
        format!(
            "the wall clock is {off_by_s} s behind the ledger's time: until it has caught up no window closes and \
             no hold expires"
        )
    } else {
        format!(
            "the wall clock jumped {off_by_s} s ahead: nothing new is admitted until it returns or an operator \
             accepts it"
        )
    }
}

/// Ends holds whose time is over, at their bounds (L3: expiry charges).
async fn expire(shared: &Arc<Shared>) {
    let most = shared.settings.batch();
    let limit = u32::try_from(most).unwrap_or(u32::MAX);
    for _ in 0..MAX_ROUNDS {
        let now = shared.read_clock().ledger_now;
        let found = limited(shared, shared.store.expiring_holds(shared.epoch, now, limit)).await;
        let holds = match found {
            Some(Ok(holds)) => holds,
            Some(Err(error)) => return complain(&error, "expired holds cannot be looked for"),
            None => return,
        };
        if holds.is_empty() {
            lock(&shared.open).drop_expired(now.saturating_sub(SURELY_ENDED).unwrap_or(now));
            return;
        }
        let found = holds.len();
        let expire = |hold| Op::Expire {
            hold,
            posting: PostingId(shared.entropy.id(now)),
            detail: None,
        };
        let outcomes = shared.job(holds.into_iter().map(expire).collect(), true).await;
        match outcomes {
            Ok(_) if found == most => {}
            _ => return,
        }
    }
}

/// Judges what a lift let past its limit once the lift is over: an agent whose machines burn without
/// calling us would otherwise go on until its next call. Each lift is looked at once, as far as `ended`
/// tells; a repetition after a restart finds the breach triggered.
async fn end_lifts(shared: &Arc<Shared>, ended: &mut Option<Timestamp>) {
    let now = shared.read_clock().ledger_now;
    let query = LineQuery {
        open_at: now.checked_sub(LOOKED_AT).ok(),
        lift_over: Some(now),
        ..LineQuery::default()
    };
    let lines = match limited(shared, shared.store.lines(&query)).await {
        Some(Ok(lines)) => lines,
        Some(Err(error)) => return complain(&error, "lifts that are over cannot be looked for"),
        None => return,
    };
    let over = lines.into_iter().filter(|line| {
        line.breached.is_none()
            && line.lifted_until > *ended
            && line.settled() > Usd::ZERO
            && line.settled() >= line.limit()
    });
    let ops: Vec<Op> = over.map(|line| Op::Rearm { line: line.key }).collect();
    for part in ops.chunks(shared.settings.batch()) {
        if shared.job(part.to_vec(), true).await.is_err() {
            return;
        }
    }
    *ended = Some(now);
}

/// Makes the ledger's time durable, and follows another process that is ahead.
pub(super) async fn raise_mark(shared: &Arc<Shared>) {
    let now = shared.read_clock().ledger_now;
    match limited(shared, shared.store.advance_clock(now)).await {
        Some(Ok(mark)) => lock(&shared.guard).raise_mark(mark),
        Some(Err(error)) => complain(&error, "the clock's mark cannot be raised"),
        None => {}
    }
}

/// Turns what dead processes left open into unresolved spend.
async fn bury(shared: &Arc<Shared>) {
    let now = shared.read_clock().ledger_now;
    let buried = limited(shared, shared.store.bury_dead_epochs(now, &shared.settings.rules)).await;
    match buried {
        Some(Ok(dead)) if dead.epochs.is_empty() => {}
        Some(Ok(dead)) => {
            tracing::warn!(epochs = ?dead.epochs, holds = dead.holds, amount = %dead.amount, "dead epochs were buried");
            shared.triggers.notify_one();
        }
        Some(Err(error)) => complain(&error, "dead epochs cannot be buried"),
        None => {}
    }
}

/// Everything that waits has a time limit; `None` when it is over.
async fn limited<T>(
    shared: &Shared,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Option<Result<T, StoreError>> {
    let limit: Duration = shared.settings.commit_limit;
    tokio::select! {
        biased;
        result = work => Some(result),
        () = shared.clock.sleep(limit) => {
            tracing::warn!("the store did not answer the housekeeper within its time limit");
            None
        }
    }
}

fn complain(error: &StoreError, what: &'static str) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "{what}; tried again in the next round"
    );
}
