//! Names of programs, maps and globals in the eBPF objects, as the loader looks them up, and the ladder of hooks.

/// How a program hangs on the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A BTF tracepoint (`btf_trace_<target>` in the kernel's BTF).
    Tracepoint,
    /// The return of a kernel function, with typed arguments.
    Exit,
    /// The entry of a kernel function.
    Probe,
    /// The return of a kernel function, without its arguments.
    ReturnProbe,
}

/// A program of an object and what it hangs on.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its function in the object.
    pub function: &'static str,
    /// How it is attached.
    pub hook: Hook,
    /// The kernel's tracepoint or function.
    pub target: &'static str,
    /// Kernels without the target do without the program.
    pub optional: bool,
}

const fn program(function: &'static str, hook: Hook, target: &'static str) -> Program {
    Program { function, hook, target, optional: false }
}

const fn optional(function: &'static str, hook: Hook, target: &'static str) -> Program {
    Program { function, hook, target, optional: true }
}

/// The two builds of the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The verifier knows the types of kernel objects; a socket's state is stored with the socket.
    Typed,
    /// Kernel objects are plain addresses; a socket's state is in a hash table by its address.
    Untyped,
}

/// One way to see completed socket operations.
#[derive(Debug)]
pub struct Rung {
    /// What it is called: `A` is the best.
    pub name: char,
    /// What its programs hang on, for people.
    pub hooks: &'static str,
    /// The object its programs are in.
    pub build: Build,
    /// Its programs, without those of [`LIFE_CYCLE`].
    pub programs: &'static [Program],
}

/// Best first. Each rung sees the same operations; what differs is what it needs and costs.
pub const LADDER: [Rung; 4] = [
    Rung {
        name: 'A',
        hooks: "sock_send_length, sock_recv_length",
        build: Build::Typed,
        programs: &[
            program("send_length", Hook::Tracepoint, "sock_send_length"),
            program("recv_length", Hook::Tracepoint, "sock_recv_length"),
        ],
    },
    Rung {
        name: 'B',
        hooks: "fexit on the protocols' sendmsg and recvmsg",
        build: Build::Typed,
        programs: &[
            program("tcp_send_exit", Hook::Exit, "tcp_sendmsg"),
            program("tcp_recv_exit", Hook::Exit, "tcp_recvmsg"),
            program("unix_send_exit", Hook::Exit, "unix_stream_sendmsg"),
            program("unix_recv_exit", Hook::Exit, "unix_stream_recvmsg"),
            // Kernels before 6.5 send the pages of a file by ways of their own.
            optional("tcp_sendpage_exit", Hook::Exit, "tcp_sendpage"),
            optional("unix_sendpage_exit", Hook::Exit, "unix_stream_sendpage"),
            optional("mptcp_send_exit", Hook::Exit, "mptcp_sendmsg"),
            optional("mptcp_recv_exit", Hook::Exit, "mptcp_recvmsg"),
        ],
    },
    Rung {
        name: 'C',
        hooks: "kprobes on the protocols' sendmsg and recvmsg",
        build: Build::Untyped,
        programs: &[
            program("socket_call_return", Hook::ReturnProbe, "tcp_sendmsg"),
            program("socket_call_return", Hook::ReturnProbe, "tcp_recvmsg"),
            program("socket_call_return", Hook::ReturnProbe, "unix_stream_sendmsg"),
            program("socket_call_return", Hook::ReturnProbe, "unix_stream_recvmsg"),
            optional("socket_call_return", Hook::ReturnProbe, "tcp_sendpage"),
            optional("socket_call_return", Hook::ReturnProbe, "unix_stream_sendpage"),
            optional("socket_call_return", Hook::ReturnProbe, "mptcp_sendmsg"),
            optional("socket_call_return", Hook::ReturnProbe, "mptcp_recvmsg"),
            program("send_entry", Hook::Probe, "tcp_sendmsg"),
            program("recv_entry", Hook::Probe, "tcp_recvmsg"),
            program("unix_send_entry", Hook::Probe, "unix_stream_sendmsg"),
            program("unix_recv_entry", Hook::Probe, "unix_stream_recvmsg"),
            optional("send_entry", Hook::Probe, "tcp_sendpage"),
            optional("unix_send_entry", Hook::Probe, "unix_stream_sendpage"),
            optional("send_entry", Hook::Probe, "mptcp_sendmsg"),
            optional("recv_entry", Hook::Probe, "mptcp_recvmsg"),
        ],
    },
    Rung {
        name: 'D',
        hooks: "sys_exit",
        build: Build::Untyped,
        programs: &[program("syscall_exit", Hook::Tracepoint, "sys_exit")],
    },
];

/// Life cycle of connections and processes, the same on every rung.
pub const LIFE_CYCLE: [Program; 5] = [
    program("set_state", Hook::Tracepoint, "inet_sock_set_state"),
    program("destroy_sock", Hook::Tracepoint, "tcp_destroy_sock"),
    program("process_fork", Hook::Tracepoint, "sched_process_fork"),
    program("process_exec", Hook::Tracepoint, "sched_process_exec"),
    program("process_exit", Hook::Tracepoint, "sched_process_exit"),
];

/// Ring buffer of data records.
pub const DATA_RING: &str = "DATA";
/// Ring buffer of connections, closes and processes.
pub const CONTROL_RING: &str = "CONTROL";
/// Verdicts by socket cookie.
pub const VERDICTS: &str = "VERDICTS";
/// One number: how many verdicts have been set by socket cookie.
pub const VERDICTS_SET: &str = "VERDICTS_SET";
/// Verdicts for connections to come, by [`crate::verdict::InheritKey`].
pub const INHERITED: &str = "INHERITED";
/// What is known of processes whose tasks are followed, by process: [`crate::chain::python::Layout`], …
pub const RUNTIMES: &str = "RUNTIMES";
/// … and [`crate::chain::node::Layout`].
pub const NODES: &str = "NODES";
/// One number: how many times these have been changed.
pub const RUNTIMES_SET: &str = "RUNTIMES_SET";
/// Processes of which is copied what a thread's stack points to: [`crate::look::Look`].
pub const LOOKS: &str = "LOOKS";
/// One number: how many times these have been changed.
pub const LOOKS_SET: &str = "LOOKS_SET";
/// The copies: [`crate::look::Slot`].
pub const SLOTS: &str = "SLOTS";
/// Small ones: [`crate::look::SmallSlot`].
pub const SMALL_SLOTS: &str = "SMALL_SLOTS";
/// Programs that a send goes on in, and those that a receive does: the ones that follow tasks, the one that reports the data, and the
/// one that looks at what the stack points to.
pub const JUMPS: &str = "JUMPS";
pub const RECEIVE_JUMPS: &str = "RECEIVE_JUMPS";
pub const JUMPS_LEN: usize = 4;
pub const JUMP_PYTHON: u32 = 0;
pub const JUMP_NODE: u32 = 1;
pub const JUMP_DATA: u32 = 2;
pub const JUMP_LOOK: u32 = 3;
/// These programs, and the rung that has them: the others follow nobody.
pub const JUMP_PROGRAMS: [(&str, u32, Program); 6] = [
    (JUMPS, JUMP_DATA, program("send_followed", Hook::Tracepoint, "sock_send_length")),
    (JUMPS, JUMP_PYTHON, program("send_python", Hook::Tracepoint, "sock_send_length")),
    (JUMPS, JUMP_NODE, program("send_node", Hook::Tracepoint, "sock_send_length")),
    (JUMPS, JUMP_LOOK, program("send_look", Hook::Tracepoint, "sock_send_length")),
    (RECEIVE_JUMPS, JUMP_DATA, program("recv_followed", Hook::Tracepoint, "sock_recv_length")),
    (RECEIVE_JUMPS, JUMP_NODE, program("recv_node", Hook::Tracepoint, "sock_recv_length")),
];
pub const JUMP_RUNG: char = 'A';
/// Totals by [`crate::Counter`], per CPU.
pub const COUNTERS: &str = "COUNTERS";
/// Ring buffer of what the kernel side says in the agent's log; its library names it.
pub const LOG_RING: &str = "AYA_LOGS";
/// Target of these lines, for log filters.
pub const LOG_TARGET: &str = "spoor_ebpf";
/// Global of type [`crate::Offsets`].
pub const OFFSETS: &str = "OFFSETS";
/// Global of type [`crate::Settings`].
pub const SETTINGS: &str = "SETTINGS";
