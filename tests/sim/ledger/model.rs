//! What the callers know: every answer they were given, kept apart from the ledger, and what must be
//! true because of it. The auditor proves that the books agree with themselves; this proves that they
//! agree with what was promised.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use backstop::domain::id::{AgentId, EpochId, HoldId, PostingId, ReportId};
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::ledger::posting::{Posting, PostingKind, Trust};
use backstop::domain::money::Usd;
use backstop::ports::AuditView;

/// A report that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) digest: [u8; 32],
    pub(super) amount: Usd,
    pub(super) posting: Option<PostingId>,
    /// Somebody was told that it was posted just now; nobody else may be.
    pub(super) new: bool,
}

/// Whose report: of which agent, whether it is evidence, and its id.
pub(super) type Said = (AgentId, bool, ReportId);

/// What a caller last heard about its hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Admitted,
    /// The end was asked for and not acknowledged: it may have happened.
    MaybeCaptured(Usd),
    MaybeVoided,
    MaybeUnresolved,
    /// Handed over to an epoch without waiting: written, unless that epoch crashed.
    Later(Usd, EpochId),
    Captured(Usd),
    Voided,
    /// It had expired, or had been ended, when it was to be voided.
    Refused,
}

#[derive(Debug, Clone)]
pub(super) struct KnownHold {
    pub(super) bound: Usd,
    pub(super) heard: Heard,
}

/// How often things happened, to show that a run was worth something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts(pub(super) BTreeMap<&'static str, u64>);

impl Counts {
    pub(super) fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_insert(0) += 1;
    }

    pub(super) fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_insert(0) += count;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) reports: BTreeMap<Said, Acked>,
    pub(super) holds: BTreeMap<HoldId, KnownHold>,
    /// Frozen agents; the number rises at every change of the state, begun or done.
    pub(super) frozen: BTreeMap<AgentId, (bool, u64)>,
    /// Epochs that a crash ended.
    pub(super) crashed: BTreeSet<EpochId>,
    pub(super) violations: Vec<String>,
    pub(super) counts: Counts,
    /// Everything that was answered, folded: the same seed must give the same number.
    pub(super) trace: u64,
}

impl Model {
    pub(super) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(super) fn note(&mut self, what: &str) {
        for byte in what.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Whether the agent is frozen, for the whole of an operation if the number stays the same.
    pub(super) fn frozen(&self, agent: &AgentId) -> (bool, u64) {
        self.frozen.get(agent).copied().unwrap_or((false, 0))
    }

    /// A report was acknowledged. Of two requests with one id at a time, either may be answered first.
    pub(super) fn acked(&mut self, said: &Said, acked: Acked) {
        let report = &said.2;
        let first = self
            .reports
            .entry(said.clone())
            .or_insert(Acked { new: false, ..acked });
        let first_was = *first;
        first.new |= acked.new;
        if first_was.digest != acked.digest {
            self.violate(format!("L6: two bodies of report {report} were acknowledged"));
        } else if first_was.posting != acked.posting {
            self.violate(format!(
                "L6: report {report} was posted as {first_was:?} and as {acked:?}"
            ));
        } else if first_was.new && acked.new {
            self.violate(format!("L6: report {report} was posted again"));
        }
    }

    /// What must hold at any time: everything that was acknowledged is there, and once.
    pub(super) fn check(&mut self, view: &AuditView) {
        let mut found: HashMap<Said, Vec<&Posting>> = HashMap::new();
        let taken_back: BTreeSet<PostingId> = view.postings.iter().filter_map(|posting| posting.corrects).collect();
        for posting in view
            .postings
            .iter()
            .filter(|posting| posting.kind == PostingKind::Report)
        {
            if let Some(report) = &posting.report {
                let evidence = posting.trust > Trust::Agent;
                let said = (posting.attribution.agent.clone(), evidence, report.clone());
                found.entry(said).or_default().push(posting);
            }
        }
        let mut broken = Vec::new();
        for (said, postings) in &found {
            if postings.len() > 1 {
                broken.push(format!("L6: report {said:?} has {} postings", postings.len()));
            }
            // One expense counts once: a claim stands unless evidence came under its id.
            let (agent, evidence, report) = said;
            let proven = found.contains_key(&(agent.clone(), true, report.clone()));
            for posting in postings {
                if taken_back.contains(&posting.id) != (!evidence && proven) {
                    broken.push(format!("L6: report {said:?} (proven: {proven}) stands wrongly"));
                }
            }
        }
        for (said, acked) in &self.reports {
            let (agent, evidence, report) = said;
            match found.get(said).and_then(|postings| postings.first()) {
                // Evidence was there before the claim, which is known by it.
                None if !evidence && found.contains_key(&(agent.clone(), true, report.clone())) => {}
                None => broken.push(format!("L5: report {said:?} was acknowledged and is not there")),
                Some(posting) if posting.amount != acked.amount => {
                    broken.push(format!(
                        "L5: report {report} said {}, and {} is there",
                        acked.amount, posting.amount
                    ));
                }
                Some(_) => {}
            }
        }
        let states: HashMap<HoldId, HoldState> = view.holds.iter().map(|hold| (hold.id, hold.state)).collect();
        for hold in &view.holds {
            if let Some(known) = self.holds.get(&hold.id).filter(|known| known.bound != hold.bound) {
                broken.push(format!(
                    "L3: hold {} was granted at {} and holds {}",
                    hold.id, known.bound, hold.bound
                ));
            }
        }
        let net = net_by_hold(&view.postings);
        for (id, known) in &self.holds {
            let net = net.get(id).copied().unwrap_or(Usd::ZERO);
            let verdict = match (known.heard, states.get(id)) {
                (_, None) => Err("is not there"),
                (Heard::Captured(cost), Some(HoldState::Captured | HoldState::Unresolved)) if net == cost => Ok(()),
                (Heard::Captured(_), _) => Err("was captured by word and not by the books"),
                (Heard::Voided, Some(HoldState::Voided)) if net.is_zero() => Ok(()),
                (Heard::Voided, _) => Err("was voided by word and not by the books"),
                (_, Some(HoldState::Open)) if net.is_zero() => Ok(()),
                (_, Some(HoldState::Unresolved)) if net == known.bound => Ok(()),
                (Heard::MaybeCaptured(cost), Some(HoldState::Captured | HoldState::Unresolved)) if net == cost => {
                    Ok(())
                }
                (Heard::Later(cost, _), Some(HoldState::Captured | HoldState::Unresolved)) if net == cost => Ok(()),
                (Heard::MaybeVoided, Some(HoldState::Voided)) if net.is_zero() => Ok(()),
                _ => Err("ended in a way that nobody asked for"),
            };
            if let Err(why) = verdict {
                broken.push(format!(
                    "L3: hold {id} ({known:?}) {why}: {:?}, net {net}",
                    states.get(id)
                ));
            }
        }
        // Never answered: nobody captured them, so they are void, open, or charged at their bounds.
        for hold in view.holds.iter().filter(|hold| !self.holds.contains_key(&hold.id)) {
            let net = net.get(&hold.id).copied().unwrap_or(Usd::ZERO);
            let fine = match hold.state {
                HoldState::Open | HoldState::Voided => net.is_zero(),
                HoldState::Unresolved => net == hold.bound,
                HoldState::Captured => false,
            };
            if !fine {
                broken.push(format!(
                    "L3: hold {} was never answered, and is {:?} at {net}",
                    hold.id, hold.state
                ));
            }
        }
        self.violations.extend(broken);
    }

    /// What must hold when all is over: no hold is open, and those of crashed epochs that nobody ended
    /// are charged at their bounds.
    pub(super) fn check_end(&mut self, view: &AuditView) {
        let mut broken = Vec::new();
        let net = net_by_hold(&view.postings);
        for hold in &view.holds {
            if hold.state == HoldState::Open {
                broken.push(format!("L3: hold {} of epoch {} is open for ever", hold.id, hold.epoch));
            }
            let known = self.holds.get(&hold.id);
            if let Some(KnownHold {
                heard: Heard::Later(cost, epoch),
                ..
            }) = known
                && !self.crashed.contains(epoch)
                && net.get(&hold.id) != Some(cost)
            {
                broken.push(format!(
                    "L3: the capture of hold {} at {cost} was handed over to epoch {epoch} and is lost",
                    hold.id
                ));
            }
            let is_left = known.is_some_and(|known| known.heard == Heard::Admitted);
            if is_left && hold.state != HoldState::Unresolved {
                let crashed = self.crashed.contains(&hold.epoch);
                broken.push(format!(
                    "L3: hold {} was left (crash: {crashed}) and is {:?}",
                    hold.id, hold.state
                ));
            }
        }
        self.violations.extend(broken);
    }
}

/// What each hold cost in the end: its posting and every correction of it.
fn net_by_hold(postings: &[Posting]) -> HashMap<HoldId, Usd> {
    let owner: HashMap<PostingId, HoldId> = postings
        .iter()
        .filter_map(|posting| posting.hold.map(|hold| (posting.id, hold)))
        .collect();
    let mut net: HashMap<HoldId, Usd> = HashMap::new();
    for posting in postings {
        let corrected = posting.corrects.and_then(|target| owner.get(&target).copied());
        if let Some(hold) = posting.hold.or(corrected) {
            let sum = net.entry(hold).or_insert(Usd::ZERO);
            *sum = sum.saturating_add(posting.amount);
        }
    }
    net
}
