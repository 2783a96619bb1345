//! The service under test in Rust: hyper as server and client on tokio's threads, work moving between them. HTTP only.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

/// Worker threads, whatever the machine has.
const THREADS: usize = 4;

struct Service {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Requests at the same time: the pool's size.
    calls: Semaphore,
    backend: String,
    plans: String,
    log: File,
}

/// Serves on `port` until the process is ended; everything else is in the environment, as for the other services.
pub fn serve(port: u16) -> Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("there is no {name}"));
    let service = Arc::new(Service {
        client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
        calls: Semaphore::new(variable("POOL")?.parse()?),
        backend: format!("http://127.0.0.1:{}", variable("BACKEND_PORT")?),
        plans: variable("PLANS")?,
        log: File::options().append(true).create(true).open(variable("LOG")?)?,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("cannot listen")?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = Arc::clone(&service);
            let answer = service_fn(move |request| Arc::clone(&service).answer(request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(async move {
                // A client that goes away is no failure.
                let _ = connection.await;
            });
        }
    })
}

impl Service {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let nonce = request.uri().path().rsplit('/').next().unwrap_or("").to_owned();
        // A client that goes away is no failure.
        let _ = request.into_body().collect().await;
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            match self.carry_out(&nonce, answer).await {
                Ok(()) => self.write(&format!("{nonce} -")),
                Err(error) => self.write(&format!("! {nonce} {error}")),
            }
        });
        // A failure is on file.
        let body = answered.await.unwrap_or_default();
        let response = Response::builder().header("content-type", "application/json");
        Ok(response.body(Full::new(Bytes::from(body))).unwrap_or_default())
    }

    async fn carry_out(self: &Arc<Self>, cause: &str, answer: oneshot::Sender<String>) -> Result<()> {
        let text = fs::read_to_string(format!("{}/{cause}", self.plans))?;
        let mut lines = text.lines();
        let mut answer = Some(answer);
        while let Some(line) = lines.next() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "think" => tokio::time::sleep(Duration::from_millis(rest.parse()?)).await,
                "answer" => {
                    if let Some(answer) = answer.take() {
                        // A client that goes away is no failure.
                        let _ = answer.send(rest.to_owned());
                    }
                }
                "together" => {
                    let branches: Vec<_> =
                        lines.by_ref().take(rest.parse()?).map(|line| self.spawn(line, cause)).collect();
                    for branch in branches {
                        branch.await??;
                    }
                }
                _ => self.single(line, cause).await?,
            }
        }
        Ok(())
    }

    fn spawn(self: &Arc<Self>, line: &str, cause: &str) -> tokio::task::JoinHandle<Result<()>> {
        let (this, line, cause) = (Arc::clone(self), line.to_owned(), cause.to_owned());
        tokio::spawn(async move { this.single(&line, &cause).await })
    }

    fn single<'a>(
        &'a self,
        line: &'a str,
        cause: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(async move {
            let mut parts = line.splitn(5, ' ');
            let (Some("http"), Some(nonce), Some(method), Some(target)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                bail!("not a call: {line}");
            };
            let body = parts.next().unwrap_or("");
            let mut request = Request::builder().method(method).uri(format!("{}{target}", self.backend));
            if !body.is_empty() {
                request = request.header("content-type", "application/json");
            }
            let permit = self.calls.acquire().await?;
            let response =
                self.client.request(request.body(Full::new(Bytes::from(body.to_owned())))?).await?;
            response.into_body().collect().await?;
            drop(permit);
            self.write(&format!("{nonce} {cause}"));
            Ok(())
        })
    }

    fn write(&self, line: &str) {
        // The harness fails when a line is missing.
        let _ = (&self.log).write_all(format!("{line}\n").as_bytes());
    }
}
