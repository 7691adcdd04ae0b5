//! Hellos of rustls' own, and those that two parsers could read in two ways.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What rustls sends first.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn seen(bytes: &[u8]) -> Seen {
    FirstWords::default().push(bytes)
}

fn named(name: &str) -> Seen {
    Seen::Hello(Some(name.as_bytes().to_vec()))
}

/// A hello by hand, in one record.
fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend_from_slice(&kind.to_be_bytes());
        list.extend(with_length(data));
    }
    in_records(&message(&with_length(&list)), 1 << 14)
}

fn message(behind_compression: &[u8]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], behind_compression].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    let records = message.chunks(size).map(|piece| [&[22, 3, 1][..], &with_length(piece)].concat());
    records.collect::<Vec<_>>().concat()
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn list(names: &[(u8, &str)]) -> Vec<u8> {
    let names = names.iter().map(|(kind, name)| [&[*kind][..], &with_length(name.as_bytes())].concat());
    with_length(&names.collect::<Vec<_>>().concat())
}

#[test]
fn the_name_is_read_as_it_stands() {
    assert_eq!(seen(&hello("files.example")), named("files.example"));
    assert_eq!(seen(&hello("127.0.0.1")), Seen::Hello(None), "addresses are not named");
    for name in ["Files.EXAMPLE", "files.example.", "fi_les.example", "127.0.0.1", "\0"] {
        assert_eq!(seen(&made(&[(10, vec![0]), (0, list(&[(0, name)]))])), named(name));
    }
    assert_eq!(seen(&made(&[])), Seen::Hello(None));
    assert_eq!(seen(&in_records(&message(&[]), 99)), Seen::Hello(None), "no extensions at all");
    let behind = [hello("files.example"), b"\x14\x03\x03\x00\x01\x01anything".to_vec()].concat();
    assert_eq!(seen(&behind), named("files.example"), "early data");
}

#[test]
fn cuts_and_records_of_any_size_change_nothing() {
    let whole = hello("files.example");
    for record in [1, 2, 3, 5, 100] {
        let bytes = in_records(&whole[5..], record);
        let mut words = FirstWords::default();
        let (last, before) = bytes.split_last().unwrap();
        for byte in before {
            assert_eq!(words.push(&[*byte]), Seen::More, "records of {record}");
        }
        assert_eq!(words.push(&[*last]), named("files.example"), "records of {record}");
        assert_eq!(words.into_bytes(), bytes, "all of it is kept as it came");
    }
}

#[test]
fn what_is_no_tls_is_told_by_its_first_two_bytes() {
    for bytes in [&b"S"[..], b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n", b"\0", b"\x16\x02", b"\x16S", b"\x80\x2e\x01"] {
        assert_eq!(seen(bytes), Seen::Other, "{bytes:?}");
    }
    for bytes in [&b""[..], b"\x16", b"\x16\x03", b"\x16\x03\x01\x00"] {
        assert_eq!(seen(bytes), Seen::More, "{bytes:?}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_no_hello() {
    let sni = |names: &[(u8, &str)]| (0, list(names));
    let good = made(&[sni(&[(0, "a.example")])]);
    let short = |extension: Vec<u8>| made(&[(0, extension)]);
    for (what, bytes) in [
        ("two lists", made(&[sni(&[(0, "a.example")]), sni(&[(0, "b.example")])])),
        ("two names", made(&[sni(&[(0, "a.example"), (0, "b.example")])])),
        ("a name of another kind", made(&[sni(&[(1, "a.example")])])),
        ("a second name of another kind", made(&[sni(&[(0, "a.example"), (1, "b.example")])])),
        ("an empty name", made(&[sni(&[(0, "")])])),
        ("an empty list", short(vec![0, 0])),
        ("no list", short(vec![])),
        ("bytes behind the list", short([list(&[(0, "a.example")]), vec![0]].concat())),
        ("a list that is too short", short(vec![0, 9, 0, 0, 1, b'a'])),
        ("bytes behind the extensions", in_records(&message(&[0, 0, 0]), 999)),
        ("half an extension", in_records(&message(&[0, 2, 0, 0]), 999)),
        ("an alert in front", [b"\x15\x03\x01\x00\x02\x01\x00".to_vec(), good.clone()].concat()),
        ("a change of ciphers in front", [b"\x14\x03\x01\x00\x01\x01".to_vec(), good.clone()].concat()),
        ("an empty record in front", [b"\x16\x03\x01\x00\x00".to_vec(), good.clone()].concat()),
        ("an alert in the middle", [&in_records(&good[5..15], 10)[..], b"\x15\x03\x01\x00\x02\x01\x00"].concat()),
        ("another message", in_records(&[2, 0, 0, 1, 0], 999)),
        ("another message, cut", in_records(&[2, 0], 999)),
        ("a second message in the record", in_records(&[&good[5..], &good[5..]].concat(), 999)),
        ("a record that is too long", b"\x16\x03\x01\x40\x01".to_vec()),
        ("a message that is too long", in_records(&[1, 1, 0, 1], 999)),
    ] {
        assert_eq!(seen(&bytes), Seen::Malformed, "{what}");
    }
    assert_eq!(seen(&good), named("a.example"), "the positive twin");
}

#[test]
fn what_never_ends_is_given_up() {
    let long = in_records(&[&[1, 0, 0xff, 0xff][..], &[0; 0xffff]].concat(), 1);
    let mut words = FirstWords::default();
    let given_up = long.chunks(100).position(|piece| words.push(piece) == Seen::Malformed);
    assert_eq!(given_up, Some(MOST / 100), "after 64 KiB");
}

proptest! {
    /// Where rustls reads a name in a hello that was tampered with, the same is read here, or nothing is.
    #[test]
    fn no_other_name_is_read_than_rustls_reads(at in 0usize..400, byte: u8, more in 0usize..3) {
        let mut bytes = hello("files.example");
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - more);
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut bytes.as_slice()).unwrap();
        let theirs = acceptor.accept().ok().flatten();
        let theirs = theirs.map(|accepted| accepted.client_hello().server_name().map(str::to_owned));
        match (seen(&bytes), theirs) {
            (Seen::Hello(Some(ours)), Some(Some(theirs))) => {
                prop_assert!(ours.eq_ignore_ascii_case(theirs.as_bytes()), "{ours:?} {theirs:?}");
            }
            (Seen::Hello(None), Some(Some(theirs))) => prop_assert!(false, "no name here, and {theirs} there"),
            (Seen::Other | Seen::More, Some(_)) => prop_assert!(false, "a hello for rustls alone"),
            _ => {}
        }
    }
}
