//! A keyd whose wall clock a test can set, on a machine whose clock it may not touch.
//!
//! A library in front of the C library adds offsets that a shared page holds, to the wall clock and to the one that goes
//! on while the machine sleeps; keyd itself is the usual program, cage and all, and its other clocks are the kernel's. It refuses nothing and needs a C compiler, as the build does. Used by
//! the tests of faults.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{process, programs};

/// The programs, and the offset of keyd's clock.
#[derive(Debug)]
pub struct Clock {
    directory: TempDir,
    offset: File,
}

impl Clock {
    /// Right at first.
    ///
    /// # Panics
    /// Where there is no C compiler, or a file cannot be made.
    #[track_caller]
    #[must_use]
    pub fn right() -> Self {
        let directory = tempfile::Builder::new().prefix("clock-").tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("our own directory");
        // Processes are known by the names of their programs, so keyd's stays and only its place is another.
        fs::create_dir(path("real")).expect("our own directory");
        for (name, place) in [
            ("strongroom", "strongroom"),
            ("strongroom-gatewayd", "strongroom-gatewayd"),
            ("strongroom-keyd", "real/strongroom-keyd"),
        ] {
            fs::copy(programs::path(name), path(place)).expect("programs can be copied");
        }
        fs::write(path("offset"), [0; 16]).expect("our own directory");
        let (source, library) = (path("clock.c"), path("clock.so"));
        fs::write(&source, SOURCE).expect("our own directory");
        let define = format!("-DOFFSET=\"{}\"", path("offset").display());
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", &define, "-o"]).args([&library, &source]).arg("-ldl");
        process::run(&mut compiler, b"").assert_code(0);
        let (preload, real) = (library.display(), path("real/strongroom-keyd"));
        let script = format!("#!/bin/sh\nLD_PRELOAD={preload} exec {} \"$@\"\n", real.display());
        fs::write(path("strongroom-keyd"), script).expect("our own directory");
        fs::set_permissions(path("strongroom-keyd"), Permissions::from_mode(0o755)).expect("our own file");
        let offset = File::options().write(true).open(path("offset")).expect("our own file");
        Self { directory, offset }
    }

    /// The directory with the programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        self.directory.path()
    }

    /// Sets keyd's wall clock so many seconds ahead of the machine's, or behind it.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn jump_to(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("our own file");
    }

    /// Lets keyd's clock that counts sleep be so many seconds ahead, as after a sleep of so long.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn slept(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 8).expect("our own file");
    }
}

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset;
static int (*real)(clockid_t, struct timespec *);

/* Before keyd's cage closes, which opens no such file. */
__attribute__((constructor)) static void begin(void) {
    real = dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(OFFSET, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *page = mmap(0, 2 * sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && offset) now->tv_sec += offset[0];
    if (result == 0 && clock == CLOCK_BOOTTIME && offset) now->tv_sec += offset[1];
    return result;
}
"#;
