//! What may stand between an agent and a bill.

use std::time::Duration;

use serde::Serialize;

use crate::cloud::rehearsal::Rehearsal;
use crate::cloud::rehearsal::Verb;
use crate::cloud::rehearsal::incident::Incident;
use crate::domain::containment::deny;
use crate::ports::Clock;

/// How often it is looked whether the bill has crossed the limit: by the true bill, which AWS sees later.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Defence {
    Nothing,
    Budgets(Budgets),
    Backstop { poll_every: Duration },
}

/// AWS Budgets with an action on the actual cost.
///
/// Its cost data is 8 to 12 hours late (documented: AWS Cost Management User Guide, "Best practices for AWS
/// Budgets", read 2026-11). An action then attaches a policy that denies, and may run a document of Systems
/// Manager that stops instances. That one names its instances when the action is made, so it stops nothing
/// that an agent launches afterwards (documented: `SsmActionDefinition.InstanceIds` in the API reference);
/// here it is taken to stop every machine that runs, which is more than it can do. Nothing that AWS Budgets
/// does ends a task, caps a group or a function, or deletes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Budgets {
    pub hours_late: u32,
    /// Machines are stopped; otherwise only the policy is attached.
    pub stops_machines: bool,
}

impl Defence {
    /// All that are compared, from the worst.
    pub fn all() -> Vec<Self> {
        let budgets = |hours_late, stops_machines| {
            Self::Budgets(Budgets {
                hours_late,
                stops_machines,
            })
        };
        let backstop = |seconds| Self::Backstop {
            poll_every: Duration::from_secs(seconds),
        };
        vec![
            Self::Nothing,
            budgets(12, false),
            budgets(12, true),
            budgets(8, false),
            budgets(8, true),
            backstop(60),
            backstop(15),
        ]
    }

    /// For a person.
    pub fn name(&self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Budgets(budgets) => {
                let also = if budgets.stops_machines {
                    " and stop machines"
                } else {
                    ""
                };
                format!("AWS Budgets, {} h late: policy{also}", budgets.hours_late)
            }
            Self::Backstop { poll_every } => format!("Backstop, a look every {} s", poll_every.as_secs()),
        }
    }
}

impl Budgets {
    /// Waits for the limit and acts as late as AWS does, once.
    pub async fn act(&self, incident: &Incident, cloud: &Rehearsal, clock: &dyn Clock) {
        while cloud.spent() < incident.limit_usd {
            clock.sleep(LOOK_EVERY).await;
        }
        clock.sleep(Duration::from_hours(u64::from(self.hours_late))).await;
        cloud.set_document(&incident.principal(), Some(deny::DOCUMENT));
        if self.stops_machines {
            for id in cloud.up() {
                // One that is only starting refuses, as it does to the document.
                let _ = cloud.someone(Verb::Stop, &id);
            }
        }
    }
}
