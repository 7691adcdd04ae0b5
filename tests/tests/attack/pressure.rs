//! What waits in keyd between an agent and an HTTP/2 upstream of which one takes nothing, in the pieces that cost most.
//!
//! `room` counts how many exchanges there may be; these count what one of them holds, however its bytes are cut.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use strongroom_protocol::channel::frames::Frame;
use strongroom_tests::h2_upstream::{self, ACK, END_STREAM, SETTINGS, WINDOW_UPDATE, encode};
use strongroom_tests::hostile::{DATA, END, HEAD};

use super::room::{narrow_relay, plenty};
use super::*;

/// At once.
const CHANNELS: usize = 4;
/// What keyd's account has for an exchange with an HTTP/2 upstream.
const ACCOUNT: u64 = 1024 * 1024;
/// Frames of HTTP/2, where a channel has others of that name.
const H2_DATA: u8 = h2_upstream::DATA;
const UNKNOWN: u8 = 99;
const PADDED: u8 = 8;

/// A siege with another upstream, which speaks HTTP/2, and a placeholder for it.
fn siege() -> (Siege, String) {
    let siege = Siege::lay();
    siege.scene.add_credential("second", &["--host", HOST, "--bearer", "--http2"]);
    plenty(&siege);
    let placeholder = siege.scene.grant("second", "plenty", &["--rate", "100000/hour", "--burst", "100000"]);
    (siege, placeholder)
}

/// What keyd holds for each of the exchanges.
fn held(siege: &Siege, what: &str, before: u64) -> u64 {
    let each = process::resident(siege.daemons[0]).saturating_sub(before) / CHANNELS as u64;
    eprintln!("{what}: {} KiB an exchange", each / 1024);
    each
}

/// A frame of the channel for each byte, and an upstream whose windows are open and whose socket is not read; at the same
/// time, perhaps, an answer that is not read either.
#[test]
fn an_upload_of_single_bytes_that_nobody_takes_stays_within_its_account() {
    for answers in [false, true] {
        upload(answers);
    }
}

fn upload(answers: bool) {
    const BYTES: usize = 600_000;
    let (siege, placeholder) = siege();
    let upstream = h2_upstream::by_hand(&siege.scene.root, move |wire| {
        let window = 1_u32 << 24;
        wire.send(SETTINGS, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat())?;
        wire.send(WINDOW_UPDATE, 0, 0, &window.to_be_bytes())?;
        let (stream, _) = wire.request()?;
        wire.head(stream, &[("content-type", "application/octet-stream")], 0)?;
        if answers {
            let mix = Mix::new("", WASTEFUL);
            wire.raw(&mix.unit.repeat(mix.count()))?;
        }
        let mut length = 0;
        loop {
            let frame = wire.frame()?;
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                wire.send(SETTINGS, ACK, 0, &[])?;
            }
            if frame.kind == H2_DATA {
                length += frame.payload.len();
                if frame.flags & END_STREAM != 0 {
                    wire.send(H2_DATA, END_STREAM, stream, length.to_string().as_bytes())?;
                    return wire.until_closed();
                }
            }
        }
    });
    let before = process::resident(siege.daemons[0]);
    let (go_on, sent) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let pieces = [DATA, 0, 0, 1, b'x'].repeat(100);
    thread::scope(|scope| {
        let uploads: Vec<_> = (0..CHANNELS)
            .map(|_| {
                let (socket, _) = narrow_relay(upstream.address(), 4000, &go_on);
                let mut channel = siege.gateway.channel(HOST, socket);
                channel.frame(HEAD, &Ask::bearer("POST", "/x", &placeholder).with_body().payload()).unwrap();
                let (pieces, sent) = (&pieces, &sent);
                scope.spawn(move || {
                    for _ in 0..BYTES / 100 {
                        if let Err(error) = channel.raw(pieces) {
                            panic!("{error}: {:?}", channel.hear());
                        }
                        sent.fetch_add(100, Ordering::SeqCst);
                    }
                    channel.frame(END, b"").unwrap();
                    channel.hear().text()
                })
            })
            .collect();
        let taken = until_still("keyd", || sent.load(Ordering::SeqCst));
        let held = held(&siege, if answers { "both ways" } else { "single bytes" }, before);
        go_on.store(true, Ordering::SeqCst);
        for upload in uploads {
            assert_eq!(upload.join().unwrap().trim(), BYTES.to_string(), "and all of it comes when it is taken");
        }
        assert!(taken < CHANNELS * BYTES, "it is held back somewhere: {taken}");
        assert!(held < ACCOUNT, "{held} bytes an exchange");
    });
    siege.hold();
}

/// Each leaves a buffer of the h2 library's half empty.
const WASTEFUL: &[(u8, u8, usize)] = &[(H2_DATA, 0, 1), (H2_DATA, 0, 8184), (H2_DATA, 0, 8184)];

/// What an upstream sends again and again: its frames, and how many bytes of a body are in them.
struct Mix {
    what: &'static str,
    unit: Vec<u8>,
    data: usize,
    /// What they take of the window.
    window: usize,
}

impl Mix {
    fn new(what: &'static str, frames: &[(u8, u8, usize)]) -> Self {
        let mut mix = Self { what, unit: Vec::new(), data: 0, window: 0 };
        for &(kind, flags, length) in frames {
            let mut payload = vec![b'\n'; length];
            if flags & PADDED != 0 {
                payload[0] = 255;
                payload[length - 255..].fill(0);
            }
            mix.unit.extend(encode(kind, flags, u32::from(kind == H2_DATA), &payload));
            if kind == H2_DATA {
                mix.window += length;
                mix.data += length - if flags & PADDED == 0 { 0 } else { 256 };
            }
        }
        mix
    }

    fn all() -> Vec<Self> {
        let data = |length| (H2_DATA, 0, length);
        let unknown = |length| (UNKNOWN, 0, length);
        vec![
            Self::new("large pieces", &[data(16_384)]),
            Self::new("small pieces", &[data(256)]),
            Self::new("a small and a large one", WASTEFUL),
            Self::new("padding", &[(H2_DATA, PADDED, 512)]),
            Self::new("small pieces and frames of no known kind", &[data(256), unknown(16_384)]),
            Self::new("pieces that are not copied", &[data(2100), unknown(14_000)]),
            Self::new("settings", &[data(256), (SETTINGS, 0, 16_380)]),
            Self::new("pings", &[&[data(256)][..], &[(h2_upstream::PING, 0, 8); 4]].concat()),
        ]
    }

    /// Fills the window and no more, so that it need not be told of more room.
    fn count(&self) -> usize {
        500 * 1024 / self.window
    }
}

#[test]
fn an_answer_that_nobody_reads_stays_within_its_account_whatever_it_is_mixed_with() {
    let (siege, placeholder) = siege();
    let before = process::resident(siege.daemons[0]);
    let mut most = 0;
    for mix in Mix::all() {
        let (what, count, data) = (mix.what, mix.count(), mix.data);
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let upstream = h2_upstream::by_hand(&siege.scene.root, move |wire| {
            let (stream, _) = wire.request()?;
            assert_eq!(stream, 1);
            wire.head(stream, &[("content-type", "application/octet-stream")], 0)?;
            for _ in 0..count {
                wire.raw(&mix.unit)?;
                counter.fetch_add(1, Ordering::SeqCst);
            }
            wire.send(H2_DATA, END_STREAM, stream, b"")?;
            wire.until_closed()
        });
        let mut unread: Vec<_> = (0..CHANNELS)
            .map(|_| {
                let mut channel = siege.gateway.dial(HOST, upstream.address());
                channel.frame(HEAD, &Ask::bearer("GET", "/x", &placeholder).payload()).unwrap();
                channel
            })
            .collect();
        until_still("the upstream", || sent.load(Ordering::SeqCst));
        let held = held(&siege, what, before);
        most = most.max(held);
        for channel in &mut unread {
            let mut length = 0;
            while let Some(frame) = channel.next_frame() {
                match frame {
                    Frame::Data(data) => length += data.len(),
                    Frame::End(_) => break,
                    _ => {}
                }
            }
            assert_eq!(length, count * data, "{what}: and all of it comes when it is read");
        }
    }
    assert!(most < ACCOUNT, "{most} bytes an exchange");
    siege.hold();
}

/// A byte of a head may stand for a field, of which each takes a hundred bytes.
#[test]
fn heads_before_the_answer_do_not_pile_up() {
    let (siege, placeholder) = siege();
    let upstream = h2_upstream::by_hand(&siege.scene.root, |wire| {
        let (stream, _) = wire.request()?;
        // 103, a field for the table, and that field again and again.
        let block = [&[0x08, 3][..], b"103", &[0x40, 1, b'a', 0], &[0xbe; 3800]].concat();
        let heads = encode(h2_upstream::HEADERS, h2_upstream::END_HEADERS, stream, &block).repeat(500);
        wire.raw(&heads)?;
        wire.answer(stream, b"fine")?;
        wire.until_closed()
    });
    let before = process::resident(siege.daemons[0]);
    let mut channel = siege.gateway.dial(HOST, upstream.address());
    assert_eq!(channel.ask(&Ask::bearer("GET", "/x", &placeholder)).text(), "fine");
    let peak = process::peak_resident(siege.daemons[0]) - before;
    eprintln!("heads: {} KiB", peak / 1024);
    assert!(peak < 2 * ACCOUNT, "{peak} bytes");
    siege.hold();
}
