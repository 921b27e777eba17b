//! What a call can cost at most: a test per rule, and that no usage within what was asked costs more.

use proptest::prelude::*;

use super::*;
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::ledger::bound::Bound;
use crate::domain::price::{
    Band, Catalogue, Permille, PriceEntry, Provenance, Rate, Rates, Region, ServiceTier, SourceKind, TokenClass,
    UnitRates, Uplifts, Usage, settle,
};

/// Dollars a million: input 1, output 10; in the priority tier double, above 10,000 tokens half as much more.
fn entry() -> PriceEntry {
    let rates = |input: &str, output: &str| {
        Rates::default()
            .with(TokenClass::Input, Rate::per_million(input).expect("a rate"))
            .with(TokenClass::Output, Rate::per_million(output).expect("a rate"))
    };
    let band = |tier, above, rates| Band { tier, above, rates };
    PriceEntry {
        service: ServiceId::new("openai").expect("a service"),
        model: "m".into(),
        bands: vec![
            band(ServiceTier::Standard, 0, rates("1", "10")),
            band(ServiceTier::Standard, 10_000, rates("1.5", "15")),
            band(ServiceTier::Flex, 0, rates("0.5", "5")),
            band(ServiceTier::Priority, 0, rates("2", "20")),
        ],
        units: UnitRates::default(),
        uplifts: Uplifts::default(),
        min_seconds: None,
        context: Some(100_000),
        max_output: Some(8_000),
        provenance: Provenance {
            kind: SourceKind::Operator,
            source: "synthetic".into(),
            date: "2026-11-20".into(),
        },
    }
}

fn of(route: Route, body: &str, entry: &PriceEntry, rules: &CallRules) -> Result<Bound, Rejection> {
    let asked = read(route, &Bytes::from(body.to_owned()), rules)?;
    bound(&asked, entry, rules)
}

fn fixed(route: Route, body: &str, entry: &PriceEntry) -> Usd {
    match of(route, body, entry, &CallRules::default()) {
        Ok(Bound::Fixed(bound)) => bound,
        other => panic!("{body}: {other:?}"),
    }
}

fn chat(more: &str) -> String {
    format!(r#"{{"model":"m","service_tier":"default","messages":[]{more}}}"#)
}

/// The price of the body's bytes and the template of a call, at so many nano-dollars a byte.
fn input(body: &str, nanos: i64) -> i64 {
    (i64::try_from(body.len()).expect("short") + 64) * nanos
}

#[test]
fn a_stated_limit_is_paid_in_full_for_each_output() {
    let one = chat(r#","max_tokens":100"#);
    assert_eq!(
        fixed(Route::ChatCompletions, &one, &entry()).nanos(),
        input(&one, 1_000) + 100 * 10_000
    );
    let three = chat(r#","max_tokens":100,"n":3"#);
    assert_eq!(
        fixed(Route::ChatCompletions, &three, &entry()).nanos(),
        input(&three, 1_000) + 300 * 10_000
    );
    let prompts = r#"{"model":"m","prompt":["a","b"],"n":2,"best_of":3,"max_tokens":100}"#;
    // No tier can be named there, so the dearest one counts.
    assert_eq!(
        fixed(Route::Completions, prompts, &entry()).nanos(),
        input(prompts, 2_000) + 600 * 20_000
    );
}

#[test]
fn a_missing_limit_follows_what_is_left() {
    let body = chat("");
    let Ok(Bound::Tokens(tokens)) = of(Route::ChatCompletions, &body, &entry(), &CallRules::default()) else {
        panic!("it has no limit");
    };
    assert_eq!(tokens.base.nanos(), input(&body, 1_000));
    assert_eq!(tokens.nanos_per_million, 10_000_000_000);
    assert_eq!((tokens.wanted, tokens.least), (4_096, 256));
    let many = chat(r#","n":5"#);
    let Ok(Bound::Tokens(many)) = of(Route::ChatCompletions, &many, &entry(), &CallRules::default()) else {
        panic!("it has no limit");
    };
    assert_eq!(many.nanos_per_million, 50_000_000_000);
    // The least of the default, the rules' and the model's own; the floor is no more than that.
    let rules = CallRules {
        max_tokens: Some(100),
        ..CallRules::default()
    };
    let Ok(Bound::Tokens(low)) = of(Route::ChatCompletions, &body, &entry(), &rules) else {
        panic!("it has no limit");
    };
    assert_eq!((low.wanted, low.least), (100, 100));
    let completion = r#"{"model":"m","prompt":["a","b"]}"#;
    let Ok(Bound::Tokens(usual)) = of(Route::Completions, completion, &entry(), &CallRules::default()) else {
        panic!("it has no limit");
    };
    assert_eq!((usual.wanted, usual.least), (16, 16));
    let short = PriceEntry {
        max_output: Some(1_000),
        ..entry()
    };
    let Ok(Bound::Tokens(short)) = of(Route::ChatCompletions, &body, &short, &CallRules::default()) else {
        panic!("it has no limit");
    };
    assert_eq!(short.wanted, 1_000);
}

#[test]
fn the_model_writes_no_more_than_it_can_unless_a_header_lets_it() {
    let body = chat(r#","max_tokens":1000000"#);
    let most = input(&body, 1_000) + 8_000 * 10_000;
    assert_eq!(fixed(Route::ChatCompletions, &body, &entry()).nanos(), most);
    let mut asked = read_text(Route::ChatCompletions, &body).expect("a request");
    asked.widened.output = Some(20_000);
    let wide = bound(&asked, &entry(), &CallRules::default()).expect("a bound");
    assert_eq!(wide.most().nanos(), input(&body, 1_000) + 20_000 * 10_000);
}

/// The list may be out of date, and the model write more by now: what is forwarded is what was bounded.
#[test]
fn a_limit_above_what_the_model_writes_is_forwarded_as_it_was_bounded() {
    let told = |asked: &Asked| -> serde_json::Value { serde_json::from_slice(&asked.body(None)).expect("JSON") };
    let body = chat(r#","max_tokens":1000000"#);
    let mut asked = read_text(Route::ChatCompletions, &body).expect("a request");
    let bounded = bound(&asked, &entry(), &CallRules::default());
    asked.fit(&entry()).expect("it can be lowered");
    assert_eq!(bound(&asked, &entry(), &CallRules::default()), bounded);
    let lowered = OutputLimit::Tokens {
        asked: Some(8_000),
        times: 1,
    };
    assert_eq!((asked.output, asked.clamped), (lowered, Some(8_000)));
    assert_eq!(told(&asked)["max_tokens"], 8_000);
    // A header that lets it write more, a limit within, and a list that says nothing leave it as it is.
    let unknown = PriceEntry {
        max_output: None,
        ..entry()
    };
    for (limit, widened, entry) in [
        (20_000, Some(20_000), entry()),
        (8_000, None, entry()),
        (9_000, None, unknown),
    ] {
        let body = chat(&format!(r#","max_tokens":{limit}"#));
        let mut asked = read_text(Route::ChatCompletions, &body).expect("a request");
        asked.widened.output = widened;
        asked.fit(&entry).expect("it fits");
        assert_eq!((asked.clamped, asked.body(None)), (None, Bytes::from(body)));
    }
    // A budget for thinking that no longer fits is refused by name.
    let body = r#"{"model":"m","messages":[],"max_tokens":20000,"thinking":{"type":"enabled","budget_tokens":8000}}"#;
    let mut asked = read_text(Route::Messages, body).expect("a request");
    let Err(CallRejection::Field { field, .. }) = asked.fit(&entry()) else {
        panic!("it does not fit");
    };
    assert_eq!(field, "thinking.budget_tokens");
}

#[test]
fn the_window_caps_the_input_and_is_all_there_is_for_content_from_elsewhere() {
    let text = "x".repeat(300_000);
    let long = chat(&format!(r#","max_tokens":0,"user":"{text}""#)).replace(r#""max_tokens":0,"#, r#""max_tokens":1,"#);
    // Above ten thousand tokens the dearer band holds.
    assert_eq!(
        fixed(Route::ChatCompletions, &long, &entry()).nanos(),
        100_000 * 1_500 + 15_000
    );
    let file = r#"{"model":"m","service_tier":"default","max_output_tokens":1,"input":"x","previous_response_id":"r"}"#;
    assert_eq!(
        fixed(Route::Responses, file, &entry()).nanos(),
        100_000 * 1_500 + 15_000
    );
    let unknown = PriceEntry {
        context: None,
        ..entry()
    };
    assert_eq!(
        of(Route::Responses, file, &unknown, &CallRules::default()),
        Err(CallRejection::ContextUnknown("m".into()).into())
    );
    // Text alone needs no window.
    assert!(fixed(Route::ChatCompletions, &long, &unknown).nanos() > 300_000 * 1_500);
    // Several inputs have a window each.
    let many = format!(r#"{{"model":"m","input":["{text}","b"]}}"#);
    assert_eq!(fixed(Route::Embeddings, &many, &entry()).nanos(), 200_000 * 2_000);
    // A header can widen it, and what is beyond the listed window has a price of its own.
    let mut asked = read_text(Route::Responses, file).expect("a request");
    asked.widened.context = Some(1_000_000);
    let found = bound(&asked, &entry(), &CallRules::default());
    assert!(matches!(found, Err(Rejection::PriceUnknown { .. })), "{found:?}");
    let mut listed = entry();
    listed.bands[1].above = 100_000;
    let wide = bound(&asked, &listed, &CallRules::default()).expect("a bound");
    assert_eq!(wide.most().nanos(), 1_000_000 * 1_500 + 15_000);
    // What fits into the listed window has the listed price, header or not.
    let mut short = read_text(Route::ChatCompletions, &chat(r#","max_tokens":1"#)).expect("a request");
    short.widened.context = Some(1_000_000);
    assert!(bound(&short, &entry(), &CallRules::default()).is_ok());
}

/// A block of thinking came of one answer, so it is no longer than the longest answer.
#[test]
fn a_thought_that_is_sent_back_is_as_long_as_an_answer() {
    let wide = |max_output| PriceEntry {
        bands: entry().bands.into_iter().filter(|band| band.above == 0).collect(),
        context: Some(1_000_000),
        max_output,
        ..entry()
    };
    let block = r#"{"type":"thinking","thinking":"hm","signature":"c2ln"}"#;
    let redacted = r#"{"type":"redacted_thinking","data":"c2ln"}"#;
    let messages = |content: &str| {
        format!(
            r#"{{"model":"m","max_tokens":1,"service_tier":"standard_only","messages":[{{"role":"assistant","content":[{content}]}}]}}"#
        )
    };
    let tokens = |route, body: &str, entry: &PriceEntry| (fixed(route, body, entry).nanos() - 10_000) / 1_000;
    let bytes = |body: &str| i64::try_from(body.len()).expect("short") + 64 + 8;
    let one = messages(block);
    let found = tokens(Route::Messages, &one, &wide(Some(307_200)));
    assert_eq!(found, bytes(&one) + 307_200);
    let two = messages(&format!("{block},{redacted}"));
    let found = tokens(Route::Messages, &two, &wide(Some(350_000)));
    assert_eq!(found, bytes(&two) + 700_000);
    // Another model may have thought it.
    let found = tokens(Route::Messages, &one, &wide(Some(8_000)));
    assert_eq!(found, bytes(&one) + 307_200);
    let many = messages(&vec![block; 20].join(","));
    assert_eq!(tokens(Route::Messages, &many, &wide(Some(307_200))), 1_000_000);
    // It is not known how long its answers are.
    assert_eq!(tokens(Route::Messages, &one, &wide(None)), 1_000_000);

    let item = r#"{"model":"m","max_output_tokens":1,"service_tier":"default","input":[
        {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"c2ln"}]}"#;
    let found = tokens(Route::Responses, item, &wide(Some(307_200)));
    // Its summary is a value, which may be written in another way.
    assert_eq!(found, bytes(item) + 2 + 307_200);
    // What is elsewhere is as long as the window all the same.
    let other = item.replace(r#""input""#, r#""previous_response_id":"r","input""#);
    assert_eq!(tokens(Route::Responses, &other, &wide(Some(307_200))), 1_000_000);
}

#[test]
fn a_tier_that_is_certain_is_reckoned_alone_and_any_other_at_the_dearest() {
    let of_tier = |tier: &str| {
        let body = format!(r#"{{"model":"m","messages":[],"max_tokens":1000{tier}}}"#);
        (fixed(Route::ChatCompletions, &body, &entry()).nanos(), body)
    };
    let (standard, body) = of_tier(r#","service_tier":"default""#);
    assert_eq!(standard, input(&body, 1_000) + 1_000 * 10_000);
    for tier in [r#","service_tier":"priority""#, r#","service_tier":"auto""#, ""] {
        let (bound, body) = of_tier(tier);
        assert_eq!(bound, input(&body, 2_000) + 1_000 * 20_000, "{tier}");
    }
    // The provider may serve it in the standard tier instead.
    let (flex, body) = of_tier(r#","service_tier":"flex""#);
    assert_eq!(flex, input(&body, 1_000) + 1_000 * 10_000);
    let unlisted = r#"{"model":"m","messages":[],"max_tokens":1,"service_tier":"ultrafast"}"#;
    let found = of(Route::ChatCompletions, unlisted, &entry(), &CallRules::default());
    assert!(matches!(found, Err(Rejection::PriceUnknown { .. })), "{found:?}");
}

#[test]
fn fees_fast_mode_and_regions_add_up() {
    let body = chat(r#","max_tokens":1,"web_search_options":{}"#);
    let rules = priced(&[("web_search", "0.5")]);
    let bound = of(Route::ChatCompletions, &body, &entry(), &rules)
        .expect("a bound")
        .most();
    assert_eq!(bound.nanos(), 500_000_000 + 100_000 * 1_500 + 15_000);

    let body = r#"{"model":"m","messages":[],"max_tokens":10,"speed":"fast","service_tier":"standard_only"}"#;
    let found = of(Route::Messages, body, &entry(), &CallRules::default());
    assert!(matches!(found, Err(Rejection::PriceUnknown { .. })), "{found:?}");
    let uplifted = PriceEntry {
        uplifts: Uplifts {
            fast: Permille::new(6_000).ok(),
            us: Permille::new(1_100).ok(),
            eu: None,
        },
        ..entry()
    };
    // The workspace's default place is not known here, so it is the dearest.
    let plain = input(body, 1_000) + 10 * 10_000;
    assert_eq!(fixed(Route::Messages, body, &uplifted).nanos(), plain * 66 / 10);
    let global = body.replace("\"speed\"", "\"inference_geo\":\"global\",\"speed\"");
    let plain = input(&global, 1_000) + 10 * 10_000;
    assert_eq!(fixed(Route::Messages, &global, &uplifted).nanos(), plain * 6);
}

#[test]
fn free_routes_cost_nothing_whatever_the_price() {
    for (route, body) in [
        (Route::CountTokens, r#"{"model":"m","messages":[]}"#),
        (Route::Moderations, r#"{"input":"x"}"#),
    ] {
        assert_eq!(fixed(route, body, &entry()), Usd::ZERO);
    }
}

#[test]
fn what_no_amount_can_hold_is_absurd() {
    let dear = Rates::default()
        .with(TokenClass::Input, Rate::MAX)
        .with(TokenClass::Output, Rate::MAX);
    let dear = PriceEntry {
        bands: vec![Band {
            tier: ServiceTier::Standard,
            above: 0,
            rates: dear,
        }],
        max_output: None,
        ..entry()
    };
    for more in [
        r#","max_tokens":1000000000,"n":100000"#,
        r#","n":100000"#,
        r#","max_tokens":1000000000"#,
    ] {
        let found = of(Route::ChatCompletions, &chat(more), &dear, &CallRules::default());
        assert_eq!(found, Err(CallRejection::Absurd.into()), "{more}");
    }
}

/// Every request of the SDKs has a bound at the built-in prices, and it is not nothing.
#[test]
fn the_sdks_requests_are_bounded_at_the_built_in_prices() {
    let catalogue = Catalogue::builtin();
    let rules = priced(&[("web_search", "0.5"), ("mcp", "0.5")]);
    let mut bounded = 0;
    for sent in SENT.iter() {
        let Ok(asked) = sent.read(&rules) else { continue };
        let Some(model) = asked.model.clone() else { continue };
        let service = ServiceId::new(asked.route.api().name()).expect("a service");
        let Ok(quote) = catalogue.quote(&service, &model) else {
            continue;
        };
        let found = bound(&asked, &quote.entry, &rules);
        if sent.name == "messages_fast" {
            // No price for that model's fast mode is listed.
            assert!(matches!(found, Err(Rejection::PriceUnknown { .. })), "{found:?}");
            continue;
        }
        let found = found.unwrap_or_else(|why| panic!("{}: {why}", sent.name));
        assert_eq!(
            found.most() == Usd::ZERO,
            asked.route.metering() == Metering::Free,
            "{}",
            sent.name
        );
        assert!(
            found.least() < Usd::from_dollars(30),
            "{}: {}",
            sent.name,
            found.least()
        );
        bounded += 1;
    }
    assert!(bounded > 40, "{bounded}");
}

/// What a request says, and what a provider could then say was used.
#[derive(Debug, Clone)]
struct Case {
    route: Route,
    body: String,
    texts: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let text = prop_oneof!["[a-z ]{0,400}", "\\PC{0,200}", Just("\u{fdfa}".repeat(50))];
    let limit = prop_oneof![Just(None), (1_u64..20_000).prop_map(Some)];
    let tier = prop_oneof![Just(""), Just("auto"), Just("default"), Just("flex"), Just("priority")];
    (
        0_u8..3,
        prop::collection::vec(text, 1..4),
        limit,
        1_u64..4,
        tier,
        any::<bool>(),
    )
        .prop_map(|(route, texts, limit, n, tier, elsewhere)| {
            use serde_json::json;
            let (route, mut body) = match route {
                0 => {
                    let messages: Vec<_> = texts
                        .iter()
                        .map(|text| json!({"role": "user", "content": text}))
                        .collect();
                    (
                        Route::ChatCompletions,
                        json!({"model": "m", "messages": messages, "n": n}),
                    )
                }
                1 => (Route::Completions, json!({"model": "m", "prompt": texts, "n": n})),
                _ => {
                    let input: Vec<_> = texts
                        .iter()
                        .map(|text| json!({"role": "user", "content": text}))
                        .collect();
                    let mut body = json!({"model": "m", "input": input});
                    if elsewhere {
                        body["previous_response_id"] = json!("r");
                    }
                    (Route::Responses, body)
                }
            };
            if let Some(limit) = limit {
                let field = if route == Route::Responses {
                    "max_output_tokens"
                } else {
                    "max_tokens"
                };
                body[field] = json!(limit);
            }
            if !tier.is_empty() && route != Route::Completions {
                body["service_tier"] = json!(tier);
            }
            let texts = texts.iter().map(|text| text.len() as u64).sum();
            Case {
                route,
                body: body.to_string(),
                texts,
            }
        })
}

/// Splits tokens among classes.
fn spread(usage: &mut Usage, count: u64, classes: &[TokenClass], at: u64) {
    let parts = classes.len() as u64;
    for (index, class) in classes.iter().enumerate() {
        let share = if (at + index as u64).is_multiple_of(parts) {
            count / 2
        } else {
            count / (2 * parts)
        };
        usage.tokens.add(*class, share);
    }
    let spread = usage
        .tokens
        .iter()
        .filter(|(class, _)| classes.contains(class))
        .map(|(_, n)| n)
        .sum::<u64>();
    usage.tokens.add(classes[0], count - spread.min(count));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// **L4**: whatever a provider says was used, within what was asked, costs no more than the bound; and
    /// with the tokens that a bound lets through it costs no more than that bound.
    #[test]
    fn no_usage_within_what_was_asked_costs_more(
        case in case(),
        input in 0.0_f64..=1.0,
        output in 0.0_f64..=1.0,
        at in 0_u64..12,
        left in 0_i64..2_000_000_000,
        served in 0_usize..3,
        max in prop_oneof![Just(None), (1_u64..5_000).prop_map(Some)],
    ) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a part of a count")]
        let part = |of: u64, part: f64| ((of as f64 * part) as u64).min(of);
        let entry = entry();
        let rules = CallRules { max_tokens: max, ..CallRules::default() };
        let asked = read(case.route, &Bytes::from(case.body.clone()), &rules).expect("a request");
        let bound = bound(&asked, &entry, &rules).expect("a bound");
        let OutputLimit::Tokens { asked: limit, times } = asked.output else { panic!("it writes") };
        let granted = bound.within(Some(Usd::from_nanos(left)));
        let limit = match bound {
            Bound::Fixed(_) => limit.expect("it is stated"),
            Bound::Tokens(tokens) => {
                let covered = tokens.tokens_within(granted);
                // It is what the provider is told.
                let told: serde_json::Value = serde_json::from_slice(&asked.body(Some(covered))).expect("JSON");
                let field = ["max_completion_tokens", "max_tokens", "max_output_tokens"]
                    .into_iter()
                    .find_map(|field| told[field].as_u64());
                prop_assert_eq!(field, Some(covered));
                covered
            }
        };
        // Everything that the model may read: the text's bytes and its templates, or a whole window of them.
        let most_input = match asked.content {
            ContentFrom::Request => (case.texts + asked.overhead).min(100_000 * asked.inputs),
            ContentFrom::Elsewhere => 100_000,
        };
        let written = limit.min(8_000) * times;
        let mut usage = Usage::one_call();
        let classes = [TokenClass::Input, TokenClass::CacheRead];
        spread(&mut usage, part(most_input, input), &classes, at);
        spread(&mut usage, part(written, output), &[TokenClass::Output, TokenClass::Reasoning], at);
        usage.tier = match asked.most.tier {
            // It may be served in the standard tier instead, and where none is named, in any.
            Some(tier) => [tier, ServiceTier::Standard, tier][served],
            None => [ServiceTier::Standard, ServiceTier::Flex, ServiceTier::Priority][served],
        };
        usage.region = Region::Global;
        let cost = settle(&usage, &entry).expect("a cost");
        prop_assert!(cost <= granted, "{cost} > {granted}: {usage:?}");
        prop_assert!(cost <= bound.most());
    }

    /// Whatever is sent, the answer is a request or a rejection, and what is forwarded is a document again.
    #[test]
    fn nothing_panics(body in "[\\[\\]{}\":,0-9a-z ]{0,80}", more in "\\PC{0,60}", tokens in any::<Option<u64>>()) {
        let routes = [
            Route::ChatCompletions, Route::Completions, Route::Responses, Route::Embeddings, Route::Messages,
            Route::CountTokens, Route::Moderations, Route::Speech, Route::Transcriptions,
        ];
        let value = serde_json::Value::from(more);
        let bodies = [
            body.clone(),
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":{value}}}],"stream":true,"x":{body}}}"#),
            format!(r#"{{"model":"m","messages":{body},"input":{body},"prompt":{value}}}"#),
            format!(r#"{{"model":"m","messages":[],"stream":true,"user":{value}}}"#),
            format!(r#"{{"model":"m","input":[{{"role":"user","content":{value}}}],"instructions":{value}}}"#),
        ];
        for route in routes {
            for body in &bodies {
                if let Ok(asked) = read(route, &Bytes::from(body.clone()), &CallRules::default()) {
                    let forwarded = asked.body(tokens);
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(&forwarded).is_ok());
                    let _ = bound(&asked, &entry(), &CallRules::default());
                }
            }
        }
    }
}

/// A model that the request names in a way that no name may have never reaches a price.
#[test]
fn a_model_is_named_as_the_request_names_it() {
    let body = r#"{"model":"openai/gpt-5-mini","messages":[],"max_tokens":1}"#;
    let asked = read_text(Route::ChatCompletions, body).expect("a request");
    assert_eq!(asked.model, ModelId::new("openai/gpt-5-mini").ok());
}

/// A tokenizer that nobody has seen may write one character out as a sentence: U+FDFA is 3 bytes, and 33 in NFKC.
#[test]
fn a_text_that_may_grow_is_bounded_by_what_it_may_become() {
    let inputs = format!(r#"{{"model":"m","input":"{}"}}"#, "\u{fdfa}".repeat(300));
    let tokens = |service: Option<&str>| {
        let mut asked = read_text(Route::Embeddings, &inputs).expect("understood");
        asked.service = service.map(|name| ServiceId::new(name).expect("a service"));
        match bound(&asked, &entry(), &CallRules::default()) {
            Ok(Bound::Fixed(bound)) => bound.nanos() / 2_000,
            other => panic!("{other:?}"),
        }
    };
    for service in [None, Some("other")] {
        assert!(tokens(service) >= 33 * 300, "{service:?}: {}", tokens(service));
    }
    let published = i64::try_from(inputs.len()).expect("short") + 64;
    assert_eq!(tokens(Some("openai")), published, "its tokenizers take a text as it is");
}
