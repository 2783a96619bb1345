//! Why something did not reach user space, counted per CPU in the kernel.

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident = $text:literal,)+) => {
        /// A total kept by the kernel side. The number is its index in the map.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$meta])* $name,)+ }

        impl Counter {
            /// Every counter in the order of its index.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)+];
            /// Number of counters.
            pub const LEN: usize = Self::ALL.len();
            /// Name in metrics and logs.
            pub const fn text(self) -> &'static str {
                match self { $(Counter::$name => $text,)+ }
            }
        }
    };
}

counters! {
    /// Data records delivered.
    DataRecords = "data_records",
    /// Bytes of payload in them.
    DataBytes = "data_bytes",
    /// Data records that found the ring full: lost.
    DataLost = "data_lost",
    /// Bytes moved that these records would have reported.
    DataLostBytes = "data_lost_bytes",
    /// Operations that were not reported because their cgroup had used up its budget of a ring: lost.
    CgroupLost = "cgroup_lost",
    /// Bytes they moved.
    CgroupLostBytes = "cgroup_lost_bytes",
    /// Connection records that found the control ring full. They are sent again with the next event.
    ConnLost = "conn_lost",
    /// Close records that found the control ring full: lost.
    CloseLost = "close_lost",
    /// Process records that found the control ring half full: lost.
    ProcessLost = "process_lost",
    /// Socket operations whose socket could not be given a state: lost.
    StateFailed = "state_failed",
    /// Bytes of operations whose buffer is not reachable: `sendfile`, `splice`, `io_uring`, 32-bit tasks.
    NoBufferBytes = "no_buffer_bytes",
    /// Bytes whose page could not be read.
    FaultBytes = "fault_bytes",
    /// Bytes not copied because of a verdict or a budget.
    BudgetBytes = "budget_bytes",
    /// Operations on ignored connections.
    Ignored = "ignored",
    /// Operations whose position is not certain, for two threads wrote or read at once.
    PositionUncertain = "position_uncertain",
    /// Connections older than the agent whose sequence numbers do not add up: without identity on the wire.
    WireUnknown = "wire_unknown",
    /// Sends of followed processes, and answers that they read, whose chain of tasks was read to its end.
    ChainsComplete = "chains_complete",
    /// The same for which several tasks wait.
    ChainsSeveral = "chains_several",
    /// The same where something could not be read, or was not what it must be.
    ChainsBroken = "chains_broken",
    /// The same with more calls or tasks than are followed.
    ChainsDeep = "chains_deep",
    /// The same that no task made.
    ChainsWithoutTask = "chains_without_task",
    /// Chains that were not told because the ring filled up, or looked for because one was under way.
    ChainsUntold = "chains_untold",
    /// Pieces of memory that a thread's stack points to and that were copied, for TLS.
    ObjectsCopied = "objects_copied",
    /// Bytes of them.
    ObjectBytes = "object_bytes",
    /// The same that were not copied, or not told: more than may be in a second, or the ring filled up.
    ObjectsUntold = "objects_untold",
}
