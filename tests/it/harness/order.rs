//! The order of writes, syncs and sends, as a trace of system calls shows it.
//!
//! For whatever goes out the trace must show its row being written to the write-ahead log, then a sync of that
//! file that began after the write and ended well, and only then the first byte of what was sent.

use super::strace::Call;

/// Bytes of a buffer that are traced: more than a page of the log and its header.
pub const TRACED_BYTES: usize = 8_192;

/// The bytes in the quoted buffers of a call, as C writes them.
fn buffers(arguments: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = arguments.bytes().peekable();
    let mut quoted = false;
    while let Some(byte) = rest.next() {
        match (quoted, byte) {
            (_, b'"') => quoted = !quoted,
            (true, b'\\') => match rest.next() {
                Some(digit @ b'0'..=b'7') => {
                    let mut value = u32::from(digit - b'0');
                    for _ in 0..2 {
                        match rest.peek() {
                            Some(&next @ b'0'..=b'7') => {
                                value = value * 8 + u32::from(next - b'0');
                                rest.next();
                            }
                            _ => break,
                        }
                    }
                    bytes.push(u8::try_from(value).unwrap_or(u8::MAX));
                }
                Some(b'n') => bytes.push(b'\n'),
                Some(b't') => bytes.push(b'\t'),
                Some(b'r') => bytes.push(b'\r'),
                Some(b'v') => bytes.push(0x0b),
                Some(b'f') => bytes.push(0x0c),
                Some(other) => bytes.push(other),
                None => break,
            },
            (true, byte) => bytes.push(byte),
            (false, _) => {}
        }
    }
    bytes
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// The calls of a trace with what they wrote.
pub struct Trace {
    calls: Vec<(Call, Vec<u8>)>,
}

impl Trace {
    pub fn new(calls: Vec<Call>) -> Self {
        let calls = calls.into_iter().map(|call| {
            let bytes = buffers(&call.arguments);
            (call, bytes)
        });
        Self { calls: calls.collect() }
    }

    /// Proves that the row was synced before the first byte of what depends on it went out: `row` is what only
    /// the row has in the log; what was sent begins with `starts`, and only it has the `marker`.
    pub fn prove(&self, row: &[u8], starts: &[u8], marker: &[u8]) -> Result<(), String> {
        let is_log = |call: &Call| call.file_name().ends_with(".db-wal");
        let (sent, _) = self
            .calls
            .iter()
            .find(|(call, bytes)| call.is_to_socket() && bytes.starts_with(starts) && holds(bytes, marker))
            .ok_or("it was not sent")?;
        let (written, _) = self
            .calls
            .iter()
            .find(|(call, bytes)| call.name == "pwrite64" && is_log(call) && holds(bytes, row))
            .ok_or("the row was not written to the log")?;
        let written_at = written.ended.ok_or("the write of the row did not end")?;
        if written_at >= sent.began {
            return Err(format!(
                "the row was written at {written_at}, after it was sent at {}",
                sent.began
            ));
        }
        let synced = self.calls.iter().any(|(call, _)| {
            call.is_sync()
                && is_log(call)
                && call.result == Some(0)
                && call.began > written_at
                && call.ended.is_some_and(|end| end < sent.began)
        });
        if synced {
            Ok(())
        } else {
            Err(format!(
                "no sync of the log began after the write at {written_at} and ended before it was sent at {}",
                sent.began
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::strace;
    use super::*;

    /// The lines of a trace in which everything is in order.
    const IN_ORDER: [&str; 4] = [
        r#"7 1.0 pwrite64(9</d/b.db-wal>, "\1row-1\"\n", 7, 0) = 7"#,
        r"7 1.1 fdatasync(9</d/b.db-wal> <unfinished ...>",
        r"7 1.2 <... fdatasync resumed>) = 0",
        r#"8 1.3 writev(5<socket:[1]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}, {iov_base="{\"id\":\"row-1\"}", iov_len=14}], 2) = 31"#,
    ];

    fn prove(lines: &[&str]) -> Result<(), String> {
        Trace::new(strace::parse(&lines.join("\n"))).prove(b"row-1", b"HTTP/1.1 2", b"\"row-1\"")
    }

    #[test]
    fn the_proof_accepts_only_the_right_order() {
        let [write, sync, synced, answer] = IN_ORDER;
        assert_eq!(prove(&[write, sync, synced, answer]), Ok(()));
        let refused = |lines: &[&str]| prove(lines).expect_err("this order must be refused");
        assert!(
            refused(&[write, answer, sync, synced]).contains("no sync"),
            "answered first"
        );
        assert!(
            refused(&[write, sync, answer, synced]).contains("no sync"),
            "answered during the sync"
        );
        assert!(
            refused(&[sync, synced, write, answer]).contains("no sync"),
            "synced before the write"
        );
        assert!(
            refused(&[sync, write, synced, answer]).contains("no sync"),
            "the sync began before the write"
        );
        assert!(refused(&[sync, synced, answer, write]).contains("after it was sent"));
        assert!(refused(&[sync, synced, answer]).contains("not written"));
        assert!(refused(&[write, sync, synced]).contains("not sent"));
        let failed = "7 1.2 <... fdatasync resumed>) = -1 EIO (Input/output error)";
        assert!(
            refused(&[write, sync, failed, answer]).contains("no sync"),
            "the sync failed"
        );
        let elsewhere = "7 1.1 fsync(10</d/audit.heads>) = 0";
        assert!(
            refused(&[write, elsewhere, answer]).contains("no sync"),
            "another file was synced"
        );
    }

    #[test]
    fn a_traced_buffer_is_read_back() {
        let arguments = r#"9</d/b.db-wal>, "a\"\\\0019\33\177é\n"..., 8"#;
        assert_eq!(buffers(arguments), "a\"\\\u{1}9\u{1b}\u{7f}é\n".as_bytes());
    }
}
