//! What happened to connections and their bytes, counted.

use crate::protocol::{Discard, PerProtocol, Protocol};
use crate::tls::{Cause, Counts};

/// Totals since the start. All bytes are of the stream, not of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Connections that came to be known.
    pub opened: u64,
    /// Of these, known by their data only: their `Conn` was lost or does not exist.
    pub unannounced: u64,
    /// Ended by a close.
    pub closed: u64,
    /// Given up for a newer one at the bound on connections.
    pub evicted: u64,
    /// Given up because the agent stops.
    pub abandoned: u64,

    /// Connections by protocol, when it was detected.
    pub detected: PerProtocol<u64>,
    /// Known protocols that cannot be read: encrypted.
    pub opaque: u64,
    /// Connections that speak nothing Spoor reads.
    pub not_ours: u64,
    /// Connections that were over before their protocol was clear.
    pub undecided: u64,
    /// Detections taken back because what followed was not that protocol.
    pub misdetected: u64,

    /// Operations of which something is not known because it was said before their connection was seen: statements that were
    /// prepared then.
    pub blind_operations: u64,

    /// Data records.
    pub records: u64,
    /// Data records after the end of their connection.
    pub late_records: u64,
    /// Data records that came before one that precedes them.
    pub reordered: u64,
    /// Bytes delivered to sessions or to detection.
    pub bytes: u64,
    /// Bytes that moved but were not captured, or whose record was lost.
    pub gap_bytes: u64,
    /// Of these, in no record at all.
    pub missing_bytes: u64,
    /// Bytes that came twice.
    pub trimmed_bytes: u64,
    /// Bytes at impossible positions.
    pub dropped_bytes: u64,
    /// Bytes of connections that are not ours.
    pub ignored_bytes: u64,
    /// Bytes of a TLS connection whose plaintext is read elsewhere.
    pub ciphertext_bytes: u64,
    /// Bytes forgotten before their protocol was clear, at the bound on what is kept for that.
    pub forgotten_bytes: u64,
    /// Times that bytes waiting for others were given up because memory was short.
    pub relieved: u64,
    /// Times that a connection gave up bodies and values of what was open, and all that its session held.
    pub gave_values: u64,
    pub gave_session: u64,
    /// Bytes that were given up so.
    pub given_up_bytes: u64,
    /// Connections that were given up so, beside those at their bound on number.
    pub evicted_for_memory: u64,

    /// Bytes that sessions discarded, by [`Discard`].
    pub unsynchronised_bytes: u64,
    pub invalid_bytes: u64,
    pub limit_bytes: u64,
    /// How often they did.
    pub unsynchronised: u64,
    pub invalid: u64,
    pub limit: u64,

    /// Connections under TLS that were to be opened.
    pub tls: TlsStats,
}

/// What became of connections under TLS, where they are opened at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TlsStats {
    pub seen: u64,
    pub opened: u64,
    /// Stayed closed, by [`Cause`]. Those that were opened first and then given up are in both.
    pub suite: u64,
    pub version: u64,
    pub compression: u64,
    pub secret: u64,
    pub limit: u64,
    pub broken: u64,

    /// Records opened.
    pub records: u64,
    /// Records that did not open although they should have.
    pub failed_records: u64,
    /// Records of early data (0-RTT), which stay closed.
    pub early_records: u64,
    /// KeyUpdates.
    pub updates: u64,
    /// What stood where a record should begin was none.
    pub malformed: u64,
    /// Operations whose place on the wire was no longer known.
    pub unplaced: u64,
    /// Questions for secrets that nobody took in time. They are asked again.
    pub unasked: u64,
}

impl TlsStats {
    /// Connections that stayed closed, by cause.
    pub fn by_cause(&self) -> [(&'static str, u64); 6] {
        [
            ("suite", self.suite),
            ("version", self.version),
            ("compression", self.compression),
            ("secret", self.secret),
            ("limit", self.limit),
            ("broken", self.broken),
        ]
    }

    pub(super) fn closed(&mut self, cause: Cause) {
        *match cause {
            Cause::Suite => &mut self.suite,
            Cause::Version => &mut self.version,
            Cause::Compression => &mut self.compression,
            Cause::Secret => &mut self.secret,
            Cause::Limit => &mut self.limit,
            Cause::Broken => &mut self.broken,
        } += 1;
    }

    pub(super) fn add(&mut self, counts: Counts) {
        self.records += counts.opened;
        self.failed_records += counts.failed;
        self.early_records += counts.early;
        self.updates += counts.updates;
        self.malformed += counts.malformed;
    }
}

impl Stats {
    pub(super) fn detected(&mut self, protocol: Protocol) {
        self.detected[protocol] += 1;
    }

    pub(super) fn discarded(&mut self, reason: Discard, len: u64) {
        let (bytes, times) = match reason {
            Discard::Unsynchronised => (&mut self.unsynchronised_bytes, &mut self.unsynchronised),
            Discard::Invalid => (&mut self.invalid_bytes, &mut self.invalid),
            Discard::Limit => (&mut self.limit_bytes, &mut self.limit),
        };
        *bytes = bytes.saturating_add(len);
        *times += 1;
    }

    /// Adds what happened in a stream since `before`.
    pub(super) fn stream(&mut self, before: &crate::stream::Stats, now: &crate::stream::Stats) {
        self.missing_bytes += now.missing.saturating_sub(before.missing);
        self.trimmed_bytes += now.trimmed.saturating_sub(before.trimmed);
        self.dropped_bytes += now.dropped.saturating_sub(before.dropped);
        self.reordered += now.reordered.saturating_sub(before.reordered);
    }
}
