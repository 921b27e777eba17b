//! Whom the calls about single functions are spent on.
//!
//! They share a quota of fifteen a second, and a listing has seconds. So a look asks about everything that it
//! knows nothing of, and beyond that about those whose answers are the oldest: all of them in an account of
//! some hundred functions a region, and in a larger one each in its turn. Of what was changed here nothing is
//! known any more, so the look after a cap is at what AWS says. What was answered is kept when a look is cut
//! short: the next one goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::fleet::rate::Meter;

/// Reservations that are asked for again in one look: about twenty seconds of the quota.
const RESERVED: usize = 200;

/// Tags, which seldom change.
const TAGS: usize = 10;

/// Provisioned concurrency: three seconds of the quota.
const PROVISIONED: usize = 30;

type Tags = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    looks: u64,
    functions: BTreeMap<String, Function>,
}

/// The last answers, each with the look in which it came.
#[derive(Debug, Default)]
struct Function {
    reserved: Option<(u64, String)>,
    tags: Option<(u64, Tags)>,
    /// `None` within: it was asked for and could not be had.
    provisioned: Option<(u64, Option<Provisioned>)>,
}

/// Provisioned concurrency as it was learnt: its setting, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provisioned {
    pub setting: String,
    pub meters: Vec<Meter>,
}

/// What is to be asked about one function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub reserved: bool,
    pub tags: bool,
    pub provisioned: bool,
}

impl Answers {
    /// A look at these functions begins, those with a published version among them; what went is forgotten.
    pub fn begin<'a>(&self, functions: impl Iterator<Item = (&'a String, bool)>) -> BTreeMap<String, Ask> {
        let mut known = self.known();
        known.looks += 1;
        let mut before = std::mem::take(&mut known.functions);
        let mut published = BTreeSet::new();
        for (name, is_published) in functions {
            let function = before.remove(name).unwrap_or_default();
            known.functions.insert(name.clone(), function);
            if is_published {
                published.insert(name.clone());
            }
        }
        let mut asks: BTreeMap<String, Ask> = BTreeMap::new();
        let reserved = |function: &Function| function.reserved.as_ref().map(|(look, _)| *look);
        for name in due(&known.functions, reserved, RESERVED) {
            asks.entry(name).or_default().reserved = true;
        }
        let tags = |function: &Function| function.tags.as_ref().map(|(look, _)| *look);
        for name in due(&known.functions, tags, TAGS) {
            asks.entry(name).or_default().tags = true;
        }
        let provisioned = |function: &Function| function.provisioned.as_ref().map(|(look, _)| *look);
        let of_published = |name: &String| published.contains(name);
        for name in due_of(&known.functions, of_published, provisioned, PROVISIONED) {
            asks.entry(name).or_default().provisioned = true;
        }
        asks
    }

    pub fn reserved(&self, name: &str) -> Option<String> {
        let known = self.known();
        Some(known.functions.get(name)?.reserved.as_ref()?.1.clone())
    }

    pub fn tags(&self, name: &str) -> Option<Tags> {
        let known = self.known();
        Some(known.functions.get(name)?.tags.as_ref()?.1.clone())
    }

    pub fn note_reserved(&self, name: &str, reserved: &str) {
        let mut known = self.known();
        let look = known.looks;
        if let Some(function) = known.functions.get_mut(name) {
            function.reserved = Some((look, reserved.to_owned()));
        }
    }

    pub fn note_tags(&self, name: &str, tags: &Tags) {
        let mut known = self.known();
        let look = known.looks;
        if let Some(function) = known.functions.get_mut(name) {
            function.tags = Some((look, tags.clone()));
        }
    }

    pub fn provisioned(&self, name: &str) -> Option<Provisioned> {
        let known = self.known();
        known.functions.get(name)?.provisioned.as_ref()?.1.clone()
    }

    /// Keeps an answer. A failure does not make what was known unknown.
    pub fn note_provisioned(&self, name: &str, learnt: Option<Provisioned>) {
        let mut known = self.known();
        let look = known.looks;
        if let Some(function) = known.functions.get_mut(name) {
            let before = function.provisioned.take().and_then(|(_, before)| before);
            function.provisioned = Some((look, learnt.or(before)));
        }
    }

    /// Its settings are being changed.
    pub fn forget(&self, name: &str) {
        if let Some(function) = self.known().functions.get_mut(name) {
            function.reserved = None;
            function.provisioned = None;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn due(
    functions: &BTreeMap<String, Function>,
    answered: impl Fn(&Function) -> Option<u64>,
    most: usize,
) -> Vec<String> {
    due_of(functions, |_| true, answered, most)
}

/// Of the wanted ones those without an answer, and of the others so many that the oldest answers are renewed.
fn due_of(
    functions: &BTreeMap<String, Function>,
    wanted: impl Fn(&String) -> bool,
    answered: impl Fn(&Function) -> Option<u64>,
    most: usize,
) -> Vec<String> {
    let wanted = functions.iter().filter(|(name, _)| wanted(name));
    let ages = wanted.map(|(name, one)| (answered(one), name));
    let (new, mut old): (Vec<_>, Vec<_>) = ages.partition(|(look, _)| look.is_none());
    old.sort_unstable();
    let all = new.into_iter().chain(old.into_iter().take(most));
    all.map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("f-{n:04}")).collect()
    }

    /// One look: how many reservations and how many tags were asked for.
    fn look(answers: &Answers, names: &[String]) -> (usize, usize) {
        let asks = answers.begin(names.iter().map(|name| (name, false)));
        for (name, ask) in &asks {
            if ask.reserved {
                answers.note_reserved(name, "none");
            }
            if ask.tags {
                answers.note_tags(name, &Tags::new());
            }
        }
        let count = |of: fn(&Ask) -> bool| asks.values().filter(|ask| of(ask)).count();
        (count(|ask| ask.reserved), count(|ask| ask.tags))
    }

    #[test]
    fn every_reservation_is_new_in_an_account_of_some_hundred() {
        let (answers, few) = (Answers::default(), names(150));
        assert_eq!(look(&answers, &few), (150, 150));
        assert_eq!(look(&answers, &few), (150, TAGS));
    }

    #[test]
    fn in_a_larger_one_each_has_its_turn_and_what_was_changed_has_the_next() {
        let (answers, many) = (Answers::default(), names(1_000));
        assert_eq!(look(&answers, &many), (1_000, 1_000));
        answers.forget("f-0999");
        assert_eq!(answers.reserved("f-0999"), None);
        assert!(answers.begin(many.iter().map(|name| (name, false)))["f-0999"].reserved);
        let mut asked = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let asks = answers.begin(many.iter().map(|name| (name, false)));
            for (name, _) in asks.iter().filter(|(_, ask)| ask.reserved) {
                answers.note_reserved(name, "none");
                asked.insert(name.clone());
            }
        }
        assert_eq!(asked.len(), 1_000);
        // What went is forgotten.
        look(&answers, &many[..1]);
        assert_eq!(answers.reserved("f-0002"), None);
    }

    #[test]
    fn a_failure_takes_its_turn_and_makes_nothing_unknown() {
        let (answers, all) = (Answers::default(), names(100));
        let begin = || {
            let asks = answers.begin(all.iter().map(|name| (name, true)));
            let asked = asks.into_iter().filter(|(_, ask)| ask.provisioned);
            asked.map(|(name, _)| name).collect::<Vec<_>>()
        };
        let learnt = Provisioned {
            setting: "live=1".to_owned(),
            meters: vec![Meter::one("lambda-provisioned/x86")],
        };
        assert_eq!(begin().len(), 100);
        for name in &all {
            answers.note_provisioned(name, Some(learnt.clone()));
        }
        let mut asked = BTreeSet::new();
        for _ in 0..4 {
            let some = begin();
            assert_eq!(some.len(), PROVISIONED);
            for name in some {
                answers.note_provisioned(&name, None);
                asked.insert(name);
            }
        }
        assert_eq!(asked.len(), 100);
        assert!(
            all.iter()
                .all(|name| answers.provisioned(name).as_ref() == Some(&learnt))
        );
        answers.forget(&all[0]);
        assert_eq!(answers.provisioned(&all[0]), None);
    }
}
