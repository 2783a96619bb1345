//! A field table's bytes → names with [`Value`]s, bounded in depth and number.
//!
//! *Owns* the type octets. *Must not know* which names mean anything.
//!
//! *Spec*: AMQP 0-9-1 section 4.2.5.5 and RabbitMQ's errata ("3. Field types"): RabbitMQ reads `s` as a 16-bit integer
//! and `l` as a signed 64-bit one, against the letter of the specification; `U` and `L`, which it never sends, are
//! read as the specification has them.

use super::wire::{Cursor, text};
use crate::operation::amqp::Value;

/// Tables and arrays inside each other. Dead-lettering makes three (`x-death`: table, array, table).
pub const MAX_DEPTH: u32 = 8;

/// Fields and array items of one content header, all levels together.
pub const MAX_FIELDS: u32 = 1024;

/// Fields of a table, and whether they are all of them.
#[derive(Debug, Default, PartialEq)]
pub struct Fields {
    pub fields: Vec<(String, Value)>,
    /// A bound was reached, a type octet is unknown, or bytes were missing: what came before is in `fields`.
    pub cut: bool,
}

/// Reads the fields of a table from its bytes (without the leading length). Every byte is looked at once.
pub fn read(bytes: &[u8]) -> Fields {
    let mut parser = Parser { left: MAX_FIELDS, cut: false };
    let fields = parser.table(bytes, 0);
    Fields { fields, cut: parser.cut }
}

struct Parser {
    /// Fields and items that may still be read.
    left: u32,
    cut: bool,
}

impl Parser {
    fn table(&mut self, bytes: &[u8], depth: u32) -> Vec<(String, Value)> {
        let mut fields = Vec::new();
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() && self.count() {
            let field = cursor.short().and_then(|name| Some((text(name), self.value(&mut cursor, depth)?)));
            let Some(field) = field else {
                self.cut = true;
                break;
            };
            fields.push(field);
        }
        fields
    }

    fn array(&mut self, bytes: &[u8], depth: u32) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() && self.count() {
            let Some(value) = self.value(&mut cursor, depth) else {
                self.cut = true;
                break;
            };
            items.push(value);
        }
        items
    }

    fn count(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.cut = true,
        }
        !self.cut
    }

    fn value(&mut self, cursor: &mut Cursor<'_>, depth: u32) -> Option<Value> {
        Some(match cursor.u8()? {
            b't' => Value::Bool(cursor.u8()? != 0),
            b'b' => Value::Int(i64::from(cursor.u8()?.cast_signed())),
            b'B' => Value::Uint(u64::from(cursor.u8()?)),
            b's' | b'U' => Value::Int(i64::from(cursor.u16()?.cast_signed())),
            b'u' => Value::Uint(u64::from(cursor.u16()?)),
            b'I' => Value::Int(i64::from(cursor.u32()?.cast_signed())),
            b'i' => Value::Uint(u64::from(cursor.u32()?)),
            b'l' | b'L' => Value::Int(cursor.u64()?.cast_signed()),
            b'f' => Value::Float(f64::from(f32::from_bits(cursor.u32()?))),
            b'd' => Value::Float(f64::from_bits(cursor.u64()?)),
            b'D' => Value::Decimal { scale: cursor.u8()?, value: cursor.u32()?.cast_signed() },
            b'S' => Value::Text(cursor.long()?.to_vec()),
            b'x' => Value::Bytes(cursor.long()?.to_vec()),
            b'T' => Value::Timestamp(cursor.u64()?),
            b'V' => Value::Void,
            b'A' => {
                let bytes = cursor.long()?;
                Value::Array(self.nested(depth, |parser, depth| parser.array(bytes, depth)))
            }
            b'F' => {
                let bytes = cursor.long()?;
                Value::Table(self.nested(depth, |parser, depth| parser.table(bytes, depth)))
            }
            _ => return None,
        })
    }

    /// Reads one level deeper, or nothing when that is too deep.
    fn nested<T>(&mut self, depth: u32, read: impl FnOnce(&mut Self, u32) -> Vec<T>) -> Vec<T> {
        if depth >= MAX_DEPTH {
            self.cut = true;
            return Vec::new();
        }
        read(self, depth.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &[u8], expected: Value) {
        let mut bytes = vec![1, b'k'];
        bytes.extend_from_slice(value);
        assert_eq!(
            read(&bytes),
            Fields { fields: vec![("k".to_owned(), expected)], cut: false },
            "{value:?}"
        );
        for end in 1..bytes.len() {
            let part = read(&bytes[..end]);
            assert!(part.cut && part.fields.is_empty(), "{value:?} cut at {end}");
        }
    }

    #[test]
    fn every_type_octet_has_rabbitmqs_meaning() {
        check(b"t\x01", Value::Bool(true));
        check(b"t\x00", Value::Bool(false));
        check(b"b\xff", Value::Int(-1));
        check(b"B\xff", Value::Uint(255));
        check(b"s\xff\xfe", Value::Int(-2));
        check(b"U\xff\xfe", Value::Int(-2));
        check(b"u\xff\xfe", Value::Uint(65_534));
        check(b"I\xff\xff\xff\xfd", Value::Int(-3));
        check(b"i\xff\xff\xff\xff", Value::Uint(4_294_967_295));
        check(b"l\xff\xff\xff\xff\xff\xff\xff\xfc", Value::Int(-4));
        check(b"L\x00\x00\x00\x00\x00\x00\x00\x05", Value::Int(5));
        check(b"f\x3f\xc0\x00\x00", Value::Float(1.5));
        check(b"d\xbf\xf8\x00\x00\x00\x00\x00\x00", Value::Float(-1.5));
        check(b"D\x02\x00\x00\x01\x3a", Value::Decimal { scale: 2, value: 314 });
        check(b"S\x00\x00\x00\x02hi", Value::Text(b"hi".to_vec()));
        check(b"x\x00\x00\x00\x02\x00\xff", Value::Bytes(vec![0, 255]));
        check(b"T\x00\x00\x00\x00\x60\x00\x00\x00", Value::Timestamp(0x6000_0000));
        check(b"V", Value::Void);
        check(b"A\x00\x00\x00\x03Vt\x01", Value::Array(vec![Value::Void, Value::Bool(true)]));
        check(b"F\x00\x00\x00\x04\x01at\x01", Value::Table(vec![("a".to_owned(), Value::Bool(true))]));
    }

    #[test]
    fn an_unknown_type_octet_ends_the_table_and_keeps_what_came_before() {
        let table = read(b"\x01at\x01\x01b?zzzz\x01ct\x01");
        assert_eq!(table.fields, vec![("a".to_owned(), Value::Bool(true))]);
        assert!(table.cut);
    }

    #[test]
    fn a_nested_bomb_is_cut_at_the_bound() {
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            let mut outer = b"\x01kF".to_vec();
            outer.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            outer.extend_from_slice(&bytes);
            bytes = outer;
        }
        let table = read(&bytes);
        assert!(table.cut);
        let mut depth = 0;
        let mut level = &table.fields;
        while let Some((_, Value::Table(inner))) = level.first() {
            depth += 1;
            level = inner;
        }
        assert_eq!(depth, MAX_DEPTH + 1, "levels kept, the last of them empty");
    }

    #[test]
    fn a_wide_bomb_is_cut_at_the_bound() {
        let items = 100_000_u32;
        let mut bytes = b"\x01kA".to_vec();
        bytes.extend_from_slice(&items.to_be_bytes());
        bytes.extend(std::iter::repeat_n(b'V', items as usize));
        let table = read(&bytes);
        assert!(table.cut);
        let Some((_, Value::Array(items))) = table.fields.first() else { panic!("{table:?}") };
        assert_eq!(items.len() as u32, MAX_FIELDS - 1);
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = read(&bytes);
        }
    }
}
