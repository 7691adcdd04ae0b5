//! Names on their way to addresses, by the system's resolver, in threads of which there are few.
//!
//! A lookup cannot be broken off: one that a dead name server holds has its thread for as long as the C library waits,
//! whether or not anybody still asks. So none is begun but in a thread that is free, a name is looked up once for all who
//! ask at that time, and names that one wildcard may cover have a share of the threads. Who finds none waits in its own
//! future, and takes its wish along when it goes. It refuses to keep an answer: the resolver's cache is the place for
//! that. Asked by the dialler, within its time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use strongroom_protocol::exchange::DialFailure;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use super::{NoSocket, no_socket};

/// The lookups under way.
pub struct Lookups {
    resolve: Resolver,
    /// By name; a thread that has ended has dropped its sender.
    running: RefCell<HashMap<String, watch::Receiver<Option<Answer>>>>,
    ended: Arc<Notify>,
}

type Answer = Result<Vec<SocketAddr>, NoSocket>;
type Resolver = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

impl Default for Lookups {
    fn default() -> Self {
        Self::by(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl Lookups {
    fn by(resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { resolve: Arc::new(resolve), running: RefCell::default(), ended: Arc::default() }
    }

    /// The addresses of a name, in the resolver's order, with this port.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn find(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, NoSocket> {
        let mut answer = loop {
            // Made first, so that no end is missed between the look and the wait.
            let ended = self.ended.notified();
            if let Some(answer) = self.join(name) {
                break answer;
            }
            ended.await;
        };
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        let mut addresses = found.unwrap_or(Err(DialFailure::Unreachable.into()))?;
        addresses.iter_mut().for_each(|address| address.set_port(port));
        Ok(addresses)
    }

    /// The lookup of this name that is under way, or a new one where it has a thread.
    fn join(&self, name: &str) -> Option<watch::Receiver<Option<Answer>>> {
        let mut running = self.running.borrow_mut();
        running.retain(|_, answer| answer.has_changed().is_ok());
        if let Some(answer) = running.get(name) {
            return Some(answer.clone());
        }
        let siblings = running.keys().filter(|other| family(other) == family(name)).count();
        if running.len() >= MOST_THREADS || siblings >= SHARE {
            return None;
        }
        let (sender, answer) = watch::channel(None);
        running.insert(name.to_owned(), answer.clone());
        let (resolve, ended, name) = (self.resolve.clone(), self.ended.clone(), name.to_owned());
        spawn_blocking(move || {
            sender.send_replace(Some(resolve(&name).map_err(|error| no_socket(&error))));
            drop(sender);
            ended.notify_waiters();
        });
        Some(answer)
    }
}

/// What a wildcard has in common, which stands for the first label: else an agent that may reach all of a dead zone would
/// have as many names as it likes. Nobody has a wildcard right under a top-level domain.
fn family(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, rest)| if rest.contains('.') { rest } else { name })
}

/// More at one time would only wait for the same servers.
pub const MOST_THREADS: usize = 16;

/// Of them, for one family of names.
const SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;

    /// A resolver that says which name it was asked for, and knows `quick` names at once; the others when their sender is
    /// dropped.
    fn lookups() -> (std::rc::Rc<Lookups>, Receiver<String>, Sender<()>) {
        let ((tell, told), (hold, held)) = (channel(), channel::<()>());
        let held = Arc::new(Mutex::new(held));
        let lookups = Lookups::by(move |name| {
            tell.send(name.to_owned()).unwrap();
            if !name.starts_with("quick") {
                let _ = held.lock().unwrap().recv();
            }
            Ok(vec!["192.0.2.1:0".parse().unwrap()])
        });
        (std::rc::Rc::new(lookups), told, hold)
    }

    /// Asks, and goes away again.
    async fn give_up(lookups: &Lookups, name: &str) {
        assert!(timeout(Duration::from_millis(1), lookups.find(name, 1)).await.is_err(), "{name}");
    }

    async fn answers(lookups: &Lookups, name: &str) {
        let found = timeout(Duration::from_secs(10), lookups.find(name, 443)).await;
        assert_eq!(found.expect(name).unwrap(), ["192.0.2.1:443".parse().unwrap()], "{name}");
    }

    #[tokio::test]
    async fn one_dead_name_has_one_thread_however_many_ask_and_go() {
        let (lookups, told, hold) = lookups();
        for _ in 0..100 {
            give_up(&lookups, "dead.example").await;
        }
        answers(&lookups, "quick.example").await;
        assert_eq!([told.recv().unwrap(), told.recv().unwrap()], ["dead.example", "quick.example"]);
        drop(hold);
        answers(&lookups, "dead.example").await;
    }

    #[tokio::test]
    async fn all_who_ask_at_one_time_share_the_answer() {
        let (lookups, told, hold) = lookups();
        let run = async {
            let asking: Vec<_> = (0..10)
                .map(|_| {
                    let lookups = lookups.clone();
                    tokio::task::spawn_local(async move { answers(&lookups, "slow.example").await })
                })
                .collect();
            while lookups.running.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
            drop(hold);
            for one in asking {
                one.await.unwrap();
            }
        };
        LocalSet::new().run_until(run).await;
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["slow.example"]);
    }

    #[tokio::test]
    async fn the_names_of_one_wildcard_have_a_share() {
        let (lookups, told, hold) = lookups();
        for number in 0..100 {
            give_up(&lookups, &format!("dead-{number}.zone.example")).await;
        }
        give_up(&lookups, "quick.zone.example").await;
        answers(&lookups, "quick.other.example").await;
        answers(&lookups, "quick.example").await;
        drop(hold);
        answers(&lookups, "quick.zone.example").await;
        let asked: Vec<_> = told.try_iter().collect();
        assert_eq!(asked.iter().filter(|name| name.starts_with("dead")).count(), SHARE, "who went wants nothing more");
    }

    #[tokio::test]
    async fn nothing_is_begun_without_a_thread_and_the_wait_ends_with_the_next_one() {
        let (lookups, told, hold) = lookups();
        for number in 0..MOST_THREADS {
            give_up(&lookups, &format!("dead.zone-{number}.example")).await;
        }
        give_up(&lookups, "dead.example").await;
        let release = async {
            tokio::task::yield_now().await;
            hold.send(()).unwrap();
        };
        tokio::join!(answers(&lookups, "quick.example"), release);
        let asked: Vec<_> = told.try_iter().collect();
        assert!(asked.len() == MOST_THREADS + 1 && !asked.contains(&"dead.example".to_owned()), "{asked:?}");
    }

    #[test]
    fn what_one_wildcard_covers_is_a_family() {
        assert_eq!(family("a.zone.example"), family("b.zone.example"));
        for (one, other) in [("a.example", "b.example"), ("a.zone.example", "a.other.example"), ("one", "other")] {
            assert_ne!(family(one), family(other));
        }
    }
}
