//! What causality forgot at the bounds of its tables, counted by table.
//!
//! Whoever reads these numbers asks how much larger a node is than the bounds were made for: an edge that is missing may be
//! missing for one of them.

use serde::Serialize;

use super::across::message::Forgotten as Messages;

/// Entries forgotten since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Ends of operations whose other end had not been seen.
    pub wires: u64,
    /// Messages, with their publishes and deliveries.
    pub messages: u64,
    /// Publishes and deliveries of messages that are equal to others.
    pub equal_messages: u64,
    /// Messages that waited for what the others of their address show.
    pub unproven_messages: u64,
    /// How far queues had come.
    pub destinations: u64,
    /// Operations that had begun and might have been deliveries.
    pub open_messages: u64,
    /// What consumers had asked of brokers.
    pub consumers: u64,
    /// Whether the messages of addresses differ.
    pub message_addresses: u64,
    /// Messages that may have been in a queue.
    pub queued_messages: u64,
    /// Causes across the wire and through messages.
    pub links: u64,
    pub inside: InsideStats,
}

/// The same of the tables of processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InsideStats {
    /// Processes, with how they work.
    pub processes: u64,
    /// Threads that did nothing.
    pub threads: u64,
    /// Processes that work for others of their service, and services with such.
    pub kin: u64,
    /// Requests without a key.
    pub unnamed: u64,
    /// Times that threads wrote each other's messages.
    pub interleaved: u64,
    /// Of the last things that a thread did: answers, operations begun, and whatever moved bytes.
    pub answers: u64,
    pub begun: u64,
    pub acts: u64,
    /// Tasks and writes of which it was known who waits.
    pub tasks: u64,
}

impl Stats {
    /// Every count, with the name of its table.
    pub fn by_table(&self) -> [(&'static str, u64); 19] {
        // Taken apart, so that the compiler misses one that is left out.
        let Self {
            wires,
            messages,
            equal_messages,
            unproven_messages,
            destinations,
            open_messages,
            consumers,
            message_addresses,
            queued_messages,
            links,
            inside,
        } = *self;
        let InsideStats { processes, threads, kin, unnamed, interleaved, answers, begun, acts, tasks } =
            inside;
        [
            ("wires", wires),
            ("messages", messages),
            ("equal_messages", equal_messages),
            ("unproven_messages", unproven_messages),
            ("destinations", destinations),
            ("open_messages", open_messages),
            ("consumers", consumers),
            ("message_addresses", message_addresses),
            ("queued_messages", queued_messages),
            ("links", links),
            ("processes", processes),
            ("threads", threads),
            ("process_families", kin),
            ("unnamed_requests", unnamed),
            ("shared_writes", interleaved),
            ("thread_answers", answers),
            ("thread_operations", begun),
            ("thread_acts", acts),
            ("tasks", tasks),
        ]
    }

    pub(super) fn add_messages(&mut self, more: Messages) {
        self.messages += more.messages;
        self.equal_messages += more.equal;
        self.unproven_messages += more.unproven;
        self.destinations += more.destinations;
        self.open_messages += more.open;
        self.consumers += more.consumers;
        self.message_addresses += more.addresses;
    }
}

impl std::ops::AddAssign for InsideStats {
    fn add_assign(&mut self, more: Self) {
        let Self { processes, threads, kin, unnamed, interleaved, answers, begun, acts, tasks } = more;
        self.processes += processes;
        self.threads += threads;
        self.kin += kin;
        self.unnamed += unnamed;
        self.interleaved += interleaved;
        self.answers += answers;
        self.begun += begun;
        self.acts += acts;
        self.tasks += tasks;
    }
}
