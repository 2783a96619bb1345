//! The HTTP server that the services under test call: any request → a small JSON answer after a few milliseconds.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Longest time an answer takes.
const MAX_DELAY_MS: u64 = 9;

/// Serves on that port of loopback until the process is ended.
pub fn serve(port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("cannot listen")?;
        println!("ready");
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(async move {
                // A client that goes away is no failure.
                let _ = connection.await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let letters = request.uri().path().bytes().map(u64::from).sum::<u64>();
    // A client that goes away is no failure.
    let _ = request.into_body().collect().await;
    tokio::time::sleep(Duration::from_millis(letters % (MAX_DELAY_MS + 1))).await;
    let body = format!(r#"{{"price":{},"quantity":{}}}"#, letters % 300 + 1, letters % 17 + 1);
    let response = Response::builder().header("content-type", "application/json");
    // The parts are constants.
    Ok(response.body(Full::new(Bytes::from(body))).unwrap_or_default())
}
