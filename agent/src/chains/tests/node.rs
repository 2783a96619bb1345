//! Real programs of Node.js whose requests wait, and images of memory that make no sense.

use spoor_common::chain::node::{CONNECTION, Call, Hints, Layout, STEPS, Walk};

use super::*;

/// Where Node.js may be, beside the one on the path: others that are to be tried, by a list of directories in a variable.
const OTHERS: &str = "SPOOR_TEST_NODES";

fn nodes() -> Vec<PathBuf> {
    let others = std::env::var_os(OTHERS).unwrap_or_default();
    let mut found = vec![PathBuf::from("/usr/bin")];
    found.extend(std::env::split_paths(&others));
    found.iter().map(|dir| dir.join("node")).filter(|path| path.is_file()).collect()
}

/// A program whose request waits.
struct Program {
    child: Child,
    tgid: Tgid,
    /// The connection on which it is answered what it waits for.
    asked: u64,
    /// The number of the connection that brought the request, and its descriptor; 0 for none.
    expected: u64,
    server: u64,
}

impl Program {
    fn start(node: &PathBuf, scenario: &str) -> Self {
        let mut child = Command::new(node)
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/src/chains/tests/node.js"), scenario])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("it speaks");
        let numbers: Vec<u64> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [asked, expected, server] = numbers.try_into().expect("three of them");
        let tgid = Tgid(child.id());
        Self { child, tgid, asked, expected, server }
    }

    fn memory(&self) -> ProcessMemory {
        ProcessMemory::open(self.tgid, clock::boot()).expect("its memory")
    }

    fn layout(&self) -> Layout {
        match find(self.tgid, clock::boot()) {
            Ok(Runtime::Node(layout)) => layout,
            other => panic!("no Node.js: {other:?}"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn walk(memory: &impl Memory, layout: &Layout, fd: u64, is_read: bool) -> (Walk, usize) {
    let (mut walk, mut hints) = (Walk::default(), Hints::default());
    let mut steps = 0;
    // What was learned in the first walk must not change the second one.
    for _ in 0..2 {
        walk.begin(memory, layout, Call { fd, is_read, salt: 7 << 32 });
        for step in 0..STEPS {
            steps = step as usize + 1;
            if !walk.step(memory, layout, &mut hints) {
                break;
            }
        }
        walk.finish();
    }
    (walk, steps)
}

fn check(scenario: &str, end: u64) {
    let nodes = nodes();
    if nodes.is_empty() {
        // Said, and counted by who reads the output.
        eprintln!("skipped: no Node.js on this machine");
        return;
    }
    for node in nodes {
        let program = Program::start(&node, scenario);
        let (memory, layout) = (program.memory(), program.layout());
        // It runs while it is read, unlike in the kernel, and may be moving things: what is found is found again.
        let mut all = (0..5).map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            walk(&memory, &layout, program.asked, true)
        });
        let (asked, steps) = all.find(|(walk, _)| walk.end == end).expect("such an end in five walks");
        let expected = if end == COMPLETE { program.expected | CONNECTION } else { 0 };
        assert_eq!(
            (asked.end, if end == COMPLETE { asked.id } else { 0 }),
            (end, expected),
            "{} {scenario}: {steps} steps",
            node.display()
        );
        eprintln!("{} {scenario}: {steps} steps", node.display());
        if end == COMPLETE {
            let (answer, _) = walk(&memory, &layout, program.server, false);
            assert_eq!((answer.end, answer.id), (COMPLETE, expected), "{} {scenario}", node.display());
            // Nor is it a question that could be waited for.
            assert_eq!(walk(&memory, &layout, program.server, true).0.end, NO_TASK);
        }
    }
}

scenarios! {
    a_call_that_is_awaited_leads_to_the_request: "awaited", COMPLETE;
    functions_that_await_each_other_lead_to_the_request: "nested", COMPLETE;
    a_promise_that_is_handed_on_leads_to_the_request: "returned", COMPLETE;
    one_of_several_that_are_awaited_leads_to_the_request: "together", COMPLETE;
    one_that_is_awaited_until_it_is_settled_leads_to_the_request: "settled", COMPLETE;
    one_of_a_race_leads_to_the_request: "raced", COMPLETE;
    promises_that_follow_each_other_lead_to_the_request: "chained", COMPLETE;
    a_callback_that_has_the_response_leads_to_the_request: "callback", COMPLETE;
    a_callback_that_has_the_request_leads_to_it: "onlyRequest", COMPLETE;
    an_object_that_has_the_request_leads_to_it: "context", COMPLETE;
    a_request_and_a_response_that_name_each_other_are_known: "express", COMPLETE;
    a_listener_around_a_promise_leads_to_the_request: "listener", COMPLETE;
    a_query_of_a_pool_that_is_awaited_leads_to_the_request: "query", COMPLETE;
    a_query_of_a_pool_with_a_callback_leads_to_the_request: "queryCallback", COMPLETE;
    a_query_on_a_connection_that_is_awaited_leads_to_the_request: "direct", COMPLETE;
    a_query_within_other_work_leads_to_the_request: "stored", COMPLETE;
    work_that_nobody_waits_for_leads_nowhere: "detached", NO_TASK;
    work_of_the_module_leads_nowhere: "module", NO_TASK;
    work_after_the_answer_leads_nowhere: "finished", NO_TASK;
    work_after_the_answer_is_not_the_next_requests_of_its_connection: "again", NO_TASK;
    what_two_requests_wait_for_is_neithers: "shared", SEVERAL;
}

#[test]
fn work_on_a_message_leads_to_it() {
    let expected = TaskId::of_delivery("amq.ctag-Uh8dm1YUvx_i5gMKcCLVrg", 4711).expect("a name");
    for node in nodes() {
        let program = Program::start(&node, "message");
        let (memory, layout) = (program.memory(), program.layout());
        let found = (0..5).map(|_| walk(&memory, &layout, program.asked, true).0);
        let found: Vec<u64> = found.filter(|walk| walk.end == COMPLETE).map(|walk| walk.id).collect();
        assert!(!found.is_empty() && found.iter().all(|id| *id == expected.0), "{found:x?}");
    }
}

#[test]
fn offsets_and_kinds_that_are_wrong_give_no_other_chain() {
    for node in nodes() {
        let program = Program::start(&node, "query");
        let (memory, right) = (program.memory(), program.layout());
        for field in 0..Layout::LEN {
            for by in [1, 8, u64::MAX] {
                let mut words = right.words();
                words[field] = words[field].wrapping_add(by);
                let (walk, _) = walk(&memory, &Layout::from_words(words), program.asked, true);
                assert!(walk.end != COMPLETE || walk.id == program.expected | CONNECTION, "word {field}");
            }
        }
    }
}

#[test]
fn another_runtimes_reader_does_not_know_node() {
    for node in nodes() {
        let program = Program::start(&node, "awaited");
        assert_eq!(python::find(&program.memory()).err(), Some(Refusal::Unknown));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn memory_without_sense_ends_every_walk(
        words in prop::collection::vec(
            prop_oneof![
                (0_u64..80).prop_map(|word| word * 8 + 1),
                (0_u64..80).prop_map(|word| word * 8),
                (0_u64..40).prop_map(|small| small << 32),
                prop::sample::select(vec![1057_u64, 1058, 205, 210, 2063, 2066, 2106, 163]).prop_map(|kind| kind << 32),
                any::<u64>(),
            ],
            64..80,
        ),
        fd in 0_u64..4,
        is_read in any::<bool>(),
        the_loop in (0_u64..64).prop_map(|word| word * 8),
    ) {
        let layout = Layout { the_loop, ..node_20() };
        let (walk, steps) = walk(&Junk(words), &layout, fd, is_read);
        prop_assert!(walk.end != UNDER_WAY && steps <= STEPS as usize);
    }
}

fn node_20() -> Layout {
    Layout {
        the_loop: 0,
        first_context: 205,
        last_context: 214,
        native_context: 212,
        module_context: 211,
        script_context: 213,
        promise: 2063,
        bound_function: 2064,
        function: 2066,
        async_function: 2106,
        reaction: 163,
        capability: 161,
        function_context: 32,
        object_wrap: 32,
    }
}
