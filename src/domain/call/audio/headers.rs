//! Headers that play few bytes for long, in files that the reader cannot read or reads differently.
//!
//! A sample rate is whatever a header says, and one sample a second makes an hour of three kilobytes. Where the
//! reader knows the codec it knows this too; where it does not (the codecs of telephones, in WAV and AIFF), or
//! where there are two headers and another decoder may believe the other one, the slowest rate holds, at a bit
//! for a sample.

use memchr::memmem;

/// WAV's names of what has no compression: integers, floats, A-law, μ-law, and whatever an extension says.
const PLAIN: [u16; 5] = [1, 3, 6, 7, 0xfffe];

/// What the headers of samples say.
pub(super) struct Slowest {
    /// The bytes at the slowest rate that any header names, in microseconds.
    pub micros: u64,
    /// There are several, so that which is believed is a decoder's choice.
    pub is_ambiguous: bool,
}

/// Looks for headers that name a rate, by the magic of the file. `None`: it is no such file.
pub(super) fn slowest(bytes: &[u8]) -> Option<Slowest> {
    let start = &bytes[..bytes.len().min(1 << 16)];
    let is = |name: &[u8]| memmem::find(start, name).is_some();
    let rates: Vec<f64> = if is(b"WAVE") {
        let is_big = is(b"RIFX");
        memmem::find_iter(bytes, b"fmt ")
            .filter_map(|at| wav(bytes, at, is_big))
            .collect()
    } else if is(b"AIFF") || is(b"AIFC") {
        memmem::find_iter(bytes, b"COMM")
            .filter_map(|at| extended(bytes.get(at + 16..)?.first_chunk::<10>()?))
            .collect()
    } else if start.starts_with(b"caff") {
        memmem::find_iter(bytes, b"desc")
            .filter_map(|at| Some(f64::from_be_bytes(*bytes.get(at + 12..)?.first_chunk::<8>()?)))
            .collect()
    } else if start.starts_with(b".snd") {
        let rate = bytes.get(16..)?.first_chunk::<4>()?;
        vec![f64::from(u32::from_be_bytes(*rate))]
    } else {
        return None;
    };
    let is_ambiguous = rates.len() > 1;
    let slowest = rates.into_iter().filter(|rate| rate.is_finite() && *rate > 0.0);
    let bits_a_second = slowest.reduce(f64::min)?;
    Some(Slowest {
        // The conversion saturates.
        micros: (bytes.len() as f64 * 8e6 / bits_a_second).ceil() as u64,
        is_ambiguous,
    })
}

/// Bits that a second takes.
fn wav(bytes: &[u8], at: usize, is_big: bool) -> Option<f64> {
    let field = |skip: usize| -> Option<u16> {
        let bytes = *bytes.get(at + skip..)?.first_chunk::<2>()?;
        Some(if is_big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    };
    let rate = *bytes.get(at + 12..)?.first_chunk::<4>()?;
    let rate = f64::from(if is_big {
        u32::from_be_bytes(rate)
    } else {
        u32::from_le_bytes(rate)
    });
    if !PLAIN.contains(&field(8)?) {
        return Some(rate);
    }
    let channels = f64::from(field(10)?.max(1));
    let bits = f64::from(u32::from(field(22).unwrap_or(8).max(1)).next_multiple_of(8));
    Some(rate * channels * bits)
}

/// AIFF's rate is a float of 80 bits.
fn extended(bytes: &[u8; 10]) -> Option<f64> {
    let [a, b, mantissa @ ..] = *bytes;
    let exponent = i32::from(u16::from_be_bytes([a & 0x7f, b])) - 16_383 - 63;
    let rate = u64::from_be_bytes(mantissa) as f64 * 2_f64.powi(exponent);
    (rate > 0.0).then_some(rate)
}
