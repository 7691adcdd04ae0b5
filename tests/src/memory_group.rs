//! A memory control group around one process: what the kernel charges to it, what it holds for its sockets among that.
//!
//! Resident memory leaves the kernel's part out, and it is the group's account by which systemd's MemoryMax= ends a
//! service. Both versions of the kernel's interface are known. It refuses to guess: where no group can be made, as for an
//! ordinary user, there is none. Used by the tests of limits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A group with one process in it, which is put back when this is dropped.
pub struct MemoryGroup {
    directory: PathBuf,
    parent: PathBuf,
    pid: u32,
    is_unified: bool,
}

impl MemoryGroup {
    /// Puts the process in a group that may hold so many bytes. What it has allocated already is charged elsewhere.
    #[must_use]
    pub fn around(pid: u32, limit: u64) -> Option<Self> {
        [("/sys/fs/cgroup/memory", false), ("/sys/fs/cgroup", true)]
            .into_iter()
            .find_map(|(root, is_unified)| Self::below(Path::new(root), is_unified, pid, limit).ok())
    }

    fn below(root: &Path, is_unified: bool, pid: u32, limit: u64) -> io::Result<Self> {
        let limit_file = if is_unified { "memory.max" } else { "memory.limit_in_bytes" };
        let controllers = root.join("cgroup.controllers");
        if is_unified != controllers.exists() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let parent = Self::of(pid, root, is_unified)?;
        let directory = root.join(format!("strongroom-test-{pid}"));
        fs::create_dir(&directory)?;
        let group = Self { directory, parent, pid, is_unified };
        fs::write(group.directory.join(limit_file), limit.to_string())?;
        fs::write(group.directory.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }

    /// Where a process is now.
    fn of(pid: u32, root: &Path, is_unified: bool) -> io::Result<PathBuf> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let path = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let is_it = if is_unified { controllers.is_empty() } else { controllers == "memory" };
            is_it.then_some(path)
        });
        path.map(|path| root.join(path.trim_start_matches('/'))).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The most that was charged at one time, in bytes.
    ///
    /// # Panics
    /// Where the kernel does not say.
    #[must_use]
    pub fn peak(&self) -> u64 {
        let name = if self.is_unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.directory.join(name)).expect("the group is there");
        text.trim().parse().expect("a number of bytes")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.parent.join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.directory);
    }
}
