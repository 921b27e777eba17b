//! What becomes of the hold when an answer comes whole, or not at all (L3, L4, L7).

use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use backstop::gateway::{CallLimits, ReplyBody};
use backstop::ports::{Clock, UpstreamFault};
use backstop::store::memory::faults::Fault;
use serde_json::{Value, json};

use super::lab::{Lab, chat_body, code, lab, read, secs, usd};
use super::provider::{Play, Step, completion_of, error_body};

/// 10 tokens in at $0.25 a million and 2 out at $2: gpt-5-mini.
const SMALL: &str = "0.0000065";

#[test]
fn a_usage_settles_the_call_at_what_it_cost() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2));
        let reply = lab.chat().await.expect("an answer");
        assert_eq!(reply.told.cost, Some(usd(SMALL)));
        assert_eq!(reply.told.remaining, Some(usd("1").saturating_sub(usd(SMALL))));
        let hold = lab.hold(reply.told.call.expect("a call's id")).await;
        assert!(hold.bound > usd(SMALL), "{hold:#?}");
        assert_eq!(read(reply).await, completion_of(10, 2).to_string(), "untouched");
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd(SMALL)));
        let posting = &lab.postings().await[0];
        assert_eq!(posting.upstream_request.as_deref(), Some("chatcmpl-1"), "{posting:#?}");
    });
}

#[test]
fn the_providers_credential_is_ours_and_the_agents_is_not_forwarded() {
    lab("1", async |lab: Lab| {
        lab.provider.play(
            Play::chat(10, 2)
                .header("set-cookie", "a=b")
                .header("x-request-id", "r1"),
        );
        let reply = lab.chat().await.expect("an answer");
        assert_eq!(reply.headers["x-request-id"], "r1");
        assert!(!reply.headers.contains_key("set-cookie"));
        let seen = lab.provider.seen.lock().unwrap();
        assert_eq!(seen[0].headers["authorization"], "Bearer sk-of-the-provider");
        assert!(seen[0].headers["authorization"].is_sensitive(), "no log shows it");
        assert_eq!(seen[0].headers["accept-encoding"], "identity");
        assert_eq!(seen[0].path_and_query, "/v1/chat/completions");
        assert_eq!(
            seen[0].body,
            chat_body(false).to_string(),
            "byte for byte: nothing had to change"
        );
    });
}

#[test]
fn a_credential_that_a_provider_quotes_does_not_reach_the_agent() {
    lab("1", async |lab: Lab| {
        let quoting = json!({ "error": { "message": "bad key sk-of-the-provider, sk-of-the-provider!" } });
        let play = Play::json(404, &quoting).header("x-key", "Bearer sk-of-the-provider");
        lab.provider.play(play);
        let reply = lab.chat().await.expect("an answer");
        assert!(!reply.headers.contains_key("x-key"));
        assert_eq!(read(reply).await, r#"{"error":{"message":"bad key ***, ***!"}}"#);
        assert_eq!(lab.outcome().await.0, HoldState::Voided);
    });
    // In pieces of a body that is not read.
    lab("1", async |lab: Lab| {
        let pieces = [
            "a sk-of-",
            "the-",
            "provider b",
            " sk-of-the-provider sk-of-the",
            "-end sk-",
        ];
        lab.provider.play(Play {
            steps: pieces.map(|piece| Step::Piece(piece.into())).into(),
            ..Play::raw(200, "text/plain", b"")
        });
        let reply = lab.call("/v1/batches", json!({})).await.expect("an answer");
        assert_eq!(read(reply).await, "a *** b *** sk-of-the-end sk-");
    });
}

/// What it says may show a part of the credential, so the agent learns no more than that it was refused.
#[test]
fn a_credential_that_is_refused_is_for_the_operator() {
    for (status, body, state) in [
        (401, error_body().to_string(), HoldState::Voided),
        (403, error_body().to_string(), HoldState::Voided),
        (403, "<html>sk-of-the-pro*****</html>".to_owned(), HoldState::Unresolved),
    ] {
        lab("1", async |lab: Lab| {
            let play = Play::raw(status, "application/json", body.as_bytes());
            lab.provider.play(play);
            let failed = lab.chat().await.map(|reply| reply.status).expect_err("no answer");
            let said = failed.failure.to_string();
            assert!(
                said.contains("refused the credential") && !said.contains("sk-"),
                "{said}"
            );
            let voided = state == HoldState::Voided;
            assert_eq!(failed.told.cost, voided.then_some(Usd::ZERO), "{status}");
            assert_eq!(lab.outcome().await.0, state, "{status}");
        });
    }
}

/// The fee covers the searches that the request allows; those that were made are charged, and nothing twice.
#[test]
fn searches_are_bounded_by_their_fee_and_charged_by_their_number() {
    lab("1", async |lab: Lab| {
        // A call of the tool is taken for five searches, by its queries.
        lab.server_tool("web_search", "0.25");
        let body = |most: Value| {
            json!({ "model": "gpt-5-mini", "input": "x", "max_output_tokens": 100, "max_tool_calls": most,
                    "tools": [{ "type": "web_search" }] })
        };
        for unbounded in [Value::Null, json!(6)] {
            let failed = lab
                .call("/v1/responses", body(unbounded))
                .await
                .map(|reply| reply.status);
            let said = failed.expect_err("refused").failure.to_string();
            assert!(said.contains("max_tool_calls"), "{said}");
        }
        assert_eq!((lab.provider.calls(), lab.holds().await.len()), (0, 0));
        let search = json!({ "type": "web_search_call", "action": { "type": "search" } });
        lab.provider.play(Play::json(
            200,
            &json!({ "id": "r", "status": "completed", "output": [search, search],
                     "usage": { "input_tokens": 0, "output_tokens": 0, "total_tokens": 0 },
                     "tool_usage": { "web_search": { "num_requests": 2 } } }),
        ));
        lab.call("/v1/responses", body(json!(5))).await.expect("an answer");
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd("0.02")));
    });
}

/// How many queries a call of the tool made is its provider's to say.
#[test]
fn searches_that_nobody_counted_are_charged_by_their_fee() {
    lab("1", async |lab: Lab| {
        lab.server_tool("web_search", "0.25");
        let search = json!({ "type": "web_search_call", "action": { "type": "search", "queries": ["a", "b", "c"] } });
        lab.provider.play(Play::json(
            200,
            &json!({ "id": "r", "status": "completed", "output": [search],
                     "usage": { "input_tokens": 0, "output_tokens": 0, "total_tokens": 0 } }),
        ));
        let body = json!({ "model": "gpt-5-mini", "input": "x", "max_output_tokens": 100, "max_tool_calls": 5,
                           "tools": [{ "type": "web_search" }] });
        lab.call("/v1/responses", body).await.expect("an answer");
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd("0.25")));
    });
}

#[test]
fn an_encoded_answer_does_not_go_round_the_gate() {
    lab("1", async |lab: Lab| {
        lab.manifest("search");
        for play in [Play::chat(10, 2), Play::stream(secs(1), 2, Some((10, 2)))] {
            lab.provider.play(play.header("content-encoding", "gzip"));
            assert_eq!(code(lab.chat().await), "unreadable");
            lab.pass(secs(1)).await;
        }
        assert!(lab.holds().await.iter().all(|hold| hold.state == HoldState::Unresolved));
    });
}

#[test]
fn the_hold_is_durable_before_a_byte_is_sent() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(5)));
        let call = tokio::task::JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        let line = lab.line().await;
        assert_eq!((line.held, line.posted), (lab.bound().await, Usd::ZERO));
        assert_eq!(lab.provider.calls(), 1);
        call.join_all().await.remove(0).expect("an answer");
    });
}

#[test]
fn an_explicit_zero_stays_zero() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(0, 0));
        lab.chat().await.expect("an answer");
        assert_eq!(lab.outcome().await, (HoldState::Captured, Usd::ZERO));
    });
}

/// What says nothing of its cost, or may have been billed, stays at its bound.
#[test]
fn whatever_may_have_cost_something_is_unresolved_at_its_bound() {
    let mut no_usage = completion_of(10, 2);
    no_usage.as_object_mut().unwrap().remove("usage");
    let mut odd_usage = completion_of(10, 2);
    odd_usage["usage"] = json!({ "prompt_tokens": "many" });
    for (name, play) in [
        ("no usage", Play::json(200, &no_usage)),
        ("a usage that cannot be read", Play::json(200, &odd_usage)),
        ("garbage", Play::raw(200, "application/json", b"\x00\xff{{{")),
        ("nothing", Play::raw(200, "application/json", b"")),
        (
            "an error page",
            Play::raw(400, "text/html", b"<html>bad gateway</html>"),
        ),
        (
            "a run that failed",
            Play::json(
                400,
                &json!({ "error": {
                    "message": "Could not finish the message because max_tokens or model output limit was reached.",
                    "type": "invalid_request_error", "param": null, "code": null,
                } }),
            ),
        ),
        ("a server error", Play::json(500, &error_body())),
        ("overloaded", Play::json(503, &error_body())),
        (
            "a status that is not documented as free",
            Play::json(409, &error_body()),
        ),
        (
            "an encoded answer",
            Play::chat(10, 2).header("content-encoding", "gzip"),
        ),
    ] {
        lab("1", async |lab: Lab| {
            lab.provider.play(play);
            let reply = lab.chat().await.unwrap_or_else(|failed| panic!("{name}: {failed:?}"));
            read(reply).await;
            let (state, posted) = lab.outcome().await;
            assert_eq!((state, posted), (HoldState::Unresolved, lab.bound().await), "{name}");
            assert_eq!(lab.line().await.unresolved, posted, "{name}");
        });
    }
}

#[test]
fn what_breaks_after_it_was_sent_is_unresolved_and_what_was_never_sent_is_void() {
    let broken_body = Play::chat(10, 2).then(0, Step::Break(UpstreamFault::Broken));
    let after_a_piece = Play::chat(10, 2).then(1, Step::Break(UpstreamFault::Broken));
    for (name, play, state) in [
        (
            "no connection",
            Play::fault(UpstreamFault::Unreachable),
            HoldState::Voided,
        ),
        (
            "broken before its head",
            Play::fault(UpstreamFault::Broken),
            HoldState::Unresolved,
        ),
        ("broken in its body", broken_body, HoldState::Unresolved),
        ("broken at its end", after_a_piece, HoldState::Unresolved),
    ] {
        lab("1", async |lab: Lab| {
            lab.provider.play(play);
            assert_eq!(code(lab.chat().await), "upstream", "{name}");
            let (ended, posted) = lab.outcome().await;
            assert_eq!(ended, state, "{name}");
            let charged = if state == HoldState::Voided {
                Usd::ZERO
            } else {
                lab.bound().await
            };
            assert_eq!(posted, charged, "{name}");
            assert_eq!(lab.provider.calls(), 1, "{name}: nothing is repeated here");
        });
    }
}

#[test]
fn a_documented_refusal_by_the_provider_costs_nothing_and_passes_through() {
    for status in [400, 404, 413, 422, 429] {
        lab("1", async |lab: Lab| {
            lab.provider.play(Play::json(status, &error_body()));
            let reply = lab.chat().await.expect("an answer");
            assert_eq!((reply.status.as_u16(), reply.told.cost), (status, Some(Usd::ZERO)));
            assert_eq!(reply.told.remaining, Some(usd("1")));
            assert_eq!(read(reply).await, error_body().to_string());
            assert_eq!(lab.outcome().await, (HoldState::Voided, Usd::ZERO), "{status}");
        });
    }
}

#[test]
fn a_redirect_is_not_followed_and_not_passed_on() {
    lab("1", async |lab: Lab| {
        lab.provider
            .play(Play::raw(307, "text/plain", b"").header("location", "https://elsewhere.example/v1"));
        assert_eq!(code(lab.chat().await), "redirected");
        assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
        assert_eq!(lab.provider.calls(), 1);
    });
}

#[test]
fn an_answer_that_does_not_come_is_given_up_in_time() {
    let hour = secs(3_000);
    let silent = Play::chat(10, 2).then(0, Step::Wait(hour));
    let dripping = Play {
        steps: (0..1_000)
            .flat_map(|_| [Step::Wait(secs(100)), Step::Piece("x".into())])
            .collect(),
        ..Play::chat(10, 2)
    };
    for (name, play, most) in [
        ("no head", Play::chat(10, 2).after(hour), 600),
        ("no body", silent, 120),
        ("a body that drips for ever", dripping, 3_600),
    ] {
        lab("1", async |lab: Lab| {
            lab.provider.play(play);
            let start = lab.clock.monotonic();
            assert_eq!(code(lab.chat().await), "upstream", "{name}");
            let took = lab.clock.monotonic() - start;
            assert!(took >= secs(most) && took <= secs(most + 2), "{name}: {took:?}");
            assert_eq!(lab.outcome().await.0, HoldState::Unresolved, "{name}");
        });
    }
}

#[test]
fn an_answer_that_is_too_large_is_not_gathered() {
    lab("1", async |lab: Lab| {
        lab.limits(CallLimits {
            max_response_bytes: 100,
            ..CallLimits::default()
        });
        let mut play = Play::raw(200, "application/json", &[b'x'; 60]);
        play.steps.push(play.steps[0].clone());
        lab.provider.play(play);
        assert_eq!(code(lab.chat().await), "upstream");
        assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
    });
}

#[test]
fn a_panic_leaves_the_hold_unresolved() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).then(0, Step::Panic));
        assert_eq!(code(lab.chat().await), "internal");
        assert_eq!(lab.outcome().await.0, HoldState::Unresolved);
    });
}

#[test]
fn more_than_the_bound_is_an_overage_and_not_hidden() {
    lab("1", async |lab: Lab| {
        // More prompt than its bytes could have: the provider bills it all the same.
        lab.provider.play(Play::chat(100_000, 1_000));
        let reply = lab.chat().await.expect("an answer");
        assert_eq!(reply.told.cost, Some(usd("0.027")));
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd("0.027")));
        assert_eq!(lab.line().await.overage, usd("0.027").saturating_sub(lab.bound().await));
    });
}

#[test]
fn a_model_that_answers_for_another_is_charged_at_the_dearer_price() {
    lab("1", async |lab: Lab| {
        let mut body = completion_of(10, 2);
        body["model"] = json!("gpt-5");
        lab.provider.play(Play::json(200, &body));
        let dearer = lab.chat().await.expect("an answer").told.cost.unwrap();
        assert!(dearer > usd(SMALL), "{dearer}");
        body["model"] = json!("gpt-5-nano");
        lab.provider.play(Play::json(200, &body));
        assert_eq!(lab.chat().await.expect("an answer").told.cost, Some(usd(SMALL)));
    });
}

#[test]
fn what_the_budget_does_not_cover_is_not_sent() {
    lab("0.000001", async |lab: Lab| {
        assert_eq!(code(lab.chat().await), "budget_exceeded");
        assert_eq!(lab.provider.calls(), 0);
        assert!(lab.postings().await.is_empty());
    });
}

#[test]
fn a_missing_limit_is_filled_in_by_what_is_left_and_told() {
    lab("0.016", async |lab: Lab| {
        let mut body = chat_body(false);
        body.as_object_mut().unwrap().remove("max_completion_tokens");
        lab.provider.play(Play::chat(10, 2));
        let reply = lab.call("/v1/chat/completions", body).await.expect("an answer");
        // A sixteenth of $0.016 is $0.001: less than 500 tokens at $2 a million, and more than 256.
        let told = reply.told.max_tokens.expect("it is told");
        assert!((256..500).contains(&told), "{told}");
        let sent: Value = serde_json::from_slice(&lab.provider.seen.lock().unwrap()[0].body).unwrap();
        assert_eq!(sent["max_completion_tokens"], told);
    });
}

#[test]
fn what_is_not_known_is_refused_by_name_before_anything_is_held() {
    lab("1", async |lab: Lab| {
        let with = |field: &str, value: Value| {
            let mut body = chat_body(false);
            body[field] = value;
            body
        };
        let chat = "/v1/chat/completions";
        for (path, body, expected) in [
            (chat, with("turbo", json!(true)), "field_not_metered"),
            (chat, with("model", json!("no-such-model")), "price_unknown"),
            ("/v1/realtime/sessions", chat_body(false), "route_not_metered"),
            ("/v1/chat/completions/", chat_body(false), "ambiguous_path"),
        ] {
            assert_eq!(code(lab.call(path, body).await), expected, "{path}");
        }
        assert_eq!((lab.provider.calls(), lab.holds().await.len()), (0, 0));
    });
}

#[test]
fn a_route_with_a_ceiling_is_charged_its_ceiling() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::json(200, &json!({ "id": "batch_1" })));
        let reply = lab
            .call("/v1/batches", json!({ "anything": 1 }))
            .await
            .expect("an answer");
        assert!(matches!(reply.body, ReplyBody::Pieces(_)));
        read(reply).await;
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd("0.10")));
        lab.provider.play(Play::json(400, &error_body()));
        let reply = lab.call("/v1/batches", json!({})).await.expect("an answer");
        assert_eq!(reply.told.cost, Some(Usd::ZERO));
        lab.pass(secs(1)).await;
        assert_eq!(lab.line().await.posted, usd("0.10"));
    });
}

/// D1: what passes as it is passes no gate, so an agent with a manifest reaches it only where config says so.
#[test]
fn d1_a_manifest_binds_on_a_route_with_a_ceiling() {
    lab("1", async |lab: Lab| {
        lab.manifest("search");
        let batch = || lab.call("/v1/batches", json!({ "anything": 1 }));
        assert_eq!(code(batch().await), "route_not_gated");
        assert_eq!(
            (lab.provider.calls(), lab.holds().await.len()),
            (0, 0),
            "nothing was sent"
        );
        let refused = lab.refused().await;
        assert!(
            matches!(&refused[..], [(code, reason)] if code == "route_not_gated" && reason.contains("/v1/batches")),
            "{refused:?}"
        );
        lab.ungated_ceilings();
        lab.provider.play(Play::json(200, &json!({ "id": "batch_1" })));
        read(batch().await.expect("an answer")).await;
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd("0.10")));
    });
}

#[test]
fn a_free_route_needs_no_hold() {
    lab("0.000001", async |lab: Lab| {
        lab.provider
            .play(Play::json(200, &json!({ "object": "list", "data": [] })));
        let reply = lab.call("/v1/models", Value::Null).await.expect("an answer");
        assert_eq!((reply.told.call, reply.told.cost), (None, None));
        assert!(lab.holds().await.is_empty());
    });
}

#[test]
fn a_tool_that_is_not_in_the_manifest_is_neither_offered_nor_passed_on() {
    lab("1", async |lab: Lab| {
        lab.manifest("search");
        let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": {} } });
        let mut body = chat_body(false);
        body["tools"] = json!([tool("search"), tool("delete")]);
        assert_eq!(
            code(lab.call("/v1/chat/completions", body.clone()).await),
            "tool_not_in_manifest"
        );
        assert_eq!(lab.provider.calls(), 0);
        body["tools"] = json!([tool("search")]);
        let mut answer = completion_of(10, 2);
        answer["choices"][0]["message"]["tool_calls"] =
            json!([{ "id": "1", "type": "function", "function": { "name": "delete", "arguments": "{}" } }]);
        lab.provider.play(Play::json(200, &answer));
        assert_eq!(
            code(lab.call("/v1/chat/completions", body.clone()).await),
            "tool_not_in_manifest"
        );
        assert_eq!(
            lab.outcome().await,
            (HoldState::Captured, usd(SMALL)),
            "it was made, so it is charged"
        );
        // What cannot be read cannot be gated.
        lab.provider
            .play(Play::raw(200, "application/json", b"{\"choices\": oops"));
        assert_eq!(code(lab.call("/v1/chat/completions", body).await), "unreadable");
    });
}

/// D4: a store that is down admits nothing, and what is in flight is accounted when it is back.
#[test]
fn d4_with_the_store_down_nothing_is_forwarded() {
    lab("1", async |lab: Lab| {
        lab.provider.play(Play::chat(10, 2).after(secs(60)));
        let mut early = tokio::task::JoinSet::from_iter([lab.chat()]);
        lab.pass(secs(1)).await;
        for _ in 0..200 {
            lab.store.inject(Fault::Busy);
        }
        assert_eq!(code(lab.chat().await), "unavailable");
        assert_eq!(lab.provider.calls(), 1, "only the one from before");
        let answered = early.join_next().await.expect("one call").expect("no panic");
        assert_eq!(answered.expect("an answer").told.cost, Some(usd(SMALL)));
        lab.pass(secs(600)).await;
        assert_eq!(lab.outcome().await, (HoldState::Captured, usd(SMALL)));
    });
}
