//! Names of programs, maps and globals in the eBPF object, as the loader looks them up.

/// A program of the object and the BTF tracepoint it hangs on.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its function in the object.
    pub function: &'static str,
    /// The kernel's tracepoint (`btf_trace_<tracepoint>` in the kernel's BTF).
    pub tracepoint: &'static str,
}

/// Rung A of the hook ladder: the tracepoints of `net/socket.c` (6.3 and later).
pub const SOCKET_LENGTH: [Program; 2] = [
    Program { function: "send_length", tracepoint: "sock_send_length" },
    Program { function: "recv_length", tracepoint: "sock_recv_length" },
];

/// Life cycle of connections and processes, the same on every rung.
pub const LIFE_CYCLE: [Program; 5] = [
    Program { function: "set_state", tracepoint: "inet_sock_set_state" },
    Program { function: "destroy_sock", tracepoint: "tcp_destroy_sock" },
    Program { function: "process_fork", tracepoint: "sched_process_fork" },
    Program { function: "process_exec", tracepoint: "sched_process_exec" },
    Program { function: "process_exit", tracepoint: "sched_process_exit" },
];

/// Ring buffer of data records.
pub const DATA_RING: &str = "DATA";
/// Ring buffer of connections, closes and processes.
pub const CONTROL_RING: &str = "CONTROL";
/// Verdicts by socket cookie.
pub const VERDICTS: &str = "VERDICTS";
/// Verdicts for connections to come, by [`crate::verdict::InheritKey`].
pub const INHERITED: &str = "INHERITED";
/// Totals by [`crate::Counter`], per CPU.
pub const COUNTERS: &str = "COUNTERS";
/// Global of type [`crate::Offsets`].
pub const OFFSETS: &str = "OFFSETS";
/// Global of type [`crate::Settings`].
pub const SETTINGS: &str = "SETTINGS";
