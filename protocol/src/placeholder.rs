//! What a placeholder looks like, for both daemons: keyd makes and knows them, gatewayd keeps requests of different
//! ones apart.
//!
//! A mark, then letters and digits; a prefix in front is the provider's. It refuses to say whose one is. Called by keyd's
//! policy and gatewayd's pool.

/// What people and scanners know one by.
pub const MARK: &str = "strongroom-";

/// Letters and digits behind the mark.
pub const TAIL: usize = 40;

/// The tail that begins here, where one does.
#[must_use]
pub fn tail_at(bytes: &[u8], at: usize) -> Option<&str> {
    let tail = bytes.get(at..at + TAIL)?;
    std::str::from_utf8(tail).ok().filter(|tail| tail.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Every tail that follows a mark in the text.
pub fn tails(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(MARK).filter_map(|(at, mark)| tail_at(text.as_bytes(), at + mark.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_found_anywhere_and_only_whole() {
        let one = "A".repeat(TAIL);
        let other = "b1".repeat(TAIL / 2);
        let text = format!("/x?a=sk-{MARK}{one}&b={MARK}{other}{MARK}{}", &one[1..]);
        assert_eq!(tails(&text).collect::<Vec<_>>(), [one.as_str(), &other]);
        assert_eq!(tails("strongroom-gateway and strongroom-").count(), 0);
    }
}
