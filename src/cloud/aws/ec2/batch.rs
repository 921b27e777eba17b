//! Many instances in few calls, without letting one of them keep the others running.
//!
//! EC2 refuses a batch as a whole when one member cannot be stopped, and its answer does not reliably say
//! which. So a refused batch is halved until the culprit stands alone: with one among n that is about
//! 2 log2(n) calls instead of n. Halves are asked at the same time, up to a bound, for the kill switch
//! has no patience.
//!
//! A throttle or refused credentials end the asking: more calls would only make it worse, and members
//! that were not settled by then are refused as transient. A batch without an answer is not split, since
//! nothing says that a member is to blame, and the others go on; its members are left out of the result,
//! because nobody knows what became of them. Only when no member at all was settled is the failure
//! returned as such.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::cloud::aws::error::{Scope, scope};
use crate::domain::containment::observed::{BatchResult, Refused};
use crate::ports::{CloudError, Retry};

#[derive(Debug, Clone, Copy)]
pub(in crate::cloud::aws) struct Limits {
    /// Members of one call.
    pub(in crate::cloud::aws) size: usize,
    /// Calls at once.
    pub(in crate::cloud::aws) parallel: usize,
}

pub(in crate::cloud::aws) async fn run<F, Answer>(
    ids: &[String],
    limits: Limits,
    call: F,
) -> Result<BatchResult, CloudError>
where
    F: Fn(Vec<String>) -> Answer,
    Answer: Future<Output = Result<Vec<String>, CloudError>>,
{
    let mut seen = BTreeSet::new();
    let distinct: Vec<String> = ids.iter().filter(|id| seen.insert(id.as_str())).cloned().collect();
    let mut waiting: VecDeque<Vec<String>> = distinct.chunks(limits.size.max(1)).map(<[_]>::to_vec).collect();
    let mut running = FuturesUnordered::new();
    let mut accepted = BTreeSet::new();
    let mut already = BTreeSet::new();
    // Members of a call that was refused as a whole. It may have worked for some of them before it was
    // refused, so what is found done afterwards may be our own doing and is never called somebody else's.
    let mut asked_before: BTreeSet<String> = BTreeSet::new();
    let mut refused: BTreeMap<String, Refused> = BTreeMap::new();
    let mut refused_for_now: Vec<(String, Refused)> = Vec::new();
    let mut failure: Option<CloudError> = None;
    let mut goes_on = true;

    loop {
        while goes_on && running.len() < limits.parallel.max(1) {
            let Some(members) = waiting.pop_front() else { break };
            let answer = call(members.clone());
            running.push(async move { (members, answer.await) });
        }
        let Some((mut members, answer)) = running.next().await else {
            break;
        };
        let error = match answer {
            Ok(down) => {
                already.extend(down.into_iter().filter(|id| !asked_before.contains(id)));
                accepted.extend(members);
                continue;
            }
            Err(error) => error,
        };
        match scope(&error) {
            Scope::Member { .. } if members.len() > 1 => {
                asked_before.extend(members.iter().cloned());
                let second = members.split_off(members.len() / 2);
                waiting.push_front(second);
                waiting.push_front(members);
            }
            Scope::Member { transient } => {
                let why = told(&error, transient);
                refused.extend(members.into_iter().map(|id| (id, why.clone())));
            }
            scope @ (Scope::Caller | Scope::Unknown) => {
                goes_on &= scope == Scope::Unknown;
                if error.retry == Retry::UnknownOutcome {
                    // It outweighs whatever else failed: what may have happened must be looked at.
                    if failure
                        .as_ref()
                        .is_none_or(|first| first.retry != Retry::UnknownOutcome)
                    {
                        failure = Some(error);
                    }
                    continue;
                }
                let why = told(&error, true);
                refused_for_now.extend(members.into_iter().map(|id| (id, why.clone())));
                failure.get_or_insert(error);
            }
        }
    }

    if let Some(error) = failure {
        if accepted.is_empty() && refused.is_empty() {
            return Err(error);
        }
        let why = match refused_for_now.last() {
            Some((_, why)) => why.clone(),
            None => told(&error, true),
        };
        // These were never asked for.
        refused.extend(waiting.into_iter().flatten().map(|id| (id, why.clone())));
        refused.extend(refused_for_now);
    }
    // In the order in which they were asked for.
    let (accepted, rest): (Vec<String>, Vec<String>) = distinct.into_iter().partition(|id| accepted.contains(id));
    let refused = rest.into_iter().filter_map(|id| refused.remove_entry(&id)).collect();
    let already = accepted.iter().filter(|id| already.contains(*id)).cloned().collect();
    Ok(BatchResult {
        accepted,
        already,
        refused,
    })
}

fn told(error: &CloudError, transient: bool) -> Refused {
    Refused {
        code: error.code.clone().unwrap_or_else(|| "NoAnswer".to_owned()),
        message: error.message.clone(),
        transient,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits { size: 50, parallel: 4 };

    fn ids(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| format!("i-{n:04}")).collect()
    }

    fn error(code: Option<&str>, retry: Retry) -> CloudError {
        CloudError {
            operation: "ec2:StopInstances",
            region: None,
            code: code.map(str::to_owned),
            message: "no".to_owned(),
            retry,
            source: None,
        }
    }

    /// Answers as EC2 does: the whole batch is refused if one member is bad.
    async fn answers(
        bad: &[(&str, &str, Retry)],
        calls: &Cell<usize>,
        members: Vec<String>,
    ) -> Result<Vec<String>, CloudError> {
        calls.set(calls.get() + 1);
        match bad.iter().find(|(id, ..)| members.iter().any(|member| member == id)) {
            Some((_, code, retry)) => Err(error(Some(code), *retry)),
            None => Ok(Vec::new()),
        }
    }

    #[tokio::test]
    async fn bad_members_are_found_in_few_calls_and_alone_left_out() {
        let calls = Cell::new(0);
        let bad = [
            ("i-0007", "OperationNotPermitted", Retry::Never),
            ("i-0063", "IncorrectInstanceState", Retry::Transient),
            ("i-0064", "InvalidInstanceID.NotFound", Retry::Never),
        ];
        let all = ids(0..120);
        let done = run(&all, LIMITS, |members| answers(&bad, &calls, members))
            .await
            .expect("it is settled");
        assert_eq!(done.accepted.len(), 117);
        let refused: Vec<_> = done
            .refused
            .iter()
            .map(|(id, why)| (id.as_str(), why.code.as_str(), why.transient))
            .collect();
        assert_eq!(
            refused,
            [
                ("i-0007", "OperationNotPermitted", false),
                ("i-0063", "IncorrectInstanceState", true),
                ("i-0064", "InvalidInstanceID.NotFound", false)
            ]
        );
        assert!(calls.get() <= 3 + 3 * 2 * 6, "{} calls", calls.get());
    }

    #[tokio::test]
    async fn what_a_refused_call_may_have_done_is_ours() {
        let stopped = RefCell::new(BTreeSet::new());
        let run_half = |members: Vec<String>| {
            // Stops what comes before the bad one, and only then refuses.
            let mut down = Vec::new();
            for id in &members {
                if id == "i-0002" {
                    return std::future::ready(Err(error(Some("OperationNotPermitted"), Retry::Never)));
                }
                if !stopped.borrow_mut().insert(id.clone()) {
                    down.push(id.clone());
                }
            }
            std::future::ready(Ok(down))
        };
        let limits = Limits { size: 50, parallel: 1 };
        let done = run(&ids(0..4), limits, run_half).await.expect("it is settled");
        assert_eq!((done.accepted.len(), done.refused.len()), (3, 1));
        assert_eq!(
            done.already,
            Vec::<String>::new(),
            "all of them were running when we began"
        );
    }

    #[tokio::test]
    async fn nothing_and_doubles_cost_nothing() {
        let calls = Cell::new(0);
        let done = run(&[], LIMITS, |members| answers(&[], &calls, members))
            .await
            .expect("nothing to do");
        assert_eq!((done, calls.get()), (BatchResult::default(), 0));

        let doubled = vec!["i-2".to_owned(), "i-1".to_owned(), "i-2".to_owned()];
        let asked = RefCell::new(Vec::new());
        let done = run(&doubled, LIMITS, async |members: Vec<String>| {
            asked.borrow_mut().push(members);
            Ok(Vec::new())
        })
        .await
        .expect("it is settled");
        assert_eq!(done.accepted, ["i-2", "i-1"]);
        assert_eq!(*asked.borrow(), [vec!["i-2".to_owned(), "i-1".to_owned()]]);
    }

    #[tokio::test]
    async fn what_was_down_before_is_told_from_what_was_stopped() {
        let all = ids(0..120);
        let done = run(&all, LIMITS, async |members: Vec<String>| {
            Ok(members.into_iter().filter(|id| id.ends_with("07")).collect())
        })
        .await
        .expect("it is settled");
        assert_eq!(
            (done.accepted.len(), done.already),
            (120, vec![all[7].clone(), all[107].clone()])
        );
    }

    #[tokio::test]
    async fn a_throttle_keeps_what_was_done_and_leaves_the_rest_for_later() {
        let calls = Cell::new(0);
        let all = ids(0..300);
        let one_at_a_time = Limits { size: 50, parallel: 1 };
        let done = run(&all, one_at_a_time, async |_members: Vec<String>| {
            calls.set(calls.get() + 1);
            match calls.get() {
                1 | 2 => Ok(Vec::new()),
                _ => Err(error(
                    Some("RequestLimitExceeded"),
                    Retry::After(Duration::from_secs(2)),
                )),
            }
        })
        .await
        .expect("something was done");
        assert_eq!(calls.get(), 3, "nothing is asked after a throttle");
        assert_eq!(done.accepted, ids(0..100));
        assert_eq!(done.refused.len(), 200);
        assert!(
            done.refused
                .iter()
                .all(|(_, why)| why.transient && why.code == "RequestLimitExceeded")
        );
    }

    #[tokio::test]
    async fn a_batch_without_an_answer_does_not_hold_up_the_others() {
        let all = ids(0..150);
        let done = run(&all, LIMITS, async |members: Vec<String>| {
            if members.contains(&"i-0000".to_owned()) {
                return Err(error(None, Retry::UnknownOutcome));
            }
            Ok(Vec::new())
        })
        .await
        .expect("something was done");
        assert_eq!(done.accepted, ids(50..150));
        assert_eq!(done.refused, [], "of the others nobody knows");
    }

    #[tokio::test]
    async fn a_look_without_an_answer_is_no_permission() {
        let done = run(&ids(0..100), LIMITS, async |members: Vec<String>| {
            if members.contains(&"i-0000".to_owned()) {
                return Err(error(None, Retry::Transient));
            }
            Ok(Vec::new())
        })
        .await
        .expect("something was told");
        assert_eq!(done.accepted, ids(50..100));
        assert_eq!(done.refused.len(), 50);
        assert!(
            done.refused
                .iter()
                .all(|(_, why)| why.transient && why.code == "NoAnswer")
        );
    }

    #[tokio::test]
    async fn what_may_have_happened_outweighs_a_throttle() {
        let calls = Cell::new(0);
        let failed = run(&ids(0..150), LIMITS, async |_: Vec<String>| {
            calls.set(calls.get() + 1);
            match calls.get() {
                2 => Err(error(None, Retry::UnknownOutcome)),
                _ => Err(error(
                    Some("RequestLimitExceeded"),
                    Retry::After(Duration::from_secs(2)),
                )),
            }
        })
        .await
        .expect_err("nothing was settled");
        assert_eq!(failed.retry, Retry::UnknownOutcome);
    }

    #[tokio::test]
    async fn a_failure_of_everything_is_a_failure() {
        let failed = run(&ids(0..150), LIMITS, async |_: Vec<String>| {
            Err(error(Some("AuthFailure"), Retry::Never))
        })
        .await
        .expect_err("nothing was settled");
        assert_eq!(failed.code.as_deref(), Some("AuthFailure"));
        let failed = run(&ids(0..150), LIMITS, async |_: Vec<String>| {
            Err(error(None, Retry::UnknownOutcome))
        })
        .await
        .expect_err("nothing was settled");
        assert_eq!(failed.retry, Retry::UnknownOutcome);
    }
}
