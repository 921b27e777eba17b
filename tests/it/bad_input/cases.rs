//! The requests, and what has to come of each.

use super::case::{Cases, request};
use super::{ADMIN_TOKEN, MARK, WRONG_KEY};

pub(super) fn reports(cases: &mut Cases) {
    const LINE: &str = "POST /v1/usage";
    let mark = MARK;
    let amount = |amount: &str| format!(r#"{{"id":"bad","amount_usd":{amount}}}"#);
    let usage = |usage: &str| format!(r#"{{"id":"bad","service":"openai","model":"gpt-5-mini","usage":{usage}}}"#);
    let more = |more: &str| format!(r#"{{"id":"bad","amount_usd":"1",{more}}}"#);

    // What is no JSON, or JSON that two readers would read differently.
    for body in [
        "",
        "[]",
        "null",
        "42",
        "\"text\"",
        "[[]]",
        r#"{"id":"bad","amount_usd":"1"#,
        r#"{"id":"bad","amount_usd":"1"} {}"#,
        r#"{"id":"bad","amount_usd":"1",}"#,
        r#"{"id":"bad","amount_usd":"1","amount_usd":"2"}"#,
        r#"{"id":"bad","amount_usd":"1","labels":{"a":"1","a":"2"}}"#,
        r#"{"id":"bad","amount_usd":"1","amount_\u0075sd":"2"}"#,
        r#"{'id':'bad'}"#,
        "\u{feff}{\"id\":\"bad\",\"amount_usd\":\"1\"}",
        "id=bad&amount_usd=1",
    ] {
        let code = "malformed_body";
        // A list of things that are no reports is read, and each row is refused.
        if body == "[[]]" {
            cases.json(LINE, body, 422, "");
        } else {
            cases.json(LINE, body, 400, code);
        }
    }
    cases.json(LINE, &format!(r#"{{"{mark}": "{mark}", {mark}"#), 400, "malformed_body");
    cases.json(LINE, &format!(r#"{{"id":"{mark}""#), 400, "malformed_body");
    cases.json(LINE, &"[".repeat(60_000), 400, "malformed_body");
    cases.json(
        LINE,
        &more(&format!(r#""labels":{}1{}"#, "[".repeat(40), "]".repeat(40))),
        400,
        "malformed_body",
    );
    let json = [("Content-Type", "application/json")];
    cases.with(
        "bytes that are no UTF-8",
        LINE,
        &json,
        b"{\"id\":\"b\xff\xfed\",\"amount_usd\":\"1\"}",
        400,
        "malformed_body",
    );
    for number in ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "+1", "01", ".5"] {
        cases.json(LINE, &amount(number), 400, "malformed_body");
    }

    // Amounts.
    for number in [
        "\"NaN\"",
        "\"inf\"",
        "-1",
        "\"-0.01\"",
        "true",
        "[1]",
        "{}",
        "\"\"",
        "\"1,5\"",
        "\"$1\"",
    ] {
        cases.json(LINE, &amount(number), 422, "invalid_field");
    }
    cases.json(LINE, &amount(&format!("\"{mark}\"")), 422, "invalid_field");
    for number in [
        "1e308",
        "\"1e308\"",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "\"170141183460469231731687303715884105728\"",
        "10000000000",
        "\"10000000000.00\"",
        "\"1000000000.01\"",
    ] {
        cases.json(LINE, &amount(number), 422, "absurd_amount");
    }

    // Quantities.
    for counted in [
        "{}",
        "[]",
        "null",
        r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1.5,"completion_tokens":1}"#,
        r#"{"prompt_tokens":"12","completion_tokens":1}"#,
        r#"{"prompt_tokens":1e308,"completion_tokens":1}"#,
        r#"{"prompt_tokens":9223372036854775807,"completion_tokens":1}"#,
        r#"{"prompt_tokens":9223372036854775808,"completion_tokens":1}"#,
        r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}"#,
        r#"{"prompt_tokens":100000000000000000000000,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1,"surprise_tokens":7}"#,
        r#"{"surprise":1}"#,
    ] {
        cases.json(LINE, &usage(counted), 422, "invalid_field");
    }
    for seconds in ["1e308", "-1", "9223372036854775808", "\"sixty\""] {
        let body = format!(
            r#"{{"id":"bad","service":"openai","model":"whisper-1","usage":{{"type":"duration","seconds":{seconds}}}}}"#
        );
        cases.json(LINE, &body, 422, "invalid_field");
    }
    let both = r#"{"id":"bad","amount_usd":"1","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    cases.json(LINE, both, 422, "invalid_field");
    let unpriced =
        r#"{"id":"bad","service":"openai","model":"gpt-99-ultra","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    cases.json(LINE, unpriced, 422, "price_unknown");
    cases.json(
        LINE,
        &unpriced
            .replace("openai", "nobody")
            .replace("\"usage\"", "\"api\":\"openai_chat\",\"usage\""),
        422,
        "price_unknown",
    );
    cases.json(
        LINE,
        &unpriced.replace("\"model\":\"gpt-99-ultra\",", ""),
        422,
        "invalid_field",
    );
    cases.json(LINE, &more(r#""api":"openai_telepathy""#), 422, "invalid_field");

    // Names, times, labels, and what is not known.
    for id in [
        "\"\"",
        "7",
        "null",
        "\"a\\u0000b\"",
        "\"a\\nb\"",
        &format!("\"{}\"", "x".repeat(201)),
    ] {
        cases.json(
            LINE,
            &format!(r#"{{"id":{id},"amount_usd":"1"}}"#),
            422,
            "invalid_field",
        );
    }
    cases.json(LINE, r#"{"amount_usd":"1"}"#, 422, "invalid_field");
    cases.json(LINE, r#"{"id":"bad"}"#, 422, "invalid_field");
    let many: Vec<String> = (0..33).map(|number| format!("\"l{number}\":\"v\"")).collect();
    for field in [
        r#""surprise":1"#,
        r#""Amount_usd":"1""#,
        r#""agent":"other""#,
        r#""agent":"nobody""#,
        r#""task":"a\u0007b""#,
        r#""labels":[]"#,
        r#""labels":{"team":7}"#,
        r#""labels":{"":"x"}"#,
        r#""occurred_at":"2199-01-01T00:00:00Z""#,
        r#""occurred_at":"9999-12-30T22:00:00Z""#,
        r#""occurred_at":"999999-01-01T00:00:00Z""#,
        r#""occurred_at":"1970-01-01T00:00:00Z""#,
        r#""occurred_at":"-009999-01-01T00:00:00Z""#,
        r#""occurred_at":"yesterday""#,
        r#""occurred_at":"2026-11-20T02:00:00""#,
        r#""occurred_at":1763600000"#,
        r#""upstream_request_id":"""#,
        &format!(r#""labels":{{{}}}"#, many.join(",")),
        &format!(r#""labels":{{"team":"{}"}}"#, "x".repeat(300)),
        &format!(r#""{}":1"#, "x".repeat(5_000)),
    ] {
        cases.json(LINE, &more(field), 422, "invalid_field");
    }

    // Too much, in another form, twice, all or nothing.
    let six = [r#"{"id":"bad","amount_usd":"1"}"#; 6];
    cases.json(LINE, &format!("[{}]", six.join(",")), 413, "too_many_rows");
    let lines = [("Content-Type", "application/jsonl")];
    cases.with(
        "six lines",
        LINE,
        &lines,
        six.join("\n").as_bytes(),
        413,
        "too_many_rows",
    );
    cases.with("no lines", LINE, &lines, b"\n \n", 400, "malformed_body");
    let large = more(&format!(r#""task":"{}""#, "x".repeat(70_000)));
    cases.json(LINE, &large, 413, "body_too_large");
    let chunked: Vec<u8> = [b"11170\r\n", "x".repeat(70_000).as_bytes(), b"\r\n0\r\n\r\n"].concat();
    let chunks = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
    cases.with("a large body in chunks", LINE, &chunks, &chunked, 413, "body_too_large");
    let good = br#"{"id":"bad","amount_usd":"1"}"#;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "json",
        "application/xml",
    ] {
        cases.with(kind, LINE, &[("Content-Type", kind)], good, 415, "content_type");
    }
    cases.with("no content type", LINE, &[], good, 415, "content_type");
    for encoding in ["gzip", "br", "deflate", "zstd", "x-unknown"] {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", encoding)];
        cases.with(encoding, LINE, &headers, b"\x1f\x8b\x08\x00\x00", 415, "content_type");
    }
    cases.json(LINE, r#"{"id":"good","amount_usd":"7"}"#, 409, "report_conflict");
    let half = r#"[{"id":"would-be-good","amount_usd":"1"},{"id":"bad","amount_usd":"-1"}]"#;
    cases.json("POST /v1/usage?all_or_nothing=true", half, 422, "batch_refused");
    for query in [
        "all_or_nothing=maybe",
        "agent=other",
        "agent=a%00b",
        "surprise=1",
        &format!("api_key={mark}"),
    ] {
        cases.json(&format!("{LINE}?{query}"), "{}", 422, "invalid_field");
    }
}

pub(super) fn holds(cases: &mut Cases, own: &str, foreign: &str) {
    const LINE: &str = "POST /v1/holds";
    for body in [
        "",
        "[]",
        "null",
        "{",
        r#"{"bound_usd":"1","bound_usd":"2"}"#,
        r#"{"bound_usd":NaN}"#,
    ] {
        cases.json(LINE, body, 400, "malformed_body");
    }
    for body in [
        r#"{}"#,
        r#"{"bound_usd":"-1"}"#,
        r#"{"bound_usd":"NaN"}"#,
        r#"{"bound_usd":"1","max_input_tokens":1}"#,
        r#"{"max_input_tokens":-1,"service":"openai","model":"gpt-5-mini"}"#,
        r#"{"max_input_tokens":1.5,"service":"openai","model":"gpt-5-mini"}"#,
        r#"{"max_input_tokens":18446744073709551616,"service":"openai","model":"gpt-5-mini"}"#,
        r#"{"max_output_tokens":9223372036854775807,"service":"openai","model":"gpt-5-mini"}"#,
        r#"{"max_seconds":1e308,"service":"openai","model":"whisper-1"}"#,
        r#"{"max_input_tokens":1}"#,
        r#"{"bound_usd":"1","ttl_s":86401}"#,
        r#"{"bound_usd":"1","ttl_s":-1}"#,
        r#"{"bound_usd":"1","wait_s":61}"#,
        r#"{"bound_usd":"1","wait_s":9223372036854775808}"#,
        r#"{"bound_usd":"1","surprise":1}"#,
        r#"{"bound_usd":"1","agent":"other"}"#,
        r#"{"bound_usd":"1","task":""}"#,
    ] {
        cases.json(LINE, body, 422, "invalid_field");
    }
    for bound in ["1e308", "9223372036854775808", "\"10000000000\""] {
        cases.json(LINE, &format!(r#"{{"bound_usd":{bound}}}"#), 422, "absurd_amount");
    }
    let unknown = r#"{"max_input_tokens":1,"service":"openai","model":"gpt-99-ultra"}"#;
    cases.json(LINE, unknown, 422, "price_unknown");
    cases.json(LINE, r#"{"bound_usd":"5000"}"#, 402, "budget_exceeded");
    let lines = [("Content-Type", "application/jsonl")];
    cases.with(
        "a hold as lines",
        LINE,
        &lines,
        br#"{"bound_usd":"1"}"#,
        415,
        "content_type",
    );

    let nowhere = "0192f0c1-0000-7000-8000-000000000000";
    for id in ["nothing", "..", "%2e%2e", "%00", nowhere, foreign, &"x".repeat(3_000)] {
        cases.bare(&format!("GET /v1/holds/{id}"), 404, "not_found");
        let line = format!("POST /v1/holds/{id}/capture");
        cases.json(&line, r#"{"cost_usd":"1"}"#, 404, "not_found");
    }
    let capture = format!("POST /v1/holds/{own}/capture");
    for body in [
        "{}",
        r#"{"cost_usd":"-1"}"#,
        r#"{"cost_usd":"1","usage":{}}"#,
        r#"{"cost_usd":"1","surprise":1}"#,
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
    ] {
        cases.json(&capture, body, 422, "invalid_field");
    }
    cases.json(&capture, r#"{"cost_usd":"10000000000"}"#, 422, "absurd_amount");
    cases.json(&capture, r#"{"cost_usd":1e308}"#, 422, "absurd_amount");
    cases.json(&capture, "[", 400, "malformed_body");
    cases.bare(&format!("DELETE /v1/holds/{own}"), 403, "operator_only");
}

pub(super) fn paths_and_hosts(cases: &mut Cases, key: &str) {
    for path in [
        "/",
        "/v1",
        "/v1/usage/",
        "//v1/usage",
        "/v1//usage",
        "/v1/./usage",
        "/v1/x/../usage",
        "/v1/%75sage",
        "/V1/usage",
        "/v1/usage%00",
        "/v1/usage;x=1",
        "/api/v1/budgets",
        "/metrics",
        "/v1/holds/",
        "/v1/holds/%ff%fe/capture",
        "/..%2f..%2fetc%2fpasswd",
    ] {
        cases.bare(&format!("POST {path}"), 404, "no_such_path");
    }
    for line in [
        "GET /v1/usage",
        "PUT /v1/usage",
        "DELETE /v1/usage",
        "PATCH /v1/usage",
        "OPTIONS /v1/usage",
        "TRACE /v1/usage",
        "BREW /v1/usage",
        "POST /v1/budget",
        "GET /v1/holds",
    ] {
        cases.bare(line, 405, "method_not_allowed");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "evil.example:8700",
        "localhost@evil.example",
    ] {
        cases.with(
            &format!("Host: {host}"),
            "GET /v1/budget",
            &[("Host", host)],
            b"",
            421,
            "host_not_allowed",
        );
    }
    let two = [("Host", "localhost"), ("Host", "evil.example")];
    cases.with("two hosts", "GET /v1/budget", &two, b"", 421, "host_not_allowed");
    let no_host = format!("GET /v1/budget HTTP/1.0\r\nAuthorization: Bearer {key}\r\n\r\n");
    cases.raw("no host", no_host.into_bytes(), 421, "host_not_allowed");
}

pub(super) fn credentials(cases: &mut Cases, key: &str, revoked: &str) {
    let bearer = |key: &str| format!("Bearer {key}");
    let own = bearer(key);
    let ask = |headers: &[(&str, &str)]| request("GET /v1/budget", headers, b"");
    cases.raw("no key", ask(&[]), 401, "no_credential");
    for (name, value) in [
        ("a wrong key", bearer(WRONG_KEY)),
        ("a revoked key", bearer(revoked)),
        ("the admin's token", bearer(ADMIN_TOKEN)),
        ("a key cut short", bearer(&key[..key.len() - 1])),
        ("no secret", "Bearer ".to_owned()),
        ("another scheme", format!("Basic {key}")),
        ("no scheme", key.to_owned()),
        ("a very long one", bearer(&"k".repeat(5_000))),
        ("not ASCII", bearer("schlüssel")),
    ] {
        cases.raw(name, ask(&[("Authorization", &value)]), 401, "bad_credential");
    }
    cases.raw(
        "a wrong x-api-key",
        ask(&[("x-api-key", WRONG_KEY)]),
        401,
        "bad_credential",
    );
    for two in [
        [("Authorization", own.as_str()), ("x-api-key", key)],
        [("x-api-key", key), ("api-key", key)],
        [("Authorization", own.as_str()), ("Authorization", own.as_str())],
        [("Authorization", own.as_str()), ("api-key", WRONG_KEY)],
    ] {
        cases.raw("two credentials", ask(&two), 400, "two_credentials");
    }
    // The key is looked at before anything else of the request.
    let headers = [("Authorization", "Bearer x"), ("Content-Type", "text/plain")];
    cases.raw(
        "a wrong key and a wrong body",
        request("POST /v1/usage", &headers, b"{"),
        401,
        "bad_credential",
    );
    cases.raw(
        "no key and no path",
        request("GET /nothing", &[], b""),
        401,
        "no_credential",
    );
}

pub(super) fn admin(cases: &mut Cases, key: &str) {
    let own = format!("Bearer {key}");
    for headers in [
        [("Authorization", own.as_str())],
        [("x-api-key", key)],
        [("x-api-key", ADMIN_TOKEN)],
    ] {
        cases.raw(
            "an agent's key",
            request("GET /api/v1/status", &headers, b""),
            401,
            "bad_credential",
        );
        let line = "POST /api/v1/agents/tester/keys";
        cases.raw(
            "an agent's key makes a key",
            request(line, &headers, b""),
            401,
            "bad_credential",
        );
    }
    cases.raw(
        "no token",
        request("GET /api/v1/status", &[], b""),
        401,
        "no_credential",
    );
    cases.with(
        "a foreign host",
        "GET /healthz",
        &[("Host", "evil.example")],
        b"",
        421,
        "host_not_allowed",
    );
    cases.bare("GET /api/v1/nothing", 404, "no_such_path");
    cases.bare("DELETE /api/v1/status", 405, "method_not_allowed");
    for id in ["nobody", "nobody%2f.."] {
        cases.bare(&format!("GET /api/v1/agents/{id}"), 404, "unknown_agent");
        cases.json(&format!("POST /api/v1/agents/{id}/pause"), "{}", 404, "unknown_agent");
        cases.bare(&format!("POST /api/v1/agents/{id}/keys"), 404, "unknown_agent");
    }
    for id in ["a%00b", &"x".repeat(200)] {
        cases.bare(&format!("GET /api/v1/agents/{id}"), 422, "invalid_field");
        cases.json(&format!("POST /api/v1/agents/{id}/contain"), "{}", 422, "invalid_field");
    }
    cases.json("POST /api/v1/agents/tester/pause", "{", 400, "malformed_body");
    for (path, body) in [
        ("agents/tester/pause", r#"{"surprise":1}"#),
        ("agents/tester/pause", r#"{"reason":7}"#),
        ("agents/tester/contain", r#"{"mode":"destroy"}"#),
        ("agents/tester/reset", r#"{"raise_usd":"NaN"}"#),
        ("agents/tester/reset", r#"{"until":"tomorrow"}"#),
        ("ledger/resolve", r#"{"cost_usd":"1"}"#),
        (
            "ledger/resolve",
            r#"{"cost_usd":"x","hold":"0192f0c1-0000-7000-8000-000000000000"}"#,
        ),
        ("ledger/backup", r#"{"path":"relative.db"}"#),
        ("ledger/backup", r#"{}"#),
    ] {
        cases.json(&format!("POST /api/v1/{path}"), body, 422, "invalid_field");
    }
    cases.json(
        "POST /api/v1/ledger/backup",
        r#"{"path":"/etc/passwd"}"#,
        409,
        "wrong_state",
    );
    let negative = r#"{"cost_usd":"-1","hold":"0192f0c1-0000-7000-8000-000000000000"}"#;
    cases.json("POST /api/v1/ledger/resolve", negative, 404, "unknown_hold");
    let nowhere = r#"{"cost_usd":"1","hold":"0192f0c1-0000-7000-8000-000000000000"}"#;
    cases.json("POST /api/v1/ledger/resolve", nowhere, 404, "unknown_hold");
    cases.json("POST /api/v1/agents/tester/reset", "{}", 409, "wrong_state");
    for query in [
        "spend?by=colour",
        "spend?since=yesterday",
        "spend?limit=-1",
        "spend?agent=a%00b",
        "audit?from=x",
        "audit?limit=99999999999",
        "budgets/../spend?by=colour",
        "agents/tester/impact",
        "agents/tester/impact?action=explode",
        "reviews?all=7",
    ] {
        if query.contains("..") {
            cases.bare(&format!("GET /api/v1/{query}"), 404, "no_such_path");
        } else {
            cases.bare(&format!("GET /api/v1/{query}"), 422, "invalid_field");
        }
    }
    for path in ["agents/%ff", "agents/%ff/impact?action=reset", "reviews/%ff"] {
        cases.bare(&format!("GET /api/v1/{path}"), 404, "no_such_path");
    }
    for path in ["reviews/x", "reviews/0192f0c1-0000-7000-8000-000000000000"] {
        cases.bare(&format!("GET /api/v1/{path}"), 404, "not_found");
    }
    cases.bare("DELETE /api/v1/agents/tester/keys/x", 404, "not_found");
    cases.json(
        "POST /api/v1/usage",
        r#"{"id":"bad","agent":"nobody","amount_usd":"1"}"#,
        404,
        "unknown_agent",
    );
    cases.json(
        "POST /api/v1/usage?agent=nobody",
        r#"{"id":"bad","amount_usd":"1"}"#,
        404,
        "unknown_agent",
    );
    cases.json(
        "POST /api/v1/usage",
        r#"{"id":"bad","amount_usd":"1"}"#,
        422,
        "invalid_field",
    );
    cases.json(
        "POST /api/v1/usage?agent=tester",
        r#"{"id":"bad","amount_usd":"10000000000"}"#,
        422,
        "absurd_amount",
    );
}
