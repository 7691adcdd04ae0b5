//! Whoever can choose what an upstream says back, and when it stops, guesses the key byte by byte: in vain.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use strongroom_protocol::channel::frames::Frame;
use strongroom_tests::hostile::HEAD;

use super::*;

/// What the attacker sees of an answer that has a guess in it and may stall: kinds of frames, and for each of their bytes
/// whether it is masked. What it said itself it knows.
type Sight = Vec<(u8, Vec<bool>)>;

fn sight(frames: Vec<Frame>) -> Sight {
    let masks = |bytes: &[u8]| bytes.iter().map(|byte| *byte == b'*').collect();
    let mut sight: Sight = Vec::new();
    for frame in frames {
        let (kind, seen): (u8, Vec<bool>) = match frame {
            Frame::Head(payload) => (1, masks(&payload)),
            Frame::Data(data) => (2, masks(&data)),
            Frame::End(payload) => (3, masks(&payload)),
            Frame::Continue => (4, Vec::new()),
        };
        match sight.last_mut() {
            // Two of the same kind after each other are one: where TLS was cut is chance.
            Some((2, before)) if kind == 2 => before.extend(seen),
            _ => sight.push((kind, seen)),
        }
    }
    sight
}

/// Says a guess back in the way that its target asks for, and stalls until it is told to end.
fn parrot(go_on: Arc<Mutex<mpsc::Receiver<()>>>) -> impl Fn(&mut Exchange<'_>) -> std::io::Result<()> {
    move |exchange| {
        let Some(way) = exchange.head().target().strip_prefix("/say/").map(str::to_owned) else {
            return echo(exchange);
        };
        let text = exchange.body()?;
        match &*way {
            "stalled" => {
                exchange.begin("200 OK", &[("content-type", "text/plain")])?;
                exchange.chunk(&[b"before ", &text[..]].concat())?;
                go_on.lock().unwrap().recv().map_err(std::io::Error::other)?;
                exchange.abort();
            }
            "cut" => {
                exchange.begin("200 OK", &[("content-type", "text/plain")])?;
                exchange.chunk(&[b"before ", &text[..]].concat())?;
                exchange.abort();
            }
            "bytewise" => {
                exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
                for byte in &text {
                    exchange.chunk(&[*byte])?;
                }
                exchange.abort();
            }
            "field" => {
                let value = String::from_utf8_lossy(&text).into_owned();
                exchange.respond("200 OK", &[("x-said", &value)], b"")?;
            }
            "name" => exchange.respond("200 OK", &[(&format!("x-{}", String::from_utf8_lossy(&text)), "1")], b"")?,
            "reason" => exchange.respond(&format!("200 {}", String::from_utf8_lossy(&text)), &[], b"")?,
            _ => exchange.respond("200 OK", &[("content-type", "text/plain")], &text)?,
        }
        Ok(())
    }
}

/// For each way of saying back and each length of what is known, the right next byte looks like wrong ones, but for one
/// at a clean end.
#[test]
fn the_next_byte_of_the_key_looks_like_any_other() {
    let (say, go_on) = mpsc::channel();
    let scene = Scene::with(parrot(Arc::new(Mutex::new(go_on))));
    let siege = Siege::before(scene);
    let key = siege.scene.key.clone().into_bytes();
    siege.scene.strongroom.must(&["agent", "add", "busy"]);
    let busy = siege.scene.grant(CREDENTIAL, "busy", &["--rate", "1000000/hour", "--burst", "100000"]);
    let look = |way: &str, guess: &[u8]| {
        let mut channel = siege.dial();
        let ask = Ask::bearer("POST", &format!("/say/{way}"), &busy).with_body();
        channel.frame(HEAD, &ask.payload()).unwrap();
        channel.frame(strongroom_tests::hostile::DATA, guess).unwrap();
        channel.frame(strongroom_tests::hostile::END, b"").unwrap();
        let mut frames = Vec::new();
        if way == "stalled" {
            while frames.iter().filter(|frame| matches!(frame, Frame::Data(_))).count() == 0 {
                frames.push(channel.next_frame().expect("the text before the guess"));
            }
            // Nothing more may come, however long it stalls; then it is cut.
            frames.extend(channel.within(Duration::from_millis(20)));
            say.send(()).unwrap();
        }
        while let Some(frame) = channel.next_frame() {
            let is_end = matches!(frame, Frame::End(_));
            frames.push(frame);
            if is_end {
                break;
            }
            if let [Frame::Head(payload)] = &frames[..]
                && payload[0] & 1 == 0
            {
                break;
            }
        }
        frames
    };
    let mut told = 0;
    for way in ["stalled", "cut", "bytewise", "whole", "field", "name", "reason"] {
        let mut places = Vec::new();
        // The last byte would make it whole.
        for known in 1..key.len() - 1 {
            let seen = |last: u8| {
                let guess = [&key[..known], &[last]].concat();
                // Field names are of one case.
                sight(look(way, &if way == "name" { guess.to_ascii_lowercase() } else { guess }))
            };
            let right = seen(key[known]);
            assert!(!right.is_empty());
            let others = key.iter().rev().filter(|byte| !byte.eq_ignore_ascii_case(&key[known]));
            for wrong in others.take(rounds(2, key.len())) {
                if right != seen(*wrong) {
                    places.push(known);
                }
                told += 1;
            }
        }
        // A clean end masks what begins as the key does: so much shows where that is enough for the first time, and nothing
        // behind it.
        places.dedup();
        assert_eq!(places.len(), usize::from(way == "whole"), "{way}: {places:?}");
        assert!(places.iter().all(|known| *known > key.len() / 3), "{way}: {places:?}");
    }
    assert!(told > 400, "{told} guesses were compared");
    // Such a comparison notices a mask: the whole key differs from one whose last byte is wrong.
    for way in ["whole", "field", "reason"] {
        let wrong = [&key[..key.len() - 1], if key.ends_with(b"a") { b"b" } else { b"a" }].concat();
        assert_ne!(sight(look(way, &key)), sight(look(way, &wrong)), "{way}");
    }
    // The twin: the whole key is seen to be masked, in each way that is a whole.
    for way in ["whole", "field", "reason"] {
        let frames = look(way, &key);
        let all: Vec<u8> = frames
            .iter()
            .flat_map(|frame| match frame {
                Frame::Head(bytes) | Frame::Data(bytes) => bytes.to_vec(),
                _ => Vec::new(),
            })
            .collect();
        assert!(memchr::memmem::find(&all, &b"*".repeat(key.len())).is_some(), "{way}");
    }
    // The attacker said pieces of the key himself, so the loot holds them; nothing else is looked at here.
    assert_eq!(siege.scene.get("/openai/honest").send().status(), 200);
}

/// The upstream waits with its answer until the key was rotated, and then says the new one in its head.
#[test]
fn a_key_that_is_added_while_an_answer_is_awaited_is_masked_in_it() {
    let (say, go_on) = mpsc::channel::<String>();
    let (go_on, waiting) = (Mutex::new(go_on), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let waits = waiting.clone();
    let siege = Siege::before(Scene::with(move |exchange| {
        if exchange.head().target() != "/late" {
            return echo(exchange);
        }
        waits.store(true, std::sync::atomic::Ordering::SeqCst);
        let key = go_on.lock().unwrap().recv().map_err(std::io::Error::other)?;
        exchange.begin("200 OK", &[("x-key", &key), ("trailer", "x-late")])?;
        exchange.chunk(format!("{key}\n").as_bytes())?;
        exchange.end(&[("x-late", &key)])
    }));
    let mut channel = siege.dial();
    channel.frame(HEAD, &siege.ask("/late").payload()).unwrap();
    within(Duration::from_secs(20), "the upstream has the request", || {
        waiting.load(std::sync::atomic::Ordering::SeqCst).then_some(())
    });
    let new = strongroom_tests::strongroom::random_key("sk-");
    siege.scene.strongroom.must_with(&["credential", "rotate", CREDENTIAL], new.as_bytes());
    say.send(new.clone()).unwrap();
    let Heard::Answer(answer) = channel.hear() else { panic!("no answer") };
    assert_eq!(answer.head.fields["x-key"].as_bytes(), "*".repeat(new.len()).as_bytes());
    assert_eq!(answer.body, format!("{}\n", "*".repeat(new.len())).into_bytes());
    siege.hold_with(&[&new]);
}

/// No refusal tells more than its code: neither where a guess was nearly right, nor how the vault is filled.
#[test]
fn refusals_say_their_code_and_no_more() {
    let siege = Siege::lay();
    let placeholder = siege.scene.placeholder.clone();
    let heads = |asks: Vec<Ask>| -> Vec<(Refusal, usize)> {
        asks.iter()
            .map(|ask| {
                let mut channel = siege.dial();
                channel.frame(HEAD, &ask.payload()).unwrap();
                let Some(Frame::Head(payload)) = channel.next_frame() else { panic!("no refusal") };
                let head = strongroom_protocol::channel::head::AnswerHead::decode(payload.clone()).unwrap();
                assert!(!head.has_body, "{head:?}");
                let code = head.fields[strongroom_protocol::channel::REFUSAL].to_str().unwrap().parse().unwrap();
                (code, payload.len())
            })
            .collect()
    };
    // From one character that is wrong to all of them.
    let near: Vec<Ask> = (0..placeholder.len())
        .map(|at| {
            let mut guess = placeholder.clone().into_bytes();
            guess[at..].iter_mut().for_each(|byte| *byte = if *byte == b'a' { b'b' } else { b'a' });
            Ask::bearer("GET", "/x", &String::from_utf8(guess).unwrap())
        })
        .collect();
    let said = heads(near);
    assert!(said.iter().all(|one| *one == (Refusal::UnknownPlaceholder, said[0].1)), "{said:?}");
    siege.hold();
}

/// Says the body back, and tells the key by the clock where it is asked to: what a comparison byte by byte would do.
fn leaky(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    if exchange.head().target() != "/leaky" {
        return echo(exchange);
    }
    let text = exchange.body()?;
    let key = exchange.head().value("authorization").unwrap_or_default().replace("Bearer ", "");
    let guess = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    if key.as_bytes().starts_with(guess) {
        std::thread::sleep(Duration::from_millis(2));
    }
    exchange.respond("200 OK", &[], &text)
}

/// A guesser with a clock: for each beginning of the key that it is given, it says the right next byte and five wrong ones,
/// two hundred times over each, in rounds, and takes the one with the longest median for right; or the one with the
/// shortest. Gives how often either was.
fn right_by_the_clock(siege: &Siege, target: &str, placeholder: &str) -> [usize; 2] {
    let key = siege.scene.key.as_bytes();
    let ask = Ask::bearer("POST", target, placeholder);
    let mut channel = siege.dial();
    let mut right = [0, 0];
    for guess in 0..GUESSES {
        let known = 1 + guess % LONGEST_KNOWN;
        let mut last = vec![key[known]];
        // Other ones for each guess.
        for byte in key.iter().cycle().skip(guess) {
            if last.len() < CANDIDATES && !last.contains(byte) {
                last.push(*byte);
            } else if last.len() == CANDIDATES {
                break;
            }
        }
        let mut times = vec![Vec::new(); CANDIDATES];
        for turn in 0..ROUNDS * CANDIDATES {
            // Another one begins each round.
            let at = (turn + turn / CANDIDATES) % CANDIDATES;
            let body = [&key[..known], &[last[at]], b" "].concat().repeat(200);
            let begin = Instant::now();
            let heard = channel.ask_with(&ask, &body);
            times[at].push(begin.elapsed());
            assert!(is_whole(&heard), "{heard:?}");
        }
        let medians: Vec<Duration> = times
            .iter_mut()
            .map(|times| {
                times.sort_unstable();
                times[ROUNDS / 2]
            })
            .collect();
        right[0] += usize::from(medians.iter().max() == medians.first());
        right[1] += usize::from(medians.iter().min() == medians.first());
    }
    right
}

#[test]
fn the_time_of_an_answer_tells_no_byte_of_the_key() {
    let siege = Siege::before(Scene::with(leaky));
    siege.scene.strongroom.must(&["agent", "add", "busy"]);
    let busy = siege.scene.grant(CREDENTIAL, "busy", &["--rate", "1000000/hour", "--burst", "100000"]);
    let [longest, _] = right_by_the_clock(&siege, "/leaky", &busy);
    assert!(longest >= BEYOND_CHANCE, "such a guesser sees what is to be seen: {longest} of {GUESSES}");
    let right = right_by_the_clock(&siege, "/said", &busy);
    eprintln!("{longest} of {GUESSES} right where the upstream tells, {right:?} where keyd alone could");
    assert!(right.iter().all(|right| *right < BEYOND_CHANCE), "{right:?} of {GUESSES}");
    // The attacker said pieces of the key itself, so the loot holds them.
    assert_eq!(siege.scene.get("/openai/honest").send().status(), 200);
}

/// Guesses of one run. Chance is right in one of six: 5 of them, give or take 2.
const GUESSES: usize = 32;
/// Next bytes that are compared for a guess.
const CANDIDATES: usize = 6;
/// Times that each is said.
const ROUNDS: usize = 9;
/// Where more is known, a clean end masks the beginning, and that may be seen.
const LONGEST_KNOWN: usize = 16;
/// What chance reaches in fewer than one of ten thousand runs.
const BEYOND_CHANCE: usize = GUESSES / 2;
