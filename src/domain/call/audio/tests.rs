//! Recordings that tell the truth, and recordings that lie. All are 3.2 s long.

mod amplified;

use proptest::prelude::*;

use super::*;

macro_rules! recording {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/", $name)).as_slice(),
        )
    };
}

const RECORDINGS: [(&str, &[u8]); 12] = [
    recording!("adts.aac"),
    recording!("bare.mp3"),
    recording!("cbr.mp3"),
    recording!("film.mp4"),
    recording!("fragments.mp4"),
    recording!("opus.ogg"),
    recording!("opus.webm"),
    recording!("plain.m4a"),
    recording!("sine.flac"),
    recording!("vbr.mp3"),
    recording!("vorbis.mkv"),
    recording!("vorbis.ogg"),
];

const TRUE_MICROS: u64 = 3_200_000;

fn recording(name: &str) -> Vec<u8> {
    let found = RECORDINGS.iter().find(|(listed, _)| *listed == name);
    found.expect("it is listed").1.to_vec()
}

/// Samples of 16 bits at 8 kHz, mono.
fn wav(seconds: u32, said: u32) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((said.saturating_add(36)).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    for field in [1_u16, 1] {
        file.extend(field.to_le_bytes());
    }
    for field in [8_000_u32, 16_000] {
        file.extend(field.to_le_bytes());
    }
    for field in [2_u16, 16] {
        file.extend(field.to_le_bytes());
    }
    file.extend(b"data");
    file.extend(said.to_le_bytes());
    file.extend((0..seconds * 8_000).flat_map(|n| ((n % 97) as u16 * 300).to_le_bytes()));
    file
}

/// Replaces the bytes that follow `mark`, `skip` bytes after it, wherever it stands.
fn patch(file: &mut [u8], mark: &[u8], skip: usize, with: &[u8]) {
    let places: Vec<usize> = memchr::memmem::find_iter(file, mark).collect();
    assert!(!places.is_empty(), "the mark is in the file");
    for place in places {
        let at = place + mark.len() + skip;
        file[at..at + with.len()].copy_from_slice(with);
    }
}

#[test]
fn an_honest_recording_is_measured_to_a_tenth_of_a_second() {
    for (name, bytes) in RECORDINGS {
        let length = measure(bytes);
        let measured = length
            .measured_micros
            .unwrap_or_else(|| panic!("{name} is readable: {length:?}"));
        assert!(measured.abs_diff(TRUE_MICROS) < 100_000, "{name}: {measured}");
        // The film's pictures go on for 4 s, and so may its sound for all that its header says.
        let most = if name == "film.mp4" {
            4_000_000
        } else {
            TRUE_MICROS + 200_000
        };
        assert!((measured..=most).contains(&length.bound_micros), "{name}: {length:?}");
    }
    for seconds in [1, 2, 60] {
        let length = measure(&wav(seconds, seconds * 16_000));
        let micros = u64::from(seconds) * 1_000_000;
        assert_eq!(length.measured_micros, Some(micros));
        assert_eq!(length.bound_micros, micros);
    }
}

#[test]
fn a_header_that_claims_less_does_not_make_the_bound_smaller() {
    let mut liars = Vec::new();
    for said in [0, 2, 16_000, u32::MAX] {
        liars.push(("wav", wav(4, said)));
    }
    let mut xing = recording("vbr.mp3");
    patch(&mut xing, b"Xing", 4, &1_u32.to_be_bytes());
    liars.push(("Xing: one frame", xing));
    let mut flac = recording("sine.flac");
    // The last 36 bits before the checksum of the first block: how many samples there are.
    flac[22..26].copy_from_slice(&1_u32.to_be_bytes());
    liars.push(("STREAMINFO: one sample", flac));
    let mut m4a = recording("plain.m4a");
    patch(&mut m4a, b"mdhd", 16, &1_u32.to_be_bytes());
    patch(&mut m4a, b"mvhd", 16, &1_u32.to_be_bytes());
    patch(&mut m4a, b"tkhd", 20, &1_u32.to_be_bytes());
    liars.push(("mdhd, mvhd, tkhd: one tick", m4a.clone()));
    // The first entry of the table of times: all packets last a tick.
    patch(&mut m4a, b"stts", 12, &1_u32.to_be_bytes());
    liars.push(("stts: one tick a packet", m4a.clone()));
    patch(&mut m4a, b"mdhd", 12, &192_000_u32.to_be_bytes());
    patch(&mut m4a, b"mp4a", 24, &(96_000_u32 << 16).to_be_bytes());
    liars.push(("mdhd, mp4a: a higher rate", m4a));
    let mut webm = recording("opus.webm");
    patch(&mut webm, &[0x44, 0x89, 0x88], 0, &1.0_f64.to_be_bytes());
    liars.push(("Duration: a millisecond", webm.clone()));
    for (what, file) in liars {
        let length = measure(&file);
        assert!(length.bound_micros >= TRUE_MICROS, "{what}: {length:?}");
        if let Some(measured) = length.measured_micros {
            assert!(measured >= TRUE_MICROS - 100_000, "{what}: {length:?}");
        }
    }
}

#[test]
fn a_header_that_claims_more_is_no_measurement() {
    let mut m4a = recording("plain.m4a");
    // The file's clock ticks 16,000 times a second.
    patch(&mut m4a, b"mvhd", 16, &1_600_000_u32.to_be_bytes());
    let length = measure(&m4a);
    assert!(length.bound_micros >= 100_000_000, "{length:?}");
    assert_eq!(length.measured_micros, None);
}

#[test]
fn a_second_recording_behind_the_first_is_counted() {
    for first in [
        "adts.aac",
        "cbr.mp3",
        "opus.ogg",
        "plain.m4a",
        "sine.flac",
        "vorbis.mkv",
    ] {
        for second in ["adts.aac", "bare.mp3", "opus.ogg", "sine.flac", "opus.webm"] {
            let file = [recording(first), recording(second)].concat();
            let length = measure(&file);
            // Small files: what a container may take for itself hides a part of the second.
            let hidden = micros_of(2_048 + 101 * 8);
            assert!(
                length.bound_micros.saturating_add(hidden) >= 2 * TRUE_MICROS,
                "{first} and {second}: {length:?}"
            );
        }
    }
    let long = wav(60, 60 * 16_000);
    for first in ["cbr.mp3", "plain.m4a", "opus.ogg", "sine.flac"] {
        let length = measure(&[recording(first), long.clone()].concat());
        assert!(length.bound_micros >= 63_000_000, "{first}: {length:?}");
        assert_eq!(length.measured_micros, None, "{first}");
    }
    let two = measure(&[recording("opus.ogg"), recording("opus.ogg")].concat());
    assert!(two.bound_micros >= 2 * TRUE_MICROS, "{two:?}");
}

#[test]
fn what_changes_its_rate_in_mid_stream_is_counted_by_each_frame() {
    // The first frame says 96 kHz, the others 8: a reader that believes the first hears a twelfth.
    let mut frames = Vec::new();
    for rate in [0_u8].into_iter().chain([11; 50]) {
        let length: u16 = 16;
        frames.extend([
            0xff,
            0xf1,
            1 << 6 | rate << 2,
            1 << 6,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ]);
        frames.extend([0; 9]);
    }
    let length = measure(&frames);
    assert!(length.bound_micros >= 50 * 128_000, "{length:?}");
    // Four blocks in each frame.
    for header in frames.chunks_mut(16) {
        header[6] |= 3;
    }
    let length = measure(&frames);
    assert!(length.bound_micros >= 4 * 50 * 128_000, "{length:?}");
}

#[test]
fn what_cannot_be_read_is_bounded_by_its_bytes() {
    for bytes in [&b""[..], b"x", b"RIFF", &[0; 5_000], &[0xff; 5_000]] {
        let length = measure(bytes);
        assert_eq!(length.measured_micros, None);
        assert!(length.bound_micros >= 1.max(bytes.len() as u64 * 2_000), "{length:?}");
    }
    for (name, bytes) in RECORDINGS {
        let cut = measure(&bytes[..bytes.len() * 2 / 3]);
        assert!(cut.bound_micros >= TRUE_MICROS * 3 / 5, "{name}: {cut:?}");
    }
}

#[test]
fn a_picture_in_the_tags_is_no_sound() {
    let picture = vec![0x55_u8; 200_000];
    let mut frame = b"APIC".to_vec();
    let body = [&b"\0image/png\0\x03\0"[..], &picture].concat();
    let syncsafe = |size: usize| [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8);
    frame.extend(syncsafe(body.len()));
    frame.extend([0, 0]);
    frame.extend(body);
    let mut file = b"ID3\x04\0\0".to_vec();
    file.extend(syncsafe(frame.len()));
    file.extend(frame);
    file.extend(recording("bare.mp3"));
    let length = measure(&file);
    assert!(length.bound_micros < 2 * TRUE_MICROS, "{length:?}");
    assert!(length.measured_micros.is_some());
}

#[test]
fn a_table_that_points_to_the_same_bytes_over_and_over_ends() {
    // Every packet is the whole of the sound, a million times.
    let mut file = recording("plain.m4a");
    patch(&mut file, b"stsz", 4, &5_000_u32.to_be_bytes());
    patch(&mut file, b"stsz", 8, &u32::MAX.to_be_bytes());
    patch(&mut file, b"stts", 8, &u32::MAX.to_be_bytes());
    patch(&mut file, b"stsc", 12, &u32::MAX.to_be_bytes());
    let length = measure(&file);
    assert_eq!(length.measured_micros, None);
    assert!(length.bound_micros >= TRUE_MICROS);
}

#[test]
fn a_table_that_announces_packets_without_end_is_not_counted_out() {
    let mut file = recording("fragments.mp4");
    patch(&mut file, b"trun", 0, &[0, 0, 0, 1]);
    patch(&mut file, b"trun", 4, &u32::MAX.to_be_bytes());
    let length = measure(&file);
    assert_eq!(length.measured_micros, None);
    // Whatever decodes them would find no more than it announces.
    assert!(length.bound_micros >= u64::from(u32::MAX) * 128_000, "{length:?}");
    // Two million packets with a length each, which are summed up again for every one.
    let mut file = recording("fragments.mp4");
    patch(&mut file, b"trun", 4, &2_000_000_u32.to_be_bytes());
    assert_eq!(measure(&file).measured_micros, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_recording_never_panics(
        which in 0..RECORDINGS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut file = RECORDINGS[which].1.to_vec();
        for (place, byte) in damage {
            let at = place.index(file.len());
            file[at] = byte;
        }
        if is_cut {
            file.truncate(cut.index(file.len()));
        }
        let length = measure(&file);
        prop_assert!(length.bound_micros > 0);
        prop_assert!(length.measured_micros.is_none_or(|measured| measured <= length.bound_micros));
    }

    #[test]
    fn a_damaged_header_never_panics(
        which in 0..RECORDINGS.len(),
        place in 0_usize..600,
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(0xff), Just(0x7f), Just(0x80), any::<u8>()], 1..9),
    ) {
        let mut file = RECORDINGS[which].1.to_vec();
        let at = place.min(file.len() - bytes.len());
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        prop_assert!(measure(&file).bound_micros > 0);
    }
}
