//! Messages of both sockets, frames and heads of channels, and the bytes of an agent's connection.
//! Each function refuses nothing and panics where a property does not hold. Called through [`crate::TARGETS`].

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_protocol::admin::{Reply, Request};
use strongroom_protocol::channel::frames::{Decoder, Encoder, Frame, Kind};
use strongroom_protocol::channel::head::{AnswerHead, RequestHead, encode_fields, fields};
use strongroom_protocol::exchange::{GatewayMessage, KeydMessage};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, EXCHANGE_LIMIT};

use crate::gatewayd_client_hello::{FirstWords, MOST, Seen};
use crate::gatewayd_connect_head;
use crate::gatewayd_framing::Framing;
use crate::pieces;

/// What is read can be written, and is then read as the same.
fn round_trip<T: Serialize + DeserializeOwned>(payload: &[u8], limit: usize) {
    let _ = frame::decode_packet::<T>(payload, limit);
    let Ok(message) = frame::decode::<T>(payload) else { return };
    let Ok(packet) = frame::encode(&message, limit) else { return };
    let again = frame::decode_packet::<T>(&packet, limit).expect("what was written is read");
    let twice = frame::encode(&again, limit).expect("and written once more");
    assert_eq!(*packet, *twice);
}

pub fn gateway_message(bytes: &[u8]) {
    round_trip::<GatewayMessage>(bytes, EXCHANGE_LIMIT);
}

pub fn keyd_message(bytes: &[u8]) {
    round_trip::<KeydMessage>(bytes, EXCHANGE_LIMIT);
}

pub fn admin_request(bytes: &[u8]) {
    round_trip::<Request>(bytes, ADMIN_LIMIT);
}

pub fn admin_reply(bytes: &[u8]) {
    round_trip::<Reply>(bytes, ADMIN_LIMIT);
}

/// The same frames come out however the bytes are cut, and what comes out can go in again.
pub fn frames(bytes: &[u8]) {
    let read = |chunks: &[&[u8]]| {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for chunk in chunks {
            decoder.room().extend_from_slice(chunk);
            loop {
                match decoder.next_frame() {
                    Ok(Some(Frame::Data(data))) => match frames.last_mut() {
                        Some(Frame::Data(before)) => *before = [&before[..], &data[..]].concat().into(),
                        _ => frames.push(Frame::Data(data)),
                    },
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(_) => return (frames, false),
                }
            }
        }
        (frames, true)
    };
    let chunks = pieces(bytes);
    let whole = chunks.concat();
    let (cut, uncut) = (read(&chunks), read(&[&whole]));
    assert_eq!(cut, uncut);
    let mut encoder = Encoder::default();
    for frame in cut.0 {
        let (kind, payload) = match frame {
            Frame::Head(payload) => (Kind::Head, payload),
            Frame::Data(payload) => (Kind::Data, payload),
            Frame::End(payload) => (Kind::End, payload),
            Frame::Continue => (Kind::Continue, Bytes::new()),
        };
        encoder.push(kind, payload).expect("within the limits");
    }
}

/// A head that is taken is written as it was meant, and has no second way to be read.
pub fn heads(bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    if let Ok(head) = RequestHead::decode(payload.clone()) {
        assert_eq!(RequestHead::decode(head.encode()), Ok(head.clone()));
        assert!(head.target.path().starts_with('/') && head.target.authority().is_none());
        assert!(!head.fields.contains_key("transfer-encoding"));
        assert!(head.fields.get_all("content-length").iter().count() <= 1);
    }
    if let Ok(head) = AnswerHead::decode(payload.clone()) {
        assert_eq!(AnswerHead::decode(head.encode()), Ok(head));
    }
    if let Ok(known) = fields(payload) {
        assert_eq!(fields(encode_fields(&known)), Ok(known));
    }
}

/// Cuts change nothing.
pub fn agent_framing(bytes: &[u8]) {
    let chunks = pieces(bytes);
    let (mut cut, mut whole) = (Framing::default(), Framing::default());
    chunks.iter().for_each(|chunk| cut.see(chunk));
    whole.see(&chunks.concat());
    assert_eq!(cut.is_double(), whole.is_double());
}

/// A CONNECT's head ends in the same place however little more has come, and is none before its end.
pub fn connect_head(bytes: &[u8]) {
    let limits = gatewayd_connect_head::Limits { bytes: 2048, fields: 16 };
    let parsed = gatewayd_connect_head::parse(bytes, &limits);
    let Ok(Some((head, length))) = parsed else { return };
    assert!(length <= bytes.len() && length <= 2048 && bytes[..length].ends_with(b"\n"));
    assert!(!head.target.is_empty() && head.fields.len() <= 16);
    let again = gatewayd_connect_head::parse(&bytes[..length], &limits).expect("read once").expect("whole");
    assert_eq!((again.0.target, again.1), (head.target, length));
    assert!(matches!(gatewayd_connect_head::parse(&bytes[..length - 1], &limits), Ok(None)), "whole before its end");
}

/// Cuts change neither what is seen nor where; all that was pushed is kept, and a name stands in it.
pub fn client_hello(bytes: &[u8]) {
    let read = |chunks: &[&[u8]]| {
        let mut words = FirstWords::default();
        let mut seen = Seen::More;
        for chunk in chunks {
            if seen == Seen::More {
                seen = words.push(chunk);
            }
        }
        (seen, words.into_bytes())
    };
    let chunks = pieces(bytes);
    let whole = chunks.concat();
    let (cut, uncut) = (read(&chunks), read(&[&whole]));
    assert_eq!(cut.0, uncut.0);
    assert!(whole.starts_with(&cut.1) && uncut.1 == whole);
    let bytewise: Vec<&[u8]> = whole.chunks(1).collect();
    let (seen, kept) = read(&bytewise);
    assert_eq!(seen, uncut.0);
    match seen {
        Seen::More => assert!(kept == whole && whole.len() <= MOST),
        Seen::Other => assert!(kept.len() <= 2),
        Seen::Hello(name) => {
            let name = name.unwrap_or_default();
            assert!(kept.len() > 4 + 2 + 32 + name.len() && name.iter().all(|byte| kept.contains(byte)));
        }
        Seen::Malformed => {}
    }
}
