//! How much longer a text can get before it is cut into tokens.
//!
//! Bytes bound tokens only where the tokenizer takes the text as it is. OpenAI's are published and do.
//! Anthropic's are not, and an older one that was published first brought texts into the compatibility
//! form NFKC, in which one ligature of 3 bytes becomes a sentence of 33; those of models that others serve
//! behind OpenAI's API do the same (`SentencePiece`, by default). So everywhere but at OpenAI the growth that
//! such a form could bring is counted on top; ordinary text of any language has next to none.

use serde_json::Value;

/// First and last of a row of characters, and the bytes by which any of them can get longer in the forms
/// NFC and NFKC (Unicode 14; a mark can move its base apart, which is counted with the marks). The
/// characters between those that grow are few, and rare.
const GROWS: &[(u32, u32, u64)] = &[
    (0x00A8, 0x00BE, 3),
    (0x013F, 0x0140, 1),
    (0x0149, 0x0149, 1),
    (0x01C4, 0x01C6, 1),
    (0x02D8, 0x02DD, 1),
    (0x0300, 0x036F, 3),
    (0x037A, 0x037A, 1),
    (0x0384, 0x0385, 3),
    (0x0587, 0x0587, 2),
    (0x0675, 0x0678, 2),
    (0x0958, 0x095F, 3),
    (0x09DC, 0x09DF, 3),
    (0x0A33, 0x0A36, 3),
    (0x0A59, 0x0A5E, 3),
    (0x0B5C, 0x0B5D, 3),
    (0x0E33, 0x0E33, 3),
    (0x0EB3, 0x0EB3, 3),
    (0x0EDC, 0x0EDD, 3),
    (0x0F43, 0x0F43, 3),
    (0x0F4D, 0x0F5C, 3),
    (0x0F69, 0x0F69, 3),
    (0x0F73, 0x0F81, 6),
    (0x0F93, 0x0F93, 3),
    (0x0F9D, 0x0FAC, 3),
    (0x0FB9, 0x0FB9, 3),
    (0x1FC1, 0x1FC1, 2),
    (0x1FCD, 0x1FCF, 2),
    (0x1FDD, 0x1FDF, 2),
    (0x1FED, 0x1FEE, 2),
    (0x2033, 0x2037, 6),
    (0x2057, 0x2057, 9),
    (0x2150, 0x2167, 3),
    (0x2177, 0x2177, 1),
    (0x2189, 0x2189, 2),
    (0x222C, 0x2230, 6),
    (0x247D, 0x2487, 1),
    (0x2A0C, 0x2A0C, 9),
    (0x2ADC, 0x2ADC, 2),
    (0x309B, 0x309F, 3),
    (0x30FF, 0x30FF, 3),
    (0x3200, 0x3243, 5),
    (0x327C, 0x327D, 3),
    (0x32C0, 0x32CB, 2),
    (0x32FF, 0x3370, 15),
    (0x337B, 0x337F, 9),
    (0x3389, 0x3389, 1),
    (0x33A7, 0x33AF, 5),
    (0x33C2, 0x33C6, 3),
    (0x33D8, 0x33FE, 2),
    (0xFA6C, 0xFA6C, 1),
    (0xFACF, 0xFAD7, 1),
    (0xFB13, 0xFB1F, 1),
    (0xFB2A, 0xFB4F, 3),
    (0xFBDD, 0xFBDD, 1),
    (0xFBEA, 0xFD3D, 3),
    (0xFD50, 0xFDC7, 3),
    (0xFDF0, 0xFDFC, 30),
    (0xFE71, 0xFE7F, 1),
    (0xFEF5, 0xFEFC, 1),
    (0x1D15E, 0x1D164, 8),
    (0x1D1BB, 0x1D1C0, 8),
    (0x1F12A, 0x1F12A, 3),
    (0x1F200, 0x1F201, 2),
    (0x1F240, 0x1F248, 5),
];

/// Bytes by which all texts in this value can grow at most.
pub(super) fn expansion(value: &Value) -> u64 {
    match value {
        Value::String(text) => of_text(text),
        Value::Array(items) => items.iter().map(expansion).fold(0, u64::saturating_add),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| of_text(key).saturating_add(expansion(value)))
            .fold(0, u64::saturating_add),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn of_text(text: &str) -> u64 {
    if text.is_ascii() {
        return 0;
    }
    text.chars().map(|c| growth(u32::from(c))).fold(0, u64::saturating_add)
}

fn growth(c: u32) -> u64 {
    let at = GROWS.partition_point(|row| row.1 < c);
    GROWS.get(at).filter(|row| row.0 <= c).map_or(0, |row| row.2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_normal_form_writes_out_counts() {
        for plain in ["hello", "Grüße, 世界, привет, 한국어, 😀 – “so” … ™"] {
            assert_eq!(expansion(&json!([plain])), 0, "{plain}");
        }
        // Lengths in NFKC, from Python's unicodedata: 33 bytes of 3, 4 of 2, 12 of 3.
        assert!(expansion(&json!("\u{fdfa}")) >= 30);
        assert!(expansion(&json!({"\u{bd}": null})) >= 2);
        assert!(expansion(&json!(["\u{337f}"])) >= 9);
        assert_eq!(expansion(&json!("\u{fdfa}\u{fdfa}")), 2 * expansion(&json!("\u{fdfa}")));
    }

    #[test]
    fn the_rows_are_in_order() {
        assert!(GROWS.iter().all(|row| row.0 <= row.1));
        assert!(GROWS.windows(2).all(|rows| rows[0].1 < rows[1].0));
    }
}
