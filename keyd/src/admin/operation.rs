//! What dispatch allows is done here, a file a subject. Each reads in one order: look up, is it allowed in this state,
//! write it down, do it, answer. Called by `dispatch` alone.

pub mod agent;
pub mod audit;
pub mod ca;
pub mod credential;
pub mod grant;
pub mod restore;
pub mod slot;
pub mod vault;

use strongroom_protocol::admin::Failure;

use crate::audit::record::{Event, EventKind, Record};
use crate::peer::Caller;
use crate::state::State;
use crate::vault::contents::Contents;

/// An admin's deed, before it is done, with the generation that it will make: one that falls shows a vault that was
/// exchanged for an older one.
fn event(state: &State, kind: EventKind, caller: &Caller) -> Event {
    let changes = !matches!(kind, EventKind::VaultUnlock | EventKind::VaultLock | EventKind::WrongPassphrase);
    let event = Event::by(kind, caller.uid);
    // A wrong passphrase for a locked vault: which generation that is, is not known.
    let Some(live) = state.live() else { return event };
    event.at_generation(live.contents().generation + u64::from(changes))
}

/// Writes a deed down before it is done.
///
/// # Errors
/// Where it cannot be written: it is not done then.
fn record(state: &State, event: Event) -> Result<(), Failure> {
    state.logbook.write(&Record::Event(event)).map_err(|_| Failure::Audit)
}

/// Writes down what is done in any case, for it takes access away, or is done: later, where it cannot be written now.
fn note(state: &State, event: Event) {
    state.logbook.keep(Record::Event(event));
}

/// What was taken away already is taken away once: a second event and file would wear out the log and the only backup,
/// without a passphrase. The first one may be in memory alone, and then it is written now.
async fn again(state: &State) -> Result<(), Failure> {
    let written = state.write_what_was_taken().await;
    // Locked while this waited: by a restore perhaps, with which it is back.
    if state.live().is_none() { Err(Failure::Locked) } else { written }
}

/// The next unused id.
fn take_id(contents: &mut Contents) -> u64 {
    contents.next_id += 1;
    contents.next_id - 1
}
