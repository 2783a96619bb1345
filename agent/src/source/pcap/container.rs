//! The bytes of a pcap or pcapng file → captured frames with their time and link type.
//!
//! *Owns* both file formats. *Must not know* what is in a frame.
//!
//! ```text
//!   pcap     header 24: magic, u16 major, u16 minor, 8 unused, u32 snaplen, u32 link type (low 16 bits)
//!            packet 16: u32 s, u32 µs or ns, u32 captured, u32 length; then the captured bytes
//!   pcapng   block: u32 type, u32 total length, body, u32 total length again; lengths are multiples of 4
//!            SHB 0x0a0d0d0a  section: byte order; interfaces start anew
//!            IDB 1           interface: u16 link type, u16, u32 snaplen, options (9 if_tsresol, 14 if_tsoffset)
//!            PB 2, EPB 6     packet with interface and time      SPB 3  packet without
//!            ISB 5           interface statistics (options 5 if_drop, 7 os_drop)
//!            DSB 10          u32 type, u32 length, secrets: a key log of TLS for type 0x544c534b
//! ```

use std::io::Read;
use std::time::Duration;

use super::super::SourceError;
use super::super::input::Input;
use spoor_core::time::WallTime;

/// Longest block or packet followed; the formats' own bound is 256 KiB for most tools.
const MAX_BLOCK: usize = 16 << 20;
/// Interfaces of a section.
const MAX_INTERFACES: usize = 1 << 16;

const SECTION: u32 = 0x0a0d_0d0a;
/// The secrets of a Decryption Secrets Block are a key log of TLS.
const TLS_KEY_LOG: u32 = 0x544c_534b;

/// What a file holds.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Frame(Frame<'a>),
    /// Packets the capture lost so far, all interfaces together.
    Dropped {
        at: WallTime,
        packets: u64,
    },
    /// A key log of TLS connections, of which packets follow or came before.
    KeyLog(&'a [u8]),
}

/// A captured frame.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// Nanoseconds since the Unix epoch.
    pub(super) at: WallTime,
    /// Link type (LINKTYPE_ value).
    pub(super) link: u16,
    /// What was captured of it.
    pub(super) data: &'a [u8],
    /// Its length on the link.
    pub(super) len: u32,
}

/// A file being read.
#[derive(Debug)]
pub(super) struct Container<R> {
    input: Input<R>,
    buffer: Vec<u8>,
    format: Format,
    /// The last time seen, for packets without one.
    at: WallTime,
}

#[derive(Debug)]
enum Format {
    Pcap { order: Order, is_nanos: bool, link: u16 },
    PcapNg { order: Order, interfaces: Vec<Interface> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

/// What a file's first four bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Magic {
    Pcap { order: Order, is_nanos: bool },
    PcapNg,
}

pub(super) fn magic(start: [u8; 4]) -> Option<Magic> {
    Some(match start {
        [0xa1, 0xb2, 0xc3, 0xd4] => Magic::Pcap { order: Order::Big, is_nanos: false },
        [0xd4, 0xc3, 0xb2, 0xa1] => Magic::Pcap { order: Order::Little, is_nanos: false },
        [0xa1, 0xb2, 0x3c, 0x4d] => Magic::Pcap { order: Order::Big, is_nanos: true },
        [0x4d, 0x3c, 0xb2, 0xa1] => Magic::Pcap { order: Order::Little, is_nanos: true },
        [0x0a, 0x0d, 0x0d, 0x0a] => Magic::PcapNg,
        _ => return None,
    })
}

/// One interface of a pcapng section.
#[derive(Debug)]
struct Interface {
    link: u16,
    snaplen: u32,
    /// Ticks per second.
    resolution: u64,
    offset_seconds: i64,
    dropped: u64,
}

/// Where a frame is in the buffer.
struct Found {
    link: u16,
    start: usize,
    captured: usize,
    len: u32,
}

impl<R: Read> Container<R> {
    /// Reads the header of a pcap file; that of a pcapng section is a block like others.
    pub(super) fn new(mut input: Input<R>) -> Result<Self, SourceError> {
        let mut buffer = Vec::new();
        input.rest(&mut buffer, 4, "the magic number")?;
        let format = match buffer.first_chunk().and_then(|start| magic(*start)) {
            None => return Err(input.damaged(0, "this is not the start of a capture")),
            Some(Magic::Pcap { order, is_nanos }) => {
                input.rest(&mut buffer, 20, "the header of a pcap file")?;
                let link = order.u32(&buffer, 16).unwrap_or_default() & 0xffff;
                Format::Pcap { order, is_nanos, link: link as u16 }
            }
            Some(Magic::PcapNg) => Format::PcapNg { order: Order::Little, interfaces: Vec::new() },
        };
        let mut container = Self { input, buffer, format, at: WallTime::ZERO };
        if matches!(container.format, Format::PcapNg { .. }) {
            container.section(0)?;
        }
        Ok(container)
    }

    /// The next frame. `None` is the end.
    pub(super) fn next(&mut self) -> Result<Option<Item<'_>>, SourceError> {
        let found = match self.format {
            Format::Pcap { order, is_nanos, link } => self.next_pcap(order, is_nanos, link)?,
            Format::PcapNg { .. } => loop {
                let Some(block) = self.block()? else { return Ok(None) };
                match self.interpret(block)? {
                    Block::Frame(found) => break Some(found),
                    Block::Dropped(packets) => return Ok(Some(Item::Dropped { at: self.at, packets })),
                    Block::KeyLog { start, len } => {
                        let log = self.buffer.get(start..start.saturating_add(len)).unwrap_or_default();
                        return Ok(Some(Item::KeyLog(log)));
                    }
                    Block::Other => {}
                }
            },
        };
        let Some(Found { link, start, captured, len }) = found else { return Ok(None) };
        let data = self.buffer.get(start..start.saturating_add(captured)).unwrap_or_default();
        Ok(Some(Item::Frame(Frame { at: self.at, link, data, len })))
    }

    fn next_pcap(&mut self, order: Order, is_nanos: bool, link: u16) -> Result<Option<Found>, SourceError> {
        let offset = self.input.offset();
        if !self.input.piece(&mut self.buffer, 16, "the head of a packet")? {
            return Ok(None);
        }
        let field = |at: usize| order.u32(&self.buffer, at).unwrap_or_default();
        let (seconds, fraction, captured, len) = (field(0), field(4), field(8) as usize, field(12));
        if captured > MAX_BLOCK {
            return Err(self.input.damaged(offset, format!("a packet of {captured} bytes")));
        }
        let nanos = if is_nanos { u64::from(fraction) } else { u64::from(fraction) * 1000 };
        self.at = WallTime::ZERO + Duration::from_secs(seconds.into()) + Duration::from_nanos(nanos);
        if captured > 0 {
            self.input.rest(&mut self.buffer, captured, "a packet")?;
        }
        Ok(Some(Found { link, start: 0, captured, len }))
    }

    /// Reads the section header whose type was read already, at `offset`: it says the byte order.
    fn section(&mut self, offset: u64) -> Result<(), SourceError> {
        self.input.rest(&mut self.buffer, 8, "a section header")?;
        let order = match self.buffer.get(4..8) {
            Some([0x1a, 0x2b, 0x3c, 0x4d]) => Order::Big,
            Some([0x4d, 0x3c, 0x2b, 0x1a]) => Order::Little,
            _ => return Err(self.input.damaged(offset, "a section header without a byte order")),
        };
        let total = order.u32(&self.buffer, 0).unwrap_or_default();
        self.body(offset, total, 12, order)?;
        let major = order.u16(&self.buffer, 0).unwrap_or_default();
        if major != 1 {
            return Err(self.input.version(major.into(), 1));
        }
        self.format = Format::PcapNg { order, interfaces: Vec::new() };
        Ok(())
    }

    /// Reads what is left of a block of which `head` bytes were read: its body, and its length again.
    fn body(&mut self, offset: u64, total: u32, head: usize, order: Order) -> Result<(), SourceError> {
        let len = total as usize;
        if len < head + 4 || !len.is_multiple_of(4) || len > MAX_BLOCK {
            return Err(self.input.damaged(offset, format!("a block of {total} bytes")));
        }
        self.input.rest(&mut self.buffer, len - head, "a block")?;
        let body = len - head - 4;
        if order.u32(&self.buffer, body) != Some(total) {
            return Err(self.input.damaged(offset, "a block whose two lengths differ"));
        }
        self.buffer.truncate(body);
        Ok(())
    }

    /// Reads a block: its type. The body is in the buffer.
    fn block(&mut self) -> Result<Option<u32>, SourceError> {
        let Format::PcapNg { order, .. } = self.format else { return Ok(None) };
        let offset = self.input.offset();
        if !self.input.piece(&mut self.buffer, 4, "the head of a block")? {
            return Ok(None);
        }
        let kind = order.u32(&self.buffer, 0).unwrap_or_default();
        // The type of a section header reads the same in both byte orders.
        if kind == SECTION {
            self.section(offset)?;
            return Ok(Some(kind));
        }
        self.input.rest(&mut self.buffer, 4, "the head of a block")?;
        let total = order.u32(&self.buffer, 0).unwrap_or_default();
        self.body(offset, total, 8, order)?;
        Ok(Some(kind))
    }

    fn interpret(&mut self, kind: u32) -> Result<Block, SourceError> {
        let offset = self.input.offset();
        let Format::PcapNg { order, interfaces } = &mut self.format else { return Ok(Block::Other) };
        let (order, body) = (*order, self.buffer.as_slice());
        let found = match kind {
            1 if interfaces.len() < MAX_INTERFACES => Interface::parse(order, body)
                .map(|interface| interfaces.push(interface))
                .map(|()| Block::Other),
            2 | 6 => (|| {
                let interface = match kind {
                    2 => usize::from(order.u16(body, 0)?),
                    _ => order.u32(body, 0)? as usize,
                };
                let interface = interfaces.get(interface)?;
                self.at = interface.time(order.u32(body, 4)?, order.u32(body, 8)?);
                let (captured, len) = (order.u32(body, 12)? as usize, order.u32(body, 16)?);
                (captured <= body.len() - 20).then_some(())?;
                Some(Block::Frame(Found { link: interface.link, start: 20, captured, len }))
            })(),
            3 => (|| {
                let interface = interfaces.first()?;
                let len = order.u32(body, 0)?;
                let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                let captured = (len.min(snaplen) as usize).min(body.len() - 4);
                Some(Block::Frame(Found { link: interface.link, start: 4, captured, len }))
            })(),
            5 => (|| {
                let index = order.u32(body, 0)? as usize;
                let dropped = [5, 7].map(|code| order.option(body, 12, code).and_then(|v| order.u64(v, 0)));
                let interface = interfaces.get_mut(index)?;
                self.at = self.at.max(interface.time(order.u32(body, 4)?, order.u32(body, 8)?));
                interface.dropped = dropped.into_iter().flatten().fold(0, u64::saturating_add);
                let all = interfaces.iter().map(|i| i.dropped).fold(0, u64::saturating_add);
                Some(if all > 0 { Block::Dropped(all) } else { Block::Other })
            })(),
            10 => (|| {
                let (kind, len) = (order.u32(body, 0)?, order.u32(body, 4)? as usize);
                (len <= body.len().checked_sub(8)?).then_some(())?;
                Some(if kind == TLS_KEY_LOG { Block::KeyLog { start: 8, len } } else { Block::Other })
            })(),
            _ => Some(Block::Other),
        };
        found.ok_or_else(|| {
            self.input.damaged(offset, format!("the block of type {kind} before it is malformed"))
        })
    }
}

enum Block {
    Frame(Found),
    Dropped(u64),
    KeyLog { start: usize, len: usize },
    Other,
}

impl Interface {
    fn parse(order: Order, body: &[u8]) -> Option<Self> {
        // if_tsresol: a power of ten, or of two when the highest bit is set.
        let resolution = match order.option(body, 8, 9).and_then(|value| value.first()) {
            None => 1_000_000,
            Some(power @ 0..=19) => 10u64.pow(u32::from(*power)),
            Some(power @ 128..=191) => 1 << (power & 63),
            Some(_) => return None,
        };
        let offset = order.option(body, 8, 14).and_then(|value| order.u64(value, 0)).unwrap_or_default();
        let (link, snaplen) = (order.u16(body, 0)?, order.u32(body, 4)?);
        Some(Self { link, snaplen, resolution, offset_seconds: offset.cast_signed(), dropped: 0 })
    }

    /// A timestamp in its ticks.
    fn time(&self, high: u32, low: u32) -> WallTime {
        let ticks = u128::from(high) << 32 | u128::from(low);
        let ns = ticks * 1_000_000_000 / u128::from(self.resolution);
        let ns = u64::try_from(ns).unwrap_or(u64::MAX);
        WallTime::from_nanos(ns.saturating_add_signed(self.offset_seconds.saturating_mul(1_000_000_000)))
    }
}

impl Order {
    fn u16(self, from: &[u8], at: usize) -> Option<u16> {
        let bytes = *from.get(at..)?.first_chunk()?;
        Some(if self == Order::Big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(self, from: &[u8], at: usize) -> Option<u32> {
        let bytes = *from.get(at..)?.first_chunk()?;
        Some(if self == Order::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(self, from: &[u8], at: usize) -> Option<u64> {
        let bytes = *from.get(at..)?.first_chunk()?;
        Some(if self == Order::Big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// The value of an option in a list that starts at `at`: u16 code, u16 length, value, padding to 4.
    fn option(self, body: &[u8], mut at: usize, wanted: u16) -> Option<&[u8]> {
        loop {
            let (code, len) = (self.u16(body, at)?, usize::from(self.u16(body, at + 2)?));
            if code == 0 {
                return None;
            }
            if code == wanted {
                return body.get(at + 4..at + 4 + len);
            }
            at += 4 + len.next_multiple_of(4);
        }
    }
}
