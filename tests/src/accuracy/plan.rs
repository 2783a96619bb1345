//! A seed → what a service is told to do for one request or message.
//!
//! A plan is a file that the service reads when the request arrives: nothing of it is in the traced bytes. Every operation
//! in it has a nonce, which rides where no rule of the joiner looks: a segment of a path, the name of a result column, a
//! routing key. Order IDs are small integers, and so are quantities, users and limits in the same statements and bodies.
//!
//! *Owns* the shape of the work and its text. *Must not know* runtimes, spans.

use std::fmt::Write;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Orders are numbered from 1 to this.
pub const ORDERS: u64 = 3000;
/// Quantities, users and limits are numbers of orders so close that they are likely to be in flight.
const NEAR: u64 = 200;

/// What the runtime under test can do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    pub sql: bool,
    pub amqp: bool,
    /// It can go on working after its answer.
    pub background: bool,
}

/// Names one operation in the logs and in its own bytes. Letters only, so that nothing takes it for a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(pub String);

impl Nonce {
    const LEN: usize = 18;
    const LETTERS: &'static [u8] = b"bcdfghjklmnpqrst";

    fn new(rng: &mut Rng) -> Self {
        let letters = (2..Self::LEN).map(|_| char::from(Self::LETTERS[rng.usize(..Self::LETTERS.len())]));
        Self("zz".chars().chain(letters).collect())
    }

    /// The nonce inside a text, if there is one.
    pub fn find(text: &str) -> Option<Self> {
        let is_letter = |byte: &u8| Self::LETTERS.contains(byte);
        text.match_indices("zz").find_map(|(at, _)| {
            let found = text.get(at..at + Self::LEN)?;
            found.as_bytes()[2..].iter().all(is_letter).then(|| Self(found.to_owned()))
        })
    }
}

/// What kind of operation a nonce names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A request of the driver to the service.
    Request,
    Http,
    Sql,
    Publish,
}

/// One operation that a plan leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    pub nonce: Nonce,
    pub kind: Kind,
    pub order: Option<u64>,
    /// Its own bytes name the order.
    pub carries: bool,
    /// It is done together with others, in the threads that runtimes have for this.
    pub together: bool,
    /// The plan it is part of; `None` for requests.
    pub cause: Option<Nonce>,
}

/// A request to send, the files it needs and what it leads to.
#[derive(Clone, Debug)]
pub struct Plan {
    pub method: &'static str,
    pub target: String,
    pub body: String,
    /// Name and text of each file: the request's own, and those of the messages it publishes.
    pub files: Vec<(Nonce, String)>,
    pub planned: Vec<Planned>,
}

impl Plan {
    /// Work for `order`, or for none. `near` is the order that was begun last.
    pub fn new(rng: &mut Rng, order: Option<u64>, near: u64, abilities: Abilities) -> Self {
        let nonce = Nonce::new(rng);
        let mut plan = Self {
            method: "POST",
            target: String::new(),
            body: String::new(),
            files: Vec::new(),
            planned: Vec::new(),
        };
        let mut writer = Writer {
            rng,
            abilities,
            order,
            near,
            user: 0,
            may_carry: true,
            together: false,
            cause: nonce.clone(),
            text: String::new(),
            plan: &mut plan,
        };
        writer.user = writer.number();
        let (target, body, answer, carries) = writer.request(&nonce);
        writer.work(&answer, 2..=6);
        let text = writer.text;
        plan.planned.insert(
            0,
            Planned {
                nonce: nonce.clone(),
                kind: Kind::Request,
                order,
                carries,
                together: false,
                cause: None,
            },
        );
        plan.method = if body.is_empty() { "GET" } else { "POST" };
        plan.target = target;
        plan.body = body;
        plan.files.push((nonce, text));
        plan
    }
}

struct Writer<'a> {
    rng: &'a mut Rng,
    abilities: Abilities,
    order: Option<u64>,
    near: u64,
    user: u64,
    may_carry: bool,
    together: bool,
    cause: Nonce,
    text: String,
    plan: &'a mut Plan,
}

impl Writer<'_> {
    /// A number that could be an order's.
    fn number(&mut self) -> u64 {
        (self.near + ORDERS - self.rng.u64(..NEAR)) % ORDERS + 1
    }

    /// Target, body and answer of the request, and whether its bytes name the order.
    fn request(&mut self, nonce: &Nonce) -> (String, String, String, bool) {
        let (nonce, user, quantity, limit) = (&nonce.0, self.user, self.number(), self.number());
        let no_answer = format!(r#"{{"quantity":{quantity}}}"#);
        let Some(order) = self.order else {
            self.may_carry = false;
            return (format!("/stock/{nonce}?user_id={user}&limit={limit}"), String::new(), no_answer, false);
        };
        let body = format!(r#"{{"user_id":{user},"quantity":{quantity}}}"#);
        match self.rng.u32(..10) {
            0..6 => (format!("/orders/{order}/jobs/{nonce}"), body, no_answer, true),
            // The order is created: its number is known from the answer only.
            6..8 => (
                format!("/jobs/{nonce}"),
                body,
                format!(r#"{{"order_id":{order},"quantity":{quantity}}}"#),
                true,
            ),
            _ => {
                let body = format!(r#"{{"quantity":{quantity},"order_id":{order},"user_id":{user}}}"#);
                (format!("/jobs/{nonce}"), body, no_answer, true)
            }
        }
    }

    /// Steps, with thinking between them, and the answer at their end or a little earlier.
    fn work(&mut self, answer: &str, count: std::ops::RangeInclusive<usize>) {
        let count = self.rng.usize(count);
        let early = self.abilities.background && count > 2 && self.rng.u32(..10) == 0;
        let answer_at = if early { count - 1 } else { count };
        for step in 0..=count {
            if step == answer_at {
                self.line(&format!("answer {answer}"));
            }
            if step == count {
                break;
            }
            if self.rng.u32(..10) < 6 {
                let think = self.rng.u32(0..12);
                self.line(&format!("think {think}"));
            }
            match self.rng.u32(..100) {
                0..15 => {
                    let branches = self.rng.usize(2..=3);
                    self.line(&format!("together {branches}"));
                    self.together = true;
                    (0..branches).for_each(|_| self.call());
                    self.together = false;
                }
                15..27 if self.abilities.sql => {
                    self.line("begin");
                    (0..self.rng.usize(2..=3)).for_each(|_| self.sql());
                    self.line("commit");
                }
                27..37 if self.abilities.amqp => self.publish(),
                _ => self.call(),
            }
        }
    }

    fn call(&mut self) {
        if self.abilities.sql && self.rng.bool() { self.sql() } else { self.http() }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The order, if the next operation is to name it.
    fn carried(&mut self) -> Option<u64> {
        self.order.filter(|_| self.may_carry && self.rng.bool())
    }

    fn planned(&mut self, kind: Kind, carries: bool) -> String {
        let nonce = Nonce::new(self.rng);
        let text = nonce.0.clone();
        let cause = Some(self.cause.clone());
        self.plan.planned.push(Planned {
            nonce,
            kind,
            order: self.order,
            carries,
            together: self.together,
            cause,
        });
        text
    }

    fn http(&mut self) {
        let (order, user, quantity, limit) = (self.carried(), self.user, self.number(), self.number());
        let nonce = self.planned(Kind::Http, order.is_some());
        let (method, target, body) = match (order, self.rng.u32(..3)) {
            (Some(order), 0) => {
                ("PUT", format!("/orders/{order}/price/{nonce}"), format!(r#"{{"quantity":{quantity}}}"#))
            }
            (Some(order), 1) => {
                ("GET", format!("/price/{nonce}?limit={limit}&order_id={order}"), String::new())
            }
            (Some(order), _) => (
                "POST",
                format!("/price/{nonce}"),
                format!(r#"{{"quantity":{quantity},"order_id":{order}}}"#),
            ),
            (None, 0) => {
                ("POST", format!("/price/{nonce}"), format!(r#"{{"quantity":{quantity},"user_id":{user}}}"#))
            }
            (None, _) => ("GET", format!("/price/{nonce}?quantity={quantity}&limit={limit}"), String::new()),
        };
        self.line(format!("http {nonce} {method} {target} {body}").trim_end());
    }

    fn sql(&mut self) {
        let (order, user, quantity, limit) = (self.carried(), self.user, self.number(), self.number());
        let nonce = self.planned(Kind::Sql, order.is_some());
        let took = f64::from(self.rng.u32(0..4)) / 1000.0;
        let mut values = String::new();
        let mut values_of = |list: &[u64]| {
            let list: Vec<String> = list.iter().map(u64::to_string).collect();
            // Writing to a string cannot fail.
            let _ = write!(values, "{}", list.join(","));
        };
        let text = match (order, self.rng.u32(..3)) {
            (Some(order), 0) => {
                values_of(&[order, limit]);
                format!("SELECT status AS {nonce}, quantity FROM orders WHERE order_id = $1 LIMIT $2::int4")
            }
            (Some(order), 1) => {
                values_of(&[quantity, order]);
                format!("UPDATE items SET quantity = $1 WHERE order_id = $2 RETURNING quantity AS {nonce}")
            }
            (Some(order), _) => {
                values_of(&[order, user, quantity]);
                format!(
                    "INSERT INTO history (order_id, user_id, quantity) VALUES ($1, $2, $3) RETURNING quantity AS {nonce}"
                )
            }
            (None, 0) => {
                values_of(&[user, quantity]);
                format!("INSERT INTO audit (user_id, quantity) VALUES ($1, $2) RETURNING quantity AS {nonce}")
            }
            (None, 1) => {
                values_of(&[user, quantity, limit]);
                format!(
                    "SELECT price AS {nonce} FROM prices WHERE user_id = $1 AND quantity < $2 LIMIT $3::int4"
                )
            }
            (None, _) => {
                values_of(&[quantity]);
                format!(
                    "SELECT material AS {nonce} FROM stock, pg_sleep({took}) WHERE quantity > $1 LIMIT 17"
                )
            }
        };
        self.line(&format!("sql {nonce} {values} {text}"));
    }

    /// A message, and what its consumer does with it.
    fn publish(&mut self) {
        let (order, quantity) = (self.carried(), self.number());
        let nonce = self.planned(Kind::Publish, order.is_some());
        let body = match order {
            Some(order) => format!(r#"{{"quantity":{quantity},"order_id":{order}}}"#),
            None => format!(r#"{{"quantity":{quantity}}}"#),
        };
        self.line(&format!("publish {nonce} {body}"));
        let nonce = Nonce(nonce);
        let mut writer = Writer {
            rng: self.rng,
            abilities: Abilities { amqp: false, background: false, ..self.abilities },
            order: self.order,
            near: self.near,
            user: self.user,
            // Who is not told the order cannot name it.
            may_carry: order.is_some(),
            together: false,
            cause: nonce.clone(),
            text: String::new(),
            plan: self.plan,
        };
        writer.work("", 1..=3);
        let text = writer.text;
        self.plan.files.push((nonce, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities { sql: true, amqp: true, background: true };

    #[test]
    fn a_nonce_is_found_in_any_text() {
        let nonce = Nonce::new(&mut Rng::with_seed(1));
        for text in ["/price/@?quantity=17", "SELECT price AS @, quantity FROM orders", "@", "zz zzz @"] {
            assert_eq!(Nonce::find(&text.replace('@', &nonce.0)), Some(nonce.clone()), "{text}");
        }
        for text in ["", "zz", "/pizza/zzbcd", "zzzzzzzzzzzzzzzzzzzzzz"] {
            assert_eq!(Nonce::find(text), None, "{text}");
        }
    }

    #[test]
    fn every_planned_operation_is_in_a_file_and_work_without_the_order_does_not_name_it() {
        let mut rng = Rng::with_seed(2);
        for round in 0..400 {
            let order = (round % 5 != 0).then_some(100_000 + round);
            let plan = Plan::new(&mut rng, order, round, ALL);
            for planned in plan.planned.iter().filter(|planned| planned.kind != Kind::Request) {
                let cause = planned.cause.as_ref().expect("work has a cause");
                let (_, text) = plan.files.iter().find(|(name, _)| name == cause).expect("a file");
                let line = text.lines().find(|line| line.contains(&planned.nonce.0)).expect("a line");
                let named = order.is_some_and(|order| line.contains(&order.to_string()));
                assert_eq!(named, planned.carries, "{line}");
            }
        }
    }
}
