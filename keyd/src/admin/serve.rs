//! One admin connection: read a frame, dispatch, answer, again.
//!
//! Buffers that held a request are wiped: it may have carried a key. It refuses to wait long for whoever does not take
//! the answer, and for nobody while others want the place. Called by `serve.rs` for every accepted connection, after the
//! look at whose it is.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use strongroom_protocol::admin::{Failure, Reply, Request};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, FrameError, HEADER};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::dispatch;
use super::guests::Guest;
use crate::peer::Caller;
use crate::state::State;
use crate::sys::PassedSocket;

/// Tells somebody who is no admin so.
///
/// # Errors
/// Those of the socket.
pub async fn refuse(mut stream: PassedSocket) -> io::Result<()> {
    answer(&mut stream, &Reply::Failed(Failure::NotPermitted)).await
}

/// Serves an admin's connection until it ends.
///
/// # Errors
/// Those of the socket; a message that cannot be read ends the connection after an answer that says so.
pub async fn serve(state: Rc<State>, mut stream: PassedSocket, caller: Caller, guest: &Guest) -> io::Result<()> {
    loop {
        guest.is_idle.set(true);
        let request = tokio::select! {
            biased;
            read = read(&mut stream) => read?,
            // Others want to be served, and this one only holds its place: half a request has done nothing yet.
            () = guest.leave.cancelled() => return Ok(()),
        };
        let request = match request {
            Read::End => return Ok(()),
            Read::Request(request) => request,
            Read::Unreadable(error) => {
                tracing::warn!(uid = caller.uid, %error, "admin request refused");
                let failure = match error {
                    FrameError::Version(_) => Failure::Version(frame::VERSION),
                    _ => Failure::BadMessage,
                };
                return answer_guest(&mut stream, &Reply::Failed(failure), guest).await;
            }
        };
        guest.is_idle.set(false);
        let reply = dispatch::dispatch(&state, &caller, request).await;
        answer_guest(&mut stream, &reply, guest).await?;
    }
}

/// Answers, unless the place is wanted before the answer is taken: what was asked for is done.
async fn answer_guest(stream: &mut PassedSocket, reply: &Reply, guest: &Guest) -> io::Result<()> {
    guest.is_idle.set(true);
    tokio::select! {
        biased;
        answered = answer(stream, reply) => answered,
        () = guest.leave.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

#[expect(clippy::large_enum_variant, reason = "it is on the stack between reading and answering, and nowhere else")]
enum Read {
    Request(Request),
    End,
    Unreadable(FrameError),
}

async fn read(stream: &mut PassedSocket) -> io::Result<Read> {
    let mut header = [0; HEADER];
    // Between requests a caller may take its time; within one it may not.
    if stream.read(&mut header[..1]).await? == 0 {
        return Ok(Read::End);
    }
    let rest = async {
        stream.read_exact(&mut header[1..]).await?;
        let length = match frame::payload_length(&header, ADMIN_LIMIT) {
            Ok(length) => length,
            Err(error) => return Ok(Read::Unreadable(error)),
        };
        let mut payload = Zeroizing::new(vec![0; length]);
        stream.read_exact(&mut payload).await?;
        Ok(frame::decode(&payload).map_or_else(Read::Unreadable, Read::Request))
    };
    tokio::time::timeout(MESSAGE_TIME, rest).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn answer(stream: &mut PassedSocket, reply: &Reply) -> io::Result<()> {
    let bytes = match frame::encode(reply, ADMIN_LIMIT) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "a reply could not be encoded");
            frame::encode(&Reply::Failed(Failure::Internal), ADMIN_LIMIT).map_err(io::Error::other)?
        }
    };
    tokio::time::timeout(REPLY_TIME, stream.write_all(&bytes))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A local peer sends a megabyte in far less.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
/// And takes one, for it waits for nothing else.
const REPLY_TIME: Duration = Duration::from_secs(2);
