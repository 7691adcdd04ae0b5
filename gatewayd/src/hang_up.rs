//! Did the agent hang up, or has it only finished speaking?
//!
//! While a request is served nothing more is read from its connection, so nobody would notice an agent that left; an
//! answer nobody waits for would cost money upstream. But the end of an agent's bytes may also be a half-close, after
//! which it still reads (RFC 9112, 9.6 allows it). On agent.sock the kernel tells the two apart. Over TCP it does not;
//! for an agent on this machine the state of *its* socket does (sock_diag): one that no process holds any more has no
//! inode. For others the end counts as a hang-up, as other proxies take it.
//! It refuses to read or write the connection itself. Watched beside each connection by `serve`.

use std::time::Duration;

use tokio::io::Interest;
use tokio::time::sleep;

use crate::connection::Connection;
use crate::loopback_peer;

/// Comes back when the agent has hung up in the middle of a request. Between requests hyper notices by itself.
pub async fn hang_up(connection: &Connection) {
    loop {
        let Ok(ready) = connection.ready(Interest::READABLE).await else { return };
        if ready.is_read_closed() && connection.is_busy() && has_left(connection).await {
            return;
        }
        // Bytes are hyper's to read, and a half-close stays readable: ask again, but not in a circle.
        sleep(PAUSE).await;
    }
}

async fn has_left(connection: &Connection) -> bool {
    let Ok(ready) = connection.ready(Interest::READABLE | Interest::WRITABLE).await else { return true };
    if ready.is_write_closed() {
        return true;
    }
    match connection.addresses() {
        None => false,
        Some((own, peer)) => !loopback_peer::look_up(peer, own).is_ok_and(|peer| peer.is_held),
    }
}

const PAUSE: Duration = Duration::from_millis(250);
