//! A form (`multipart/form-data`), split into its parts, if there is but one way to split it.
//!
//! The gateway prices what it reads and forwards the bytes, so it must read what the provider will read.
//! Forms are where servers differ most: quoted boundaries, bare line feeds, text before the first part,
//! folded or repeated headers, names in two encodings, encodings of a part's own. Everything that leaves a
//! choice is refused; what the SDKs, curl and browsers send leaves none. The service splits the bytes a second
//! time with a reader of another hand (`gateway::form`) and refuses a form that the two read differently.

use bytes::Bytes;
use memchr::memmem;

use crate::domain::rejection::Rejection;

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormPart {
    pub name: String,
    /// With one, every server takes the part for a file; without one, for text.
    pub filename: Option<String>,
    pub content_type: Option<String>,
    pub bytes: Bytes,
}

/// Parts of one form at most: sixteen images, a hundred keywords, and room to spare.
pub const MAX_PARTS: usize = 256;
/// Bytes of a part's headers, of a name, and of a part that is text.
const MAX_HEADERS: usize = 2_048;
const MAX_NAME: usize = 100;
const MAX_TEXT: usize = 1 << 20;

fn refuse<T>(why: impl Into<String>) -> Result<T, Rejection> {
    Err(Rejection::Malformed(why.into()))
}

/// The boundary of this content type.
///
/// # Errors
/// It is none of a form, or has anything beside one plain boundary.
pub fn boundary(content_type: &str) -> Result<&str, Rejection> {
    let (kind, parameter) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(Rejection::ContentType {
            found: content_type.chars().take(64).collect(),
            expected: "multipart/form-data",
        });
    }
    let value = match parameter.trim().split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("boundary") => value,
        _ => return refuse("the content type must have a boundary and no other parameter"),
    };
    let value = match value.strip_prefix('"').map(|rest| rest.strip_suffix('"')) {
        Some(Some(quoted)) => quoted,
        Some(None) => return refuse("the boundary's quotes do not match"),
        None => value,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    if !(1..=70).contains(&value.len()) || !value.bytes().all(is_plain) {
        return refuse("the boundary is longer than 70 characters or has one that needs quotes");
    }
    Ok(value)
}

/// Splits a form.
///
/// # Errors
/// The bytes are no form, or one that another reader could split in another way.
pub fn split(boundary: &str, body: &Bytes) -> Result<Vec<FormPart>, Rejection> {
    let dashed = format!("--{boundary}");
    let mut marks = memmem::find_iter(body, dashed.as_bytes());
    if marks.next() != Some(0) {
        return refuse("the form does not begin with its boundary");
    }
    let mut parts = Vec::new();
    let mut at = dashed.len();
    loop {
        let rest = &body[at..];
        if let Some(end) = rest.strip_prefix(b"--") {
            return match end {
                b"" | b"\r\n" if !parts.is_empty() => Ok(parts),
                b"" | b"\r\n" => refuse("the form has no parts"),
                _ => refuse("the form has bytes behind its last boundary"),
            };
        }
        if !rest.starts_with(b"\r\n") {
            return refuse("a boundary is followed by something else than a line break");
        }
        at += 2;
        let Some(next) = marks.next() else {
            return refuse("the form has no last boundary");
        };
        // The line break before a boundary belongs to it. Without one, some readers see a boundary and some
        // do not.
        let Some(part) = body.get(at..next).filter(|part| part.ends_with(b"\r\n")) else {
            return refuse("the boundary is found within a part");
        };
        if parts.len() == MAX_PARTS {
            return refuse(format!("a form has at most {MAX_PARTS} parts"));
        }
        parts.push(read_part(body, at, part.len() - 2)?);
        at = next + dashed.len();
    }
}

/// Reads the part of `len` bytes at `at`.
fn read_part(body: &Bytes, at: usize, len: usize) -> Result<FormPart, Rejection> {
    let part = &body[at..at + len];
    let head = memmem::find(&part[..len.min(MAX_HEADERS)], b"\r\n\r\n");
    let Some(head) = head else {
        return refuse("a part's headers do not end, or are longer than 2,048 bytes");
    };
    let bytes = body.slice(at + head + 4..at + len);
    let Ok(head) = std::str::from_utf8(&part[..head]) else {
        return refuse("a part's headers are not UTF-8");
    };
    let (mut disposition, mut content_type, mut seen) = (None, None, Vec::new());
    for line in head.split("\r\n") {
        let header = line.split_once(':').filter(|(name, _)| !name.is_empty());
        let is_plain = |c: char| !c.is_control();
        let Some((name, value)) = header.filter(|_| line.chars().all(is_plain)) else {
            return refuse("a part has a header that cannot be read");
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim_matches(' '));
        match name.as_str() {
            "content-disposition" => disposition = Some(value),
            "content-type" => content_type = Some(value),
            // Both say what is so without them. Any other encoding is one that a server may undo.
            "content-transfer-encoding" if value.eq_ignore_ascii_case("binary") => {}
            "content-length" if value == bytes.len().to_string() => {}
            _ => {
                let shown: String = line.chars().take(80).collect();
                return refuse(format!(
                    "a part has the header {shown:?}, which servers may read in more than one way"
                ));
            }
        }
        if seen.contains(&name) {
            return refuse("a part has the same header twice");
        }
        seen.push(name);
    }
    let (name, filename) = match disposition {
        Some(disposition) => read_disposition(disposition)?,
        None => return refuse("a part has no Content-Disposition"),
    };
    if content_type.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/")) {
        return refuse("a part of the form is a form itself");
    }
    if filename.is_none() && bytes.len() > MAX_TEXT {
        return refuse(format!("{name}: text of more than {MAX_TEXT} bytes"));
    }
    Ok(FormPart {
        name,
        filename,
        content_type: content_type.map(str::to_owned),
        bytes,
    })
}

/// `form-data; name="file"; filename="a.mp3"`, in exactly this form.
fn read_disposition(value: &str) -> Result<(String, Option<String>), Rejection> {
    let odd = || {
        let shown: String = value.chars().take(80).collect();
        Rejection::Malformed(format!(
            "a part says {shown:?}; it must say form-data; name=\"…\" and, for a file, filename=\"…\""
        ))
    };
    let rest = value.strip_prefix("form-data;").ok_or_else(odd)?;
    let (name, rest) = quoted(rest, "name").ok_or_else(odd)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        return Err(odd());
    }
    if rest.is_empty() {
        return Ok((name.to_owned(), None));
    }
    let rest = rest.strip_prefix(';').ok_or_else(odd)?;
    match quoted(rest, "filename").ok_or_else(odd)? {
        // Some servers take a file without a name for a text.
        ("", _) => Err(odd()),
        (filename, "") => Ok((name.to_owned(), Some(filename.to_owned()))),
        _ => Err(odd()),
    }
}

/// ` key="value"` and what follows. A backslash may or may not escape, so none is allowed.
fn quoted<'v>(text: &'v str, key: &str) -> Option<(&'v str, &'v str)> {
    let text = text.strip_prefix(' ').unwrap_or(text);
    let (value, rest) = text.strip_prefix(key)?.strip_prefix("=\"")?.split_once('"')?;
    (!value.contains('\\')).then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(parts: &[(&str, &[u8])]) -> Bytes {
        let mut body = Vec::new();
        for (head, bytes) in parts {
            body.extend_from_slice(format!("--XyZ\r\n{head}\r\n\r\n").as_bytes());
            body.extend_from_slice(bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--XyZ--\r\n");
        body.into()
    }

    const MODEL: (&str, &[u8]) = ("Content-Disposition: form-data; name=\"model\"", b"whisper-1");
    const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg";

    #[test]
    fn what_an_sdk_sends_is_split() {
        let sound: &[u8] = b"\xff\xfb\r\n--Xy\r\n\r\n\0";
        let parts = split("XyZ", &form(&[MODEL, (FILE, sound)])).expect("a form");
        assert_eq!(
            parts,
            [
                FormPart {
                    name: "model".into(),
                    filename: None,
                    content_type: None,
                    bytes: Bytes::from_static(b"whisper-1"),
                },
                FormPart {
                    name: "file".into(),
                    filename: Some("a.mp3".into()),
                    content_type: Some("audio/mpeg".into()),
                    bytes: Bytes::copy_from_slice(sound),
                },
            ]
        );
    }

    #[test]
    fn a_boundary_is_plain_and_alone() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data; Boundary=abc", Some("abc")),
            ("multipart/form-data; boundary=\"a-b_c\"", Some("a-b_c")),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=abc", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=a b", None),
            ("multipart/form-data; boundary=\"abc", None),
            ("multipart/form-data; boundary=\"a\\\"c\"", None),
            ("multipart/form-data; boundary=abc; boundary=xyz", None),
            ("multipart/form-data; charset=utf-8; boundary=abc", None),
            ("multipart/form-data; boundary*=utf-8''abc", None),
        ] {
            assert_eq!(boundary(content_type).ok(), expected, "{content_type}");
        }
        assert!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))).is_err());
    }

    #[test]
    fn what_could_be_split_in_two_ways_is_refused() {
        let whole = form(&[MODEL]);
        assert!(split("XyZ", &whole).is_ok());
        let text = String::from_utf8(whole.to_vec()).expect("text");
        for (what, body) in [
            ("text in front", format!("hello\r\n{text}")),
            ("a line break in front", format!("\r\n{text}")),
            ("text behind", format!("{text}hello")),
            ("another form behind", format!("{text}{text}")),
            ("no last boundary", text.replace("--XyZ--\r\n", "")),
            ("cut within the last boundary", text.replace("--XyZ--\r\n", "--XyZ-")),
            ("no parts", "--XyZ--\r\n".to_owned()),
            ("bare line feeds", text.replace("\r\n", "\n")),
            (
                "a bare line feed before the boundary",
                text.replace("whisper-1\r\n", "whisper-1\n"),
            ),
            ("a boundary within", text.replace("whisper-1", "whisper-1--XyZ--")),
            (
                "padding behind the boundary",
                text.replacen("--XyZ\r\n", "--XyZ \r\n", 1),
            ),
            ("a longer boundary", text.replacen("--XyZ\r\n", "--XyZa\r\n", 1)),
        ] {
            assert!(split("XyZ", &Bytes::from(body)).is_err(), "{what}");
        }
        for head in [
            "Content-Disposition: form-data; name=\"a\"; filename*=utf-8''b.mp3",
            "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
            "Content-Disposition: form-data; filename=\"b\"; name=\"a\"",
            "Content-Disposition: form-data; name=a",
            "Content-Disposition: form-data; name=\"a\"; filename=\"\"",
            "Content-Disposition: form-data; name=\"a\\\"b\"",
            "Content-Disposition: form-data; name=\"\"",
            "Content-Disposition: form-data; name=\"a b\"",
            "Content-Disposition: form-data;\r\n name=\"a\"",
            "Content-Disposition: attachment; name=\"a\"",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Encoding: gzip",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Length: 3",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Type: multipart/mixed; boundary=b",
            "Content-Disposition : form-data; name=\"a\"",
            "Content-Type: text/plain",
            "",
        ] {
            assert!(split("XyZ", &form(&[(head, b"x")])).is_err(), "{head}");
        }
        let harmless =
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: binary\r\nContent-Length: 1";
        assert!(split("XyZ", &form(&[(harmless, b"x")])).is_ok());
    }

    #[test]
    fn bounds_hold() {
        assert!(split("XyZ", &form(&vec![MODEL; MAX_PARTS])).is_ok());
        assert!(split("XyZ", &form(&vec![MODEL; MAX_PARTS + 1])).is_err());
        let large = vec![b'x'; MAX_TEXT + 1];
        assert!(split("XyZ", &form(&[(MODEL.0, &large)])).is_err());
        assert!(split("XyZ", &form(&[(FILE, &large)])).is_ok());
        let long = format!("{FILE}{}", "x".repeat(MAX_HEADERS));
        assert!(split("XyZ", &form(&[(&long, b"x")])).is_err());
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = split("b", &Bytes::from(bytes));
        }

        #[test]
        fn pieces_of_forms_never_panic(pieces in prop::collection::vec(prop_oneof![
            Just("--b"), Just("\r\n"), Just("--"), Just("Content-Disposition: form-data; name=\"a\""),
            Just("; filename=\"x\""), Just("\r\n\r\n"), Just("\n"), Just("x"), Just(":"),
        ], 0..24)) {
            let body = Bytes::from(pieces.concat());
            if let Ok(parts) = split("b", &body) {
                // What was split is all there is: put together again, it is the same.
                let bytes: usize = parts.iter().map(|part| part.bytes.len()).sum();
                prop_assert!(bytes < body.len());
            }
        }
    }
}
