//! A file of OTLP/JSON, one `ExportTraceServiceRequest` a line → facts, batch by batch.
//!
//! The format of the agent's file exporter and of the Collector's.

use std::io::BufRead;

use super::{Read, read};

/// Longest line, in bytes.
const MAX_LINE: u64 = 256 << 20;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    #[error("cannot read line {line}")]
    Read {
        line: u64,
        #[source]
        source: std::io::Error,
    },
    #[error("line {line} is longer than {MAX_LINE} bytes")]
    TooLong { line: u64 },
    #[error("line {line} is no ExportTraceServiceRequest: {source}")]
    Json {
        line: u64,
        #[source]
        source: serde_json::Error,
    },
}

/// Reads the next line; `None` at the end. `line` is its number, from 1.
pub fn next(
    from: &mut impl BufRead,
    line: u64,
    order_attributes: &[String],
) -> Result<Option<Read>, LinesError> {
    let mut text = Vec::new();
    loop {
        text.clear();
        let mut bounded = std::io::Read::take(&mut *from, MAX_LINE);
        let len = bounded.read_until(b'\n', &mut text).map_err(|source| LinesError::Read { line, source })?;
        if len == 0 {
            return Ok(None);
        }
        if bounded.limit() == 0 {
            return Err(LinesError::TooLong { line });
        }
        if !text.trim_ascii().is_empty() {
            break;
        }
    }
    let request = serde_json::from_slice(&text).map_err(|source| LinesError::Json { line, source })?;
    Ok(Some(read(&request, order_attributes)))
}
