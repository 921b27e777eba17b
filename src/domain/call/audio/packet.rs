//! How long one packet of a track is, by its codec's own rules.
//!
//! A container's timestamps are a claim: a file may say that a packet of a fiftieth of a second lasts a
//! millisecond, and a decoder that only wants the samples will not care. What a packet holds is said by the
//! packet (Opus, FLAC, MP3) or fixed by the codec (AAC).

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_ALAC, CODEC_ID_FLAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS,
    CODEC_ID_PCM_ALAW, CODEC_ID_PCM_MULAW, CODEC_ID_PCM_S32LE, CODEC_ID_VORBIS,
};

use super::stream::{AAC_RATES, mpeg_nanos};

/// What is known of a packet's length, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nanos {
    Exactly(u64),
    AtMost(u64),
    /// The codec is none of those that are understood here.
    Unknown,
}

/// How a track's packets are counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    Opus,
    Mpeg,
    /// As many samples in each packet.
    Samples {
        samples: u64,
        rate: u32,
        exact: bool,
    },
    Flac {
        rate: u32,
    },
    /// Bytes of one sample of all channels.
    Pcm {
        frame: u64,
        rate: u32,
    },
    /// The bytes are all that is known, and how fast their samples are played at the slowest.
    Unknown {
        rate: Option<u32>,
    },
}

/// Bytes of a packet in a container, at least, beside what it costs the container to say how long it is.
const LEAST_BYTES: u64 = 2;

impl Rule {
    pub(super) fn of(params: &AudioCodecParameters) -> Self {
        let rate = params.sample_rate.filter(|&rate| rate > 0);
        let extra = params.extra_data.as_deref().unwrap_or_default();
        match (params.codec, rate) {
            (CODEC_ID_OPUS, _) => Self::Opus,
            (CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3, _) => Self::Mpeg,
            (CODEC_ID_AAC, _) => aac(rate, extra),
            (CODEC_ID_FLAC, Some(rate)) => Self::Flac { rate },
            (CODEC_ID_VORBIS, Some(rate)) => Self::Samples {
                // The identification header's last field but one: two block sizes, as powers of two. A packet
                // gives a quarter of its block and a quarter of the one before.
                samples: 1 << u64::from(extra.get(28).map_or(13, |sizes| sizes >> 4).clamp(1, 13) - 1),
                rate,
                exact: false,
            },
            (CODEC_ID_ALAC, Some(rate)) => Self::Samples {
                samples: params.max_frames_per_packet.unwrap_or(4_096).max(alac_frame(extra)),
                rate: alac_rate(extra).map_or(rate, |stated| stated.min(rate)),
                exact: true,
            },
            (codec, Some(rate)) if is_pcm(codec) => pcm(params, rate),
            _ => Self::Unknown { rate },
        }
    }

    pub(super) fn nanos(self, packet: &[u8]) -> Nanos {
        let at = nanos_of;
        match self {
            Self::Opus => Nanos::Exactly(opus(packet)),
            Self::Mpeg => Nanos::Exactly(mpeg_nanos(packet)),
            Self::Samples { samples, rate, exact } => {
                if exact {
                    Nanos::Exactly(at(samples, rate))
                } else {
                    Nanos::AtMost(at(samples, rate))
                }
            }
            Self::Flac { rate } => match flac(packet, rate) {
                Some((samples, rate)) => Nanos::Exactly(at(samples, rate)),
                None => Nanos::Unknown,
            },
            Self::Pcm { frame, rate } => Nanos::Exactly(at((packet.len() as u64).div_ceil(frame), rate)),
            Self::Unknown { .. } => Nanos::Unknown,
        }
    }

    /// How long a packet is that nobody has read, at most. `None`: its bytes decide.
    pub(super) fn longest(self) -> Option<u64> {
        match self {
            Self::Opus => Some(120_000_000),
            Self::Mpeg => Some(144_000_000),
            Self::Samples { samples, rate, .. } => Some(nanos_of(samples, rate)),
            Self::Flac { rate } => Some(nanos_of(65_536, rate)),
            Self::Pcm { .. } | Self::Unknown { .. } => None,
        }
    }

    /// How long so many bytes are, at most, whose packets nobody has read.
    pub(super) fn most(self, bytes: u64) -> u64 {
        match self {
            Self::Pcm { frame, rate } => nanos_of(bytes.div_ceil(frame), rate),
            // No codec that is found by its rate takes less than a bit for a sample.
            Self::Unknown { rate: Some(rate) } => nanos_of(bytes.saturating_mul(8), rate),
            // An MPEG frame has 24 bytes and a FLAC frame ten, at least.
            Self::Mpeg => (bytes / 24).saturating_add(1).saturating_mul(144_000_000),
            Self::Flac { rate } => (bytes / 10).saturating_add(1).saturating_mul(nanos_of(65_536, rate)),
            Self::Opus | Self::Samples { .. } | Self::Unknown { rate: None } => (bytes / LEAST_BYTES)
                .saturating_add(1)
                .saturating_mul(self.longest().unwrap_or(0)),
        }
    }

    /// Whether each packet says by itself how long it is.
    pub(super) const fn is_read_from_packets(self) -> bool {
        matches!(self, Self::Opus | Self::Mpeg | Self::Flac { .. })
    }
}

fn nanos_of(samples: u64, rate: u32) -> u64 {
    let nanos = u128::from(samples) * 1_000_000_000;
    u64::try_from(nanos.div_ceil(u128::from(rate.max(1)))).unwrap_or(u64::MAX)
}

/// AAC: 1,024 samples at the rate of its core, whatever a high-efficiency profile makes of them. Of the rates
/// that the file states in two places, the lower one is the longer recording.
fn aac(rate: Option<u32>, config: &[u8]) -> Rule {
    let (kind, index) = match *config {
        [first, second, ..] => (first >> 3, (first & 7) << 1 | second >> 7),
        // Bare frames carry no configuration.
        _ => (2, 15),
    };
    let stated = match *config {
        // The rate itself follows, in 24 bits.
        [_, a, b, c, d, ..] if index == 15 => {
            Some(u32::from(a & 0x7f) << 17 | u32::from(b) << 9 | u32::from(c) << 1 | u32::from(d) >> 7)
        }
        _ => AAC_RATES.get(usize::from(index)).copied(),
    };
    let stated = stated.filter(|&rate| rate > 0);
    let Some(rate) = stated.into_iter().chain(rate).min() else {
        return Rule::Unknown { rate: None };
    };
    match kind {
        1..=5 | 29 => Rule::Samples {
            samples: 1_024,
            rate,
            exact: true,
        },
        // Others have longer frames: four times that is the longest.
        _ => Rule::Samples {
            samples: 4_096,
            rate,
            exact: false,
        },
    }
}

/// Samples of a frame, as ALAC's configuration begins.
fn alac_frame(config: &[u8]) -> u64 {
    match config.first_chunk::<4>() {
        // More than this no decoder takes; silence of this length is a kilobyte.
        Some(length) => u64::from(u32::from_be_bytes(*length).min(1 << 24)),
        None => 0,
    }
}

/// The rate, as ALAC's configuration ends.
fn alac_rate(config: &[u8]) -> Option<u32> {
    let rate = config.get(20..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*rate)).filter(|&rate| rate > 0)
}

fn is_pcm(codec: symphonia::core::codecs::audio::AudioCodecId) -> bool {
    (CODEC_ID_PCM_S32LE..=CODEC_ID_PCM_MULAW).contains(&codec)
}

fn pcm(params: &AudioCodecParameters, rate: u32) -> Rule {
    let bits = match params.codec {
        CODEC_ID_PCM_ALAW | CODEC_ID_PCM_MULAW => Some(8),
        _ => params.bits_per_coded_sample.or(params.bits_per_sample),
    };
    let channels = params.channels.as_ref().map(|channels| channels.count() as u64);
    match (bits, channels) {
        (Some(bits), Some(channels)) if bits > 0 && channels > 0 => Rule::Pcm {
            frame: u64::from(bits).div_ceil(8) * channels,
            rate,
        },
        _ => Rule::Unknown { rate: Some(rate) },
    }
}

/// An Opus packet says in its first byte how long its frames are and how many there are (RFC 6716, 3.1).
fn opus(packet: &[u8]) -> u64 {
    let Some(&head) = packet.first() else { return 0 };
    let micros: u64 = match head >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config & 1)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
    };
    let frames = match head & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1).copied().unwrap_or(0) & 63),
    };
    micros * 1_000 * frames
}

/// A FLAC frame's header: samples and rate.
fn flac(packet: &[u8], stated: u32) -> Option<(u64, u32)> {
    let &[0xff, second, third, _, number, ..] = packet else {
        return None;
    };
    if second & 0xfe != 0xf8 {
        return None;
    }
    // The frame's number is written like a character of UTF-8, of up to seven bytes.
    let number_len = match number.leading_ones() {
        0 => 1,
        ones @ 2..=7 => ones as usize,
        _ => return None,
    };
    let after = packet.get(4 + number_len..)?;
    let (samples, after) = match third >> 4 {
        1 => (192, after),
        code @ 2..=5 => (576 << (code - 2), after),
        6 => (u64::from(*after.first()?) + 1, after.get(1..)?),
        7 => (
            u64::from(u16::from_be_bytes(*after.first_chunk::<2>()?)) + 1,
            after.get(2..)?,
        ),
        code @ 8..=15 => (256 << (code - 8), after),
        _ => return None,
    };
    let rate = match third & 15 {
        0 => stated,
        code @ 1..=11 => [
            88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000,
        ][usize::from(code) - 1],
        12 => u32::from(*after.first()?) * 1_000,
        13 => u32::from(u16::from_be_bytes(*after.first_chunk::<2>()?)),
        14 => u32::from(u16::from_be_bytes(*after.first_chunk::<2>()?)) * 10,
        _ => return None,
    };
    Some((samples, rate.min(stated).max(1)))
}
