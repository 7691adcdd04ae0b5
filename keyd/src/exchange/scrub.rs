//! Keys that come back are overwritten with `*`, same length, before gatewayd sees a byte.
//!
//! ```text
//!   text ──shape──▶ long runs of bytes that could belong to a key     most of a text has none, and is skipped
//!        ──search─▶ stretches of a run whose fingerprint is a form's  one pass, for any number of keys
//!        ──form───▶ the same compared byte by byte                    literal, base64, hexadecimal, escapes of them
//! ```
//!
//! [`patterns`] says which keys are looked for, [`stream`] walks a body of any size in one pass, [`head`] does reason
//! phrase, header fields and trailers. Framing never changes. It refuses to let anything that is visible from outside,
//! length or timing, depend on a key: what is held back across chunks is decided by character classes alone, and no
//! comparison begins that a guesser could make go further byte by byte.

pub mod cache;
pub mod escape;
pub mod fingerprint;
pub mod form;
pub mod head;
#[cfg(test)]
mod oracle_tests;
pub mod patterns;
#[cfg(test)]
mod reference;
pub mod search;
pub mod shape;
pub mod stream;
pub mod tail;
#[cfg(test)]
mod whole_tests;
