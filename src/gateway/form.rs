//! Splits a form, twice.
//!
//! What the gateway prices must be what the provider reads. So the strict reader of
//! [`domain::call::form`](crate::domain::call::form), which refuses every form that leaves a choice, is
//! checked against a lenient one of another hand, which stands for the servers that we do not know: a form
//! that the two do not read alike, part by part and byte by byte, is refused.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};

use crate::domain::call::FormPart;
use crate::domain::call::form;
use crate::domain::rejection::Rejection;

/// Splits the form in `body`, which the content type names.
///
/// # Errors
/// It is no form, or one that two readers could take for two.
pub(super) fn split(content_type: &str, body: Bytes) -> Result<Vec<FormPart>, Rejection> {
    let boundary = form::boundary(content_type)?;
    let parts = form::split(boundary, &body)?;
    // All of it is there, so its reader never waits.
    let again = split_leniently(boundary, body)
        .now_or_never()
        .ok_or_else(|| Rejection::Malformed("the form does not end".to_owned()))?
        .map_err(|error| Rejection::Malformed(format!("the form cannot be read: {error}")))?;
    if parts == again {
        Ok(parts)
    } else {
        Err(Rejection::Malformed(
            "the form could be read in more than one way".to_owned(),
        ))
    }
}

async fn split_leniently(boundary: &str, body: Bytes) -> Result<Vec<FormPart>, multer::Error> {
    let whole = stream::iter([Ok::<_, Infallible>(body)]);
    let mut form = multer::Multipart::new(whole, boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await? {
        parts.push(FormPart {
            name: field.name().unwrap_or_default().to_owned(),
            filename: field.file_name().map(str::to_owned),
            // As it was sent: the reader's own form of it is in another case and order.
            content_type: field
                .headers()
                .get(http::header::CONTENT_TYPE)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            bytes: field.bytes().await?,
        });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"Grüße %22x%22.mp3\"\r\n\
                        content-type:  Audio/MPEG; codecs=mp3\r\n";

    #[test]
    fn both_readers_agree_on_what_clients_send() {
        let body = format!(
            "--b-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
             --b-1\r\nContent-Disposition: form-data; name=\"include[]\"\r\n\r\n\r\n\
             --b-1\r\n{HEAD}\r\n\u{1}\r\n\r\n-- --b\r\n--b-1--\r\n"
        );
        let parts = split("multipart/form-data; boundary=b-1", Bytes::from(body)).expect("a form");
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["model", "include[]", "file"]);
        assert_eq!(parts[2].filename.as_deref(), Some("Grüße %22x%22.mp3"));
        assert_eq!(parts[2].bytes, Bytes::from_static(b"\x01\r\n\r\n-- --b"));
    }

    #[test]
    fn what_the_two_read_differently_is_refused() {
        for body in [
            "preamble\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--\r\n",
            "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--\r\nepilogue",
            "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n",
        ] {
            assert!(
                split("multipart/form-data; boundary=b", Bytes::from(body)).is_err(),
                "{body:?}"
            );
        }
    }
}
