//! Customers, sellers, operators and partners: one order's life as HTTP requests → what became of it.
//!
//! Every request is put on file like those of the services, see [`crate::truth`].
//! *Owns* the scenarios and a small HTTP/1.1 client. *Must not know* spans.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::peers::{connect, go_on};

/// What is supposed to happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// Ordered in the shop, confirmed, priced, produced.
    Good,
    /// Ordered by a partner in the MES, produced.
    Partner,
    /// The object store refuses the model.
    UploadError,
    /// The MES database refuses the production plan (a check constraint).
    SqlError,
    /// The MES rejects the order's message; RabbitMQ dead-letters it to the service desk.
    Rejected,
}

impl Scenario {
    pub const ALL: [Self; 5] = [Self::Good, Self::Partner, Self::UploadError, Self::SqlError, Self::Rejected];

    /// What order number `index` is to live through: in every ten, six good ones and every kind of failure.
    pub fn of(index: usize) -> Self {
        const CYCLE: [Scenario; 10] = [
            Scenario::Good,
            Scenario::UploadError,
            Scenario::Partner,
            Scenario::SqlError,
            Scenario::Good,
            Scenario::Rejected,
            Scenario::Good,
            Scenario::Good,
            Scenario::Partner,
            Scenario::Good,
        ];
        CYCLE[index % CYCLE.len()]
    }

    /// It ends in an error on purpose.
    pub fn fails(self) -> bool {
        !matches!(self, Scenario::Good | Scenario::Partner)
    }
}

/// One order that has come to its end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub order: u64,
    pub scenario: Scenario,
}

/// Where the services listen.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub shop: u16,
    pub crm: u16,
    pub mes: u16,
}

/// Where they listen, and what is trusted there if they speak TLS.
#[derive(Clone, Debug)]
pub struct Web {
    pub ports: Ports,
    pub tls: Option<Arc<ClientConfig>>,
}

/// A connection, plain or under TLS.
trait Stream: Read + Write + fmt::Debug + Send {}

impl<S: Read + Write + fmt::Debug + Send> Stream for S {}

type Connection = BufReader<Box<dyn Stream>>;

impl Web {
    fn connect(&self, port: u16) -> Result<Connection> {
        let stream = connect(port, PATIENCE)?.into_inner();
        let Some(config) = &self.tls else { return Ok(BufReader::new(Box::new(stream))) };
        let name = ServerName::try_from("127.0.0.1")?;
        let session = ClientConnection::new(config.clone(), name)?;
        Ok(BufReader::new(Box::new(StreamOwned::new(session, stream))))
    }
}

/// How long an order may wait for the next status. Far more than needed: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// One order's life, from its first request until its last status is known in the shop.
pub fn live_through(index: usize, scenario: Scenario, web: &Web, ledger: &Arc<Ledger>) -> Result<Outcome> {
    go_on()?;
    let mut people = People::new(web.clone(), ledger);
    let outcome = people.live(index, scenario, web.ports);
    people.write()?;
    outcome.with_context(|| format!("order {:?}, number {index}, {scenario:?}", people.order))
}

/// One good order, step by step: for what goes wrong on purpose in the middle of it.
#[derive(Debug)]
pub struct Customer {
    people: People,
    index: usize,
    order: u64,
}

impl Customer {
    /// Orders something in the shop.
    pub(crate) fn order(index: usize, web: Web, ledger: &Arc<Ledger>) -> Result<Self> {
        let mut people = People::new(web, ledger);
        let wish = json!({ "user_id": 1, "material": "PLA", "quantity": 1 });
        let ports = people.web.ports;
        let order = people.create(ports.shop, "/orders", &wish, &[])?["order_id"].as_u64();
        Ok(Self { people, index, order: order.context("no order_id in the shop's answer")? })
    }

    pub fn number(&self) -> u64 {
        self.order
    }

    /// Uploads the model; the status of the answer.
    pub fn upload(&mut self) -> Result<u16> {
        self.people.upload(self.people.web.ports.shop, self.order, self.index, Scenario::Good)
    }

    /// Hands the order in; the status of the answer.
    pub fn submit(&mut self) -> Result<u16> {
        let path = format!("/orders/{}/submit", self.order);
        Ok(self.people.request(self.people.web.ports.shop, "POST", &path, &[], b"")?.0)
    }

    /// A seller confirms it; the status of the answer.
    pub fn confirm(&mut self) -> Result<u16> {
        let path = format!("/api/orders/{}/confirm", self.order);
        Ok(self.people.request(self.people.web.ports.crm, "POST", &path, &[("x-seller-id", "7")], b"")?.0)
    }

    /// The operator says once more that it is finished; the status of the answer.
    pub fn finish_again(&mut self) -> Result<u16> {
        self.people.operate(self.people.web.ports.mes, self.order, "finish", 11)
    }

    /// An operator produces it.
    pub fn produce(&mut self) -> Result<()> {
        self.people.produce(self.people.web.ports, self.order, 11)
    }
}

/// The people around one order; they share their connections.
#[derive(Debug)]
struct People {
    web: Web,
    connections: HashMap<u16, Connection>,
    ledger: Arc<Ledger>,
    requests: Vec<Value>,
    order: Option<u64>,
}

impl People {
    fn new(web: Web, ledger: &Arc<Ledger>) -> Self {
        Self { web, connections: HashMap::new(), ledger: ledger.clone(), requests: Vec::new(), order: None }
    }

    fn live(&mut self, index: usize, scenario: Scenario, ports: Ports) -> Result<Outcome> {
        // Small numbers that look like order IDs: users, sellers and quantities from 1 to 20.
        let number = |step: usize| (index * step) % 20 + 1;
        let (user, quantity) = (number(7), number(3));
        let material = match scenario {
            Scenario::SqlError => "TITANIUM",
            Scenario::Rejected => "MOONDUST",
            _ => ["PLA", "PETG", "STEEL"][index % 3],
        };
        if index.is_multiple_of(4) {
            // Work that belongs to no order.
            self.browse(ports, user)?;
        }
        if scenario == Scenario::Partner {
            let wish =
                json!({ "partner_ref": format!("P-{index}"), "material": material, "quantity": quantity });
            let answer =
                self.create(ports.mes, "/b2b/orders", &wish, &[("x-partner-id", &number(5).to_string())])?;
            let order = answer["order_id"].as_u64().context("no order_id in the MES's answer")?;
            return self.produce(ports, order, number(11)).map(|()| Outcome { order, scenario });
        }
        let wish = json!({ "user_id": user, "material": material, "quantity": quantity });
        let order = self.create(ports.shop, "/orders", &wish, &[])?["order_id"].as_u64();
        let order = order.context("no order_id in the shop's answer")?;
        let outcome = Outcome { order, scenario };
        let status = self.upload(ports.shop, order, index, scenario)?;
        if scenario == Scenario::UploadError {
            ensure!(status == 502, "the upload was answered {status} instead of 502");
            return Ok(outcome);
        }
        ensure!(status == 201, "the upload was answered {status}");
        let path = format!("/orders/{order}/submit");
        ensure!(
            self.request(ports.shop, "POST", &path, &[], b"")?.0 == 200,
            "the order could not be submitted"
        );
        let path = format!("/api/orders/{order}/confirm");
        let seller = [("x-seller-id", number(13).to_string())];
        let seller = seller.each_ref().map(|(name, value)| (*name, value.as_str()));
        ensure!(
            self.request(ports.crm, "POST", &path, &seller, b"")?.0 == 202,
            "the order could not be confirmed"
        );
        match scenario {
            Scenario::Rejected => self.wait_for(ports.shop, order, "rejected")?,
            Scenario::SqlError => {
                self.wait_for(ports.shop, order, "priced")?;
                let status = self.operate(ports.mes, order, "start", number(11))?;
                ensure!(status == 409, "production was answered {status} instead of 409");
                self.wait_for(ports.shop, order, "failed")?;
            }
            _ => self.produce(ports, order, number(11))?,
        }
        Ok(outcome)
    }

    /// Price list, stock, a user's orders: read by people who have not decided yet.
    fn browse(&mut self, ports: Ports, user: usize) -> Result<()> {
        self.request(ports.shop, "GET", "/stock", &[], b"")?;
        self.request(ports.mes, "GET", "/prices", &[], b"")?;
        let (_, list) =
            self.request(ports.shop, "GET", &format!("/orders?user_id={user}&limit=10"), &[], b"")?;
        // A list of one order is about that order.
        let only = match list["orders"].as_array().map(Vec::as_slice) {
            Some([only]) => only["order_id"].as_u64(),
            _ => None,
        };
        for request in &mut self.requests {
            let named = if request["path"] == "/orders" { only } else { None };
            request["order"] = json!(named);
        }
        self.write()
    }

    fn create(&mut self, port: u16, path: &str, wish: &Value, headers: &[(&str, &str)]) -> Result<Value> {
        let headers = [&[("content-type", "application/json")], headers].concat();
        let (status, answer) = self.request(port, "POST", path, &headers, wish.to_string().as_bytes())?;
        ensure!(status == 201, "{path} answered {status}: {answer}");
        self.order = answer["order_id"].as_u64();
        Ok(answer)
    }

    /// Uploads a model of 20 to 400 KB, now and then of several megabytes, as a browser's form does.
    fn upload(&mut self, port: u16, order: u64, index: usize, scenario: Scenario) -> Result<u16> {
        let extension = if scenario == Scenario::UploadError { "3mf" } else { ["stl", "obj"][index % 2] };
        let len = if index % 9 == 4 { 3 << 20 } else { 20_000 + (index * 37_171) % 380_000 };
        let boundary = "----model-boundary-7d1e";
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"; filename=\"part-{index}.{extension}\"\r\n\
             Content-Type: model/{extension}\r\n\r\n"
        );
        let mut body = head.into_bytes();
        body.extend(model(index, len));
        body.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let path = format!("/orders/{order}/model");
        Ok(self.request(port, "POST", &path, &[("content-type", &content_type)], &body)?.0)
    }

    /// An operator produces a priced order.
    fn produce(&mut self, ports: Ports, order: u64, operator: usize) -> Result<()> {
        self.wait_for(ports.shop, order, "priced")?;
        let status = self.request(ports.mes, "GET", &format!("/operator/orders/{order}/model"), &[], b"")?.0;
        ensure!(matches!(status, 200 | 404), "the model was answered {status}");
        ensure!(self.operate(ports.mes, order, "start", operator)? == 200, "production could not be started");
        self.wait_for(ports.shop, order, "started")?;
        ensure!(
            self.operate(ports.mes, order, "finish", operator)? == 200,
            "production could not be finished"
        );
        self.wait_for(ports.shop, order, "finished")
    }

    fn operate(&mut self, port: u16, order: u64, action: &str, operator: usize) -> Result<u16> {
        let operator = operator.to_string();
        let path = format!("/operator/orders/{order}/{action}");
        Ok(self.request(port, "POST", &path, &[("x-operator-id", &operator)], b"")?.0)
    }

    /// The customer looks at the order, less and less often, until it has the status.
    fn wait_for(&mut self, port: u16, order: u64, status: &str) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(40);
        loop {
            let (_, answer) = self.request(port, "GET", &format!("/orders/{order}"), &[], b"")?;
            if answer["status"] == status {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                bail!("the order is {} for {PATIENCE:?}, not {status}", answer["status"]);
            }
            go_on()?;
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_secs(1));
        }
    }

    /// One request on the connection to that port; status and JSON body of the answer.
    fn request(
        &mut self,
        port: u16,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(u16, Value)> {
        let mut stream = match self.connections.remove(&port) {
            Some(stream) => stream,
            None => self.web.connect(port)?,
        };
        let mut head = format!(
            "{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let start_ns = unix_ns();
        stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (status, answer) =
            read_response(&mut stream).with_context(|| format!("no answer to {method} {target}"))?;
        let path = target.split('?').next().unwrap_or(target);
        self.requests.push(json!({
            "nonce": self.ledger.nonce(), "service": "customers", "pid": std::process::id(), "kind": "http.client",
            "cause": null, "method": method, "path": path, "status": status, "start_ns": start_ns, "end_ns": unix_ns(),
        }));
        self.connections.insert(port, stream);
        Ok((status, serde_json::from_slice(&answer).unwrap_or(Value::Null)))
    }

    /// Puts the requests on file.
    fn write(&mut self) -> Result<()> {
        let order = self.order;
        for request in &mut self.requests {
            if let Some(entry) = request.as_object_mut() {
                entry.entry("order").or_insert(json!(order));
            }
        }
        self.ledger.write(&std::mem::take(&mut self.requests))
    }
}

/// A response with `content-length`; chunked ones are not sent by the services.
fn read_response(stream: &mut Connection) -> Result<(u16, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("not a status line: {line:?}"))?;
    let mut len = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            len = value.trim().parse().context("content-length is no number")?;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    Ok((status, body))
}

/// Triangles in the form of an STL file, the same for the same index.
fn model(index: usize, len: usize) -> Vec<u8> {
    let mut text = format!("solid part_{index}\n").into_bytes();
    let mut state = index as u64 + 1;
    while text.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (x, y, z) = (state >> 54, (state >> 44) & 1023, (state >> 34) & 1023);
        text.extend(format!("vertex {x}.0 {y}.5 {z}.25\n").into_bytes());
    }
    text.truncate(len);
    text
}

/// The people's own truth log.
#[derive(Debug)]
pub struct Ledger {
    file: Mutex<File>,
    count: AtomicU64,
}

impl Ledger {
    pub fn new(file: File) -> Self {
        Self { file: Mutex::new(file), count: AtomicU64::new(0) }
    }

    fn nonce(&self) -> String {
        format!("customers-{}-{}", std::process::id(), self.count.fetch_add(1, Ordering::Relaxed))
    }

    fn write(&self, entries: &[Value]) -> Result<()> {
        let lines: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
        let mut file = self.file.lock().map_err(|_| anyhow::anyhow!("another thread failed"))?;
        file.write_all(lines.as_bytes()).context("cannot write the truth log")
    }
}

/// Nanoseconds since the Unix epoch.
pub fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
