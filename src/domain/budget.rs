//! A budget: a rule in the config that says whose spend is added up, over which window, up to what.

use globset::GlobSet;

use super::id::{BudgetId, LabelKey};
use super::ledger::line::{Response, Scope};
use super::money::Usd;
use super::window::Window;

/// A validated budget.
#[derive(Debug, Clone)]
pub struct Budget {
    pub id: BudgetId,
    pub scope: Scope,
    /// For the label scope: which label's values are added up apart.
    pub label: Option<LabelKey>,
    pub selector: Selector,
    pub window: Window,
    pub limit: Usd,
    pub alert_at: Vec<u16>,
    pub response: Response,
}

/// To whom a budget applies. An empty set selects everything; sets are joined by *and*.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    pub agents: Option<GlobSet>,
    pub models: Option<GlobSet>,
    pub tools: Option<GlobSet>,
    /// Every one of these labels must be present and match.
    pub labels: Vec<(LabelKey, GlobSet)>,
}
