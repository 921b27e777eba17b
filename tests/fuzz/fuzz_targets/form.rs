//! No form makes the splitter panic; what it splits lies in the body; what it reads is bounded.

#![no_main]

use backstop_fuzz::Steer;
use backstop_fuzz::domain::call::{CallRules, Route, form, read_form};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut steer = Steer { rest: input };
    let route = steer.one_of(&[
        Route::Transcriptions,
        Route::Translations,
        Route::ImageEdits,
        Route::ImageVariations,
    ]);
    let body = Bytes::copy_from_slice(steer.rest);
    let Ok(parts) = form::split("b", &body) else { return };
    let range = body.as_ptr_range();
    let mut total = 0;
    for part in &parts {
        total += part.bytes.len();
        assert!(
            part.bytes.is_empty() || range.contains(&part.bytes.as_ptr()),
            "a slice, no copy"
        );
    }
    assert!(total <= body.len());
    let _ = read_form(route, &body, &parts, &CallRules::default());
});
