//! How far the record of one call was read in one region.
//!
//! The record is told the newest first, in pages, at two look-ups a second for a whole account; an agent that makes
//! noise makes it long. So a reading may end before it has come to the end of what it was to read. What it gave is
//! used at once, and what it left is a *gap*, to be read later, from its newer end on. New events go first: the
//! next reading begins at the newest again.
//!
//! What must never happen: that the record counts as read up to a moment while something older was not. So the
//! record counts as read up to where the gap begins, for as long as there is one.

use jiff::Timestamp;

/// How far the record of one call was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Up to then it was looked at; what is missing below it is in the gap.
    top: Option<Timestamp>,
    gap: Option<Span>,
}

/// A part of the record; both ends are within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub since: Timestamp,
    pub until: Option<Timestamp>,
}

/// What became of reading a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Whole,
    /// Down to the second of this; `None`: nothing came of it.
    DownTo(Option<Timestamp>),
}

impl Cursor {
    /// Up to when nothing is missing.
    pub fn until(&self) -> Option<Timestamp> {
        match self.gap {
            Some(gap) => Some(gap.since),
            None => self.top,
        }
    }

    /// The newest moment that was looked at.
    pub fn top(&self) -> Option<Timestamp> {
        self.top
    }

    /// The next gap to read, once what is new was read.
    pub fn gap(&self) -> Option<Span> {
        self.gap
    }

    /// The newest part was read, from `since` to `asked_at`.
    pub fn note_new(&mut self, since: Timestamp, asked_at: Timestamp, read: Read) {
        match read {
            Read::Whole => self.top = self.top.max(Some(asked_at)),
            Read::DownTo(None) => {}
            Read::DownTo(Some(oldest)) => {
                self.top = self.top.max(Some(asked_at));
                // What lies between two gaps is read again rather than kept apart.
                let since = self.gap.map_or(since, |gap| gap.since.min(since));
                self.gap = Some(Span {
                    since,
                    until: Some(oldest),
                });
            }
        }
    }

    /// The gap was read.
    pub fn note_gap(&mut self, read: Read) {
        match (read, &mut self.gap) {
            (Read::Whole, gap) => *gap = None,
            (Read::DownTo(Some(oldest)), Some(gap)) => gap.until = Some(oldest),
            (Read::DownTo(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn span(since: i64, until: i64) -> Option<Span> {
        Some(Span {
            since: at(since),
            until: Some(at(until)),
        })
    }

    #[test]
    fn what_was_not_read_holds_back_how_far_it_was_read() {
        let mut cursor = Cursor::default();
        assert_eq!((cursor.until(), cursor.gap()), (None, None));
        cursor.note_new(at(0), at(100), Read::Whole);
        assert_eq!((cursor.until(), cursor.gap()), (Some(at(100)), None));
        // Cut short at 150: what lies between 90 and 150 is missing.
        cursor.note_new(at(90), at(200), Read::DownTo(Some(at(150))));
        assert_eq!((cursor.until(), cursor.gap()), (Some(at(90)), span(90, 150)));
        // Nothing came of it: nothing changes.
        cursor.note_new(at(190), at(300), Read::DownTo(None));
        assert_eq!((cursor.until(), cursor.gap()), (Some(at(90)), span(90, 150)));
        cursor.note_gap(Read::DownTo(Some(at(120))));
        assert_eq!((cursor.until(), cursor.gap()), (Some(at(90)), span(90, 120)));
        // Another one above it: they are one.
        cursor.note_new(at(190), at(300), Read::DownTo(Some(at(250))));
        assert_eq!((cursor.until(), cursor.gap()), (Some(at(90)), span(90, 250)));
        cursor.note_gap(Read::DownTo(None));
        assert_eq!(cursor.gap(), span(90, 250));
        cursor.note_gap(Read::Whole);
        assert_eq!((cursor.until(), cursor.gap()), (Some(at(300)), None));
    }
}
