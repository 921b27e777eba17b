//! Reading a container packet by packet, with symphonia, within a budget.

use std::io::{Cursor, Error, Read, Result, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::CodecParameters;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, Track};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::{Duration, TimeBase, Timestamp};

use super::Found;
use super::packet::{Nanos, Rule};
use super::stream::tag_len;

/// Packets that are looked at, at most: a day of sound at 20 ms.
const MAX_PACKETS: usize = 4_400_000;
/// Tracks of one file.
const MAX_TRACKS: usize = 64;

/// Bytes that a container may take for a packet (an entry of a table, a header) and for itself, without
/// being suspected of hiding sound.
const BYTES_AROUND_PACKET: u64 = 8;
const BYTES_AROUND_ALL: u64 = 8_192;

/// The bytes of a file, and how many may still be read of them, again and again included.
struct Budgeted<'b> {
    bytes: Cursor<&'b [u8]>,
    left: u64,
}

impl Read for Budgeted<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let read = self.bytes.read(into)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| Error::other("the file is read over and over"))?;
        Ok(read)
    }
}

impl Seek for Budgeted<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.left = self
            .left
            .checked_sub(64)
            .ok_or_else(|| Error::other("the file is searched over and over"))?;
        self.bytes.seek(to)
    }
}

impl MediaSource for Budgeted<'_> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.bytes.get_ref().len() as u64)
    }
}

/// What a track's packets add up to.
struct Heard {
    id: u32,
    rule: Option<Rule>,
    time_base: Option<TimeBase>,
    claimed: u64,
    first: i64,
    last: i64,
    exact: u128,
    at_most: u128,
    unknown: bool,
}

impl Heard {
    fn new(track: &Track) -> Self {
        let audio = match &track.codec_params {
            Some(CodecParameters::Audio(params)) => Some(params),
            // A track that nobody can name may be sound; what is named as pictures or text is not.
            None => None,
            Some(_) => {
                return Self::silent(track.id);
            }
        };
        let by_header = track
            .time_base
            .zip(track.duration)
            .map_or(0, |(base, ticks)| micros(base, ticks));
        let by_frames = audio
            .and_then(|params| TimeBase::try_from_recip(params.sample_rate?))
            .zip(track.num_frames)
            .map_or(0, |(base, frames)| micros(base, Duration::from(frames)));
        Self {
            rule: Some(audio.map_or(Rule::Unknown, Rule::of)),
            time_base: track.time_base,
            claimed: by_header.max(by_frames),
            ..Self::silent(track.id)
        }
    }

    const fn silent(id: u32) -> Self {
        Self {
            id,
            rule: None,
            time_base: None,
            claimed: 0,
            first: i64::MAX,
            last: i64::MIN,
            exact: 0,
            at_most: 0,
            unknown: false,
        }
    }

    fn hear(&mut self, start: Timestamp, length: u64, data: &[u8]) {
        let Some(rule) = self.rule else { return };
        self.first = self.first.min(start.get());
        self.last = self.last.max(start.get().saturating_add_unsigned(length));
        match rule.nanos(data) {
            Nanos::Exactly(nanos) => self.exact += u128::from(nanos),
            Nanos::AtMost(nanos) => self.at_most += u128::from(nanos),
            Nanos::Unknown => self.unknown = true,
        }
    }

    fn spanned(&self) -> u64 {
        let ticks = self.last.saturating_sub(self.first);
        let ticks = u64::try_from(ticks).unwrap_or(0);
        self.time_base.map_or(0, |base| micros(base, Duration::from(ticks)))
    }
}

fn micros(base: TimeBase, ticks: Duration) -> u64 {
    let nanos = base.calc_duration_saturating(ticks).as_nanos().max(0);
    u64::try_from(nanos.unsigned_abs().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Reads all packets of a file. `None`: it is no container that is known here.
pub(super) fn read(bytes: &[u8]) -> Option<Found> {
    // Whatever a crafted file does to the reader must end here: the file is then one that cannot be read.
    catch_unwind(AssertUnwindSafe(|| read_all(bytes))).ok().flatten()
}

fn read_all(bytes: &[u8]) -> Option<Found> {
    let source = Budgeted {
        bytes: Cursor::new(bytes),
        // Once to probe, once to read, and as much again for seeking to and fro.
        left: (bytes.len() as u64).saturating_mul(8).saturating_add(4 << 20),
    };
    let source = MediaSourceStream::new(
        Box::new(source),
        symphonia::core::io::MediaSourceStreamOptions::default(),
    );
    let mut reader = symphonia::default::get_probe()
        .probe(
            &Hint::new(),
            source,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .ok()?;
    let mut heard: Vec<Heard> = reader.tracks().iter().take(MAX_TRACKS).map(Heard::new).collect();
    let mut whole = reader.tracks().len() <= MAX_TRACKS;
    let (mut packets, mut payload) = (0_usize, 0_u64);
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) if packets < MAX_PACKETS => packet,
            Ok(None) => break,
            // A stream that begins anew in the same file: its tracks are heard after the others.
            Err(symphonia::core::errors::Error::ResetRequired) if heard.len() < MAX_TRACKS => {
                heard.extend(reader.tracks().iter().take(MAX_TRACKS).map(Heard::new));
                whole = false;
                packets += 1;
                continue;
            }
            Ok(Some(_)) | Err(_) => {
                whole = false;
                break;
            }
        };
        packets += 1;
        payload = payload.saturating_add(packet.data.len() as u64);
        // The latest track of that name, after a new beginning.
        if let Some(track) = heard.iter_mut().rev().find(|track| track.id == packet.track_id) {
            let length = packet.dur.get().saturating_add(packet.trim_end.get());
            track.hear(packet.pts, length, &packet.data);
        }
    }
    let is_bare = matches!(reader.format_info().short_name, "mp1" | "mp2" | "mp3" | "aac");
    let around = BYTES_AROUND_ALL
        .saturating_add((packets as u64).saturating_mul(BYTES_AROUND_PACKET))
        .saturating_add(tag_len(bytes) as u64)
        .saturating_add(pictures(&mut *reader));
    let loose = (bytes.len() as u64).saturating_sub(payload).saturating_sub(around);
    // A codec that is not understood here may say less about its length than its bytes do.
    let is_strange = heard.iter().any(|track| track.unknown);
    let loose = if is_strange { bytes.len() as u64 } else { loose };
    Some(sum(&heard, whole, is_bare, loose))
}

fn sum(heard: &[Heard], whole: bool, is_bare: bool, loose: u64) -> Found {
    let mut found = Found {
        whole,
        loose,
        claim_is_estimate: is_bare,
        ..Found::default()
    };
    let audio = heard.iter().filter(|track| track.rule.is_some());
    for track in audio {
        let counted = micros_of(track.exact);
        found.claimed = found.claimed.max(track.claimed);
        found.spanned = found.spanned.max(track.spanned());
        found.counted = found.counted.max(Some(counted));
        found.counted_at_most = found
            .counted_at_most
            .max(Some(counted.saturating_add(micros_of(track.at_most))));
        found.whole &= !track.unknown;
    }
    found
}

fn micros_of(nanos: u128) -> u64 {
    u64::try_from(nanos.div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Bytes of the pictures in the file's tags, which are no sound.
fn pictures(reader: &mut dyn FormatReader) -> u64 {
    let mut metadata = reader.metadata();
    let mut bytes = 0_u64;
    loop {
        if let Some(revision) = metadata.current() {
            let pictures = revision.media.visuals.iter().map(|picture| picture.data.len() as u64);
            bytes = bytes.saturating_add(pictures.sum());
        }
        if metadata.pop().is_none() {
            return bytes;
        }
    }
}
