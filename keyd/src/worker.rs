//! The thread for the disk: it waits for it, so that no exchange has to.
//!
//! Started before the seccomp filter, which forbids new threads. Jobs run one after another, so vault writes can never
//! overtake each other. A job that panics fails alone. It refuses to hold anything secret: it gets ciphertext and files.
//! Called by `main.rs` (to start), `state/changes.rs` (vault writes) and `logbook.rs` (fsync).

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use crate::vault::seen::Seen;
use crate::vault::writer::Old;

/// A handle on the thread; the thread ends with the last one.
#[derive(Debug, Clone)]
pub struct Worker {
    vault: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread for the vault at this path, and waits until it runs.
    ///
    /// # Errors
    /// The kernel's, where it makes no thread.
    pub fn start(vault: PathBuf) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (started, running) = mpsc::sync_channel(1);
        thread::Builder::new().name("keyd-disk".to_owned()).stack_size(STACK).spawn(move || {
            let _ = started.send(());
            for job in queue {
                let outcome = catch_unwind(AssertUnwindSafe(job.work))
                    .unwrap_or_else(|_| Err(io::Error::other(JobFailed::Panicked)));
                // Nobody waits any more where the caller was cancelled; the work is done all the same.
                let _ = job.done.send(outcome);
            }
        })?;
        running.recv().map_err(|_| io::Error::other(JobFailed::NoThread))?;
        Ok(Self { vault, jobs })
    }

    /// Writes a whole vault file, atomically, in the place of the one that was seen last. Dropping the future does not stop
    /// the write.
    ///
    /// # Errors
    /// As [`Seen::write`]; the old file is in place then.
    pub async fn write_vault(&self, bytes: Vec<u8>, old: Old, seen: &Seen) -> io::Result<()> {
        let (path, seen) = (self.vault.clone(), seen.clone());
        self.run(move || seen.write(&path, &bytes, old)).await
    }

    /// Waits until what was written to a file is on the disk.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn sync(&self, file: Arc<File>) -> io::Result<()> {
        self.run(move || file.sync_data()).await
    }

    /// That can do nothing.
    #[cfg(test)]
    pub fn without_a_thread() -> Self {
        Self { vault: PathBuf::new(), jobs: mpsc::channel().0 }
    }

    /// Does something of a test's when what was asked before is done.
    #[cfg(test)]
    pub fn then(&self, work: impl FnOnce() + Send + 'static) {
        let work = Box::new(|| {
            work();
            Ok(())
        });
        let _ = self.jobs.send(Job { work, done: oneshot::channel().0 });
    }

    async fn run(&self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.jobs.send(Job { work: Box::new(work), done }).map_err(|_| io::Error::other(JobFailed::NoThread))?;
        outcome.await.map_err(|_| io::Error::other(JobFailed::NoThread))?
    }
}

struct Job {
    work: Box<dyn FnOnce() -> io::Result<()> + Send>,
    done: oneshot::Sender<io::Result<()>>,
}

/// Why a job has no result of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobFailed {
    /// It panicked.
    Panicked,
    /// The thread is gone.
    NoThread,
}

impl std::fmt::Display for JobFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Panicked => "a disk job failed by a fault of keyd's. Look into keyd's log.",
            Self::NoThread => "keyd's disk thread is gone. Start keyd again.",
        })
    }
}

impl std::error::Error for JobFailed {}

/// Ample for a file write; the default of 2 MiB would be locked where memory is.
const STACK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::vault::writer;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn vault_writes_happen_in_order_and_keep_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let (worker, seen) = (Worker::start(path.clone()).unwrap(), Seen::default());
        block_on(async {
            for number in 0..20u8 {
                worker.write_vault(vec![number; 3], Old::Backup, &seen).await.unwrap();
            }
        });
        assert_eq!(std::fs::read(&path).unwrap(), [19; 3]);
        assert_eq!(std::fs::read(writer::backup_path(&path)).unwrap(), [18; 3]);
    }

    #[test]
    fn a_panic_fails_its_job_alone() {
        let directory = tempfile::tempdir().unwrap();
        let worker = Worker::start(directory.path().join("vault")).unwrap();
        block_on(async {
            let failed = worker.run(|| panic!("on purpose")).await.unwrap_err();
            assert_eq!(failed.to_string(), JobFailed::Panicked.to_string());
            worker.write_vault(b"after".to_vec(), Old::Backup, &Seen::default()).await.unwrap();
        });
    }

    #[test]
    fn errors_reach_the_caller() {
        let directory = tempfile::tempdir().unwrap();
        let worker = Worker::start(directory.path().join("none/vault")).unwrap();
        block_on(async {
            let written = worker.write_vault(vec![1], Old::Backup, &Seen::default()).await;
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::NotFound);
            let file = File::create(directory.path().join("log")).unwrap();
            worker.sync(Arc::new(file)).await.unwrap();
            let (pipe, _other_end) = io::pipe().unwrap();
            let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
            assert!(worker.sync(Arc::new(pipe)).await.is_err(), "a pipe has no disk");
        });
    }
}
