//! Failures on purpose in the reference flow → what the orders' page says of each, who is warned, and when that ends.
//!
//! Each failure has an order in the middle of it, by which its truth is known. It is broken, said, warned of once, mended, and the
//! order then comes to its end; every wait has a limit, and what was measured is told.
//!
//! *Owns* the drill. *Must not know* how the agent and the server find out.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::flow::{Failure, Flow};
use crate::peers::go_on;
use crate::serve::Server;
use anyhow::{Context, Result, bail, ensure};

/// The agent waits with open work for less than it does elsewhere, and says more often that it is there.
const PENDING: &str = "spans:\n  pending_after: 2s\nexport:\n  otlp:\n    alive_interval: 1s\n";
/// How long may pass until something is said; far more than it takes, for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
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
    pub order: u64,
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
        let Self { what, order, sentence, said_after, rule, warned_after, ended_after } = self;
        write!(
            f,
            "{what}: after {said_after:.1?} the page of order {order} said “{sentence}”, after {warned_after:.1?} rule `{rule}` warned, \
             once; {ended_after:.1?} after the end it was over"
        )
    }
}

/// What a drill needs.
#[derive(Debug)]
pub struct Drill<'a> {
    pub flow: &'a mut Flow,
    pub server: &'a Server,
    pub agent: &'a mut Agent,
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
    /// All of them, one after the other; each is told as soon as it is over.
    pub fn run(&mut self, tell: &mut dyn FnMut(&Told)) -> Result<Vec<Told>> {
        self.flow.number_from(FIRST_NUMBER)?;
        let store_away = self.store_away().context("the object store is away")?;
        tell(&store_away);
        let crm_hangs = self.crm_hangs().context("the CRM hangs")?;
        tell(&crm_hangs);
        let consumer_stopped = self.consumer_stopped().context("the MES has ended")?;
        tell(&consumer_stopped);
        let made_twice = self.made_twice().context("an order is made twice")?;
        tell(&made_twice);
        let agent_silent = self.agent_silent().context("the agent is killed")?;
        tell(&agent_silent);
        Ok(vec![store_away, crm_hangs, consumer_stopped, made_twice, agent_silent])
    }

    /// The store, which is another house's, is away while a customer uploads a model.
    fn store_away(&mut self) -> Result<Told> {
        let mut customer = self.flow.customer()?;
        self.flow.break_down(Failure::StoreAway)?;
        let broken = Instant::now();
        let status = customer.upload()?;
        ensure!(status == 502, "the upload was answered {status} instead of 502");
        // Of three runs two named the store, one said only the shop's own answer 502.
        let sign = ("order-failed", "Shop, ");
        let told = self.said("the object store is away", customer.number(), broken, sign)?;
        self.flow.mend(Failure::StoreAway)?;
        let mended = Instant::now();
        // The shop keeps connections to the store, and finds of each only by using it that it is none any more.
        let mut uploads = std::iter::repeat_with(|| customer.upload()).take(MAX_UPLOADS);
        let is_stored = uploads.find(|status| !matches!(status, Ok(502))).transpose()? == Some(201);
        ensure!(is_stored, "the model could not be uploaded");
        ensure!(customer.submit()? == 200, "the order could not be handed in");
        ensure!(customer.confirm()? == 202, "the order could not be confirmed");
        customer.produce()?;
        self.over(told, mended)
    }

    /// The CRM takes the shop's request and does not answer.
    fn crm_hangs(&mut self) -> Result<Told> {
        let mut customer = self.flow.customer()?;
        ensure!(customer.upload()? == 201, "the model could not be uploaded");
        self.flow.break_down(Failure::CrmHangs)?;
        let broken = Instant::now();
        let order = customer.number();
        let submits = std::thread::spawn(move || customer.submit().map(|status| (customer, status)));
        let sign = ("hangs", "Shop has been waiting for an answer of CRM since ");
        let told = self.said("the CRM hangs", order, broken, sign)?;
        self.flow.mend(Failure::CrmHangs)?;
        let mended = Instant::now();
        let submitted = submits.join().map_err(|_| anyhow::anyhow!("the customer's thread panicked"))?;
        let (mut customer, status) = submitted.context("the order was not handed in")?;
        ensure!(status == 200, "the order was handed in with {status}");
        ensure!(customer.confirm()? == 202, "the order could not be confirmed");
        customer.produce()?;
        self.over(told, mended)
    }

    /// The MES has ended: the broker has a message of an order, and nobody takes it.
    fn consumer_stopped(&mut self) -> Result<Told> {
        let mut customer = self.flow.customer()?;
        ensure!(customer.upload()? == 201, "the model could not be uploaded");
        ensure!(customer.submit()? == 200, "the order could not be handed in");
        self.flow.break_down(Failure::MesStopped)?;
        ensure!(customer.confirm()? == 202, "the order could not be confirmed");
        let broken = Instant::now();
        let sign = ("queue-without-consumer", "Nobody takes from it.");
        let told = self.said("the MES has ended", customer.number(), broken, sign)?;
        self.flow.mend(Failure::MesStopped)?;
        let mended = Instant::now();
        customer.produce()?;
        self.over(told, mended)
    }

    /// An order that is finished is finished once more: the page says so, and somebody is warned for a while.
    fn made_twice(&mut self) -> Result<Told> {
        let mut customer = self.flow.customer()?;
        ensure!(customer.upload()? == 201, "the model could not be uploaded");
        ensure!(customer.submit()? == 200, "the order could not be handed in");
        ensure!(customer.confirm()? == 202, "the order could not be confirmed");
        customer.produce()?;
        let (order, rule) = (customer.number(), "made-twice");
        self.until(&format!("the end of order {order} on its page"), Instant::now(), || {
            Ok(self.server.order(order)?.unwrap_or_default()["outcome"] == "finished")
        })?;
        ensure!(self.alerts("firing", rule, order)? == 0, "it was made once");
        ensure!(customer.finish_again()? == 200, "it could not be finished again");
        let broken = Instant::now();
        let mut sentence = String::new();
        let said_after =
            self.until(&format!("“made twice” on the page of order {order}"), broken, || {
                let page = self.server.order(order)?.unwrap_or_default();
                page["sentence"].as_str().unwrap_or_default().clone_into(&mut sentence);
                Ok(sentence.ends_with("An order has it once: it may have been made twice."))
            });
        let said_after = said_after.with_context(|| format!("it said “{sentence}”"))?;
        let warned_after = self.until("a warning that it was made twice", broken, || {
            Ok(self.alerts("firing", rule, order)? == 1)
        })?;
        let what = "an order is made twice";
        let told =
            Told { what, order, sentence, said_after, rule, warned_after, ended_after: Duration::ZERO };
        self.over(told, broken)
    }

    /// The agent is killed while an order waits: nobody looks, and an order's page must not say what only who looks can know.
    fn agent_silent(&mut self) -> Result<Told> {
        let mut customer = self.flow.customer()?;
        ensure!(customer.upload()? == 201, "the model could not be uploaded");
        ensure!(customer.submit()? == 200, "the order could not be handed in");
        let order = customer.number();
        self.until(&format!("order {order} at the server"), Instant::now(), || {
            Ok(self.server.order(order)?.is_some_and(|page| page["stage"] == "submitted"))
        })?;
        self.agent.kill()?;
        let broken = Instant::now();
        let mut sentence = String::new();
        let said_after =
            self.until(&format!("“the agent is silent” on the page of order {order}"), broken, || {
                let page = self.server.order(order)?.unwrap_or_default();
                page["sentence"].as_str().unwrap_or_default().clone_into(&mut sentence);
                Ok(sentence.starts_with("Nothing has been seen since ") && sentence.contains("is silent."))
            });
        let said_after = said_after.with_context(|| format!("it said “{sentence}”"))?;
        let rule = "agent-silent";
        let warned_after = self.until("a warning of a silent agent", broken, || {
            Ok(self.all_alerts("firing", rule)?.len() == 1)
        })?;
        self.agent.start_again()?;
        let mended = Instant::now();
        let ended_after = self
            .until("the end of that warning", mended, || Ok(self.all_alerts("firing", rule)?.is_empty()))?;
        ensure!(self.all_alerts("resolved", rule)?.len() == 1, "the rule `{rule}` warned more than once");
        self.until(&format!("the page of order {order} without it"), mended, || {
            let page = self.server.order(order)?.unwrap_or_default();
            Ok(!page["sentence"].as_str().unwrap_or_default().contains("is silent"))
        })?;
        ensure!(customer.confirm()? == 202, "the order could not be confirmed");
        customer.produce()?;
        let what = "the agent is killed";
        Ok(Told { what, order, sentence, said_after, rule, warned_after, ended_after })
    }

    /// The page of an order says so, and it is warned of.
    fn said(
        &self,
        what: &'static str,
        order: u64,
        broken: Instant,
        (rule, text): (&'static str, &str),
    ) -> Result<Told> {
        let mut sentence = String::new();
        let said_after = self.until(&format!("“{text}” on the page of order {order}"), broken, || {
            let page = self.server.order(order)?.unwrap_or_default();
            page["sentence"].as_str().unwrap_or_default().clone_into(&mut sentence);
            let is_wrong = matches!(page["outcome"].as_str(), Some("stuck" | "failed"));
            Ok(is_wrong && sentence.contains(text))
        });
        let said_after = said_after.with_context(|| format!("it said “{sentence}”"))?;
        let warned_after = self.until(&format!("a warning of the rule `{rule}`"), broken, || {
            Ok(self.alerts("firing", rule, order)? == 1)
        })?;
        Ok(Told { what, order, sentence, said_after, rule, warned_after, ended_after: Duration::ZERO })
    }

    /// The order comes to its end and the warning ends, which was one and no more.
    fn over(&self, told: Told, mended: Instant) -> Result<Told> {
        let Told { order, rule, .. } = told;
        self.until(&format!("the end of order {order} on its page"), mended, || {
            Ok(self.server.order(order)?.unwrap_or_default()["outcome"] == "finished")
        })?;
        let ended_after = self.until(&format!("the end of the warning of `{rule}`"), mended, || {
            Ok(self.alerts("firing", rule, order)? == 0)
        })?;
        let ended = self.alerts("resolved", rule, order)?;
        ensure!(ended == 1, "the rule `{rule}` warned {ended} times, not once");
        Ok(Told { ended_after, ..told })
    }

    /// How many warnings of an order are so.
    fn alerts(&self, state: &str, rule: &str, order: u64) -> Result<usize> {
        let alerts = self.all_alerts(state, rule)?;
        let order = order.to_string();
        Ok(alerts.iter().filter(|alert| alert["order"] == order.as_str()).count())
    }

    fn all_alerts(&self, state: &str, rule: &str) -> Result<Vec<serde_json::Value>> {
        let answer = self.server.get(&format!("/api/v1/alerts?state={state}&rule={rule}"))?;
        let alerts = answer.context("the server has no alerts' page")?["alerts"].as_array().cloned();
        alerts.context("no alerts in the server's answer")
    }

    /// Asks again and again; how long it took since `from`.
    fn until(&self, what: &str, from: Instant, mut ask: impl FnMut() -> Result<bool>) -> Result<Duration> {
        let begin = Instant::now();
        loop {
            if ask()? {
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
