//! A small part of `cargo xtask stacks`: nginx before an application of Python's, and the agent in both ways.

use spoor_tests::agent;
use spoor_tests::skip::skip;
use spoor_tests::stacks::report::When;
use spoor_tests::stacks::run::{Options, run};
use spoor_tests::stacks::stack::chosen;

#[test]
fn orders_through_a_proxy_are_counted_and_joined() {
    let stacks = chosen(&["nginx".to_owned()]).expect("it is one of them");
    let reason = agent::binary().err().or_else(|| stacks.iter().find_map(|stack| stack.missing()));
    if let Some(reason) = reason {
        return skip(&reason);
    }
    let options = Options {
        stacks,
        whens: vec![When::First, When::Later],
        orders: 25,
        times: 1,
        seed: 7,
        record: None,
    };
    let report = run(&options, &|step| eprintln!("{step}")).expect("the stack runs");
    assert_eq!(report.rows.len(), 2);
    for row in &report.rows {
        let verdict = row.verdicts.first().unwrap_or_else(|| panic!("it came to no end: {:?}", row.failures));
        // Four requests an order, five statements that name it, and each request through nginx.
        assert_eq!((verdict.requests, verdict.outgoing), (100, 225), "{report}");
        assert_eq!(verdict.hops, 200, "{report}");
        assert_eq!(row.broken(), Vec::<String>::new(), "{report}\n{:#?}", verdict.examples);
    }
}
