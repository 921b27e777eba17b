//! A projected breach: a line trips before its limit is reached, because machines that are to be stopped
//! go on costing until they are.
//!
//! It is a breach by a forecast and not by what is posted, so it makes no posting and no hold, and the
//! line's sums stay what they are. Everything else is as for a breach: it trips once per revision of the
//! limit, a reset or a raise arms it again, and a line that an operator lifted is left alone. What is
//! unresolved is left out, as ever (L3): a crash of ours is no reason to stop anybody's machines.

use super::book::{At, Book, Decided, check_amount};
use crate::domain::ledger::batch::{Foresee, Outcome, TriggerCause};
use crate::domain::money::Usd;

impl Book<'_> {
    /// Trips every line that will be past its limit before a reaction binds. Says how many it tripped.
    pub(super) fn foresee(&mut self, foresee: &Foresee) -> Decided<Outcome> {
        check_amount(foresee.ahead)?;
        let mut lines = 0;
        // Nothing to come is nothing foreseen: what is posted already was judged when it was.
        if foresee.ahead > Usd::ZERO {
            for at in self.targets(&foresee.lines, foresee.trust) {
                if self.will_breach(at, foresee.ahead) {
                    let cause = TriggerCause::Projected {
                        ahead: foresee.ahead,
                        burners: foresee.burners.clone(),
                        unposted: foresee.unposted.clone(),
                    };
                    self.breach(at, Some(&foresee.attribution.agent), foresee.trust, cause);
                    lines += 1;
                }
            }
        }
        Ok(Outcome::Applied {
            lines,
            more_after: None,
        })
    }

    fn will_breach(&self, at: At, ahead: Usd) -> bool {
        let line = self.line(at);
        let wide = |usd: Usd| i128::from(usd.nanos());
        // The forecast is for now: a window that closed while it was on its way is not its business.
        let is_open = !line.key.window.is_closed(self.now) && !line.is_lifted(self.now);
        is_open && line.breached != Some(line.revision) && wide(line.settled()) + wide(ahead) >= wide(line.limit())
    }
}
