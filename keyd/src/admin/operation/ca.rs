//! Our certificate authorities: shown, and replaced by a new one.
//!
//! An old authority is never forgotten: keyd refuses every chain with its key for ever. Called by `dispatch`.

use std::rc::Rc;

use strongroom_protocol::admin::{CaView, Failure, Reply};

use super::{event, record};
use crate::audit::record::EventKind;
use crate::peer::Caller;
use crate::state::{Direction, State, now};
use crate::vault::ca::{self, CaError};

/// All of them, newest last.
pub fn show(state: &State) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let keys = &live.contents().ca_keys;
    let newest = &keys[keys.len().saturating_sub(MOST_SHOWN)..];
    let view =
        |key: &crate::vault::contents::CaKey| CaView { certificate: key.certificate.clone(), created: key.created };
    Ok(Reply::Authorities(newest.iter().map(view).collect()))
}

/// A new one signs from now on.
pub async fn rotate(state: &Rc<State>, caller: &Caller) -> Result<(), Failure> {
    record(state, event(state, EventKind::CaRotate, caller))?;
    state
        .change(Direction::Widening, |contents| {
            let key = ca::new_key(now()).map_err(|error| match error {
                CaError::NoRoom => Failure::LockedMemory,
                _ => Failure::Internal,
            })?;
            contents.ca_keys.push(key);
            Ok(())
        })
        .await
}

/// So many fit a reply, and nobody needs older ones.
const MOST_SHOWN: usize = 64;
