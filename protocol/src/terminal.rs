//! Characters with which a text steers the terminal of whoever reads it.
//!
//! It refuses to change a text: keyd encodes them in paths that it keeps, ctl shows others in their place or escapes them.
//! Called by keyd's `exchange/record.rs` and ctl's `output.rs`.

/// Whether it is a control character, C1 too, or turns the direction of writing (Unicode's marks, embeddings, overrides and
/// isolates, UAX #9), so that a line reads otherwise than it is.
#[must_use]
pub fn steers(character: char) -> bool {
    let turns =
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || character.is_control()
}
