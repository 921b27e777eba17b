//! What the config only names: files and variables outside it, some of which hold secrets.

use std::io::Read;
use std::path::Path;

use super::environment::Environment;
use super::problem::Severity;
use super::reader::Item;
use super::secret::Secret;

/// Bytes of a secret at most.
const MAX_SECRET: u64 = 64 * 1024;
/// Characters of a token at least: a short one is guessed.
const MIN_TOKEN: usize = 16;

/// Resolves references. A missing secret is an error for who needs it and a warning for who only
/// checks: an operator often may not read the daemon's credentials.
pub(super) struct References<'a> {
    pub(super) base: &'a Path,
    pub(super) environment: &'a Environment,
    pub(super) missing_secret: Severity,
}

impl References<'_> {
    /// The secret in a file, without the line break at its end. Neither the path nor what is there is
    /// echoed: somebody may have put the secret itself where its file should be named.
    pub(super) fn file(&self, item: &Item<'_>, path: &str) -> Option<Secret> {
        self.read_file(item, path, MIN_TOKEN)
    }

    /// A provider's key in a file: its length was not ours to choose, so a short one is taken.
    pub(super) fn key_file(&self, item: &Item<'_>, path: &str) -> Option<Secret> {
        self.read_file(item, path, 1)
    }

    fn read_file(&self, item: &Item<'_>, path: &str, least: usize) -> Option<Secret> {
        let mut text = String::new();
        let read = std::fs::File::open(self.base.join(path))
            .and_then(|file| file.take(MAX_SECRET + 1).read_to_string(&mut text));
        match read {
            Ok(_) => Self::secret(item, &text, least),
            Err(error) => {
                let message = format!("the file that it names cannot be read: {}", reason(&error));
                self.missing(
                    item,
                    &message,
                    "it is named from the directory of the config file; its content is the secret",
                );
                None
            }
        }
    }

    pub(super) fn variable(&self, item: &Item<'_>, name: &str) -> Option<Secret> {
        self.read_variable(item, name, MIN_TOKEN)
    }

    /// A provider's key in the environment.
    pub(super) fn key_variable(&self, item: &Item<'_>, name: &str) -> Option<Secret> {
        self.read_variable(item, name, 1)
    }

    fn read_variable(&self, item: &Item<'_>, name: &str, least: usize) -> Option<Secret> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.len() > 128 || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(plain) {
            item.error(
                "is not the name of an environment variable (it is not shown here, in case it is the secret itself)",
                "such as BACKSTOP_ADMIN_TOKEN; the secret itself never stands in the config",
            );
            return None;
        }
        match self.environment.get(name) {
            Some(text) => Self::secret(item, text, least),
            None => {
                self.missing(
                    item,
                    "the environment variable that it names is not set",
                    "set it where the daemon starts",
                );
                None
            }
        }
    }

    fn secret(item: &Item<'_>, text: &str, least: usize) -> Option<Secret> {
        let text = text.trim_end_matches(['\r', '\n']);
        let fault = if text.is_empty() {
            "the secret that it names is empty"
        } else if text.len() < least {
            "the secret that it names is shorter than 16 characters"
        } else if text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            "the secret that it names has spaces, line breaks or other characters that no header can carry"
        } else {
            return Some(Secret::new(text));
        };
        item.error(fault, "make one with: openssl rand -hex 32");
        None
    }

    fn missing(&self, item: &Item<'_>, message: &str, hint: &'static str) {
        match self.missing_secret {
            Severity::Error => item.error(message, hint),
            Severity::Warning => item.warning(message, hint),
        }
    }

    /// Reports a file that holds no prices, or wrong ones: a price that is not known is a bound that is
    /// not known.
    pub(super) fn price_file(&self, item: &Item<'_>, path: &Path) -> bool {
        if !self.exists(item, path, Severity::Error) {
            return false;
        }
        match super::price_files::read(path) {
            Ok(_) => true,
            Err(why) => {
                item.error(
                    &format!("{}: {why}", super::values::shown(&path.to_string_lossy())),
                    None,
                );
                false
            }
        }
    }

    /// Reports a file that is not there or is none.
    pub(super) fn exists(&self, item: &Item<'_>, path: &Path, severity: Severity) -> bool {
        let message = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => return true,
            Ok(_) => format!("{} is not a file", super::values::shown(&path.to_string_lossy())),
            Err(error) => format!("{}: {}", super::values::shown(&path.to_string_lossy()), reason(&error)),
        };
        let hint = "a relative path starts at the directory of the config file";
        match severity {
            Severity::Error => item.error(&message, hint),
            Severity::Warning => item.warning(&message, hint),
        }
        false
    }
}

/// The kind of an I/O error in words, the same on every system.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        std::io::ErrorKind::InvalidData => "is not text in UTF-8".to_owned(),
        kind => kind.to_string(),
    }
}
