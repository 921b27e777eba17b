//! The budgets in force, and which lines a call or report belongs to.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::domain::budget::{Budget, lines_for};
use crate::domain::id::BudgetId;
use crate::domain::ledger::batch::Op;
use crate::domain::ledger::line::{LineRule, LineSpec, Scope};
use crate::domain::ledger::posting::{Attribution, Trust};
use crate::domain::window::WindowError;

#[derive(Debug)]
struct InForce {
    generation: u64,
    budgets: Vec<Budget>,
}

/// The current budgets; swapped whole at a reload, so that one call never sees half of two configs.
#[derive(Debug)]
pub(super) struct Budgets {
    current: ArcSwap<InForce>,
}

impl Budgets {
    pub(super) fn new(budgets: Vec<Budget>) -> Self {
        Self {
            current: ArcSwap::from_pointee(InForce { generation: 1, budgets }),
        }
    }

    /// Puts others in force. A waiter that was reckoned under an older generation is reckoned again.
    pub(super) fn replace(&self, budgets: Vec<Budget>) {
        self.current.rcu(|old| {
            Arc::new(InForce {
                generation: old.generation + 1,
                budgets: budgets.clone(),
            })
        });
    }

    pub(super) fn generation(&self) -> u64 {
        self.current.load().generation
    }

    pub(super) fn has(&self, budget: &BudgetId) -> bool {
        self.current.load().budgets.iter().any(|known| known.id == *budget)
    }

    /// The rule of a budget, if it is in force.
    pub(super) fn rule(&self, budget: &BudgetId) -> Option<LineRule> {
        let current = self.current.load();
        current
            .budgets
            .iter()
            .find(|known| known.id == *budget)
            .map(Budget::rule)
    }

    /// The lines that spend counts on at `at`, and the generation that says so.
    pub(super) fn specs(
        &self,
        spend: &Attribution,
        trust: Trust,
        at: Timestamp,
    ) -> Result<(Vec<LineSpec>, u64), WindowError> {
        let current = self.current.load();
        Ok((lines_for(&current.budgets, spend, trust, at)?, current.generation))
    }

    /// The names that they add this spend up by, where whoever spends chooses them; each once.
    pub(super) fn chosen_names(&self, spend: &Attribution) -> BTreeSet<(Scope, String)> {
        let current = self.current.load();
        current
            .budgets
            .iter()
            .filter_map(|budget| budget.chosen_name(spend))
            .collect()
    }

    /// What writes the rules in force into the live lines.
    ///
    /// A budget that vanished from the config needs no operation: its lines stay as they are, nothing
    /// new is held or posted on them since no call selects them any more, and holds that are open on
    /// them still settle there. What they did before stays on record (L1), and comes into force again
    /// if the budget comes back.
    pub(super) fn rule_ops(&self) -> Vec<Op> {
        let rule = |budget: &Budget| Op::SetRule {
            budget: budget.id.clone(),
            rule: budget.rule(),
            after: None,
        };
        self.current.load().budgets.iter().map(rule).collect()
    }
}
