//! What Strongroom's three programs say to each other.
//!
//! The conversation, in prose:
//!
//! * **gatewayd ↔ keyd** ([`exchange`]) over `gateway.sock`, a SOCK_SEQPACKET socket: gatewayd says who it is,
//!   then opens *channels*. A channel is an upstream TCP socket that gatewayd dialled and one end of a socket pair,
//!   passed in one message. keyd answers each with accepted or refused. Beside that keyd tells which authorities have
//!   a credential (names only) and whether the vault is locked. Requests and answers then run over the pair; see [`channel`].
//! * **ctl ↔ keyd** ([`admin`]) over `admin.sock`, a SOCK_STREAM socket: one request, one reply, as often as wanted.
//!   What widens access carries a proof of the passphrase. No reply has room for a key; a test walks the types.
//!
//! This crate refuses to do any I/O but the sending half of descriptor passing ([`socket_passing`]), the word to the
//! service manager ([`service_manager`]) and the daemons' log (`log`), and it refuses to know what a message means: it says only whether its bytes
//! are well formed.
//! The bytes are described for a reader without this code in PROTOCOL.md.
//!
//! Called by keyd, gatewayd and ctl.
#![forbid(unsafe_code)]

pub mod admin;
pub mod authority;
pub mod channel;
pub mod check;
pub mod environment;
pub mod exchange;
pub mod frame;
pub mod home;
pub mod host_pattern;
#[cfg(feature = "log")]
pub mod log;
pub mod name;
pub mod placeholder;
pub mod refusal;
pub mod secret_bytes;
pub mod service_manager;
pub mod session;
pub mod site;
pub mod slot;
pub mod socket_passing;
pub mod terminal;

#[cfg(test)]
mod reply_room;

pub use authority::Authority;
pub use check::{Check, CheckState};
pub use host_pattern::HostPattern;
pub use name::Name;
pub use refusal::Refusal;
pub use secret_bytes::SecretBytes;
pub use site::Site;
