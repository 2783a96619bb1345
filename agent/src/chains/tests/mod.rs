//! Real interpreters, blocked in the middle of a task, and images of memory that make no sense.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use proptest::prelude::*;
use spoor_common::chain::python::{Layout, STEPS, Walk};
use spoor_common::chain::{COMPLETE, Memory, NO_TASK, SEVERAL, TASKS, UNDER_WAY};
use spoor_core::record::{Chain, Conn, ConnId, Data, DataFlags, Direction, ProcessEvent, TaskId, Worker};

/// A test for each way in which something waits: `check` takes it, and how the walk is to end.
macro_rules! scenarios {
    ($($name:ident: $scenario:literal, $end:expr;)*) => {
        $(#[test]
        fn $name() {
            check($scenario, $end);
        })*
    };
}

mod node;

use super::memory::ProcessMemory;
use super::*;
use crate::clock;

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
            .args(["-c", include_str!("python.py"), scenario])
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
        let begun = Instant::now();
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

    fn layout(&self) -> Layout {
        match find(self.tgid, clock::boot()) {
            Ok(Runtime::Python(layout)) => layout,
            other => panic!("no CPython: {other:?}"),
        }
    }

    fn walk(&self) -> (Walk, Vec<u64>) {
        let memory = ProcessMemory::open(self.tgid, clock::boot()).expect("its memory");
        let walk = walk(&memory, &self.layout(), self.thread);
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

fn walk(memory: &impl Memory, layout: &Layout, thread: u64) -> Walk {
    let mut walk = Walk::default();
    walk.begin(memory, layout, thread);
    for _ in 0..STEPS {
        if !walk.step(memory, layout) {
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
    a_task_whose_coroutine_has_no_frame_is_the_end: "frameless", COMPLETE;
    a_task_that_holds_another_ones_task_does_not_work_for_who_waits: "holds", COMPLETE;
}

#[test]
fn what_is_no_interpreter_has_no_chains() {
    assert_eq!(find(Tgid(std::process::id()), clock::boot()), Err(Refusal::Unknown));
    assert_eq!(find(Tgid(u32::MAX), clock::boot()), Err(Refusal::Gone));
}

#[test]
fn an_interpreter_without_tasks_may_get_them() {
    for interpreter in interpreters() {
        let program = Program::start(&interpreter, "plain");
        assert_eq!(find(program.tgid, clock::boot()), Err(Refusal::NotYet), "{}", interpreter.display());
    }
}

#[test]
fn offsets_that_are_wrong_by_a_word_give_no_chain() {
    let interpreter = PathBuf::from("/usr/bin/python3");
    if !interpreters().contains(&interpreter) {
        return;
    }
    let program = Program::start(&interpreter, "gather");
    let memory = ProcessMemory::open(program.tgid, clock::boot()).expect("its memory");
    let right = program.layout();
    for field in 0..Layout::LEN {
        let mut words = right.words();
        words[field] = words[field].wrapping_add(8);
        let walk = walk(&memory, &Layout::from_words(words), program.thread);
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
        layout in prop::collection::vec(prop_oneof![(0_u64..20).prop_map(|word| word * 8), 0_u64..600], Layout::LEN),
        thread in 0_u64..600,
    ) {
        let mut words_of = [0; Layout::LEN];
        words_of.iter_mut().zip(&layout).for_each(|(to, from)| *to = *from);
        let walk = walk(&Junk(words), &Layout::from_words(words_of), thread);
        prop_assert!(walk.end != UNDER_WAY && walk.len as usize <= TASKS);
    }
}

// Which process an answer is about.

fn filled(value: u64) -> Runtime {
    Runtime::Python(Layout::filled(value))
}

const PROCESS: Tgid = Tgid(7);

fn conn(tgid: Tgid, at: u64) -> Record {
    let data = Data {
        at: BootTime::from_nanos(at),
        conn: ConnId(at),
        direction: Direction::Egress,
        pos: 0,
        other_pos: 0,
        len: 0,
        bytes: Bytes::new(),
        thread: Worker::new(tgid.0, tgid.0),
        awaited_by: None,
        flags: DataFlags::default(),
    };
    Record::Conn(Box::new(Conn::unannounced(&data)))
}

fn event(tgid: Tgid, kind: ProcessEventKind) -> Record {
    Record::Process(ProcessEvent { at: BootTime::ZERO, tgid, kind })
}

/// A seeker, and its thread as the test plays it.
struct Play {
    seeker: Seeker,
    questions: Receiver<Question>,
    answers: SyncSender<Answer>,
    begun: Instant,
}

impl Play {
    fn new() -> Self {
        let (seeker, questions, answers) = Seeker::new();
        Self { seeker, questions, answers, begun: Instant::now() }
    }

    fn asked(&self) -> Option<Question> {
        self.questions.try_recv().ok()
    }

    /// An answer, and what the kernel is told for it.
    fn answer(&mut self, to: Question, found: Result<Runtime, Refusal>) -> Option<Order> {
        self.answers.send((to, found)).expect("a place");
        self.seeker.poll(self.begun)
    }

    fn follows(&mut self, tgid: Tgid, at: u64) -> bool {
        self.seeker.see(&conn(tgid, at));
        let question = self.asked().expect("a question");
        let order = self.answer(question, Ok(filled(at)));
        order == Some(Order::Follow(tgid, Box::new(filled(at))))
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        let at = Refusal::ALL.iter().position(|other| *other == refusal).expect("it is one");
        self.seeker.totals().refused[at]
    }
}

#[test]
fn an_answer_about_the_program_before_is_not_taken_for_the_next_ones() {
    let ways = [
        &[ProcessEventKind::Exec][..],
        &[ProcessEventKind::Exit, ProcessEventKind::Fork { parent_tgid: Tgid(1) }],
    ];
    for events in ways {
        let mut play = Play::new();
        play.seeker.see(&conn(PROCESS, 1));
        let before = play.asked().expect("a question");
        for kind in events {
            play.seeker.see(&event(PROCESS, *kind));
        }
        assert_eq!(play.answer(before, Ok(filled(1))), None, "nobody asks");
        play.seeker.see(&conn(PROCESS, 2));
        let now = play.asked().expect("a question");
        assert_eq!((before.at, now.at), (BootTime::from_nanos(1), BootTime::from_nanos(2)));
        // It was on its way.
        assert_eq!(play.answer(before, Ok(filled(1))), None);
        assert_eq!(play.answer(before, Err(Refusal::Unknown)), None);
        let order = play.answer(now, Ok(filled(2)));
        assert_eq!(order, Some(Order::Follow(PROCESS, Box::new(filled(2)))));
        assert_eq!((play.seeker.totals().followed, play.refused(Refusal::Unknown)), (1, 0));
    }
}

#[test]
fn what_was_to_be_looked_at_again_is_not_the_next_programs_question() {
    let mut play = Play::new();
    play.seeker.see(&conn(PROCESS, 1));
    let before = play.asked().expect("a question");
    assert_eq!(play.answer(before, Err(Refusal::NotYet)), None);
    play.seeker.see(&event(PROCESS, ProcessEventKind::Exec));
    play.seeker.see(&conn(PROCESS, 2));
    let now = play.asked().expect("a question");
    assert_ne!(before.number, now.number);
    assert_eq!(play.seeker.poll(play.begun + AGAIN[0]), None);
    assert!(play.asked().is_none(), "the old question is over");
    // Nor does it use up the times of the new one.
    for after in AGAIN {
        assert_eq!(play.answer(now, Err(Refusal::NotYet)), None);
        assert!(play.asked().is_none(), "not at once");
        assert_eq!(play.seeker.poll(play.begun + after), None);
        assert_eq!(play.asked().map(|again| (again.number, again.at)), Some((now.number, now.at)));
    }
    assert_eq!(play.answer(now, Err(Refusal::NotYet)), None);
    assert_eq!(play.refused(Refusal::NotYet), 1);
}

#[test]
fn a_runtime_that_is_being_set_up_is_looked_at_again() {
    let mut play = Play::new();
    play.seeker.see(&conn(PROCESS, 1));
    let question = play.asked().expect("a question");
    assert_eq!(play.answer(question, Err(Refusal::Layout)), None);
    assert_eq!(play.seeker.poll(play.begun + AGAIN[0]), None);
    let again = play.asked().expect("it is asked again");
    assert_eq!(play.refused(Refusal::Layout), 0);
    assert!(play.answer(again, Ok(filled(1))).is_some());
    // What is not known of a program that is there for good is no matter of time.
    let other = Tgid(8);
    play.seeker.see(&conn(other, 2));
    let question = play.asked().expect("a question");
    assert_eq!(play.answer(question, Err(Refusal::Version)), None);
    assert_eq!(play.seeker.poll(play.begun + AGAIN[4]), None);
    assert!(play.asked().is_none() && play.refused(Refusal::Version) == 1);
}

#[test]
fn no_more_processes_are_followed_than_the_kernel_has_room_for() {
    let mut play = Play::new();
    let room = u32::try_from(RUNTIMES).expect("a number");
    for tgid in 1..=room {
        assert!(play.follows(Tgid(tgid), u64::from(tgid)));
    }
    assert!(!play.follows(Tgid(room + 1), 1));
    assert_eq!((play.seeker.totals().followed, play.refused(Refusal::Full)), (u64::from(room), 1));
    // None of those that are followed is given up; one that ends makes room, once the kernel knows.
    assert_eq!(play.seeker.poll(play.begun), None);
    play.seeker.see(&event(Tgid(3), ProcessEventKind::Exit));
    assert_eq!(play.seeker.poll(play.begun), Some(Order::Leave(Tgid(3))));
    assert!(play.follows(Tgid(room + 2), 2));
}

#[test]
fn chains_of_a_process_are_given_up_when_more_than_one_in_a_thousand_broke() {
    for broken in [1, 2] {
        let mut play = Play::new();
        assert!(play.follows(PROCESS, 1));
        for chain in 0..JUDGED_FROM {
            let tasks = if chain < broken { Vec::new() } else { vec![TaskId(1)] };
            let (at, conn) = (BootTime::ZERO, ConnId(1));
            play.seeker.see(&Record::Chain(Box::new(Chain { at, conn, thread: Worker::new(7, 7), tasks })));
        }
        let order = play.seeker.poll(play.begun);
        assert_eq!(order, (broken > 1).then_some(Order::Leave(PROCESS)));
        assert_eq!(play.refused(Refusal::Broken), broken - 1);
    }
}

#[test]
fn a_process_that_began_after_the_question_is_another_one() {
    let own = Tgid(std::process::id());
    assert_eq!(ProcessMemory::open(own, BootTime::ZERO).err(), Some(Refusal::Gone));
    assert!(ProcessMemory::open(own, clock::boot()).is_ok());
}
