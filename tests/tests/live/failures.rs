//! Failures on purpose: what is away or hangs in the reference flow is said on the order's page and warned of, once, until it is
//! over.

use std::time::Duration;

use spoor_tests::agent;
use spoor_tests::drill::{self, Drill};
use spoor_tests::flow::{self, Flow};
use spoor_tests::peers::Scratch;
use spoor_tests::serve::{self, Server};
use spoor_tests::skip::skip;

/// The page says it by then: two seconds until open work is told and up to five until it is asked for, or four of patience with a
/// failure and two that a tree is held, on a machine with other things to do.
const SAID: Duration = Duration::from_secs(10);

#[test]
fn what_goes_wrong_is_said_within_seconds_and_warned_of_once_until_it_is_over() {
    if let Some(reason) = flow::missing().or_else(|| agent::binary().err()) {
        return skip(&reason);
    }
    let binary = agent::binary().expect("an agent");
    let mut scratch = Scratch::new("failures").expect("a folder");
    let dir = scratch.path().to_owned();
    let serve = serve::binary(&binary).expect("a server");
    let server = Server::start_impatient(&serve, &dir).expect("a server");
    let mut agent = drill::start_agent(&binary, &dir, "first", &server).expect("an agent");
    let mut flow = Flow::start(&|step| eprintln!("starting {step}")).expect("a flow");
    flow.run_orders(10, 4).expect("orders");
    let mut drill = Drill { flow: &mut flow, server: &server, agent: &mut agent };
    let told = drill.run(&mut |told| eprintln!("{told}")).expect("a drill");
    agent.stop().expect("it ends well");
    assert_eq!(told.len(), 5);
    for one in &told {
        assert!(one.said_after <= SAID && one.warned_after <= SAID, "{one}");
    }
    flow.discard();
    scratch.discard();
}
