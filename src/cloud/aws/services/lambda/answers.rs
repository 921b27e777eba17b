//! Whom the calls about single functions are spent on.
//!
//! They share a quota of fifteen a second, and a listing has seconds. So a look asks about everything that it
//! knows nothing of, and beyond that about those whose answers are the oldest: all of them in an account of
//! some hundred functions a region, and in a larger one each in its turn. Of what was changed here nothing is
//! known any more, so the look after a cap is at what AWS says. What was answered is kept when a look is cut
//! short: the next one goes on from there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Reservations that are asked for again in one look: about twenty seconds of the quota.
const RESERVED: usize = 200;

/// Tags, which seldom change.
const TAGS: usize = 50;

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
}

/// What is to be asked about one function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub reserved: bool,
    pub tags: bool,
}

impl Answers {
    /// A look at these functions begins; what went is forgotten.
    pub fn begin<'a>(&self, names: impl Iterator<Item = &'a String>) -> BTreeMap<String, Ask> {
        let mut known = self.known();
        known.looks += 1;
        let mut before = std::mem::take(&mut known.functions);
        known.functions = names
            .map(|name| (name.clone(), before.remove(name).unwrap_or_default()))
            .collect();
        let mut asks: BTreeMap<String, Ask> = BTreeMap::new();
        let reserved = |function: &Function| function.reserved.as_ref().map(|(look, _)| *look);
        for name in due(&known.functions, reserved, RESERVED) {
            asks.entry(name).or_default().reserved = true;
        }
        let tags = |function: &Function| function.tags.as_ref().map(|(look, _)| *look);
        for name in due(&known.functions, tags, TAGS) {
            asks.entry(name).or_default().tags = true;
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

    /// Its settings are being changed.
    pub fn forget(&self, name: &str) {
        if let Some(function) = self.known().functions.get_mut(name) {
            function.reserved = None;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those without an answer, and of the others so many that the oldest answers are renewed.
fn due(
    functions: &BTreeMap<String, Function>,
    answered: impl Fn(&Function) -> Option<u64>,
    most: usize,
) -> Vec<String> {
    let mut ages: Vec<(Option<u64>, &String)> = functions.iter().map(|(name, one)| (answered(one), name)).collect();
    // No answer comes before any.
    ages.sort_unstable();
    let unknown = ages.iter().take_while(|(look, _)| look.is_none()).count();
    ages.into_iter()
        .take(unknown.max(most))
        .map(|(_, name)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("f-{n:04}")).collect()
    }

    /// One look: how many reservations and how many tags were asked for.
    fn look(answers: &Answers, names: &[String]) -> (usize, usize) {
        let asks = answers.begin(names.iter());
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
        assert_eq!(look(&answers, &few), (150, 50));
    }

    #[test]
    fn in_a_larger_one_each_has_its_turn_and_what_was_changed_has_the_next() {
        let (answers, many) = (Answers::default(), names(1_000));
        assert_eq!(look(&answers, &many), (1_000, 1_000));
        answers.forget("f-0999");
        assert_eq!(answers.reserved("f-0999"), None);
        assert!(answers.begin(many.iter())["f-0999"].reserved);
        let mut asked = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let asks = answers.begin(many.iter());
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
}
