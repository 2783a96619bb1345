//! A pcap or pcapng capture → the [`Record`]s the kernel would have given.
//!
//! ```text
//!   file ─▶ container ─Frame─▶ packet ─Segment─▶ tcp ─Record─▶
//!           pcap, pcapng       link, IP, tunnels, TCP   reassembly of both directions, one connection per end
//! ```
//!
//! A capture has no processes and no sockets. Each TCP connection becomes two [`ConnId`](spoor_core::record::ConnId)s, one
//! per end, as if both processes ran on one observed node: what the client's socket writes, the server's reads. See
//! `tcp.rs` for what stands in for processes and clocks.
//!
//! *Owns* the capture formats, link and network headers, and TCP reassembly. *Must not know* what TCP carries.
//! *Spec*: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, tcpdump.org/linktypes.html; RFC 791, 8200, 9293; IEEE
//! 802.1Q. The formats are read here and not by a crate, since damage must be told apart from loss at every layer.

mod container;
mod flow;
mod packet;
mod tcp;
#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::VecDeque;
use std::io::Read;

use container::{Container, Item};
use packet::Skipped;
use tcp::Tracker;

use super::input::Input;
use super::{Source, SourceError};
use crate::config::Services;
use spoor_core::record::{ClockPair, Lost, Record};
use spoor_core::time::{BootTime, WallTime};
use spoor_core::tls::{Known, keylog};

/// Whether a file that starts so is a capture.
pub fn is_capture(start: &[u8]) -> bool {
    start.first_chunk().is_some_and(|magic| container::magic(*magic).is_some())
}

/// Reads a capture.
#[derive(Debug)]
pub struct Reader<R> {
    container: Container<R>,
    tracker: Tracker,
    queue: VecDeque<Record>,
    /// What ended the file, said after everything before it.
    error: Option<SourceError>,
    is_over: bool,
    has_clock: bool,
    /// Secrets that the file brought, and that nobody asked for yet.
    secrets: Vec<Known>,
    counts: Counts,
}

/// Packets by what became of them.
#[derive(Debug, Default)]
struct Counts {
    packets: u64,
    tcp: u64,
    not_ip: u64,
    not_tcp: u64,
    fragments: u64,
    cut_headers: u64,
    malformed: u64,
    unknown_links: u64,
    dropped_by_capture: u64,
    secrets: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the file's header. `file` is the name for messages; `services.names` with a port name server processes.
    pub fn new(file: String, from: R, services: &Services) -> Result<Self, SourceError> {
        Ok(Self {
            container: Container::new(Input::new(file, from))?,
            tracker: Tracker::new(services),
            queue: VecDeque::new(),
            error: None,
            is_over: false,
            has_clock: false,
            secrets: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// Reads a packet, or ends.
    fn advance(&mut self) {
        match self.container.next() {
            Ok(Some(Item::Frame(frame))) => {
                self.counts.packets += 1;
                if !std::mem::replace(&mut self.has_clock, true) {
                    let clock = ClockPair { boot: from_epoch(frame.at), wall: frame.at };
                    self.queue.push_back(Record::Clock(clock));
                }
                match packet::parse(frame.link, frame.data, frame.len) {
                    Ok(segment) => {
                        self.counts.tcp += 1;
                        self.tracker.handle(&segment, from_epoch(frame.at), &mut self.queue);
                    }
                    Err(skipped) => self.counts.skip(skipped),
                }
            }
            Ok(Some(Item::Dropped { at, packets })) => {
                self.counts.dropped_by_capture = self.counts.dropped_by_capture.max(packets);
                self.queue.push_back(Record::Lost(Lost { at: from_epoch(at), records: packets, bytes: 0 }));
            }
            Ok(Some(Item::KeyLog(log))) => {
                let (mut reader, secrets) = (keylog::Reader::default(), &mut self.secrets);
                reader.read(log, |known| secrets.push(known));
                reader.finish(|known| secrets.push(known));
                self.counts.secrets += reader.counts().secrets;
            }
            Ok(None) => self.end(None),
            Err(error) => self.end(Some(error)),
        }
    }

    fn end(&mut self, error: Option<SourceError>) {
        self.tracker.finish(&mut self.queue);
        self.is_over = true;
        self.error = error;
    }
}

impl<R: Read + Send> Source for Reader<R> {
    fn next(&mut self) -> Result<Option<Record>, SourceError> {
        loop {
            if let Some(record) = self.queue.pop_front() {
                return Ok(Some(record));
            }
            if self.is_over {
                return self.error.take().map_or(Ok(None), Err);
            }
            self.advance();
        }
    }

    fn unread(&self) -> Vec<(&'static str, u64)> {
        let c = &self.counts;
        let packets = [
            ("packets that are not IP", c.not_ip),
            ("packets that are not TCP", c.not_tcp),
            ("IP fragments", c.fragments),
            ("packets with headers cut by the snapshot length", c.cut_headers),
            ("malformed packets", c.malformed),
            ("packets of an unknown link type", c.unknown_links),
            ("packets the capture dropped", c.dropped_by_capture),
        ];
        packets.into_iter().chain(self.tracker.unread()).filter(|(_, count)| *count > 0).collect()
    }

    fn secrets(&mut self) -> Vec<Known> {
        std::mem::take(&mut self.secrets)
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let c = &self.counts;
        let mut counts = vec![
            ("packets", c.packets),
            ("TCP segments", c.tcp),
            ("packets that are not IP", c.not_ip),
            ("packets that are not TCP", c.not_tcp),
            ("IP fragments, left out", c.fragments),
            ("packets with headers cut by the snapshot length", c.cut_headers),
            ("malformed packets", c.malformed),
            ("packets of an unknown link type", c.unknown_links),
            ("packets the capture dropped", c.dropped_by_capture),
            ("secrets of TLS", c.secrets),
        ];
        counts.extend(self.tracker.counts());
        counts
    }
}

/// A capture has but the wall clock: taken as one that never jumps.
fn from_epoch(wall: WallTime) -> BootTime {
    BootTime::ZERO + wall.since(WallTime::ZERO)
}

impl Counts {
    fn skip(&mut self, skipped: Skipped) {
        *match skipped {
            Skipped::UnknownLink => &mut self.unknown_links,
            Skipped::NotIp => &mut self.not_ip,
            Skipped::NotTcp => &mut self.not_tcp,
            Skipped::Fragment => &mut self.fragments,
            Skipped::Cut => &mut self.cut_headers,
            Skipped::Malformed => &mut self.malformed,
        } += 1;
    }
}
