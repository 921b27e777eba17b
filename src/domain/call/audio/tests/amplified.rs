//! Files of some kilobytes that a decoder plays for hours.

use super::*;

/// A tree of boxes, as far as these tests change it.
enum Node {
    Of([u8; 4], Vec<Self>),
    Leaf([u8; 4], Vec<u8>),
}

const PARENTS: [&[u8; 4]; 6] = [b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"];

fn parse(mut bytes: &[u8]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let Some(&[a, b, c, d, e, f, g, h]) = bytes.first_chunk::<8>() {
        let (node, rest) = bytes.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        let name = [e, f, g, h];
        nodes.push(if PARENTS.contains(&&name) {
            Node::Of(name, parse(&node[8..]))
        } else {
            Node::Leaf(name, node[8..].to_vec())
        });
        bytes = rest;
    }
    nodes
}

fn render(nodes: &[Node]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for node in nodes {
        let (name, body) = match node {
            Node::Of(name, nodes) => (name, render(nodes)),
            Node::Leaf(name, body) => (name, body.clone()),
        };
        bytes.extend((body.len() as u32 + 8).to_be_bytes());
        bytes.extend(name);
        bytes.extend(body);
    }
    bytes
}

fn leaf<'n>(nodes: &'n mut [Node], wanted: &[u8; 4]) -> Option<&'n mut Vec<u8>> {
    nodes.iter_mut().find_map(|node| match node {
        Node::Of(_, nodes) => leaf(nodes, wanted),
        Node::Leaf(name, body) => (name == wanted).then_some(body),
    })
}

fn set(nodes: &mut [Node], name: &[u8; 4], words: &[u32]) {
    let body = leaf(nodes, name).expect("the file has this box");
    *body = words.iter().flat_map(|word| word.to_be_bytes()).collect();
}

fn word(nodes: &mut [Node], name: &[u8; 4], index: usize) -> u32 {
    let body = leaf(nodes, name).expect("the file has this box");
    u32::from_be_bytes(*body[index * 4..].first_chunk().expect("it is that long"))
}

#[test]
fn an_edit_list_multiplies_the_sound() {
    let mut file = parse(&recording("plain.m4a"));
    let entry = [2, 3, 4].map(|index| word(&mut file, b"elst", index));
    for count in [2_u32, 1_000] {
        let words: Vec<u32> = [0, count].into_iter().chain(entry.repeat(count as usize)).collect();
        set(&mut file, b"elst", &words);
        let length = measure(&render(&file));
        assert!(length.bound_micros >= u64::from(count) * TRUE_MICROS, "{length:?}");
        assert_eq!(length.measured_micros, None);
    }
    // An edit of no length plays all there is; in the long form as well.
    let long = [0, 0, 0, 0, 0x0001_0000];
    let words: Vec<u32> = [1 << 24, 1_000].into_iter().chain(long.repeat(1_000)).collect();
    set(&mut file, b"elst", &words);
    let length = measure(&render(&file));
    assert!(length.bound_micros >= 1_000 * TRUE_MICROS, "{length:?}");
}

#[test]
fn an_edit_that_plays_nothing_is_heard_once() {
    let mut file = parse(&recording("plain.m4a"));
    let [ticks, from, speed] = [2, 3, 4].map(|index| word(&mut file, b"elst", index));
    // Nothing for a tenth of a second of the file's clock, then the sound.
    let pause = word(&mut file, b"mvhd", 3) / 10;
    set(&mut file, b"elst", &[0, 2, pause, u32::MAX, speed, ticks, from, speed]);
    let length = measure(&render(&file));
    assert!(length.measured_micros.is_some(), "{length:?}");
    assert!(length.bound_micros < TRUE_MICROS + 300_000, "{length:?}");
}

#[test]
fn lists_within_lists_are_not_looked_through() {
    let mut file = parse(&recording("plain.m4a"));
    let words: Vec<u32> = [u32::from_be_bytes(*b"elst"), 0].repeat(50_000);
    set(&mut file, b"elst", &words);
    let length = measure(&render(&file));
    assert!(length.bound_micros >= 1_000 * TRUE_MICROS, "{length:?}");
    assert_eq!(length.measured_micros, None);
}

/// A thousand chunks at the same place, of a thousand packets each.
fn shared_chunks(each: u32, chunks: u32) -> Vec<Node> {
    let mut file = parse(&recording("plain.m4a"));
    let place = word(&mut file, b"stco", 2);
    set(&mut file, b"stsz", &[0, 4, each * chunks]);
    set(&mut file, b"stsc", &[0, 1, 1, each, 1]);
    set(&mut file, b"stts", &[0, 1, each * chunks, 1]);
    let offsets: Vec<u32> = [0, chunks].into_iter().chain((0..chunks).map(|_| place)).collect();
    set(&mut file, b"stco", &offsets);
    file
}

#[test]
fn chunks_that_share_their_bytes_are_heard_each_time() {
    let all = 1_000_000 * 64_000;
    let mut file = shared_chunks(1_000, 1_000);
    let length = measure(&render(&file));
    assert!(length.bound_micros >= all, "{length:?}");
    assert_eq!(length.measured_micros, None);
    // Another decoder goes by the table of sizes where the table of times ends early,
    set(&mut file, b"stts", &[0, 1, 1, 1]);
    let length = measure(&render(&file));
    assert!(length.bound_micros >= all, "{length:?}");
    // and by the chunks where that of sizes does.
    set(&mut file, b"stsz", &[0, 4, 1]);
    let length = measure(&render(&file));
    assert!(length.bound_micros >= all, "{length:?}");
    // A few chunks only, with room for the reader to go on behind the first.
    let length = measure(&render(&shared_chunks(100, 10)));
    assert!(length.bound_micros >= 1_000 * 64_000, "{length:?}");
}

#[test]
fn a_track_claims_a_length_for_itself() {
    let mut file = recording("plain.m4a");
    patch(&mut file, b"tkhd", 20, &1_600_000_u32.to_be_bytes());
    let length = measure(&file);
    assert!(length.bound_micros >= 100_000_000, "{length:?}");
    assert_eq!(length.measured_micros, None);
}

#[test]
fn a_table_that_cannot_be_seen_is_refused() {
    let honest = recording("plain.m4a");
    assert_eq!(unbounded(&honest), None);
    let mut hidden = honest;
    let at = memchr::memmem::find(&hidden, b"mvhd").expect("the file has this box");
    hidden[at..at + 12].copy_from_slice(b"cmov\0\0\0\x0cdcom");
    assert!(unbounded(&hidden).is_some());
    for (name, bytes) in RECORDINGS {
        assert_eq!(unbounded(bytes), None, "{name}");
    }
}

/// An element of Matroska: its name, its size in one byte, what is in it.
fn element(id: &[u8], inside: &[u8]) -> Vec<u8> {
    let size = u8::try_from(inside.len()).expect("it is small");
    [id, &[0x80 | size], inside].concat()
}

#[test]
fn a_track_that_is_compressed_once_more_is_refused() {
    let track = |inside: &[u8]| element(&[0x16, 0x54, 0xae, 0x6b], &element(&[0xae], inside));
    let encoding = element(&[0x62, 0x40], &element(&[0x50, 0x34], &element(&[0x42, 0x54], &[0])));
    let void = element(&[0xec], &[0; 9]);
    let packed = track(&[void.clone(), element(&[0x6d, 0x80], &[void, encoding].concat())].concat());
    let edition = |flag: u8| element(&[0x45, 0xb9], &element(&[0x45, 0xdd], &[flag]));
    let chapters = |flag| element(&[0x10, 0x43, 0xa7, 0x70], &edition(flag));
    for (name, more, is_refused) in [
        ("packed", packed, true),
        ("ordered", chapters(1), true),
        ("in no order", chapters(0), false),
        ("a track", track(&element(&[0x83], &[2])), false),
    ] {
        let file = [recording("vorbis.mkv"), more].concat();
        assert_eq!(unbounded(&file).is_some(), is_refused, "{name}");
    }
}

#[test]
fn a_bare_stream_may_begin_with_anything() {
    // The first frame says 96 kHz, the others 8.
    let frame = |rate: u8| {
        [
            0xff,
            0xf1,
            1 << 6 | rate << 2,
            1 << 6,
            2,
            0x1f,
            0xfc,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]
    };
    let frames: Vec<u8> = [0].into_iter().chain([11; 300]).flat_map(frame).collect();
    for junk in [&b"\0"[..], b"junk that is no frame", &[0x55; 700]] {
        let length = measure(&[junk, &frames].concat());
        assert!(length.bound_micros >= 300 * 128_000, "{length:?}");
    }
}

#[test]
fn the_slowest_of_two_headers_holds() {
    let mut file = wav(2, 32_000);
    // A second header, of one sample in a second.
    let mut second = file[12..36].to_vec();
    second[12..16].copy_from_slice(&1_u32.to_le_bytes());
    file.splice(36..36, second);
    let length = measure(&file);
    assert!(length.bound_micros >= 16_000 * 1_000_000, "{length:?}");
    assert_eq!(length.measured_micros, None);
}

#[test]
fn a_codec_that_nobody_knows_is_played_at_its_rate() {
    for codec in [2_u16, 0x31, 0x45] {
        let mut file = wav(2, 32_000);
        file[20..22].copy_from_slice(&codec.to_le_bytes());
        file[24..28].copy_from_slice(&10_u32.to_le_bytes());
        let length = measure(&file);
        // Four bits make a sample at most of codecs like these.
        assert!(length.bound_micros >= 32_000 * 2 * 100_000, "{codec}: {length:?}");
    }
    let mut old = b".snd\0\0\0\x18\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01".to_vec();
    old.extend([0x7f; 1_000]);
    assert!(measure(&old).bound_micros >= 1_000 * 1_000_000);
}

#[test]
fn what_stands_in_the_sound_is_no_table() {
    let mut file = parse(&recording("plain.m4a"));
    let sound = leaf(&mut file, b"mdat").expect("the file has this box");
    let end = sound.len() - 40;
    sound[end..end + 16].copy_from_slice(b"stsz\0\0\0\0\0\0\0\x04\0\xff\0\0");
    sound[end + 16..end + 32].copy_from_slice(b"elst\0\0\0\0\xff\0\0\0\0\0\0\0");
    let length = measure(&render(&file));
    assert!(length.measured_micros.is_some(), "{length:?}");
}

#[test]
fn a_stream_that_breaks_off_is_as_long_as_its_rest_could_be() {
    // Packets of two bytes hold 120 ms each. The reader stops where a page is damaged; another goes on.
    let whole = recording("opus.ogg");
    let mut file = whole[..whole.len() / 2].to_vec();
    patch(&mut file, b"OpusHead", 0, &[0xff]);
    file.extend([0x20; 10_000]);
    let length = measure(&file);
    assert!(length.bound_micros >= 10_000 * 60_000, "{length:?}");
}
