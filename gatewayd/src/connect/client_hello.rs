//! The name in a TLS client's first words, out of bytes as they come.
//!
//! Reads records and the ClientHello inside them (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3) and nothing behind it. There is
//! one way to read them here: an empty record, an alert in front, a second name, a length that does not fit make it no
//! hello at all, for the server behind the tunnel might read another name there. It refuses to judge the name, and to
//! hold more than [`MOST`]. Called by `hello_gate`.

/// What has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Too little to tell.
    More,
    /// No TLS.
    Other,
    /// A whole ClientHello, and the name as it stands there, where there is one.
    Hello(Option<Vec<u8>>),
    /// It begins as TLS does, and is no ClientHello that can be read in one way alone.
    Malformed,
}

/// Reads as bytes come, and keeps them.
#[derive(Debug, Default)]
pub struct FirstWords {
    held: Vec<u8>,
    /// Whole records, so far.
    read: usize,
    /// What was in them.
    message: Vec<u8>,
}

impl FirstWords {
    /// With these bytes behind the others; not to be called again once it gave anything but [`Seen::More`].
    pub fn push(&mut self, bytes: &[u8]) -> Seen {
        self.held.extend_from_slice(bytes);
        match self.held.as_slice() {
            [] => return Seen::More,
            [kind, ..] if !RECORDS.contains(kind) => return Seen::Other,
            [_] => return Seen::More,
            [_, major, ..] if *major != MAJOR => return Seen::Other,
            _ => {}
        }
        match self.read_records() {
            Some(Seen::More) if self.held.len() > MOST => Seen::Malformed,
            seen => seen.unwrap_or(Seen::Malformed),
        }
    }

    /// Whether anything is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// All that was pushed, as it came.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.held
    }

    /// Nothing where it is malformed.
    fn read_records(&mut self) -> Option<Seen> {
        loop {
            let rest = &self.held[self.read..];
            if rest.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.get(1).is_some_and(|major| *major != MAJOR) {
                return None;
            }
            let Some((header, rest)) = rest.split_first_chunk::<5>() else { return Some(Seen::More) };
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if length == 0 || length > LONGEST_RECORD {
                return None;
            }
            let Some(fragment) = rest.get(..length) else { return Some(Seen::More) };
            self.message.extend_from_slice(fragment);
            self.read += header.len() + length;
            if self.read > MOST {
                return None;
            }
            let Some((&[kind, high, middle, low], body)) = self.message.split_first_chunk::<4>() else {
                // Whoever cuts a hello so small has something to hide from a stricter reader than the server.
                if self.message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
                    return None;
                }
                continue;
            };
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if kind != CLIENT_HELLO || length > MOST || body.len() > length {
                return None;
            }
            if body.len() == length {
                return name(body).map(|name| Seen::Hello(name.map(<[u8]>::to_vec)));
            }
        }
    }
}

/// The name in a hello; nothing where it is malformed.
fn name(mut hello: &[u8]) -> Option<Option<&[u8]>> {
    let hello = &mut hello;
    // Version and random bytes; session; cipher suites; compression.
    hello.split_off(..2 + 32)?;
    vector::<1>(hello)?;
    vector::<2>(hello)?;
    vector::<1>(hello)?;
    if hello.is_empty() {
        // From before there were extensions.
        return Some(None);
    }
    let mut extensions = vector::<2>(hello)?;
    if !hello.is_empty() {
        return None;
    }
    let mut name = None;
    while !extensions.is_empty() {
        let kind = extensions.split_off(..2)?;
        let data = vector::<2>(&mut extensions)?;
        if kind == SERVER_NAME && name.replace(only_name(data)?).is_some() {
            return None;
        }
    }
    Some(name)
}

/// The one name of a list.
fn only_name(mut data: &[u8]) -> Option<&[u8]> {
    let mut list = vector::<2>(&mut data)?;
    let [kind] = list.split_off(..1)? else { return None };
    let name = vector::<2>(&mut list)?;
    (*kind == HOST_NAME && !name.is_empty() && list.is_empty() && data.is_empty()).then_some(name)
}

/// Bytes behind their length, which is a number of so many bytes.
fn vector<'a, const WIDTH: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.split_off(..WIDTH)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    rest.split_off(..length)
}

/// Content types of records (RFC 8446, B.1, and RFC 6520): a server may pass over some of them in front of a hello.
const RECORDS: std::ops::RangeInclusive<u8> = 20..=24;
/// Of a record's version: SSL 3.0 and every TLS.
const MAJOR: u8 = 3;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Of plain text (RFC 8446, 5.1).
const LONGEST_RECORD: usize = 1 << 14;
const SERVER_NAME: &[u8] = &[0, 0];
const HOST_NAME: u8 = 0;
/// Bytes that are held. Hellos have some hundreds, with keys against quantum computers two thousand.
pub const MOST: usize = 64 * 1024;

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
