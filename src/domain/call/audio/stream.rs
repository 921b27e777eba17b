//! Bare streams of frames: MPEG audio (MP3 and its elders) and AAC in ADTS.
//!
//! Each frame says its own rate and length, so walking them gives the truth whatever a header in front (a
//! Xing frame, an ID3 tag) claims. A frame counts when another one, or the end of the file, follows it: what
//! looks like a frame inside of other data seldom has one behind it.

/// A frame's length in bytes and in nanoseconds.
#[derive(Clone, Copy)]
struct Frame {
    bytes: usize,
    nanos: u64,
}

/// Microseconds of sound in all frames of a bare stream, or `None` if the bytes are none. It may begin with
/// anything if it `is_known` to be one.
pub(super) fn walk(bytes: &[u8], is_known: bool) -> Option<u64> {
    let start = tag_len(bytes);
    let frame = match (bytes.get(start..start + 2)?, bytes.get(start..start + 4)?) {
        (&[0xff, second], _) if second & 0xf6 == 0xf0 => adts,
        (&[0xff, second], _) if second & 0xe0 == 0xe0 => mpeg,
        // Whatever is between a tag and the first frame, or no stream at all: sound out both.
        _ => {
            let (first, second) = (walk_as(bytes, start, adts), walk_as(bytes, start, mpeg));
            return (is_known || start > 0)
                .then_some(first.max(second))
                .filter(|&micros| micros > 0);
        }
    };
    Some(walk_as(bytes, start, frame)).filter(|&micros| micros > 0)
}

fn walk_as(bytes: &[u8], start: usize, frame: fn(&[u8]) -> Option<Frame>) -> u64 {
    let (mut at, mut nanos) = (start, 0_u64);
    while let Some(sync) = memchr::memchr(0xff, bytes.get(at..).unwrap_or_default()) {
        at += sync;
        let rest = &bytes[at..];
        let is_followed = |found: &Frame| match rest.get(found.bytes..) {
            // At the end, or cut short, or before the tag that ends the file.
            None | Some([]) => true,
            Some(next) => frame(next).is_some() || next.starts_with(b"TAG") || next.starts_with(b"APETAGEX"),
        };
        match frame(rest).filter(is_followed) {
            Some(found) => {
                nanos = nanos.saturating_add(found.nanos);
                at += found.bytes;
            }
            None => at += 1,
        }
    }
    nanos.div_ceil(1_000)
}

/// Bytes of the ID3v2 tags at the start.
pub(super) fn tag_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&[b'I', b'D', b'3', _, _, flags, a, b, c, d]) = bytes.get(at..at + 10) {
        if [a, b, c, d].iter().any(|size| size & 0x80 != 0) {
            break;
        }
        let size = [a, b, c, d].iter().fold(0, |sum, &size| sum << 7 | usize::from(size));
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        at += 10 + size + footer;
        if at >= bytes.len() {
            return bytes.len();
        }
    }
    at
}

/// Nanoseconds of sound in the MPEG audio frames of one packet of a container.
pub(super) fn mpeg_nanos(packet: &[u8]) -> u64 {
    let (mut at, mut nanos) = (0, 0_u64);
    while let Some(found) = packet.get(at..).and_then(mpeg) {
        nanos = nanos.saturating_add(found.nanos);
        at += found.bytes;
    }
    nanos
}

fn nanos(samples: u64, rate: u64) -> u64 {
    (samples * 1_000_000_000).div_ceil(rate.max(1))
}

fn mpeg(bytes: &[u8]) -> Option<Frame> {
    let &[0xff, second, third, _, ..] = bytes else {
        return None;
    };
    if second & 0xe0 != 0xe0 {
        return None;
    }
    let version = second >> 3 & 3;
    let layer = match second >> 1 & 3 {
        1 => 3,
        2 => 2,
        3 => 1,
        _ => return None,
    };
    let is_first = match version {
        3 => true,
        0 | 2 => false,
        _ => return None,
    };
    let rate = [44_100_u64, 48_000, 32_000].get(usize::from(third >> 2 & 3)).copied()?
        >> match version {
            3 => 0,
            2 => 1,
            _ => 2,
        };
    const FIRST: [[u64; 14]; 3] = [
        [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
        [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
        [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    ];
    const SECOND: [[u64; 14]; 2] = [
        [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
        [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    // Index 0 is a free rate, which no one sends; 15 is forbidden.
    let index = usize::from(third >> 4).checked_sub(1)?;
    let kilobits = if is_first {
        FIRST[layer - 1].get(index)
    } else {
        SECOND[usize::from(layer > 1)].get(index)
    }
    .copied()?;
    let samples = match (layer, is_first) {
        (1, _) => 384,
        (3, false) => 576,
        _ => 1_152,
    };
    let padding = u64::from(third >> 1 & 1);
    let bytes = if layer == 1 {
        (12_000 * kilobits / rate + padding) * 4
    } else {
        samples / 8 * kilobits * 1_000 / rate + padding
    };
    Some(Frame {
        bytes: usize::try_from(bytes).ok()?.max(4),
        nanos: nanos(samples, rate),
    })
}

/// Rates of AAC, by their index.
pub(super) const AAC_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
];

fn adts(bytes: &[u8]) -> Option<Frame> {
    let &[0xff, second, third, fourth, fifth, sixth, seventh, ..] = bytes else {
        return None;
    };
    if second & 0xf6 != 0xf0 {
        return None;
    }
    let rate = AAC_RATES.get(usize::from(third >> 2 & 15)).copied()?;
    let bytes = usize::from(fourth & 3) << 11 | usize::from(fifth) << 3 | usize::from(sixth >> 5);
    let blocks = u64::from(seventh & 3) + 1;
    (bytes >= 7).then(|| Frame {
        bytes,
        nanos: nanos(1_024 * blocks, u64::from(rate)),
    })
}
