//! The baseline: a plain proxy in one process, from the libraries that the daemons are made of.
//!
//! ```text
//!   one-process UPSTREAM-ADDRESS HOST ROOT-FILE AUDIT-DIRECTORY      key and placeholder on standard input, a line each
//! ```
//!
//! It does what any proxy must that puts a key in: HTTP in, the placeholder replaced, HTTP over TLS out on connections
//! that are kept, and the same two audit lines for each request, written by keyd's own files. It is what a request costs
//! before anything is split, caged or scrubbed. It refuses requests without the placeholder, and nothing else: it is no
//! product. Run by the benchmark alone.

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};

mod forward;
mod record;
mod upstream;

#[path = "../../../../keyd/src"]
#[allow(dead_code, unused_imports, reason = "a part of keyd's files is used")]
mod keyd {
    pub mod audit;
    pub mod secret;
    pub mod sys;
}
// keyd's files name each other from their own crate's root.
use keyd::{audit, secret, sys};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even standard error is gone, the exit code has to do.
            let _ = writeln!(io::stderr(), "one-process: {error}");
            ExitCode::from(70)
        }
    }
}

fn run() -> Result<(), forward::Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("say: one-process UPSTREAM-ADDRESS HOST ROOT-FILE AUDIT-DIRECTORY");
    let (address, host, root, log) = (next()?.parse::<SocketAddr>()?, next()?, next()?, PathBuf::from(next()?));
    let mut lines = io::stdin().lock().lines();
    let (key, placeholder) = (lines.next().ok_or("no key")??, lines.next().ok_or("no placeholder")??);
    secret::prepare();
    let proxy = Rc::new(forward::Proxy {
        upstreams: upstream::Upstreams::new(address, &host, &std::fs::read_to_string(root)?)?,
        book: record::Book::open(&log, &format!("{host}:443"))?,
        host: host.parse()?,
        placeholder: format!("Bearer {placeholder}").into_bytes(),
        key: forward::sensitive(&format!("Bearer {key}"))?,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(proxy))
}

async fn serve(proxy: Rc<forward::Proxy>) -> Result<(), forward::Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    let book = Rc::clone(&proxy.book);
    spawn_local(async move { book.sync_each_second().await });
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        socket.set_nodelay(true)?;
        let proxy = Rc::clone(&proxy);
        spawn_local(async move {
            let service = service_fn(|request| forward::answer(Rc::clone(&proxy), request));
            let mut server = hyper::server::conn::http1::Builder::new();
            server.half_close(true).auto_date_header(false);
            // What ends a connection is seen by the client.
            let _ = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
