//! The block in which the kernel put our environment at start.
//!
//! `unsetenv` only forgets pointers: the strings stay in the block, and /proc/PID/environ shows them for the life of
//! the process. This overwrites them in place. It refuses to do so once a second thread exists, for another thread
//! might be reading them.
//!
//! Called by `environment.rs`, once, first of all.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;

use super::allocator::wipe;

unsafe extern "C" {
    /// The C library's list of `NAME=value` strings, ended by a null pointer.
    static mut environ: *mut *mut libc::c_char;
}

/// Copies the variables named in `wanted`, then overwrites the whole environment with zeros and forgets it. Gives
/// nothing, and changes nothing, where other threads run.
pub fn take(wanted: &[&'static str]) -> Option<Vec<(&'static str, OsString)>> {
    if super::privilege::thread_count() > 1 {
        return None;
    }
    let mut kept = Vec::new();
    // SAFETY: this is the only thread, so nothing changes `environ` or its strings meanwhile. `environ` is null or a
    // null-terminated array of C strings in writable memory: the kernel puts the block on the stack, and what putenv
    // and setenv add is on the heap. Nobody holds a reference into them: std copies what it returns.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            if let Some(position) = text.iter().position(|&byte| byte == b'=')
                && let Some(name) = wanted.iter().find(|name| name.as_bytes() == &text[..position])
            {
                kept.push((*name, OsString::from_vec(text[position + 1..].to_vec())));
            }
            let length = text.len();
            wipe((*entry).cast(), length);
            entry = entry.add(1);
        }
        libc::clearenv();
    }
    Some(kept)
}
