//! What was taken out of the book and is not known to be posted.
//!
//! Its rows are saved with the book before the first of them is posted. Posted again after a crash they
//! have the same ids and the same bodies, so the ledger knows them (L6).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::burn::Charge;
use crate::domain::containment::hourly::PriceBasis;
use crate::domain::id::{AgentId, NameError, ReportId, ServiceId, TaskId};
use crate::domain::ledger::posting::{Attribution, Basis, Trust};
use crate::domain::money::Usd;
use crate::ledger::ReportRequest;

/// One charge on its way to the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owed {
    pub charge: Charge,
    /// When it was taken out, within the hour of its cell.
    pub occurred_at: Timestamp,
    /// How well the least known of the prices behind it was known then.
    pub prices: PriceBasis,
}

impl Owed {
    pub fn new(charge: Charge, prices: PriceBasis, now: Timestamp) -> Self {
        Self {
            occurred_at: occurs(charge.cell.hour, now),
            charge,
            prices,
        }
    }

    pub fn agent(&self) -> &AgentId {
        &self.charge.cell.agent
    }

    pub fn amount(&self) -> Usd {
        self.charge.amount
    }

    /// As the ledger takes it: our own observation, an estimate until the bill comes (C7).
    pub fn report(&self, account: &str) -> Result<ReportRequest, NameError> {
        let cell = &self.charge.cell;
        let hour = cell.hour.strftime("%Y-%m-%dT%H").to_string();
        let service = plain(&cell.service);
        let id = format!("fleet/{account}/{}/{service}/{hour}", self.charge.batch);
        let body = format!("{id}\0{}\0{}", cell.agent, self.charge.amount.nanos());
        let detail = serde_json::json!({
            "fleet": { "account": account, "hour": hour, "basis": "estimated", "prices": self.prices }
        });
        Ok(ReportRequest {
            report: ReportId::new(id)?,
            digest: Sha256::digest(body).into(),
            attribution: Attribution {
                service: Some(ServiceId::new(service)?),
                ..spend_of(&cell.agent)
            },
            amount: self.charge.amount,
            basis: Basis::Estimated,
            trust: Trust::Cloud,
            occurred_at: self.occurred_at,
            upstream_request: None,
            detail: Some(detail.to_string()),
        })
    }
}

/// When what was spent in an hour is said to have occurred: as late in it as is past.
pub(super) fn occurs(hour: Timestamp, now: Timestamp) -> Timestamp {
    let end = hour.checked_add(SignedDuration::from_millis(3_599_999));
    now.min(end.unwrap_or(hour)).max(hour)
}

/// What an agent's machines spend: of no task that it named.
pub(super) fn spend_of(agent: &AgentId) -> Attribution {
    Attribution {
        agent: agent.clone(),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: std::collections::BTreeMap::new(),
    }
}

/// A service's name as ids take it. They are ours, such as `AmazonEC2`; nothing else gets past a posting.
fn plain(service: &str) -> String {
    let plain: String = service
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(100)
        .collect();
    if plain.is_empty() { "fleet".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::burn::Cell;

    fn owed(service: &str, now: &str) -> Owed {
        let charge = Charge {
            cell: Cell {
                agent: AgentId::new("a").unwrap(),
                service: service.to_owned(),
                hour: "2026-11-20T14:00Z".parse().unwrap(),
            },
            amount: Usd::from_dollars(3),
            batch: 7,
        };
        Owed::new(charge, PriceBasis::Listed, now.parse().unwrap())
    }

    #[test]
    fn l6_a_row_is_the_same_report_however_often_it_is_posted() {
        let row = owed("AmazonEC2", "2026-11-20T14:31Z");
        let (one, two) = (row.report("123456789012").unwrap(), row.report("123456789012").unwrap());
        assert_eq!(one.report.as_str(), "fleet/123456789012/7/AmazonEC2/2026-11-20T14");
        assert_eq!(
            (&one.report, one.digest, one.occurred_at),
            (&two.report, two.digest, two.occurred_at)
        );
        let saved: Owed = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
        assert_eq!(saved, row);
        let mut other = row;
        other.charge.amount = Usd::from_dollars(4);
        assert_ne!(other.report("123456789012").unwrap().digest, one.digest);
        assert_eq!((one.trust, one.basis), (Trust::Cloud, Basis::Estimated));
    }

    #[test]
    fn it_occurs_in_the_hour_of_its_cell() {
        for (now, occurred) in [
            ("2026-11-20T14:31Z", "2026-11-20T14:31Z"),
            ("2026-11-20T15:00:01Z", "2026-11-20T14:59:59.999Z"),
            ("2026-11-20T13:00Z", "2026-11-20T14:00Z"),
        ] {
            assert_eq!(owed("x", now).occurred_at, occurred.parse().unwrap(), "{now}");
        }
    }

    #[test]
    fn any_service_has_an_id() {
        for service in ["", "Amazon Elastic (Compute) Cloud é", &"x".repeat(500)] {
            assert!(
                owed(service, "2026-11-20T14:31Z").report("123456789012").is_ok(),
                "{service}"
            );
        }
    }
}
