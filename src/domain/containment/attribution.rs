//! Attribution: whether everything that the agent's principals made is known by now (C3).
//!
//! A runaway agent launches without its tag, and then only the cloud's record of calls says whose a machine
//! is. The record comes late: CloudTrail tells of a call about five minutes after it on average, and mostly
//! within 15, which AWS does not guarantee. So nobody can claim that all of the agent's things are halted
//! before the record was **really read** up to a time that lies that much after the agent could last make
//! something: its principals' last deny, or now while one of them is not denied.
//!
//! A clock that has passed that time proves nothing by itself: while the look-ups fail or fall behind, the
//! attribution stays *pending*, by region, with what is wrong. It does not stay so for ever: a region whose
//! record is not read within `attribution_patience` more is *still burning*, by name, for as long as that is
//! so. Neither is a sign of unrest, since nothing that is known runs there; what turns up later disturbs the
//! containment as anything does that is new (C2).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::coverage::CREATORS;
use super::plan::{Plan, PlanRules};
use super::state::{Containment, Mode, StepClass, StillBurning};
use super::target::Region;

/// How far the record of calls of one region was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the record held then is known.
    pub until: Option<Timestamp>,
    /// The look-ups fail since then, and why.
    pub failing: Option<(Timestamp, String)>,
}

/// The same of every region that somebody reads.
pub type Readings = BTreeMap<Region, Reading>;

/// What is not known yet of who made what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// What has to be read for it to be known, while something of it is not.
    pub pending_until: Option<Timestamp>,
    /// The regions that are behind, and why.
    pub pending: Vec<StillBurning>,
    /// Those that are so for too long, or that nobody reads.
    pub lost: Vec<StillBurning>,
}

/// Judges it for one sweep.
pub fn attribution(
    containment: &Containment,
    plan: &Plan,
    readings: &Readings,
    rules: &PlanRules,
    now: Timestamp,
) -> Attribution {
    let mut found = Attribution::default();
    // Where machines were looked for, some are found by their creator alone.
    if containment.mode != Mode::Contain || plan.regions.is_empty() {
        return found;
    }
    let Some(lag) = rules.attribution_lag else {
        found.lost.push(nobody_reads());
        return found;
    };
    let due = last_free(containment, plan, now)
        .checked_add(lag)
        .unwrap_or(Timestamp::MAX);
    let is_late = now.duration_since(due) >= rules.attribution_patience;
    for region in plan.regions.iter().map(|plan| &plan.region) {
        let reading = readings.get(region);
        if reading
            .and_then(|reading| reading.until)
            .is_some_and(|until| until >= due)
        {
            continue;
        }
        let line = behind(region, reading, is_late);
        if is_late {
            found.lost.push(line);
        } else {
            found.pending.push(line);
        }
    }
    found.pending_until = (!found.pending.is_empty()).then_some(due);
    found
}

/// When the agent's principals could last make something, as far as we see.
fn last_free(containment: &Containment, plan: &Plan, now: Timestamp) -> Timestamp {
    if plan.principals.changes_something() {
        return now;
    }
    let denied = containment.coverage.times.get(&StepClass::Deny);
    denied.map_or(containment.opened_at, |span| span.last.max(containment.opened_at))
}

fn behind(region: &Region, reading: Option<&Reading>, is_late: bool) -> StillBurning {
    let read = match reading.and_then(|reading| reading.until) {
        Some(until) => format!("the record of who made what is read up to {until:.0}"),
        None => "the record of who made what was not read yet".to_owned(),
    };
    let failing = match reading.and_then(|reading| reading.failing.as_ref()) {
        Some((since, why)) => format!("; it cannot be read since {since:.0}: {why}"),
        None => String::new(),
    };
    let tail = if is_late {
        "; what the agent made there without its tag and its instance profile is not found"
    } else {
        ""
    };
    StillBurning {
        resource: format!("{CREATORS}:{region}"),
        why: format!("{read}{failing}{tail}"),
    }
}

/// The gap that a report must not hide (C3).
fn nobody_reads() -> StillBurning {
    StillBurning {
        resource: CREATORS.to_owned(),
        why: "who created a machine is not known here: one that the agent started without the ownership tag and \
              without its instance profile is not looked for"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::plan::{PlannedDeny, RegionPlan};
    use super::super::state::Span;
    use super::super::target::Principal;
    use super::super::tests::model;
    use super::*;

    const OPENED: i64 = 1_000_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(OPENED + 60 * minute).unwrap()
    }

    fn region(name: &str) -> Region {
        Region(name.to_owned())
    }

    fn rules() -> PlanRules {
        PlanRules {
            attribution_lag: Some(SignedDuration::from_mins(15)),
            attribution_patience: SignedDuration::from_mins(30),
            ..PlanRules::default()
        }
    }

    /// A containment that was opened at minute 0, whose agent was denied at minute 2.
    fn denied() -> Containment {
        let mut containment = model::containment(1);
        containment.mode = Mode::Contain;
        containment.opened_at = at(0);
        let span = Span {
            first: at(1),
            last: at(2),
        };
        containment.coverage.times.insert(StepClass::Deny, span);
        containment
    }

    fn looked_at(names: &[&str]) -> Plan {
        Plan {
            regions: names.iter().map(|name| RegionPlan::empty(region(name))).collect(),
            ..Plan::default()
        }
    }

    fn read(name: &str, until: Option<i64>) -> (Region, Reading) {
        let reading = Reading {
            until: until.map(at),
            failing: None,
        };
        (region(name), reading)
    }

    #[test]
    fn c3_a_clock_that_passes_proves_nothing_while_the_record_is_not_read() {
        let (containment, plan) = (denied(), looked_at(&["a", "b"]));
        let judged = |readings: &Readings, now| attribution(&containment, &plan, readings, &rules(), at(now));
        let behind = Readings::from([read("a", Some(20)), read("b", Some(16))]);
        let found = judged(&behind, 30);
        assert_eq!(
            found.pending_until,
            Some(at(17)),
            "two minutes until the deny, and the lag"
        );
        assert_eq!(found.pending.len(), 1);
        assert_eq!(found.pending[0].resource, "creators:b");
        assert!(found.lost.is_empty());
        // Read up to there, it is known, however early or late that is.
        for until in [17, 40] {
            let readings = Readings::from([read("a", Some(17)), read("b", Some(until))]);
            assert_eq!(judged(&readings, 60), Attribution::default());
        }
    }

    #[test]
    fn c3_what_cannot_be_read_is_said_and_does_not_stay_pending_for_ever() {
        let (containment, plan) = (denied(), looked_at(&["a"]));
        let mut readings = Readings::from([read("a", Some(5))]);
        readings.get_mut(&region("a")).unwrap().failing = Some((at(6), "AccessDenied".to_owned()));
        let judged = |now| attribution(&containment, &plan, &readings, &rules(), at(now));
        let pending = judged(46);
        assert_eq!((pending.pending.len(), pending.lost.len()), (1, 0));
        assert!(pending.pending[0].why.contains("AccessDenied"), "{:?}", pending.pending);
        let lost = judged(47);
        assert_eq!((lost.pending_until, lost.pending.len(), lost.lost.len()), (None, 0, 1));
        assert!(lost.lost[0].why.contains("AccessDenied") && lost.lost[0].why.contains("is not found"));
        // A region that nobody reads at all is the same.
        let unread = attribution(&containment, &plan, &Readings::new(), &rules(), at(60));
        assert_eq!(unread.lost[0].resource, "creators:a");
    }

    #[test]
    fn while_a_principal_is_not_denied_what_it_makes_is_still_to_come() {
        let (mut containment, mut plan) = (denied(), looked_at(&["a"]));
        plan.principals.denies.push(PlannedDeny {
            principal: Principal::Role("arn:aws:iam::123456789012:role/agents/a".to_owned()),
            attach: false,
            put_back: true,
            why: String::new(),
        });
        let readings = Readings::from([read("a", Some(90))]);
        let found = attribution(&containment, &plan, &readings, &rules(), at(90));
        assert_eq!(found.pending_until, Some(at(105)));
        plan.principals.denies.clear();
        assert_eq!(
            attribution(&containment, &plan, &readings, &rules(), at(90)),
            Attribution::default()
        );
        // Where another containment denied them, nothing was made since this one was opened.
        containment.coverage.times.clear();
        let early = Readings::from([read("a", Some(14))]);
        let found = attribution(&containment, &plan, &early, &rules(), at(20));
        assert_eq!(found.pending_until, Some(at(15)));
    }

    #[test]
    fn nobody_reads_the_record_for_a_revoke() {
        let mut containment = denied();
        containment.mode = Mode::Revoke;
        let none = Readings::new();
        assert_eq!(
            attribution(&containment, &looked_at(&["a"]), &none, &rules(), at(60)),
            Attribution::default()
        );
        containment.mode = Mode::Contain;
        assert_eq!(
            attribution(&containment, &looked_at(&[]), &none, &rules(), at(60)),
            Attribution::default()
        );
        let unread = PlanRules::default();
        let found = attribution(&containment, &looked_at(&["a"]), &none, &unread, at(1));
        assert_eq!(found.lost[0].resource, CREATORS);
    }
}
