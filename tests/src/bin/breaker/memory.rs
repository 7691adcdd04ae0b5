//! Looks into memory: this process's heap after something was freed, its environment block, another process's pages.
//!
//! Called by the attempts.

use std::fs::{self, File};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;

use crate::Outcome;

/// Fills a buffer with a pattern, grows it (so that it moves), frees it if told, and looks for the pattern in all
/// writable memory but the stack. The pattern is computed, never stored elsewhere.
pub fn freed_heap(free: bool) -> Outcome {
    let mut buffers: Vec<Vec<u8>> = (0..8).map(|_| (0..PATTERN).map(pattern).collect()).collect();
    for buffer in &mut buffers {
        buffer.reserve(64 * 1024);
    }
    black_box(&buffers);
    if free {
        drop(buffers);
    } else {
        std::mem::forget(buffers);
    }
    let memory = File::open("/proc/self/mem")?;
    let mut found = 0;
    for (start, end, name) in mappings("self")? {
        if name.contains("stack") || name.starts_with('/') {
            continue;
        }
        let mut page = [0; 4096];
        let mut position = start;
        while position < end {
            if memory.read_at(&mut page, position).is_ok_and(|length| length == page.len()) {
                found += page
                    .windows(PATTERN)
                    .filter(|window| window.iter().enumerate().all(|(index, byte)| *byte == pattern(index)))
                    .count();
            }
            position += 4096 - PATTERN as u64;
        }
    }
    Ok(found.to_string())
}

/// Reads one byte of another process, to show that its memory is open to us.
pub fn first_readable_byte(memory: &File, pid: &str) -> io::Result<u8> {
    let (start, ..) = mappings(pid)?.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
    let mut byte = [0];
    memory.read_exact_at(&mut byte, start)?;
    Ok(byte[0])
}

/// What /proc shows of our own environment: whether any byte of it is left.
pub fn environment_block() -> Outcome {
    let block = fs::read("/proc/self/environ")?;
    Ok(format!("{} {}", !block.is_empty(), block.iter().any(|&byte| byte != 0)))
}

fn pattern(index: usize) -> u8 {
    (black_box(index) * 37 + 101) as u8
}

/// Readable and writable mappings: start, end, name.
fn mappings(pid: &str) -> io::Result<Vec<(u64, u64, String)>> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let writable = words.next()?.starts_with("rw");
        let name = words.nth(3).unwrap_or_default().to_owned();
        let hex = |text| u64::from_str_radix(text, 16).ok();
        writable.then_some((hex(start)?, hex(end)?, name))
    };
    Ok(fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().filter_map(parse).collect())
}

const PATTERN: usize = 48;
