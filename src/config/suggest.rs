//! Hints for keys that nobody knows: what was probably meant, or that it is a secret.

/// Words that end the name of something that must not stand in a config.
const SECRET_WORDS: [&str; 8] = [
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "credentials",
    "apikey",
    "key",
];

/// Whether a key's name says that its value is a secret. `token_file` and `token_env` are not.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    key.rsplit('_').next().is_some_and(|last| SECRET_WORDS.contains(&last))
}

pub(super) fn secret_hint(key: &str, known: &[&str]) -> String {
    let base = key.to_ascii_lowercase();
    let by_reference: Vec<&str> = known
        .iter()
        .copied()
        .filter(|known| *known == format!("{base}_file") || *known == format!("{base}_env"))
        .collect();
    if by_reference.is_empty() {
        return "name a file or an environment variable that holds it, and take it for leaked".to_owned();
    }
    format!(
        "use {} to say where it is, and take this one for leaked",
        by_reference.join(" or ")
    )
}

pub(super) fn key_hint(key: &str, known: &[&'static str]) -> String {
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => {
            let mut known = known.to_vec();
            known.sort_unstable();
            known.dedup();
            format!("known here: {}", known.join(", "))
        }
    }
}

/// The known word that is so near that it was probably meant.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(word, known)
}

/// The same for words that are made on the way.
pub(super) fn nearest_of<W: AsRef<str>>(word: &str, known: impl Iterator<Item = W>) -> Option<W> {
    // The distance is quadratic in the length, and no known word is nearly as long as this.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    known
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&word, &candidate.as_ref().to_ascii_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= (candidate.as_ref().len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A key as a path shows it: bounded, and quoted when it is not a bare one.
pub(super) fn shown_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare && key.len() <= 64 {
        key.to_owned()
    } else {
        super::values::shown(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_references_to_them() {
        for key in ["token", "api_key", "API-KEY", "db_password", "client_secret"] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["token_file", "token_env", "key_file", "monkey", "limit_usd"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["limit_usd", "alert_at", "response"];
        assert_eq!(nearest("limit_us", known.into_iter()), Some("limit_usd"));
        assert_eq!(nearest("LIMIT_USD", known.into_iter()), Some("limit_usd"));
        assert_eq!(nearest("alertat", known.into_iter()), Some("alert_at"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
