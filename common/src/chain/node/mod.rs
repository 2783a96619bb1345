//! Node.js: a connection of its event loop → the connection that brought the request which waits for it.
//!
//! One thread works for all, so nothing on it says for whom. But who goes on with an answer is in memory until it comes:
//!
//! ```text
//!   descriptor ─▶ libuv's stream ─▶ socket ─▶ who goes on with the answer ─▶ closures, promises, suspended functions ─▶
//!   ─▶ one that holds a request ─▶ its socket
//! ```
//!
//! | what is read on | who goes on |
//! |---|---|
//! | `http`: `_httpMessage` of the socket | the listener of its `response` |
//! | `pg`: the client whose method the connection calls for `readyForQuery` | the callback of its `_activeQuery` |
//!
//! | what goes on | what it holds, or what goes on after it |
//! |---|---|
//! | a closure | the variables of the calls it was made in, no more than three around each other: a request, or other closures |
//! | the function that settles a promise | the promise |
//! | a promise that is not settled | what reacts to it: closures, and promises that follow it |
//! | an `async` function that waits | its parameters and variables: a request, or closures that hold one; else the promise of its result |
//!
//! Variables of a module belong to nobody's call. A request is known by going round: its connection is that whose message is now
//! being answered, and that answer is the request's own. So one that was answered is none. A message is known by its tags (amqplib).
//! Several requests are no answer: a result that two wait for is neither's.
//!
//! The walk is made when the answer is read, not when the question is written: he who asks comes to its `await` only after the write.
//! When a request is answered, the walk says on which connection. That is known by the number that Node.js gives to each and never
//! again.
//!
//! *Spec*: Node.js 20 to 24, `lib/net.js`, `lib/_http_client.js`, `lib/_http_server.js`, `src/base_object.h`; libuv 1, `include/uv/unix.h`;
//! V8 11.3 to 13.6, `src/objects/js-promise.tq`, `promise.tq`, `js-generator.tq`, `contexts.tq`, `js-function.tq`.
//!
//! Long because a walk is one state that every step looks at; the kernel runs one step a turn.

mod heap;

use self::heap::{
    ITEMS, LEN, Lookup, Name, OBJECT, ODDBALL, at, is_embedders, is_tagged, kind, number, small, text,
};
use super::{BROKEN, COMPLETE, DEEP, Memory, NO_TASK, SEVERAL, UNDER_WAY};
use crate::words::words;

pub use self::heap::Hints;

words! {
    /// Where the Node.js of a process has what a walk needs: an address, kinds of objects, offsets in bytes.
    pub struct Layout : u64 {
        /// The main thread's loop.
        the_loop,
        first_context,
        last_context,
        /// Kinds of contexts in which no call's variables are.
        native_context,
        module_context,
        script_context,
        promise,
        bound_function,
        function,
        async_function,
        reaction,
        capability,
        /// In a function: its context. In the object of a stream: what Node.js has for it.
        function_context,
        object_wrap,
    }
}

/// Steps of one walk, of at most five reads each: some 200, and more while it is not yet known where names are.
pub const STEPS: u32 = 2048;
/// In a task's number: it is that of a connection on which requests come, …
pub const CONNECTION: u64 = 1 << 63;
/// … or of a message that a broker delivered.
pub const DELIVERY: u64 = 1 << 62;
/// Bytes of a consumer's tag. RabbitMQ's own have 31; those of a program may be longer, and then its messages are not known.
pub const CONSUMER_LEN: usize = 32;

/// In libuv's loop: what is watched, by descriptor, and how much of that there is.
const LOOP_WATCHERS: u64 = 104;
/// In a stream of libuv: its watcher; in a watcher: its descriptor.
const STREAM_WATCHER: u64 = 136;
const WATCHER_DESCRIPTOR: u64 = 48;
/// In what Node.js has for a stream: where its object is told.
const WRAP_OBJECT: u64 = 8;
/// In a context: which variables it has, how many; the context around it, and its variables.
const CONTEXT_HEAD: u64 = 8;
const CONTEXT_VARIABLES: u64 = 32;
const SCOPE_COUNT: u64 = 24;
/// In a bound function: what is called, and for whom.
const BOUND_TARGET: u64 = 24;
/// In a promise: what reacts to it, or its result, and whether it is settled.
const PROMISE_REACTIONS: u64 = 24;
const SETTLED: u64 = 3;
/// In a reaction: the next one, two functions, and what follows, and something else before or after these; in a capability: its
/// promise.
const LINKS: u64 = 8;
const REACTION_LINKS: u64 = 5;
/// In an `async` function that was called: its context; where it stopped, its variables, its promise.
const CALL_CONTEXT: u64 = 32;
const CALL_STATE: u64 = 64;
const CALL_PROMISE: u64 = 80;

/// Objects that are looked at.
const QUEUE: usize = 64;
/// Those that were, and how many places are tried for one.
const SEEN: usize = 256;
const TRIES: u64 = 4;
/// Calls around each other whose variables a closure reaches.
const AROUND: u64 = 3;
/// Variables of one call, and of one that is suspended: its temporary ones count.
const VARIABLES: u64 = 48;
const REGISTERS: u64 = 128;

const OWNER: Name = Name::symbol(1, b"owner_symbol");
const HANDLE: Name = Name::symbol(2, b"kHandle");
const NUMBER: Name = Name::symbol(3, b"async_id_symbol");
const PARENT: Name = Name::string(4, b"_parent");
const MESSAGE: Name = Name::string(5, b"_httpMessage");
const REQUEST: Name = Name::string(6, b"req");
const SOCKET: Name = Name::string(7, b"socket");
const WHOLE: Name = Name::string(8, b"complete");
const EVENTS: Name = Name::string(9, b"_events");
const RESPONSE: Name = Name::string(10, b"response");
const DATA: Name = Name::string(11, b"data");
const READY: Name = Name::string(12, b"readyForQuery");
const CONNECTED: Name = Name::string(13, b"connection");
const QUERY: Name = Name::string(14, b"_activeQuery");
const CALLBACK: Name = Name::string(15, b"callback");
const LISTENER: Name = Name::string(16, b"listener");
/// `socket` of what is written, from Node.js 22 on.
const HIDDEN_SOCKET: Name = Name::symbol(17, b"kSocket");
const FIELDS: Name = Name::string(18, b"fields");
const DELIVERY_TAG: Name = Name::string(19, b"deliveryTag");
const CONSUMER_TAG: Name = Name::string(20, b"consumerTag");

/// What a name was looked for.
const SEARCHING: u64 = 0;
const OF_OWNER: u64 = 1;
const OF_HANDLE: u64 = 2;
const OF_PARENT: u64 = 3;
const OF_MESSAGE: u64 = 4;
const OF_REQUEST: u64 = 5;
const OF_REQUEST_SOCKET: u64 = 6;
const OF_ANSWER: u64 = 7;
const OF_CALL_SOCKET: u64 = 8;
const OF_HIDDEN_SOCKET: u64 = 9;
const OF_CALL_EVENTS: u64 = 10;
const OF_RESPONSE: u64 = 11;
const OF_SOCKET_EVENTS: u64 = 12;
const OF_DATA: u64 = 13;
const OF_EMITTER_EVENTS: u64 = 14;
const OF_READY: u64 = 15;
const OF_CLIENT: u64 = 16;
const OF_QUERY: u64 = 17;
const OF_CALLBACK: u64 = 18;
const OF_LISTENER: u64 = 19;
const OF_HOLDER: u64 = 20;
const OF_HELD_SOCKET: u64 = 21;
const OF_HELD_MESSAGE: u64 = 22;
const OF_HELD_REQUEST: u64 = 23;
const OF_HELD_WHOLE: u64 = 24;
const OF_HELD_NUMBER: u64 = 25;
const OF_FIELDS: u64 = 26;
const OF_DELIVERY_TAG: u64 = 27;
const OF_CONSUMER_TAG: u64 = 28;

/// What an object is looked at for, beside its address.
const GOES_ON: u64 = 0;
/// A closure that a suspended function has: what it reaches is the function's, what it may call is not.
const HOLDS: u64 = 1;
/// What is called with data of a connection to PostgreSQL; what that calls with each message.
const PARSES: u64 = 2;
const HANDLES: u64 = 3;
/// Words: variables of a function that is suspended; what leads on from a promise.
const OF_CALL: u64 = 4;
const LINKED: u64 = 5;
const PURPOSE_SHIFT: u64 = 60;

/// One connection, at one read or write.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The descriptor.
    pub fd: u64,
    /// Something came: whoever waits for it is looked for.
    pub is_read: bool,
    /// Whose hints count, in the upper 48 bits.
    pub salt: u64,
}

/// One walk. All words, so that the kernel keeps it in a map.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// How it ended: [`COMPLETE`] and the like; [`UNDER_WAY`] before.
    pub end: u64,
    /// The connection on which the request came, with [`CONNECTION`], or the message, with [`DELIVERY`]; 0: neither was found.
    pub id: u64,
    is_read: u64,
    /// What the name is looked for.
    goal: u64,
    lookup: Lookup,
    /// The stream's object, and its socket.
    stream: u64,
    socket: u64,
    /// What is being said on it.
    message: u64,
    /// An object that is held by who is looked at, the request that it is or belongs to, and the socket of that.
    holder: u64,
    held: u64,
    held_socket: u64,
    /// The tag of a message that is held.
    tag: u64,
    /// Connections found, more than one; a request that is over.
    has_several: u64,
    is_over: u64,
    /// Words to look at, and what for.
    scan: u64,
    scan_left: u64,
    scan_purpose: u64,
    /// The next context around, how many are left, what for.
    context: u64,
    around_left: u64,
    context_purpose: u64,
    /// A suspended function of which nothing is known yet.
    call: u64,
    /// Most variables that are not set yet are the same object.
    nothing: u64,
    /// Where a query was found, nothing else is looked for on its connection.
    has_start: u64,
    taken: u64,
    queued: u64,
    queue: [u64; QUEUE],
    seen: [Seen; SEEN],
    /// Walks so far: what was seen in another one was not seen.
    walks: u64,
}

/// An object that was looked at, and in which walk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    object: u64,
    walk: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            end: UNDER_WAY,
            id: 0,
            is_read: 0,
            goal: SEARCHING,
            lookup: Lookup::default(),
            stream: 0,
            socket: 0,
            message: 0,
            holder: 0,
            held: 0,
            held_socket: 0,
            tag: 0,
            has_several: 0,
            is_over: 0,
            scan: 0,
            scan_left: 0,
            scan_purpose: 0,
            context: 0,
            around_left: 0,
            context_purpose: 0,
            call: 0,
            nothing: 0,
            has_start: 0,
            taken: 0,
            queued: 0,
            queue: [0; QUEUE],
            seen: [Seen::default(); SEEN],
            walks: 0,
        }
    }
}

impl Walk {
    /// Begins at a connection.
    #[inline(always)]
    pub fn begin<M: Memory>(&mut self, memory: &M, layout: &Layout, call: Call) {
        self.end = UNDER_WAY;
        self.id = 0;
        self.is_read = u64::from(call.is_read);
        self.lookup = Lookup::of(call.salt);
        self.message = 0;
        self.has_several = 0;
        self.is_over = 0;
        self.scan_left = 0;
        self.context = 0;
        self.call = 0;
        self.nothing = 0;
        self.has_start = 0;
        self.taken = 0;
        self.queued = 0;
        self.walks = self.walks.wrapping_add(1);
        // What is no stream of this loop is nothing that is known: no chain, and none that broke.
        if self.find_stream(memory, layout, call.fd).is_none() {
            self.end = NO_TASK;
        }
    }

    /// Makes one step. Returns whether there is another one.
    #[inline(always)]
    pub fn step<M: Memory>(&mut self, memory: &M, layout: &Layout, hints: &mut Hints) -> bool {
        if self.end != UNDER_WAY {
            return false;
        }
        let made = if self.lookup.is_under_way() {
            self.lookup.step(memory, hints)
        } else if self.goal != SEARCHING {
            self.go_on(memory, layout)
        } else if self.scan_left != 0 {
            self.look_at_word(memory, layout)
        } else if self.context != 0 {
            self.open_context(memory, layout)
        } else if self.call != 0 {
            // It holds no request: who waits for it does, perhaps.
            self.scan(at(self.call, CALL_PROMISE), 1, LINKED);
            self.call = 0;
            Some(())
        } else if self.taken < self.queued {
            self.take(memory, layout)
        } else {
            self.conclude();
            Some(())
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

    /// The object of the stream that has this descriptor.
    #[inline(always)]
    fn find_stream<M: Memory>(&mut self, memory: &M, layout: &Layout, fd: u64) -> Option<()> {
        let [watchers, count] = memory.words::<2>(layout.the_loop.wrapping_add(LOOP_WATCHERS))?;
        if fd >= count & 0xffff_ffff {
            return None;
        }
        let watcher = memory.word(watchers.wrapping_add(fd.wrapping_mul(8)))?;
        if watcher == 0 || memory.word(watcher.wrapping_add(WATCHER_DESCRIPTOR))? & 0xffff_ffff != fd {
            return None;
        }
        let wrap = memory.word(watcher.wrapping_sub(STREAM_WATCHER))?;
        let object = memory.word(memory.word(wrap.wrapping_add(WRAP_OBJECT))?)?;
        if !is_tagged(object)
            || !is_embedders(kind(memory, object)?)
            || memory.word(at(object, layout.object_wrap))? != wrap
        {
            return None;
        }
        self.stream = object;
        self.look_for(object, OWNER, OF_OWNER);
        Some(())
    }

    #[inline(always)]
    fn look_for(&mut self, object: u64, name: Name, goal: u64) {
        self.lookup.open(object, name);
        self.goal = goal;
    }

    /// A name was looked for.
    #[inline(always)]
    fn go_on<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let (goal, value) = (self.goal, self.lookup.value);
        self.goal = SEARCHING;
        if goal >= OF_HOLDER {
            self.go_round(memory, goal, value)
        } else if goal >= OF_SOCKET_EVENTS {
            self.find_query(memory, layout, goal, value)
        } else {
            self.find_message(memory, goal, value)
        }
    }

    /// From a stream to what is being said on it.
    #[inline(always)]
    fn find_message<M: Memory>(&mut self, memory: &M, goal: u64, value: u64) -> Option<()> {
        match goal {
            OF_OWNER if is_tagged(value) => {
                self.socket = value;
                self.look_for(value, HANDLE, OF_HANDLE);
            }
            OF_HANDLE if value == self.stream => self.look_for(self.socket, MESSAGE, OF_MESSAGE),
            // That of TLS, around it.
            OF_HANDLE if is_tagged(value) => self.look_for(value, PARENT, OF_PARENT),
            OF_PARENT if value == self.stream => self.look_for(self.socket, MESSAGE, OF_MESSAGE),
            OF_MESSAGE if is_tagged(value) && kind(memory, value)? == OBJECT => {
                self.message = value;
                self.look_for(value, REQUEST, OF_REQUEST);
            }
            OF_MESSAGE if self.is_read != 0 => self.look_for(self.socket, EVENTS, OF_SOCKET_EVENTS),
            // An answer, if it is the one of a request of this connection.
            OF_REQUEST if is_tagged(value) => self.look_for(value, SOCKET, OF_REQUEST_SOCKET),
            OF_REQUEST if self.is_read != 0 => self.look_for(self.message, SOCKET, OF_CALL_SOCKET),
            OF_REQUEST_SOCKET if value == self.socket && self.is_read == 0 => {
                self.look_for(value, NUMBER, OF_ANSWER);
            }
            OF_ANSWER => {
                self.found(connection(number(memory, value)?));
                self.conclude();
            }
            OF_CALL_SOCKET if value == 0 => self.look_for(self.message, HIDDEN_SOCKET, OF_HIDDEN_SOCKET),
            OF_CALL_SOCKET | OF_HIDDEN_SOCKET if value == self.socket => {
                self.look_for(self.message, EVENTS, OF_CALL_EVENTS)
            }
            OF_CALL_EVENTS if is_tagged(value) => self.look_for(value, RESPONSE, OF_RESPONSE),
            OF_RESPONSE => self.push(value, GOES_ON),
            // Nothing that is known is being said.
            _ => self.end = NO_TASK,
        }
        Some(())
    }

    /// From a socket to the query that is being answered on it.
    #[inline(always)]
    fn find_query<M: Memory>(&mut self, memory: &M, layout: &Layout, goal: u64, value: u64) -> Option<()> {
        match goal {
            OF_SOCKET_EVENTS if is_tagged(value) => self.look_for(value, DATA, OF_DATA),
            OF_DATA => self.push(value, PARSES),
            OF_EMITTER_EVENTS if is_tagged(value) => self.look_for(value, READY, OF_READY),
            OF_READY if is_tagged(value) && kind(memory, value)? == layout.bound_function => {
                let [_, client] = memory.words::<2>(at(value, BOUND_TARGET))?;
                if is_tagged(client) {
                    self.held = client;
                    self.look_for(client, CONNECTED, OF_CLIENT);
                }
            }
            OF_CLIENT if value == self.holder => {
                self.has_start = 1;
                self.belongs();
                self.look_for(self.held, QUERY, OF_QUERY);
            }
            OF_QUERY if is_tagged(value) && kind(memory, value)? == OBJECT => {
                self.look_for(value, CALLBACK, OF_CALLBACK);
            }
            // For the function that is bound, too: it is not one, where nothing was found.
            OF_CALLBACK | OF_LISTENER => self.push(value, GOES_ON),
            _ => {}
        }
        Some(())
    }

    /// From an object that is held to the request that it is, or belongs to, and round: the connection on which that came has a
    /// message now, and that is the answer to this very request.
    #[inline(always)]
    fn go_round<M: Memory>(&mut self, memory: &M, goal: u64, value: u64) -> Option<()> {
        match goal {
            OF_HOLDER => {
                self.held =
                    if is_tagged(value) && kind(memory, value)? == OBJECT { value } else { self.holder };
                self.look_for(self.held, SOCKET, OF_HELD_SOCKET);
            }
            OF_HELD_SOCKET if is_tagged(value) && kind(memory, value)? == OBJECT => {
                self.held_socket = value;
                self.look_for(value, MESSAGE, OF_HELD_MESSAGE);
            }
            OF_HELD_MESSAGE if is_tagged(value) && kind(memory, value)? == OBJECT => {
                self.look_for(value, REQUEST, OF_HELD_REQUEST);
            }
            OF_HELD_REQUEST if value == self.held => {
                self.look_for(self.held_socket, NUMBER, OF_HELD_NUMBER);
            }
            OF_HELD_SOCKET | OF_HELD_MESSAGE | OF_HELD_REQUEST if self.held != self.holder => {
                self.look_for(self.held, WHOLE, OF_HELD_WHOLE);
            }
            // A request that was answered. A call has no such property.
            OF_HELD_WHOLE if value != 0 => {
                self.is_over = 1;
                self.belongs();
            }
            OF_HELD_NUMBER => self.found(connection(number(memory, value)?)),
            // No request: a message, as amqplib hands it over?
            OF_HELD_SOCKET if value == 0 => self.look_for(self.holder, FIELDS, OF_FIELDS),
            OF_FIELDS if is_tagged(value) && kind(memory, value)? == OBJECT => {
                self.held = value;
                self.look_for(value, DELIVERY_TAG, OF_DELIVERY_TAG);
            }
            OF_DELIVERY_TAG => {
                self.tag = number(memory, value)?;
                if self.tag != 0 {
                    self.look_for(self.held, CONSUMER_TAG, OF_CONSUMER_TAG);
                }
            }
            OF_CONSUMER_TAG => {
                let (len, words) = text(memory, value)?;
                self.found(if len == 0 { 0 } else { delivery(words, self.tag) });
            }
            _ => {}
        }
        Some(())
    }

    /// Who waits was found; 0: it cannot be told from others.
    #[inline(always)]
    fn found(&mut self, id: u64) {
        if id == 0 {
            return;
        }
        if self.id != 0 && self.id != id {
            self.has_several = 1;
        }
        self.id = id;
        self.belongs();
    }

    /// It is known whose it is that was being looked at.
    #[inline(always)]
    fn belongs(&mut self) {
        self.scan_left = 0;
        self.context = 0;
        self.call = 0;
    }

    /// Looks at so many words.
    #[inline(always)]
    fn scan(&mut self, from: u64, count: u64, purpose: u64) {
        self.scan = from;
        self.scan_left = count;
        self.scan_purpose = purpose;
    }

    /// One word that may be a variable, or lead on.
    #[inline(always)]
    fn look_at_word<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let word = memory.word(self.scan)?;
        self.scan = self.scan.wrapping_add(8);
        self.scan_left = self.scan_left.wrapping_sub(1);
        if !is_tagged(word) || word == self.nothing {
            return Some(());
        }
        let (kind, purpose) = (kind(memory, word)?, self.scan_purpose);
        if kind == ODDBALL {
            self.nothing = word;
        }
        let is_function = kind == layout.function;
        if purpose == LINKED {
            if is_function || is_link(layout, kind) {
                self.push(word, GOES_ON);
            }
        } else if kind == OBJECT {
            if purpose == HANDLES {
                self.holder = word;
                self.look_for(word, EVENTS, OF_EMITTER_EVENTS);
            } else if purpose != PARSES {
                self.holder = word;
                self.look_for(word, REQUEST, OF_HOLDER);
            }
        } else if is_function && purpose == PARSES {
            self.push(word, HANDLES);
        } else if is_function && purpose == OF_CALL {
            self.push(word, HOLDS);
        } else if purpose == GOES_ON && (is_function || kind == layout.bound_function) {
            self.push(word, GOES_ON);
        }
        Some(())
    }

    /// The variables of one call.
    #[inline(always)]
    fn open_context<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let context = self.context;
        self.context = 0;
        let known = kind(memory, context)?;
        if !is_call(layout, known) {
            return Some(());
        }
        let [len, scope, around] = memory.words::<3>(at(context, CONTEXT_HEAD))?;
        let count = small(len).wrapping_sub(2);
        if count > VARIABLES {
            return if small(len) < 2 { None } else { Some(()) };
        }
        let around_kind = kind(memory, around)?;
        // A function of the language has nothing around it.
        if around_kind == ODDBALL || around_kind == layout.native_context {
            // The variables of a module, or those of a function of the language: these have no names.
            if small(memory.word(at(scope, SCOPE_COUNT))?) == 0 && self.context_purpose == GOES_ON {
                self.scan(at(context, CONTEXT_VARIABLES), count, LINKED);
            }
            return Some(());
        }
        self.scan(at(context, CONTEXT_VARIABLES), count, self.context_purpose);
        if self.around_left != 0 {
            self.around_left = self.around_left.wrapping_sub(1);
            self.context = around;
        }
        Some(())
    }

    /// The next object.
    #[inline(always)]
    fn take<M: Memory>(&mut self, memory: &M, layout: &Layout) -> Option<()> {
        let entry = self.queue.get(self.taken as usize).copied().unwrap_or(0);
        self.taken = self.taken.wrapping_add(1);
        let (object, purpose) = (entry & ((1 << PURPOSE_SHIFT) - 1), entry >> PURPOSE_SHIFT);
        let kind = kind(memory, object)?;
        if purpose == PARSES || purpose == HANDLES {
            if kind == layout.function && self.has_start == 0 {
                self.open_closure(memory, layout, object, 0, purpose)?;
            }
        } else if kind == layout.function {
            self.open_closure(memory, layout, object, AROUND - 1, purpose)?;
        } else if kind == layout.bound_function {
            let [_, bound] = memory.words::<2>(at(object, BOUND_TARGET))?;
            self.scan(at(object, BOUND_TARGET), 1, LINKED);
            if is_tagged(bound) {
                self.look_for(bound, LISTENER, OF_LISTENER);
            }
        } else if kind == layout.promise {
            let [_, state] = memory.words::<2>(at(object, PROMISE_REACTIONS))?;
            if small(state) & SETTLED == 0 {
                self.scan(at(object, PROMISE_REACTIONS), 1, LINKED);
            }
        } else if kind == layout.reaction {
            self.scan(at(object, LINKS), REACTION_LINKS, LINKED);
        } else if kind == layout.capability {
            self.scan(at(object, LINKS), 1, LINKED);
        } else if kind == layout.async_function {
            let [state, variables] = memory.words::<2>(at(object, CALL_STATE))?;
            // One that is running, or is over, waits for nothing.
            if small(state) >> 31 == 0 {
                let count = small(memory.word(at(variables, LEN))?);
                self.scan(at(variables, ITEMS), if count > REGISTERS { REGISTERS } else { count }, OF_CALL);
                self.call = object;
                self.context = memory.word(at(object, CALL_CONTEXT))?;
                self.around_left = AROUND - 1;
                self.context_purpose = HOLDS;
            }
        }
        Some(())
    }

    #[inline(always)]
    fn open_closure<M: Memory>(
        &mut self,
        memory: &M,
        layout: &Layout,
        closure: u64,
        around: u64,
        purpose: u64,
    ) -> Option<()> {
        self.context = memory.word(at(closure, layout.function_context))?;
        self.around_left = around;
        self.context_purpose = purpose;
        Some(())
    }

    /// Notes an object to be looked at, once.
    #[inline(always)]
    fn push(&mut self, object: u64, purpose: u64) {
        if !is_tagged(object) {
            return;
        }
        let mark = object | purpose << PURPOSE_SHIFT;
        let mut place = (object >> 3) ^ (object >> 11) ^ purpose;
        let mut tries = 0;
        while tries < TRIES {
            let Some(seen) = self.seen.get_mut(place as usize & (SEEN - 1)) else { return };
            if seen.walk != self.walks {
                *seen = Seen { object: mark, walk: self.walks };
                match self.queue.get_mut(self.queued as usize) {
                    Some(to) => *to = mark,
                    None => self.end = DEEP,
                }
                self.queued = self.queued.wrapping_add(1);
                return;
            }
            if seen.object == mark {
                return;
            }
            place = place.wrapping_add(1);
            tries += 1;
        }
        // More than could be told apart.
        self.end = DEEP;
    }

    #[inline(always)]
    fn conclude(&mut self) {
        // What a request that was answered and another one wait for is neither's.
        self.end = if self.has_several != 0 || (self.id != 0 && self.is_over != 0) {
            SEVERAL
        } else if self.id != 0 {
            COMPLETE
        } else {
            NO_TASK
        };
    }
}

/// What a connection's number makes of a task; 0: it is none.
#[inline(always)]
fn connection(number: u64) -> u64 {
    if number == 0 { 0 } else { number | CONNECTION }
}

/// What a message is known by: the tag of its consumer, which no other one has, as words with zeros behind it, and its own. 0: its own
/// is too large to be told apart.
#[inline(always)]
pub fn delivery(consumer: [u64; CONSUMER_LEN / 8], tag: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let [first, second, third, fourth] = consumer;
    let mixed = first.wrapping_mul(ODD).rotate_left(29) ^ second;
    let mixed = mixed.wrapping_mul(ODD).rotate_left(29) ^ third;
    let mixed = mixed.wrapping_mul(ODD).rotate_left(29) ^ fourth;
    // The upper bits of a product depend on all of it.
    let consumer = mixed.wrapping_mul(ODD) >> 34;
    if tag == 0 || tag >> 32 != 0 { 0 } else { DELIVERY | consumer << 32 | tag }
}

/// Whether it leads on: promises, and what waits for them.
#[inline(always)]
fn is_link(layout: &Layout, kind: u64) -> bool {
    kind == layout.promise
        || kind == layout.reaction
        || kind == layout.capability
        || kind == layout.async_function
        || kind == layout.bound_function
}

/// Whether it is a context in which a call's variables are.
#[inline(always)]
fn is_call(layout: &Layout, kind: u64) -> bool {
    kind >= layout.first_context
        && kind <= layout.last_context
        && kind != layout.native_context
        && kind != layout.module_context
        && kind != layout.script_context
}
