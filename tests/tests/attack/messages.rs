//! Control messages and heads that are out of order, of another version, cut, enlarged, mutated, or without end.

use std::collections::{BTreeMap, HashSet};
use std::mem::discriminant;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use strongroom_fuzz::dice::Dice;
use strongroom_protocol::exchange::{DialFailure, GatewayMessage, TunnelFailure, Upstream as Dialled};
use strongroom_protocol::frame::{self, EXCHANGE_LIMIT};
use strongroom_protocol::session::{Presented, PresentedToken};
use strongroom_protocol::{Check, SecretBytes};
use strongroom_tests::hostile::{HEAD, hello};

use super::*;

fn open(channel: u64) -> GatewayMessage {
    GatewayMessage::OpenChannel { channel, authority: HOST.parse().unwrap(), upstream: Dialled::Connected }
}

fn packet(message: &GatewayMessage) -> Vec<u8> {
    frame::encode(message, EXCHANGE_LIMIT).unwrap().to_vec()
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let siege = Siege::lay();
    let good = packet(&hello());
    let version = |version: u16| [&good[..2], &version.to_le_bytes(), &good[4..]].concat();
    let packets: Vec<(&str, Vec<u8>)> = vec![
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("the version before", version(0)),
        ("a version to come", version(2)),
        ("the last version there can be", version(u16::MAX)),
        ("a header alone", good[..8].to_vec()),
        ("half a header", good[..5].to_vec()),
        ("one byte less", good[..good.len() - 1].to_vec()),
        ("one byte more", [&good[..], b"x"].concat()),
        ("a length of 4 GiB", [&good[..4], &[0xff; 4], &good[8..]].concat()),
        ("a variant that nobody knows", [&good[..8], &[0x7f], &good[9..]].concat()),
        ("the largest packet there can be", [&good[..], &vec![0; 150_000]].concat()),
    ];
    for (what, bytes) in packets {
        let gateway = Hostile::silent(&siege.scene.strongroom, &siege.loot);
        gateway.packet(&bytes, &[]).unwrap();
        assert!(gateway.is_cut_off(), "{what}");
    }
    siege.hold();
}

#[test]
fn messages_out_of_order_end_the_connection_and_open_nothing() {
    let siege = Siege::lay();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let tcp = std::net::TcpStream::connect(siege.scene.upstream.address()).unwrap();
    let descriptors = [theirs.as_fd(), tcp.as_fd()];
    let silent = || Hostile::silent(&siege.scene.strongroom, &siege.loot);

    let gateway = silent();
    gateway.say(&open(1), &descriptors).unwrap();
    assert!(gateway.is_cut_off(), "a channel before hello");
    let mut dice = Dice::new(0x5eed_0003);
    let mut kinds = HashSet::new();
    while kinds.len() < 7 {
        let message = any_message(&mut dice);
        if matches!(message, GatewayMessage::Hello { .. }) {
            kinds.insert(discriminant(&message));
        } else if kinds.insert(discriminant(&message)) {
            let gateway = silent();
            gateway.say(&message, &[]).unwrap();
            assert!(gateway.is_cut_off(), "{message:?} before hello");
        }
    }
    // Of what was never opened, or is over: nothing comes of it, and the connection stays.
    let gateway = Hostile::connect(&siege.scene.strongroom, &siege.loot);
    for _ in 0..2 {
        gateway.say(&GatewayMessage::CloseSession { session: 77 }, &[]).unwrap();
        let failure = Some(TunnelFailure::AnotherName);
        gateway.say(&GatewayMessage::EndTunnel { tunnel: 77, bytes_in: 1, bytes_out: 1, failure }, &[]).unwrap();
    }
    assert_eq!(gateway.offer(HOST, Dialled::Connected, &descriptors), Ok(()), "it is served");
    for message in [GatewayMessage::CloseSession { session: 1 }, hello()] {
        let gateway = Hostile::connect(&siege.scene.strongroom, &siege.loot);
        gateway.say(&message, &descriptors).unwrap();
        assert!(gateway.is_cut_off(), "{message:?} with descriptors");
    }
    let gateway = silent();
    gateway.say(&hello(), &[]).unwrap();
    gateway.say(&hello(), &[]).unwrap();
    assert!(gateway.is_cut_off(), "hello twice");
    let gateway = silent();
    gateway.say(&hello(), &descriptors).unwrap();
    // Descriptors that belong to nothing are closed; whether the connection ends with them is keyd's choice.
    let _ = gateway.hear();
    drop(gateway);
    // Numbers are the gateway's own: twice the same is its own confusion.
    let gateway = Hostile::connect(&siege.scene.strongroom, &siege.loot);
    for _ in 0..2 {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let tcp = std::net::TcpStream::connect(siege.scene.upstream.address()).unwrap();
        gateway.say(&open(7), &[theirs.as_fd(), tcp.as_fd()]).unwrap();
    }
    assert!(gateway.hear().is_some());
    siege.hold();
}

#[test]
fn a_gateway_too_many_is_turned_away_and_makes_room_when_it_goes() {
    let siege = Siege::lay();
    let held: Vec<Hostile> = (0..8).map(|_| Hostile::silent(&siege.scene.strongroom, &siege.loot)).collect();
    let mut turned_away = 0;
    for gateway in &held {
        // Those that keyd keeps stay silent: they would be waited for.
        let welcome = gateway.say(&hello(), &[]).is_ok() && gateway.hear().is_some();
        turned_away += usize::from(!welcome);
    }
    assert!((4..8).contains(&turned_away), "{turned_away} of 8 beside the honest one and ours");
    drop(held);
    let again = within(Duration::from_secs(20), "room is given back", || {
        let gateway = Hostile::silent(&siege.scene.strongroom, &siege.loot);
        (gateway.say(&hello(), &[]).is_ok() && gateway.hear().is_some()).then_some(gateway)
    });
    drop(again);
    siege.hold();
}

/// Any number that breaks something: small ones, which were used before, and the ends.
fn number(dice: &mut Dice) -> u64 {
    match dice.roll(4) {
        0 => [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 32][dice.roll(6)],
        _ => dice.roll(12) as u64,
    }
}

fn text(dice: &mut Dice) -> String {
    let piece = ["", "a", "\u{0}", "\n", "{}", "\u{202e}", "../", "%00", "é", "AGENT_KEY", "-1"][dice.roll(11)];
    piece.repeat([1, 3, 200][dice.roll(3)])
}

/// A message of any kind with any values in its fields.
fn any_message(dice: &mut Dice) -> GatewayMessage {
    let hosts = [HOST, "unknown.example", "127.0.0.1:1", "[::1]:65535", "xn--nxasmq6b.example"];
    let authority = hosts[dice.roll(hosts.len())].parse().unwrap();
    let one_in = |dice: &mut Dice, sides| dice.roll(sides) == 0;
    match dice.roll(16) {
        0 => GatewayMessage::Hello {
            version: text(dice),
            checks: (0..dice.roll(3)).map(|_| Check::warning(&text(dice), text(dice), text(dice))).collect(),
        },
        1..=4 => {
            let failures = [DialFailure::Unreachable, DialFailure::ForbiddenAddress, DialFailure::TimedOut];
            let upstream = if one_in(dice, 3) { Dialled::Connected } else { Dialled::Failed(failures[dice.roll(3)]) };
            GatewayMessage::OpenChannel { channel: number(dice), authority, upstream }
        }
        5..=7 => {
            let agent = [AGENT, "busy", "nobody"][dice.roll(3)].parse().ok().filter(|_| !one_in(dice, 3));
            let token = SecretBytes::new(text(dice).into_bytes());
            let presented = Presented {
                socket: one_in(dice, 4),
                uid: one_in(dice, 3).then(|| dice.roll(70_000) as u32),
                token: one_in(dice, 4).then_some(PresentedToken { agent, token }),
            };
            GatewayMessage::OpenSession { session: number(dice), presented }
        }
        8 => GatewayMessage::CloseSession { session: number(dice) },
        9..=11 => GatewayMessage::Connect {
            question: number(dice),
            session: number(dice),
            authority,
            point: one_in(dice, 2).then(|| vec![4; [0, 1, 64, 65, 66, 3000][dice.roll(6)]]),
            request_id: text(dice),
            tunnel: one_in(dice, 2),
        },
        12 | 13 => GatewayMessage::EndTunnel {
            tunnel: number(dice),
            bytes_in: number(dice),
            bytes_out: number(dice),
            failure: one_in(dice, 2).then_some(TunnelFailure::AnotherName),
        },
        _ => GatewayMessage::AskEnvironment {
            question: number(dice),
            session: number(dice),
            placeholder: one_in(dice, 2).then(|| text(dice)),
            after: one_in(dice, 2).then(|| number(dice)),
        },
    }
}

/// Most of them are well-formed messages with odd values; one in eight has bytes changed as well.
#[test]
fn mutated_messages_neither_stop_nor_fill_keyd() {
    let siege = Siege::lay();
    let keyd = siege.scene.strongroom.keyd();
    let before = process::resident(keyd);
    let mut dice = Dice::new(0x5eed_0001);
    let mut gateway = None;
    let (mut ended, mut answers) = (0, BTreeMap::<String, usize>::new());
    for _ in 0..rounds(20_000, 1_000_000) {
        let current = gateway.get_or_insert_with(|| Hostile::connect(&siege.scene.strongroom, &siege.loot));
        let message = any_message(&mut dice);
        let wanted = match &message {
            GatewayMessage::OpenChannel { upstream: Dialled::Connected, .. } => 2,
            GatewayMessage::OpenChannel { .. } => 1,
            _ => 0,
        };
        let is_whole = dice.roll(8) != 0;
        let bytes = if is_whole { packet(&message) } else { dice.mutate(&[packet(&message)]) };
        // Most of them with the descriptors that they should have.
        let pair = UnixStream::pair().unwrap();
        let descriptors = [pair.0.as_fd(), pair.1.as_fd()];
        let count = if dice.roll(8) == 0 { dice.roll(3) } else { wanted };
        let mut is_cut = current.packet(&bytes, &descriptors[..count]).is_err();
        let mut heard = current.heard_by_now();
        // Whoever sends on and on sends most of it to a connection that is about to end.
        let is_asked = is_whole
            && !matches!(
                message,
                GatewayMessage::Hello { .. } | GatewayMessage::CloseSession { .. } | GatewayMessage::EndTunnel { .. }
            );
        if is_asked && !is_cut && heard.is_empty() {
            is_cut = current.hear().map(|answer| heard.push(answer)).is_none();
        }
        for answer in heard {
            let kind = format!("{answer:?}");
            *answers.entry(kind.split([' ', '{']).next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        if is_cut {
            (gateway, ended) = (None, ended + 1);
        }
    }
    drop(gateway);
    eprintln!("{ended} connections were ended; keyd said {answers:?}");
    assert!(ended > 100, "many mutants are no messages");
    for (kind, least) in [
        ("Accepted", 100),
        ("Refused", 500),
        ("SessionOpened", 500),
        ("SessionRefused", 200),
        ("Intercept", 1),
        ("NotConnected", 500),
        ("NoEnvironment", 500),
    ] {
        assert!(answers.get(kind).is_some_and(|count| *count >= least), "{kind}: {answers:?}");
    }
    assert_eq!(siege.scene.strongroom.keyd(), keyd, "the same process");
    let grown = process::resident(keyd).saturating_sub(before);
    assert!(grown < 64 << 20, "keyd grew by {grown} bytes");
    siege.hold();
}

/// Whatever a head says, the key goes into its position alone and to nobody else's eyes.
#[test]
fn mutated_heads_put_no_key_anywhere_else() {
    let siege = Siege::lay();
    siege.scene.strongroom.must(&["agent", "add", "busy"]);
    let busy = siege.scene.grant(CREDENTIAL, "busy", &["--rate", "100000000/hour", "--burst", "10000000"]);
    let keyd = siege.scene.strongroom.keyd();
    let seeds = [
        Ask::bearer("GET", "/v1/models?limit=20", &busy).field("accept", "*/*").payload(),
        Ask::bearer("POST", "/v1/chat", &busy).field("content-length", "5").with_body().payload(),
        Ask::bearer("GET", "/", &busy).field("connection", "close").field("x-empty", "").payload(),
    ];
    let mut dice = Dice::new(0x5eed_0002);
    let mut channel = None;
    let (mut answered, mut refused, mut ended) = (0, 0, 0);
    for _ in 0..rounds(2_000, 100_000) {
        let current = channel.get_or_insert_with(|| siege.dial());
        let mut payload = dice.mutate(&seeds);
        payload.truncate(40_000);
        let _ = current.frame(HEAD, &payload);
        if payload.first() == Some(&1) {
            let _ = current.frame(strongroom_tests::hostile::DATA, b"hello");
            let _ = current.frame(strongroom_tests::hostile::END, b"");
        }
        match current.hear() {
            Heard::Answer(answer) if answer.is_whole && !answer.head.is_last => answered += 1,
            Heard::Refused(_) => refused += 1,
            _ => {
                ended += 1;
                channel = None;
            }
        }
        if channel.is_some() && dice.roll(3) == 0 {
            channel = None;
        }
    }
    eprintln!("{answered} were answered, {refused} refused, {ended} ended their channel");
    assert!(answered > 20 && refused > 20 && ended > 20, "{answered} {refused} {ended}");
    for one in siege.scene.upstream.received() {
        let with_key = |text: &str| text.contains(&siege.scene.key);
        assert!(!with_key(&one.head.start_line), "{}", one.head.start_line);
        for (name, value) in &one.head.fields {
            let value = String::from_utf8_lossy(value);
            assert!(
                !with_key(&value)
                    || name.eq_ignore_ascii_case("authorization") && value == format!("Bearer {}", siege.scene.key),
                "the key in {name}: {value}"
            );
            assert!(!value.contains(&busy), "a placeholder went out in {name}");
        }
    }
    assert_eq!(siege.scene.strongroom.keyd(), keyd, "the same process");
    siege.hold();
}

/// A head is held whole before it is judged: all that are on their way share a room.
#[test]
fn heads_that_never_end_fill_no_memory() {
    let siege = Siege::lay();
    let keyd = siege.scene.strongroom.keyd();
    let before = process::resident(keyd);
    let length = 256 * 1024u32;
    let [_, a, b, c] = length.to_be_bytes();
    let mut channels = Vec::new();
    for _ in 0..500 {
        let mut channel = siege.failing(DialFailure::Unreachable);
        // keyd may end it before it has taken all.
        let _ = channel.raw(&[HEAD, a, b, c]).and_then(|()| channel.raw(&vec![0; length as usize - 1]));
        channels.push(channel);
    }
    let grown = process::resident(keyd).saturating_sub(before);
    assert!(grown < 64 << 20, "keyd grew by {grown} bytes");
    drop(channels);
    // A large head is a good head where there is room.
    within(Duration::from_secs(20), "room is given back", || {
        let large = siege.ask("/large").field("x-large", "x".repeat(60_000));
        siege.dial().ask(&large).status().eq(&Some(200)).then_some(())
    });
    siege.hold();
}

/// Replies wait until they are read; a gateway that never reads is ended and not stored for.
#[test]
fn a_gateway_that_never_reads_is_ended() {
    let siege = Siege::lay();
    let keyd = siege.scene.strongroom.keyd();
    let before = process::resident(keyd);
    let deaf = Hostile::connect(&siege.scene.strongroom, &siege.loot);
    let bytes = packet(&open(1));
    let mut sent = 0usize;
    while deaf.packet(&bytes, &[]).is_ok() {
        sent += 1;
        assert!(sent < 1_000_000, "no end of it");
        if sent.is_multiple_of(1000) {
            assert!(admin_answers(siege.scene.strongroom.home()) < Duration::from_secs(5));
        }
    }
    assert!(sent > 1000, "it was listened to for a while: {sent}");
    let grown = process::resident(keyd).saturating_sub(before);
    assert!(grown < 32 << 20, "keyd grew by {grown} bytes");
    siege.hold();
}

#[test]
fn a_channel_may_be_dropped_at_any_moment() {
    let siege = Siege::lay();
    let head = siege.ask("/dropped").with_body().payload();
    let length = u32::try_from(head.len()).unwrap().to_be_bytes();
    let bytes = [&[HEAD], &length[1..], &head, &[2, 0, 0, 5], b"hello", &[3, 0, 0, 0]].concat();
    for at in (0..=bytes.len()).step_by(3).chain([bytes.len()]) {
        let mut channel = siege.dial();
        let _ = channel.raw(&bytes[..at]);
        if at % 2 == 0 {
            // Some are left hanging in front of the last byte for a moment, some go at once.
            let _ = channel.within(Duration::from_millis(1));
        }
    }
    siege.hold();
}

#[test]
fn silence_holds_up_nobody() {
    let siege = Siege::lay();
    let mut silent: Vec<Channel> = (0..60).map(|_| siege.dial()).collect();
    for (index, channel) in silent.iter_mut().enumerate() {
        let payload = siege.ask("/silent").with_body().payload();
        let _ = match index % 3 {
            0 => Ok(()),
            1 => channel.raw(&[HEAD, 0]),
            _ => channel.frame(HEAD, &payload),
        };
    }
    for _ in 0..5 {
        assert!(admin_answers(siege.scene.strongroom.home()) < Duration::from_secs(5));
        assert_eq!(siege.scene.get("/openai/x").send().status(), 200);
    }
    siege.hold();
}
