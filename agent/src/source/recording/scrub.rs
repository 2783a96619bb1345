//! Records → the same records without anything that was sent.
//!
//! *Owns* what a scrubbed recording keeps: connections, positions, lengths, times, threads and the names of services; it
//! shows what was captured, lost and when, not what was said. Captured bytes, arguments and environment of processes are
//! not in it. *Must not know* protocols: there is nothing that a parser could overlook.

use bytes::Bytes;

use spoor_core::record::{Endpoint, Record};

/// Takes out of a record what somebody sent or declared.
pub fn scrub(record: &mut Record) {
    match record {
        // The length stays: the stream's positions are exact, its contents a gap.
        Record::Data(data) => data.bytes = Bytes::new(),
        Record::ProcessInfo(info) => info.attributes.clear(),
        Record::Conn(conn) => {
            for end in [&mut conn.local, &mut conn.remote] {
                // Paths of sockets name users and projects.
                if let Endpoint::Unix(path) = end {
                    path.clear();
                }
            }
        }
        Record::Clock(_) | Record::Chain(_) | Record::Close(_) | Record::Process(_) | Record::Lost(_) => {}
    }
}
