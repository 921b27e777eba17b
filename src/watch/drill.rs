//! Opening a canary drill: a containment that is narrowed to marked things, of an agent that goes on working.
//!
//! The agent's state is not touched by it. That there is one containment an agent keeps two drills, or a drill
//! and a containment, from running at once; a containment in earnest takes a drill over, as
//! [`change`](crate::domain::judgement::change) has it.

use super::Watch;
use super::draft::Draft;
use super::lifecycle::{LifecycleError, LifecycleRejection};
use crate::domain::agent::AgentStatus;
use crate::domain::containment::canary::Canary;
use crate::domain::containment::state::{Containment, Mode};
use crate::domain::id::AgentId;

impl Watch {
    /// Begins a canary drill. The kill switch has it from here.
    pub async fn drill(&self, agent: &AgentId, canary: &Canary) -> Result<Containment, LifecycleError> {
        self.again_on_conflict(|| self.open_drill(agent, canary)).await
    }

    async fn open_drill(&self, agent: &AgentId, canary: &Canary) -> Result<Containment, LifecycleError> {
        let standing = self.standing(agent).await?;
        if standing.drilled().is_some() {
            return Err(LifecycleRejection::Drilled.into());
        }
        match standing.state.status {
            AgentStatus::Contained => return Err(LifecycleRejection::NoDrill.into()),
            AgentStatus::Restoring => return Err(LifecycleRejection::Restoring.into()),
            AgentStatus::Active | AgentStatus::Paused if standing.held().is_some() => {
                return Err(LifecycleRejection::NoDrill.into());
            }
            AgentStatus::Active | AgentStatus::Paused => {}
        }
        let names: Vec<String> = canary.assets.iter().map(ToString::to_string).collect();
        let (mut ground, id) = self.ground(&canary.by, "a canary drill");
        ground.evidence = serde_json::json!({ "drill": canary.drill, "canaries": names });
        let generation = standing.generation.saturating_add(1);
        let opened = Containment {
            canary: Some(canary.clone()),
            ..Containment::opened(id, agent.clone(), generation, Mode::Contain, &ground.why, ground.now)
        };
        let mut draft = Draft {
            news: true,
            ..Draft::default()
        };
        let text = format!("a canary drill begins: {} is stopped and put back", names.join(", "));
        draft.audit(&ground, "canary", Some(agent), &text);
        draft.judgement.open.push(opened.clone());
        self.settle(draft).await?;
        Ok(opened)
    }
}
