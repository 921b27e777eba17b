//! Lines: what is listed, what rules and overrides touch, rolling windows, triggers.

use backstop::domain::id::BudgetId;
use backstop::domain::ledger::batch::{Op, Outcome, RULE_PAGE, TriggerCause};
use backstop::domain::ledger::line::{LineKey, LineSpec, Response};
use backstop::domain::money::Usd;
use backstop::domain::window::WindowInstance;
use backstop::ports::{Judgement, LineQuery, StoreError};

use crate::conform;
use crate::fixture::{Fixture, is_sound};
use crate::make::*;

conform!(
    lines_are_listed_by_agent_budget_and_time,
    two_agents_values_and_windows_are_lines_apart,
    a_rule_reaches_the_live_lines_of_its_budget,
    a_rule_takes_many_lines_a_page_at_a_time,
    an_override_and_a_rearm_reach_one_line,
    a_rolling_line_drops_what_has_left_its_window,
    a_trigger_waits_until_it_is_settled_once,
    a_trigger_survives_a_crash,
    a_fleet_line_knows_its_spenders,
);

fn yesterday(mut spec: LineSpec) -> LineSpec {
    spec.key.window = WindowInstance {
        start: Some("2026-01-14T00:00:00Z".parse().unwrap()),
        end: Some("2026-01-15T00:00:00Z".parse().unwrap()),
    };
    spec
}

async fn open_lines(f: &Fixture, specs: &[LineSpec]) {
    let mut ops = Vec::new();
    for (n, spec) in (1_000..).zip(specs) {
        let agent = spec.key.agent.as_ref().map_or("a", |agent| agent.as_str());
        ops.push(Op::Report(report(n, of(agent), usd(1), vec![spec.clone()])));
    }
    f.commit(ops).await;
}

async fn lines_are_listed_by_agent_budget_and_time(f: Fixture) {
    let specs = [
        spec("daily", "a", usd(100)),
        yesterday(spec("daily", "a", usd(100))),
        total("total", "a", usd(100)),
        spec("daily", "b", usd(100)),
        fleet("fleet", usd(100)),
    ];
    open_lines(&f, &specs).await;
    let list = async |query: LineQuery| {
        let mut keys: Vec<_> = f
            .store
            .lines(&query)
            .await
            .unwrap()
            .into_iter()
            .map(|l| l.key)
            .collect();
        keys.sort();
        keys
    };
    let wanted = |picked: &[usize]| {
        let mut keys: Vec<_> = picked.iter().map(|&n| specs[n].key.clone()).collect();
        keys.sort();
        keys
    };
    let all = LineQuery::default();
    assert_eq!(list(all.clone()).await, wanted(&[0, 1, 2, 3, 4]));
    let of_a = LineQuery {
        agent: Some(agent("a")),
        ..all.clone()
    };
    assert_eq!(list(of_a.clone()).await, wanted(&[0, 1, 2]));
    let open = LineQuery {
        open_at: Some(now()),
        ..of_a.clone()
    };
    assert_eq!(list(open.clone()).await, wanted(&[0, 2]));
    let daily = LineQuery {
        budget: Some(BudgetId::new("daily").unwrap()),
        open_at: Some(now()),
        ..all.clone()
    };
    assert_eq!(list(daily).await, wanted(&[0, 3]));
    // A window is over at its end, not after it.
    let at_the_end = LineQuery {
        open_at: day().end,
        ..of_a
    };
    assert_eq!(list(at_the_end).await, wanted(&[2]));
    f.commit(vec![Op::Override {
        line: specs[3].key.clone(),
        raise: usd(0),
        lifted_until: Some(later(5)),
    }])
    .await;
    for (at, found) in [(4, &[] as &[usize]), (5, &[3]), (6, &[3])] {
        let lifted = LineQuery {
            lift_over: Some(later(at)),
            ..all.clone()
        };
        assert_eq!(list(lifted).await, wanted(found), "{at}");
    }
    let two = LineQuery { limit: Some(2), ..all };
    assert_eq!(list(two).await.len(), 2);
}

async fn two_agents_values_and_windows_are_lines_apart(f: Fixture) {
    let mut task = spec("task", "a", usd(100));
    task.key.value = "1".to_owned();
    let mut other_task = task.clone();
    other_task.key.value = "2".to_owned();
    let mut other_agent = task.clone();
    other_agent.key.agent = Some(agent("b"));
    let specs = [task.clone(), other_task, other_agent, yesterday(task.clone())];
    open_lines(&f, &specs).await;
    open_lines_again(&f, &task).await;
    for spec in &specs {
        let wanted = if spec.key == task.key { usd(3) } else { usd(1) };
        assert_eq!(f.line(&spec.key).await.posted, wanted, "{:?}", spec.key);
    }
    f.is_sound().await;
}

async fn open_lines_again(f: &Fixture, spec: &LineSpec) {
    f.commit(vec![Op::Report(report(2_000, of("a"), usd(2), vec![spec.clone()]))])
        .await;
}

fn applied(lines: u64) -> Outcome {
    Outcome::Applied {
        lines,
        more_after: None,
    }
}

async fn a_rule_reaches_the_live_lines_of_its_budget(f: Fixture) {
    let specs = [
        spec("daily", "a", usd(100)),
        spec("daily", "b", usd(100)),
        yesterday(spec("daily", "a", usd(100))),
        spec("other", "a", usd(100)),
    ];
    open_lines(&f, &specs).await;
    let set = |limit| Op::SetRule {
        budget: BudgetId::new("daily").unwrap(),
        rule: rule(limit),
        after: None,
    };
    assert_eq!(f.commit(vec![set(usd(40))]).await, [applied(2)]);
    assert_eq!(f.commit(vec![set(usd(40))]).await, [applied(0)]);
    let limits = async || {
        let mut limits = Vec::new();
        for spec in &specs {
            let line = f.line(&spec.key).await;
            limits.push((line.limit(), line.revision));
        }
        limits
    };
    let (new, old) = ((usd(40), 2), (usd(100), 1));
    assert_eq!(limits().await, [new, new, old, old]);
    // Lowered below what is posted: an overage, and a breach at once.
    f.commit(vec![set(Usd::from_nanos(1))]).await;
    let triggers = f.store.pending_triggers(10).await.unwrap();
    let breached = triggers
        .iter()
        .filter(|t| t.trigger.cause == TriggerCause::Breach)
        .count();
    assert_eq!(breached, 2);
    f.is_sound().await;
}

/// However many lines a budget has, a commit takes a page of them, in the order of their keys, whatever
/// else is in its batch and however many other lines there are.
async fn a_rule_takes_many_lines_a_page_at_a_time(f: Fixture) {
    let task = |of: &str, n: usize| {
        let mut task = total("task", of, usd(100));
        task.key.value = format!("t{n:04}");
        task
    };
    let mut specs = vec![
        fleet("task", usd(100)),
        spec("tasks", "a", usd(100)),
        spec("tas", "a", usd(100)),
    ];
    specs.extend((0..RULE_PAGE).flat_map(|n| [task("a", n), task("b", n), yesterday(task("a", n))]));
    for (part, specs) in specs.chunks(512).enumerate() {
        let reports = (0_u128..).zip(specs).map(|(n, spec)| {
            let agent = spec.key.agent.as_ref().map_or("a", |agent| agent.as_str());
            let number = 10_000 * (part as u128 + 1) + n;
            Op::Report(report(number, of(agent), usd(1), vec![spec.clone()]))
        });
        f.commit(reports.collect()).await;
    }
    let set = |limit, after: Option<LineKey>| Op::SetRule {
        budget: BudgetId::new("task").unwrap(),
        rule: rule(limit),
        after,
    };
    let (mut touched, mut pages, mut after) = (0, 0, None);
    loop {
        // A line of the budget that comes with it, from far behind the page.
        let far = Op::Report(report(900_000 + pages, of("b"), usd(1), vec![task("b", RULE_PAGE - 1)]));
        let outcomes = f.commit(vec![far, set(usd(40), after.clone())]).await;
        let Outcome::Applied { lines, more_after } = outcomes[1].clone() else {
            panic!("{outcomes:?}")
        };
        assert!(lines <= RULE_PAGE as u64 && more_after > after || more_after.is_none());
        (touched, pages, after) = (touched + lines, pages + 1, more_after);
        if after.is_none() {
            break;
        }
    }
    // The fleet's line is of another scope and stays as it is; it was looked at all the same.
    assert_eq!((touched, pages), (2 * RULE_PAGE as u64, 3));
    let lines = f.is_sound().await.lines;
    let limits = |of: usize| lines.iter().filter(|line| line.limit() == usd(of as i64)).count();
    assert_eq!((limits(40), limits(100)), (2 * RULE_PAGE, 3 + RULE_PAGE));
    // Cut short and begun again from the start, it ends as if it had not been.
    assert!(matches!(
        f.commit(vec![set(usd(50), None)]).await[..],
        [Outcome::Applied { lines, more_after: Some(_) }] if lines == RULE_PAGE as u64 - 1
    ));
    assert!(matches!(
        f.commit(vec![set(usd(50), None)]).await[..],
        [Outcome::Applied {
            lines: 0,
            more_after: Some(_)
        }]
    ));
}

async fn an_override_and_a_rearm_reach_one_line(f: Fixture) {
    let specs = [spec("daily", "a", usd(1)), spec("daily", "b", usd(1))];
    open_lines(&f, &specs).await;
    let breaches = async || {
        let triggers = f.store.pending_triggers(100).await.unwrap();
        triggers
            .iter()
            .filter(|t| t.trigger.cause == TriggerCause::Breach)
            .count()
    };
    assert_eq!(breaches().await, 2);
    let line = specs[0].key.clone();
    f.commit(vec![Op::Rearm { line: line.clone() }]).await;
    assert_eq!(breaches().await, 3);
    f.commit(vec![Op::Override {
        line: line.clone(),
        raise: usd(5),
        lifted_until: Some(later(60)),
    }])
    .await;
    let raised = f.line(&line).await;
    assert_eq!(
        (raised.raise, raised.limit(), raised.lifted_until),
        (usd(5), usd(6), Some(later(60)))
    );
    let untouched = f.line(&specs[1].key).await;
    assert_eq!((untouched.raise, untouched.lifted_until), (Usd::ZERO, None));
    f.is_sound().await;
}

async fn a_rolling_line_drops_what_has_left_its_window(f: Fixture) {
    let line = rolling("rolling", "a", usd(100), 600, 60);
    let at = |n: u128, seconds: i64, amount: i64| {
        let mut report = report(n, of("a"), usd(amount), vec![line.clone()]);
        report.occurred_at = later(seconds);
        Op::Report(report)
    };
    f.commit(vec![at(1, 0, 1), at(2, 30, 2), at(3, 60, 4)]).await;
    f.commit_at(later(120), vec![at(4, 119, 8)]).await;
    let stored = f.line(&line.key).await;
    let buckets: Vec<_> = stored.buckets.iter().map(|b| (b.start, b.posted)).collect();
    assert_eq!(buckets, [(later(0), usd(3)), (later(60), usd(12))]);
    assert_eq!(stored.posted, usd(15));

    // The first bucket ends at 60 and counts until 660; with the commit there it is gone.
    f.commit_at(later(659), vec![at(5, 659, 16)]).await;
    assert_eq!(f.line(&line.key).await.posted, usd(31));
    f.commit_at(later(660), vec![at(6, 660, 32)]).await;
    let stored = f.line(&line.key).await;
    assert_eq!(stored.posted, usd(60));
    let starts: Vec<_> = stored.buckets.iter().map(|b| b.start).collect();
    assert_eq!(starts, [later(60), later(600), later(660)]);
    is_sound(&*f.store, later(660)).await;
}

async fn a_trigger_waits_until_it_is_settled_once(f: Fixture) {
    let mut line = spec("daily", "a", usd(10));
    line.rule.response = Response::Revoke;
    f.commit(vec![Op::Report(report(1, of("a"), usd(10), vec![line.clone()]))])
        .await;
    let triggers = f.store.pending_triggers(100).await.unwrap();
    let causes: Vec<_> = triggers.iter().map(|t| t.trigger.cause.clone()).collect();
    assert!(causes.contains(&TriggerCause::Alert { percent: 50 }));
    assert!(causes.contains(&TriggerCause::Breach));
    assert!(
        triggers
            .iter()
            .all(|t| t.response == Response::Revoke && t.trigger.line == line.key)
    );
    assert!(triggers.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(f.store.pending_triggers(1).await.unwrap(), triggers[..1]);

    let first = Judgement {
        settle: vec![triggers[0].id],
        ..Judgement::default()
    };
    f.store.judge(&first).await.unwrap();
    assert_eq!(f.store.pending_triggers(100).await.unwrap(), triggers[1..]);
    // Settled before: nothing of a judgement that rests on it is written.
    let both = Judgement {
        settle: vec![triggers[1].id, triggers[0].id],
        ..Judgement::default()
    };
    let error = f.store.judge(&both).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    assert_eq!(f.store.pending_triggers(100).await.unwrap(), triggers[1..]);
}

async fn a_trigger_survives_a_crash(f: Fixture) {
    let line = spec("daily", "a", usd(10));
    f.commit(vec![Op::Report(report(1, of("a"), usd(10), vec![line]))])
        .await;
    let before = f.store.pending_triggers(100).await.unwrap();
    let (store, _, _remains) = f.crash().await;
    assert!(!before.is_empty());
    assert_eq!(store.pending_triggers(100).await.unwrap(), before);
}

async fn a_fleet_line_knows_its_spenders(f: Fixture) {
    let line = fleet("fleet", usd(100));
    let report = |n, name: &str, amount| Op::Report(report(n, of(name), usd(amount), vec![line.clone()]));
    let lines = || vec![line.clone()];
    f.commit(vec![
        report(1, "a", 3),
        report(2, "b", 5),
        report(3, "a", 4),
        report(4, "c", 1),
    ])
    .await;
    f.commit(vec![admit(5, of("b"), usd(20), lines()), expire(5)]).await;
    let spenders = f.store.spenders(&line.key, 10).await.unwrap();
    let wanted = [(agent("a"), usd(7)), (agent("b"), usd(5)), (agent("c"), usd(1))];
    assert_eq!(spenders, wanted, "what is unresolved is left out");
    f.commit(vec![resolve(5, 15, usd(4))]).await;
    let spenders = f.store.spenders(&line.key, 2).await.unwrap();
    assert_eq!(spenders, [(agent("b"), usd(9)), (agent("a"), usd(7))]);
}
