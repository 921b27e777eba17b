//! What a Matroska or WebM file asks of a player beyond playing its packets in order.
//!
//! A track may be compressed once more, packet by packet, and zeros without compression are then a thousandth
//! of themselves; an ordered edition plays chapters as often as it lists them. The reader follows neither, so
//! its count says nothing of such a file.

use memchr::memmem;

const MAGIC: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
const TRACKS: [u8; 4] = [0x16, 0x54, 0xae, 0x6b];
const CHAPTERS: [u8; 4] = [0x10, 0x43, 0xa7, 0x70];

/// A track's entry, its encodings, and one of these.
const ENCODING: [u64; 3] = [0xae, 0x6d80, 0x6240];
/// An edition and its flag that it is ordered.
const ORDERED: [u64; 2] = [0x45b9, 0x45dd];

/// Elements that are looked at, at most, in all.
const MAX_ELEMENTS: usize = 100_000;

/// Whether packets are to be unpacked before they are decoded, or chapters to be played in an order of their
/// own.
pub(super) fn is_more_than_its_packets(bytes: &[u8]) -> bool {
    if memmem::find(bytes, &MAGIC).is_none() {
        return false;
    }
    let mut left = MAX_ELEMENTS;
    let mut any = |id: &[u8], path: &[u64]| {
        memmem::find_iter(bytes, id).any(|at| match element(&bytes[at..]) {
            Some((_, inside, _)) => holds(inside, path, &mut left),
            None => false,
        })
    };
    any(&TRACKS, &ENCODING) || any(&CHAPTERS, &ORDERED)
}

/// Whether there is an element at the end of this path. A flag of zero is none.
fn holds(mut bytes: &[u8], path: &[u64], left: &mut usize) -> bool {
    let Some((&wanted, deeper)) = path.split_first() else {
        return bytes.iter().any(|&byte| byte != 0);
    };
    while let Some((id, inside, rest)) = element(bytes) {
        let Some(less) = left.checked_sub(1) else { return true };
        *left = less;
        if id == wanted && holds(inside, deeper, left) {
            return true;
        }
        bytes = rest;
    }
    false
}

/// The first element: its name, what is in it, what comes after.
fn element(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (id, _, after) = number(bytes)?;
    let (size, marker, inside) = number(after)?;
    let size = size ^ marker;
    // All ones: up to the end.
    let size = if size == marker - 1 { u64::MAX } else { size };
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(inside.len());
    let (inside, rest) = inside.split_at(size);
    Some((id, inside, rest))
}

/// A number that says by its leading zeros how long it is: with the marker behind these, the marker alone, and
/// what comes after.
fn number(bytes: &[u8]) -> Option<(u64, u64, &[u8])> {
    let len = bytes.first()?.leading_zeros() as usize + 1;
    let (digits, rest) = (bytes.get(..len.min(8))?, bytes.get(len..)?);
    let number = digits.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
    (len <= 8).then_some((number, 1 << (7 * len), rest))
}
