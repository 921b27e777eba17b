//! What a provider says was used, in disjoint classes.
//!
//! Providers nest their counts: OpenAI's cached tokens are part of its prompt tokens, Anthropic's are
//! beside its input tokens. A [`Usage`] has no nesting left: each token is in exactly one class, so
//! that settling is a sum of products and no token can be counted twice or lost.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kinds of tokens that a provider may price apart. Every token is in exactly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Text, and whatever else the provider does not price apart.
    Input,
    CacheRead,
    /// Written to the cache for the provider's shortest time: five minutes, or thirty at OpenAI.
    CacheWrite,
    CacheWrite1h,
    CacheWrite12h,
    /// Written to the cache, and the provider did not say for how long.
    CacheWriteUnstated,
    InputAudio,
    CacheReadAudio,
    InputImage,
    CacheReadImage,
    Output,
    Reasoning,
    OutputAudio,
    OutputImage,
}

impl TokenClass {
    pub const COUNT: usize = 14;
    pub const ALL: [Self; Self::COUNT] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::CacheWrite12h,
        Self::CacheWriteUnstated,
        Self::InputAudio,
        Self::CacheReadAudio,
        Self::InputImage,
        Self::CacheReadImage,
        Self::Output,
        Self::Reasoning,
        Self::OutputAudio,
        Self::OutputImage,
    ];

    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is part of what was sent; the size of the input chooses the context band.
    pub const fn is_input(self) -> bool {
        !matches!(
            self,
            Self::Output | Self::Reasoning | Self::OutputAudio | Self::OutputImage
        )
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input tokens",
            Self::CacheRead => "cache read tokens",
            Self::CacheWrite => "cache write tokens",
            Self::CacheWrite1h => "cache write tokens (1 hour)",
            Self::CacheWrite12h => "cache write tokens (12 hours)",
            Self::CacheWriteUnstated => "cache write tokens",
            Self::InputAudio => "audio input tokens",
            Self::CacheReadAudio => "cached audio input tokens",
            Self::InputImage => "image input tokens",
            Self::CacheReadImage => "cached image input tokens",
            Self::Output => "output tokens",
            Self::Reasoning => "reasoning tokens",
            Self::OutputAudio => "audio output tokens",
            Self::OutputImage => "image output tokens",
        }
    }
}

/// A count for each token class.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens([u64; TokenClass::COUNT]);

impl Tokens {
    pub const fn get(&self, class: TokenClass) -> u64 {
        self.0[class.index()]
    }

    pub const fn set(&mut self, class: TokenClass, count: u64) {
        self.0[class.index()] = count;
    }

    /// Adds to a class, stopping at the end of the range, which no bounded count reaches.
    pub const fn add(&mut self, class: TokenClass, count: u64) {
        let slot = &mut self.0[class.index()];
        *slot = slot.saturating_add(count);
    }

    #[must_use]
    pub const fn with(mut self, class: TokenClass, count: u64) -> Self {
        self.set(class, count);
        self
    }

    /// The classes that were used, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (TokenClass, u64)> + '_ {
        TokenClass::ALL
            .into_iter()
            .map(|class| (class, self.get(class)))
            .filter(|&(_, count)| count > 0)
    }

    /// All that was sent, from the cache or not.
    pub fn input(&self) -> u64 {
        self.iter()
            .filter(|(class, _)| class.is_input())
            .fold(0, |sum, (_, n)| sum.saturating_add(n))
    }

    /// All that came back.
    pub fn output(&self) -> u64 {
        self.iter()
            .filter(|(class, _)| !class.is_input())
            .fold(0, |sum, (_, n)| sum.saturating_add(n))
    }
}

/// How the provider scheduled the call. What a provider charges nothing extra for (a reserved or
/// scaled capacity that is paid in advance) counts as standard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    #[default]
    Standard,
    Batch,
    Flex,
    Priority,
    Ultrafast,
}

impl ServiceTier {
    pub const ALL: [Self; 5] = [Self::Standard, Self::Batch, Self::Flex, Self::Priority, Self::Ultrafast];

    /// Whether it costs less than standard: then a missing rate may take the standard one.
    pub const fn is_discount(self) -> bool {
        matches!(self, Self::Batch | Self::Flex)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Ultrafast => "ultrafast",
        }
    }
}

impl fmt::Display for ServiceTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where the call was processed, as far as it moves the price.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// Anywhere, which is what providers price as normal.
    #[default]
    Global,
    Us,
    Eu,
    /// Named, and not one that we know: takes the highest surcharge of the entry.
    Other,
}

/// Microseconds in a second; durations are counted in them.
pub const MICROS_PER_SECOND: u64 = 1_000_000;

/// One call's usage as its provider reported it, brought into disjoint classes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Usage {
    pub tokens: Tokens,
    /// Seconds of audio or video, in microseconds.
    #[serde(default)]
    pub micros: u64,
    /// Characters of text that was spoken.
    #[serde(default)]
    pub characters: u64,
    /// Images that were made.
    #[serde(default)]
    pub images: u64,
    /// Calls, where the provider charges a fee for each.
    #[serde(default)]
    pub requests: u64,
    /// Web searches that the provider ran.
    #[serde(default)]
    pub web_searches: u64,
    #[serde(default)]
    pub tier: ServiceTier,
    #[serde(default)]
    pub region: Region,
    /// Whether the provider's fast mode served it, which multiplies the price.
    #[serde(default)]
    pub fast: bool,
}

impl Usage {
    /// The usage of one call that has used nothing yet.
    pub fn one_call() -> Self {
        Self {
            requests: 1,
            ..Self::default()
        }
    }

    #[must_use]
    pub const fn token(mut self, class: TokenClass, count: u64) -> Self {
        self.tokens.set(class, count);
        self
    }
}
