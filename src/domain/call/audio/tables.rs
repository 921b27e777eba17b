//! What the tables of an MP4 file announce, whatever the reader makes of them.
//!
//! A file of a few kilobytes can hold hours: an edit list plays the same sound a thousand times, a table of
//! chunks points a thousand times to the same bytes, and a table of sizes announces four thousand million
//! packets. A decoder does as it is told. The reader here does not (it knows no edit lists, believes the
//! table of times where others believe that of sizes, and gives up at a chunk that lies behind another), so
//! what the tables say is added up here and the bound takes it wherever the two differ.
//!
//! Tables are found by their names alone, wherever these stand, so that no box can be hidden from this look
//! that a decoder would find. Only what stands in a whole box of sound is left out, since a name that stood
//! there by chance (once in four thousand megabytes for each) would make a bound far too high.

use std::borrow::Cow;

use memchr::memmem;

use super::{AGREE_MICROS, ENDLESS_MICROS, Length};

/// Steps that the reader may take: about a second. An hour of AAC in fragments of a second takes five million.
const MAX_STEPS: u128 = 500_000_000;

/// The longest frame of AAC, Opus or MPEG audio, in microseconds: what a packet that is announced may hold.
const PACKET_MICROS: u64 = 144_000;

/// The same of the codecs without loss, whose packets are as long as their configuration says: 2^24 samples
/// at 8 kHz.
const LONG_PACKET_MICROS: u64 = 2_100_000_000;

/// Per-sample fields of a `trun`: duration, size, flags, composition time.
const PER_SAMPLE: u32 = 0xf00;

/// An edit that plays nothing.
const EMPTY: u64 = u64::MAX;

/// An edit that plays at the speed of the sound: 1.0 in sixteen bits each.
const AS_IT_IS: u32 = 0x0001_0000;

/// What the tables of a file announce.
#[derive(Debug, Default)]
pub(super) struct Tables<'b> {
    /// The file without its sound. Empty: it is none of this kind.
    boxes: Cow<'b, [u8]>,
    /// Packets of all tracks.
    pub packets: u64,
    /// A track has several descriptions, of which the reader knows one.
    pub described_twice: bool,
    /// The longest length that a track claims for itself.
    pub claimed: u64,
    /// Reading them would take too long.
    pub hostile: bool,
    /// The longest packet there may be, as far as the names of the codecs tell.
    pub longest: u64,
}

/// Looks through the tables.
pub(super) fn scan(file: &[u8]) -> Tables<'_> {
    let boxes = without_sound(file);
    if memmem::find(&boxes, b"moov").is_none() {
        return Tables::default();
    }
    let bytes = &*boxes;
    let (mut steps, mut packets) = (0_u128, 0_u64);
    for [flags, count] in words(bytes, b"trun") {
        // More packets than bytes are none; the reader would count them out all the same.
        let endless = flags & PER_SAMPLE == 0 && count as usize > file.len();
        steps += if endless { MAX_STEPS } else { 0 };
        packets = packets.saturating_add(u64::from(count));
        let count = u128::from(count);
        // With fields of its own each packet's are summed up from the first; without, they are counted out.
        steps += if flags & PER_SAMPLE == 0 {
            count
        } else {
            count * count / 2
        };
    }
    // The count stands at the same place in the table of sizes and in the compact one.
    let sized = [b"stsz", b"stz2"]
        .iter()
        .flat_map(|&name| memmem::find_iter(bytes, name).filter_map(|at| word(bytes, at + 12)))
        .fold(0_u64, |sum, count| sum.saturating_add(u64::from(count)));
    let times = words(bytes, b"stts")
        .map(|[_, entries]| u128::from(entries))
        .sum::<u128>();
    steps += u128::from(sized) * times.max(1);
    // Sound without compression is found by its chunks, however many packets the table of sizes says.
    packets = packets.saturating_add(sized.max(chunked(bytes)));
    let is_long = [&b"alac"[..], b"fLaC"]
        .iter()
        .any(|name| memmem::find(bytes, name).is_some());
    let described_twice = words(bytes, b"stsd").any(|[_, entries]| entries > 1);
    let claimed = claimed(bytes);
    Tables {
        packets,
        described_twice,
        claimed,
        hostile: steps > MAX_STEPS,
        longest: if is_long { LONG_PACKET_MICROS } else { PACKET_MICROS },
        boxes,
    }
}

/// The file without its whole boxes of sound. The walk over the outermost boxes is the same for every
/// decoder; where it first finds one that is not whole, it ends.
fn without_sound(file: &[u8]) -> Cow<'_, [u8]> {
    let (mut at, mut kept, mut rest) = (0_usize, 0_usize, Vec::new());
    while let Some(&[a, b, c, d, ref name @ ..]) = file.get(at..).and_then(|left| left.first_chunk::<8>()) {
        let (head, size) = match u32::from_be_bytes([a, b, c, d]) {
            1 => (16, long(file, at + 8).unwrap_or(0)),
            size => (8, u64::from(size)),
        };
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            break;
        };
        if size < head || end > file.len() {
            break;
        }
        if name == b"mdat" {
            rest.extend_from_slice(&file[kept..at]);
            kept = end;
        }
        at = end;
    }
    if kept == 0 {
        return Cow::Borrowed(file);
    }
    rest.extend_from_slice(&file[kept..]);
    Cow::Owned(rest)
}

impl Tables<'_> {
    /// How long the announced packets are at most.
    pub(super) const fn announced(&self) -> u64 {
        self.packets.saturating_mul(self.longest)
    }

    /// A recording of this length as its edit lists have it played: each edit as long as it says or as the
    /// whole recording, whichever is longer, for a decoder may stop at either.
    pub(super) fn edited(&self, plain: Length) -> Length {
        edited(&self.boxes, plain)
    }

    /// The tables themselves are compressed, as QuickTime once did, and nobody can say what they announce.
    pub(super) fn are_hidden(&self) -> bool {
        memmem::find_iter(&self.boxes, b"cmov").any(|at| self.boxes.get(at + 8..at + 12) == Some(&b"dcom"[..]))
    }
}

/// Packets that lie in the chunks: each table of chunks with the table of packets in a chunk that stands in
/// the same place among its like.
fn chunked(bytes: &[u8]) -> u64 {
    let mut left = bytes.len() / 12 + 1_024;
    let mut chunks: Vec<(usize, u32)> = [b"stco", b"co64"]
        .iter()
        .flat_map(|&name| memmem::find_iter(bytes, name))
        .filter_map(|at| Some((at, word(bytes, at + 8)?)))
        .collect();
    chunks.sort_unstable();
    let mut sum = 0_u64;
    for ((_, chunks), runs) in chunks.into_iter().zip(memmem::find_iter(bytes, b"stsc")) {
        let entries = word(bytes, runs + 8).unwrap_or(0) as usize;
        let first_and_each = |entry: usize| {
            let at = runs + 12 + entry * 12;
            Some((u64::from(word(bytes, at)?), u64::from(word(bytes, at + 4)?)))
        };
        let end = u64::from(chunks).saturating_add(1);
        let mut next = first_and_each(0);
        for entry in 1..=entries {
            let Some((first, each)) = next else { break };
            let Some(less) = left.checked_sub(1) else {
                return u64::MAX;
            };
            left = less;
            next = first_and_each(entry).filter(|_| entry < entries);
            let last = next.map_or(end, |(first, _)| first.min(end));
            sum = sum.saturating_add(last.saturating_sub(first.max(1)).saturating_mul(each));
        }
    }
    sum
}

/// The longest length in the tracks' headers. All ones say that it is not known.
fn claimed(bytes: &[u8]) -> u64 {
    let mut longest = 0;
    for at in memmem::find_iter(bytes, b"tkhd") {
        let ticks = match bytes.get(at + 4) {
            Some(1) => long(bytes, at + 32).filter(|&ticks| ticks != u64::MAX),
            _ => word(bytes, at + 24).filter(|&ticks| ticks != u32::MAX).map(u64::from),
        };
        longest = longest.max(ticks.unwrap_or(0));
    }
    if longest == 0 {
        return 0;
    }
    micros(longest, movie_rate(bytes))
}

/// Ticks in a second of the clock for what is shown: the slowest that any header names.
fn movie_rate(bytes: &[u8]) -> u64 {
    let rates = memmem::find_iter(bytes, b"mvhd").filter_map(|at| match bytes.get(at + 4) {
        Some(1) => word(bytes, at + 24),
        _ => word(bytes, at + 16),
    });
    rates.min().map_or(1, u64::from).max(1)
}

fn micros(ticks: u64, rate: u64) -> u64 {
    let micros = u128::from(ticks) * 1_000_000;
    u64::try_from(micros.div_ceil(u128::from(rate))).unwrap_or(u64::MAX)
}

fn edited(bytes: &[u8], plain: Length) -> Length {
    let mut lists = memmem::find_iter(bytes, b"elst").peekable();
    if lists.peek().is_none() {
        return plain;
    }
    let rate = movie_rate(bytes);
    let media = plain.bound_micros;
    // A file of nothing but lists within lists is not looked through.
    let mut left = bytes.len() / 8 + 1_024;
    let mut edited = plain;
    for at in lists {
        let (mut sum, mut plays, mut is_plain) = (0_u64, 0_u32, true);
        for [ticks, from, speed] in edits(bytes, at) {
            let Some(less) = left.checked_sub(1) else {
                return Length {
                    bound_micros: ENDLESS_MICROS,
                    measured_micros: None,
                };
            };
            left = less;
            let shown = micros(ticks, rate);
            if from == EMPTY {
                sum = sum.saturating_add(shown);
            } else {
                sum = sum.saturating_add(shown.max(media));
                plays = plays.saturating_add(1);
                is_plain &= speed == u64::from(AS_IT_IS);
            }
        }
        edited.bound_micros = edited.bound_micros.max(sum);
        let is_measured = plays <= 1 && is_plain && sum <= media.saturating_add(AGREE_MICROS);
        edited.measured_micros = edited.measured_micros.filter(|_| is_measured);
    }
    edited
}

/// The edits of a list: for how many ticks, from where in the sound, how fast.
fn edits(bytes: &[u8], at: usize) -> impl Iterator<Item = [u64; 3]> + '_ {
    let is_long = bytes.get(at + 4) == Some(&1);
    let count = word(bytes, at + 8).unwrap_or(0) as usize;
    (0..count).map_while(move |entry| {
        if is_long {
            let at = at + 12 + entry * 20;
            let speed = u64::from(word(bytes, at + 16)?);
            Some([long(bytes, at)?, long(bytes, at + 8)?, speed])
        } else {
            let at = at + 12 + entry * 12;
            let from = match word(bytes, at + 4)? {
                u32::MAX => EMPTY,
                from => u64::from(from),
            };
            Some([u64::from(word(bytes, at)?), from, u64::from(word(bytes, at + 8)?)])
        }
    })
}

/// The first two words of every table of this name.
fn words<'b>(bytes: &'b [u8], name: &'b [u8]) -> impl Iterator<Item = [u32; 2]> + 'b {
    memmem::find_iter(bytes, name).filter_map(|at| Some([word(bytes, at + 4)?, word(bytes, at + 8)?]))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}
