//! The name of one request, in answers, in keyd's audit log and in ours.
//!
//! Random, so that it tells nothing of how much others send. It refuses to be taken from an agent.
//! Called once for each request.

use std::fmt;

use http::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};

/// 16 random bytes as 32 hexadecimal digits.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new one.
    #[must_use]
    pub fn new(random: &SystemRandom) -> Self {
        let mut bytes = [0; 16];
        // getrandom fails on no kernel that this program starts on; an id of zeros would still be a valid one.
        let _ = random.fill(&mut bytes);
        let text = format!("{:032x}", u128::from_be_bytes(bytes));
        Self(HeaderValue::try_from(text).expect("hexadecimal digits are a field value"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_valid_and_differ() {
        let random = SystemRandom::new();
        let (one, other) = (RequestId::new(&random).to_string(), RequestId::new(&random).to_string());
        assert!(strongroom_protocol::channel::is_request_id(one.as_bytes()));
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
