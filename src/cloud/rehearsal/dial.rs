//! Settings that can be put, and that a stale read shows as they were.

use std::time::Duration;

use jiff::Timestamp;

use super::world::after;
use crate::domain::fleet::asset::Settings;

#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub now: Settings,
    was: Option<(Timestamp, Settings)>,
}

impl Dial {
    pub fn new(now: Settings) -> Self {
        Self { now, was: None }
    }

    pub fn put(&mut self, settings: &Settings, at: Timestamp) {
        if settings.iter().any(|(name, value)| self.now.get(name) != Some(value)) {
            self.was = Some((at, self.now.clone()));
            self.now.extend(settings.clone());
        }
    }

    /// As a listing shows it; `stale` shows the past.
    pub fn seen(&self, stale: Option<Duration>, now: Timestamp) -> Settings {
        match (&self.was, stale) {
            (Some((since, was)), Some(window)) if now < after(*since, window) => was.clone(),
            _ => self.now.clone(),
        }
    }

    pub fn is(&self, name: &str, value: &str) -> bool {
        self.now.get(name).is_some_and(|now| now == value)
    }
}

/// The same value for each name.
pub(super) fn all(names: &[&str], value: &str) -> Settings {
    names
        .iter()
        .map(|name| ((*name).to_owned(), value.to_owned()))
        .collect()
}
