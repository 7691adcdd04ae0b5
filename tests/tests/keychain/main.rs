//! The slot's key in a real keychain: GNOME Keyring on a session bus of the test's own, and the kernel's keyrings.
//!
//! `desk.rs` has a bus, a keyring and the programs of others that look into it. Each test has its own; none touches the
//! keyring of whoever runs it, but for keys in the kernel under names of their own, which it takes away.

mod desk;
mod keyutils;
mod other_users;
mod secret_service;
mod unlocking;
