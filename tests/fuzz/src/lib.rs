//! The domain, mounted by its path, and what the targets share.

#[path = "../../../src/domain/mod.rs"]
pub mod domain;

use bytes::Bytes;
use domain::call::Route;

/// Takes what steers a target off the end of its input, so that the rest stays what it is: a file of the
/// corpus is a stream or a body with a few bytes after it.
pub struct Steer<'a> {
    pub rest: &'a [u8],
}

impl Steer<'_> {
    pub fn byte(&mut self) -> u8 {
        match self.rest.split_last() {
            Some((last, rest)) => {
                self.rest = rest;
                *last
            }
            None => 0,
        }
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

/// All routes, the metered ones with the richest forms first.
pub const ROUTES: [Route; 15] = [
    Route::ChatCompletions,
    Route::Responses,
    Route::Messages,
    Route::Completions,
    Route::Transcriptions,
    Route::Translations,
    Route::Speech,
    Route::ImageGenerations,
    Route::ImageEdits,
    Route::ImageVariations,
    Route::Embeddings,
    Route::Moderations,
    Route::OpenaiModels,
    Route::CountTokens,
    Route::AnthropicModels,
];

/// Cuts bytes into chunks whose lengths come from a small generator, so that a cut can fall anywhere.
pub fn chunks(bytes: &[u8], seed: u8) -> Vec<Bytes> {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761) | 1;
    let mut rest = bytes;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = 1 + (seed as usize >> 3) * 4;
        let len = (1 + (state >> 16) as usize % longest).min(rest.len());
        let (chunk, after) = rest.split_at(len);
        chunks.push(Bytes::copy_from_slice(chunk));
        rest = after;
    }
    chunks
}
