//! Whose spend a fleet line is: kept added up by agent, since entries are indexed by posting.

use std::collections::HashMap;

use jiff::Timestamp;

use super::SqliteStore;
use super::codec;
use super::save::line_id;
use super::statement::Db;
use crate::domain::id::AgentId;
use crate::domain::ledger::batch::Delta;
use crate::domain::ledger::line::LineKey;
use crate::domain::money::Usd;
use crate::ports::StoreError;

/// Adds the fleet's entries of a commit.
pub(super) fn add(db: &Db<'_>, delta: &Delta, ids: &HashMap<LineKey, i64>) -> Result<(), StoreError> {
    if delta.entries.iter().all(|entry| entry.line.agent.is_some()) {
        return Ok(());
    }
    let agents: HashMap<_, _> = delta
        .postings
        .iter()
        .map(|posting| (posting.id, &posting.attribution.agent))
        .collect();
    let mut sums: HashMap<(i64, i64, &AgentId), (Usd, Usd)> = HashMap::new();
    for entry in delta.entries.iter().filter(|entry| entry.line.agent.is_none()) {
        let Some(agent) = agents.get(&entry.posting) else {
            continue;
        };
        let bucket = entry.bucket.map_or(0, codec::micros);
        let sum = sums.entry((line_id(ids, &entry.line)?, bucket, agent)).or_default();
        sum.0 = sum.0.saturating_add(entry.amount);
        sum.1 = sum.1.saturating_add(entry.unresolved);
    }
    let mut add = db.statement(
        "adding up the fleet's spenders",
        "INSERT INTO fleet_share (line, bucket, agent, amount, unresolved) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (line, bucket, agent) DO UPDATE SET \
         amount = CAST(fleet_share.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(fleet_share.unresolved + excluded.unresolved AS INTEGER)",
    )?;
    for ((line, bucket, agent), (amount, unresolved)) in sums {
        add.int(line)
            .int(bucket)
            .text(agent.as_str())
            .usd(amount)
            .usd(unresolved)
            .run()?;
    }
    Ok(())
}

/// Drops the shares in buckets that have left their window.
pub(super) fn drop_buckets(db: &Db<'_>, dropped: &[(i64, Timestamp)]) -> Result<(), StoreError> {
    let mut delete = db.statement(
        "dropping the fleet's spenders",
        "DELETE FROM fleet_share WHERE line = ?1 AND bucket = ?2",
    )?;
    for (line, bucket) in dropped {
        delete.int(*line).time(*bucket).run()?;
    }
    Ok(())
}

/// What each agent spent on a fleet line, without what is unresolved, the largest first. A line of one
/// agent is that agent's alone.
pub(super) async fn spenders(
    store: &SqliteStore,
    key: &LineKey,
    limit: u32,
) -> Result<Vec<(AgentId, Usd)>, StoreError> {
    let key = key.clone();
    let context = "reading the spenders of a line";
    let mut found: Vec<(AgentId, Usd)> = store
        .read(context, move |db| {
            let (budget, agent, value, start, end) = codec::line_key(&key);
            db.statement(
                context,
                "SELECT s.agent, sum(s.amount / 1000000000) - sum(s.unresolved / 1000000000), \
                 sum(s.amount % 1000000000) - sum(s.unresolved % 1000000000) \
                 FROM line l CROSS JOIN fleet_share s ON s.line = l.id \
                 WHERE l.budget = ?1 AND l.agent = ?2 AND l.value = ?3 AND l.window_start = ?4 AND l.window_end = ?5 \
                 GROUP BY s.agent UNION ALL \
                 SELECT l.agent, l.posted / 1000000000 - l.unresolved / 1000000000, \
                 l.posted % 1000000000 - l.unresolved % 1000000000 FROM line l \
                 WHERE l.budget = ?1 AND l.agent = ?2 AND l.value = ?3 AND l.window_start = ?4 AND l.window_end = ?5 \
                 AND l.agent <> ''",
            )?
            .text(budget)
            .text(agent)
            .text(value)
            .int(start)
            .int(end)
            .rows("a spender", |columns| Ok((columns.name()?, columns.split_usd()?)))
        })
        .await?;
    found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}
