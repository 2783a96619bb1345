//! Failures on purpose in the reference flow → what the orders' page says of each, who is warned, and when that ends.
//!
//! Each failure has an order in the middle of it, by which its truth is known. It is broken, said, warned of once, mended, and the
//! order then comes to its end; every wait has a limit, and what was measured is told.
//!
//! *Owns* the drill. *Must not know* how the agent and the server find out.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::agent::Agent;
use crate::customers::Customer;
use crate::flow::{Failure, Flow};
use crate::peers::go_on;
use crate::serve::Server;

/// The agent waits with open work for less than it does elsewhere: this is its `spans.pending_after`.
const PENDING: &str = "spans:\n  pending_after: 2s\n";
/// How long may pass until something is said; far more than it takes, for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
/// Orders before the one whose message nobody takes: what is usual of messages is known after a hundred, and seven orders of ten
/// send one.
const ORDERS_BEFORE: usize = 160;
const CONCURRENCY: usize = 6;
/// Orders of the drill have numbers of their own: the agent sees all programs of the machine, and what others do with an order of
/// the same number would be told of it as well.
const FIRST_NUMBER: u64 = 700_000;
/// A customer tries so often to upload a model.
const MAX_UPLOADS: usize = 20;

/// What became of one failure.
#[derive(Clone, Debug)]
pub struct Told {
    pub what: &'static str,
    /// The order in the middle of it.
    pub order: Option<u64>,
    /// What its page said, and how long after the failure.
    pub sentence: String,
    pub said_after: Duration,
    /// The rule that warned, and how long after the failure.
    pub rule: &'static str,
    pub warned_after: Duration,
    /// How long after it was mended the warning was over.
    pub ended_after: Duration,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, sentence, said_after, rule, warned_after, ended_after, .. } = self;
        let order = self.order.map(|order| format!(" of order {order}")).unwrap_or_default();
        write!(
            f,
            "{what}: after {said_after:.1?} the page{order} said “{sentence}”, after {warned_after:.1?} rule `{rule}` warned, \
             once; {ended_after:.1?} after the end it was over"
        )
    }
}

/// What a drill needs.
#[derive(Debug)]
pub struct Drill<'a> {
    pub flow: &'a mut Flow,
    pub server: &'a Server,
    /// The agent's binary, and where its files go.
    pub binary: &'a Path,
    pub dir: &'a Path,
}

/// Starts an agent that tells of open work soon.
pub fn start_agent(binary: &Path, dir: &Path, name: &str, server: &Server) -> Result<Agent> {
    let config = dir.join(format!("{name}.yaml"));
    std::fs::write(&config, PENDING).context("cannot write the agent's configuration")?;
    let options = ["--config".to_owned(), config.to_string_lossy().into_owned()];
    let endpoint = ["--otlp-endpoint".to_owned(), server.endpoint()];
    Agent::start(binary, dir, name, &[options, endpoint].concat())
}

impl Drill<'_> {
    /// All of them, one after the other; each is told as soon as it is over. The agent is another one afterwards.
    pub fn run(&mut self, agent: Agent, tell: &mut dyn FnMut(&Told)) -> Result<(Agent, Vec<Told>)> {
        self.flow.number_from(FIRST_NUMBER)?;
        let mut all = Vec::new();
        let mut done = |told: Told| {
            tell(&told);
            all.push(told);
        };
        done(self.store_away().context("the object store is away")?);
        done(self.crm_hangs().context("the CRM hangs")?);
        let (agent, told) = self.agent_silent(agent).context("the agent is silent")?;
        done(told);
        done(self.no_consumer().context("nobody takes messages")?);
        Ok((agent, all))
    }

    /// The store, which is another house's, is away while a customer uploads a model.
    fn store_away(&mut self) -> Result<Told> {
        let mut customer = self.flow.customer()?;
        let broken = self.break_down(Failure::StoreAway)?;
        let status = customer.upload()?;
        ensure!(status == 502, "the upload was answered {status} instead of 502");
        let told = self.said(&customer, broken, "order-failed", "Shop, ")?;
        self.mended(Failure::StoreAway, customer, told, |customer| {
            // The shop keeps connections to the store, and finds of each only by using it that it is none any more.
            let mut uploads = std::iter::repeat_with(|| customer.upload()).take(MAX_UPLOADS);
            let is_stored = uploads.find(|status| !matches!(status, Ok(502))).transpose()? == Some(201);
            ensure!(is_stored, "the model could not be uploaded");
            ensure!(customer.submit()? == 200, "the order could not be handed in");
            ensure!(customer.confirm()? == 202, "the order could not be confirmed");
            customer.produce()
        })
    }

    /// The CRM takes the shop's request and does not answer.
    fn crm_hangs(&mut self) -> Result<Told> {
        let mut customer = self.flow.customer()?;
        ensure!(customer.upload()? == 201, "the model could not be uploaded");
        let broken = self.break_down(Failure::CrmHangs)?;
        let number = customer.number();
        let waits = std::thread::spawn(move || customer.submit().map(|status| (customer, status)));
        let told = self.said_of(number, broken, "hangs", "has been waiting for an answer of")?;
        self.flow.mend(Failure::CrmHangs)?;
        let mended = Instant::now();
        let joined = waits.join().map_err(|_| anyhow::anyhow!("the customer's thread panicked"))?;
        let (mut customer, status) = joined.context("the order was not handed in")?;
        ensure!(status == 200, "the order was handed in with {status}");
        ensure!(customer.confirm()? == 202, "the order could not be confirmed");
        customer.produce()?;
        self.over(told, mended, 0)
    }

    /// The MES has ended: a confirmed order's message stays in its queue.
    fn no_consumer(&mut self) -> Result<Told> {
        self.flow.run_orders(ORDERS_BEFORE, CONCURRENCY)?;
        let mut customer = self.flow.customer()?;
        ensure!(customer.upload()? == 201, "the model could not be uploaded");
        ensure!(customer.submit()? == 200, "the order could not be handed in");
        self.flow.break_down(Failure::NoConsumer)?;
        ensure!(customer.confirm()? == 202, "the order could not be confirmed");
        let told = self.said(&customer, Instant::now(), "message-not-taken", "nobody took it")?;
        self.mended(Failure::NoConsumer, customer, told, Customer::produce)
    }

    /// The agent is gone, and services are not heard of. The page cannot know that: places are warned of.
    fn agent_silent(&mut self, agent: Agent) -> Result<(Agent, Told)> {
        // In a house of one order at a time it is quiet now and then: that is over first.
        self.flow.run_orders(1, 1)?;
        self.until("the end of an earlier quiet time", Instant::now(), || {
            Ok((self.firing("silent", None)? == 0).then_some(()))
        })?;
        let before = self.alerts("resolved", "silent", None)?.len();
        agent.stop()?;
        let broken = Instant::now();
        let warned_after = self.until("a warning of the rule `silent`", broken, || {
            Ok((self.firing("silent", None)? == 1).then_some(()))
        })?;
        let agent = start_agent(self.binary, self.dir, "drill", self.server)?;
        let mended = Instant::now();
        self.flow.run_orders(1, 1)?;
        let told = Told {
            what: "the agent is silent",
            order: None,
            sentence: self.text("silent", None)?,
            said_after: warned_after,
            rule: "silent",
            warned_after,
            ended_after: Duration::ZERO,
        };
        Ok((agent, self.over(told, mended, before)?))
    }

    fn break_down(&mut self, failure: Failure) -> Result<Instant> {
        self.flow.break_down(failure)?;
        Ok(Instant::now())
    }

    fn said(&self, customer: &Customer, broken: Instant, rule: &'static str, text: &str) -> Result<Told> {
        self.said_of(customer.number(), broken, rule, text)
    }

    /// The page of an order says so, and it is warned of.
    fn said_of(&self, order: u64, broken: Instant, rule: &'static str, text: &str) -> Result<Told> {
        let mut sentence = String::new();
        let said_after = self.until(&format!("“{text}” on the page of order {order}"), broken, || {
            let page = self.server.order(order)?.unwrap_or_default();
            page["sentence"].as_str().unwrap_or_default().clone_into(&mut sentence);
            let stuck = matches!(page["outcome"].as_str(), Some("stuck" | "lost" | "failed"));
            Ok((stuck && sentence.contains(text)).then_some(()))
        });
        let said_after = said_after.with_context(|| format!("it said “{sentence}”"))?;
        let warned_after = self.until(&format!("a warning of the rule `{rule}`"), broken, || {
            Ok((self.firing(rule, Some(order))? == 1).then_some(()))
        })?;
        let what = match rule {
            "order-failed" => "the object store is away",
            "hangs" => "the CRM hangs",
            _ => "nobody takes messages",
        };
        let ended_after = Duration::ZERO;
        Ok(Told { what, order: Some(order), sentence, said_after, rule, warned_after, ended_after })
    }

    fn mended(
        &mut self,
        failure: Failure,
        mut customer: Customer,
        told: Told,
        go_on: impl FnOnce(&mut Customer) -> Result<()>,
    ) -> Result<Told> {
        self.flow.mend(failure)?;
        let mended = Instant::now();
        go_on(&mut customer)?;
        self.over(told, mended, 0)
    }

    /// The warning ends, and since there were so many there was one and no more.
    fn over(&self, told: Told, mended: Instant, before: usize) -> Result<Told> {
        if let Some(order) = told.order {
            self.until(&format!("the end of order {order} on its page"), mended, || {
                let page = self.server.order(order)?.unwrap_or_default();
                Ok((page["outcome"] == "finished").then_some(()))
            })?;
        }
        let ended_after =
            self.until(&format!("the end of the warning of `{}`", told.rule), mended, || {
                Ok((self.firing(told.rule, told.order)? == 0).then_some(()))
            })?;
        let ended = self.alerts("resolved", told.rule, told.order)?.len().saturating_sub(before);
        ensure!(ended == 1, "the rule `{}` warned {ended} times, not once", told.rule);
        Ok(Told { ended_after, ..told })
    }

    fn firing(&self, rule: &str, order: Option<u64>) -> Result<usize> {
        Ok(self.alerts("firing", rule, order)?.len())
    }

    fn text(&self, rule: &str, order: Option<u64>) -> Result<String> {
        let alerts = self.alerts("firing", rule, order)?;
        Ok(alerts.first().and_then(|alert| alert["text"].as_str()).unwrap_or_default().to_owned())
    }

    fn alerts(&self, state: &str, rule: &str, order: Option<u64>) -> Result<Vec<Value>> {
        let answer =
            self.server.get(&format!("/api/v1/alerts?state={state}&rule={rule}"))?.unwrap_or_default();
        let order = order.map(|order| order.to_string());
        let alerts = answer["alerts"].as_array().cloned().unwrap_or_default();
        Ok(alerts.into_iter().filter(|alert| alert["order"].as_str() == order.as_deref()).collect())
    }

    /// Asks again and again; how long it took since `from`.
    fn until(
        &self,
        what: &str,
        from: Instant,
        mut ask: impl FnMut() -> Result<Option<()>>,
    ) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            if ask()?.is_some() {
                return Ok(from.elapsed());
            }
            go_on()?;
            if begin.elapsed() > PATIENCE {
                bail!("{what} did not come within {PATIENCE:?}");
            }
            std::thread::sleep(POLL);
        }
    }
}
