//! Random budgets, small enough that the agents crowd each other.

use backstop::domain::budget::{Budget, Selector};
use backstop::domain::id::BudgetId;
use backstop::domain::ledger::line::{Response, Scope};
use backstop::domain::money::Usd;
use backstop::domain::window::Window;

use crate::rng::Rng;

/// The largest bound that a hold of the simulation has.
pub(super) const MAX_BOUND: i64 = 60;

fn hour() -> Window {
    Window::Hour {
        timezone: "UTC".to_owned(),
    }
}

fn budget(name: &str, scope: Scope, window: Window, limit: i64) -> Budget {
    Budget {
        id: BudgetId::new(name).unwrap(),
        scope,
        label: None,
        selector: Selector::default(),
        window,
        limit: Usd::from_nanos(limit),
        alert_at: vec![50, 80],
        response: Response::Pause,
    }
}

/// A budget by this name covers every agent for all time, in every run: nothing is uncovered.
pub(super) const ALWAYS: &str = "task-total";

/// The budgets of a run.
pub(super) fn draw(rng: &mut Rng) -> Vec<Budget> {
    let mut budgets = vec![budget(ALWAYS, Scope::Task, Window::Total, rng.range(2_000, 20_000))];
    if rng.chance(80) {
        budgets.push(budget("fleet-hour", Scope::Fleet, hour(), rng.range(400, 5_000)));
    }
    if rng.chance(60) {
        budgets.push(budget("agent-hour", Scope::Agent, hour(), rng.range(200, 2_500)));
    }
    if rng.chance(60) {
        let rolling = Window::Rolling {
            length_s: 40,
            bucket_s: 10,
        };
        budgets.push(budget("agent-rolling", Scope::Agent, rolling, rng.range(80, 400)));
    }
    budgets
}

/// The same budgets after somebody changed the config: limits up and down, and now and then one of them
/// is gone.
pub(super) fn change(budgets: &[Budget], rng: &mut Rng) -> Vec<Budget> {
    let mut changed = budgets.to_vec();
    for budget in &mut changed {
        if rng.chance(50) {
            let nanos = budget.limit.nanos() * rng.range(40, 220) / 100;
            budget.limit = Usd::from_nanos(nanos.max(MAX_BOUND / 2));
        }
    }
    if rng.chance(15) && changed.len() > 1 {
        changed.pop();
    }
    changed
}
