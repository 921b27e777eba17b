//! Calls without a token limit, all at once: the cap is served, and nobody is turned away before it is.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use backstop::domain::budget::Budget;
use backstop::domain::id::BudgetId;
use backstop::domain::ledger::bound::{Bound, TokenBound};
use backstop::domain::ledger::line::Scope;
use backstop::domain::money::Usd;
use backstop::ledger::{AdmitRejection, AdmitRequest};

use crate::ledger::lab::{Lab, budget, capture, usd, wants};
use crate::rng::Rng;

const CALLERS: u64 = 500;

/// A call at $10 a million tokens of output, whose worst case is four cents.
const CALL: TokenBound = TokenBound {
    base: Usd::from_nanos(500_000),
    nanos_per_million: 10_000_000_000,
    wanted: 4_096,
    least: 16,
};

struct Served {
    /// What was captured when the first one was refused for good, and in the end.
    at_first_refusal: Option<i64>,
    captured: i64,
    calls: u64,
}

/// Every caller calls again and again, until it is refused for good.
fn serve(seed: u64, cap: i64, bound: Bound, budgets: Vec<Budget>) -> Served {
    let mut lab = Lab::new();
    let bench = lab.open(budgets);
    let rng = Rng::new(seed);
    let served = Rc::new(RefCell::new(Served {
        at_first_refusal: None,
        captured: 0,
        calls: 0,
    }));
    let left = Rc::new(RefCell::new(CALLERS));
    for number in 0..CALLERS {
        let (ledger, time) = (bench.ledger.clone(), lab.exec.time.clone());
        let (served, left) = (Rc::clone(&served), Rc::clone(&left));
        let mut rng = rng.fork(&format!("caller {number}"));
        lab.exec.spawner.spawn(0, async move {
            loop {
                let request = AdmitRequest { bound, ..wants(0) };
                let hold = match ledger.admit(request).await {
                    Ok(hold) => hold,
                    Err(AdmitRejection::Held { .. }) => continue,
                    Err(AdmitRejection::Refused(_)) => break,
                    Err(why) => panic!("{why:?}"),
                };
                time.sleep(Duration::from_millis(rng.below(4_000) + 20)).await;
                // What the model had to say, up to where it was cut.
                let tokens = i64::try_from(CALL.tokens_within(hold.bound)).unwrap();
                let cost = CALL.base.nanos() + rng.range(0, tokens) * 10_000;
                assert!(usd(cost) <= hold.bound);
                ledger.capture(capture(hold.id, cost)).await.expect("captured");
                let mut served = served.borrow_mut();
                served.captured += cost;
                served.calls += 1;
            }
            let mut served = served.borrow_mut();
            let captured = served.captured;
            served.at_first_refusal.get_or_insert(captured);
            *left.borrow_mut() -= 1;
        });
    }
    for _ in 0..10_000 {
        if *left.borrow() == 0 {
            break;
        }
        lab.seconds(10);
    }
    assert_eq!(*left.borrow(), 0, "somebody is neither served nor refused");
    lab.audit();
    for line in lab.view().lines {
        assert!(line.held.is_zero() && line.overage.is_zero(), "{line:?}");
    }
    let served = served.replace(Served {
        at_first_refusal: None,
        captured: 0,
        calls: 0,
    });
    assert!(served.captured <= cap);
    served
}

fn fleet(limit: i64) -> Budget {
    Budget {
        id: BudgetId::new("fleet").unwrap(),
        scope: Scope::Fleet,
        ..budget(limit)
    }
}

#[test]
fn five_hundred_calls_without_a_limit_are_served_to_the_end_of_the_cap() {
    for (seed, cap) in [
        (1, 100_000_000),
        (2, 1_000_000_000),
        (3, 1_010_000_000),
        (4, 10_000_000_000),
    ] {
        let served = serve(seed, cap, CALL.into(), vec![budget(cap), fleet(cap * 3)]);
        let percent = |captured: i64| captured * 1_000 / cap;
        let first = served.at_first_refusal.expect("all were refused in the end");
        assert!(percent(served.captured) >= 990, "cap {cap}: {} served", served.captured);
        assert!(percent(first) >= 900, "cap {cap}: refused when {first} was served");
        // Two with the whole worst case held for each would fill the smallest of these caps.
        assert!(served.calls >= 20, "cap {cap}: {} calls", served.calls);
    }
}

/// The same calls with the whole worst case held for each: what the bounds that follow are for.
#[test]
fn a_fixed_bound_leaves_a_part_of_the_cap_unserved() {
    let cap = 100_000_000;
    let served = serve(1, cap, CALL.most().into(), vec![budget(cap)]);
    assert!(served.captured * 100 / cap < 90, "{} served", served.captured);
}
