//! CPython's asyncio: a thread in a system call → the task that made it and those that wait for it.
//!
//! The running task is the one of asyncio's own table whose coroutine is a frame of this thread. Its number is its name
//! (`Task-7`) unless the program gave it another: numbers are never used again, addresses are. A name of that form is taken for
//! the number, whoever gave it.
//!
//! Who waits for task `t` is found in what `t` will call when it is over. Each candidate `P` must be a task that waits for the
//! very future through which it was found; that of a group need not wait yet, but cannot end before `t`:
//!
//! | what is called | who waits |
//! |---|---|
//! | `task_wakeup` of `P` | `P`: `await t` |
//! | a function with a future `f` in its closure | who waits for `f`: `gather`, `shield`, `wait` |
//! | a `partial` with a future `f` among its arguments | who waits for `f`: `wait_for` before 3.12 |
//! | a method of a `TaskGroup` | the group's own task |
//! | nothing of these, but `t`'s outermost function has a future `f`, or a method of one, in a local | who waits for `f`: it is handed the result |
//!
//! Two that wait are no answer: work for both is neither's.
//!
//! *Spec*: CPython 3.11 to 3.13, `Modules/_asynciomodule.c` (`FutureObj`, `TaskObj`, `current_tasks`),
//! `Include/internal/pycore_frame.h`, `Objects/dictobject.c`.
//!
//! Long because a walk is one state that every step looks at; the kernel runs one step a turn.

use super::{BROKEN, COMPLETE, DEEP, Memory, NO_TASK, SEVERAL, TASKS, UNDER_WAY};
use crate::words::words;

words! {
    /// Where the interpreter of a process keeps what a walk needs. Addresses, and offsets in bytes.
    pub struct Layout : u64 {
        /// From the thread's pointer to the address of its state.
        thread_state,
        /// In a thread's state: its innermost frame, or what holds it.
        state_frame,
        /// 1: what holds it; the frame is at `holder_frame` in that.
        frame_is_held,
        holder_frame,
        /// In a frame: the one that called it; the word with its owner's kind, and how far to shift it.
        frame_previous,
        frame_owner,
        frame_owner_shift,
        frame_code,
        frame_locals,
        /// In code: how many locals its frames have.
        code_locals,
        /// In a coroutine: its frame.
        coroutine_frame,
        /// The dictionary of running tasks by loop.
        running,
        /// Types by their addresses.
        task_type,
        future_type,
        unicode_type,
        long_type,
        coroutine_type,
        generator_type,
        builtin_type,
        /// Methods of types in C that are told their type.
        builtin_method_type,
        function_type,
        method_type,
        cell_type,
        partial_type,
        group_type,
        /// In a future: its first callback. Its context and the list of further ones follow.
        future_callback,
        /// In a task: what it waits for, its coroutine, its name.
        task_waiter,
        task_coroutine,
        task_name,
        /// In a text: its bytes.
        unicode_bytes,
        /// How an instance keeps its attributes: one of `VALUES_*`.
        values,
    }
}

/// Steps of one walk, of at most five reads each. A deep chain of a web service takes some 60.
pub const STEPS: u32 = 256;

/// Attributes are in an array that a word four words before the instance leads to (3.11), …
pub const VALUES_BEFORE: u64 = 1;
/// … in one that a marked word three words before it leads to (3.12), …
pub const VALUES_MARKED: u64 = 2;
/// … or behind it, after a word (3.13).
pub const VALUES_BEHIND: u64 = 3;

/// Frames looked at: those of the calls within one task.
const FRAMES: u64 = 96;
/// Entries of the table of running tasks looked at, the last ones: one for each loop, and those that are over.
const ENTRIES: u64 = 8;
/// Callbacks of one future beside the first.
const CALLBACKS: u64 = 4;
/// Variables of one closure, arguments of one partial, locals of one function.
const CELLS: u64 = 8;
const ARGUMENTS: u64 = 4;
const LOCALS: u64 = 16;

/// In every object.
const TYPE: u64 = 8;
/// In what has a size: how many items; in a tuple also the first of them, in a list where they are.
const SIZE: u64 = 16;
const ITEMS: u64 = 24;
/// In a function.
const CLOSURE: u64 = 72;
/// In a cell.
const CONTENT: u64 = 16;
/// In a type: the one it is derived from.
const BASE: u64 = 256;
/// In a dictionary: how many entries are used, a version, its keys.
const USED: u64 = 16;
/// In keys: sizes and kind, room, entries that were made; then places, and after them the entries.
const KEYS_HEAD: u64 = 8;
const PLACES: u64 = 32;
const ENTRY: u64 = 24;
/// The frame belongs to a coroutine.
const OF_COROUTINE: u64 = 1;
/// `TaskGroup._parent_task` is the fifth attribute that its initialiser sets.
const PARENT_TASK: u64 = 4 * 8;
/// The bytes of `Task-` as the first of a word.
const PREFIX: u64 = u64::from_le_bytes(*b"Task-\0\0\0");
const PREFIX_LEN: u64 = 5;
const PREFIX_BITS: u64 = (1 << 40) - 1;

/// What the words that are scanned are.
const IN_CELLS: u64 = 1;
const IN_ARGUMENTS: u64 = 2;
const IN_LOCALS: u64 = 3;

/// One walk. All words, so that the kernel keeps it in a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// How it ended: [`COMPLETE`] and the like; [`UNDER_WAY`] before.
    pub end: u64,
    /// Tasks found.
    pub len: u64,
    /// Their numbers, from the one at work on; 0 for one with a name of its own.
    pub ids: [u64; TASKS],
    /// The next entry of the table of running tasks, how many are left to look at, and to find.
    entry: u64,
    entries: u64,
    wanted: u64,
    /// Running tasks and their coroutines: of this thread's loop, and of one other thread's.
    first: u64,
    first_coroutine: u64,
    second: u64,
    second_coroutine: u64,
    frame: u64,
    frames: u64,
    /// The task whose waiter is looked for.
    task: u64,
    /// Who waits for it, as far as was looked.
    parent: u64,
    has_several: u64,
    /// Its next callback, and the list of further ones.
    callback: u64,
    more: u64,
    more_left: u64,
    /// Its outermost function's locals were looked at.
    saw_locals: u64,
    /// Words that may lead to a future.
    scan: u64,
    scan_left: u64,
    scan_kind: u64,
    /// A future that may be waited for, its next callback and the list of further ones.
    future: u64,
    future_callback: u64,
    future_more: u64,
    future_more_left: u64,
}

impl Walk {
    /// Begins at a thread, by its pointer.
    #[inline(always)]
    pub fn begin<M: Memory>(&mut self, memory: &M, layout: &Layout, thread: u64) {
        *self = Self::default();
        self.frames = FRAMES;
        if self.open_running(memory, layout, thread).is_none() && self.end == UNDER_WAY {
            self.end = BROKEN;
        }
    }

    /// Makes one step. Returns whether there is another one.
    #[inline(always)]
    pub fn step<M: Memory>(&mut self, memory: &M, layout: &Layout) -> bool {
        if self.end != UNDER_WAY {
            return false;
        }
        let made = if self.entries != 0 {
            self.look_at_entry(memory, layout)
        } else if self.task == 0 {
            self.look_at_frame(memory, layout)
        } else if self.future != 0 {
            self.look_at_future(memory, layout)
        } else if self.scan_left != 0 {
            self.look_at_word(memory, layout)
        } else if self.callback != 0 || self.more_left != 0 {
            self.look_at_callback(memory, layout)
        } else if self.parent == 0 && self.has_several == 0 && self.saw_locals == 0 {
            self.open_locals(memory, layout)
        } else {
            self.conclude(memory, layout)
        };
        if made.is_none() {
            self.end = BROKEN;
        }
        self.end == UNDER_WAY
    }

    /// The walk ran out of steps.
    #[inline(always)]
    pub fn finish(&mut self) {
        if self.end == UNDER_WAY {
            self.end = DEEP;
        }
    }

    /// The innermost frame, and the table of running tasks.
    #[inline(always)]
    fn open_running<M: Memory>(&mut self, memory: &M, layout: &Layout, thread: u64) -> Option<()> {
        // What is entered last is last; what a loop runs no more has no value.
        let [used, _, keys] = memory.words::<3>(layout.running.wrapping_add(USED))?;
        if used == 0 {
            self.end = NO_TASK;
            return None;
        }
        if used > ENTRIES {
            self.end = DEEP;
            return None;
        }
        let state = memory.word(thread.wrapping_add(layout.thread_state))?;
        if state == 0 {
            self.end = NO_TASK;
            return None;
        }
        self.frame = memory.word(state.wrapping_add(layout.state_frame))?;
        if layout.frame_is_held != 0 {
            self.frame = memory.word(self.frame.wrapping_add(layout.holder_frame))?;
        }
        let [sizes, _, count] = memory.words::<3>(keys.wrapping_add(KEYS_HEAD))?;
        let (place_bits, kind) = ((sizes >> 8) & 0xff, (sizes >> 16) & 0xff);
        // Loops are no texts, so entries have a hash.
        if kind != 0 || place_bits > 16 || count == 0 || count > 1 << 16 {
            return None;
        }
        let entries = keys.wrapping_add(PLACES).wrapping_add(1 << place_bits);
        self.entry = entries.wrapping_add((count - 1).wrapping_mul(ENTRY));
        self.entries = if count > ENTRIES { ENTRIES } else { count };
        self.wanted = used;
        Some(())
    }

    #[inline(always)]
    fn look_at_entry<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let [_, _, task] = memory.words::<3>(self.entry)?;
        self.entry = self.entry.wrapping_sub(ENTRY);
        self.entries = self.entries.wrapping_sub(1);
        if task == 0 {
            return Some(());
        }
        // A task of pure Python, or of another library.
        if memory.word(task.wrapping_add(TYPE))? != layout.task_type {
            self.end = NO_TASK;
            return Some(());
        }
        let coroutine = memory.word(task.wrapping_add(layout.task_coroutine))?;
        if self.first == 0 {
            self.first = task;
            self.first_coroutine = coroutine;
        } else if self.second == 0 {
            self.second = task;
            self.second_coroutine = coroutine;
        } else {
            self.end = DEEP;
        }
        self.wanted = self.wanted.wrapping_sub(1);
        if self.wanted == 0 {
            self.entries = 0;
        }
        Some(())
    }

    /// A frame of a running task's coroutine makes it this thread's.
    #[inline(always)]
    fn look_at_frame<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let frame = self.frame;
        if frame == 0 || self.frames == 0 {
            self.end = if frame == 0 { NO_TASK } else { DEEP };
            return Some(());
        }
        self.frames = self.frames.wrapping_sub(1);
        let owner = memory.word(frame.wrapping_add(layout.frame_owner))? >> (layout.frame_owner_shift & 63);
        if owner & 0xff == OF_COROUTINE {
            let coroutine = frame.wrapping_sub(layout.coroutine_frame);
            if coroutine == self.first_coroutine {
                return self.open_task(memory, layout, self.first);
            }
            if coroutine == self.second_coroutine {
                return self.open_task(memory, layout, self.second);
            }
        }
        self.frame = memory.word(frame.wrapping_add(layout.frame_previous))?;
        Some(())
    }

    /// The next task of the chain.
    #[inline(always)]
    fn open_task<M: Memory>(&mut self, memory: &M, layout: &Layout, task: u64) -> Option<()> {
        self.task = task;
        self.parent = 0;
        self.saw_locals = 0;
        let id = number(memory, layout, memory.word(task.wrapping_add(layout.task_name))?)?;
        match self.ids.get_mut(self.len as usize) {
            Some(place) => *place = id,
            None => {
                self.end = DEEP;
                return Some(());
            }
        }
        self.len = self.len.wrapping_add(1);
        let [first, _, more] = memory.words::<3>(task.wrapping_add(layout.future_callback))?;
        let (items, count) = self.open_list(memory, more)?;
        (self.callback, self.more, self.more_left) = (first, items, count);
        Some(())
    }

    /// Where the items of a list are, and how many. More than are looked at may hide one that waits.
    #[inline(always)]
    fn open_list<M: Memory>(&mut self, memory: &M, list: u64) -> Option<(u64, u64)> {
        if list == 0 {
            return Some((0, 0));
        }
        let [count, items] = memory.words::<2>(list.wrapping_add(SIZE))?;
        if count > CALLBACKS {
            self.has_several = 1;
            return Some((0, 0));
        }
        Some((items, count))
    }

    /// One thing that is called when the task is over.
    #[inline(always)]
    fn look_at_callback<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let callback = if self.callback != 0 {
            let callback = self.callback;
            self.callback = 0;
            callback
        } else {
            self.more_left = self.more_left.wrapping_sub(1);
            let at = self.more;
            self.more = at.wrapping_add(8);
            called(memory, at)?
        };
        let [kind, _, content] = memory.words::<3>(callback.wrapping_add(TYPE))?;
        if kind == layout.builtin_type {
            self.offer(memory, layout, content, self.task)?;
        } else if kind == layout.function_type {
            let closure = memory.word(callback.wrapping_add(CLOSURE))?;
            if closure != 0 {
                self.open_tuple(memory, closure, IN_CELLS, CELLS)?;
            }
        } else if kind == layout.partial_type {
            self.open_tuple(memory, content, IN_ARGUMENTS, ARGUMENTS)?;
        } else if kind == layout.method_type && memory.word(content.wrapping_add(TYPE))? == layout.group_type
        {
            let parent = group_task(memory, layout, content)?;
            if memory.word(parent.wrapping_add(TYPE))? != layout.task_type {
                return None;
            }
            self.take(parent);
        }
        Some(())
    }

    #[inline(always)]
    fn open_tuple<M: Memory>(&mut self, memory: &M, tuple: u64, kind: u64, most: u64) -> Option<()> {
        let count = memory.word(tuple.wrapping_add(SIZE))?;
        self.scan = tuple.wrapping_add(ITEMS);
        // What is beyond is no one's that is known: asyncio's own have fewer.
        self.scan_left = if count > most { most } else { count };
        self.scan_kind = kind;
        Some(())
    }

    /// The locals of the task's outermost function: a result is handed over through one of them.
    #[inline(always)]
    fn open_locals<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        self.saw_locals = 1;
        let coroutine = memory.word(self.task.wrapping_add(layout.task_coroutine))?;
        // One of another kind, such as Cython's, has no frame.
        let kind = memory.word(coroutine.wrapping_add(TYPE))?;
        if kind != layout.coroutine_type && kind != layout.generator_type {
            return Some(());
        }
        let frame = coroutine.wrapping_add(layout.coroutine_frame);
        let code = memory.word(frame.wrapping_add(layout.frame_code))?;
        let count = memory.word(code.wrapping_add(layout.code_locals))? & 0xffff_ffff;
        self.scan = frame.wrapping_add(layout.frame_locals);
        self.scan_left = if count > LOCALS { LOCALS } else { count };
        self.scan_kind = IN_LOCALS;
        Some(())
    }

    /// One word that may be a future, or lead to one.
    #[inline(always)]
    fn look_at_word<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let mut object = memory.word(self.scan)?;
        self.scan = self.scan.wrapping_add(8);
        self.scan_left = self.scan_left.wrapping_sub(1);
        if object == 0 {
            return Some(());
        }
        if self.scan_kind == IN_CELLS {
            object = memory.word(object.wrapping_add(CONTENT))?;
        }
        // Empty, or a number that stands for itself.
        if object == 0 || object & 7 != 0 {
            return Some(());
        }
        let mut kind = memory.word(object.wrapping_add(TYPE))?;
        if self.scan_kind == IN_LOCALS {
            let inner = if kind == layout.builtin_type
                || kind == layout.builtin_method_type
                || kind == layout.method_type
            {
                ITEMS
            } else if kind == layout.cell_type {
                CONTENT
            } else {
                0
            };
            if inner != 0 {
                object = memory.word(object.wrapping_add(inner))?;
                if object == 0 || object & 7 != 0 {
                    return Some(());
                }
                kind = memory.word(object.wrapping_add(TYPE))?;
            }
        }
        // Another task that is waited for is not this one's to end.
        if kind == layout.task_type {
            return Some(());
        }
        let is_future = kind == layout.future_type
            || (self.scan_kind == IN_CELLS && memory.word(kind.wrapping_add(BASE))? == layout.future_type);
        if !is_future {
            return Some(());
        }
        let [first, _, more] = memory.words::<3>(object.wrapping_add(layout.future_callback))?;
        let (items, count) = self.open_list(memory, more)?;
        self.future = object;
        (self.future_callback, self.future_more, self.future_more_left) = (first, items, count);
        Some(())
    }

    /// One thing that is called when such a future is done: only a task that is resumed counts.
    #[inline(always)]
    fn look_at_future<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let callback = if self.future_callback != 0 {
            let callback = self.future_callback;
            self.future_callback = 0;
            callback
        } else if self.future_more_left != 0 {
            self.future_more_left = self.future_more_left.wrapping_sub(1);
            let at = self.future_more;
            self.future_more = at.wrapping_add(8);
            called(memory, at)?
        } else {
            self.future = 0;
            return Some(());
        };
        let [kind, _, content] = memory.words::<3>(callback.wrapping_add(TYPE))?;
        if kind == layout.builtin_type {
            self.offer(memory, layout, content, self.future)?;
        }
        Some(())
    }

    /// Takes an object for who waits, if it is a task that waits for `future`.
    #[inline(always)]
    fn offer<M: Memory>(&mut self, memory: &M, layout: &Layout, object: u64, future: u64) -> Option<()> {
        if object == 0
            || memory.word(object.wrapping_add(TYPE))? != layout.task_type
            || memory.word(object.wrapping_add(layout.task_waiter))? != future
        {
            return Some(());
        }
        self.take(object);
        Some(())
    }

    #[inline(always)]
    fn take(&mut self, parent: u64) {
        if parent == self.task {
            return;
        }
        if self.parent == 0 {
            self.parent = parent;
        } else if self.parent != parent {
            self.has_several = 1;
        }
    }

    #[inline(always)]
    fn conclude<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        if self.has_several != 0 {
            self.end = SEVERAL;
        } else if self.parent == 0 {
            self.end = COMPLETE;
        } else {
            return self.open_task(memory, layout, self.parent);
        }
        Some(())
    }
}

/// What an entry of a list of callbacks calls: the first item of a pair.
#[inline(always)]
fn called<M: Memory>(memory: &M, at: u64) -> Option<u64> {
    memory.word(memory.word(at)?.wrapping_add(ITEMS))
}

/// The task that a group belongs to.
#[inline(always)]
fn group_task<M: Memory>(memory: &M, layout: &Layout, group: u64) -> Option<u64> {
    let values = if layout.values == VALUES_BEFORE {
        memory.word(group.wrapping_sub(4 * 8))?
    } else if layout.values == VALUES_MARKED {
        let marked = memory.word(group.wrapping_sub(3 * 8))?;
        // Without the mark it is a dictionary.
        if marked & 1 == 0 {
            return None;
        }
        marked.wrapping_add(1)
    } else {
        group.wrapping_add(3 * 8)
    };
    if values == 0 {
        return None;
    }
    memory.word(values.wrapping_add(PARENT_TASK))
}

/// The number in a task's name; 0 for a name that the program gave. `None`: it cannot be read.
#[inline(always)]
fn number<M: Memory>(memory: &M, layout: &Layout, name: u64) -> Option<u64> {
    let [kind, size] = memory.words::<2>(name.wrapping_add(TYPE))?;
    // Until somebody asks for the name it is the number itself (3.12): digits of 30 bits, and how many of them.
    if kind == layout.long_type {
        let digits = memory.word(name.wrapping_add(ITEMS))?;
        return Some(match size >> 3 {
            1 => digits & 0x3fff_ffff,
            2 => (digits & 0x3fff_ffff) | (digits >> 32) << 30,
            _ => 0,
        });
    }
    if kind != layout.unicode_type || size <= PREFIX_LEN || size > 15 {
        return Some(0);
    }
    let [first, second] = memory.words::<2>(name.wrapping_add(layout.unicode_bytes))?;
    if first & PREFIX_BITS != PREFIX {
        return Some(0);
    }
    // What follows, up to ten digits: three in the first word, then the second.
    let (mut value, mut bad) = (0_u64, 0_u64);
    let count = size - PREFIX_LEN;
    let mut index = 0;
    while index < 10 {
        let byte = if index < 3 { first >> (40 + 8 * index) } else { second >> (8 * (index - 3)) } & 0xff;
        let digit = byte.wrapping_sub(u64::from(b'0'));
        if index < count {
            bad |= u64::from(digit > 9);
            value = value.wrapping_mul(10).wrapping_add(digit);
        }
        index += 1;
    }
    Some(if bad != 0 { 0 } else { value })
}
