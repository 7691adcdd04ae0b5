//! Requests and answers over a pair whose other end the test holds: what is in order, and what ends a channel.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

use super::*;

/// Our link, and the other end.
fn pair() -> (Rc<Link>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    (Link::new(PassedSocket::new(OwnedFd::from(ours)).expect("a socket"), Memory::of(100_000)), theirs)
}

fn say(mut stream: &UnixStream, frames: &[(Kind, &[u8])]) {
    let mut encoder = Encoder::default();
    for (kind, payload) in frames {
        encoder.push(*kind, Bytes::copy_from_slice(payload)).expect("within limits");
    }
    let mut slices = [IoSlice::new(&[]); 16];
    let count = encoder.slices(&mut slices);
    slices[..count].iter().for_each(|slice| stream.write_all(slice).expect("room"));
}

fn head(has_body: bool, fields: &[(&'static str, &'static str)]) -> Vec<u8> {
    let fields =
        fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
    let target = "/v1".parse().expect("a target");
    RequestHead { has_body, method: Method::POST, target, fields: HeaderMap::from_iter(fields) }.encode().to_vec()
}

async fn has_hung_up(link: &Link) -> bool {
    timeout(Duration::from_millis(50), link.hung_up()).await.is_ok()
}

fn fine() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"fine")))
}

#[tokio::test(flavor = "current_thread")]
async fn a_link_that_retires_says_so_in_front_of_its_end() {
    let (link, mut theirs) = pair();
    // A request that is on its way already is not looked at, and the word comes all the same.
    say(&theirs, &[(Kind::Head, &head(false, &[]))]);
    link.retire();
    drop(link);
    let mut word = [0; 4];
    theirs.read_exact(&mut word).expect("the word");
    assert_eq!(word, [3, 0, 0, 0]);
}

#[tokio::test(flavor = "current_thread")]
async fn requests_follow_each_other() {
    let (link, theirs) = pair();
    for body in [&b"one"[..], b""] {
        let mut frames = vec![(Kind::Head, head(!body.is_empty(), &[]))];
        if !body.is_empty() {
            frames.extend([(Kind::Data, body.to_vec()), (Kind::End, Vec::new())]);
        }
        say(&theirs, &frames.iter().map(|(kind, payload)| (*kind, &payload[..])).collect::<Vec<_>>());
        let request = link.request().await.expect("a request");
        assert_eq!(request.into_body().collect().await.expect("whole").to_bytes(), body);
        assert!(!has_hung_up(&link).await);
        assert_eq!(link.answer(fine()).await, Ok(true));
    }
    drop(theirs);
    assert!(link.request().await.is_none());
}

#[tokio::test(flavor = "current_thread")]
async fn a_head_that_frames_its_body_otherwise_ends_the_channel() {
    let cases: [(bool, &[(&str, &str)]); 3] = [
        (false, &[("content-length", "300")]),
        (true, &[("content-length", "3"), ("content-length", "300")]),
        (true, &[("transfer-encoding", "chunked")]),
    ];
    for (has_body, fields) in cases {
        let (link, theirs) = pair();
        say(&theirs, &[(Kind::Head, &head(has_body, fields))]);
        assert!(link.request().await.is_none(), "{fields:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_comes_out_of_order_is_a_hang_up() {
    for (has_body, more) in [(false, Kind::Head), (false, Kind::Data), (false, Kind::End), (false, Kind::Continue)] {
        let (link, theirs) = pair();
        let payload = if more == Kind::Data { &b"x"[..] } else { b"" };
        say(&theirs, &[(Kind::Head, &head(has_body, &[])), (more, payload)]);
        let _request = link.request().await.expect("a request");
        assert!(has_hung_up(&link).await, "{more:?}");
    }
    let (link, theirs) = pair();
    say(&theirs, &[(Kind::Head, &head(true, &[])), (Kind::Head, &head(false, &[]))]);
    let request = link.request().await.expect("a request");
    assert!(request.into_body().collect().await.is_err(), "a head is no body");
    assert!(has_hung_up(&link).await);
}

/// Though the answer was there at once, and nobody looked for a hang-up.
#[tokio::test(flavor = "current_thread")]
async fn whoever_asks_again_before_the_answer_gets_none() {
    let next = head(false, &[]);
    let body: [(Kind, &[u8]); 2] = [(Kind::Data, b"some"), (Kind::End, b"")];
    for (has_body, more) in [(false, &next[..]), (false, &next[..1]), (true, &next[..])] {
        let (link, mut theirs) = pair();
        let first = head(has_body, &[("host", "x")]);
        let frames: Vec<_> =
            [(Kind::Head, &first[..])].into_iter().chain(body.into_iter().filter(|_| has_body)).collect();
        say(&theirs, &[&frames[..], &[(Kind::Head, more)]].concat());
        let mut request = link.request().await.expect("a request").into_body();
        if has_body {
            request.frame().await.expect("a piece").expect("in order");
        }
        drop(request);
        assert_eq!(link.answer(fine()).await, Err(Broken), "{has_body} {}", more.len());
        drop(link);
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).expect("our end");
        assert!(heard.is_empty(), "{heard:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_that_was_there_already_waits_for_the_next_turn() {
    let (link, theirs) = pair();
    say(&theirs, &[(Kind::Head, &head(false, &[])), (Kind::Head, &head(false, &[]))]);
    // Until the runtime has looked at the socket.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        let mut next = std::pin::pin!(link.request());
        let polls = (0..10).position(|_| next.as_mut().poll(&mut context).is_ready());
        assert!(polls.is_some_and(|polls| polls > 0), "{polls:?}");
    }
    let mut next = std::pin::pin!(link.request());
    assert!(next.as_mut().poll(&mut context).is_pending());
    say(&theirs, &[(Kind::Head, &head(false, &[]))]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(next.as_mut().poll(&mut context).is_ready(), "one that was waited for waits no more");
}

#[tokio::test(flavor = "current_thread")]
async fn frames_that_lie_ready_are_handed_on_in_more_than_one_turn() {
    let (link, theirs) = pair();
    say(&theirs, &[(Kind::Head, &head(true, &[]))]);
    let mut body = link.request().await.expect("a request").into_body();
    (&theirs).write_all(&[2, 0, 0, 1, b'x'].repeat(1000)).expect("room");
    let (mut most, mut pieces) = (0, 0);
    while pieces < 1000 {
        let mut now = 0;
        poll_fn(|cx| {
            while pieces + now < 1000
                && let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx)
            {
                frame.expect("a piece").expect("in order");
                now += 1;
            }
            Poll::Ready(())
        })
        .await;
        (most, pieces) = (most.max(now), pieces + now);
        yield_now().await;
    }
    assert!((2..=128).contains(&most), "{most} at once");
}

/// An answer in pieces of a byte, each there at once.
struct Crumbs(usize);

impl Body for Crumbs {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<BodyFrame<Bytes>, Broken>>> {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or_default();
        Poll::Ready(left.map(|_| Ok(BodyFrame::data(Bytes::from_static(b"x")))))
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_in_small_pieces_has_no_more_than_its_turn() {
    let (link, theirs) = pair();
    say(&theirs, &[(Kind::Head, &head(false, &[]))]);
    link.request().await.expect("a request");
    let mut answer = std::pin::pin!(link.answer(Response::new(Crumbs(1000))));
    let mut context = Context::from_waker(Waker::noop());
    let polls = (0..20).position(|_| answer.as_mut().poll(&mut context).is_ready());
    assert!(polls.is_some_and(|polls| polls >= 3), "{polls:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_hang_up_shows_behind_a_body_that_nobody_wants() {
    let (link, theirs) = pair();
    say(&theirs, &[(Kind::Head, &head(true, &[])), (Kind::Data, b"some")]);
    drop(link.request().await.expect("a request"));
    assert!(!has_hung_up(&link).await);
    say(&theirs, &[(Kind::Data, b"more"), (Kind::End, b"")]);
    assert!(!has_hung_up(&link).await, "the positive twin");
    assert_eq!(link.answer(fine()).await, Ok(false), "what was thrown away was part of a request");
    drop(theirs);
    assert!(has_hung_up(&link).await);
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_whose_end_alone_was_left_spoils_nothing() {
    let (link, theirs) = pair();
    say(&theirs, &[(Kind::Head, &head(true, &[("content-length", "4")])), (Kind::Data, b"some")]);
    let mut body = link.request().await.expect("a request").into_body();
    body.frame().await.expect("a piece").expect("in order");
    drop(body);
    say(&theirs, &[(Kind::End, b"")]);
    assert!(!has_hung_up(&link).await);
    assert_eq!(link.answer(fine()).await, Ok(true));
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_that_outlives_its_request_leaves_the_next_one_alone() {
    let (link, theirs) = pair();
    say(&theirs, &[(Kind::Head, &head(true, &[])), (Kind::Data, b"one"), (Kind::End, b"")]);
    let mut old = link.request().await.expect("a request").into_body();
    old.frame().await.expect("a piece").expect("in order");
    assert_eq!(link.answer(fine()).await, Ok(true));
    say(&theirs, &[(Kind::Head, &head(true, &[])), (Kind::Data, b"two"), (Kind::End, b"")]);
    let new = link.request().await.expect("a request").into_body();
    assert!(old.frame().await.is_none());
    drop(old);
    assert_eq!(new.collect().await.expect("whole").to_bytes(), "two");
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_that_breaks_off_has_no_end() {
    let (link, mut theirs) = pair();
    let pieces = [Ok(BodyFrame::data(Bytes::from_static(b"half"))), Err(Broken)];
    assert_eq!(link.answer(Response::new(Pieces(pieces.into_iter()))).await, Err(Broken));
    drop(link);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).expect("what was written");
    assert!(bytes.ends_with(b"half"), "what came before goes out, and no end: {bytes:?}");
}

/// Pieces that are all there.
struct Pieces(std::array::IntoIter<Result<BodyFrame<Bytes>, Broken>, 2>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<BodyFrame<Bytes>, Broken>>> {
        Poll::Ready(self.0.next())
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_has_the_length_that_was_announced_or_breaks() {
    let cases: [(&'static str, &[&[u8]], bool); 6] = [
        ("5", &[b"hello"], true),
        ("5", &[b"he", b"llo"], true),
        ("5", &[b"hello", b"GET /smuggled"], false),
        ("5", &[b"hello GET /smuggled"], false),
        ("400", &[b"hello"], false),
        ("5", &[], false),
    ];
    for (length, pieces, is_good) in cases {
        for ends_apart in [false, true] {
            let (link, theirs) = pair();
            let head = head(true, &[("content-length", length)]);
            let mut frames = vec![(Kind::Head, &head[..])];
            frames.extend(pieces.iter().map(|piece| (Kind::Data, *piece)));
            if !ends_apart {
                frames.push((Kind::End, b""));
            }
            say(&theirs, &frames);
            let body = link.request().await.expect("a request").into_body();
            if ends_apart {
                say(&theirs, &[(Kind::End, b"")]);
            }
            assert_eq!(body.collect().await.is_ok(), is_good, "{length}: {pieces:?}");
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn large_heads_share_their_room() {
    let room = Memory::of(150_000);
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let link = Link::new(PassedSocket::new(OwnedFd::from(ours)).expect("a socket"), room.clone());
    let value: &'static str = Box::leak("x".repeat(60_000).into_boxed_str());
    let payload = head(false, &[("x-large", value)]);
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    theirs.write_all(&[&[1], &length[1..], &payload[..50_000]].concat()).expect("room");
    assert!(timeout(Duration::from_millis(50), link.request()).await.is_err(), "it waits for the rest");
    assert!(room.share(100_000).is_none(), "and has its share");
    theirs.write_all(&payload[50_000..]).expect("room");
    assert!(link.request().await.is_some());
    let share = link.take_share();
    assert!(room.share(40_000).is_none(), "it holds more than its bytes");
    drop(share);
    let all = room.share(150_000);
    assert!(all.is_some(), "it gives it back");
    theirs.write_all(&[1, 0, 0x60, 0, 0]).expect("room");
    assert!(link.request().await.is_none(), "and none is left for the next");
}

#[tokio::test(flavor = "current_thread")]
async fn a_head_of_many_small_fields_counts_as_a_large_one() {
    let many: Vec<_> = (0..500).map(|number| (&*format!("x{number}").leak(), "")).collect();
    for (fields, room, is_taken) in [(&many[..], 100_000, false), (&many, 200_000, true), (&many[..10], 0, true)] {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let link = Link::new(PassedSocket::new(OwnedFd::from(ours)).expect("a socket"), Memory::of(room));
        say(&theirs, &[(Kind::Head, &head(false, fields))]);
        assert_eq!(link.request().await.is_some(), is_taken, "{} fields, {room} bytes of room", fields.len());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_link_is_let_go_when_what_lies_there_was_read_or_nobody_can() {
    let answer = || Response::new(Full::new(Bytes::from(vec![b'x'; 20_000])));
    let (link, mut theirs) = pair();
    link.answer(answer()).await.expect("the pair takes it");
    assert!(timeout(Duration::from_millis(50), link.let_go()).await.is_err(), "nobody has read");
    theirs.read_to_end(&mut Vec::new()).expect("it has ended");
    assert!(timeout(Duration::from_secs(5), link.let_go()).await.is_ok());
    let (link, theirs) = pair();
    link.answer(answer()).await.expect("the pair takes it");
    drop(theirs);
    assert!(timeout(Duration::from_secs(5), link.let_go()).await.is_ok());
}
