//! The limit on an answer's tokens: which fields of a request state it, and which of them is written.
//!
//! A chat completion has two fields for it. The older one is refused by OpenAI's newer models, the newer one
//! is not known to many other providers, and what a provider does not know it may ignore: then its answer
//! would have no limit at all. So a limit is written in the field that the upstream heeds, a limit of the
//! request's own in another field moves there, and a null, which SDKs send for *none*, is taken out.

/// In which field an upstream heeds the limit of a chat completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitField {
    /// In either: `max_completion_tokens` is filled in, `max_tokens` stays where it is stated.
    #[default]
    Either,
    /// `max_tokens` alone.
    Old,
    /// `max_completion_tokens` alone.
    New,
}

impl LimitField {
    const fn only(self) -> Option<&'static str> {
        match self {
            Self::Either => None,
            Self::Old => Some(OLD),
            Self::New => Some(NEW),
        }
    }
}

pub(super) const OLD: &str = "max_tokens";
pub(super) const NEW: &str = "max_completion_tokens";

/// The limit on the output's tokens.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    /// The fields that may state it.
    pub(super) names: Vec<&'static str>,
    /// Those that do.
    pub(super) stated: Vec<&'static str>,
    /// The one that is filled in where none does.
    pub(super) fill: &'static str,
    /// The only one that is heeded, if it matters.
    pub(super) only: Option<&'static str>,
    /// The request's own.
    pub(super) own: Option<u64>,
    /// The most that it may be, by the rules; where the request states none, what is filled in.
    pub(super) most: Option<u64>,
}

impl Limit {
    pub(super) fn spell(&mut self, field: LimitField) {
        // Other routes have one field alone.
        if !self.names.contains(&NEW) {
            return;
        }
        self.only = field.only();
        self.fill = self.only.unwrap_or(self.fill);
    }

    /// What to write, if it is not what stands there.
    pub(super) fn to_write(&self, tokens: Option<u64>) -> Option<u64> {
        let most = [self.own, self.most, tokens].into_iter().flatten().min()?;
        let moves = self
            .only
            .is_some_and(|only| self.stated.iter().any(|stated| *stated != only));
        (moves || self.own != Some(most)).then_some(most)
    }

    /// The fields to write it in, once that is to be done. All others of its fields go.
    pub(super) fn written(&self) -> Vec<&'static str> {
        match self.only {
            Some(only) => vec![only],
            None if self.stated.is_empty() => vec![self.fill],
            None => self.stated.clone(),
        }
    }
}
