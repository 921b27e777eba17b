//! The mirror: what this process believes is left on the lines it has to do with.
//!
//! It is a hint, and what it may do follows from that:
//! - It may choose *when* the store is asked. A hold that by the mirror does not fit now goes to the
//!   wait list without a commit, and a waiter is put into a batch when it may fit.
//! - It never admits. Only a commit does, which reads the line itself (L2, L4).
//! - It never refuses for good out of its own sums: posted does fall (a correction, a bucket of a
//!   rolling line that is over), and limits rise. A hold that looks hopeless is sent to the store, and
//!   the store's answer is the 402. That answer is a fresh reading, and for `refusal_fresh` (one
//!   second) it also answers later holds on that line which want more than it could ever have; so an
//!   agent that hammers a spent line costs a commit a second and not one a call. Whatever this process
//!   does to the line that could make room ends that at once.
//!
//! It errs for a bounded time. It is changed by the outcome of every commit; lines that somebody waits
//! for are read again from the store once a second, because another process may release or an operator
//! may raise; and the wait list tries every waiter every few seconds without asking the mirror at all.
//! A line it knows nothing of counts as one with room.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::id::BudgetId;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::waitlist::{LineIx, Room, Rooms};
use crate::domain::money::Usd;
use crate::domain::window::Buckets;

/// A refusal for good as the store gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    at: Duration,
    pub(super) limit: Usd,
    pub(super) posted: Usd,
    pub(super) held: Usd,
}

#[derive(Debug)]
struct Known {
    key: LineKey,
    room: Option<Room>,
    refused: Option<Refused>,
}

#[derive(Debug, Default)]
pub(super) struct Mirror {
    index: HashMap<LineKey, LineIx>,
    lines: Vec<Option<Known>>,
    vacant: Vec<u32>,
}

impl Rooms for Mirror {
    fn room(&self, line: LineIx) -> Option<Room> {
        self.known(line)?.room
    }
}

impl Mirror {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The line's number, given at first sight.
    pub(super) fn number(&mut self, key: &LineKey) -> LineIx {
        if let Some(&line) = self.index.get(key) {
            return line;
        }
        let known = Some(Known {
            key: key.clone(),
            room: None,
            refused: None,
        });
        let line = match self.vacant.pop() {
            Some(place) => {
                self.lines[place as usize] = known;
                LineIx(place)
            }
            None => {
                self.lines.push(known);
                LineIx(u32::try_from(self.lines.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.index.insert(key.clone(), line);
        line
    }

    pub(super) fn find(&self, key: &LineKey) -> Option<LineIx> {
        self.index.get(key).copied()
    }

    pub(super) fn key(&self, line: LineIx) -> Option<&LineKey> {
        self.known(line).map(|known| &known.key)
    }

    /// A hold was admitted.
    pub(super) fn held(&mut self, lines: &[LineIx], bound: Usd) {
        self.shift(lines, Usd::ZERO.saturating_sub(bound), Usd::ZERO);
    }

    /// A hold ended, at `cost`.
    pub(super) fn ended(&mut self, lines: &[LineIx], bound: Usd, cost: Usd) {
        self.shift(lines, bound.saturating_sub(cost), Usd::ZERO.saturating_sub(cost));
    }

    /// Something was posted without a hold.
    pub(super) fn posted(&mut self, line: LineIx, amount: Usd) {
        let less = Usd::ZERO.saturating_sub(amount);
        self.shift(&[line], less, less);
    }

    fn shift(&mut self, lines: &[LineIx], free: Usd, ever: Usd) {
        for &line in lines {
            let Some(known) = self.known_mut(line) else { continue };
            if let Some(room) = &mut known.room {
                room.free = room.free.saturating_add(free);
                room.ever = room.ever.saturating_add(ever);
            }
            if free > Usd::ZERO || ever > Usd::ZERO {
                known.refused = None;
            }
        }
    }

    /// The store found too little free on it for `bound`, though in the end it may fit: a fresh reading.
    pub(super) fn short(&mut self, line: LineIx, bound: Usd, limit: Usd, posted: Usd, held: Usd) {
        let ever = limit.saturating_sub(posted);
        if let Some(known) = self.known_mut(line) {
            known.room = Some(Room {
                free: ever.saturating_sub(held),
                ever,
            });
        }
        // Where it is free and kept for somebody else, it is not free for this one.
        self.choke(line, bound);
    }

    /// There is less than `bound` free on it, for whatever reason.
    pub(super) fn choke(&mut self, line: LineIx, bound: Usd) {
        let less = bound.saturating_sub(Usd::from_nanos(1));
        if let Some(known) = self.known_mut(line) {
            let room = known.room.get_or_insert(Room {
                free: less,
                ever: Usd::MAX,
            });
            room.free = room.free.min(less);
            room.ever = room.ever.max(bound);
        }
    }

    /// The store refused for good on it: a fresh reading.
    pub(super) fn refused(&mut self, key: &LineKey, limit: Usd, posted: Usd, held: Usd, now: Duration) {
        let line = self.number(key);
        if let Some(known) = self.known_mut(line) {
            let ever = limit.saturating_sub(posted);
            known.room = Some(Room {
                free: ever.saturating_sub(held),
                ever,
            });
            known.refused = Some(Refused {
                at: now,
                limit,
                posted,
                held,
            });
        }
    }

    /// The fresh refusal that also answers a hold of `bound` on this line, if there is one.
    pub(super) fn refusal(&self, line: LineIx, bound: Usd, now: Duration, fresh: Duration) -> Option<Refused> {
        let refused = self.known(line)?.refused?;
        let is_fresh = now.saturating_sub(refused.at) < fresh;
        (is_fresh && bound > refused.limit.saturating_sub(refused.posted)).then_some(refused)
    }

    /// Nothing is known of it any more: its rule or its sums changed in a way that is not reckoned here.
    pub(super) fn forget(&mut self, key: &LineKey) {
        if let Some(known) = self.find(key).and_then(|line| self.known_mut(line)) {
            known.room = None;
            known.refused = None;
        }
    }

    /// Somewhere room was made, and it is not known on which lines.
    pub(super) fn forget_refusals(&mut self) {
        for known in self.lines.iter_mut().flatten() {
            known.refused = None;
        }
    }

    pub(super) fn forget_budget(&mut self, budget: &BudgetId) {
        for known in self
            .lines
            .iter_mut()
            .flatten()
            .filter(|known| known.key.budget == *budget)
        {
            known.room = None;
            known.refused = None;
        }
    }

    /// The line as the store has it. Read between two commits of this process, so nothing of ours is
    /// missing in it or counted twice.
    pub(super) fn refresh(&mut self, line: &Line, now: Timestamp) {
        let Some(known) = self.find(&line.key).and_then(|ix| self.known_mut(ix)) else {
            return;
        };
        known.refused = None;
        known.room = Some(room_of(line, now));
    }

    /// Forgets lines that are not in use, down to `most`.
    pub(super) fn trim(&mut self, most: usize, in_use: &BTreeSet<LineIx>) {
        for place in 0..self.lines.len() {
            if self.index.len() <= most {
                return;
            }
            let number = u32::try_from(place).unwrap_or(u32::MAX);
            if in_use.contains(&LineIx(number)) {
                continue;
            }
            if let Some(known) = self.lines[place].take() {
                self.index.remove(&known.key);
                self.vacant.push(number);
            }
        }
    }

    fn known(&self, line: LineIx) -> Option<&Known> {
        self.lines.get(line.0 as usize)?.as_ref()
    }

    fn known_mut(&mut self, line: LineIx) -> Option<&mut Known> {
        self.lines.get_mut(line.0 as usize)?.as_mut()
    }
}

/// What is left on a stored line at `now`. Buckets of a rolling line that are over may still be in
/// its sum: the next commit that touches it drops them.
pub(super) fn room_of(line: &Line, now: Timestamp) -> Room {
    if line.is_lifted(now) {
        return Room {
            free: Usd::MAX,
            ever: Usd::MAX,
        };
    }
    let over: Usd = line.rule.rolling.map(Buckets::new).map_or(Usd::ZERO, |buckets| {
        line.buckets
            .iter()
            .filter(|b| buckets.is_over(b.start, now))
            .map(|b| b.posted)
            .sum()
    });
    let ever = line.limit().saturating_sub(line.posted.saturating_sub(over));
    Room {
        free: ever.saturating_sub(line.held),
        ever,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ledger::line::{Bucket, LineRule, LineSpec, Response, Scope};
    use crate::domain::window::WindowInstance;

    const FRESH: Duration = Duration::from_secs(1);

    fn usd(nanos: i64) -> Usd {
        Usd::from_nanos(nanos)
    }

    fn key(name: &str) -> LineKey {
        LineKey {
            budget: BudgetId::new(name).unwrap(),
            agent: None,
            value: String::new(),
            window: WindowInstance::UNBOUNDED,
        }
    }

    fn line(name: &str, limit: i64, rolling: Option<(u32, u32)>) -> Line {
        Line::new(&LineSpec {
            key: key(name),
            rule: LineRule {
                scope: Scope::Fleet,
                limit: usd(limit),
                alert_at: Vec::new(),
                response: Response::Alert,
                rolling,
            },
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_follows_holds_and_postings() {
        let mut mirror = Mirror::default();
        let a = mirror.number(&key("a"));
        assert_eq!((mirror.number(&key("a")), mirror.room(a)), (a, None));
        mirror.refresh(&line("a", 100, None), at(0));
        mirror.held(&[a], usd(30));
        assert_eq!(
            mirror.room(a),
            Some(Room {
                free: usd(70),
                ever: usd(100)
            })
        );
        mirror.ended(&[a], usd(30), usd(10));
        mirror.posted(a, usd(5));
        assert_eq!(
            mirror.room(a),
            Some(Room {
                free: usd(85),
                ever: usd(85)
            })
        );
    }

    #[test]
    fn what_the_store_found_short_is_short_until_something_is_released() {
        let mut mirror = Mirror::default();
        let a = mirror.number(&key("a"));
        mirror.choke(a, usd(10));
        let room = mirror.room(a).unwrap();
        assert!(
            room.free < usd(10) && room.ever >= usd(10),
            "waits, and is not hopeless: {room:?}"
        );
        mirror.ended(&[a], usd(4), usd(0));
        assert_eq!(mirror.room(a).unwrap().free, usd(13));
    }

    #[test]
    fn a_refusal_answers_for_a_second_and_only_for_what_cannot_fit() {
        let mut mirror = Mirror::default();
        mirror.refused(&key("a"), usd(100), usd(95), usd(0), Duration::from_secs(7));
        let a = mirror.find(&key("a")).unwrap();
        let now = Duration::from_millis(7_900);
        assert!(mirror.refusal(a, usd(6), now, FRESH).is_some());
        assert!(mirror.refusal(a, usd(5), now, FRESH).is_none());
        assert!(mirror.refusal(a, usd(6), Duration::from_secs(8), FRESH).is_none());
        // What could make room ends it: here a hold that ends below its bound.
        mirror.ended(&[a], usd(4), usd(1));
        assert!(mirror.refusal(a, usd(6), now, FRESH).is_none());
        mirror.refused(&key("a"), usd(100), usd(95), usd(0), now);
        mirror.forget_budget(&key("a").budget);
        assert!(mirror.refusal(a, usd(6), now, FRESH).is_none());
    }

    #[test]
    fn buckets_that_are_over_count_as_room() {
        let mut stored = line("a", 100, Some((60, 10)));
        stored.posted = usd(90);
        stored.buckets = vec![
            Bucket {
                start: at(0),
                posted: usd(50),
                unresolved: usd(0),
            },
            Bucket {
                start: at(60),
                posted: usd(40),
                unresolved: usd(0),
            },
        ];
        assert_eq!(room_of(&stored, at(69)).ever, usd(10));
        assert_eq!(room_of(&stored, at(70)).ever, usd(60));
        stored.lifted_until = Some(at(100));
        assert_eq!(room_of(&stored, at(70)).free, Usd::MAX);
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_in_use() {
        let mut mirror = Mirror::default();
        let lines: Vec<LineIx> = (0..20).map(|n| mirror.number(&key(&format!("b{n}")))).collect();
        mirror.trim(5, &BTreeSet::from([lines[0], lines[7]]));
        assert_eq!(mirror.len(), 5);
        assert_eq!(mirror.find(&key("b7")), Some(lines[7]));
        let reused = mirror.number(&key("new"));
        assert!(lines.contains(&reused));
        assert_eq!(mirror.key(reused), Some(&key("new")));
    }
}
