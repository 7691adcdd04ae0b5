//! The name of one request, in answers, in keyd's audit log and in ours.
//!
//! Random, so that it tells nothing of how much others send. It refuses to be taken from an agent.
//! Made once for each request.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};

/// 16 random bytes as 32 hexadecimal digits.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

/// Where ids come from: random bytes, taken from the kernel for many at a time.
#[derive(Debug)]
pub struct RequestIds {
    random: SystemRandom,
    left: RefCell<Vec<[u8; 16]>>,
}

impl RequestIds {
    /// None are made yet.
    #[must_use]
    pub fn new(random: SystemRandom) -> Self {
        Self { random, left: RefCell::default() }
    }

    /// The next one.
    #[must_use]
    pub fn next(&self) -> RequestId {
        let mut left = self.left.borrow_mut();
        if left.is_empty() {
            let mut bytes = [0; 16 * AT_A_TIME];
            // getrandom fails on no kernel that this program starts on; an id of zeros would still be a valid one.
            let _ = self.random.fill(&mut bytes);
            left.extend(bytes.as_chunks::<16>().0);
        }
        RequestId::from_bytes(left.pop().unwrap_or_default())
    }
}

impl RequestId {
    fn from_bytes(bytes: [u8; 16]) -> Self {
        let text = format!("{:032x}", u128::from_be_bytes(bytes));
        Self(HeaderValue::from_maybe_shared(Bytes::from(text)).expect("hexadecimal digits are a field value"))
    }

    /// As a field value.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().expect("hexadecimal digits are text"))
    }
}

const AT_A_TIME: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_valid_and_differ() {
        let ids = RequestIds::new(SystemRandom::new());
        let many: HashSet<String> = (0..3 * AT_A_TIME).map(|_| ids.next().to_string()).collect();
        assert_eq!(many.len(), 3 * AT_A_TIME);
        assert!(many.iter().all(|id| strongroom_protocol::channel::is_request_id(id.as_bytes()) && id.len() == 32));
    }
}
