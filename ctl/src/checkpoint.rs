//! A checkpoint of the audit log: how far it went, and the chain's value there, as people keep it elsewhere.
//!
//! Written as `audit verify` prints it, `SEQ CHAIN`. It refuses what is not one line of one log. Called by `args/audit.rs`
//! (to read) and `command/audit.rs` (to print and compare).

use std::fmt;
use std::str::FromStr;

/// The log held up to this line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Sequence number of the last line, at least 1.
    pub seq: u64,
    /// The chain's value after it, 64 lower-case hex digits.
    pub chain: String,
}

impl FromStr for Checkpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [seq, chain] = words[..] else { return Err(SHAPE) };
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or(SHAPE)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if chain.len() != 64 || !chain.bytes().all(is_digit) {
            return Err(SHAPE);
        }
        Ok(Self { seq, chain: chain.to_owned() })
    }
}

const SHAPE: &str =
    "a checkpoint is a line's number, a space and 64 hex digits, as 'strongroom audit verify' prints it";

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seq, self.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let text = format!("12 {}", "0f".repeat(32));
        assert_eq!(text.parse::<Checkpoint>().unwrap().to_string(), text);
        assert_eq!(format!(" 12  {}\n", "0f".repeat(32)).parse(), text.parse::<Checkpoint>());
        for text in ["", "12", "0 ", &format!("0 {}", "0f".repeat(32)), "12 0f", &format!("12 {}", "0F".repeat(32))] {
            assert!(text.parse::<Checkpoint>().is_err(), "{text:?}");
        }
    }
}
