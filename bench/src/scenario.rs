//! What is measured: one kind of exchange, over so many connections at once.
//!
//! It refuses to hold a figure: the goals are in `report`. Used by `measure`, `load`, and by `upstream` for the targets.

use std::time::Duration;

/// One kind of exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// As it is asked for with `--only`.
    pub name: &'static str,
    /// As it stands in the tables.
    pub title: &'static str,
    /// The request's target at the upstream.
    pub target: &'static str,
    /// Bytes of the request's body.
    pub upload: u64,
    /// Bytes of the answer's body, which are checked.
    pub answer: u64,
    /// Connections at once.
    pub connections: usize,
    /// A new connection for each request, on both sides of whoever stands in the middle.
    pub cold: bool,
    /// How long, or how often.
    pub amount: Amount,
    /// What its figures are about.
    pub unit: Unit,
}

/// When a measurement ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// After this time; what ended in it counts.
    Time(Duration),
    /// After so many exchanges of each connection.
    Count(u64),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Request,
    /// Streams of events.
    Stream,
    /// Bytes of one body.
    Bulk,
}

/// All of them, in the order of the tables.
pub const ALL: &[Scenario] = &[
    Scenario { name: "json-1", title: "1 KiB JSON, 1 connection", connections: 1, ..JSON },
    Scenario { name: "json-16", title: "1 KiB JSON, 16 connections", connections: 16, ..JSON },
    Scenario { name: "json-64", title: "1 KiB JSON, 64 connections", connections: 64, ..JSON },
    Scenario {
        name: "post",
        title: "POST of 4 KiB, 16 connections",
        target: "/post",
        upload: 4096,
        answer: SMALL,
        connections: 16,
        ..JSON
    },
    Scenario { name: "sse", title: "SSE, 200 events of 100 bytes, 16 at once", connections: 16, ..SSE },
    Scenario {
        name: "sse-paced",
        title: "SSE, 50 events 5 ms apart, 16 at once",
        target: "/sse-paced",
        answer: PACED_EVENTS * EVENT,
        connections: 16,
        ..SSE
    },
    Scenario {
        name: "sse-first",
        title: "SSE, to the first event, 1 connection",
        target: "/sse-first",
        answer: FIRST_EVENTS * EVENT,
        connections: 1,
        amount: Amount::Time(Duration::from_millis(700)),
        ..SSE
    },
    Scenario {
        name: "down",
        title: "64 MiB down, 1 connection",
        target: "/down",
        answer: BULK,
        connections: 1,
        amount: Amount::Count(3),
        unit: Unit::Bulk,
        ..JSON
    },
    Scenario {
        name: "up",
        title: "64 MiB up, 1 connection",
        target: "/up",
        upload: BULK,
        answer: SMALL,
        connections: 1,
        amount: Amount::Count(3),
        unit: Unit::Bulk,
        ..JSON
    },
    Scenario {
        name: "cold",
        title: "cold first request: new connections, full TLS handshake",
        target: "/close",
        connections: 1,
        cold: true,
        amount: Amount::Time(Duration::from_millis(700)),
        ..JSON
    },
];

const JSON: Scenario = Scenario {
    name: "",
    title: "",
    target: "/json",
    upload: 0,
    answer: 1024,
    connections: 1,
    cold: false,
    amount: Amount::Time(Duration::from_millis(1200)),
    unit: Unit::Request,
};

const SSE: Scenario = Scenario { target: "/sse", answer: EVENTS * EVENT, unit: Unit::Stream, ..JSON };

/// Bytes of one event.
pub const EVENT: u64 = 100;
/// Events of a stream.
pub const EVENTS: u64 = 200;
/// Events of a stream whose events come with time in between.
pub const PACED_EVENTS: u64 = 50;
/// The time in between.
pub const PACE: Duration = Duration::from_millis(5);
/// Events of a stream of which the first is looked at.
pub const FIRST_EVENTS: u64 = 2;
/// Bytes of the answer to an upload.
pub const SMALL: u64 = 64;
/// Bytes of a large body.
pub const BULK: u64 = 64 * 1024 * 1024;
