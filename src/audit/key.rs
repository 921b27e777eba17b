//! The signing key: an Ed25519 key as PKCS#8 PEM, the form in which `openssl genpkey` writes one.
//!
//! It is read from the file that the configuration names, a systemd credential for example, and made
//! there at the first start. A file that others may read is refused: a signature that anybody can make
//! proves nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::AuditError;
use crate::ports::Entropy;

/// Bytes of a key file at most; a real one has about 120.
const MAX_BYTES: u64 = 4096;

/// Reads the key, or makes one where there is none.
pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<SigningKey, AuditError> {
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    create(path, entropy)?;
    // Read back what is there: another process may have been first.
    load(path)?.ok_or_else(|| AuditError::Key {
        path: path.to_owned(),
        why: "it vanished right after it was made".to_owned(),
    })
}

/// The public half as PEM, for whoever verifies elsewhere.
pub fn public_pem(key: &VerifyingKey) -> Result<String, AuditError> {
    key.to_public_key_pem(LineEnding::LF).map_err(|error| AuditError::Key {
        path: PathBuf::from("the public key"),
        why: error.to_string(),
    })
}

fn load(path: &Path) -> Result<Option<SigningKey>, AuditError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("open", path, source)),
    };
    let unfit = |why: String| AuditError::Key {
        path: path.to_owned(),
        why,
    };
    let metadata = file.metadata().map_err(|source| failed("examine", path, source))?;
    if !metadata.is_file() {
        return Err(unfit("it is not a file".to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(unfit(format!(
            "others may read it (mode {mode:o}); run chmod 600 on it"
        )));
    }
    let mut text = String::new();
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|source| failed("read", path, source))?;
    // The cause is left out on purpose: a parser's message may quote what it read.
    let key = SigningKey::from_pkcs8_pem(&text)
        .map_err(|_| unfit("it is not an Ed25519 key in PKCS#8 PEM (openssl genpkey -algorithm ed25519)".to_owned()))?;
    Ok(Some(key))
}

/// Writes a new key completely before it gets its name, and never over another.
fn create(path: &Path, entropy: &dyn Entropy) -> Result<(), AuditError> {
    let mut seed = [0; 32];
    entropy.fill(&mut seed);
    let pem = SigningKey::from_bytes(&seed)
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| AuditError::Key {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| {
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&new, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let _ = fs::remove_file(&new);
    written.map_err(|source| failed("write", path, source))?;
    sync_folder_of(path)
}

/// Makes a new name in a folder durable.
pub(super) fn sync_folder_of(path: &Path) -> Result<(), AuditError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| failed("sync", folder, source))
}

pub(super) fn failed(doing: &'static str, path: &Path, source: io::Error) -> AuditError {
    AuditError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    pub(crate) struct Fixed(pub(crate) u8);

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn a_key_is_made_once_readable_by_nobody_else() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.key");
        let made = load_or_create(&path, &Fixed(7)).expect("made");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(load_or_create(&path, &Fixed(8)).expect("found"), made);
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
        assert!(
            public_pem(&made.verifying_key())
                .expect("encodes")
                .starts_with("-----BEGIN PUBLIC KEY-----")
        );
    }

    #[test]
    fn a_key_that_openssl_wrote_is_read() {
        // RFC 8410, section 10.3: the example key.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.key");
        fs::write(&path, pem).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("permitted");
        let key = load_or_create(&path, &Fixed(0)).expect("read");
        assert_eq!(
            hex::encode(key.verifying_key().as_bytes()),
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
        );
    }

    #[test]
    fn an_open_or_wrong_file_is_refused_and_never_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.key");
        fs::write(&path, "secret words").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permitted");
        let error = load_or_create(&path, &Fixed(0))
            .expect_err("others may read it")
            .to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permitted");
        let error = load_or_create(&path, &Fixed(0)).expect_err("it is no key").to_string();
        assert!(
            error.contains("openssl genpkey") && !error.contains("secret words"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "secret words");
        assert!(load_or_create(dir.path(), &Fixed(0)).is_err());
        assert!(load_or_create(&dir.path().join("missing/audit.key"), &Fixed(0)).is_err());
    }
}
