//! The cap where it is hard to keep: no multiple of the price, no limit in the request, prompts that are
//! billed by the byte, content from elsewhere, several outputs, one line for all, and a cap that must be
//! used before anybody is refused for good. Two daemons on one store are among the twelve ways.

use std::sync::Arc;

use backstop::domain::money::Usd;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::agent::{CHAT_PATH, MESSAGES_PATH, answered, at_once, chat, open_chat, streamed};
use super::place::{Place, SOON, budget, cents, total};
use super::upstream::manner::{Fault, Much};
use super::upstream::prices::{BOUNDLESS, CLAUDE_PROMPT, PROMPT, TWO_CENTS};
use crate::harness::wait;

#[tokio::test]
async fn a_cap_that_is_no_multiple_of_the_price() {
    let place = Place::with(total("1.01")).await;
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let replies = at_once(&worker, CHAT_PATH, &chat(&TWO_CENTS, 100), 200).await;
    assert_eq!((answered(&replies), place.upstream.count().calls), (50, 50));
    // The cent that is left pays for half a call.
    worker.chat(&chat(&TWO_CENTS, 50)).await.ok();
    worker.chat(&chat(&TWO_CENTS, 1)).await.refused(402, "budget_exceeded");
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    assert_eq!(
        (books.posted(), place.upstream.count().billed()),
        (cents(101), cents(101))
    );
}

/// The other side of the coin. All come at once, nobody states a limit, and the provider answers nobody
/// before many have asked: what is momentarily held is not spent, so nobody is turned away for it.
#[tokio::test]
async fn nine_tenths_of_a_cap_are_served_before_anybody_is_refused_for_good() {
    let place = Arc::new(Place::with(total("1.00")).await);
    place.upstream.manner(|manner| manner.output = Much::Exactly(100));
    place.upstream.always(Some(Fault::WaitBeforeHead));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut calls = JoinSet::new();
    for number in 0..500 {
        let (agent, place) = (worker.clone(), Arc::clone(&place));
        calls.spawn(async move {
            let body = match number % 2 {
                0 => open_chat(&TWO_CENTS),
                _ => streamed(open_chat(&TWO_CENTS)),
            };
            let reply = agent.chat(&body).await;
            (reply, place.upstream.count().billed())
        });
    }
    // More would be held than the line has room for, if each took its four thousand tokens.
    place.upstream.has_counted(5).await;
    place.upstream.open_gate();
    let mut served = 0;
    let mut first_refused = None;
    while let Some(done) = calls.join_next().await {
        let (reply, billed) = done.expect("a call does not panic");
        match reply.status {
            200 => served += 1,
            _ => {
                reply.refused(402, "budget_exceeded");
                first_refused = Some(first_refused.map_or(billed, |first: Usd| first.min(billed)));
            }
        }
    }
    let first_refused = first_refused.expect("a dollar does not pay for them all");
    assert!(
        first_refused >= cents(90),
        "refused when {first_refused} of 1.00 was billed; {served} served"
    );
    assert!(place.upstream.count().billed() <= cents(100));
    place.settled(&worker).await;
    let books = Arc::into_inner(place).expect("every call is done");
    let billed = books.upstream.count().billed();
    let books = books.close(daemon).await;
    books.assert_exact(billed);
}

/// A token a byte is the most that any byte-level tokenizer makes; some providers come near it.
#[tokio::test]
async fn a_prompt_that_is_billed_by_the_byte() {
    let place = Place::with(total("1.00")).await;
    place.upstream.manner(|manner| manner.prompt = Much::AllThatIsAllowed);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    // A tokenizer would count some fifteen tokens, and nine if it read the words.
    let mut body = chat(&PROMPT, 1);
    body["messages"][0]["content"] = "naïve façade, naïve façade, naïve façade, naïve façade, naïve".into();
    let replies = at_once(&worker, CHAT_PATH, &body, 100).await;
    let served = answered(&replies);
    let billed = place.upstream.count().billed();
    assert!(served > 5 && billed <= cents(100), "{served} served, {billed} billed");
    assert_eq!(place.settled(&worker).await.overage, Usd::ZERO);
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), billed);
}

/// What is elsewhere can fill the window, so it is bounded by the window: five hundred tokens, half a
/// dollar. A model whose window nobody knows cannot be bounded at all.
#[tokio::test]
async fn content_by_reference_is_bounded_by_the_window() {
    let responses = "/openai/v1/responses";
    let chat_with = |part: Value| {
        json!({ "model": PROMPT.name, "max_completion_tokens": 1,
            "messages": [{ "role": "user", "content": [{ "type": "text", "text": "See." }, part] }] })
    };
    let respond_with = |part: Value| {
        json!({ "model": PROMPT.name, "max_output_tokens": 16,
            "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "See." }, part] }] })
    };
    let message_with = |part: Value| {
        json!({ "model": CLAUDE_PROMPT.name, "max_tokens": 1,
            "messages": [{ "role": "user", "content": [part, { "type": "text", "text": "See." }] }] })
    };
    let cases = [
        (
            CHAT_PATH,
            chat_with(json!({ "type": "file", "file": { "file_id": "file-1" } })),
        ),
        (
            CHAT_PATH,
            chat_with(json!({ "type": "image_url", "image_url": { "url": "https://example.com/a.png" } })),
        ),
        (
            responses,
            json!({ "model": PROMPT.name, "max_output_tokens": 16, "input": "More.",
            "previous_response_id": "resp_1" }),
        ),
        (
            responses,
            respond_with(json!({ "type": "input_file", "file_id": "file-1" })),
        ),
        (
            responses,
            respond_with(json!({ "type": "input_image", "image_url": "https://example.com/a.png",
            "detail": "auto" })),
        ),
        (
            MESSAGES_PATH,
            message_with(json!({ "type": "image", "source": { "type": "url", "url": "https://example.com/a.png" } })),
        ),
        (
            MESSAGES_PATH,
            message_with(json!({ "type": "document",
                "source": { "type": "url", "url": "https://example.com/a.pdf" } })),
        ),
    ];
    for (path, body) in cases {
        let place = Place::with(total("1.10")).await;
        let daemon = place.start().await;
        let worker = place.worker(&daemon).await;
        let replies = at_once(&worker, path, &body, 10).await;
        assert_eq!(answered(&replies), 2, "{path} {body}: {replies:#?}");
        let sums = place.settled(&worker).await;
        let billed = place.upstream.count().billed();
        assert!(billed <= cents(110) && billed > cents(100), "{billed}");
        assert_eq!((sums.posted, sums.overage), (billed, Usd::ZERO));
        let mut unknown = body.clone();
        unknown["model"] = BOUNDLESS.name.into();
        if path != MESSAGES_PATH {
            worker.post(path, &unknown).await.refused(400, "context_unknown");
        }
        assert_eq!(place.upstream.count().calls, 2);
        place.close(daemon).await;
    }
}

/// `n`, `best_of` and lists of prompts multiply what comes back, and what it may cost.
#[tokio::test]
async fn several_outputs_are_bounded_and_billed_as_several() {
    let place = Place::with(total("0.99")).await;
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut ten = chat(&TWO_CENTS, 100);
    ten["n"] = 10.into();
    let replies = at_once(&worker, CHAT_PATH, &ten, 20).await;
    assert_eq!((answered(&replies), place.upstream.count().billed()), (4, cents(80)));
    let completions = "/openai/v1/completions";
    let prompts = json!({ "model": TWO_CENTS.name, "max_tokens": 100, "prompt": vec!["Once"; 10] });
    worker.post(completions, &prompts).await.refused(402, "budget_exceeded");
    let best = json!({ "model": TWO_CENTS.name, "max_tokens": 100, "prompt": "Once", "best_of": 10 });
    worker.post(completions, &best).await.refused(402, "budget_exceeded");
    let both = json!({ "model": TWO_CENTS.name, "max_tokens": 100, "prompt": ["Once", "Twice"], "n": 4 });
    worker.post(completions, &both).await.ok();
    assert_eq!(place.upstream.count().billed(), cents(96));
    // Absurd multipliers are no way around, nor do they overflow.
    for n in [
        json!(100_000),
        json!(u64::MAX),
        json!(-1),
        json!(0),
        json!(1.5),
        json!("2"),
    ] {
        let mut many = chat(&TWO_CENTS, 100);
        many["n"] = n.clone();
        let reply = worker.chat(&many).await;
        assert!([400, 402].contains(&reply.status), "n = {n}: {reply:#?}");
    }
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    assert_eq!(
        (books.posted(), place.upstream.count().billed()),
        (cents(96), cents(96))
    );
}

#[tokio::test]
async fn one_hot_line_for_agents_fleet_and_model() {
    let budgets = [
        budget("each", "agent", "0.70", "alert"),
        budget("fleet", "fleet", "1.00", "alert"),
        budget("model", "model", "0.70", "alert"),
        "[[agent]]\nid = \"second\"\n".to_owned(),
    ];
    let place = Place::with(budgets.concat()).await;
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    let daemon = place.start().await;
    let agents = [place.worker(&daemon).await, place.agent(&daemon, "second").await];
    let body = chat(&TWO_CENTS, 100);
    let (one, two) = tokio::join!(
        at_once(&agents[0], CHAT_PATH, &body, 150),
        at_once(&agents[1], CHAT_PATH, &body, 150)
    );
    let served = [answered(&one), answered(&two)];
    assert_eq!(
        (served[0] + served[1], place.upstream.count().calls),
        (50, 50),
        "{served:?}"
    );
    assert!(served.iter().all(|served| (15..=35).contains(served)), "{served:?}");
    for agent in &agents {
        wait::until("its calls to settle", SOON, async || {
            let lines = agent.lines().await;
            lines.iter().all(|line| line["held_usd"] == "0.00").then_some(())
        })
        .await;
        for line in agent.lines().await {
            assert!(
                super::place::usd(&line["posted_usd"]) <= super::place::usd(&line["limit_usd"]),
                "{line:#}"
            );
        }
    }
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), cents(100));
    for line in &books.view.lines {
        assert!(line.posted <= line.limit(), "{line:#?}");
    }
}
