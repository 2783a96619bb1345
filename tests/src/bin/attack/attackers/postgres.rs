//! PostgreSQL: long prepared statements, and statements of which each is another.

use anyhow::Result;
use spoor_tests::transcript::wire::{done, pg, query};

use super::{Pace, Pair, hold, listen};

const IDLE: u8 = b'I';

/// A connection that is past its start.
fn begin(pair: &mut Pair) -> Result<()> {
    let settings = b"user\0mallory\0database\0shop\0\0";
    let mut startup = (settings.len() as u32 + 8).to_be_bytes().to_vec();
    startup.extend(196_608_u32.to_be_bytes());
    startup.extend(settings);
    pair.ask(&startup)?;
    pair.answer(&[pg(b'R', &0_u32.to_be_bytes()), pg(b'Z', &[IDLE])].concat())
}

/// So many connections, each with so many prepared statements of 15 KB.
pub(super) fn prepared(connections: usize, statements: usize) -> Result<()> {
    let listener = listen()?;
    let padding = "s".repeat(15_000);
    let mut open = Vec::new();
    let mut pace = Pace::per_second(1500);
    for _ in 0..connections {
        let mut pair = Pair::new(&listener)?;
        begin(&mut pair)?;
        for number in 0..statements {
            let parse = format!("s{number}\0SELECT c{number} FROM t /* {padding} */\0\0\0");
            pair.ask(&[pg(b'P', parse.as_bytes()), pg(b'S', b"")].concat())?;
            pair.answer(&[pg(b'1', b""), pg(b'Z', &[IDLE])].concat())?;
            pace.wait();
        }
        open.push(pair);
    }
    hold(4);
    Ok(())
}

/// So many statements on as many tables.
pub(super) fn statements(count: usize) -> Result<()> {
    let mut pair = Pair::new(&listen()?)?;
    begin(&mut pair)?;
    let mut pace = Pace::per_second(1000);
    for number in 0..count {
        pair.ask(&query(&format!("SELECT * FROM junk{number}x")))?;
        pair.answer(&done("SELECT 0", IDLE))?;
        pace.wait();
    }
    Ok(())
}
