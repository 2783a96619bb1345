//! Real interpreters, blocked in the middle of a task, and images of memory that make no sense.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;
use spoor_common::chain::python::{COMPLETE, NO_TASK, SEVERAL, UNDER_WAY, Walk};
use spoor_common::chain::{Memory, Runtime, STEPS, TASKS};
use spoor_core::record::Tgid;

use super::memory::ProcessMemory;
use super::{Refusal, find};

/// Interpreters of this machine, by version.
fn interpreters() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/usr/bin/python3")];
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for entry in std::fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().flatten() {
        found.push(entry.path().join("bin/python3"));
    }
    found.retain(|path| {
        let version = "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))";
        Command::new(path).args(["-c", version]).status().is_ok_and(|status| status.success())
    });
    found
}

/// A program that waits for us in the middle of its work.
struct Program {
    child: Child,
    tgid: Tgid,
    /// The thread that works, by its own address.
    thread: u64,
    expected: Vec<u64>,
}

impl Program {
    fn start(interpreter: &PathBuf, scenario: &str) -> Self {
        let mut child = Command::new(interpreter)
            .args(["-c", include_str!("tests.py"), scenario])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("it speaks");
        let mut numbers = line.split_whitespace().map(|word| word.parse().expect("a number"));
        let thread = numbers.next().expect("its thread");
        let tgid = Tgid(child.id());
        let program = Self { child, tgid, thread, expected: numbers.collect() };
        // It says so just before it waits.
        let begun = std::time::Instant::now();
        while !program.waits() {
            assert!(begun.elapsed().as_secs() < 20, "{scenario} does not wait");
        }
        program
    }

    /// One of its threads reads its input.
    fn waits(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.tgid)).expect("its threads");
        let reads = |path: PathBuf| {
            std::fs::read_to_string(path.join("syscall")).is_ok_and(|call| call.starts_with("0 0x0 "))
        };
        tasks.flatten().any(|entry| reads(entry.path()))
    }

    fn walk(&self) -> (Walk, Vec<u64>) {
        let memory = ProcessMemory::open(self.tgid).expect("its memory");
        let runtime = find(self.tgid).expect("its runtime");
        let walk = walk(&memory, &runtime, self.thread);
        let ids = walk.ids.iter().take(walk.len as usize).copied().collect();
        (walk, ids)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take().map(|mut input| input.write_all(b"\n")));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn walk(memory: &impl Memory, runtime: &Runtime, thread: u64) -> Walk {
    let mut walk = Walk::default();
    walk.begin(memory, runtime, thread);
    for _ in 0..STEPS {
        if !walk.step(memory, runtime) {
            break;
        }
    }
    walk.finish();
    walk
}

fn check(scenario: &str, end: u64) {
    let interpreters = interpreters();
    assert!(!interpreters.is_empty(), "no interpreter on this machine");
    for interpreter in interpreters {
        let program = Program::start(&interpreter, scenario);
        let (walk, ids) = program.walk();
        assert_eq!(
            (walk.end, &ids),
            (end, &program.expected),
            "{} {scenario}: {walk:?}",
            interpreter.display()
        );
    }
}

macro_rules! scenarios {
    ($($name:ident: $scenario:literal, $end:expr;)*) => {
        $(#[test]
        fn $name() {
            check($scenario, $end);
        })*
    };
}

scenarios! {
    a_task_that_is_awaited_leads_to_the_one_that_awaits_it: "task", COMPLETE;
    tasks_that_are_gathered_lead_to_the_one_that_gathers: "gather", COMPLETE;
    a_shielded_task_leads_to_the_one_that_waits: "shield", COMPLETE;
    a_task_with_a_time_limit_leads_to_the_one_that_waits: "wait_for", COMPLETE;
    a_task_that_is_waited_for_among_others_leads_to_the_one_that_waits: "wait", COMPLETE;
    a_task_of_a_group_leads_to_the_task_of_the_group: "group", COMPLETE;
    a_task_that_hands_over_a_result_leads_to_the_one_that_waits_for_it: "future", COMPLETE;
    another_callback_before_the_one_that_waits_is_passed: "callbacks", COMPLETE;
    a_task_that_nobody_waits_for_is_the_end: "detached", COMPLETE;
    a_task_that_two_wait_for_works_for_neither: "several", SEVERAL;
    a_task_with_a_name_of_its_own_has_no_number: "named", COMPLETE;
    work_in_nested_calls_is_the_tasks: "nested", COMPLETE;
    a_callback_of_the_loop_is_no_task: "callback", NO_TASK;
    another_thread_is_no_task: "thread", NO_TASK;
    a_task_that_holds_another_ones_task_does_not_work_for_who_waits: "holds", COMPLETE;
}

#[test]
fn what_is_no_interpreter_has_no_chains() {
    assert_eq!(find(Tgid(std::process::id())), Err(Refusal::Unknown));
    assert_eq!(find(Tgid(u32::MAX)), Err(Refusal::Gone));
}

#[test]
fn an_interpreter_without_tasks_may_get_them() {
    for interpreter in interpreters() {
        let program = Program::start(&interpreter, "plain");
        assert_eq!(find(program.tgid), Err(Refusal::NotYet), "{}", interpreter.display());
    }
}

#[test]
fn offsets_that_are_wrong_by_a_word_give_no_chain() {
    let interpreter = PathBuf::from("/usr/bin/python3");
    if !interpreters().contains(&interpreter) {
        return;
    }
    let program = Program::start(&interpreter, "gather");
    let memory = ProcessMemory::open(program.tgid).expect("its memory");
    let right = find(program.tgid).expect("its runtime");
    for field in 1..Runtime::LEN {
        let mut words = right.words();
        words[field] = words[field].wrapping_add(8);
        let walk = walk(&memory, &Runtime::from_words(words), program.thread);
        let ids: Vec<u64> = walk.ids.iter().take(walk.len as usize).copied().collect();
        // Some are not needed here; what is found is a part of the truth, in its order, or nothing.
        let is_part = ids.iter().zip(&program.expected).all(|(found, right)| found == right || *found == 0);
        assert!(
            walk.end != COMPLETE || (is_part && ids.len() <= program.expected.len()),
            "word {field}: {walk:?}"
        );
    }
}

/// Memory that is small, so that addresses in it lead into it again.
struct Junk(Vec<u64>);

impl Memory for Junk {
    fn words<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        let at = usize::try_from(at / 8).ok()?;
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn memory_without_sense_ends_every_walk(
        words in prop::collection::vec(prop_oneof![0_u64..600, Just(0), Just(1), any::<u64>()], 64..80),
        layout in prop::collection::vec(prop_oneof![(0_u64..20).prop_map(|word| word * 8), 0_u64..600], Runtime::LEN),
        thread in 0_u64..600,
    ) {
        let mut runtime = [0; Runtime::LEN];
        runtime.iter_mut().zip(&layout).for_each(|(to, from)| *to = *from);
        let walk = walk(&Junk(words), &Runtime::from_words(runtime), thread);
        prop_assert!(walk.end != UNDER_WAY && walk.len as usize <= TASKS);
    }
}
