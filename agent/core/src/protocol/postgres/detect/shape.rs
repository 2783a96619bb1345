//! The content of one PostgreSQL message → whether it has that message's shape.
//!
//! Only shapes are looked at, nothing is kept: the parser proper is [`crate::protocol::postgres`].

/// Parse: name, query, types.
pub(super) fn parse(content: &[u8]) -> Option<()> {
    let (_, rest) = take_text(content)?;
    let (query, rest) = take_text(rest)?;
    let (count, rest) = take_u16(rest)?;
    let printable = query.iter().all(|byte| *byte >= b' ' || byte.is_ascii_whitespace());
    (printable && rest.len() == usize::from(count) * 4).then_some(())
}

/// Bind: portal, statement, formats, values, result formats.
pub(super) fn bind(content: &[u8]) -> Option<()> {
    let (_, rest) = take_text(content)?;
    let (_, rest) = take_text(rest)?;
    let rest = formats(rest)?;
    let rest = values(rest)?;
    formats(rest)?.is_empty().then_some(())
}

fn formats(bytes: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = take_u16(bytes)?;
    for _ in 0..count {
        let (format, after) = take_u16(rest)?;
        if format > 1 {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

fn values(bytes: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = take_u16(bytes)?;
    for _ in 0..count {
        let (len, after) = take_u32(rest)?;
        rest = if len == u32::MAX { after } else { after.get(len as usize..)? };
    }
    Some(rest)
}

/// RowDescription: each column's name and 18 bytes.
pub(super) fn row_description(content: &[u8]) -> Option<()> {
    let (count, mut rest) = take_u16(content)?;
    for _ in 0..count {
        let (_, after) = take_text(rest)?;
        rest = after.get(18..)?;
    }
    (rest.is_empty() && (1..=1664).contains(&count)).then_some(())
}

/// DataRow: each value's length and bytes.
pub(super) fn data_row(content: &[u8]) -> Option<()> {
    let rest = values(content)?;
    let (count, _) = take_u16(content)?;
    (rest.is_empty() && (1..=1664).contains(&count)).then_some(())
}

/// ErrorResponse and NoticeResponse after the first field's type: texts with their types, a last NUL.
pub(super) fn notice(content: &[u8]) -> bool {
    let mut rest = content;
    let mut has_code = false;
    loop {
        let Some((_, after)) = take_text(rest) else { return false };
        match after {
            [0] => return has_code,
            [kind, text @ ..] if kind.is_ascii_alphabetic() => {
                has_code |= *kind == b'C' && text.get(5) == Some(&0);
                rest = text;
            }
            _ => return false,
        }
    }
}

/// Whether text begins with a statement's first word, as CommandComplete and SQL both do.
pub(super) fn command_tag(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 44] = [
        b"SELECT",
        b"INSERT",
        b"UPDATE",
        b"DELETE",
        b"MERGE",
        b"MOVE",
        b"FETCH",
        b"COPY",
        b"BEGIN",
        b"COMMIT",
        b"ROLLBACK",
        b"START",
        b"SAVEPOINT",
        b"RELEASE",
        b"SET",
        b"RESET",
        b"SHOW",
        b"CREATE",
        b"ALTER",
        b"DROP",
        b"TRUNCATE",
        b"GRANT",
        b"REVOKE",
        b"PREPARE",
        b"EXECUTE",
        b"DEALLOCATE",
        b"DECLARE",
        b"CLOSE",
        b"LISTEN",
        b"UNLISTEN",
        b"NOTIFY",
        b"LOCK",
        b"ANALYZE",
        b"VACUUM",
        b"EXPLAIN",
        b"DO",
        b"CALL",
        b"COMMENT",
        b"DISCARD",
        b"REFRESH",
        b"REINDEX",
        b"VALUES",
        b"WITH",
        b"TABLE",
    ];
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let word = text.get(..end).unwrap_or_default();
    WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

pub(super) fn is_only_text(bytes: &[u8]) -> bool {
    take_text(bytes).is_some_and(|(_, rest)| rest.is_empty())
}

/// A NUL-terminated text and what follows it.
pub(super) fn take_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

pub(super) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

pub(super) fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}
