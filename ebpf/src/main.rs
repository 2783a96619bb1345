//! The kernel side: completed socket operations → [`spoor_common::record`]s.
//!
//! *Owns* copying bytes and connection facts, cheaply and in a way the verifier accepts.
//! *Must not know* HTTP, AMQP, SQL, spans, orders.
//!
//! ```text
//! probes ──▶ operation ──▶ socket (who, where in the stream) ──▶ verdict (how much) ──▶ syscall (from where) ──▶ budget ──▶ copy ──▶ emit
//! ```
//!
//! Built for `bpfel-unknown-none` by `cargo xtask build`, twice: with the feature `untyped` for hooks whose arguments
//! the verifier knows nothing about (rungs C and D of `spoor_common::names::LADDER`), without it for the others. Other
//! targets only type-check it.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod budget;
#[cfg(not(feature = "untyped"))]
mod chain;
mod copy;
mod descriptor;
mod emit;
mod goroutine;
mod introduce;
mod kernel;
#[cfg(not(feature = "untyped"))]
mod look;
mod maps;
mod operation;
mod probes;
mod rare;
mod socket;
mod syscall;
mod verdict;

/// Helpers such as `bpf_sk_storage_get` need a licence that is compatible with the GPL.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier accepts no loop without end: nothing in this crate may reach this place.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("spoor-ebpf runs in the kernel: build it with `cargo xtask build`");
}
