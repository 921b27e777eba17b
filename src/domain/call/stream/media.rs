//! Streams of transcriptions, speech and images: their last event has the usage.

use std::collections::BTreeSet;

use super::StreamFault;
use super::seen::{Seen, Verdict};
use crate::domain::call::answer::{Told, UsageFault, usage_of};
use crate::domain::call::route::Route;
use crate::domain::wire::answer::media::Media;
use crate::domain::wire::answer::{read, says_something};

#[derive(Debug)]
pub(super) struct MediaStream {
    route: Route,
    usage: Option<String>,
    /// More than one event had a usage.
    has_several: bool,
    is_done: bool,
}

impl MediaStream {
    pub(super) fn new(route: Route) -> Self {
        Self {
            route,
            usage: None,
            has_several: false,
            is_done: false,
        }
    }

    pub(super) fn done(&mut self) {
        self.is_done = true;
    }

    pub(super) fn event(&mut self, data: &[u8], seen: &mut Seen) -> Result<Verdict, StreamFault> {
        let event: Media<'_> = read(data)?;
        seen.answer.says(&event.id, &event.model);
        if let Some(raw) = event.usage.filter(|raw| says_something(Some(raw))) {
            self.has_several |= self.usage.is_some();
            self.usage = Some(raw.get().to_owned());
        }
        Ok(Verdict::Pass)
    }

    /// Each of several images may bring a usage of its own, so theirs counts when no more can come.
    pub(super) fn usage(&self, seen: &Seen, free: &BTreeSet<String>) -> Result<Option<Told>, UsageFault> {
        if self.has_several {
            return Err(UsageFault::Several);
        }
        let may_go_on = matches!(self.route, Route::ImageGenerations | Route::ImageEdits);
        let is_over = !may_go_on || self.is_done || seen.is_closed;
        let usage = self.usage.as_deref().filter(|_| is_over);
        usage.map(|raw| usage_of(self.route, raw, None, free)).transpose()
    }
}
