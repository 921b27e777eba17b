//! The language of the field lists: what a request's field may hold, and what that means for the cost.
//!
//! The lists in [`fields`](super::fields) are data, so that one can lay them beside an SDK's types and see
//! what is missing. They say of every field its JSON type and, where it bears on the cost, its [`Effect`];
//! what is in no list is refused by name. A value that could have a price of its own (a mode, a time to
//! live, a tier) is listed by value: [`Rule::Only`].

use super::picture::PictureAt;

/// What may be at a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Anything: it costs its bytes at most. Schemas, arguments, labels.
    Any,
    /// A text that the model may read.
    Text,
    /// A text that the model does not read as it is: an id, the name of a choice, encoded content.
    Label,
    Flag,
    /// A flag that may only be false, for this reason.
    Unset(&'static str),
    Number,
    /// One of these texts. Another one is refused by name, since it could have another price.
    Only(&'static [&'static str]),
    Object(&'static [Field]),
    List(&'static Self),
    /// A text, or that.
    TextOr(&'static Self),
    /// An object whose kind decides which fields it has.
    Kinds(&'static Kinds),
    /// If it is there, this follows for the cost.
    Marked(Effect, &'static Self),
    /// A flag with a consequence if it is set.
    IfSet(Effect),
    /// Tools that are offered to the model.
    Tools(&'static Kinds),
    /// Nothing but null, for this reason.
    Refused(&'static str),
}

/// A field of an object. Null is as good as absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field(pub(super) &'static str, pub(super) Rule);

/// Objects that are told apart by one of their fields.
#[derive(Debug)]
pub(super) struct Kinds {
    /// The field that names the kind: `type` or `role`.
    pub(super) tag: &'static str,
    /// Of an object without it: the first kind whose telling field is there.
    pub(super) untagged: &'static [(&'static str, &'static str)],
    pub(super) known: &'static [Kind],
}

/// One kind.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) names: &'static [&'static str],
    pub(super) effects: &'static [Effect],
    pub(super) fields: &'static [Field],
}

pub(super) const fn kind(names: &'static [&'static str], effects: &'static [Effect], fields: &'static [Field]) -> Kind {
    Kind { names, effects, fields }
}

/// What the presence of something means for the cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// What the model reads is not in the request, is encoded, or is written out longer than it is here.
    Elsewhere,
    /// What a model thought for one earlier answer, encrypted or kept at the provider: it is no more than the
    /// model wrote for it.
    Thought,
    /// Elsewhere, and images are among it.
    Image,
    /// A picture: bounded if its rule is known, else elsewhere.
    Picture(PictureAt),
    /// Elsewhere, and sound is among it.
    Audio,
    /// A message, an item of a conversation or a call of a tool: its template adds some tokens.
    Message,
    /// A tool that the client runs.
    Tool(NameAt),
    /// Work at the provider beside the answer itself: refused unless config prices it under this name.
    Priced(&'static str),
}

/// Where a tool's name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameAt {
    Here,
    In(&'static str),
    /// It has none of its own: it is named by its kind, without the date.
    Kind,
    /// Its tools are listed in `tools`, each with a name.
    Each,
}
