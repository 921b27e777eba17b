//! Holds end once (L3), postings are what their kind says (L1, L3), reports are unique (L6).

use std::collections::{HashMap, HashSet};

use super::{Desk, Findings, Promise, hold_name, line_name, nanos, posting_name};
use crate::domain::ledger::hold::{Hold, HoldState};
use crate::domain::ledger::posting::{Basis, Posting, PostingKind, Trust};

/// One billion dollars in nano-dollars, above which nothing is ever posted.
const ABSURD: i128 = 1_000_000_000 * 1_000_000_000;

pub(super) fn check_holds(desk: &Desk<'_>, findings: &mut Findings) {
    let unique: HashSet<_> = desk.parts.holds.iter().map(|hold| hold.id).collect();
    findings.check(
        unique.len() == desk.parts.holds.len(),
        Promise::L3,
        || "holds".to_owned(),
        || format!("{} rows share {} ids", desk.parts.holds.len(), unique.len()),
    );
    for hold in desk.parts.holds {
        let postings = desk.by_hold.get(&hold.id).map_or(&[][..], Vec::as_slice);
        let of = |kind: PostingKind| postings.iter().filter(|posting| posting.kind == kind).count();
        let (captures, unresolved, corrections) = (
            of(PostingKind::Capture),
            of(PostingKind::Unresolved),
            of(PostingKind::Correction),
        );
        let ended = hold.ended_at.is_some();
        let expected = match hold.state {
            HoldState::Open => !ended && postings.is_empty(),
            HoldState::Voided => ended && postings.is_empty(),
            HoldState::Captured => {
                let gone = captures == 0 && desk.may_be_rolled(hold);
                ended && (captures == 1 || gone) && captures == postings.len()
            }
            HoldState::Unresolved => {
                let gone = postings.is_empty() && desk.may_be_rolled(hold);
                ended && ((unresolved == 1 && corrections <= 1 && unresolved + corrections == postings.len()) || gone)
            }
        };
        findings.check(expected, Promise::L3, || hold_name(hold), || {
            format!(
                "is {:?} with {captures} captures, {unresolved} unresolved postings, {corrections} corrections and {} in all{}",
                hold.state,
                postings.len(),
                if ended { ", and has an end" } else { ", and has no end" },
            )
        });
        findings.check(
            nanos(hold.bound) >= 0,
            Promise::L3,
            || hold_name(hold),
            || "has a negative bound".to_owned(),
        );
        check_hold_lines(desk, hold, findings);
    }
}

fn check_hold_lines(desk: &Desk<'_>, hold: &Hold, findings: &mut Findings) {
    let unique: HashSet<_> = hold.lines.iter().collect();
    let once = unique.len() == hold.lines.len();
    findings.check(
        once,
        Promise::L3,
        || hold_name(hold),
        || "is on one line twice".to_owned(),
    );
    for key in &hold.lines {
        // A line of a hold that is over may be gone with its retention; an open one holds it there.
        let there = hold.state != HoldState::Open || desk.lines.contains_key(key);
        findings.check(
            there,
            Promise::L1,
            || hold_name(hold),
            || format!("is open on {}, which is not there", line_name(key)),
        );
    }
}

pub(super) fn check_postings(desk: &Desk<'_>, findings: &mut Findings) {
    let mut ids = HashSet::new();
    let mut reports = HashSet::new();
    let mut corrected = HashSet::new();
    let mut metered: HashMap<_, &Posting> = HashMap::new();
    for posting in desk.parts.postings {
        let name = || posting_name(posting);
        findings.check(ids.insert(posting.id), Promise::L1, name, || {
            "is there twice".to_owned()
        });
        if let Some(report) = &posting.report {
            let evidence = posting.trust > Trust::Agent;
            let key = (&posting.attribution.agent, evidence, report);
            findings.check(reports.insert(key), Promise::L6, name, || {
                format!("repeats the report {report}")
            });
        }
        if let Some(target) = posting.corrects {
            findings.check(corrected.insert(target), Promise::L3, name, || {
                format!("corrects {target} once more")
            });
        }
        if let (Basis::Metered, Some(request)) = (posting.basis, &posting.upstream_request) {
            metered.entry((&posting.attribution.agent, request)).or_insert(posting);
        }
        check_kind(desk, posting, findings);
    }
    for posting in desk.parts.postings {
        let Some(request) = &posting.upstream_request else {
            continue;
        };
        let first = metered.get(&(&posting.attribution.agent, request));
        let twice = posting.kind == PostingKind::Report
            && first.is_some_and(|first| first.id != posting.id && first.recorded_at < posting.recorded_at);
        findings.check(
            !twice,
            Promise::L6,
            || posting_name(posting),
            || format!("reports the request {request}, which was metered before"),
        );
    }
}

fn check_kind(desk: &Desk<'_>, posting: &Posting, findings: &mut Findings) {
    let name = || posting_name(posting);
    let amount = nanos(posting.amount);
    let correction = posting.kind == PostingKind::Correction;
    let sane = amount.abs() <= ABSURD && (amount >= 0 || correction);
    findings.check(sane, Promise::L1, name, || format!("has the amount {}", posting.amount));
    findings.check(posting.corrects.is_some() == correction, Promise::L1, name, || {
        format!("is a {:?} and corrects {:?}", posting.kind, posting.corrects)
    });
    let reports = posting.kind == PostingKind::Report;
    findings.check(posting.report.is_some() == reports, Promise::L6, name, || {
        format!("is a {:?} and has the report {:?}", posting.kind, posting.report)
    });
    let hold = posting.hold.and_then(|hold| desk.holds.get(&hold));
    match (posting.kind, hold) {
        (PostingKind::Unresolved, Some(hold)) => {
            let whole = hold.bound == posting.amount;
            findings.check(whole, Promise::L3, name, || {
                format!("is {} of a bound of {}", posting.amount, hold.bound)
            });
        }
        (PostingKind::Unresolved, None) => findings.add(Promise::L3, name(), "is unresolved without its hold"),
        _ => {}
    }
    if let Some(hold) = hold {
        let own = hold.attribution.agent == posting.attribution.agent;
        findings.check(own, Promise::L1, name, || {
            format!("ends a hold of {}", hold.attribution.agent)
        });
    }
    if let Some(target) = posting.corrects {
        match desk.postings.get(&target) {
            Some(target) => {
                // Evidence replaces a bound, or takes an agent's claim back, all of it.
                let claim = target.kind == PostingKind::Report && target.trust == Trust::Agent;
                let whole = claim && nanos(target.amount) == -amount && posting.trust.counts_on_fleet();
                findings.check(
                    target.kind == PostingKind::Unresolved || whole,
                    Promise::L3,
                    name,
                    || format!("is {amount} of a {:?} of {}", target.kind, target.amount),
                );
                let cost = nanos(target.amount) + amount;
                findings.check(cost >= 0, Promise::L1, name, || {
                    "makes what it corrects negative".to_owned()
                });
            }
            None => findings.add(Promise::L1, name(), format!("corrects {target}, which is not there")),
        }
    }
}

pub(super) fn check_entries(desk: &Desk<'_>, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for entry in desk.parts.entries {
        let name = || format!("entry of {} on {}", entry.posting, line_name(&entry.line));
        findings.check(seen.insert((entry.posting, &entry.line)), Promise::L1, name, || {
            "is there twice".to_owned()
        });
        findings.check(desk.lines.contains_key(&entry.line), Promise::L1, name, || {
            "is on no line".to_owned()
        });
        let Some(posting) = desk.postings.get(&entry.posting) else {
            findings.add(Promise::L1, name(), "has no posting");
            continue;
        };
        findings.check(entry.amount == posting.amount, Promise::L1, name, || {
            format!("is {} of a posting of {}", entry.amount, posting.amount)
        });
        let unresolved = match posting.kind {
            PostingKind::Unresolved => nanos(posting.amount),
            PostingKind::Correction => {
                let target = posting.corrects.and_then(|target| desk.postings.get(&target));
                let open = target.filter(|target| target.kind == PostingKind::Unresolved);
                -open.map_or(0, |target| nanos(target.amount))
            }
            PostingKind::Report | PostingKind::Capture => 0,
        };
        findings.check(nanos(entry.unresolved) == unresolved, Promise::L3, name, || {
            format!(
                "has {} unresolved of a {:?} of {}",
                entry.unresolved, posting.kind, posting.amount
            )
        });
        let weak = entry.line.agent.is_none() && !posting.trust.counts_on_fleet();
        findings.check(!weak, Promise::L1, name, || {
            format!("puts the word of {:?} on a fleet line", posting.trust)
        });
        let foreign = entry
            .line
            .agent
            .as_ref()
            .is_some_and(|agent| *agent != posting.attribution.agent);
        findings.check(!foreign, Promise::L1, name, || {
            format!("is spend of {}", posting.attribution.agent)
        });
    }
}
