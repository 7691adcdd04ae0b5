//! A signal that ends what waits too long in a call that should not wait.
//!
//! close(2) of the last reference to a TCP socket with SO_LINGER waits for seconds, O_NONBLOCK or not, but any signal
//! ends that wait; the kernel then sends the rest in the background. So a timer directs SIGURG, whose handler here does
//! nothing, at one thread. It refuses to signal any other thread, and to interrupt what the kernel can restart.
//!
//! ```text
//!   the closers           an alarm while they close, every 0.3 ms     a lingering close takes 0.3 ms
//!   the runtime's thread  an alarm for ever, every 100 ms             the net below `closer`
//! ```
//!
//! Called by `closer` and by `main.rs`, before the filter, which allows no new timer.

use std::io;
use std::mem;
use std::ptr;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::checked;

/// A timer for the thread that made it.
pub struct Alarm {
    timer: libc::timer_t,
}

impl Alarm {
    /// Makes a timer that does not run yet.
    ///
    /// # Errors
    /// The kernel's, where it has no timer left for us.
    pub fn of_this_thread() -> io::Result<Self> {
        let nothing = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler touches nothing, so it may run at any point; nobody else in keyd handles SIGURG.
        unsafe { sigaction(SIGNAL, &nothing) }?;
        let mut only = SigSet::empty();
        only.add(SIGNAL);
        // Whoever started us may have blocked it, and a blocked signal interrupts nothing.
        only.thread_unblock()?;
        // SAFETY: sigevent is plain data of the C library, for which all bits zero is a valid value.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL as libc::c_int;
        event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: timer_create reads `event` and writes `timer`; both outlive the call.
        checked(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) })?;
        Ok(Self { timer })
    }

    /// Rings now and then, until it is told otherwise.
    ///
    /// # Errors
    /// None where `interval` is longer than nothing and shorter than years.
    pub fn every(&self, interval: Duration) -> io::Result<()> {
        let time = libc::timespec {
            tv_sec: interval.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: interval.subsec_nanos().into(),
        };
        let times = libc::itimerspec { it_interval: time, it_value: time };
        // SAFETY: `timer` is a live timer, for nothing deletes one; timer_settime reads `times`, which outlives the
        // call, and a null pointer says that the old times are not wanted.
        checked(unsafe { libc::timer_settime(self.timer, 0, &raw const times, ptr::null_mut()) }).map(drop)
    }

    /// Rings no more.
    ///
    /// # Errors
    /// None.
    pub fn never(&self) -> io::Result<()> {
        self.every(Duration::ZERO)
    }
}

/// Makes sure that nothing which a signal can end stops the calling thread for longer than a tenth of a second.
///
/// # Errors
/// The kernel's, where it has no timer left for us.
pub fn guard_this_thread() -> io::Result<()> {
    Alarm::of_this_thread()?.every(Duration::from_millis(100))
}

extern "C" fn nothing(_: libc::c_int) {}

/// Ignored where nobody handles it, and of no use to keyd otherwise: it reads no urgent data.
const SIGNAL: Signal = Signal::SIGURG;

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::super::lingering_fixture::{LINGER, lingering};
    use super::*;

    fn time_to_close(prepare: impl FnOnce() + Send + 'static) -> Duration {
        thread::spawn(move || {
            let (socket, _peer) = lingering();
            prepare();
            let start = Instant::now();
            drop(socket);
            start.elapsed()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn a_guarded_thread_does_not_wait_for_a_socket_that_lingers() {
        assert!(time_to_close(|| ()) >= LINGER - Duration::from_millis(500), "the twin waits");
        assert!(time_to_close(|| guard_this_thread().unwrap()) < Duration::from_secs(1));
    }

    #[test]
    fn an_alarm_that_was_turned_off_does_not_ring() {
        let turned_off = || {
            let alarm = Alarm::of_this_thread().unwrap();
            alarm.every(Duration::from_millis(1)).unwrap();
            alarm.never().unwrap();
        };
        assert!(time_to_close(turned_off) >= LINGER - Duration::from_millis(500));
    }
}
