//! Hostile bytes: no reader panics, none takes memory that the bytes do not pay for, and what is taken is a fixed point.

use proptest::prelude::*;
use strongroom_protocol::admin::{Failure, NewVault, Operation, Reply, Request};
use strongroom_protocol::exchange::{BodyRequest, GatewayMessage, KeydMessage, ROUTES_IN_A_MESSAGE, Route, Upstream};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, EXCHANGE_LIMIT, FrameError};
use strongroom_protocol::{Check, Name, Refusal, SecretBytes};

use crate::samples;

/// Bytes that are taken are written again; the second time nothing changes any more. (A number may come in more bytes
/// than it needs; it is written in the fewest.)
fn is_refused_or_settles(again: fn(&[u8]) -> Option<Vec<u8>>, bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Some(written) = again(bytes) {
        prop_assert!(written.len() <= bytes.len());
        prop_assert_eq!(again(&written), Some(written));
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for case in samples::all() {
            is_refused_or_settles(case.again, &bytes)?;
        }
    }

    #[test]
    fn mutated_messages_never_panic(which: prop::sample::Index, at: prop::sample::Index, byte: u8, kind in 0..4u8) {
        let cases = samples::all();
        let case = which.get(&cases);
        let mut bytes = case.bytes.clone();
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = byte,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
        is_refused_or_settles(case.again, &bytes)?;
    }

    #[test]
    fn gateway_messages_round_trip(channel: u64, version in "[ -~]{0,40}", details in prop::collection::vec(".{0,30}", 0..9), port in 1u16..) {
        let checks = details.iter().map(|detail| Check::warning("name", detail.clone(), detail.clone())).collect();
        let authority = format!("a-1.example:{port}").parse().unwrap();
        for message in [
            GatewayMessage::Hello { version: version.clone(), checks },
            GatewayMessage::OpenChannel { channel, authority, upstream: Upstream::Connected },
        ] {
            let packet = frame::encode(&message, EXCHANGE_LIMIT).unwrap();
            let back: GatewayMessage = frame::decode_packet(&packet, EXCHANGE_LIMIT).unwrap();
            // A token in it has no equality, so bytes are compared.
            prop_assert_eq!(format!("{back:?}"), format!("{message:?}"));
            prop_assert_eq!(frame::encode(&back, EXCHANGE_LIMIT).unwrap(), packet);
        }
    }

    #[test]
    fn keyd_messages_round_trip(channel: u64, refusal in prop::sample::select(Refusal::ALL), first: bool, names in prop::collection::vec("[a-z][a-z0-9._-]{0,63}", 0..20)) {
        let routes = names.iter().map(|name| Route {
            name: name.parse().unwrap(),
            authority: "[2001:db8::1]:8443".parse().unwrap(),
            fields: vec![name.clone()],
            bodies: vec![BodyRequest { method: "PUT".into(), path: format!("/{name}") }],
        }).collect();
        for message in [KeydMessage::Refused { channel, refusal }, KeydMessage::Routes { first, last: !first, routes }] {
            let packet = frame::encode(&message, EXCHANGE_LIMIT).unwrap();
            prop_assert_eq!(frame::decode_packet(&packet, EXCHANGE_LIMIT), Ok(message));
        }
    }

    #[test]
    fn secrets_round_trip(value in prop::collection::vec(any::<u8>(), 0..3000), proof: Option<[u8; 32]>) {
        let proof = proof.map(|proof| SecretBytes::new(proof.to_vec()));
        let operation = Operation::CredentialRotate { name: "a".parse().unwrap(), value: SecretBytes::new(value.clone()), allow_weak: false };
        let sent = Request { proof, operation };
        let packet = frame::encode(&sent, ADMIN_LIMIT).unwrap();
        let Request { proof, operation: Operation::CredentialRotate { value: back, .. } } = frame::decode_packet(&packet, ADMIN_LIMIT).unwrap() else {
            return Err(TestCaseError::fail("another operation"));
        };
        prop_assert_eq!(back.expose(), value);
        prop_assert_eq!(proof.as_ref().map(SecretBytes::expose), sent.proof.as_ref().map(SecretBytes::expose));
    }
}

#[test]
fn every_single_bit_of_every_message_is_survived() {
    let mut taken = 0;
    for case in samples::all() {
        for bit in 0..case.bytes.len() * 8 {
            let mut bytes = case.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            taken += usize::from((case.again)(&bytes).is_some());
        }
    }
    assert!(taken > 0, "some flips make another valid message: the readers were really asked");
}

#[test]
fn leftovers_and_missing_bytes_are_refused() {
    for case in samples::all() {
        assert_eq!((case.again)(&case.bytes).as_ref(), Some(&case.bytes));
        let mut long = case.bytes.clone();
        long.push(0);
        assert_eq!((case.again)(&long), None, "{} {}", case.of, case.variant);
        for length in 0..case.bytes.len() {
            assert_eq!((case.again)(&case.bytes[..length]), None, "{} {} of {length} bytes", case.of, case.variant);
        }
    }
}

#[test]
fn lengths_that_lie_are_refused_without_taking_memory() {
    // Four thousand million items are announced, and none follows.
    let lie = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let with = |front: &[u8]| [front, &lie].concat();
    assert!(frame::decode::<GatewayMessage>(&with(&[0])).is_err());
    assert!(frame::decode::<GatewayMessage>(&with(&[0, 0])).is_err());
    assert!(frame::decode::<KeydMessage>(&with(&[4, 1, 1])).is_err());
    assert!(frame::decode::<Request>(&with(&[1])).is_err());
    assert!(frame::decode::<Reply>(&with(&[3])).is_err());
    assert!(frame::decode::<Reply>(&with(&[7])).is_err());
    assert!(frame::decode::<NewVault>(&[&[0; 16][..], &[1, 1, 1], &lie].concat()).is_err());
    // The twin: the same fronts with a length that is true.
    assert!(frame::decode::<GatewayMessage>(&[0, 0, 0]).is_ok());
    assert!(frame::decode::<KeydMessage>(&[4, 1, 1, 0]).is_ok());
    assert!(frame::decode::<Request>(&[1, 0, 0]).is_ok());
}

#[test]
fn the_largest_routes_fit_one_packet() {
    let route = Route {
        name: "n".repeat(Name::LIMIT).parse().unwrap(),
        authority: format!(
            "{}.example:65535",
            ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".")
        )
        .parse()
        .unwrap(),
        fields: vec!["f".repeat(128); 3],
        bodies: vec![],
    };
    let message = KeydMessage::Routes { first: true, last: true, routes: vec![route; ROUTES_IN_A_MESSAGE] };
    assert!(frame::encode(&message, EXCHANGE_LIMIT).is_ok());
}

#[test]
fn variants_that_do_not_exist_are_refused() {
    for (known, unknown) in [(Refusal::ALL.len() - 1, Refusal::ALL.len()), (0, 255), (3, 1000)] {
        let bytes =
            |number: usize| frame::encode(&u32::try_from(number).unwrap(), 64).unwrap()[frame::HEADER..].to_vec();
        assert!(frame::decode::<Refusal>(&bytes(known)).is_ok());
        assert_eq!(frame::decode::<Refusal>(&bytes(unknown)), Err(FrameError::Malformed));
        assert_eq!(frame::decode::<Failure>(&bytes(unknown.max(100))), Err(FrameError::Malformed));
    }
}
