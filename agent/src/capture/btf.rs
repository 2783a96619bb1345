//! A reader of the kernel's type information: the bytes of `/sys/kernel/btf/vmlinux` in, byte offsets of members and
//! numbers of arguments out.
//!
//! *Owns* the BTF format as far as structures, functions and constants go.
//! *Must not know* which members the probes need.
//! *Spec*: Linux `Documentation/bpf/btf.rst`.
//!
//! The bytes come from the kernel, and still nothing here panics or loops on any input.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;
/// Nesting of anonymous structures and of modifiers that is followed.
const MAX_DEPTH: u32 = 16;

/// Why the bytes are not usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    #[error("not BTF of this machine's byte order")]
    Magic,
    #[error("cut short at byte {0}")]
    Short(usize),
    #[error("type {0} is of unknown kind {1}")]
    Kind(u32, u32),
}

#[derive(Clone, Copy)]
struct Type {
    kind: u32,
    /// Offset of its name in the string section.
    name: u32,
    /// Size, or the type it refers to.
    size_or_type: u32,
    /// Where its members start, how many there are, and whether they have bit sizes.
    members: usize,
    member_count: u32,
    bitfields: bool,
}

/// The kernel's types.
pub struct Btf {
    bytes: Vec<u8>,
    types: Vec<Type>,
    strings: usize,
    structs: HashMap<Vec<u8>, u32>,
    typedefs: HashMap<Vec<u8>, u32>,
    functions: HashMap<Vec<u8>, u32>,
    enums: Vec<u32>,
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf").field("types", &self.types.len()).finish_non_exhaustive()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let word = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(BtfError::Short(at))?;
    word.try_into().map(u32::from_ne_bytes).map_err(|_| BtfError::Short(at))
}

impl Btf {
    /// Reads all types.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let magic = bytes.get(0..2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        if magic != Some(MAGIC) {
            return Err(BtfError::Magic);
        }
        let header = u32_at(&bytes, 4)? as usize;
        let section = |offset: u32| header.checked_add(offset as usize).ok_or(BtfError::Short(usize::MAX));
        let mut at = section(u32_at(&bytes, 8)?)?;
        let end = at.checked_add(u32_at(&bytes, 12)? as usize).ok_or(BtfError::Short(at))?;
        let strings = section(u32_at(&bytes, 16)?)?;

        // Type 0 is `void`.
        let void = Type { kind: 0, name: 0, size_or_type: 0, members: 0, member_count: 0, bitfields: false };
        let mut types = vec![void];
        while at < end {
            let name = u32_at(&bytes, at)?;
            let info = u32_at(&bytes, at.saturating_add(4))?;
            let size_or_type = u32_at(&bytes, at.saturating_add(8))?;
            let (kind, count) = ((info >> 24) & 0x1f, info & 0xffff);
            let members = at.saturating_add(12);
            let extra = match kind {
                // Pointer, forward, typedef, modifiers, function, float, type tag.
                2 | 7..=12 | 16 | 18 => 0,
                // Integer, variable, declaration tag.
                1 | 14 | 17 => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count as usize,
                // Enumeration, function prototype.
                KIND_ENUM | KIND_FUNC_PROTO => 8 * count as usize,
                kind => return Err(BtfError::Kind(types.len() as u32, kind)),
            };
            let bitfields = info >> 31 == 1;
            types.push(Type { kind, name, size_or_type, members, member_count: count, bitfields });
            at = members.saturating_add(extra);
        }
        let mut btf = Btf {
            bytes,
            types,
            strings,
            structs: HashMap::new(),
            typedefs: HashMap::new(),
            functions: HashMap::new(),
            enums: Vec::new(),
        };
        for id in 0..btf.types.len() as u32 {
            let Some(t) = btf.types.get(id as usize) else { break };
            let name = btf.name(t.name).to_vec();
            match t.kind {
                KIND_STRUCT if !name.is_empty() => {
                    btf.structs.entry(name).or_insert(id);
                }
                KIND_TYPEDEF => {
                    btf.typedefs.entry(name).or_insert(id);
                }
                KIND_ENUM => btf.enums.push(id),
                KIND_FUNC => {
                    btf.functions.entry(name).or_insert(id);
                }
                _ => {}
            }
        }
        Ok(btf)
    }

    /// Whether a `typedef` of that name exists. The kernel describes the tracepoint `x` by a typedef `btf_trace_x`.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.typedefs.contains_key(name.as_bytes())
    }

    /// Number of arguments of a kernel function that programs may hang on.
    pub fn arguments(&self, name: &str) -> Option<u32> {
        let function = self.types.get(*self.functions.get(name.as_bytes())? as usize)?;
        let prototype = self.types.get(function.size_or_type as usize)?;
        (prototype.kind == KIND_FUNC_PROTO).then_some(prototype.member_count)
    }

    /// The value of a constant of some enumeration.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        let types = self.enums.iter().filter_map(|id| self.types.get(*id as usize));
        let entries = types.flat_map(|t| (0..t.member_count as usize).map(move |i| t.members + i * 8));
        let mut named = entries
            .filter(|at| u32_at(&self.bytes, *at).is_ok_and(|offset| self.name(offset) == name.as_bytes()));
        u32_at(&self.bytes, named.next()?.checked_add(4)?).ok()
    }

    /// Byte offset of a member: names joined by dots, anonymous structures and unions looked through.
    /// `None` if there is no such member, or it is not at a whole byte.
    pub fn offset(&self, owner: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(owner.as_bytes())?;
        let mut bits = 0u32;
        for name in path.split('.') {
            let (offset, next) = self.member(self.resolve(id)?, name.as_bytes(), MAX_DEPTH)?;
            bits = bits.checked_add(offset)?;
            id = next;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// The type behind modifiers and typedefs.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let t = self.types.get(id as usize)?;
            match t.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = t.size_or_type
                }
                _ => return Some(id),
            }
        }
        None
    }

    /// Bit offset and type of a member of structure or union `id`.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let t = *self.types.get(id as usize)?;
        // Many members have no name: an empty one is none to look for.
        if depth == 0 || name.is_empty() || !matches!(t.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..t.member_count as usize {
            let at = t.members.checked_add(index.checked_mul(12)?)?;
            let member = self.name(u32_at(&self.bytes, at).ok()?);
            let member_type = u32_at(&self.bytes, at.checked_add(4)?).ok()?;
            let word = u32_at(&self.bytes, at.checked_add(8)?).ok()?;
            let bits = if t.bitfields { word & 0x00ff_ffff } else { word };
            if member == name {
                return Some((bits, member_type));
            }
            if member.is_empty()
                && let Some((inner, inner_type)) = self.member(self.resolve(member_type)?, name, depth - 1)
            {
                return Some((bits.checked_add(inner)?, inner_type));
            }
        }
        None
    }

    fn name(&self, offset: u32) -> &[u8] {
        let start = self.strings.saturating_add(offset as usize);
        let rest = self.bytes.get(start..).unwrap_or_default();
        rest.split(|&b| b == 0).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct a { int x; struct { union { int y; int z; }; int w; }; struct b inner; }; struct b { int q; }`
    /// `typedef struct b t`, `int f(int x, int y)` and `enum { one = 1, two = 2 }`.
    fn sample() -> Vec<u8> {
        let mut strings = vec![0u8];
        let mut name = |s: &str| {
            let at = strings.len() as u32;
            strings.extend_from_slice(s.as_bytes());
            strings.push(0);
            at
        };
        let (a, b, t, int) = (name("a"), name("b"), name("t"), name("int"));
        let f = name("f");
        let (one, two) = (name("one"), name("two"));
        let (x, y, z, w, q, inner) = (name("x"), name("y"), name("z"), name("w"), name("q"), name("inner"));
        let mut words: Vec<u32> = Vec::new();
        words.extend([int, 1 << 24, 4, 32]); // 1
        words.extend([b, KIND_STRUCT << 24 | 1, 4, q, 1, 0]); // 2
        words.extend([0, KIND_UNION << 24 | 2, 4, y, 1, 0, z, 1, 0]); // 3
        words.extend([0, KIND_STRUCT << 24 | 2, 8, 0, 3, 0, w, 1, 32]); // 4
        words.extend([a, KIND_STRUCT << 24 | 3, 16, x, 1, 0, 0, 4, 32, inner, 6, 96]); // 5
        words.extend([t, KIND_TYPEDEF << 24, 2]); // 6
        words.extend([0, KIND_FUNC_PROTO << 24 | 2, 1, x, 1, y, 1]); // 7
        words.extend([f, KIND_FUNC << 24, 7]); // 8
        words.extend([0, KIND_ENUM << 24 | 2, 4, one, 1, two, 2]); // 9
        let types: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut out = Vec::new();
        out.extend(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(types);
        out.extend(strings);
        out
    }

    #[test]
    fn members_are_found_through_anonymous_types_and_typedefs() {
        let btf = Btf::parse(sample()).unwrap();
        let check =
            |path: &str, expected: Option<u32>| assert_eq!(btf.offset("a", path), expected, "a.{path}");
        check("x", Some(0));
        check("y", Some(4));
        check("z", Some(4));
        check("w", Some(8));
        check("inner", Some(12));
        check("inner.q", Some(12));
        check("q", None);
        check("x.q", None);
        check("", None);
        assert_eq!(btf.offset("c", "x"), None);
        assert!(btf.has_typedef("t") && !btf.has_typedef("a"));
        assert_eq!(btf.arguments("f"), Some(2));
        assert_eq!(btf.arguments("a"), None);
        assert_eq!((btf.enumerator("two"), btf.enumerator("three")), (Some(2), None));
    }

    #[test]
    fn every_prefix_is_an_error_or_lacks_members_and_never_panics() {
        let whole = sample();
        for end in 0..whole.len() {
            if let Ok(btf) = Btf::parse(whole[..end].to_vec()) {
                let _ = btf.offset("a", "inner.q");
                let _ = btf.enumerator("two");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn damaged_types_never_panic(at in 0usize..200, value: u8) {
            let mut bytes = sample();
            if let Some(b) = bytes.get_mut(at) {
                *b = value;
            }
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.offset("a", "inner.q");
                let _ = btf.offset("a", "y");
                let _ = btf.enumerator("two");
            }
        }
    }
}
