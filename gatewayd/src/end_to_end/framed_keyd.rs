//! keyd's side of a channel for the whole-request tests, in the plainest way: one request after another.
//!
//! It refuses to know policy or TLS, and to survive anything that is out of order.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use strongroom_protocol::channel::frames::{self, Decoder, Encoder, Kind};
use strongroom_protocol::channel::head::{AnswerHead, RequestHead, encode_fields};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

type Part = Result<Frame<Bytes>, std::io::Error>;

/// A body that a test feeds: frames, then a clean end, or an error.
pub struct Scripted(mpsc::UnboundedReceiver<Part>);

/// The body of a request.
pub type Incoming = Scripted;

impl Scripted {
    pub fn new() -> (mpsc::UnboundedSender<Part>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }

    pub fn whole(text: &str) -> Self {
        let (sender, body) = Self::new();
        sender.send(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))).unwrap();
        body
    }

    pub fn empty() -> Self {
        Self::new().1
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        self.0.poll_recv(cx)
    }
}

/// A field of an answer in whose place the channel is retired, as if the request had not been looked at.
pub const RETIRE: &str = "retire";

/// Serves until the other end closes, the body breaks or there is no answer.
pub async fn serve<F>(stream: UnixStream, mut service: impl FnMut(Request<Incoming>) -> F)
where
    F: Future<Output = Option<Response<Scripted>>>,
{
    let (read, mut write) = stream.into_split();
    let mut reader = Reader { read, decoder: Decoder::default() };
    while let Some(frames::Frame::Head(head)) = reader.next().await {
        let head = RequestHead::decode(head).unwrap();
        let (feed, body) = Scripted::new();
        let waits = head.fields.contains_key(EXPECT);
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (head.method, head.target, head.fields);
        let mut answering = Box::pin(service(request));
        // Who answers at once does not want the body.
        let mut early = None;
        if waits {
            early = poll_fn(|cx| {
                Poll::Ready(match answering.as_mut().poll(cx) {
                    Poll::Ready(answer) => Some(answer),
                    Poll::Pending => None,
                })
            })
            .await;
            if early.is_none() && send(&mut write, Kind::Continue, Bytes::new()).await.is_none() {
                return;
            }
        }
        let uploading = async {
            let mut more = head.has_body;
            while more {
                match reader.next().await {
                    Some(frames::Frame::Data(data)) => drop(feed.send(Ok(Frame::data(data)))),
                    Some(frames::Frame::End(_)) => more = false,
                    _ => return drop(feed.send(Err(std::io::ErrorKind::UnexpectedEof.into()))),
                }
            }
            drop(feed);
            // Between the upload and the answer nothing comes but the end of the connection.
            if reader.next().await.is_none() {
                return;
            }
            std::future::pending::<()>().await;
        };
        let answered = async {
            let response = match early {
                Some(response) => response,
                None => answering.await,
            };
            answer(&mut write, response?).await
        };
        tokio::select! {
            biased;
            answered = answered => if answered.is_none() { return },
            () = uploading => return,
        }
    }
}

async fn answer(write: &mut OwnedWriteHalf, response: Response<Scripted>) -> Option<()> {
    let (head, mut body) = response.into_parts();
    if head.headers.contains_key(RETIRE) {
        send(write, Kind::End, Bytes::new()).await?;
        return None;
    }
    let head = AnswerHead {
        has_body: true,
        is_last: head.headers.get("connection").is_some_and(|value| value == "close"),
        status: head.status,
        reason: Bytes::new(),
        fields: head.headers,
    };
    send(write, Kind::Head, head.encode()).await?;
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(data) => send(write, Kind::Data, data).await?,
            Err(frame) => return send(write, Kind::End, encode_fields(&frame.into_trailers().ok()?)).await,
        }
    }
    send(write, Kind::End, Bytes::new()).await
}

async fn send(write: &mut OwnedWriteHalf, kind: Kind, payload: Bytes) -> Option<()> {
    let mut encoder = Encoder::default();
    encoder.push(kind, payload).unwrap();
    while !encoder.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 2];
        let count = encoder.slices(&mut slices);
        let written = write.write_vectored(&slices[..count]).await.ok()?;
        encoder.advance(written);
    }
    Some(())
}

struct Reader {
    read: OwnedReadHalf,
    decoder: Decoder,
}

impl Reader {
    async fn next(&mut self) -> Option<frames::Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            if self.read.read_buf(self.decoder.room()).await.ok()? == 0 {
                return None;
            }
        }
    }
}
