//! How a stream that was cut tells its client.
//!
//! The SDKs raise their error type on an event whose data has an `error` (OpenAI's, on every route) or
//! whose name is `error` (Anthropic's). Documented: `_streaming.py` of both Python SDKs, and the types
//! `ResponseErrorEvent` and `ErrorResponse`. What follows such an event is not read.

use bytes::Bytes;
use serde_json::json;

use crate::domain::call::route::{Api, Route};

/// The event that ends a stream of this route. `sequence` numbers it, where a route numbers its events.
pub fn error_event(route: Route, code: &str, message: &str, sequence: u64) -> Bytes {
    let error = json!({ "message": message, "type": "backstop_error", "param": null, "code": code });
    let data = match (route.api(), route) {
        (Api::Anthropic, _) => {
            json!({ "type": "error", "error": { "type": "api_error", "message": message, "code": code } })
        }
        (Api::Openai, Route::Responses) => json!({
            "type": "error", "code": code, "message": message, "param": null, "sequence_number": sequence,
            "error": error,
        }),
        (Api::Openai, _) => json!({ "error": error }),
    };
    let name = match route {
        Route::ChatCompletions | Route::Completions => "",
        _ => "event: error\n",
    };
    Bytes::from(format!("{name}data: {data}\n\n"))
}
