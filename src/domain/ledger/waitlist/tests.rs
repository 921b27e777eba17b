use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The lines as the store has them, and holds that are open on them.
#[derive(Debug, Clone, Default)]
struct Store {
    /// (limit, posted, held), by line.
    lines: Vec<(i64, i64, i64)>,
    open: Vec<(i64, Vec<LineIx>)>,
}

impl Store {
    fn fits(&self, bound: i64, lines: &[LineIx]) -> bool {
        lines.iter().all(|line| {
            let (limit, posted, held) = self.lines[line.0 as usize];
            posted + held + bound <= limit
        })
    }

    fn short(&self, bound: i64, lines: &[LineIx]) -> Vec<LineIx> {
        lines
            .iter()
            .copied()
            .filter(|&line| !self.fits(bound, &[line]))
            .collect()
    }

    fn admit(&mut self, bound: i64, lines: &[LineIx]) {
        for line in lines {
            self.lines[line.0 as usize].2 += bound;
        }
        self.open.push((bound, lines.to_vec()));
    }

    /// Ends an open hold; `cost` of it is posted.
    fn release(&mut self, at: usize, cost: i64) {
        let (bound, lines) = self.open.remove(at);
        for line in lines {
            let (_, posted, held) = &mut self.lines[line.0 as usize];
            *held -= bound;
            *posted += cost;
        }
    }
}

/// What the list is told about the lines: the truth, something else, or nothing.
struct Hint<'a> {
    store: &'a Store,
    lie: Option<i64>,
    unknown: bool,
}

impl Rooms for Hint<'_> {
    fn room(&self, line: LineIx) -> Option<Room> {
        let (limit, posted, held) = self.store.lines[line.0 as usize];
        let lie = self.lie.unwrap_or(0);
        (!self.unknown).then(|| Room {
            free: Usd::from_nanos(limit - posted - held + lie),
            ever: Usd::from_nanos(limit - posted),
        })
    }
}

fn rules(max_overtakes: u32) -> WaitRules {
    WaitRules {
        max_overtakes,
        capacity: 64,
        probe_every: Duration::from_secs(5),
    }
}

struct World {
    list: WaitList<(i64, Vec<LineIx>)>,
    store: Store,
    now: Duration,
}

impl World {
    fn new(limits: &[i64], max_overtakes: u32) -> Self {
        Self {
            list: WaitList::new(rules(max_overtakes)),
            store: Store {
                lines: limits.iter().map(|&limit| (limit, 0, 0)).collect(),
                open: Vec::new(),
            },
            now: Duration::ZERO,
        }
    }

    fn arrive(&mut self, bound: i64, lines: &[u32]) -> Option<Ticket> {
        let lines: Vec<LineIx> = lines.iter().map(|&line| LineIx(line)).collect();
        let deadline = self.now + Duration::from_secs(60);
        self.list
            .push(Usd::from_nanos(bound).into(), lines.clone(), deadline, (bound, lines))
            .ok()
    }

    /// One commit, with the store's rule for `blocks`. Returns who was admitted.
    fn commit(&mut self, lie: Option<i64>, unknown: bool, limit: usize) -> Vec<Ticket> {
        let hint = Hint {
            store: &self.store,
            lie,
            unknown,
        };
        let picks = self.list.scan(self.now, &hint, limit);
        assert!(picks.len() <= limit);
        assert!(
            picks.is_sorted_by_key(|pick| pick.ticket),
            "picked out of order: {picks:?}"
        );
        let mut admitted = Vec::new();
        let mut blocked: Vec<LineIx> = Vec::new();
        for pick in picks {
            let (bound, lines) = self.list.get(pick.ticket).expect("picked").clone();
            let short = self.store.short(bound, &lines);
            if short.is_empty() && !lines.iter().any(|line| blocked.contains(line)) {
                self.store.admit(bound, &lines);
                self.list.admitted(pick.ticket);
                admitted.push(pick.ticket);
            } else {
                if pick.blocks {
                    blocked.extend(&short);
                }
                self.list.put_back(pick.ticket, &short);
            }
        }
        self.list.end_round();
        for &(limit, posted, held) in &self.store.lines {
            assert!(posted + held <= limit);
        }
        admitted
    }
}

#[test]
fn whoever_fits_goes_in_order_and_no_more_than_fit() {
    let mut world = World::new(&[10], 8);
    let tickets: Vec<Ticket> = (0..5).map(|_| world.arrive(4, &[0]).unwrap()).collect();
    assert_eq!(world.commit(None, false, 512), tickets[..2]);
    assert_eq!(world.commit(None, false, 512), []);
    world.store.release(0, 0);
    assert_eq!(world.commit(None, false, 512), tickets[2..3]);
}

#[test]
fn a_batch_has_an_end_and_the_rest_goes_next() {
    let mut world = World::new(&[100], 8);
    let tickets: Vec<Ticket> = (0..5).map(|_| world.arrive(1, &[0]).unwrap()).collect();
    assert_eq!(world.commit(None, false, 3), tickets[..3]);
    assert_eq!(world.commit(None, false, 3), tickets[3..]);
}

#[test]
fn a_full_list_gives_the_item_back() {
    let mut world = World::new(&[0], 8);
    for _ in 0..64 {
        assert!(world.arrive(1, &[0]).is_some());
    }
    assert!(world.arrive(1, &[0]).is_none());
}

#[test]
fn the_wait_ends_at_its_deadline_but_not_while_the_store_has_it() {
    let mut world = World::new(&[10], 8);
    let ticket = world.arrive(4, &[0]).unwrap();
    world.arrive(8, &[0]).unwrap();
    assert_eq!(world.list.next_deadline(), Some(Duration::from_secs(60)));
    let hint = Hint {
        store: &world.store,
        lie: None,
        unknown: false,
    };
    let over = Duration::from_secs(60);
    assert_eq!(world.list.overdue(over), [], "whoever will not wait is still tried");
    assert_eq!(world.list.scan(world.now, &hint, 2).len(), 1);
    assert_eq!(world.list.overdue(Duration::from_secs(59)), []);
    assert_eq!(world.list.overdue(over), [(8, vec![LineIx(0)])]);
    world.list.put_back(ticket, &[LineIx(0)]);
    assert_eq!(world.list.overdue(Duration::from_secs(60)).len(), 1);
    assert!(world.list.is_empty());
}

/// Who will not wait at all is tried once all the same.
#[test]
fn a_wait_of_nothing_is_tried_once() {
    let mut world = World::new(&[10], 8);
    let lines = vec![LineIx(0)];
    let ticket = world
        .list
        .push(Usd::from_nanos(4).into(), lines.clone(), world.now, (4, lines.clone()))
        .expect("the list has room");
    assert_eq!(world.list.overdue(world.now), []);
    assert_eq!(world.commit(None, true, 8), [ticket]);

    // There is no room: one look, and the wait is over.
    let late = world
        .list
        .push(Usd::from_nanos(8).into(), lines.clone(), world.now, (8, lines.clone()))
        .expect("the list has room");
    assert_eq!(world.commit(None, false, 8), []);
    assert_eq!(world.list.overdue(world.now), [(8, lines)]);
    assert!(world.list.get(late).is_none());
}

#[test]
fn what_can_never_fit_is_sent_to_the_store_for_its_answer() {
    let mut world = World::new(&[10], 8);
    world.arrive(11, &[0]).unwrap();
    let hint = Hint {
        store: &world.store,
        lie: None,
        unknown: false,
    };
    assert_eq!(world.list.scan(world.now, &hint, 9).len(), 1);
}

#[test]
fn a_gloomy_hint_delays_and_does_not_starve() {
    let mut world = World::new(&[10], 8);
    let ticket = world.arrive(4, &[0]).unwrap();
    assert_eq!(world.commit(Some(-9), false, 512), []);
    world.now += Duration::from_secs(4);
    assert_eq!(world.commit(Some(-9), false, 512), []);
    world.now += Duration::from_secs(1);
    assert_eq!(world.commit(Some(-9), false, 512), [ticket]);
}

/// Small calls keep two lines short in turns; the large one needs both.
#[test]
fn two_lines_that_are_short_in_turns_starve_nobody() {
    let mut world = World::new(&[10, 10], 4);
    world.arrive(6, &[0]);
    world.commit(None, false, 512);
    let large = world.arrive(10, &[0, 1]).unwrap();
    let admitted_at = (0..200).find(|turn| {
        // The line that is not blocked fills up, and the other one empties.
        let line = turn % 2;
        world.arrive(6, &[line]);
        let gone = world.commit(None, false, 512);
        if gone.contains(&large) {
            return true;
        }
        if world.store.open.len() > 1 || gone.is_empty() {
            world.store.release(0, 0);
        }
        false
    });
    assert!(admitted_at.is_some_and(|turn| turn < 40), "{admitted_at:?}");
}

/// What was short of a large bound goes with a smaller one, once less is left.
#[test]
fn a_bound_is_reckoned_again_at_every_look() {
    use crate::domain::ledger::bound::TokenBound;
    let mut world = World::new(&[1_600], 8);
    world.store.admit(1_550, &[LineIx(0)]);
    let call = TokenBound {
        base: Usd::ZERO,
        nanos_per_million: 1_000_000,
        wanted: 4_096,
        least: 10,
    };
    let over = Duration::from_secs(60);
    let lines = vec![LineIx(0)];
    let ticket = world.list.push(call.into(), lines.clone(), over, (10, lines)).unwrap();
    assert_eq!(world.commit(None, false, 8), [], "a sixteenth of 1,600 is not free");
    world.store.release(0, 1_550);
    assert_eq!(world.commit(None, false, 8), [ticket]);
}

/// Those that are chosen together are reckoned with what they are likely to be granted, and fill the line.
#[test]
fn sixteen_that_share_what_is_left_go_together() {
    use crate::domain::ledger::bound::TokenBound;
    let mut world = World::new(&[1_600], 8);
    let call = TokenBound {
        base: Usd::ZERO,
        nanos_per_million: 1_000_000,
        wanted: 4_096,
        least: 10,
    };
    let over = Duration::from_secs(60);
    for _ in 0..40 {
        let lines = vec![LineIx(0)];
        world.list.push(call.into(), lines.clone(), over, (100, lines)).unwrap();
    }
    assert_eq!(world.commit(None, false, 512).len(), 16);
}

proptest! {
    /// L2 on every line, order within a batch, and at the end nobody waits who fits.
    #[test]
    fn all_who_fit_go_in_the_end(
        limits in prop::collection::vec(5_i64..40, 1..4),
        steps in prop::collection::vec((0_u8..6, 1_i64..12, 0_usize..64, -12_i64..12), 1..120),
        max_overtakes in 0_u32..6,
        batch in 1_usize..9,
    ) {
        let mut world = World::new(&limits, max_overtakes);
        let smallest = *limits.iter().min().unwrap();
        for (kind, bound, which, lie) in steps {
            let first = u32::try_from(which % limits.len()).unwrap();
            let second = u32::try_from((which / 2) % limits.len()).unwrap();
            match kind {
                0 | 1 => {
                    let mut lines = vec![first];
                    if second != first && kind == 1 {
                        lines.push(second);
                    }
                    world.arrive(bound.min(smallest), &lines);
                }
                2 if !world.store.open.is_empty() => {
                    let at = which % world.store.open.len();
                    world.store.release(at, 0);
                }
                3 => world.now += Duration::from_secs(1),
                // Hints that lie, and none.
                4 => { world.commit(Some(lie), false, batch); }
                _ => { world.commit(None, kind == 5 && lie > 6, batch); }
            }
        }
        // Everything ends, nobody else comes: whoever fits must go.
        for _ in 0..400 {
            world.now += Duration::from_secs(1);
            if !world.store.open.is_empty() {
                world.store.release(0, 0);
            }
            world.commit(None, false, batch);
        }
        prop_assert!(world.list.is_empty(), "still waiting: {}", world.list.len());
    }

    /// After a scan with a true hint and room in the batch, a waiter that fits was picked, unless one
    /// before it is starved on a line they share.
    #[test]
    fn a_fitting_waiter_is_passed_over_only_for_a_starved_one(
        bounds in prop::collection::vec((1_i64..12, 0_u32..3, 0_u32..3), 1..30),
        max_overtakes in 1_u32..4,
    ) {
        let mut world = World::new(&[20, 15, 12], max_overtakes);
        let mut waiting: BTreeMap<Ticket, (i64, Vec<LineIx>)> = BTreeMap::new();
        for (bound, a, b) in bounds {
            let lines = if a == b { vec![a] } else { vec![a, b] };
            if let Some(ticket) = world.arrive(bound, &lines) {
                waiting.insert(ticket, (bound, lines.into_iter().map(LineIx).collect()));
            }
            let starved: Vec<(Ticket, Vec<LineIx>)> = world
                .list
                .waiters
                .iter()
                .filter(|(_, w)| w.overtaken >= max_overtakes)
                .map(|(&ticket, w)| (ticket, w.lines.clone()))
                .collect();
            for gone in world.commit(None, false, 512) {
                waiting.remove(&gone);
            }
            for (ticket, (bound, lines)) in &waiting {
                let excused = starved
                    .iter()
                    .any(|(before, theirs)| before < ticket && theirs.iter().any(|line| lines.contains(line)));
                prop_assert!(excused || !world.store.fits(*bound, lines), "{ticket:?} fits and waits");
            }
            if world.store.open.len() > 3 {
                world.store.release(1, 0);
            }
        }
    }

    /// Small calls come for ever and always would fit; the large one still gets its turn.
    #[test]
    fn a_large_call_is_not_overtaken_for_ever(
        large in 5_i64..=20, small in 1_i64..5, max_overtakes in 0_u32..8, life in 1_usize..4,
    ) {
        let mut world = World::new(&[20], max_overtakes);
        for _ in 0..(20 / small) {
            world.arrive(small, &[0]);
        }
        world.commit(None, false, 512);
        let ticket = world.arrive(large, &[0]).unwrap();
        let mut gone = false;
        for _ in 0..200 {
            world.arrive(small, &[0]);
            world.arrive(small, &[0]);
            for _ in 0..life.min(world.store.open.len()) {
                world.store.release(0, 0);
            }
            gone |= world.commit(None, false, 512).contains(&ticket);
        }
        prop_assert!(gone, "overtaken for ever");
    }
}
