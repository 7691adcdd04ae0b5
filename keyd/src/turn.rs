//! How long channels keep the one thread before the main loop has it again.
//!
//! Admins, the clock and the watchdog's pulse are served by the main loop. tokio gives it the thread after so many tasks,
//! however long each of them took; so whoever works for channels asks here whether the turn is over, and goes on in the
//! next one. The time is measured and not the work, for nobody can price all of it rightly. It refuses to depend on what a
//! body holds. Wraps the main loop of `serve`; asked by the exchange.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

thread_local! {
    /// When it began; never on a thread that has no main loop.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs the main loop: whenever it had the thread and waits, whatever for, a turn of the channels' begins.
pub async fn main<F: Future>(main_loop: F) -> F::Output {
    let mut main_loop = pin!(main_loop);
    poll_fn(|cx| {
        let polled = main_loop.as_mut().poll(cx);
        BEGAN.set(Some(Instant::now()));
        polled
    })
    .await
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
    use std::future::pending;

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
        let looping = set.run_until(main(async {
            let tasks: Vec<_> = (0..40).map(|_| spawn_local(busy())).collect();
            let (mut turns, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
            poll_fn(|cx| {
                longest = longest.max(last.elapsed());
                (last, turns) = (Instant::now(), turns + 1);
                if tasks.iter().all(|task| task.is_finished()) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            assert!(turns >= 20 && longest < LONGEST * 20, "{turns} turns, {longest:?}");
        }));
        timeout(Duration::from_secs(20), looping).await.expect("they end");
        BEGAN.set(None);
    }

    /// As after a connection that could not be accepted.
    #[tokio::test(flavor = "current_thread")]
    async fn a_main_loop_that_waits_for_a_clock_holds_nobody_up() {
        let set = LocalSet::new();
        let task = set.spawn_local(async {
            for _ in 0..20 {
                next().await;
                std::thread::sleep(LONGEST);
                tokio::task::yield_now().await;
            }
        });
        tokio::select! {
            ended = timeout(Duration::from_secs(20), task) => ended.expect("in time").expect("without a panic"),
            () = set.run_until(main(pending())) => {}
        }
        BEGAN.set(None);
    }
}
