//! V8's heap: a tagged word → the kind of the object it leads to, its fields and properties.
//!
//! *Owns* how objects, strings and properties lie in memory. *Must not know* what a property is looked for.
//!
//! A property is found by its name as text, as the program's source has it, so nothing has to be known of the shapes that objects
//! happen to have. Where a name was found in objects of a shape is remembered and tried first: a hint, for the name must be there
//! still, as the same object or as the same text. Only that a shape does not have a name is believed, of the same process, until the
//! processes that are followed change.
//!
//! *Spec*: V8 11.3 to 13.6, 64 bits without compressed pointers: `src/objects/map.h`, `descriptor-array.h`, `dictionary.h`,
//! `property-details.h`, `name.h`; most of it is published by `v8dbg_*`, and compared by whoever looks for Node.js.

use crate::chain::Memory;

/// In an object: its shape (V8's map), its properties that have no place in itself, or the dictionary of all.
pub(super) const SHAPE: u64 = 0;
const PROPERTIES: u64 = 8;
/// In a shape: its size and where properties begin, in words, a byte each, and its kind; then bits, of which some say how many
/// properties it has, and whether they are in a dictionary; and where their names are.
const SHAPE_SIZES: u64 = 8;
const SHAPE_NAMES: u64 = 40;
const IS_DICTIONARY: u64 = 1 << 21;
const COUNT: u64 = 0x3ff;
const COUNT_SHIFT: u64 = 10;
/// In names of a shape: the first of its entries, of a name, details and a value each.
const NAMES: u64 = 24;
const ENTRY: u64 = 24;
/// In details: not a value, or none in the object; where it is.
const NO_FIELD: u64 = 1 | 1 << 5;
const PLACE: u64 = 0x3ff;
const PLACE_SHIFT: u64 = 19;
/// In an array: how many items, and the first of them.
pub(super) const LEN: u64 = 8;
pub(super) const ITEMS: u64 = 16;
/// In a string: a hash and its length, then its letters; in a symbol: a string of its name.
const TEXT: u64 = 8;
/// Names looked at in one object. What has more is a table and no record.
const MOST: u64 = 512;
/// In a number: itself.
const NUMBER: u64 = 8;
/// Kinds that are the same in all versions.
const SYMBOL: u64 = 128;
const STRING: u64 = 40;
const INTERNALIZED_STRING: u64 = 8;
const HEAP_NUMBER: u64 = 130;
/// Such as `undefined`.
pub(super) const ODDBALL: u64 = 131;
pub(super) const OBJECT: u64 = 1057;
/// Objects of the embedder's, such as a socket's.
const API_OBJECT: u64 = 1058;
const SPECIAL_API_OBJECT: u64 = 1040;

/// Whether a word leads to an object.
#[inline(always)]
pub(super) fn is_tagged(word: u64) -> bool {
    word & 3 == 1
}

/// The small number that a word is.
#[inline(always)]
pub(super) fn small(word: u64) -> u64 {
    word >> 32
}

/// The address of a field.
#[inline(always)]
pub(super) fn at(object: u64, field: u64) -> u64 {
    object.wrapping_sub(1).wrapping_add(field)
}

/// The kind of an object. `None`: it cannot be read.
#[inline(always)]
pub(super) fn kind<M: Memory>(memory: &M, object: u64) -> Option<u64> {
    let shape = memory.word(at(object, SHAPE))?;
    Some(small(memory.word(at(shape, SHAPE_SIZES))?) & 0xffff)
}

/// Whether it is one that the embedder made.
#[inline(always)]
pub(super) fn is_embedders(kind: u64) -> bool {
    kind == API_OBJECT || kind == SPECIAL_API_OBJECT
}

/// A whole number above 0, as one word or as an object. 0: it is no such number.
#[inline(always)]
pub(super) fn number<M: Memory>(memory: &M, word: u64) -> Option<u64> {
    if !is_tagged(word) {
        let value = small(word);
        return Some(if value >> 31 == 0 { value } else { 0 });
    }
    if kind(memory, word)? != HEAP_NUMBER {
        return Some(0);
    }
    let bits = memory.word(at(word, NUMBER))?;
    // Its exponent: from 1 to 2^52 each whole number has one form, whose lowest bits are fractions.
    let exponent = (bits >> 52).wrapping_sub(1023);
    if exponent > 52 {
        return Some(0);
    }
    let digits = bits & ((1 << 52) - 1) | 1 << 52;
    let fraction = 52 - exponent;
    let value = digits >> (fraction & 63);
    Some(if value << (fraction & 63) == digits { value } else { 0 })
}

/// The letters of a string of one byte each, of at most 32, with zeros behind them, and how many; 0: it is no such string.
#[inline(always)]
pub(super) fn text<M: Memory>(memory: &M, word: u64) -> Option<(u64, [u64; 4])> {
    let mut words = [0; 4];
    if !is_tagged(word) {
        return Some((0, words));
    }
    let kind = kind(memory, word)?;
    let len = small(memory.word(at(word, TEXT))?);
    if (kind != STRING && kind != INTERNALIZED_STRING) || len > 32 {
        return Some((0, words));
    }
    // What is behind the last letter may be anything, or no memory.
    let (mut left, mut from) = (len, at(word, TEXT + 8));
    for to in &mut words {
        if left != 0 {
            *to = memory.word(from)? & letters(left);
        }
        left = left.saturating_sub(8);
        from = from.wrapping_add(8);
    }
    Some((len, words))
}

/// The name of a property, of at most 16 letters: a string, or that of a symbol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// No two have the same; below 256.
    number: u64,
    is_symbol: u64,
    len: u64,
    words: [u64; 2],
}

impl Name {
    pub(super) const fn string(number: u64, text: &[u8]) -> Self {
        let mut words = [0; 2];
        let mut index = 0;
        while index < text.len() {
            words[index / 8] |= (text[index] as u64) << (index % 8 * 8);
            index += 1;
        }
        Self { number, is_symbol: 0, len: text.len() as u64, words }
    }

    pub(super) const fn symbol(number: u64, text: &[u8]) -> Self {
        Self { is_symbol: 1, ..Self::string(number, text) }
    }
}

/// Places of names that are remembered, of all processes.
const HINTS: usize = 1024;
/// In a hint: the shape does not have the name; nothing is known of it.
const MISSING: u64 = 0xffff;
const NOT_KNOWN: u64 = 0xfffe;

/// Where names were found in objects of a shape.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hints([Hint; HINTS]);

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Hint {
    /// A shape and the number of a name.
    key: u64,
    /// Whose it is, and the place.
    value: u64,
    /// The object that is the name.
    name: u64,
}

impl Default for Hints {
    fn default() -> Self {
        Self([Hint::default(); HINTS])
    }
}

/// What is being looked for.
const IDLE: u64 = 0;
const OPENED: u64 = 1;
const HINTED: u64 = 2;
const SEARCHED: u64 = 3;

/// One name that is looked for in one object, an entry a step. All words, so that the kernel keeps it in a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lookup {
    phase: u64,
    /// What it leads to; 0: the object has no such property.
    pub(super) value: u64,
    object: u64,
    name_number: u64,
    name_is_symbol: u64,
    name_len: u64,
    name_first: u64,
    name_second: u64,
    is_dictionary: u64,
    /// The size of the object and where its properties begin, in words.
    size: u64,
    begins: u64,
    table: u64,
    count: u64,
    index: u64,
    key: u64,
    slot: u64,
    /// The object that was the name in such an object.
    name: u64,
    /// Whose hints count: a process and a time in the upper 48 bits.
    salt: u64,
}

impl Lookup {
    #[inline(always)]
    pub(super) fn of(salt: u64) -> Self {
        Self { salt: salt & !0xffff, ..Self::default() }
    }

    /// Begins to look.
    #[inline(always)]
    pub(super) fn open(&mut self, object: u64, name: Name) {
        self.phase = OPENED;
        self.value = 0;
        self.object = object;
        self.name_number = name.number;
        self.name_is_symbol = name.is_symbol;
        self.name_len = name.len;
        let [first, second] = name.words;
        self.name_first = first;
        self.name_second = second;
    }

    #[inline(always)]
    pub(super) fn is_under_way(&self) -> bool {
        self.phase != IDLE
    }

    /// Makes one step.
    #[inline(always)]
    pub(super) fn step<M: Memory>(&mut self, memory: &M, hints: &mut Hints) -> Option<()> {
        if self.phase == OPENED {
            return self.find_table(memory, hints);
        }
        if self.index >= self.count {
            // A dictionary belongs to its object, and gets other names.
            if self.is_dictionary == 0 {
                self.note(hints, MISSING, 0);
            }
            self.phase = IDLE;
            return Some(());
        }
        let entry = self.table.wrapping_add(self.index.wrapping_mul(ENTRY));
        let [name, second, _] = memory.words::<3>(entry)?;
        if (self.phase == HINTED && name == self.name) || self.is_name(memory, name)? {
            let index = self.index;
            self.note(hints, index, name);
            self.phase = IDLE;
            self.value = if self.is_dictionary != 0 { second } else { self.field(memory, small(second))? };
        } else if self.phase == HINTED {
            self.phase = SEARCHED;
            self.index = 0;
        } else {
            self.index = self.index.wrapping_add(1);
        }
        Some(())
    }

    /// Finds where the names of the object are.
    #[inline(always)]
    fn find_table<M: Memory>(&mut self, memory: &M, hints: &mut Hints) -> Option<()> {
        self.phase = IDLE;
        let [shape, properties] = memory.words::<2>(at(self.object, SHAPE))?;
        let [sizes, bits] = memory.words::<2>(at(shape, SHAPE_SIZES))?;
        let kind = small(sizes) & 0xffff;
        if kind != OBJECT && !is_embedders(kind) {
            return Some(());
        }
        self.size = sizes & 0xff;
        self.begins = sizes >> 8 & 0xff;
        self.is_dictionary = bits & IS_DICTIONARY;
        self.key = shape | self.name_number << 48;
        self.slot = ((shape >> 3) ^ (shape >> 13) ^ self.name_number.wrapping_mul(0x9d)) % HINTS as u64;
        let hint = match hints.0.get(self.slot as usize) {
            Some(hint) if hint.key == self.key && hint.value & !0xffff == self.salt => *hint,
            _ => Hint { key: 0, value: NOT_KNOWN, name: 0 },
        };
        let place = hint.value & 0xffff;
        if self.is_dictionary == 0 {
            if place == MISSING {
                return Some(());
            }
            let names = memory.word(at(shape, SHAPE_NAMES))?;
            self.count = bits >> COUNT_SHIFT & COUNT;
            self.table = at(names, NAMES);
        } else {
            // Its items: how many there are, were, and can be, and more; then those that can be, of a name, a value and details each.
            let [len, _, _, room] = memory.words::<4>(at(properties, LEN))?;
            self.count = small(room);
            if self.count > MOST || small(len) < 3 * self.count {
                return Some(());
            }
            let before = small(len).wrapping_sub(3 * self.count);
            self.table = at(properties, ITEMS).wrapping_add(before.wrapping_mul(8));
        }
        if self.count > MOST {
            return Some(());
        }
        self.index = 0;
        self.phase = SEARCHED;
        if place < self.count {
            self.phase = HINTED;
            self.index = place;
            self.name = hint.name;
        }
        Some(())
    }

    #[inline(always)]
    fn note(&self, hints: &mut Hints, place: u64, name: u64) {
        if let Some(hint) = hints.0.get_mut(self.slot as usize) {
            *hint = Hint { key: self.key, value: self.salt | place, name };
        }
    }

    /// Whether it is the name. What is none, such as an empty place, is not.
    #[inline(always)]
    fn is_name<M: Memory>(&self, memory: &M, name: u64) -> Option<bool> {
        if !is_tagged(name) {
            return Some(false);
        }
        let mut text = name;
        let [mut head, mut first] = memory.words::<2>(at(text, TEXT))?;
        if self.name_is_symbol != 0 {
            // Of a string these are letters, which lead nowhere.
            text = first;
            if !is_tagged(text) {
                return Some(false);
            }
            let Some([of_text, letters]) = memory.words::<2>(at(text, TEXT)) else { return Some(false) };
            (head, first) = (of_text, letters);
        }
        if small(head) != self.name_len || first & letters(self.name_len) != self.name_first {
            return Some(false);
        }
        if self.name_len > 8 {
            let second = memory.word(at(text, TEXT + 16))?;
            if second & letters(self.name_len - 8) != self.name_second {
                return Some(false);
            }
        }
        Some(self.name_is_symbol == 0 || kind(memory, name)? == SYMBOL)
    }

    /// The value of a property with these details: in the object, or in the array of those that have no place there.
    #[inline(always)]
    fn field<M: Memory>(&self, memory: &M, details: u64) -> Option<u64> {
        if details & NO_FIELD != 0 {
            return Some(0);
        }
        let place = details >> PLACE_SHIFT & PLACE;
        let inside = self.size.wrapping_sub(self.begins);
        if self.begins > self.size {
            return None;
        }
        if place < inside {
            return memory.word(at(self.object, self.begins.wrapping_add(place).wrapping_mul(8)));
        }
        let properties = memory.word(at(self.object, PROPERTIES))?;
        if !is_tagged(properties) {
            return None;
        }
        memory.word(at(properties, ITEMS).wrapping_add(place.wrapping_sub(inside).wrapping_mul(8)))
    }
}

/// The bits of so many letters at the beginning of a word.
#[inline(always)]
fn letters(count: u64) -> u64 {
    if count >= 8 { u64::MAX } else { (1 << (count.wrapping_mul(8) & 63)) - 1 }
}
