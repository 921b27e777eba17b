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

/// Packets that are looked at, at most: eleven hours of sound at 20 ms. What comes after is bounded by what its
/// bytes could hold.
const MAX_PACKETS: usize = 2_000_000;
/// Tracks of one stream, and streams of one file.
const MAX_TRACKS: usize = 64;
const MAX_STREAMS: usize = 4_096;

/// Bytes that a container may take for a packet and for itself, without being suspected of hiding sound.
const BYTES_AROUND_PACKET: u64 = 8;
const BYTES_AROUND_ALL: u64 = 2_048;

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
    longest: u64,
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
            rule: Some(audio.map_or(Rule::Unknown { rate: None }, Rule::of)),
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
            longest: 0,
            unknown: false,
        }
    }

    fn hear(&mut self, start: Timestamp, length: u64, data: &[u8]) {
        let Some(rule) = self.rule else { return };
        self.first = self.first.min(start.get());
        self.last = self.last.max(start.get().saturating_add_unsigned(length));
        let nanos = rule.nanos(data);
        match nanos {
            Nanos::Exactly(nanos) => self.exact += u128::from(nanos),
            Nanos::AtMost(nanos) => self.at_most += u128::from(nanos),
            Nanos::Unknown => {
                self.unknown = true;
                self.at_most += u128::from(rule.most(data.len() as u64));
            }
        }
        if let Nanos::Exactly(nanos) | Nanos::AtMost(nanos) = nanos {
            self.longest = self.longest.max(nanos);
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
    let begin =
        |reader: &dyn FormatReader| -> Vec<Heard> { reader.tracks().iter().take(MAX_TRACKS).map(Heard::new).collect() };
    // A file may hold several streams, one after the other, each with tracks of its own.
    let mut streams = vec![begin(&*reader)];
    let mut whole = reader.tracks().len() <= MAX_TRACKS;
    let (mut packets, mut payload, mut around) = (0_usize, 0_u64, described(&*reader));
    let mut cut = false;
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) if packets < MAX_PACKETS => packet,
            Ok(None) => break,
            Err(symphonia::core::errors::Error::ResetRequired) if streams.len() < MAX_STREAMS => {
                streams.push(begin(&*reader));
                around = around.saturating_add(described(&*reader));
                whole = false;
                continue;
            }
            Ok(Some(_)) | Err(_) => {
                (whole, cut) = (false, true);
                break;
            }
        };
        packets += 1;
        payload = payload.saturating_add(packet.data.len() as u64);
        let tracks = streams.last_mut().into_iter().flatten();
        if let Some(track) = tracks.into_iter().find(|track| track.id == packet.track_id) {
            // Without what is to be trimmed: the codec's count has it all.
            track.hear(packet.pts, packet.dur.get(), &packet.data);
        }
    }
    let name = reader.format_info().short_name;
    around = around.saturating_add(match name {
        // Its tables stand apart from the sound, so they need no allowance by the packet.
        "isomp4" => boxes(bytes),
        "flac" => blocks(bytes),
        _ => (packets as u64).saturating_mul(BYTES_AROUND_PACKET),
    });
    around = around
        .saturating_add(tag_len(bytes) as u64)
        .saturating_add(pictures(&mut *reader));
    let info = reader.media_info();
    let claimed = info
        .time_base
        .zip(info.duration)
        .map_or(0, |(base, ticks)| micros(base, ticks));
    let is_bare = matches!(name, "mp1" | "mp2" | "mp3" | "aac");
    let rules = || streams.iter().flatten().filter_map(|track| track.rule);
    let heard = streams.iter().flatten().map(|track| track.longest);
    let longest = heard.chain(rules().filter_map(Rule::longest)).max().unwrap_or(0);
    let mut found = Found {
        claimed,
        whole,
        claim_is_estimate: is_bare,
        packets: (name == "isomp4").then_some(packets as u64),
        longest: longest.div_ceil(1_000),
        is_read_from_packets: rules().any(Rule::is_read_from_packets),
        loose: (bytes.len() as u64).saturating_sub(payload).saturating_sub(around),
        ..Found::default()
    };
    for stream in &streams {
        found.add(stream);
    }
    // What was not read may be as dense as its codec allows. Bare streams are walked to their end, and what an
    // MP4 file holds is in its tables.
    if cut && !is_bare && found.packets.is_none() {
        let unread = rules().map(|rule| rule.most(found.loose)).max().unwrap_or(0);
        found.counted_at_most = plus(found.counted_at_most, Some(unread.div_ceil(1_000)));
    }
    // A codec that is not understood here may say less about its length than its bytes do.
    if streams.iter().flatten().any(|track| track.unknown) {
        found.loose = bytes.len() as u64;
        found.whole = false;
    }
    Some(found)
}

impl Found {
    /// Adds a stream: as long as the longest of its tracks.
    fn add(&mut self, stream: &[Heard]) {
        let longest = |length: fn(&Heard) -> u64| {
            let tracks = stream.iter().filter(|track| track.rule.is_some());
            tracks.map(length).max()
        };
        let counted = longest(|track| micros_of(track.exact));
        let at_most = longest(|track| micros_of(track.exact.saturating_add(track.at_most)));
        self.claimed = self.claimed.max(longest(|track| track.claimed).unwrap_or(0));
        self.spanned = self.spanned.saturating_add(longest(Heard::spanned).unwrap_or(0));
        self.counted = plus(self.counted, counted);
        self.counted_at_most = plus(self.counted_at_most, at_most);
    }
}

fn plus(sum: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (sum, more) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    }
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

/// Bytes that a container takes to describe its tracks to a decoder.
fn described(reader: &dyn FormatReader) -> u64 {
    let data = reader.tracks().iter().filter_map(|track| match &track.codec_params {
        Some(CodecParameters::Audio(params)) => params.extra_data.as_ref(),
        _ => None,
    });
    let bytes: u64 = data.map(|data| data.len() as u64).sum();
    bytes.saturating_add(BYTES_AROUND_ALL)
}

/// Bytes of the boxes of an MP4 file that are tables, tags and padding. What a table points to is counted as
/// sound wherever it stands.
fn boxes(bytes: &[u8]) -> u64 {
    let (mut at, mut sum) = (0_usize, 0_u64);
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let [a, b, c, d, name @ ..] = *head;
        let left = bytes.len() - at;
        let size = match u32::from_be_bytes([a, b, c, d]) {
            0 => left,
            1 => match bytes.get(at + 8..).and_then(|rest| rest.first_chunk::<8>()) {
                Some(large) => usize::try_from(u64::from_be_bytes(*large)).unwrap_or(left),
                None => left,
            },
            size => size as usize,
        }
        .clamp(8, left);
        let is_table = [
            b"ftyp", b"styp", b"moov", b"moof", b"mfra", b"sidx", b"emsg", b"free", b"skip", b"uuid",
        ];
        if is_table.contains(&&name) {
            sum = sum.saturating_add(size as u64);
        }
        at += size;
    }
    sum
}

/// Bytes of the blocks of a FLAC file that come before the sound: pictures, tags, padding.
fn blocks(bytes: &[u8]) -> u64 {
    let mut at = tag_len(bytes);
    if !bytes.get(at..).is_some_and(|rest| rest.starts_with(b"fLaC")) {
        return 0;
    }
    at += 4;
    while let Some(&[kind, a, b, c]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        at += 4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
        if kind & 0x80 != 0 {
            break;
        }
    }
    at.min(bytes.len()) as u64
}
