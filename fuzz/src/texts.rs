//! The vault's file, keyd.toml, and the names that messages and commands carry.
//! Each function refuses nothing and panics where a property does not hold. Called through [`crate::TARGETS`].

use std::fmt::{Debug, Display};
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use strongroom_protocol::admin::Rule;
use strongroom_protocol::{Authority, HostPattern, Name};

use crate::keyd::config::Config;
use crate::vault::file_format;

/// With its checksum as it lies, and with one that fits: what is behind it must hold by itself.
pub fn vault_file(bytes: &[u8]) {
    let _ = file_format::parse(bytes);
    let fitting = [bytes, digest(&SHA256, bytes).as_ref()].concat();
    if let Ok(parts) = file_format::parse(&fitting) {
        let body = parts.ciphertext.len();
        let Ok(preamble) = file_format::preamble(&parts.header, body) else { return };
        let again = file_format::assemble(preamble, parts.nonce, parts.ciphertext, parts.tag);
        assert!(file_format::parse(&again).is_ok(), "what was read can be written");
    }
}

pub fn keyd_toml(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = toml::from_str::<Config>(text);
    }
}

fn fixed_point<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("what is shown is read"), value);
    }
}

/// What is taken is shown in a way that is taken for the same.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    fixed_point::<Name>(text);
    fixed_point::<Authority>(text);
    fixed_point::<HostPattern>(text);
    fixed_point::<Rule>(text);
    if let Ok(authority) = text.parse::<Authority>() {
        let field = authority.to_host_field();
        assert!(field.bytes().all(|byte| byte.is_ascii_graphic()), "{field}");
        assert!(!field.contains(['/', '@', '?', '#', '\\']), "{field}");
    }
}
