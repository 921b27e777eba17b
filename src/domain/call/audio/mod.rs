//! How long a recording is.
//!
//! A provider that sells transcription by the minute bills what its own decoder finds in the file, so a
//! header that claims less than there is would be a way around the cap. Nothing that a file says about its
//! length is believed when it makes the bound smaller: the packets are counted, each at the length that its
//! codec gives it, and the bound takes the longest of what the header claims, what the timestamps span and
//! what the packets hold, over every audio track. Bytes that belong to no packet (a second recording behind
//! the first, in a form that we do not see) are counted as sound at [`LOWEST_BYTES_PER_SECOND`].
//!
//! Where a file cannot be read at all, that rate bounds the whole of it. It is below what any codec that the
//! providers take writes for speech: MP3 starts at 8 kbit/s, Opus at 6, AMR at 4.75. It is no proof (silence
//! can be smaller), so such a length is never called measured, and what a provider bills above it shows as
//! an overage (**L2**, **L7**).
//!
//! What it must never do: panic, wait, or take more memory or time than the file's size warrants. A table
//! in a file of some kilobytes can point a million times to the same bytes; the reader has a budget of
//! bytes and packets for that, a look at the tables comes before it ([`tables`]), and a file that exceeds
//! either is not readable: it is as long as its tables announce, or as its bytes could be at their densest.

mod demux;
mod headers;
mod matroska;
mod packet;
mod stream;
mod tables;

use memchr::memmem;

use self::tables::Tables;

/// Four kilobits: see the module.
pub const LOWEST_BYTES_PER_SECOND: u64 = 500;

/// Microseconds in which the ways of counting may differ and still agree: an encoder's padding, and the
/// rounding of timestamps.
const AGREE_MICROS: u64 = 1_000_000;

/// Thirty years: no file is taken to be longer, so that sums of lengths and prices stay numbers. No budget that
/// is one has room for it.
const ENDLESS_MICROS: u64 = 1_000_000_000_000_000;

/// The length of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// It is not longer than this.
    pub bound_micros: u64,
    /// It is this long: all of the file was read, and the ways of counting agree.
    pub measured_micros: Option<u64>,
}

/// What the reader found, track by track, longest taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    /// By the container's header.
    claimed: u64,
    /// By the timestamps of the packets.
    spanned: u64,
    /// By the codec's own count, where it is exact; at most, where it is not.
    counted: Option<u64>,
    counted_at_most: Option<u64>,
    /// Bytes that nothing accounts for.
    loose: u64,
    /// The file was read to its end, and every packet understood.
    whole: bool,
    /// The header's claim may be an estimate from the first packets.
    claim_is_estimate: bool,
    /// Packets that were read of an MP4 file.
    packets: Option<u64>,
    /// The longest packet that there may be.
    longest: u64,
    /// What is in a packet says how long it is.
    is_read_from_packets: bool,
}

/// The length of the recording in these bytes. The bound is never zero.
pub fn measure(bytes: &[u8]) -> Length {
    let tables = tables::scan(bytes);
    let plain = if tables.hostile {
        Length {
            bound_micros: micros_of(bytes.len() as u64).max(tables.announced()),
            measured_micros: None,
        }
    } else {
        as_read(bytes, &tables)
    };
    let length = tables.edited(plain);
    Length {
        bound_micros: length.bound_micros.min(ENDLESS_MICROS),
        ..length
    }
}

/// Why no length can be said to bound this recording, if so.
pub fn unbounded(bytes: &[u8]) -> Option<&'static str> {
    if tables::scan(bytes).are_hidden() {
        return Some("the tables of this file are compressed, so its length cannot be read; send it without that");
    }
    matroska::is_more_than_its_packets(bytes).then_some(
        "the tracks of this file are compressed once more or its chapters are ordered, so its length cannot be \
         read; send it without that",
    )
}

fn as_read(bytes: &[u8], tables: &Tables<'_>) -> Length {
    let Some(mut found) = demux::read(bytes) else {
        let slowest = headers::slowest(bytes).map_or(0, |headers| headers.micros);
        let by_bytes = micros_of(bytes.len() as u64).max(unread(bytes)).max(slowest);
        return Length {
            bound_micros: by_bytes
                .max(stream::walk(bytes, true).unwrap_or(0))
                .max(tables.announced())
                .max(1),
            measured_micros: None,
        };
    };
    // These two have no container: their frames are walked here, since the reader takes neither a change
    // of the rate in mid-stream nor several blocks in one frame.
    if let Some(walked) = stream::walk(bytes, found.claim_is_estimate) {
        found.counted = found.counted.max(Some(walked));
    }
    if let Some(headers) = headers::slowest(bytes).filter(|headers| headers.is_ambiguous) {
        found.counted_at_most = found.counted_at_most.max(Some(headers.micros));
        found.whole = false;
    }
    found.compare(tables);
    found.length()
}

/// How long a file of packets may be that cannot be read. Its codec may be one whose packets of 120 ms take
/// two bytes, which is far below the rate that holds for others.
fn unread(bytes: &[u8]) -> u64 {
    let names = [&b"OpusHead"[..], b"A_OPUS", b"\x01vorbis", b"A_VORBIS"];
    if names.iter().any(|name| memmem::find(bytes, name).is_some()) {
        return (bytes.len() as u64).saturating_mul(60_000);
    }
    0
}

fn micros_of(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000_000).div_ceil(LOWEST_BYTES_PER_SECOND)
}

impl Found {
    /// Takes for heard what the tables of an MP4 file announce beyond what was read. Where a packet says by
    /// itself how long it is, another decoder may find another at the same place in the table, for the reader
    /// here goes only forward.
    fn compare(&mut self, tables: &Tables<'_>) {
        let Some(packets) = self.packets else { return };
        self.claimed = self.claimed.max(tables.claimed);
        if tables.packets <= packets && !self.is_read_from_packets && !tables.described_twice {
            return;
        }
        let longest = if self.longest == 0 || tables.described_twice {
            self.longest.max(tables.longest)
        } else {
            self.longest
        };
        let announced = tables.packets.max(packets).saturating_mul(longest);
        self.counted_at_most = self.counted_at_most.max(Some(announced));
        self.whole = false;
    }

    fn length(&self) -> Length {
        let counted = self.counted.unwrap_or(0);
        let bound = [self.claimed, self.spanned, counted, self.counted_at_most.unwrap_or(0)]
            .into_iter()
            .fold(1, u64::max)
            .saturating_add(micros_of(self.loose));
        // The timestamps leave an encoder's padding out, so they win where they agree with the codec's count.
        let heard = if counted > self.spanned.saturating_add(AGREE_MICROS / 4) {
            counted
        } else {
            self.spanned
        };
        let agree = |other: u64| {
            let slack = AGREE_MICROS.saturating_add(heard / 50);
            other <= heard.saturating_add(slack)
        };
        let agrees = (self.claim_is_estimate || agree(self.claimed)) && agree(counted) && agree(self.spanned);
        let certain = self.whole && self.loose == 0 && heard > 0 && self.counted.is_some() && agrees;
        Length {
            bound_micros: bound,
            measured_micros: certain.then_some(heard),
        }
    }
}

#[cfg(test)]
mod tests;
