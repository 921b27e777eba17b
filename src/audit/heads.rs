//! The exported heads: a file of JSON lines that is only ever appended to, each line synced.
//!
//! Beside it, `<file>.pub` holds the public key, so that a copy of the two can be checked elsewhere.
//! Several daemons may share a store and this file: each append takes the file's lock and first reads
//! what others have added. A line that a crash cut short was never acknowledged and is removed then; any
//! other line that is no signed head is a fault.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;

use super::AuditError;
use super::key::{failed, public_pem, sync_folder_of};
use crate::domain::audit::head::SignedHead;

/// The open file.
#[derive(Debug)]
pub struct HeadsFile {
    path: PathBuf,
    file: File,
    key: VerifyingKey,
    /// How far it has been read, and how many lines that was.
    read_to: u64,
    lines: u64,
    last: Option<SignedHead>,
}

impl HeadsFile {
    /// Opens the file or makes it. A last head that is not signed with this key is an error: the key or
    /// the file was exchanged, and only an operator knows whether on purpose.
    pub fn open(path: &Path, key: VerifyingKey) -> Result<Self, AuditError> {
        let is_new = !path.exists();
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(|source| failed("open", path, source))?;
        if is_new {
            sync_folder_of(path)?;
        }
        let mut heads = Self {
            path: path.to_owned(),
            file,
            key,
            read_to: 0,
            lines: 0,
            last: None,
        };
        heads.locked(Self::refresh)?;
        heads.write_public_key()?;
        Ok(heads)
    }

    /// The head of the greatest number.
    pub fn last(&self) -> Option<&SignedHead> {
        self.last.as_ref()
    }

    /// Appends a head and syncs it, unless another process has exported as much meanwhile.
    pub fn append(&mut self, head: &SignedHead) -> Result<(), AuditError> {
        self.locked(|heads| {
            heads.refresh()?;
            if heads.last.as_ref().is_some_and(|last| last.seq >= head.seq) {
                return Ok(());
            }
            let mut line = serde_json::to_vec(head).map_err(|source| AuditError::Line {
                path: heads.path.clone(),
                line: heads.lines + 1,
                source,
            })?;
            line.push(b'\n');
            let written = heads.file.write_all(&line).and_then(|()| heads.file.sync_data());
            // After a failure the file may end in a part of the line; the next refresh removes it, or
            // finds the whole of it.
            written.map_err(|source| failed("append to", &heads.path, source))?;
            heads.refresh()
        })
    }

    /// Holds the file's lock meanwhile; it is released in any case, also by our death.
    fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, AuditError>) -> Result<T, AuditError> {
        self.file.lock().map_err(|source| failed("lock", &self.path, source))?;
        let done = work(self);
        let unlocked = self
            .file
            .unlock()
            .map_err(|source| failed("unlock", &self.path, source));
        done.and_then(|value| unlocked.map(|()| value))
    }

    /// Reads what was added since the last look, and cuts off an unfinished last line.
    fn refresh(&mut self) -> Result<(), AuditError> {
        let failed_to_read = |source| failed("read", &self.path, source);
        let mut added = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.read_to)).map_err(failed_to_read)?;
        file.read_to_end(&mut added).map_err(failed_to_read)?;
        let whole = added.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let heads = parse(&self.path, self.lines, &added[..whole])?;
        if whole < added.len() {
            let end = self.read_to + whole as u64;
            self.file
                .set_len(end)
                .and_then(|()| self.file.sync_data())
                .map_err(|source| failed("cut off an unfinished line of", &self.path, source))?;
        }
        self.read_to += whole as u64;
        self.lines += heads.len() as u64;
        let greatest = heads.into_iter().max_by_key(|head| head.seq);
        if let Some(head) = greatest.filter(|head| self.last.as_ref().is_none_or(|last| head.seq > last.seq)) {
            head.check(&[self.key]).map_err(|source| AuditError::Head {
                path: self.path.clone(),
                source,
            })?;
            self.last = Some(head);
        }
        Ok(())
    }

    fn write_public_key(&self) -> Result<(), AuditError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".pub");
        let path = PathBuf::from(name);
        let pem = public_pem(&self.key)?;
        if fs::read_to_string(&path).is_ok_and(|there| there == pem) {
            return Ok(());
        }
        fs::write(&path, pem).map_err(|source| failed("write", &path, source))
    }
}

/// Every head of an exported file, in its order; none if there is no file.
pub fn read_heads(path: &Path) -> Result<Vec<SignedHead>, AuditError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed("read", path, source)),
    };
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    parse(path, 0, &bytes[..whole])
}

fn parse(path: &Path, lines_before: u64, bytes: &[u8]) -> Result<Vec<SignedHead>, AuditError> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let parse_line = |(at, line): (u64, &[u8])| {
        serde_json::from_slice(line).map_err(|source| AuditError::Line {
            path: path.to_owned(),
            line: lines_before + at,
            source,
        })
    };
    (1..).zip(lines).map(parse_line).collect()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use jiff::Timestamp;

    use super::*;
    use crate::domain::audit::Head;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn head(seq: i64) -> SignedHead {
        let at = Timestamp::from_second(1_763_620_000 + seq).expect("in range");
        SignedHead::sign(Head { seq, hash: [1; 32] }, at, &key(1))
    }

    #[test]
    fn heads_are_kept_and_found_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.heads");
        let mut file = HeadsFile::open(&path, key(1).verifying_key()).expect("opened");
        assert_eq!(file.last(), None);
        file.append(&head(3)).expect("appended");
        file.append(&head(9)).expect("appended");
        assert_eq!(file.last(), Some(&head(9)));
        let again = HeadsFile::open(&path, key(1).verifying_key()).expect("opened");
        assert_eq!(again.last(), Some(&head(9)));
        assert_eq!(read_heads(&path).expect("read"), [head(3), head(9)]);
        assert!(dir.path().join("audit.heads.pub").exists());
        assert_eq!(read_heads(&dir.path().join("none")).expect("nothing to read"), []);
    }

    #[test]
    fn two_processes_share_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.heads");
        let mut one = HeadsFile::open(&path, key(1).verifying_key()).expect("opened");
        let mut other = HeadsFile::open(&path, key(1).verifying_key()).expect("opened");
        one.append(&head(3)).expect("appended");
        other.append(&head(3)).expect("it is there already");
        other.append(&head(5)).expect("appended");
        one.append(&head(4)).expect("it is covered already");
        assert_eq!(read_heads(&path).expect("read"), [head(3), head(5)]);
        assert_eq!(one.last(), Some(&head(5)));
    }

    #[test]
    fn what_a_crash_cut_short_is_removed_and_what_somebody_changed_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.heads");
        let mut file = HeadsFile::open(&path, key(1).verifying_key()).expect("opened");
        file.append(&head(3)).expect("appended");
        let whole = fs::read(&path).expect("read");
        fs::write(&path, [whole.as_slice(), b"{\"seq\":4,\"ha"].concat()).expect("written");
        assert_eq!(read_heads(&path).expect("read"), [head(3)]);
        file.append(&head(5)).expect("appended");
        assert_eq!(read_heads(&path).expect("read"), [head(3), head(5)]);

        fs::write(&path, [whole.as_slice(), b"{}\n", whole.as_slice()].concat()).expect("written");
        let error = HeadsFile::open(&path, key(1).verifying_key()).expect_err("a line is no head");
        assert!(matches!(error, AuditError::Line { line: 2, .. }), "{error}");
    }

    #[test]
    fn another_key_does_not_go_on_silently() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("audit.heads");
        HeadsFile::open(&path, key(1).verifying_key())
            .and_then(|mut file| file.append(&head(3)))
            .expect("appended");
        let error = HeadsFile::open(&path, key(2).verifying_key()).expect_err("another key signed");
        assert!(matches!(error, AuditError::Head { .. }), "{error}");
    }
}
