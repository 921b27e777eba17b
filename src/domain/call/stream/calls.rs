//! The names of the calls in a stream of chat, which may come in pieces.
//!
//! OpenAI sends a name whole. The SDKs would join pieces all the same, so a gate that looks at each piece
//! alone could be passed by `read_` + `secret`. A name that a manifest does not list but that could yet
//! become one that it does is waited for: the event and all after it are held back until the name goes on
//! or something else comes, which makes it complete. A piece that repeats the whole name adds nothing:
//! some that copy the form send it every time. A call that has begun without a name waits for one in the
//! same way: under no name nothing is listed.

use super::StreamFault;
use crate::domain::call::answer::{Answer, ToolGate};

/// Calls that are told apart; the oldest is forgotten first, and a piece of its name then stands alone.
const MAX_CALLS: usize = 1_000;
/// No tool has a longer name.
const MAX_NAME: usize = 256;
/// The index of the one call of a choice that has none.
pub(super) const LEGACY: u64 = u64::MAX;

/// What an event says of a call's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) choice: u64,
    pub(super) index: u64,
    pub(super) id: Option<&'a str>,
    /// It says what kind of call it is, as the first piece of one does.
    pub(super) has_kind: bool,
    pub(super) name: &'a str,
}

#[derive(Debug)]
struct Call {
    choice: u64,
    index: u64,
    id: Option<String>,
    name: String,
    /// The name is no tool's yet.
    is_part: bool,
    /// Its name went on in this event.
    went_on: bool,
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
}

impl Calls {
    /// Takes a piece of a name. An empty one goes on with whatever call is there, since some that copy the
    /// form give every piece an id of its own; where none is, it begins one.
    pub(super) fn piece(&mut self, piece: Piece<'_>, gate: &ToolGate) -> Result<(), StreamFault> {
        let here = |call: &Call| (call.choice, call.index) == (piece.choice, piece.index);
        if piece.name.is_empty() && self.calls.iter().any(here) {
            return Ok(());
        }
        let known = self.calls.iter_mut().rev().find(|call| {
            let is_new = match piece.id {
                Some(id) => call.id.as_deref().is_some_and(|known| known != id),
                None => piece.has_kind,
            };
            (call.choice, call.index) == (piece.choice, piece.index) && !is_new
        });
        if let Some(call) = known {
            if call.is_part || call.name != piece.name {
                call.name.push_str(piece.name);
            }
            return call.check(gate);
        }
        if self.calls.len() == MAX_CALLS {
            self.calls.remove(0);
        }
        let mut call = Call {
            choice: piece.choice,
            index: piece.index,
            id: piece.id.filter(|id| id.len() <= MAX_NAME).map(str::to_owned),
            name: piece.name.to_owned(),
            is_part: false,
            went_on: true,
        };
        let checked = call.check(gate);
        self.calls.push(call);
        checked
    }

    /// All that an event says of this choice was read: a part of a name that it does not continue is all
    /// of it.
    pub(super) fn after(&mut self, choice: u64, gate: &ToolGate) -> Result<(), StreamFault> {
        if *gate == ToolGate::All {
            return Ok(());
        }
        for call in self
            .calls
            .iter_mut()
            .filter(|call| call.choice == choice && call.is_part)
        {
            if !std::mem::take(&mut call.went_on) {
                return Err(StreamFault::ToolNotListed(call.name.clone()));
            }
        }
        Ok(())
    }

    /// Whether a name may go on.
    pub(super) fn is_waiting(&self) -> bool {
        self.calls.iter().any(|call| call.is_part)
    }

    /// No more will come.
    pub(super) fn end(&self) -> Result<(), StreamFault> {
        match self.calls.iter().find(|call| call.is_part) {
            Some(call) => Err(StreamFault::ToolNotListed(call.name.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn tell(&self, answer: &mut Answer) {
        for call in &self.calls {
            answer.calls(&call.name);
        }
    }
}

impl Call {
    fn check(&mut self, gate: &ToolGate) -> Result<(), StreamFault> {
        self.went_on = true;
        self.is_part = !gate.allows(&self.name);
        if self.name.len() > MAX_NAME {
            let shown = self.name.chars().take(MAX_NAME).collect();
            self.name.clear();
            return match gate {
                ToolGate::All => Ok(()),
                ToolGate::Only(_) => Err(StreamFault::ToolNotListed(shown)),
            };
        }
        if self.is_part && !gate.may_become(&self.name) {
            return Err(StreamFault::ToolNotListed(self.name.clone()));
        }
        Ok(())
    }
}
