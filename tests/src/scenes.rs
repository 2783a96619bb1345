//! Scripted scenes that tests and benchmarks share: an order's number → the records of what is done for it.

use spoor_core::record::Sender::{Client, Server};

use crate::transcript::{Covered, Host, Link, Process, wire};

/// A shop that serves an order, asks its database, and calls the CRM on the way.
#[derive(Debug)]
pub struct Shop {
    shopper: Process,
    shop: Process,
    crm: Process,
    database: Process,
    front: Link,
    store: Link,
    back: Link,
}

impl Shop {
    /// Its processes, and new connections between them. The shopper is not watched.
    pub fn open(host: &mut Host) -> Self {
        let (shopper, shop, crm, database) = (
            host.process(100, "browser"),
            host.process(200, "shop"),
            host.process(300, "crm"),
            host.process(400, "postgresql"),
        );
        let front = host.connect(shopper, shop, 8080, Covered::Server);
        let store = host.connect(shop, database, 5432, Covered::Both);
        let back = host.connect(shop, crm, 8081, Covered::Both);
        Self { shopper, shop, crm, database, front, store, back }
    }

    /// One order from the request to its answer.
    pub fn order(&self, host: &mut Host, order: u32) {
        let Self { shopper, front, store, back, .. } = *self;
        let (worker, backend, seller) = (self.shop.thread(1), self.database.thread(0), self.crm.thread(1));
        let body = format!("{{\"order_id\": {order}, \"quantity\": 3}}");
        host.send(front, Client, wire::request("POST", "/orders", "", &body), shopper.thread(0), worker);
        let sql = format!("INSERT INTO orders (id, quantity) VALUES ({order}, 3)");
        host.send(store, Client, wire::query(&sql), worker, backend);
        host.send(store, Server, wire::done("INSERT 0 1", b'I'), backend, worker);
        host.send(back, Client, wire::request("POST", "/api/confirm", "", &body), worker, seller);
        host.send(back, Server, wire::response(200, "{}"), seller, worker);
        host.send(front, Server, wire::response(201, "{}"), worker, shopper.thread(0));
    }
}
