//! Two agents that share nothing: each sees one end of what its processes say to the other's, and together they make one tree.

use std::collections::{BTreeMap, HashSet};

use expect_test::expect;
use spoor_core::order::window::Window;
use spoor_core::pipeline::Settings;
use spoor_core::record::Sender::{Client, Server};
use spoor_core::record::{ConnId, Record};
use spoor_core::span::{Span, SpanKind};
use spoor_core::trace::{SpanId, TraceId};
use spoor_tests::transcript::{Covered, Host, Process, wire};
use spoor_tests::whole_core::{forest, run_with, settings, text};

const CUSTOMER: u32 = 100;
const SHOP: u32 = 200;
const CRM: u32 = 300;
const DATABASE: u32 = 400;
const BROKER: u32 = 500;
const MES: u32 = 600;

/// What an agent sees that covers these processes only.
fn seen_by(processes: &[u32], records: &[Record]) -> Vec<Record> {
    let own = |record: &Record| match record {
        Record::Conn(conn) if processes.contains(&conn.thread.tgid.0) => Some(conn.id),
        _ => None,
    };
    let conns: HashSet<ConnId> = records.iter().filter_map(own).collect();
    let is_seen = |record: &&Record| match record {
        Record::Conn(conn) => processes.contains(&conn.thread.tgid.0),
        Record::Data(data) => conns.contains(&data.conn),
        Record::Chain(chain) => conns.contains(&chain.conn),
        Record::Close(close) => conns.contains(&close.conn),
        Record::ProcessInfo(info) => processes.contains(&info.tgid.0),
        Record::Clock(_) | Record::Process(_) | Record::Lost(_) => true,
    };
    records.iter().filter(is_seen).cloned().collect()
}

/// Settings of an agent that is told which addresses others cover.
fn knowing(covered: &[&str]) -> Settings {
    let mut settings = settings();
    settings.joining.covered = covered.iter().map(|text| (*text).to_owned()).collect();
    settings
}

/// What two agents with those settings export, one covering `processes`, one the rest.
fn exported(records: &[Record], processes: &[u32], settings: [Settings; 2]) -> Vec<Span> {
    let rest: Vec<u32> = [CUSTOMER, SHOP, CRM, DATABASE, BROKER, MES]
        .into_iter()
        .filter(|process| !processes.contains(process))
        .collect();
    let [one, other] = settings;
    let mut spans = run_with(one, seen_by(processes, records));
    spans.extend(run_with(other, seen_by(&rest, records)));
    spans
}

fn both(settings: Settings) -> [Settings; 2] {
    [settings.clone(), settings]
}

/// Parents and links that are not exported, links to a span's own parent, and identifiers given twice.
fn faults(spans: &[Span]) -> Vec<String> {
    let mut known: HashSet<(TraceId, SpanId)> = HashSet::new();
    let mut faults = Vec::new();
    for span in spans {
        if !known.insert((span.trace_id, span.span_id)) {
            faults.push(format!("{} has the identifier of another span", span.name));
        }
    }
    for span in spans {
        if span.parent.is_some_and(|parent| !known.contains(&(span.trace_id, parent))) {
            faults.push(format!("the parent of {} is exported by nobody", span.name));
        }
        for link in &span.links {
            if !known.contains(&(link.trace_id, link.span_id)) {
                faults.push(format!("a link {} of {} leads nowhere", text_of(link), span.name));
            }
            if (link.trace_id, Some(link.span_id)) == (span.trace_id, span.parent) {
                faults.push(format!("a link {} of {} leads to its parent", text_of(link), span.name));
            }
        }
    }
    faults
}

fn text_of(link: &spoor_core::span::Link) -> String {
    link.attributes.iter().map(|(_, value)| format!("{value:?}")).collect()
}

struct Scene {
    host: Host,
    customer: Process,
    shop: Process,
    crm: Process,
    database: Process,
    broker: Process,
    mes: Process,
}

impl Scene {
    fn new() -> Self {
        let mut host = Host::new();
        let mut process = |tgid, name| host.process(tgid, name);
        let (customer, shop, crm, database, broker, mes) = (
            process(CUSTOMER, "customer"),
            process(SHOP, "shop"),
            process(CRM, "crm"),
            process(DATABASE, "postgresql"),
            process(BROKER, "rabbitmq"),
            process(MES, "mes"),
        );
        Self { host, customer, shop, crm, database, broker, mes }
    }

    /// A customer asks the shop for `path`, which calls the CRM with a body, which publishes it; the MES takes it.
    fn order(&mut self, path: &str, call: &str, body: &str, headers: &str, message_id: &str) {
        let Self { host, customer, shop, crm, broker, mes, .. } = self;
        let (customer, shop, crm, broker, mes) = (*customer, *shop, *crm, *broker, *mes);
        let front = host.connect(customer, shop, 8080, Covered::Both);
        let call_to_crm = host.connect(shop, crm, 8081, Covered::Both);
        let input = host.connect(crm, broker, 5672, Covered::Both);
        let output = host.connect(mes, broker, 5672, Covered::Both);
        let (asks, serves, sells, via, makes) =
            (customer.thread(0), shop.thread(1), crm.thread(1), broker.thread(0), mes.thread(1));
        host.consume(output, "mes.orders", makes, via);
        host.send(input, Client, wire::AMQP_HELLO, sells, via);
        host.send(front, Client, wire::request("POST", path, "", ""), asks, serves);
        host.send(call_to_crm, Client, wire::request("POST", call, headers, body), serves, sells);
        host.send(input, Client, wire::publish(1, "orders", "new", message_id, body), sells, via);
        host.send(call_to_crm, Server, wire::response(200, "{}"), sells, serves);
        host.send(front, Server, wire::response(201, "{}"), serves, asks);
        host.wait_ms(40);
        host.send(output, Server, wire::deliver(1, 1, "orders", "new", message_id, body), via, makes);
        host.wait_ms(20);
        host.send(output, Client, wire::ack(1, 1), makes, via);
        for link in [front, call_to_crm, input, output] {
            host.close(link);
        }
        host.wait_ms(5);
    }

    fn order_17(mut self) -> Vec<Record> {
        self.order("/orders/17", "/api/confirm", "{\"order_id\": 17}", "", "m-1");
        self.host.records
    }
}

/// The forest of spans that name nothing that is missing.
#[track_caller]
fn sound(spans: &[Span]) -> String {
    assert_eq!(faults(spans), Vec::<String>::new());
    forest(spans)
}

/// Without the methods that open and close.
fn work(spans: Vec<Span>) -> Vec<Span> {
    spans
        .into_iter()
        .filter(|span| !span.name.starts_with("basic.") && !span.name.contains(".close"))
        .collect()
}

#[test]
fn operations_that_carry_the_key_make_one_tree() {
    let records = Scene::new().order_17();
    let expected = expect![[r#"
        customer Client POST /orders/{order_id} order=17 [root] ~ shop POST /orders/{order_id}
          shop Server POST /orders/{order_id} order=17 [wire]
            shop Client POST order=17 [thread] ~ crm POST
              crm Server POST order=17 [wire]
                crm Producer publish orders:new order=17 [thread]
                  rabbitmq Internal dwell mes.orders order=17 [message] ~ mes process orders:new:mes.orders
                    mes Consumer process orders:new:mes.orders order=17 [wire] ~ crm publish orders:new
                      mes Client ack orders:new:mes.orders order=17 [message]
    "#]];
    // However the processes are divided between the agents.
    let spans = work(exported(&records, &[SHOP, BROKER], both(knowing(&["127.0.0.0/8"]))));
    let traces: HashSet<TraceId> = spans.iter().map(|span| span.trace_id).collect();
    assert_eq!(traces.len(), 1);
    expected.assert_eq(&sound(&spans));
    for side in [&[SHOP, CRM][..], &[SHOP, MES], &[SHOP], &[CRM], &[BROKER], &[SHOP, CRM, BROKER]] {
        let other = work(exported(&records, side, both(knowing(&["all"]))));
        assert_eq!(faults(&other), Vec::<String>::new(), "{side:?}");
        let parents = |spans: &[Span]| -> BTreeMap<(TraceId, SpanId), Option<SpanId>> {
            spans.iter().map(|span| ((span.trace_id, span.span_id), span.parent)).collect()
        };
        assert_eq!(parents(&other), parents(&spans), "{side:?}");
    }
}

#[test]
fn one_agent_that_sees_everything_exports_the_same_tree() {
    let records = Scene::new().order_17();
    let identifiers = |spans: Vec<Span>| -> BTreeMap<(TraceId, SpanId), Option<SpanId>> {
        spans.into_iter().map(|span| ((span.trace_id, span.span_id), span.parent)).collect()
    };
    let apart = exported(&records, &[SHOP, BROKER], both(knowing(&["127.0.0.0/8"])));
    let together = run_with(settings(), records.clone());
    assert_eq!(identifiers(apart), identifiers(together));
    let told = run_with(knowing(&["all"]), records);
    assert_eq!(faults(&told), Vec::<String>::new(), "what this agent sees itself is no other agent's");
}

#[test]
fn a_receiver_that_does_not_know_its_peer_is_a_root_and_the_sender_links_to_it() {
    let records = Scene::new().order_17();
    let spans = work(exported(&records, &[SHOP], [knowing(&["all"]), knowing(&[])]));
    expect![[r#"
        customer Client POST /orders/{order_id} order=17 [root]
          shop Server POST /orders/{order_id} order=17 [wire]
            shop Client POST order=17 [thread] ~ crm POST
        crm Server POST order=17 [root]
          crm Producer publish orders:new order=17 [thread]
            rabbitmq Internal dwell mes.orders order=17 [message]
              mes Consumer process orders:new:mes.orders order=17 [wire] ~ crm publish orders:new
                mes Client ack orders:new:mes.orders order=17 [message]
    "#]]
    .assert_eq(&sound(&spans));
}

#[test]
fn without_a_key_the_receiver_is_a_root_and_no_link_leads_nowhere() {
    let mut scene = Scene::new();
    scene.order("/health", "/check", "{\"quantity\": 17}", "", "m-1");
    let spans = work(exported(&scene.host.records, &[SHOP, BROKER], both(knowing(&["all"]))));
    expect![[r#"
        customer Client POST order= [root] ~ shop POST
        shop Server POST order= [root]
          shop Client POST order= [thread] ~ crm POST
        crm Server POST order= [root]
          crm Producer publish orders:new order= [thread]
            mes Consumer process orders:new:mes.orders order= [message]
              mes Client ack orders:new:mes.orders order= [message]
        rabbitmq Internal dwell mes.orders order= [root]
    "#]]
    .assert_eq(&sound(&spans));
}

#[test]
fn a_receiver_that_learns_of_its_order_later_leaves_a_signpost_where_the_sender_looks() {
    let mut scene = Scene::new();
    let Scene { host, customer, shop, crm, .. } = &mut scene;
    let front = host.connect(*customer, *shop, 8080, Covered::Both);
    let call = host.connect(*shop, *crm, 8081, Covered::Both);
    let (asks, serves, sells) = (customer.thread(0), shop.thread(1), crm.thread(1));
    host.send(front, Client, wire::request("POST", "/checkout", "", ""), asks, serves);
    host.send(call, Client, wire::request("POST", "/api/confirm", "", "{\"order_id\": 17}"), serves, sells);
    host.send(call, Server, wire::response(200, "{}"), sells, serves);
    host.send(front, Server, wire::response(201, "{}"), serves, asks);
    let records = scene.host.records;
    let spans = exported(&records, &[CUSTOMER], both(knowing(&["all"])));
    expect![[r#"
        customer Client POST order= [root] ~ shop POST
        shop Server POST order=17 [root]
          shop Client POST order=17 [thread]
            crm Server POST order=17 [wire]
        shop Internal POST order=17 [root] ~ shop POST
    "#]]
    .assert_eq(&sound(&spans));
    let signposts = |spans: &[Span]| {
        spans
            .iter()
            .filter(|span| span.attributes.get("spoor.signpost").is_some())
            .cloned()
            .collect::<Vec<_>>()
    };
    let [signpost] = signposts(&spans).try_into().expect("one signpost");
    assert_eq!((signpost.kind, signpost.end), (SpanKind::Internal, signpost.start));
    assert_eq!(text(&signpost, "order.id"), "17", "who looks for the order finds the sender too");
    // One agent that sees both ends needs none.
    assert_eq!(signposts(&run_with(knowing(&["all"]), records)), []);
}

#[test]
fn calls_of_a_request_about_several_orders_are_where_their_receivers_look_for_them() {
    let mut scene = Scene::new();
    let Scene { host, customer, shop, crm, .. } = &mut scene;
    let front = host.connect(*customer, *shop, 8080, Covered::Both);
    let call = host.connect(*shop, *crm, 8081, Covered::Both);
    let (asks, serves, sells) = (customer.thread(0), shop.thread(1), crm.thread(1));
    host.send(front, Client, wire::request("POST", "/batch", "", ""), asks, serves);
    for order in [17, 18] {
        let body = format!("{{\"order_id\": {order}}}");
        host.send(call, Client, wire::request("POST", "/api/confirm", "", &body), serves, sells);
        host.send(call, Server, wire::response(200, "{}"), sells, serves);
    }
    host.send(front, Server, wire::response(201, "{}"), serves, asks);
    let spans = exported(&scene.host.records, &[CUSTOMER, SHOP], both(knowing(&["all"])));
    expect![[r#"
        customer Client POST order= [root]
          shop Server POST order= [wire]
        shop Client POST order=17 [root] ~ shop POST ~ crm POST
          crm Server POST order=17 [wire]
        shop Client POST order=18 [root] ~ shop POST ~ crm POST
          crm Server POST order=18 [wire]
    "#]]
    .assert_eq(&sound(&spans));
}

fn client_of_shop(spans: &[Span]) -> &Span {
    let is_it = |span: &&Span| span.resource.service == "shop" && span.kind == SpanKind::Client;
    spans.iter().find(is_it).expect("the shop called")
}

#[test]
fn trace_context_is_a_place_to_meet_too() {
    let context = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let mut scene = Scene::new();
    scene.order("/health", "/check", "{}", context, "m-1");
    let spans = work(exported(&scene.host.records, &[SHOP], both(knowing(&["all"]))));
    let client = client_of_shop(&spans);
    let server = spans.iter().find(|span| span.resource.service == "crm" && span.name == "POST").unwrap();
    assert_eq!(client.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((server.parent, server.trace_id), (Some(client.span_id), client.trace_id));
}

#[test]
fn statements_of_a_client_that_another_agent_sees_are_exported_once() {
    let mut scene = Scene::new();
    let Scene { host, shop, database, .. } = &mut scene;
    let store = host.connect(*shop, *database, 5432, Covered::Both);
    let (worker, backend) = (shop.thread(1), database.thread(0));
    host.send(store, Client, wire::query("UPDATE orders SET status = 'new' WHERE id = 17"), worker, backend);
    host.send(store, Server, wire::done("UPDATE 1", b'I'), backend, worker);
    let records = scene.host.records;
    let spans = exported(&records, &[SHOP], both(knowing(&["all"])));
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].resource.service, "shop");
    let spans = exported(&records, &[SHOP], both(knowing(&[])));
    assert_eq!(spans.len(), 2, "nobody said that the client is covered");
}

#[test]
fn without_a_view_of_the_broker_a_consumer_links_to_the_producer_by_the_message_itself() {
    let records = Scene::new().order_17();
    // The broker's address is none of those that agents cover.
    let producers = run_with(knowing(&["10.0.0.0/8"]), seen_by(&[CUSTOMER, SHOP, CRM], &records));
    let consumers = run_with(knowing(&["10.0.0.0/8"]), seen_by(&[MES], &records));
    let spans = work([producers, consumers].concat());
    expect![[r#"
        customer Client POST /orders/{order_id} order=17 [root]
          shop Server POST /orders/{order_id} order=17 [wire]
            shop Client POST order=17 [thread]
              crm Server POST order=17 [wire]
                crm Producer publish orders:new order=17 [thread]
        mes Consumer process orders:new:mes.orders order=17 [root] ~ crm publish orders:new
          mes Client ack orders:new:mes.orders order=17 [message]
    "#]]
    .assert_eq(&sound(&spans));
}

#[test]
fn whatever_the_window_and_the_time_no_reference_leads_nowhere() {
    for window in ["0", "20s", "11s", "3s", "24h", "request"] {
        let mut scene = Scene::new();
        for order in 0..40 {
            // Orders come again, in another window.
            let order = order % 13;
            let body = format!("{{\"order_id\": {order}}}");
            scene.order(&format!("/orders/{order}"), "/api/confirm", &body, "", "m");
            scene.host.wait_ms(1700);
        }
        let mut settings = knowing(&["all"]);
        settings.order.window = serde_json::from_value::<Window>(window.into()).unwrap();
        for side in [&[SHOP, BROKER][..], &[SHOP], &[CRM, MES]] {
            let spans = exported(&scene.host.records, side, both(settings.clone()));
            assert_eq!(faults(&spans), Vec::<String>::new(), "{window} {side:?}");
        }
    }
}

#[test]
fn records_that_one_agent_lost_never_move_a_span_to_another_order() {
    let mut scene = Scene::new();
    scene.order("/orders/17", "/api/confirm", "{\"order_id\": 17}", "", "m-1");
    scene.order("/orders/3", "/api/confirm", "{\"order_id\": 3}", "", "m-2");
    let records = scene.host.records;
    let whole = exported(&records, &[SHOP, BROKER], both(knowing(&["all"])));
    let traces: BTreeMap<String, TraceId> =
        whole.iter().map(|span| (text(span, "order.id"), span.trace_id)).collect();
    for lost in 0..records.len() {
        if !matches!(records[lost], Record::Data(_)) {
            continue;
        }
        let mut records = records.clone();
        records.remove(lost);
        for span in exported(&records, &[SHOP, BROKER], both(knowing(&["all"]))) {
            let order = text(&span, "order.id");
            assert!(order.is_empty() || traces.get(&order) == Some(&span.trace_id), "record {lost} lost");
        }
    }
}
