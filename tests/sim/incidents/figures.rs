//! What incidents cost, by the rehearsal's own bill.

use std::time::Duration;

use backstop::app::incidents::defence::{Budgets, Defence};
use backstop::app::incidents::{Outcome, Table, run};
use backstop::cloud::rehearsal::incident::{FIVE_HUNDRED_SERVICES, Incident, NETWORK_SCAN};
use backstop::domain::money::Usd;

/// From a look that shows too much to the last machine that is down: calls, two seconds between sweeps while
/// some are only starting, and the eight that they take to stop.
const BRAKING: i64 = 30;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn at(usd_per_hour: Usd, seconds: i64) -> Usd {
    Usd::from_nanos(usd_per_hour.nanos() / 3_600 * seconds)
}

fn backstop(incident: &Incident, seconds: u64) -> Outcome {
    let poll_every = Duration::from_secs(seconds);
    run(incident, Defence::Backstop { poll_every }).unwrap()
}

fn budgets(incident: &Incident, hours_late: u32, stops_machines: bool) -> Usd {
    let budgets = Budgets {
        hours_late,
        stops_machines,
    };
    run(incident, Defence::Budgets(budgets)).unwrap().lost
}

/// The limit is passed by no more than burns while the brake is pulled, and by what nobody can stop.
fn assert_bounded(incident: &Incident, outcome: &Outcome, poll: i64) {
    let stopped = outcome.stopped.as_ref().unwrap();
    let braking = at(stopped.peak, poll + BRAKING);
    let bound = incident.limit_usd.saturating_add(braking);
    assert!(
        stopped.lost_by_then <= bound,
        "{} was lost until it was contained, {bound} is allowed: {outcome:#?}",
        stopped.lost_by_then
    );
    let day = i64::from(incident.hours) * 3_600;
    let afterwards = at(outcome.burn_after, day);
    // What nobody is known to have made is found when the record tells of it, five minutes after.
    let late = at(stopped.peak, 600).nanos() / 10;
    let bound = stopped
        .lost_by_then
        .saturating_add(afterwards)
        .saturating_add(Usd::from_nanos(late));
    assert!(outcome.lost <= bound, "{} was lost, {bound} is allowed", outcome.lost);
}

#[test]
fn five_hundred_services_against_nothing_and_aws_budgets() {
    let incident = Incident::parse(FIVE_HUNDRED_SERVICES).unwrap();
    let nothing = run(&incident, Defence::Nothing).unwrap().lost;
    assert!(incident.is_as_published(nothing), "{nothing}");
    // All 500 were up before anybody acted, so a policy saves nothing; and what a group or a service keeps
    // up comes back.
    for (hours_late, stops_machines) in [(12, false), (12, true), (8, false), (8, true)] {
        let lost = budgets(&incident, hours_late, stops_machines);
        let saved = nothing.nanos().abs_diff(lost.nanos());
        assert!(saved < usd("1").nanos().unsigned_abs(), "{nothing} {lost}");
    }
}

#[test]
fn five_hundred_services_against_backstop() {
    let incident = Incident::parse(FIVE_HUNDRED_SERVICES).unwrap();
    let outcomes = [15, 60].map(|poll| backstop(&incident, poll));
    for (outcome, poll) in outcomes.iter().zip([15, 60]) {
        assert_bounded(&incident, outcome, poll);
        assert!(
            outcome.lost.nanos() < incident.published.usd.nanos() / 100,
            "{outcome:#?}"
        );
        let stopped = outcome.stopped.as_ref().unwrap();
        assert_eq!(outcome.burn_after, Usd::ZERO, "all of it can be stopped");
        assert!(outcome.played.refused > outcome.played.made, "{outcome:#?}");
        // Our own accrual is never below the bill: it charges up to the look that does not show a thing.
        assert!(stopped.posted >= outcome.lost, "{} {}", stopped.posted, outcome.lost);
    }
    assert!(
        outcomes[0].lost < outcomes[1].lost,
        "the sooner it looks, the less is lost"
    );
    let table = Table {
        outcomes: outcomes.into(),
        incident,
    };
    eprint!("{}", table.text());
}

#[test]
fn a_network_scan_against_nothing_and_aws_budgets() {
    let incident = Incident::parse(NETWORK_SCAN).unwrap();
    let nothing = run(&incident, Defence::Nothing).unwrap().lost;
    assert!(incident.is_as_published(nothing), "{nothing}");
    let (late, soon) = (budgets(&incident, 12, false), budgets(&incident, 8, false));
    let (late_stop, soon_stop) = (budgets(&incident, 12, true), budgets(&incident, 8, true));
    assert!(nothing > late && late > late_stop && late > soon && soon > soon_stop && late_stop > soon_stop);
    assert!(soon_stop > usd("500"), "{soon_stop}: eight hours are long");
}

#[test]
fn a_network_scan_against_backstop() {
    let incident = Incident::parse(NETWORK_SCAN).unwrap();
    for poll in [15_u32, 60] {
        let outcome = backstop(&incident, u64::from(poll));
        assert_bounded(&incident, &outcome, i64::from(poll));
        assert!(
            outcome.lost < usd("65.31"),
            "less than 1 % of the bill: {}",
            outcome.lost
        );
        assert!(outcome.played.refused > outcome.played.made);
        // What only deletion would stop stays, is named, and is what still costs.
        let stopped = outcome.stopped.unwrap();
        let burning = |kind: &str| {
            stopped
                .still_burning
                .iter()
                .filter(|line| line.resource.starts_with(kind))
                .count()
        };
        let (balancers, volumes) = (burning("balancer:"), burning("volume:"));
        assert!(balancers > 0 && volumes > 0);
        let each = |price: &str, count: usize| usd(price).nanos() * i64::try_from(count).unwrap();
        let left = each("0.0225", balancers) + each("0.00010959", 100 * volumes);
        assert_eq!(
            outcome.burn_after,
            Usd::from_nanos(left),
            "{:#?}",
            stopped.still_burning
        );
    }
}
