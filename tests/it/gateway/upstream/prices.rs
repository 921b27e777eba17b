//! What the fixture charges: a table of its own, in whole nano-dollars, and the price file that tells
//! Backstop the same.
//!
//! The bill is reckoned here a second time, from the usage that the fixture reports, by code that shares
//! nothing with the daemon's. Every rate is a whole number of nano-dollars a token, so no bill is ever
//! rounded and both sides must agree to the last one.

use serde_json::{Value, json};

/// What one model costs: nano-dollars a token, a second, a character, an image, a call.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    pub name: &'static str,
    pub service: &'static str,
    pub input: i64,
    pub cache_read: i64,
    pub cache_write: i64,
    pub cache_write_1h: i64,
    pub input_audio: i64,
    pub output: i64,
    pub reasoning: i64,
    pub second: i64,
    pub character: i64,
    pub image: i64,
    /// Of a call, whatever it uses.
    pub request: i64,
    /// Above so many input tokens every rate of a token is this many times as high.
    pub long: Option<(u64, i64)>,
    /// Sold at half the price to those who wait, and at twice to those who do not.
    pub tiers: bool,
    pub context: u64,
    pub max_output: u64,
}

const FREE: Model = Model {
    name: "",
    service: "openai",
    input: 0,
    cache_read: 0,
    cache_write: 0,
    cache_write_1h: 0,
    input_audio: 0,
    output: 0,
    reasoning: 0,
    second: 0,
    character: 0,
    image: 0,
    request: 0,
    long: None,
    tiers: false,
    context: 100_000,
    max_output: 16_384,
};

/// A usual chat model.
pub const CHAT: Model = Model {
    name: "fixture-chat",
    input: 2_500,
    cache_read: 250,
    input_audio: 40_000,
    output: 10_000,
    reasoning: 12_000,
    ..FREE
};

/// A hundred tokens of output cost two cents, and nothing else costs anything.
pub const TWO_CENTS: Model = Model {
    name: "fixture-two-cents",
    output: 200_000,
    reasoning: 200_000,
    ..FREE
};

/// Whatever it uses, a call costs two cents.
pub const FEE: Model = Model {
    name: "fixture-fee",
    request: 20_000_000,
    ..FREE
};

/// Mostly the prompt costs: a dollar for a thousand tokens, in a window of five hundred.
pub const PROMPT: Model = Model {
    name: "fixture-prompt",
    input: 1_000_000,
    output: 1_000,
    reasoning: 1_000,
    context: 500,
    ..FREE
};

/// The same at the other service.
pub const CLAUDE_PROMPT: Model = Model {
    service: "anthropic",
    name: "fixture-claude-prompt",
    ..PROMPT
};

/// Nobody says how much it reads.
pub const BOUNDLESS: Model = Model {
    name: "fixture-boundless",
    context: 0,
    ..PROMPT
};

/// Ten times as dear above a thousand tokens of input.
pub const LONG: Model = Model {
    name: "fixture-long",
    input: 10_000,
    output: 50_000,
    reasoning: 50_000,
    long: Some((1_000, 10)),
    ..FREE
};

/// One that is sold in tiers.
pub const TIERED: Model = Model {
    name: "fixture-tiered",
    tiers: true,
    ..CHAT
};

pub const EMBED: Model = Model {
    name: "fixture-embed",
    input: 20_000,
    ..FREE
};

/// Audio at 0.6 cents a minute.
pub const WHISPER: Model = Model {
    name: "fixture-whisper",
    second: 100_000,
    ..FREE
};

/// Audio by its tokens.
pub const LISTENER: Model = Model {
    name: "fixture-listener",
    context: 2_000,
    max_output: 400,
    input: 2_500,
    input_audio: 6_000,
    output: 10_000,
    reasoning: 10_000,
    ..FREE
};

pub const SPEAKER: Model = Model {
    name: "fixture-speaker",
    character: 15_000,
    ..FREE
};

pub const PAINTER: Model = Model {
    name: "fixture-painter",
    image: 40_000_000,
    ..FREE
};

pub const MODERATOR: Model = Model {
    name: "fixture-moderator",
    ..FREE
};

/// Anthropic's way of caching, at rates that all differ.
pub const CLAUDE: Model = Model {
    name: "fixture-claude",
    service: "anthropic",
    input: 3_000,
    cache_read: 300,
    cache_write: 3_750,
    cache_write_1h: 6_000,
    output: 15_000,
    reasoning: 15_000,
    ..FREE
};

/// [`TWO_CENTS`], at the other service.
pub const CLAUDE_TWO_CENTS: Model = Model {
    service: "anthropic",
    name: "fixture-claude-two-cents",
    ..TWO_CENTS
};

/// Sold by the provider, and on nobody's list of prices.
pub const UNLISTED: Model = Model {
    name: "fixture-unlisted",
    input: 100_000,
    output: 100_000,
    reasoning: 100_000,
    ..FREE
};

/// Those with a price. The moderator is free, and one is not listed.
pub const PRICED: [Model; 15] = [
    CHAT,
    TWO_CENTS,
    FEE,
    PROMPT,
    CLAUDE_PROMPT,
    BOUNDLESS,
    LONG,
    TIERED,
    EMBED,
    WHISPER,
    LISTENER,
    SPEAKER,
    PAINTER,
    CLAUDE,
    CLAUDE_TWO_CENTS,
];

/// By what a price is multiplied, and divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Factor(i64, i64);

const ONCE: Factor = Factor(1, 1);

impl Factor {
    fn of(self, nanos: i64) -> i64 {
        nanos * self.0 / self.1
    }
}

fn tier_factor(tier: &str) -> Factor {
    match tier {
        "flex" => Factor(1, 2),
        "priority" => Factor(2, 1),
        _ => ONCE,
    }
}

/// Dollars a million, as price pages print them.
fn a_million(nanos: i64) -> String {
    format!("{}.{:03}", nanos / 1_000, nanos % 1_000)
}

/// Dollars for one.
fn for_one(nanos: i64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

impl Model {
    fn has_tokens(&self) -> bool {
        self.second + self.character + self.image == 0
    }

    fn band(&self, above: u64, factor: Factor) -> Value {
        let rate = |nanos: i64| a_million(factor.of(nanos));
        let mut band = json!({
            "input": rate(self.input),
            "output": rate(self.output),
            "reasoning": rate(self.reasoning),
        });
        let more = [
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("input_audio", self.input_audio),
        ];
        for (class, nanos) in more.into_iter().filter(|(_, nanos)| *nanos > 0) {
            band[class] = rate(nanos).into();
        }
        if above > 0 {
            band["above"] = above.into();
        }
        band
    }

    fn listed(&self) -> Value {
        let mut price = json!({
            "service": self.service,
            "models": [self.name],
            "max_output": self.max_output,
            "source": "the fixture upstream of the tests",
            "date": "2026-11-20",
        });
        if self.context > 0 {
            price["context"] = self.context.into();
        }
        if self.has_tokens() {
            let mut bands = vec![self.band(0, ONCE)];
            bands.extend(self.long.map(|(above, times)| self.band(above, Factor(times, 1))));
            for tier in ["flex", "priority"].iter().filter(|_| self.tiers) {
                let mut band = self.band(0, tier_factor(tier));
                band["tier"] = (*tier).into();
                bands.push(band);
            }
            price["bands"] = bands.into();
        }
        let units = [
            ("second", self.second),
            ("character", self.character),
            ("image", self.image),
            ("request", self.request),
        ];
        for (unit, rate) in units.into_iter().filter(|(_, rate)| *rate > 0) {
            price[unit] = for_one(rate).into();
        }
        price
    }
}

/// The price file that the daemon is given.
pub fn file() -> String {
    let prices: Vec<Value> = PRICED.iter().map(Model::listed).collect();
    json!({ "price": prices }).to_string()
}

/// The model of that name.
pub fn model(name: &str) -> Option<Model> {
    PRICED
        .into_iter()
        .chain([MODERATOR, UNLISTED])
        .find(|model| model.name == name)
}

/// What one call used, each unit once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Neither cached nor written to the cache nor audio.
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub cache_write_1h: u64,
    pub input_audio: u64,
    /// Not reasoned.
    pub output: u64,
    pub reasoning: u64,
    /// Thousandths of a second of audio.
    pub millis: u64,
    pub characters: u64,
    pub images: u64,
    /// In which the call was served; "" is the usual one.
    pub tier: &'static str,
}

impl Used {
    /// All that went in, which chooses the band.
    pub fn sent(&self) -> u64 {
        self.input + self.cache_read + self.cache_write + self.cache_write_1h + self.input_audio
    }
}

/// The bill, in nano-dollars.
pub fn bill(model: &Model, used: &Used) -> i64 {
    let times = match model.long {
        Some((above, times)) if used.sent() > above => times,
        _ => 1,
    };
    let tokens = [
        (used.input, model.input),
        (used.cache_read, model.cache_read),
        (used.cache_write, model.cache_write),
        (used.cache_write_1h, model.cache_write_1h),
        (used.input_audio, model.input_audio),
        (used.output, model.output),
        (used.reasoning, model.reasoning),
    ];
    let amount = |(count, rate): (u64, i64)| i64::try_from(count).expect("a small count") * rate;
    let tokens: i64 = tokens.into_iter().map(amount).sum();
    tier_factor(used.tier).of(tokens * times)
        + amount((used.millis, model.second)) / 1_000
        + amount((used.characters, model.character))
        + amount((used.images, model.image))
        + model.request
}
