//! Reads a request: what it asks for, and how much that can be at most.
//!
//! Every route has a list of the fields that it may have ([`fields`](super::fields)); a field that is in
//! none, or has another type than it should, is refused by name. What is left is understood: which limits
//! and multipliers hold, whether its bytes bound what the model reads, which tools it offers.
//!
//! Input tokens are bounded by the bytes of the body: a byte-level tokenizer makes no more tokens than
//! bytes, and escapes only make the body longer than what is read. What templates add is not in the body,
//! so [`overhead()`] is counted on top, and where the tokenizer may rewrite a text first, what that may add.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::asked::{Asked, ContentFrom, OutputLimit, THINKING_BUDGET};
use super::expansion::expansion;
use super::fees;
use super::fields::{chat, messages, plain, responses};
use super::limit::{self, Limit};
use super::media;
use super::overhead::overhead;
use super::rejection::CallRejection;
use super::route::{Api, Metering, Route};
use super::rules::CallRules;
use super::walk::{Found, Walk};
use crate::domain::id::ModelId;
use crate::domain::price::{CallBound, Region, ServiceTier};
use crate::domain::rejection::Rejection;
use crate::domain::wire::json::{self, JsonLimits};

/// A request with files in it is large; it is also nested deeper than a report, by the tools' schemas.
const LIMITS: JsonLimits = JsonLimits {
    bytes: 64 << 20,
    depth: 80,
    values: 4_000_000,
};

/// More outputs than any provider makes for one call.
const MAX_TIMES: u64 = 100_000;
/// More tokens than any model writes, and few enough that no product of them overflows.
const MAX_TOKENS: u64 = 1_000_000_000;

const WEB_SEARCH: &str = "web_search";

/// A completion that states no limit has this one, says OpenAI's documentation; more would cost more than
/// was asked for.
const COMPLETION_TOKENS: u64 = 16;

/// Reads the JSON body of a request.
///
/// # Errors
/// The body is not JSON that every reader reads alike, has a field that is not known here or not of its
/// type, or asks for what cannot be bounded.
pub fn read(route: Route, body: &Bytes, rules: &CallRules) -> Result<Asked, Rejection> {
    if matches!(route, Route::Speech | Route::ImageGenerations | Route::ImageEdits) {
        return media::read(route, body, rules);
    }
    let value = json::parse_strict(body, &LIMITS).map_err(|why| Rejection::Malformed(why.to_string()))?;
    let Value::Object(fields) = &value else {
        return Err(Rejection::Malformed("it is not a JSON object".to_owned()));
    };
    let request = Request {
        route,
        rules,
        fields,
        raw: body,
    };
    Ok(match route {
        Route::ChatCompletions => request.chat(),
        Route::Completions => request.completions(),
        Route::Responses => request.responses(),
        Route::Embeddings => request.embeddings(),
        Route::Messages => request.messages(),
        _ if route.metering() == Metering::Free => request.free(),
        _ => Err(not_metered(route)),
    }?)
}

fn not_metered(route: Route) -> CallRejection {
    CallRejection::RouteNotMetered {
        method: "POST".to_owned(),
        path: format!("/v1/{}", route.name()),
    }
}

struct Request<'r> {
    route: Route,
    rules: &'r CallRules,
    fields: &'r Map<String, Value>,
    raw: &'r Bytes,
}

type Read<T> = Result<T, CallRejection>;

impl Request<'_> {
    fn chat(&self) -> Read<Asked> {
        let mut walk = Walk::new(self.route, self.rules, self.text("model"));
        walk.request(self.fields, chat::FIELDS, chat::READ)?;
        self.must_have("messages")?;
        // These models search for every call, whether it asks for it or not.
        if self.text("model").is_some_and(|model| model.contains("-search-")) {
            walk.server_tool(WEB_SEARCH)?;
        }
        let mut found = walk.found;
        if found.server_tools.contains(WEB_SEARCH) {
            // It is offered by a field of its own, so it cannot be taken out of a list.
            found.offer(WEB_SEARCH);
            found.fixed_tools.insert(WEB_SEARCH.to_owned());
        }
        let speaks = self.list("modalities").iter().any(|value| value == "audio");
        found.audio |= speaks || self.get("audio").is_some();
        let times = self.times("n")?;
        let limit = self.limit(&[limit::NEW, limit::OLD], 1, None)?;
        let mut asked = self.asked(found, limit, times)?;
        if let Some(prediction) = self.get("prediction") {
            // What of it the model did not write is billed as output too; and the limit has its old name there.
            let bytes = bytes_of(prediction);
            asked.most.output_tokens = bytes.checked_mul(times).ok_or(CallRejection::Absurd)?;
            if let Some(limit) = &mut asked.draft.limit {
                limit.fill = limit::OLD;
            }
        }
        self.force_usage(&mut asked);
        Ok(asked)
    }

    fn completions(&self) -> Read<Asked> {
        let mut walk = Walk::new(self.route, self.rules, self.text("model"));
        walk.request(self.fields, plain::COMPLETIONS, &[])?;
        let mut found = walk.found;
        let prompts = self.inputs("prompt", &mut found)?.max(1);
        if let Some(suffix) = self.get("suffix") {
            let suffix = suffix.as_str().ok_or_else(|| wrong("suffix", "must be a text"))?;
            found.texts.push(suffix.to_owned());
        }
        let each = self.times("n")?.max(self.times("best_of")?);
        let times = each.checked_mul(prompts).ok_or(CallRejection::Absurd)?;
        let limit = self.limit(&["max_tokens"], 0, Some(COMPLETION_TOKENS))?;
        let mut asked = self.asked(found, limit, times)?;
        asked.inputs = prompts;
        self.force_usage(&mut asked);
        Ok(asked)
    }

    fn responses(&self) -> Read<Asked> {
        let mut walk = Walk::new(self.route, self.rules, self.text("model"));
        walk.request(self.fields, responses::FIELDS, responses::READ)?;
        let limit = self.limit(&["max_output_tokens"], 1, None)?;
        self.asked(walk.found, limit, 1)
    }

    fn embeddings(&self) -> Read<Asked> {
        let mut walk = Walk::new(self.route, self.rules, self.text("model"));
        walk.request(self.fields, plain::EMBEDDINGS, &[])?;
        let mut found = walk.found;
        self.must_have("input")?;
        let inputs = self.inputs("input", &mut found)?;
        let mut asked = self.asked(found, None, 1)?;
        asked.inputs = inputs;
        asked.output = OutputLimit::None;
        Ok(asked)
    }

    fn messages(&self) -> Read<Asked> {
        let mut walk = Walk::new(self.route, self.rules, self.text("model"));
        walk.request(self.fields, messages::FIELDS, messages::READ)?;
        self.must_have("messages")?;
        let limit = self.limit(&["max_tokens"], 0, None)?;
        let thinking_budget = self.thinking(limit.as_ref())?;
        let mut asked = self.asked(walk.found, limit, 1)?;
        asked.thinking_budget = thinking_budget;
        asked.most.fast = self.text("speed") == Some("fast");
        asked.most.region = self.text("inference_geo").map(|name| match name {
            "global" => Region::Global,
            "us" => Region::Us,
            "eu" => Region::Eu,
            _ => Region::Other,
        });
        Ok(asked)
    }

    /// A route that costs nothing: whatever it holds is the provider's business.
    fn free(&self) -> Read<Asked> {
        let model = self.get("model").map(|_| self.model()).transpose()?;
        Ok(self.bare(model))
    }

    /// What all metered routes have in common.
    fn asked(&self, found: Found, limit: Option<Limit>, times: u64) -> Read<Asked> {
        let mut asked = self.bare(Some(self.model()?));
        let forms = ["response_format", "text", "output_config", "output_format"];
        let has_form = forms.iter().any(|field| self.get(field).is_some());
        asked.growth = self.fields.values().map(expansion).fold(0, u64::saturating_add);
        asked.overhead = overhead(&found, has_form).saturating_add(found.picture_tokens);
        asked.most = CallBound {
            input_tokens: bytes(self.raw.len())
                .saturating_sub(found.picture_bytes)
                .saturating_add(asked.overhead),
            requests: 1,
            tier: self.tier(),
            audio: found.audio,
            image: found.image,
            ..CallBound::default()
        };
        asked.output = OutputLimit::Tokens {
            asked: limit
                .as_ref()
                .and_then(|limit| match (limit.own, self.rules.max_tokens) {
                    (Some(own), Some(most)) => Some(own.min(most)),
                    (own, _) => own,
                }),
            times,
        };
        asked.clamped = limit.as_ref().and_then(|limit| {
            let own = limit.own?;
            self.rules.max_tokens.filter(|&most| most < own)
        });
        asked.fees = found.fees;
        asked.searches = fees::allowed_searches(self.route, self.fields, &found.fixed_tools);
        asked.server_tools = found.server_tools;
        asked.tools = found.tools;
        asked.thoughts = found.thoughts;
        asked.messages = found.messages;
        asked.uncounted = found.uncounted;
        if found.elsewhere {
            asked.content = ContentFrom::Elsewhere;
        } else if !found.tokens {
            asked.text = Some(found.texts);
        }
        asked.draft.fixed_tools = found.fixed_tools;
        asked.draft.groups = found.groups;
        asked.draft.limit = limit;
        Ok(asked)
    }

    fn bare(&self, model: Option<ModelId>) -> Asked {
        Asked {
            stream: self.flag("stream"),
            ..Asked::new(self.route, self.raw, model)
        }
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    fn flag(&self, field: &str) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    fn list(&self, field: &str) -> &[Value] {
        self.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn must_have(&self, field: &str) -> Read<()> {
        self.get(field).map(|_| ()).ok_or_else(|| wrong(field, "is missing"))
    }

    fn model(&self) -> Read<ModelId> {
        let name = self.get("model").ok_or_else(|| wrong("model", "is missing"))?;
        let name = name.as_str().ok_or_else(|| wrong("model", "must be a text"))?;
        ModelId::new(name).map_err(|why| wrong("model", &why.to_string()))
    }

    fn tier(&self) -> Option<ServiceTier> {
        match (self.route.api(), self.text("service_tier")?) {
            (Api::Openai, "default" | "on_demand" | "scale") | (Api::Anthropic, "standard_only") => {
                Some(ServiceTier::Standard)
            }
            (Api::Openai, "flex") => Some(ServiceTier::Flex),
            (Api::Openai, "priority" | "fast") => Some(ServiceTier::Priority),
            (Api::Openai, "ultrafast") => Some(ServiceTier::Ultrafast),
            _ => None,
        }
    }

    /// A whole number from `least` to `most`, if the field is there.
    fn whole(&self, field: &str, least: u64, most: u64) -> Read<Option<u64>> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(field, &format!("must be a whole number from {least} to {most}"))),
        }
    }

    fn times(&self, field: &str) -> Read<u64> {
        Ok(self.whole(field, 1, MAX_TIMES)?.unwrap_or(1))
    }

    /// The limit on the output, which any of these fields may state, the first one being how it is filled in.
    /// `usual` is what the provider documents that it takes where none is stated.
    fn limit(&self, names: &[&'static str], least: u64, usual: Option<u64>) -> Read<Option<Limit>> {
        let mut own = None;
        let mut where_stated = Vec::new();
        for name in names {
            let stated = self.whole(name, least, MAX_TOKENS)?;
            if stated.is_some() && own.is_some() && stated != own {
                let problem = format!("differs from {}: say one of them", names[0]);
                return Err(wrong(name, &problem));
            }
            own = own.or(stated);
            where_stated.extend(stated.map(|_| *name));
        }
        let filled = [Some(self.rules.default_max_tokens), self.rules.max_tokens, usual];
        Ok(Some(Limit {
            names: names.to_vec(),
            stated: where_stated,
            fill: names[0],
            only: None,
            own,
            most: match own {
                Some(_) => self.rules.max_tokens,
                None => filled.into_iter().flatten().min(),
            },
        }))
    }

    /// Thinking is part of the output, so its budget fits into the limit. Anthropic refuses one that does not,
    /// but where thoughts are interleaved with tools "you can exceed this limit as the token limit becomes your
    /// entire context window" (docs.claude.com, extended thinking). Such a call has no limit that it states, so
    /// it is refused here, whatever its headers say.
    fn thinking(&self, limit: Option<&Limit>) -> Read<Option<u64>> {
        let Some(thinking) = self.get("thinking").and_then(Value::as_object) else {
            return Ok(None);
        };
        let field = THINKING_BUDGET;
        let budget = match thinking.get("budget_tokens").filter(|value| !value.is_null()) {
            None => return Ok(None),
            Some(value) => value.as_u64().filter(|&budget| budget <= MAX_TOKENS),
        };
        let Some(budget) = budget else {
            return Err(wrong(field, &format!("must be a whole number up to {MAX_TOKENS}")));
        };
        let Some(own) = limit.and_then(|limit| limit.own) else {
            return Err(wrong(
                "max_tokens",
                "is missing, and thinking.budget_tokens is a part of it",
            ));
        };
        if budget >= own {
            let problem = format!("must be below max_tokens, which is {own}: what is thought is a part of the answer");
            return Err(wrong(field, &problem));
        }
        match self.rules.max_tokens {
            Some(most) if budget >= most => {
                let problem = format!("must be below {most}, to which max_tokens is lowered here");
                Err(wrong(field, &problem))
            }
            _ => Ok(Some(budget)),
        }
    }

    /// How many inputs a field holds: a text, a list of texts, a list of tokens, or a list of such lists.
    fn inputs(&self, field: &str, found: &mut Found) -> Read<u64> {
        let malformed = || {
            wrong(
                field,
                "must be a text, a list of texts, a list of tokens, or a list of those",
            )
        };
        let is_token = |value: &Value| value.as_u64().is_some();
        match self.get(field) {
            None => Ok(0),
            Some(Value::String(text)) => {
                found.texts.push(text.clone());
                Ok(1)
            }
            Some(Value::Array(items)) if items.is_empty() => Err(malformed()),
            Some(Value::Array(items)) if items.iter().all(is_token) => {
                found.tokens = true;
                Ok(1)
            }
            Some(Value::Array(items)) => {
                for item in items {
                    match item {
                        Value::String(text) => found.texts.push(text.clone()),
                        Value::Array(tokens) if !tokens.is_empty() && tokens.iter().all(is_token) => {
                            found.tokens = true;
                        }
                        _ => return Err(malformed()),
                    }
                }
                Ok(bytes(items.len()))
            }
            Some(_) => Err(malformed()),
        }
    }

    /// A stream of these routes reports its usage only if it is asked to.
    fn force_usage(&self, asked: &mut Asked) {
        if asked.stream {
            let options = self.get("stream_options");
            let wanted = options.and_then(|options| options.get("include_usage"));
            asked.strip_usage = wanted != Some(&Value::Bool(true));
            asked.draft.force_usage = asked.strip_usage;
        }
    }
}

fn wrong(field: &str, problem: &str) -> CallRejection {
    CallRejection::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn bytes(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn bytes_of(value: &Value) -> u64 {
    bytes(value.to_string().len())
}
