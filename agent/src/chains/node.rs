//! A process's memory → where its Node.js has its loop, and what kinds of objects its V8 has.
//!
//! *Owns* the kinds of each version, and the proofs that they hold in this very process: all that V8 publishes of what a walk goes by
//! is compared, and from libuv's loop a socket's object is found that leads back. *Must not know* how a walk goes.
//!
//! *Spec*: V8 11.3, 12.4 and 13.6 (Node.js 20, 22 and 24): `v8dbg_*` of `tools/gen-postmortem-metadata.py`, `src/objects/contexts.h`;
//! libuv 1, `uv_default_loop` and `include/uv.h` (`uv_loop_t`).

use spoor_common::chain::node::{Call, Layout, Walk};
use spoor_common::chain::{Memory, UNDER_WAY};

use super::Refusal;
use super::memory::ProcessMemory;

/// What V8 says of itself and must say, in every version that is known: what a walk takes for granted.
const COMMON: [(&str, i32); 22] = [
    ("v8dbg_HeapObjectTag", 1),
    ("v8dbg_SmiShiftSize", 31),
    ("v8dbg_SpecialAPIObjectType", 1040),
    ("v8dbg_APIObjectType", 1058),
    ("v8dbg_type_JSObject__JS_OBJECT_TYPE", 1057),
    ("v8dbg_type_HeapNumber__HEAP_NUMBER_TYPE", 130),
    ("v8dbg_type_Symbol__SYMBOL_TYPE", 128),
    ("v8dbg_class_JSObject__internal_fields__uintptr_t", 24),
    ("v8dbg_class_Map__instance_size_in_words__char", 8),
    ("v8dbg_class_Map__inobject_properties_start_or_constructor_function_index__char", 9),
    ("v8dbg_class_Map__instance_type__uint16_t", 12),
    ("v8dbg_class_Map__bit_field3__int", 16),
    ("v8dbg_class_Map__instance_descriptors_offset", 40),
    ("v8dbg_bit_field3_is_dictionary_map_shift", 21),
    ("v8dbg_bit_field3_number_of_own_descriptors_mask", 0x3ff << 10),
    ("v8dbg_class_DescriptorArray__header_size__uintptr_t", 24),
    ("v8dbg_prop_desc_size", 3),
    ("v8dbg_prop_index_mask", 0x3ff << 19),
    ("v8dbg_prop_location_mask", 1 << 5),
    ("v8dbg_class_SeqOneByteString__chars__char", 16),
    ("v8dbg_class_FixedArray__data__uintptr_t", 16),
    ("v8dbg_scopeinfo_idx_ncontextlocals", 2),
];
/// What differs, in the order of the values in [`VERSIONS`].
const OWN: [&str; 9] = [
    "v8dbg_FirstContextType",
    "v8dbg_LastContextType",
    "v8dbg_type_JSPromise__JS_PROMISE_TYPE",
    "v8dbg_type_JSBoundFunction__JS_BOUND_FUNCTION_TYPE",
    "v8dbg_type_JSFunction__JS_FUNCTION_TYPE",
    "v8dbg_type_JSAsyncFunctionObject__JS_ASYNC_FUNCTION_OBJECT_TYPE",
    "v8dbg_type_PromiseReaction__PROMISE_REACTION_TYPE",
    "v8dbg_type_PromiseCapability__PROMISE_CAPABILITY_TYPE",
    "v8dbg_class_JSFunction__context__Context",
];
/// Node.js 20, 22 and 24: these, and where in the object of a stream the stream is. What is between them, or later, is not known.
const VERSIONS: [([i32; OWN.len()], u64); 3] = [
    ([205, 214, 2063, 2064, 2066, 2106, 163, 161, 32], 32),
    ([190, 199, 2063, 2064, 2066, 2108, 163, 161, 40], 32),
    ([220, 229, 2115, 2063, 2065, 2110, 162, 161, 40], 40),
];
/// Kinds of contexts, from the first one on: they are in the order of their names, from `AWAIT_CONTEXT_TYPE` to `WITH_CONTEXT_TYPE`.
const MODULE: u64 = 6;
const NATIVE: u64 = 7;
const SCRIPT: u64 = 8;
/// What is to be called for the loop of the main thread.
const LOOP: &str = "uv_default_loop";
/// Bytes of it that are looked at: at first it reads where the loop is.
const CODE: usize = 32;
/// In the loop: the descriptor of its epoll; how many descriptors are watched.
const BACKEND: u64 = 64;
const WATCHED: u64 = 112;
/// Descriptors that are tried for a socket.
const TRIED: u64 = 1 << 16;

/// Finds Node.js in a process.
pub(super) fn find(process: &ProcessMemory) -> Result<Layout, Refusal> {
    let loaded = process.loaded("libnode")?;
    let found = loaded.iter().find_map(|file| Some((file, file.symbols([LOOP, OWN[0]])?)));
    let (file, [code, _]) = found.ok_or(Refusal::Unknown)?;
    let own = file.symbols(OWN).ok_or(Refusal::Version)?;
    let common = file.symbols(COMMON.map(|(name, _)| name)).ok_or(Refusal::Version)?;
    let value = |at: u64| {
        let bytes = process.bytes(at, size_of::<i32>()).ok_or(Refusal::Layout)?;
        bytes.try_into().map(i32::from_ne_bytes).map_err(|_| Refusal::Layout)
    };
    for (at, (_, expected)) in common.into_iter().zip(COMMON) {
        if value(at)? != expected {
            return Err(Refusal::Version);
        }
    }
    let mut kinds = [0; OWN.len()];
    for (to, at) in kinds.iter_mut().zip(own) {
        *to = value(at)?;
    }
    let version = VERSIONS.iter().find(|(known, _)| *known == kinds).ok_or(Refusal::Version)?;
    let layout = layout(version, find_loop(process, code)?);
    if finds_sockets(process, &layout) { Ok(layout) } else { Err(Refusal::NotYet) }
}

fn layout((kinds, object_wrap): &([i32; OWN.len()], u64), the_loop: u64) -> Layout {
    let [first, last, promise, bound, function, call, reaction, capability, context] =
        kinds.map(i32::unsigned_abs).map(u64::from);
    Layout {
        the_loop,
        first_context: first,
        last_context: last,
        native_context: first + NATIVE,
        module_context: first + MODULE,
        script_context: first + SCRIPT,
        promise,
        bound_function: bound,
        function,
        async_function: call,
        reaction,
        capability,
        function_context: context,
        object_wrap: *object_wrap,
    }
}

/// The loop, from the code that returns it. It watches with an epoll of the process's own.
fn find_loop(process: &ProcessMemory, code: u64) -> Result<u64, Refusal> {
    let bytes = process.bytes(code, CODE).ok_or(Refusal::Layout)?;
    let at = loop_is_at(&bytes).ok_or(Refusal::Layout)?;
    let found = process.word(code.wrapping_add_signed(at)).ok_or(Refusal::Layout)?;
    if found == 0 {
        return Err(Refusal::NotYet);
    }
    let backend = process.word(found.wrapping_add(BACKEND)).ok_or(Refusal::Layout)?;
    if process.is_epoll(backend & 0xffff_ffff) { Ok(found) } else { Err(Refusal::Layout) }
}

/// Where the code's first load from an address of its own reads, from the code on: `mov disp(%rip), register` of 64 bits.
fn loop_is_at(code: &[u8]) -> Option<i64> {
    const LEN: usize = 7;
    let (at, load) = code
        .windows(LEN)
        .enumerate()
        .find(|(_, load)| matches!(load, [0x48 | 0x4c, 0x8b, operands, ..] if operands & 0xc7 == 0x05))?;
    let distance = i32::from_le_bytes(load.get(3..)?.try_into().ok()?);
    Some(i64::from(distance) + i64::try_from(at + LEN).ok()?)
}

/// From some descriptor the walk comes to an object that leads back.
fn finds_sockets(process: &ProcessMemory, layout: &Layout) -> bool {
    let watched = process.word(layout.the_loop.wrapping_add(WATCHED)).unwrap_or(0) & 0xffff_ffff;
    let mut walk = Walk::default();
    (0..watched.min(TRIED)).any(|fd| {
        walk.begin(process, layout, Call { fd, is_read: true, salt: 0 });
        walk.end == UNDER_WAY
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_is_where_the_code_reads_first() {
        // push %rbp; mov %rsp,%rbp; push %r12; sub $8,%rsp; mov 0x3dc4487(%rip),%r12; …
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0x48, 0x83, 0xec, 0x08, 0x4c, 0x8b, 0x25, 0x87, 0x44, 0xdc,
            0x03,
        ];
        assert_eq!(loop_is_at(&code), Some(0x3dc_4487 + 17));
        // Every shorter piece says nothing.
        (0..code.len()).for_each(|len| assert_eq!(loop_is_at(&code[..len]), None));
        assert_eq!(loop_is_at(&[0x48, 0x8b, 0x05, 0xff, 0xff, 0xff, 0xff]), Some(6));
    }
}
