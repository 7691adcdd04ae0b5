//! How long channels keep the one thread before the main loop has it again.
//!
//! Admins, the clock and the watchdog's pulse are served by the main loop. tokio gives it the thread after so many tasks,
//! however long each of them took; so whoever works for channels asks here whether the turn is over, and goes on in the
//! next one. The time is measured and not the work, for nobody can price all of it rightly. It refuses to depend on what a
//! body holds. Begun by `serve`; asked by the exchange.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

thread_local! {
    /// When it began; never on a thread that has no main loop.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The main loop has done what there was to do: never ready, so that it can be the last of what is waited for.
pub async fn begin() {
    poll_fn(|_| {
        BEGAN.set(Some(Instant::now()));
        Poll::<()>::Pending
    })
    .await;
}

/// Whether others have waited long enough. Whoever gets this answer wakes itself and comes back.
#[must_use]
pub fn is_over() -> bool {
    BEGAN.get().is_some_and(|began| began.elapsed() >= LONGEST)
}

/// Waits for the next turn where this one is over.
pub async fn next() {
    poll_fn(|cx| {
        if !is_over() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Short beside what a person notices, long beside what a task costs.
const LONGEST: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_main_loop_has_its_turn_between_any_tasks() {
        assert!(!is_over(), "nobody waits for this thread");
        let busy = || async {
            next().await;
            std::thread::sleep(LONGEST);
        };
        let set = LocalSet::new();
        let main = set.run_until(async {
            let tasks: Vec<_> = (0..40).map(|_| spawn_local(busy())).collect();
            let (mut turns, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
            let mut begin = pin!(begin());
            poll_fn(|cx| {
                longest = longest.max(last.elapsed());
                (last, turns) = (Instant::now(), turns + 1);
                let _ = begin.as_mut().poll(cx);
                if tasks.iter().all(|task| task.is_finished()) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            assert!(turns >= 20 && longest < LONGEST * 20, "{turns} turns, {longest:?}");
        });
        timeout(Duration::from_secs(20), main).await.expect("they end");
        BEGAN.set(None);
    }
}
