//! Rules that are switched off, evidence that is shown, and links between the traces of one order.
//! Long because the traffic in which every rule has something to say is written out.

use std::collections::BTreeSet;
use std::time::Duration;

use spoor::config;
use spoor::export::tree::{Style, TreePrinter};
use spoor_core::causality::Rule;
use spoor_core::causality::settings::TrustedContext;
use spoor_core::order::window::Window;
use spoor_core::pipeline::Settings;
use spoor_core::record::Sender::{Client, Server};
use spoor_core::record::{Record, Worker};
use spoor_core::span::Span;
use spoor_core::trace::{SpanId, TraceId, Value};
use spoor_tests::transcript::{Covered, Host, Process, wire};
use spoor_tests::whole_core::{run_with, settings, text};

const CONTEXT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

/// Traffic in which every rule has something to say.
fn of_every_kind() -> Vec<Record> {
    let mut host = Host::new();
    let (customer, shop, crm, database, broker, mes) = (
        Process(900),
        host.process(200, "shop"),
        host.process(300, "crm"),
        host.process(400, "postgresql"),
        host.process(500, "rabbitmq"),
        host.process(600, "mes"),
    );
    let asks = customer.thread(0);
    let request = |host: &mut Host, path: &str, headers: &str, reader: Worker| {
        let link = host.connect(customer, shop, 8080, Covered::Server);
        host.send(link, Client, wire::request("POST", path, headers, ""), asks, reader);
        link
    };

    // Thread and wire: one thread works on one request.
    let (worker, seller) = (shop.thread(1), crm.thread(1));
    let front = request(&mut host, "/orders/17", "", worker);
    let back = host.connect(shop, crm, 8081, Covered::Both);
    host.send(back, Client, wire::request("POST", "/confirm", "", "{}"), worker, seller);
    host.send(back, Server, wire::response(200, "{}"), seller, worker);
    host.send(front, Server, wire::response(201, "{}"), worker, asks);
    host.wait_ms(2000);

    // Value and transaction: other threads work on two requests.
    let (one, two, pool) = (shop.thread(2), shop.thread(3), shop.thread(4));
    let backend = database.thread(0);
    let store = host.connect(shop, database, 5432, Covered::Client);
    let (first, second) =
        (request(&mut host, "/orders/18", "", one), request(&mut host, "/orders/19", "", two));
    for (sql, tag, status) in [
        ("BEGIN", "BEGIN", b'T'),
        ("UPDATE orders SET status = 'new' WHERE id = 18", "UPDATE 1", b'T'),
        ("COMMIT", "COMMIT", b'I'),
    ] {
        host.send(store, Client, wire::query(sql), pool, backend);
        host.send(store, Server, wire::done(tag, status), backend, pool);
    }
    host.send(first, Server, wire::response(201, "{}"), one, asks);
    host.send(second, Server, wire::response(201, "{}"), two, asks);
    host.wait_ms(2000);

    // Last read: a thread goes on with the answer to what another one has asked.
    let (front_thread, other) = (shop.thread(5), shop.thread(6));
    let front = request(&mut host, "/prices", "", front_thread);
    host.send(store, Client, wire::query("SELECT 1"), front_thread, backend);
    host.send(store, Server, wire::done("SELECT 1", b'I'), backend, other);
    host.send(store, Client, wire::query("SELECT 2"), other, backend);
    host.send(store, Server, wire::done("SELECT 1", b'I'), backend, other);
    host.send(front, Server, wire::response(200, "{}"), front_thread, asks);
    host.wait_ms(2000);

    // Forwarded: a proxy passes on two requests at once, the later one first.
    let (gate, seller) = (host.process(700, "gate"), crm.thread(2));
    let passes_on = gate.thread(0);
    let agent = "User-Agent: browser\r\n";
    let paths = ["/prices/1", "/prices/2"];
    let asked = paths.map(|path| {
        let link = host.connect(customer, gate, 80, Covered::Server);
        host.send(link, Client, wire::request("GET", path, agent, ""), asks, passes_on);
        link
    });
    let passed_on = [(1, paths[1]), (0, paths[0])].map(|(n, path)| {
        let link = host.connect(gate, crm, 8082, Covered::Client);
        host.send(link, Client, wire::request("GET", path, agent, ""), passes_on, seller);
        (n, link)
    });
    for (n, link) in passed_on {
        host.send(link, Server, wire::response(200, "{}"), seller, passes_on);
        host.send(asked[n], Server, wire::response(200, "{}"), passes_on, asks);
    }
    host.wait_ms(2000);

    // Carried: a runtime hands the trace ID on, which nobody exports, with a span ID of its own; two requests at once.
    let (runtime, prices) = (host.process(710, "runtime"), crm.thread(4));
    let pool = [runtime.thread(0), runtime.thread(1)];
    let traced = |trace: u8, span: u8| format!("traceparent: 00-{trace:032x}-{span:016x}-00\r\n");
    let asked = [1, 2].map(|trace| {
        let link = host.connect(customer, runtime, 8084, Covered::Server);
        host.send(link, Client, wire::request("GET", "/plan", &traced(trace, 1), ""), asks, pool[0]);
        link
    });
    for trace in [2, 1] {
        let link = host.connect(runtime, crm, 8085, Covered::Client);
        host.send(link, Client, wire::request("GET", "/part", &traced(trace, 2), ""), pool[1], prices);
        host.send(link, Server, wire::response(200, "{}"), prices, pool[1]);
    }
    for link in asked {
        host.send(link, Server, wire::response(200, "{}"), pool[0], asks);
    }
    host.wait_ms(2000);

    // Chain: one thread for all requests, and tasks that wait for each other. Keys show that they lead where they must.
    let (desk, statements) = (host.process(800, "desk"), crm.thread(3));
    let event_loop = desk.thread(0);
    let asked = host.connect(desk, database, 5433, Covered::Client);
    let links = [(); 2].map(|()| host.connect(customer, desk, 8083, Covered::Server));
    for round in 0..8 {
        let orders = [100 + 2 * round, 101 + 2 * round];
        for (link, order) in links.into_iter().zip(orders) {
            let path = format!("/orders/{order}");
            host.send(link, Client, wire::request("POST", &path, "", ""), asks, event_loop);
        }
        let sql = match round {
            0..7 => format!("UPDATE orders SET status = 'new' WHERE id = {}", orders[0]),
            _ => "SELECT 4".to_owned(),
        };
        host.written_by(&[10 + round, 1]);
        host.send(asked, Client, wire::query(&sql), event_loop, statements);
        host.send(asked, Server, wire::done("UPDATE 1", b'I'), statements, event_loop);
        for (link, task) in links.into_iter().zip([1, 2]) {
            host.written_by(&[task]);
            host.send(link, Server, wire::response(201, "{}"), event_loop, asks);
        }
        host.wait_ms(2000);
    }

    // Message.
    let input = host.connect(crm, broker, 5672, Covered::Both);
    let output = host.connect(mes, broker, 5672, Covered::Both);
    let (from, via, to) = (crm.thread(7), broker.thread(0), mes.thread(0));
    host.consume(output, "mes.orders", to, via);
    host.send(input, Client, wire::AMQP_HELLO, from, via);
    host.send(input, Client, wire::publish(1, "orders", "new", "m-1", "{}"), from, via);
    host.send(output, Server, wire::deliver(1, 1, "orders", "new", "m-1", "{}"), via, to);
    host.send(output, Client, wire::ack(1, 1), to, via);
    host.wait_ms(2000);

    // Alone: a process that does nothing unasked, and another thread than the one that reads.
    host.wait_ms(70_000);
    let front = request(&mut host, "/prices", "", front_thread);
    host.send(store, Client, wire::query("SELECT 3"), shop.thread(8), backend);
    host.send(store, Server, wire::done("SELECT 1", b'I'), backend, shop.thread(8));
    host.send(front, Server, wire::response(200, "{}"), shop.thread(9), asks);
    host.wait_ms(2000);

    // Context: the request carries it.
    let front = request(&mut host, "/orders/20", CONTEXT, worker);
    host.send(front, Server, wire::response(201, "{}"), worker, asks);
    host.records
}

fn trusting() -> Settings {
    let mut settings = settings();
    settings.joining.trusted_context = TrustedContext::All;
    settings
}

fn rules_of(spans: &[Span]) -> BTreeSet<Rule> {
    spans.iter().filter_map(|span| Some(span.evidence?.rule)).collect()
}

#[test]
fn every_rule_makes_edges_and_none_once_it_is_switched_off() {
    let records = of_every_kind();
    let all = run_with(trusting(), records.clone());
    assert_eq!(rules_of(&all), Rule::ALL.into_iter().collect());
    for rule in Rule::ALL {
        let mut settings = trusting();
        settings.joining.rules.retain(|other| *other != rule);
        let spans = run_with(settings, records.clone());
        assert!(!rules_of(&spans).contains(&rule), "{} is off", rule.name());
    }
    let mut settings = trusting();
    settings.joining.rules.clear();
    let spans = run_with(settings, records.clone());
    assert_eq!(rules_of(&spans), BTreeSet::new());
    let mut settings = trusting();
    settings.joining.min_confidence = 0.98;
    for span in run_with(settings, records) {
        assert!(span.evidence.is_none_or(|evidence| evidence.confidence.0 >= 0.98), "{}", span.name);
    }
}

#[test]
fn a_configuration_file_switches_rules_off() {
    let text = "joining: { rules: [wire, thread], covered: [10.0.0.0/8, all] }\norder: { window: request }\n";
    let loaded = config::load::parse("spoor.yaml", text).expect("a configuration");
    assert_eq!(loaded.joining.rules, [Rule::Wire, Rule::Thread]);
    assert_eq!(loaded.order.window, Window::Request);
    let mut settings = trusting();
    settings.joining = loaded.joining;
    let rules = rules_of(&run_with(settings, of_every_kind()));
    assert_eq!(rules, [Rule::Wire, Rule::Thread].into_iter().collect());
}

#[test]
fn a_printed_tree_shows_rule_and_confidence_of_every_edge() {
    let spans = run_with(trusting(), of_every_kind());
    let mut printed = Vec::new();
    let mut printer = TreePrinter::new(&mut printed, Style::default(), Duration::ZERO);
    for span in &spans {
        printer.push(span.clone(), Duration::ZERO).unwrap();
    }
    printer.finish().unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let mut shown: Vec<&str> =
        printed.lines().filter_map(|line| Some(line.rsplit_once('[')?.1.split_once(']')?.0)).collect();
    let mut expected: Vec<String> = spans
        .iter()
        .filter_map(|span| span.evidence)
        .map(|evidence| format!("{} {:.2}", evidence.rule.name(), evidence.confidence.0))
        .collect();
    shown.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shown, expected, "{printed}");
}

/// A request to a shop, answered.
fn ask(host: &mut Host, shop: Process, path: &str, headers: &str, body: &str) {
    let customer = Process(900);
    let front = host.connect(customer, shop, 8080, Covered::Server);
    let (asks, serves) = (customer.thread(0), shop.thread(1));
    host.send(front, Client, wire::request("POST", path, headers, body), asks, serves);
    host.send(front, Server, wire::response(200, "{}"), serves, asks);
    host.close(front);
    host.wait_ms(5_000);
}

/// Trace of each span, and what it links to, as indices of spans: `0 1→0` is two traces, the second linked to the first.
fn links(spans: &[Span]) -> String {
    let place = |at: (TraceId, SpanId)| {
        spans
            .iter()
            .position(|span| (span.trace_id, span.span_id) == at)
            .map_or("?".to_owned(), |n| n.to_string())
    };
    let mut traces: Vec<TraceId> = Vec::new();
    let mut out = Vec::new();
    for span in spans {
        let number = traces.iter().position(|trace| *trace == span.trace_id).unwrap_or_else(|| {
            traces.push(span.trace_id);
            traces.len() - 1
        });
        let linked: String = span
            .links
            .iter()
            .map(|link| format!("→{} ({})", place((link.trace_id, link.span_id)), text_of(link)))
            .collect();
        out.push(format!("{number}{linked}"));
    }
    out.join(" ")
}

fn text_of(link: &spoor_core::span::Link) -> String {
    link.attributes
        .iter()
        .map(|(_, value)| match value {
            Value::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        })
        .collect()
}

fn by_time(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.start);
    spans
}

#[test]
fn an_order_with_a_trace_per_request_links_each_to_its_first() {
    let mut host = Host::new();
    let shop = host.process(200, "shop");
    for path in ["/orders/17", "/orders/18", "/orders/17", "/orders/17"] {
        ask(&mut host, shop, path, "", "");
    }
    let mut settings = settings();
    settings.order.window = Window::Request;
    let spans = by_time(run_with(settings, host.records));
    assert_eq!(links(&spans), "0 1 2→0 (order) 3→0 (order)");
    assert!(spans.iter().all(|span| text(span, "spoor.trace.rule") == "wire"));
}

#[test]
fn an_order_that_outlives_its_window_goes_on_in_another_trace_linked_to_the_one_before() {
    let mut host = Host::new();
    let shop = host.process(200, "shop");
    for _ in 0..4 {
        ask(&mut host, shop, "/orders/17", "", "");
    }
    let mut settings = settings();
    settings.order.window = Window::Every(Duration::from_secs(10));
    let spans = by_time(run_with(settings, host.records));
    let traces: Vec<TraceId> = spans.iter().map(|span| span.trace_id).collect();
    let changes: Vec<usize> = (1..4).filter(|n| traces[*n] != traces[n - 1]).collect();
    assert!(!changes.is_empty(), "15 s do not fit into a window of 10 s");
    for (n, span) in spans.iter().enumerate() {
        let before = changes.contains(&n).then(|| traces[n - 1]);
        let linked: Vec<TraceId> = span.links.iter().map(|link| link.trace_id).collect();
        assert_eq!(linked.contains(&before.unwrap_or(span.trace_id)), before.is_some(), "{n}");
    }
}

#[test]
fn a_trace_from_in_band_context_is_linked_to_its_orders_own_trace() {
    let mut host = Host::new();
    let shop = host.process(200, "shop");
    ask(&mut host, shop, "/orders/17", CONTEXT, "");
    ask(&mut host, shop, "/orders/17", "", "");
    ask(&mut host, shop, "/orders/18", "", "");
    ask(&mut host, shop, "/orders/18", &CONTEXT.replace("0af7", "1af7"), "");
    let spans = by_time(run_with(trusting(), host.records));
    assert_eq!(links(&spans), "0 1→0 (order) 2 3→2 (order)");
    // Where nothing of the order's own trace was exported before, its identifier is all there is.
    let named: Vec<String> = spans.iter().map(|span| text(span, "spoor.order.trace_id")).collect();
    assert_eq!(named, [spans[1].trace_id.to_string().as_str(), "", "", ""]);
}

#[test]
fn a_clients_context_does_not_move_what_other_threads_do_for_its_order() {
    let mut host = Host::new();
    let (customer, shop, database) =
        (Process(900), host.process(200, "shop"), host.process(400, "postgresql"));
    let (asks, worker, pool, backend) =
        (customer.thread(0), shop.thread(1), shop.thread(2), database.thread(0));
    let store = host.connect(shop, database, 5432, Covered::Client);
    let front = host.connect(customer, shop, 8080, Covered::Server);
    host.send(front, Client, wire::request("GET", "/orders/17", CONTEXT, ""), asks, worker);
    for (sql, thread) in [
        ("SELECT * FROM prices", worker),
        ("UPDATE orders SET status = 'priced' WHERE id = 17", pool),
        ("UPDATE items SET price = 1 WHERE order_id = 17", worker),
    ] {
        host.send(store, Client, wire::query(sql), thread, backend);
        host.send(store, Server, wire::done("UPDATE 1", b'I'), backend, thread);
    }
    host.send(front, Server, wire::response(200, "{}"), worker, asks);
    host.wait_ms(2000);
    // What the order does without that client.
    ask(&mut host, shop, "/orders/17", "", "");
    let spans = by_time(run_with(trusting(), host.records.clone()));
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let [request, own, other, named, later] = spans.as_slice() else { panic!("{names:?}") };
    assert_eq!((own.trace_id, named.trace_id), (request.trace_id, request.trace_id), "{names:?}");
    assert_eq!(own.parent.zip(named.parent), Some((request.span_id, request.span_id)));
    assert_eq!((other.trace_id, other.parent), (later.trace_id, None), "{names:?}");
    assert_ne!(other.trace_id, request.trace_id);
    let link = other.links.iter().find(|link| link.span_id == request.span_id).expect("its likely cause");
    assert_eq!(link.attributes.get("spoor.link.rule"), Some(&Value::from("value")));
    // Where orders have no traces, there is nothing to keep apart.
    let mut settings = trusting();
    settings.order.window = Window::Request;
    let spans = by_time(run_with(settings, host.records));
    assert_eq!(spans[2].parent, Some(spans[0].span_id));
}

#[test]
fn traces_of_one_order_under_two_numbers_are_linked() {
    let rules = "order:\n  keys:\n    - { namespace: order, in: { fields: [order_id] } }\n    - { namespace: crm, type: text, in: { fields: [sales_order] } }\n";
    let mut settings = settings();
    settings.order = config::load::parse("spoor.yaml", rules).expect("a configuration").order;
    let mut host = Host::new();
    let shop = host.process(200, "shop");
    for body in [
        "{\"order_id\": 17}",
        "{\"sales_order\": \"SO-9\"}",
        "{\"sales_order\": \"SO-9\", \"order_id\": 17}",
        "{\"order_id\": 17, \"sales_order\": \"SO-9\"}",
        "{\"sales_order\": \"SO-8\", \"order_id\": 18}",
        "{\"sales_order\": \"SO-8\"}",
    ] {
        ask(&mut host, shop, "/check", "", body);
    }
    let spans = by_time(run_with(settings, host.records));
    assert_eq!(links(&spans), "0 1 0→1 (alias) 0 2 3→4 (order)");
}

/// A thread's request is seen, its answer and the next request are lost, and the next answer is seen: what the thread did for the
/// request that is lost was not done for the one before. The loss is known before that one is over.
#[test]
fn a_request_whose_answer_was_lost_is_not_the_cause_of_what_came_after_it() {
    let mut host = Host::new();
    let (customer, shop, database) =
        (Process(900), host.process(200, "shop"), host.process(400, "postgresql"));
    let (asks, worker, backend) = (customer.thread(0), shop.thread(1), database.thread(0));
    let store = host.connect(shop, database, 5432, Covered::Client);
    let front = host.connect(customer, shop, 8080, Covered::Server);
    // How the process works is known.
    for _ in 0..3 {
        host.send(front, Client, wire::request("GET", "/prices", "", ""), asks, worker);
        host.send(store, Client, wire::query("SELECT 1"), worker, backend);
        host.send(store, Server, wire::done("SELECT 1", b'I'), backend, worker);
        host.send(front, Server, wire::response(200, "{}"), worker, asks);
        host.wait_ms(2000);
    }
    host.send(front, Client, wire::request("GET", "/orders/17", "", ""), asks, worker);
    let lost = host.records.len();
    host.send(front, Server, wire::response(200, "{}"), worker, asks);
    host.send(front, Client, wire::request("GET", "/orders/18", "", ""), asks, worker);
    let lost = lost..host.records.len();
    host.send(store, Client, wire::query("SELECT 2"), worker, backend);
    host.send(store, Server, wire::done("SELECT 1", b'I'), backend, worker);
    host.send(front, Server, wire::response(200, "{}"), worker, asks);
    host.wait_ms(2000);
    let mut records = host.records;
    let is_data = |record: &Record| matches!(record, Record::Data(_));
    assert_eq!(records.drain(lost).filter(is_data).count(), 2);
    let spans = by_time(run_with(settings(), records));
    let statements = spans.iter().filter(|span| span.name.starts_with("SELECT"));
    let rules: Vec<_> = statements.map(|span| span.evidence.map(|evidence| evidence.rule)).collect();
    assert_eq!(rules, [Some(Rule::Thread), Some(Rule::Thread), Some(Rule::Thread), None]);
}

/// Two orders that hang for `hang_ms`, and one statement of each meanwhile, all on one thread. `begin` lets the work of an
/// order come in, `end` lets it be over.
fn hanging(
    hang_ms: u64,
    begin: impl Fn(&mut Host, Worker, u32),
    end: impl Fn(&mut Host, Worker, u32),
) -> Vec<Record> {
    let mut host = Host::new();
    let (worker, database) = (host.process(200, "mes"), host.process(400, "postgresql"));
    let (thread, backend) = (worker.thread(1), database.thread(0));
    let store = host.connect(worker, database, 5432, Covered::Client);
    for order in [17, 18] {
        begin(&mut host, thread, order);
    }
    for order in [18, 17] {
        let sql = format!("UPDATE orders SET status = 'cut' WHERE id = {order}");
        host.send(store, Client, wire::query(&sql), thread, backend);
        host.send(store, Server, wire::done("UPDATE 1", b'I'), backend, thread);
    }
    for _ in 0..hang_ms / 500 {
        host.wait_ms(500);
        // Other work goes on, and time passes with it.
        host.send(store, Client, wire::query("SELECT 1"), thread, backend);
        host.send(store, Server, wire::done("SELECT 1", b'I'), backend, thread);
    }
    for order in [17, 18] {
        end(&mut host, thread, order);
    }
    host.wait_ms(1);
    host.records
}

#[track_caller]
fn statements_are_below_their_orders(records: Vec<Record>) {
    let spans = run_with(settings(), records);
    let statements: Vec<&Span> = spans.iter().filter(|span| span.name.starts_with("UPDATE")).collect();
    assert_eq!(statements.len(), 2);
    for statement in statements {
        let order = text(statement, "order.id");
        let parent = spans.iter().find(|span| Some(span.span_id) == statement.parent);
        let parent = parent.unwrap_or_else(|| panic!("the statement of order {order} has no parent"));
        assert_eq!(text(parent, "order.id"), order);
        assert_eq!(statement.evidence.map(|evidence| evidence.rule), Some(Rule::Value));
    }
}

#[test]
fn what_a_hanging_request_has_shown_so_far_is_enough_to_join_by_value() {
    let links = std::cell::RefCell::new(Vec::new());
    let asks = Process(900).thread(0);
    for hang_ms in [1_000, 9_000, 15_000, 60_000] {
        statements_are_below_their_orders(hanging(
            hang_ms,
            |host, thread, order| {
                let link = host.connect(Process(900), Process(200), 8080, Covered::Server);
                let body = format!("{{\"order_id\": {order}}}");
                host.send(link, Client, wire::request("POST", "/cut", "", &body), asks, thread);
                links.borrow_mut().push(link);
            },
            |host, thread, _| {
                let link = links.borrow_mut().remove(0);
                host.send(link, Server, wire::response(200, "{}"), thread, asks);
            },
        ));
    }
}

#[test]
fn so_is_what_a_stream_of_http2_has_shown() {
    let link = std::cell::Cell::new(None);
    let asks = Process(900).thread(0);
    statements_are_below_their_orders(hanging(
        20_000,
        |host, thread, order| {
            if link.get().is_none() {
                let new = host.connect(Process(900), Process(200), 8080, Covered::Server);
                host.send(new, Client, wire::http2_hello(true), asks, thread);
                host.send(new, Server, wire::http2_hello(false), thread, asks);
                host.send(new, Client, wire::http2_request(1, "", true), asks, thread);
                let answer = wire::http2_frame(1, 5, 1, &wire::http2_response_block(true));
                host.send(new, Server, answer, thread, asks);
                link.set(Some(new));
            }
            let stream = (order - 17) * 2 + 3;
            let request = wire::http2_request(stream, &format!("/orders/{order}"), false);
            host.send(link.get().unwrap(), Client, request, asks, thread);
        },
        |host, thread, order| {
            let stream = (order - 17) * 2 + 3;
            let answer = wire::http2_frame(1, 5, stream, &wire::http2_response_block(false));
            host.send(link.get().unwrap(), Server, answer, thread, asks);
        },
    ));
}

#[test]
fn so_is_a_message_that_is_worked_on_for_long() {
    let link = std::cell::Cell::new(None);
    let broker = Process(500).thread(0);
    statements_are_below_their_orders(hanging(
        20_000,
        |host, thread, order| {
            if link.get().is_none() {
                let new = host.connect(Process(200), Process(500), 5672, Covered::Client);
                host.consume(new, "mes.orders", thread, broker);
                link.set(Some(new));
            }
            let body = format!("{{\"order_id\": {order}}}");
            let tag = u64::from(order) - 16;
            let message = wire::deliver(1, tag, "orders", "new", &format!("m-{order}"), &body);
            host.send(link.get().unwrap(), Server, message, broker, thread);
        },
        |host, thread, order| {
            host.send(link.get().unwrap(), Client, wire::ack(1, u64::from(order) - 16), thread, broker);
        },
    ));
}

#[test]
fn a_request_that_hangs_in_its_own_body_shows_nothing_yet() {
    let asks = Process(900).thread(0);
    let links = std::cell::RefCell::new(Vec::new());
    let records = hanging(
        20_000,
        |host, thread, order| {
            let link = host.connect(Process(900), Process(200), 8080, Covered::Server);
            let head = format!("POST /orders/{order} HTTP/1.1\r\nhost: mes\r\ncontent-length: 9\r\n\r\n");
            host.send(link, Client, head, asks, thread);
            links.borrow_mut().push(link);
        },
        |host, thread, _| {
            let link = links.borrow_mut().remove(0);
            host.send(link, Client, b"[1, 2, 3]", asks, thread);
            host.send(link, Server, wire::response(200, "{}"), thread, asks);
        },
    );
    let spans = run_with(settings(), records);
    let parents =
        spans.iter().filter(|span| span.name.starts_with("UPDATE") && span.parent.is_some()).count();
    assert_eq!(parents, 0);
}

#[test]
fn a_caller_that_reads_its_answer_late_is_still_the_parent() {
    let mut host = Host::new();
    let (shop, crm) = (host.process(200, "shop"), host.process(300, "crm"));
    let (asks, serves) = (shop.thread(1), crm.thread(1));
    let link = host.connect(shop, crm, 8081, Covered::Both);
    host.send(link, Client, wire::request("POST", "/orders/17", "", ""), asks, serves);
    host.send(link, Server, wire::response(200, "{}"), serves, asks);
    // The answer was written, and is read much later.
    let Some(Record::Data(mut read)) = host.records.pop() else { panic!("the caller reads last") };
    for _ in 0..30 {
        host.wait_ms(500);
        let other = host.connect(shop, crm, 8081, Covered::Server);
        host.send(other, Client, wire::request("GET", "/health", "", ""), asks, serves);
        host.send(other, Server, wire::response(200, "{}"), serves, asks);
        host.close(other);
    }
    read.at = host.now();
    host.records.push(Record::Data(read));
    let spans = run_with(settings(), host.records);
    let of_order: Vec<&Span> = spans.iter().filter(|span| text(span, "order.id") == "17").collect();
    let [client, server] = of_order.as_slice() else { panic!("two spans: {of_order:?}") };
    let (client, server) = if client.parent.is_none() { (client, server) } else { (server, client) };
    assert_eq!(server.parent, Some(client.span_id));
    assert_eq!(server.evidence.map(|evidence| evidence.rule), Some(Rule::Wire));
}
