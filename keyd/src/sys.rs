//! The only place in keyd with `unsafe`: what Linux offers and neither std nor nix wraps.
//!
//! Each file is one thing, and what it exports is safe to call: descriptors that arrive from outside
//! ([`descriptor`], [`packet`]), sockets that another process may tamper with ([`passed_socket`]) and whose closing may
//! wait ([`closer`], [`alarm`]), memory that is locked and wiped ([`arena`], [`allocator`]), the environment block
//! ([`environment_block`]), capabilities and process flags ([`privilege`]), the unit of a peer ([`unit`]). It refuses to decide anything: who may send what, and which layer is needed, is its callers' business.
//!
//! Called by `secret.rs`, `environment.rs`, `listen.rs`, `sandbox/` and the exchange.
#![allow(unsafe_code)]

pub mod alarm;
pub mod allocator;
pub mod arena;
pub mod closer;
pub mod descriptor;
pub mod environment_block;
#[cfg(test)]
mod lingering_fixture;
pub mod packet;
pub mod passed_socket;
pub mod privilege;
pub mod send_queue;
pub mod unit;

pub use allocator::{WipingAllocator, give_back};
pub use closer::{Account, Door, PassedDescriptor, poll_door};
pub use descriptor::{SocketKind, accept, hung_up, inherited, socket_kind, watched};
pub use packet::{Packet, next_packet};
pub use passed_socket::PassedSocket;
pub use send_queue::{let_go, own_queue};

use std::io;

/// Turns the C convention "-1 and errno" into a result.
fn checked(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// The same for calls that return a count of bytes.
fn checked_length(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
