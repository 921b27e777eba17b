//! MP4 files whose tables would keep the reader busy.
//!
//! A table of a few bytes can announce four thousand million packets, and the reader takes a step for each
//! before it reads any; others it sums up again for every packet. So the work is reckoned from the tables
//! before the reader sees them. They are found by their names alone, wherever these stand, so that no
//! box can be hidden from this look that the reader would find; a name that stands in sound by chance (once
//! in four thousand megabytes for each) makes a file unreadable at worst.

use memchr::memmem;

/// Steps that the reader may take: about a second. An hour of AAC in fragments of a second takes five million.
const MAX_STEPS: u128 = 500_000_000;

/// The longest frame of AAC or Opus, in microseconds: what a packet that is announced may hold.
const PACKET_MICROS: u64 = 140_000;

/// Per-sample fields of a `trun`: duration, size, flags, composition time.
const PER_SAMPLE: u32 = 0xf00;

/// How long the packets are that the tables announce, at most, if reading them would take too long.
pub(super) fn hostile(bytes: &[u8]) -> Option<u64> {
    memmem::find(bytes, b"ftyp")?;
    let (mut steps, mut packets) = (0_u128, 0_u64);
    for run in words(bytes, b"trun") {
        let [flags, count] = run;
        // More packets than bytes are none; the reader would count them out all the same.
        let endless = flags & PER_SAMPLE == 0 && count as usize > bytes.len();
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
    let sizes: u64 = memmem::find_iter(bytes, b"stsz")
        .filter_map(|at| word(bytes, at + 12))
        .map(u64::from)
        .fold(0, u64::saturating_add);
    let times = words(bytes, b"stts")
        .map(|[_, entries]| u128::from(entries))
        .sum::<u128>();
    packets = packets.saturating_add(sizes);
    steps += u128::from(sizes) * times.max(1);
    (steps > MAX_STEPS).then(|| packets.saturating_mul(PACKET_MICROS))
}

/// The first two words of every table of this name.
fn words<'b>(bytes: &'b [u8], name: &'b [u8]) -> impl Iterator<Item = [u32; 2]> + 'b {
    memmem::find_iter(bytes, name).filter_map(|at| Some([word(bytes, at + 4)?, word(bytes, at + 8)?]))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}
