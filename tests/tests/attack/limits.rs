//! More than a grant gives: more requests, for longer, back again, at one time.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use strongroom_protocol::exchange::{DialFailure, Upstream as Dialled};
use strongroom_tests::h2_upstream::{REFUSED_STREAM, by_hand};
use strongroom_tests::hostile::HEAD;

use super::*;

/// Three requests, and no more for an hour.
pub fn scarce(siege: &Siege) -> String {
    siege.scene.strongroom.must(&["agent", "add", "scarce"]);
    siege.scene.grant(CREDENTIAL, "scarce", &["--rate", "3/hour"])
}

#[test]
fn many_channels_at_once_get_no_more_than_one() {
    let siege = Siege::lay();
    let placeholder = scarce(&siege);
    let before = siege.scene.upstream.count();
    let mut channels: Vec<Channel> = (0..24).map(|_| siege.dial()).collect();
    for channel in &mut channels {
        channel.frame(HEAD, &Ask::bearer("GET", "/at-once", &placeholder).payload()).unwrap();
    }
    let heard: Vec<Heard> = channels.iter_mut().map(Channel::hear).collect();
    assert_eq!(heard.iter().filter(|heard| heard.status() == Some(200)).count(), 3, "{heard:?}");
    assert_eq!(heard.iter().filter(|heard| heard.refusal() == Some(Refusal::RateLimited)).count(), 21, "{heard:?}");
    assert_eq!(siege.scene.upstream.count(), before + 3);
    siege.hold();
}

/// A gateway that hangs up, refuses to read or breaks the upstream's connection gets nothing back.
#[test]
fn a_use_that_is_dropped_is_a_use() {
    let siege = Siege::lay();
    let placeholder = scarce(&siege);
    let before = siege.scene.upstream.count();
    for way in 0..3 {
        let mut channel = siege.dial();
        channel.frame(HEAD, &Ask::bearer("GET", "/dropped", &placeholder).payload()).unwrap();
        within(Duration::from_secs(20), "the request is under way", || {
            (siege.scene.upstream.count() > before + way).then_some(())
        });
        if way == 1 {
            channel.upstream.as_ref().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
        }
    }
    let heard = siege.dial().ask(&Ask::bearer("GET", "/fourth", &placeholder));
    assert_eq!(heard.refusal(), Some(Refusal::RateLimited), "{heard:?}");
    siege.hold();
}

/// An upstream that has served may say that it has not looked at a request, and then it was no use. However many say so at
/// once, and whoever hangs up meanwhile: nobody gets more back than was taken.
#[test]
fn uses_that_many_channels_get_back_at_once_are_those_that_were_taken() {
    const ALL: usize = 20;
    const CHANNELS: usize = 12;
    let siege = Siege::lay();
    let served = Arc::new(AtomicUsize::new(0));
    let answered = served.clone();
    let upstream = by_hand(&siege.scene.root, move |wire| {
        let (stream, _) = wire.request()?;
        answered.fetch_add(1, Ordering::SeqCst);
        wire.answer(stream, b"served")?;
        loop {
            let (stream, _) = wire.request()?;
            wire.reset(stream, REFUSED_STREAM)?;
        }
    });
    let key = siege.scene.add_credential("second", &["--host", HOST, "--bearer", "--http2"]);
    for hangs_up in [false, true] {
        let agent = if hangs_up { "hasty" } else { "patient" };
        siege.scene.strongroom.must(&["agent", "add", agent]);
        let placeholder = siege.scene.grant("second", agent, &["--rate", &format!("{ALL}/hour")]);
        let ask = || Ask::bearer("GET", "/unseen", &placeholder);
        let before = served.load(Ordering::SeqCst);
        let mut channels: Vec<_> = (0..CHANNELS).map(|_| siege.gateway.dial(HOST, upstream.address())).collect();
        for channel in &mut channels {
            assert_eq!(channel.ask(&ask()).status(), Some(200));
        }
        for channel in &mut channels {
            channel.frame(HEAD, &ask().payload()).unwrap();
        }
        if hangs_up {
            drop(channels);
        } else {
            let heard: Vec<_> = channels.iter_mut().map(Channel::hear).collect();
            let unseen = heard.iter().filter(|heard| matches!(heard, Heard::Stale)).count();
            let refused = heard.iter().filter(|heard| heard.refusal() == Some(Refusal::RateLimited)).count();
            assert!(unseen >= ALL - CHANNELS && unseen + refused == CHANNELS, "{heard:?}");
        }
        let last = (0..=ALL).map(|_| siege.gateway.dial(HOST, upstream.address()).ask(&ask()));
        let last = last.into_iter().find(|heard| heard.status() != Some(200));
        assert_eq!(last.and_then(|heard| heard.refusal()), Some(Refusal::RateLimited));
        let uses = served.load(Ordering::SeqCst) - before;
        if hangs_up {
            assert!((CHANNELS..=ALL).contains(&uses), "{uses}");
        } else {
            assert_eq!(uses, ALL, "what was no use can be used");
        }
    }
    siege.hold_with(&[&key]);
}

/// What a gateway says of its dial costs the agent nothing, and gives it nothing either.
#[test]
fn failures_that_are_made_up_reach_no_upstream_and_take_no_use() {
    let siege = Siege::lay();
    let placeholder = scarce(&siege);
    let before = siege.scene.upstream.count();
    for (failure, refusal) in [
        (DialFailure::Unreachable, Refusal::UpstreamUnreachable),
        (DialFailure::ForbiddenAddress, Refusal::UpstreamForbiddenAddress),
        (DialFailure::TimedOut, Refusal::UpstreamTimeout),
    ] {
        for _ in 0..3 {
            let mut channel = siege.failing(failure);
            let heard = channel.ask(&Ask::bearer("GET", "/made-up", &placeholder));
            assert_eq!(heard.refusal(), Some(refusal));
            let heard = siege.failing(failure).ask(&Ask::bearer("GET", "/made-up", "unknown-placeholder"));
            assert_eq!(heard.refusal(), Some(Refusal::UnknownPlaceholder), "policy comes first");
        }
    }
    assert_eq!(siege.scene.upstream.count(), before);
    assert_eq!(siege.dial().ask(&Ask::bearer("GET", "/x", &placeholder)).status(), Some(200));
    siege.hold();
}

impl Siege {
    pub fn failing(&self, failure: DialFailure) -> Channel {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let verdict = self.gateway.offer(HOST, Dialled::Failed(failure), &[theirs.as_fd()]);
        assert_eq!(verdict, Ok(()));
        Channel::new(ours, theirs, None, self.loot.clone())
    }
}

/// An answer without end, one line at a time.
fn endless(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    if exchange.head().target() != "/endless" {
        return echo(exchange);
    }
    exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
    loop {
        exchange.chunk(b"data: still here\n\n")?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_was_taken_away_ends_whatever_the_gateway_holds_on_to() {
    let siege = Siege::before(Scene::with(endless));
    siege.scene.strongroom.must(&["agent", "add", "brief"]);
    let brief = siege.scene.grant(CREDENTIAL, "brief", &["--expires", "3s"]);
    siege.scene.strongroom.must(&["agent", "add", "gone"]);
    let gone = siege.scene.grant(CREDENTIAL, "gone", &[]);
    for (placeholder, refusal) in [(&brief, Refusal::Expired), (&gone, Refusal::Revoked)] {
        let mut channel = siege.dial();
        // Duplicates of everything stay open here.
        let _duplicates =
            (channel.theirs.try_clone().unwrap(), channel.upstream.as_ref().unwrap().try_clone().unwrap());
        channel.frame(HEAD, &Ask::bearer("GET", "/endless", placeholder).payload()).unwrap();
        for _ in 0..3 {
            assert!(channel.next_frame().is_some(), "it streams");
        }
        if refusal == Refusal::Revoked {
            siege.scene.strongroom.must(&["agent", "revoke", "gone"]);
        }
        let begin = Instant::now();
        while channel.next_frame().is_some() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{refusal:?}: it goes on");
        }
        let heard = siege.dial().ask(&Ask::bearer("GET", "/again", placeholder));
        assert_eq!(heard.refusal(), Some(refusal));
    }
    siege.hold();
}
