//! Whether the machine's clock can be trusted: AWS refuses a request whose signature is more than five minutes
//! off (AWS General Reference, "Signature Version 4", read 2026-11), and budgets are promises about time.
//!
//! The date of an answer is what AWS had when it answered, in whole seconds. Our own time then lies between
//! two readings, so what is measured is how far AWS's second is outside of them.

use jiff::{SignedDuration, Timestamp};

use super::Finding;
use crate::domain::clock::Verdict;

/// The name of the check.
pub const CHECK: &str = "clock";

/// A signature that is older or newer is refused.
const REFUSED: SignedDuration = SignedDuration::from_mins(5);

/// A clock that is kept true is never this far off.
const LOOSE: SignedDuration = SignedDuration::from_secs(30);

/// The ledger's own rules.
pub fn of_ledger(verdict: Verdict) -> Finding {
    let by = verdict.off_by().as_secs();
    match verdict {
        Verdict::Jumped { .. } => Finding::fail(
            CHECK,
            format!("the clock is {by} s ahead of what the machine's other clock allows: new spend is refused"),
            "correct the clock, or accept it with POST /api/v1/clock/accept",
        ),
        behind if !behind.is_ok() => Finding::warn(
            CHECK,
            format!(
                "the clock is {by} s behind the ledger's high-water mark: windows stand still until it has caught up"
            ),
            "correct the clock (is it kept by NTP?)",
        ),
        _ => Finding::ok(CHECK, "the ledger's clock is steady"),
    }
}

/// AWS's date against our time right before the request and right after the answer.
pub fn of_cloud(before: Timestamp, theirs: Timestamp, after: Timestamp) -> Finding {
    let early = before.duration_since(theirs) - SignedDuration::from_secs(1);
    let late = theirs.duration_since(after);
    let off = early.max(late).max(SignedDuration::ZERO);
    let which = if late > early { "behind" } else { "ahead of" };
    let found = format!("the clock is {} s {which} AWS's", off.as_secs());
    if off > REFUSED {
        let todo = "correct the clock: AWS refuses signatures that are more than five minutes off";
        return Finding::fail(CHECK, found, todo);
    }
    if off > LOOSE {
        return Finding::warn(CHECK, found, "correct the clock (is it kept by NTP?)");
    }
    Finding::ok(CHECK, "the clock agrees with AWS's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::doctor::Standing;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_outside_of_what_is_possible() {
        let at = |s: i64| Timestamp::from_second(1_800_000_000 + s).unwrap();
        for (before, theirs, after, standing, says) in [
            (0, 0, 0, Standing::Ok, "agrees"),
            // The answer was slow, and a date has no fractions.
            (0, 20, 40, Standing::Ok, "agrees"),
            (1, 0, 2, Standing::Ok, "agrees"),
            (0, 31, 0, Standing::Warn, "31 s behind"),
            (100, 0, 100, Standing::Warn, "99 s ahead"),
            (0, 301, 0, Standing::Fail, "301 s behind"),
            (302, 0, 303, Standing::Fail, "301 s ahead"),
            (0, 300, 0, Standing::Warn, "300 s behind"),
        ] {
            let found = of_cloud(at(before), at(theirs), at(after));
            assert!(found.standing == standing && found.found.contains(says), "{found:?}");
        }
    }

    #[test]
    fn the_ledgers_verdict_is_told_as_it_acts() {
        let by = SignedDuration::from_mins(90);
        assert_eq!(of_ledger(Verdict::Steady).standing, Standing::Ok);
        assert_eq!(of_ledger(Verdict::Jumped { by }).standing, Standing::Fail);
        assert_eq!(of_ledger(Verdict::Behind { by }).standing, Standing::Warn);
        let little = SignedDuration::from_secs(2);
        assert_eq!(of_ledger(Verdict::Behind { by: little }).standing, Standing::Ok);
    }
}
