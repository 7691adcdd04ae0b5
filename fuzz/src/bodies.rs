//! Answers' bodies: the scrubber, and the decoders in front of it.
//! Each function refuses nothing and panics where a property does not hold. Called through [`crate::TARGETS`].

use std::rc::Rc;

use bytes::Bytes;

use crate::exchange::decode::memory::Memory;
use crate::exchange::decode::{Coding, Decoding, Pulled};
use crate::exchange::scrub::patterns::Patterns;
use crate::exchange::scrub::stream::Stream;
use crate::policy::live::Live;
use crate::{fixture, pieces};

const KEY: &[u8] = b"sk-test-4f8a9b2c1d0e7f6a5b4c3d2e";
/// The same in hexadecimal digits, and in base64 at the start of a group.
const FORMS: &[&[u8]] = &[
    KEY,
    b"736b2d746573742d346638613962326331643065376636613562346333643265",
    b"c2stdGVzdC00ZjhhOWIyYzFkMGU3ZjZhNWI0YzNkMm",
];

thread_local! {
    static PATTERNS: Rc<Patterns> = {
        let mut contents = fixture::contents();
        fixture::credential(&mut contents, "one", "a.example", &[KEY, b"another+key/with=signs%and\\more"]);
        Rc::new(Patterns::new(&Rc::new(Live::new(contents)), &"a.example".parse().expect("an authority"), 0))
    };
}

/// Length stays, cuts change nothing, no form of the key is left, and what holds none is not touched. `\x01` and `\x02`
/// stand for forms of the key, so that a fuzzer finds them.
pub fn scrub(bytes: &[u8]) {
    let chunks: Vec<Vec<u8>> = pieces(bytes)
        .into_iter()
        .map(|piece| {
            let form = |byte: &u8| FORMS.get(usize::from(*byte)).map_or(vec![*byte], |form| form.to_vec());
            piece.iter().flat_map(form).collect()
        })
        .collect();
    let run = |chunks: &[Vec<u8>]| {
        let mut stream = Stream::new(PATTERNS.with(Rc::clone));
        let mut out: Vec<u8> =
            chunks.iter().flat_map(|chunk| stream.push(Bytes::from(chunk.clone())).concat()).collect();
        out.extend_from_slice(&stream.finish().0);
        out
    };
    let whole = chunks.concat();
    // Many short bodies find more than a few long ones: all that is held back is shorter than a quarter of this.
    if whole.len() > 8 << 10 {
        return;
    }
    let out = run(&chunks);
    assert_eq!(out, run(std::slice::from_ref(&whole)), "cuts change what comes out");
    assert_eq!(out.len(), whole.len());
    for form in FORMS {
        assert!(
            memchr::memmem::find(&out, form).is_none(),
            "a form of the key is left: {} of {}",
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&whole)
        );
    }
    let touched = out.iter().zip(&whole).any(|(after, before)| after != before);
    let kept = |(after, before): (&u8, &u8)| after == before || *after == b'*';
    assert!(out.iter().zip(&whole).all(kept), "only masks are written");
    let holds = FORMS.iter().any(|form| memchr::memmem::find(&whole, form).is_some());
    assert!(!holds || touched);
}

/// However cut, the same comes out, in bounded memory and time; the first byte chooses the codings.
pub fn decode(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let all = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];
    let mut codings = vec![all[usize::from(choice % 4)]];
    if choice & 0x80 != 0 {
        codings.push(all[usize::from(choice / 4 % 4)]);
    }
    let run = |chunks: &[&[u8]]| -> Result<(Vec<u8>, bool), ()> {
        let memory = Memory::of(64 << 20);
        let Some(mut decoding) = Decoding::new(&codings, &memory).map_err(drop)? else { return Err(()) };
        let mut out = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            decoding.push(Bytes::copy_from_slice(chunk));
            loop {
                let piece = match decoding.pull().map_err(drop)? {
                    Pulled::Piece(piece) => piece,
                    Pulled::Paused => continue,
                    Pulled::Nothing => break,
                };
                out.extend_from_slice(&piece);
                // The ratio's own limit is the decoder's; this one is the fuzzer's patience.
                if out.len() > MOST {
                    return Err(());
                }
            }
        }
        Ok((out, decoding.is_done()))
    };
    let chunks = pieces(rest);
    let whole = chunks.concat();
    assert_eq!(run(&chunks), run(&[&whole]), "cuts change what comes out");
}

const MOST: usize = 8 << 20;
