//! A question at the terminal whose answer is not shown, and a terminal that is as it was after it, however it ends.
//!
//! rpassword asks, at /dev/tty: so standard input stays free for a key, and for the loop that the command stands in. It
//! turns the echo off, and a signal that ends the program meanwhile would leave it off; on Linux `guard` sees to that.
//! It refuses to ask where there is no terminal. Called by `passphrase.rs` and `secret_input.rs`.

#[cfg(target_os = "linux")]
mod guard;

use std::io;

use zeroize::Zeroizing;

/// Asks, and waits for one line.
///
/// # Errors
/// Where there is no terminal, and where nothing is typed: [`is_nothing`] tells that.
pub fn ask(words: &str) -> io::Result<Zeroizing<String>> {
    // A terminal that cannot be put back is asked at all the same.
    #[cfg(target_os = "linux")]
    let _guard = guard::Guard::set();
    rpassword::prompt_password(words).map(Zeroizing::new)
}

/// Whether there was somebody to ask, who gave no answer: Ctrl-D, or Ctrl-C where that does not end the program.
#[must_use]
pub fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::Interrupted)
}
