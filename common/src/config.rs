//! What the loader tells the kernel side before it is verified: where fields lie in this kernel, and settings.
//!
//! Both are read-only globals, so the verifier knows their values and removes what they switch off.

use crate::words::words;

/// A field that this kernel does not have.
pub const MISSING: u32 = u32::MAX;
/// A system call that this architecture does not have.
pub const NO_SYSCALL: u64 = u64::MAX;
/// A controller that this kernel does not have.
pub const NO_SUBSYSTEM: u64 = u64::MAX;

macro_rules! offsets {
    ($($(#[$meta:meta])* $field:ident = $need:ident $owner:literal $path:literal,)+) => {
        words! {
            /// Byte offsets of kernel structure fields, from the running kernel's BTF. [`MISSING`] where there is none.
            pub struct Offsets : u32 { $($(#[$meta])* #[doc = concat!("`", $owner, ".", $path, "`")] $field,)+ }
        }

        /// Where each of the [`Offsets`] is found, in order.
        pub const FIELDS: [Field; Offsets::LEN] =
            [$(Field { owner: $owner, path: $path, need: Need::$need },)+];
    };
}

/// One entry of [`FIELDS`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Structure.
    pub owner: &'static str,
    /// Member, or members joined by dots; anonymous structs and unions are looked through.
    pub path: &'static str,
    /// Who can do without it.
    pub need: Need,
}

/// Whether a missing field stops the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every kernel has it.
    Always,
    /// Only some kernels, configurations or architectures have it.
    Optional,
}

offsets! {
    sk_family = Always "sock" "__sk_common.skc_family",
    sk_state = Always "sock" "__sk_common.skc_state",
    sk_daddr = Always "sock" "__sk_common.skc_daddr",
    sk_rcv_saddr = Always "sock" "__sk_common.skc_rcv_saddr",
    sk_dport = Always "sock" "__sk_common.skc_dport",
    sk_num = Always "sock" "__sk_common.skc_num",
    sk_v6_daddr = Optional "sock" "__sk_common.skc_v6_daddr",
    sk_v6_rcv_saddr = Optional "sock" "__sk_common.skc_v6_rcv_saddr",
    sk_net = Always "sock" "__sk_common.skc_net.net",
    sk_cookie = Always "sock" "__sk_common.skc_cookie",
    sk_socket = Always "sock" "sk_socket",
    sk_protocol = Always "sock" "sk_protocol",
    sk_type = Always "sock" "sk_type",
    sk_shutdown = Always "sock" "sk_shutdown",
    sk_err = Always "sock" "sk_err",
    netns_inum = Always "net" "ns.inum",
    socket_file = Always "socket" "file",
    socket_sk = Always "socket" "sk",
    file_inode = Always "file" "f_inode",
    file_private = Always "file" "private_data",
    inode_mode = Always "inode" "i_mode",
    inode_number = Always "inode" "i_ino",
    copied_seq = Always "tcp_sock" "copied_seq",
    rcv_nxt = Always "tcp_sock" "rcv_nxt",
    write_seq = Always "tcp_sock" "write_seq",
    snd_una = Always "tcp_sock" "snd_una",
    snd_nxt = Always "tcp_sock" "snd_nxt",
    bytes_received = Always "tcp_sock" "bytes_received",
    bytes_acked = Always "tcp_sock" "bytes_acked",
    bytes_sent = Always "tcp_sock" "bytes_sent",
    bytes_retrans = Always "tcp_sock" "bytes_retrans",
    ulp_ops = Optional "inet_connection_sock" "icsk_ulp_ops",
    unix_peer = Optional "unix_sock" "peer",
    unix_addr = Optional "unix_sock" "addr",
    unix_address_len = Optional "unix_address" "len",
    unix_address_name = Optional "unix_address" "name",
    task_pid = Always "task_struct" "pid",
    task_tgid = Always "task_struct" "tgid",
    task_flags = Always "task_struct" "flags",
    task_files = Always "task_struct" "files",
    task_signal = Always "task_struct" "signal",
    signal_live = Always "signal_struct" "live",
    /// x86-64: where a task running a 32-bit system call says so.
    task_thread_status = Optional "task_struct" "thread_info.status",
    /// arm64: where a 32-bit task says so.
    task_thread_flags = Optional "task_struct" "thread_info.flags",
    /// x86-64: the thread's pointer to what is its own.
    task_fsbase = Optional "task_struct" "thread.fsbase",
    task_cgroups = Optional "task_struct" "cgroups",
    css_set_subsys = Optional "css_set" "subsys",
    css_cgroup = Optional "cgroup_subsys_state" "cgroup",
    cgroup_kn = Optional "cgroup" "kn",
    kn_id = Optional "kernfs_node" "id",
    files_fdt = Always "files_struct" "fdt",
    fdt_max_fds = Always "fdtable" "max_fds",
    fdt_fd = Always "fdtable" "fd",
    regs_sp = Always "pt_regs" "sp",
    x86_orig_ax = Optional "pt_regs" "orig_ax",
    x86_ax = Optional "pt_regs" "ax",
    x86_di = Optional "pt_regs" "di",
    x86_si = Optional "pt_regs" "si",
    x86_dx = Optional "pt_regs" "dx",
    x86_cx = Optional "pt_regs" "cx",
    x86_r10 = Optional "pt_regs" "r10",
    x86_r8 = Optional "pt_regs" "r8",
    x86_r14 = Optional "pt_regs" "r14",
    arm_regs = Optional "pt_regs" "regs",
    arm_syscall = Optional "pt_regs" "syscallno",
    arm_orig_x0 = Optional "pt_regs" "orig_x0",
}

words! {
    /// Settings, and what differs between architectures.
    pub struct Settings : u64 {
        /// 1 on x86-64, 0 on arm64.
        x86,
        /// The agent's process, as its own PID namespace numbers it.
        own_tgid,
        /// Device of the agent's PID namespace.
        pidns_dev,
        /// Inode of the agent's PID namespace.
        pidns_ino,
        /// Bytes copied per direction of a connection without a verdict.
        first_look_bytes,
        /// The data ring's reader is woken when more than this waits.
        wake_bytes,
        /// Size of the data ring.
        ring_bytes,
        /// Bytes of the data ring that one cgroup may fill while its reader is behind; 0 for no bound.
        cgroup_data_bytes,
        /// The same for the control ring.
        cgroup_control_bytes,
        /// Index of the controller `pids` in `css_set.subsys`, or [`NO_SUBSYSTEM`].
        pids_subsystem,
        nr_read,
        nr_write,
        nr_readv,
        nr_writev,
        nr_sendto,
        nr_recvfrom,
        nr_sendmsg,
        nr_recvmsg,
        nr_sendmmsg,
        nr_recvmmsg,
        nr_sendfile,
        nr_splice,
        /// 1 where `tcp_recvmsg` has an argument `nonblock` before its flags (before 5.19).
        recv_nonblock,
    }
}
