//! A process's memory → where its CPython keeps frames, tasks and futures.
//!
//! *Owns* the offsets of each version, and the proofs that they hold in this very process: what is published is compared, each
//! thread's state is found again from the thread, types have their names and sizes. *Must not know* how a walk goes.
//!
//! *Spec*: CPython 3.11 to 3.13: `Include/internal/pycore_runtime.h`, `pycore_interp.h`, `pycore_frame.h`, `pycore_dict.h`,
//! `Modules/_asynciomodule.c`; glibc, `nptl/descr.h` (`specific_1stblock`).

use spoor_common::chain::Memory;
use spoor_common::chain::python::{Layout, VALUES_BEFORE, VALUES_BEHIND, VALUES_MARKED};

use super::Refusal;
use super::memory::ProcessMemory;

/// What every CPython exports, of 3.11 and later.
const SYMBOLS: [&str; 13] = [
    "_PyRuntime",
    "Py_Version",
    "PyUnicode_Type",
    "PyLong_Type",
    "PyCoro_Type",
    "PyGen_Type",
    "PyCFunction_Type",
    "PyCMethod_Type",
    "PyFunction_Type",
    "PyMethod_Type",
    "PyCell_Type",
    "PyDict_Type",
    "PyModule_Type",
];
/// In a thread of glibc on x86-64: its first keys' values, each with a number before it. A thread is known by its own address.
const SPECIFIC: u64 = 0x310;
const KEYS: u64 = 32;
/// In a thread's state: the next one.
const NEXT_THREAD: u64 = 8;
/// Threads of one interpreter that are looked at.
const THREADS: usize = 64;
/// Entries of one dictionary: a large program imports some thousands of modules.
const ENTRIES: u64 = 1 << 14;
/// What a release says at the end of its number.
const FINAL: u64 = 0xf;

/// Where things are in one version, in bytes.
#[derive(Debug)]
struct Version {
    minor: u64,
    /// In the runtime: its only key, and the list of interpreters.
    thread_key: u64,
    interpreters: u64,
    /// In an interpreter: its threads, its modules.
    threads: u64,
    modules: u64,
    /// In a thread's state.
    thread_id: u64,
    task_len: u64,
    future_len: u64,
    /// Words of the runtime that publish some of these, and what they must be.
    published: &'static [(u64, u64)],
    layout: Layout,
}

/// What is the same in all.
const COMMON: Layout = Layout { frame_owner: 64, frame_locals: 72, future_callback: 24, ..Layout::filled(0) };

const VERSIONS: [Version; 3] = [
    Version {
        minor: 11,
        thread_key: 592,
        interpreters: 40,
        threads: 16,
        modules: 888,
        thread_id: 152,
        task_len: 176,
        future_len: 128,
        published: &[],
        layout: Layout {
            state_frame: 56,
            frame_is_held: 1,
            holder_frame: 8,
            frame_previous: 48,
            frame_owner_shift: 40,
            frame_code: 32,
            code_locals: 76,
            coroutine_frame: 80,
            task_waiter: 128,
            task_coroutine: 136,
            task_name: 144,
            unicode_bytes: 48,
            values: VALUES_BEFORE,
            ..COMMON
        },
    },
    Version {
        minor: 12,
        thread_key: 1544,
        interpreters: 40,
        threads: 72,
        modules: 944,
        thread_id: 136,
        task_len: 176,
        future_len: 128,
        published: &[],
        layout: Layout {
            state_frame: 56,
            frame_is_held: 1,
            holder_frame: 0,
            frame_previous: 8,
            frame_owner_shift: 48,
            frame_code: 0,
            code_locals: 72,
            coroutine_frame: 72,
            task_waiter: 128,
            task_coroutine: 136,
            task_name: 144,
            unicode_bytes: 40,
            values: VALUES_MARKED,
            ..COMMON
        },
    },
    Version {
        minor: 13,
        thread_key: 2160,
        interpreters: 632,
        threads: 7344,
        modules: 7656,
        thread_id: 152,
        task_len: 144,
        future_len: 104,
        // `_Py_DebugOffsets`: a word to know it by, not free-threaded, and where some of these are.
        published: &[(0, u64::from_le_bytes(*b"xdebugpy")), (16, 0), (40, 632), (72, 7344), (88, 7656)],
        layout: Layout {
            state_frame: 72,
            frame_previous: 8,
            frame_owner_shift: 48,
            frame_code: 0,
            code_locals: 72,
            coroutine_frame: 72,
            task_waiter: 112,
            task_coroutine: 120,
            task_name: 128,
            unicode_bytes: 40,
            values: VALUES_BEHIND,
            ..COMMON
        },
    },
];

/// Finds CPython in a process.
pub(crate) fn find(process: &ProcessMemory) -> Result<Layout, Refusal> {
    let loaded = process.loaded("libpython3")?;
    let symbols = loaded.iter().find_map(|file| file.symbols(SYMBOLS)).ok_or(Refusal::Unknown)?;
    Interpreter::of(process, symbols)?.layout()
}

/// The main interpreter of a process.
struct Interpreter<'a, M> {
    memory: &'a M,
    version: &'static Version,
    address: u64,
    /// From a thread's pointer to its state.
    thread_state: u64,
    types: Types,
}

struct Types {
    unicode: u64,
    long: u64,
    coroutine: u64,
    generator: u64,
    builtin: u64,
    builtin_method: u64,
    function: u64,
    method: u64,
    cell: u64,
    dict: u64,
    module: u64,
}

/// Pieces of memory, beside words.
pub(super) trait Bytes: Memory {
    fn piece(&self, at: u64, len: usize) -> Option<Vec<u8>>;
}

impl Bytes for ProcessMemory {
    fn piece(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        self.bytes(at, len)
    }
}

impl<'a, M: Bytes> Interpreter<'a, M> {
    fn of(memory: &'a M, symbols: [u64; SYMBOLS.len()]) -> Result<Self, Refusal> {
        let [runtime, number, unicode, long, coroutine, generator, ..] = symbols;
        let [.., builtin, builtin_method, function, method, cell, dict, module] = symbols;
        let word = |at: u64| memory.word(at).ok_or(Refusal::Layout);
        let number = word(number)?;
        let (major, minor) = (number >> 24, number >> 16 & 0xff);
        let version = VERSIONS
            .iter()
            .find(|version| major == 3 && version.minor == minor && number >> 4 & 0xf == FINAL)
            .ok_or(Refusal::Version)?;
        for (at, expected) in version.published {
            if word(runtime.wrapping_add(*at))? != *expected {
                return Err(Refusal::Layout);
            }
        }
        let address = word(runtime.wrapping_add(version.interpreters))?;
        // Whether there is one, and its number.
        let key = word(runtime.wrapping_add(version.thread_key))?;
        if address == 0 || key & 0xffff_ffff != 1 || key >> 32 >= KEYS {
            return Err(Refusal::Layout);
        }
        let thread_state = SPECIFIC + 16 * (key >> 32) + 8;
        let types = Types {
            unicode,
            long,
            coroutine,
            generator,
            builtin,
            builtin_method,
            function,
            method,
            cell,
            dict,
            module,
        };
        let interpreter = Self { memory, version, address, thread_state, types };
        if interpreter.finds_threads() { Ok(interpreter) } else { Err(Refusal::Layout) }
    }

    /// From a thread's own pointer its state is found, as the walk will find it.
    fn finds_threads(&self) -> bool {
        let mut state = self.memory.word(self.address.wrapping_add(self.version.threads)).unwrap_or(0);
        for _ in 0..THREADS {
            if state == 0 {
                break;
            }
            let thread = self.memory.word(state.wrapping_add(self.version.thread_id)).unwrap_or(0);
            // Every thread's description begins with its own address.
            if thread != 0
                && self.memory.word(thread) == Some(thread)
                && self.memory.word(thread.wrapping_add(self.thread_state)) == Some(state)
            {
                return true;
            }
            state = self.memory.word(state.wrapping_add(NEXT_THREAD)).unwrap_or(0);
        }
        false
    }

    /// All that a walk needs.
    fn layout(&self) -> Result<Layout, Refusal> {
        let modules =
            self.memory.word(self.address.wrapping_add(self.version.modules)).ok_or(Refusal::Layout)?;
        let modules = self.entries(modules).ok_or(Refusal::Layout)?;
        let asyncio = self.module(&modules, "_asyncio").ok_or(Refusal::NotYet)?;
        let find = |entries: &[(u64, u64)], name: &str| self.named(entries, name).ok_or(Refusal::Layout);
        let (task, future) = (find(&asyncio, "Task")?, find(&asyncio, "Future")?);
        let running = find(&asyncio, "_current_tasks")?;
        let is_sound = self.is_type(task, "_asyncio.Task", self.version.task_len)
            && self.is_type(future, "_asyncio.Future", self.version.future_len)
            && self.memory.word(task.wrapping_add(256)) == Some(future)
            && self.memory.word(running.wrapping_add(8)) == Some(self.types.dict);
        if !is_sound {
            return Err(Refusal::Layout);
        }
        let other = |module: &str, name: &str| {
            self.module(&modules, module).and_then(|entries| self.named(&entries, name))
        };
        // Imported with the rest of asyncio, but later: without it, nobody would be seen to wait for the tasks of a group.
        let group = other("asyncio.taskgroups", "TaskGroup").ok_or(Refusal::NotYet)?;
        Ok(Layout {
            thread_state: self.thread_state,
            running,
            task_type: task,
            future_type: future,
            unicode_type: self.types.unicode,
            long_type: self.types.long,
            coroutine_type: self.types.coroutine,
            generator_type: self.types.generator,
            builtin_type: self.types.builtin,
            builtin_method_type: self.types.builtin_method,
            function_type: self.types.function,
            method_type: self.types.method,
            cell_type: self.types.cell,
            partial_type: other("_functools", "partial").ok_or(Refusal::NotYet)?,
            group_type: group,
            ..self.version.layout
        })
    }

    /// The type at an address has that name and that size.
    fn is_type(&self, address: u64, name: &str, len: u64) -> bool {
        let Some([at, size]) = self.memory.words::<2>(address.wrapping_add(24)) else { return false };
        let text = [name.as_bytes(), b"\0"].concat();
        size == len && self.memory.piece(at, text.len()).is_some_and(|found| found == text)
    }

    /// The names in a module.
    fn module(&self, modules: &[(u64, u64)], name: &str) -> Option<Vec<(u64, u64)>> {
        let module = self.named(modules, name)?;
        let [kind, dict] = self.memory.words::<2>(module.wrapping_add(8))?;
        if kind != self.types.module { None } else { self.entries(dict) }
    }

    /// The value of the entry whose key is that text.
    fn named(&self, entries: &[(u64, u64)], name: &str) -> Option<u64> {
        let is_name = |key: u64| {
            self.memory.words::<2>(key.wrapping_add(8)) == Some([self.types.unicode, name.len() as u64])
                && self
                    .memory
                    .piece(key.wrapping_add(self.version.layout.unicode_bytes), name.len())
                    .is_some_and(|found| found == name.as_bytes())
        };
        entries.iter().find(|(key, _)| is_name(*key)).map(|(_, value)| *value)
    }

    /// Keys and values of a dictionary.
    fn entries(&self, dict: u64) -> Option<Vec<(u64, u64)>> {
        if self.memory.word(dict.wrapping_add(8))? != self.types.dict {
            return None;
        }
        let [keys, values] = self.memory.words::<2>(dict.wrapping_add(32))?;
        let [sizes, _, count] = self.memory.words::<3>(keys.wrapping_add(8))?;
        let (place_bits, kind) = (sizes >> 8 & 0xff, sizes >> 16 & 0xff);
        if values != 0 || place_bits > 16 || kind > 1 || count > ENTRIES {
            return None;
        }
        let entries = keys.wrapping_add(32).wrapping_add(1 << place_bits);
        // Where all keys are texts, entries have no hash.
        let words = if kind == 0 { 3 } else { 2 };
        let bytes = self.memory.piece(entries, count as usize * words * 8)?;
        let (all, _) = bytes.as_chunks::<8>();
        let all: Vec<u64> = all.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let pairs = all.chunks_exact(words).filter_map(|entry| {
            let [.., key, value] = entry else { return None };
            (*key != 0 && *value != 0).then_some((*key, *value))
        });
        Some(pairs.collect())
    }
}
