//! keyd's log: one line for each decision about the program itself, on standard error.
//!
//! Uses of keys go to the audit log and not here. It refuses to know secrets: no type that holds one can be printed.
//! Called by `main`.

use tracing::level_filters::LevelFilter;

/// Starts logging. A second start, as in tests, changes nothing.
pub fn start(level: LevelFilter) {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(level);
    // Where the disk is full there is nobody to tell: saying so on the same standard error would be a panic.
    let _ = log.log_internal_errors(false).try_init();
}
