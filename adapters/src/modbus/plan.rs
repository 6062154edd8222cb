//! The read planner: which blocks to ask for so that the wanted items cost the least bus time.
//!
//! It knows what a request and a byte cost, a device's limits and the addresses that it has
//! refused; not the bus: no baud rate, no deadline. The same wants, holes and costs always give
//! the same batches. Its work is bounded by the profile: items times items of one read.

use std::time::Duration;

use super::{BITS_MAX, Batch, Block, REGISTERS_MAX, Table};
use crate::profile::Profile;

/// What reading costs on a line: so much per request whatever it holds, and so much per byte of
/// content. Two ranges are read as one when the bytes between them cost less than a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadCost {
    request: u64,
    byte: u64,
}

impl ReadCost {
    /// Least cost of a request, in nanoseconds: on a line whose bytes cost nothing there are still
    /// to be as few requests as can be.
    const REQUEST_LEAST: u64 = 100_000;

    /// A request with its frames, silences and the device's turnaround takes `request`, each byte
    /// of content `byte`: nothing on TCP.
    pub fn new(request: Duration, byte: Duration) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // A byte costs at least something, so that of two plans with as many requests the one
        // that reads less is taken.
        Self { request: nanos(request).max(Self::REQUEST_LEAST), byte: nanos(byte).max(1) }
    }

    /// What reading `block` costs, in nanoseconds.
    pub fn of(&self, block: Block) -> u64 {
        let count = u64::from(block.count);
        let bytes = match block.table {
            table if table.is_keyed() => 0,
            table if table.is_bits() => count.div_ceil(8),
            _ => 2 * count,
        };
        self.request.saturating_add(self.byte.saturating_mul(bytes))
    }
}

impl Default for ReadCost {
    /// A line of 9600 baud with a device that answers within the silence: 13 characters of frames
    /// and two silences of 3.5 cost as much as the content of 10 registers.
    fn default() -> Self {
        const CHARACTER: Duration = Duration::from_nanos(1_145_833);
        Self::new(CHARACTER * 20, CHARACTER)
    }
}

/// Most holes that are remembered of one device. A device with more is answered item by item:
/// slower, never wrong.
pub const HOLES_MAX: usize = 256;

/// Addresses that a device refused to read, and boundaries that it refused to read across. No
/// batch of several items touches one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holes(Vec<(Table, u32, u32)>);

impl Holes {
    /// Remembers that `count` addresses from `start` cannot be read; with `count` 0, that no
    /// read may cross from `start - 1` to `start`. Returns whether that is news; never when
    /// [`HOLES_MAX`] are known already.
    pub fn insert(&mut self, table: Table, start: u16, count: u16) -> bool {
        let (start, end) = (u32::from(start), u32::from(start) + u32::from(count));
        let known = self.0.iter().any(|&(t, s, e)| t == table && s <= start && end <= e);
        if known {
            return false;
        }
        self.0.retain(|&(t, s, e)| !(t == table && start <= s && e <= end));
        if self.0.len() >= HOLES_MAX {
            return false;
        }
        self.0.push((table, start, end));
        true
    }

    /// Remembers what lies between two batches that a device answers one by one, but refused as
    /// one: the gap, or the boundary when there is none. Returns it, with its table, first address
    /// and count, if it is news as by [`Holes::insert`].
    pub fn insert_between(&mut self, left: &Batch, right: &Batch) -> Option<(Table, u16, u16)> {
        let from = u16::try_from(left.block.end()).ok()?;
        let gap = (left.block.table, from, right.block.start.saturating_sub(from));
        self.insert(gap.0, gap.1, gap.2).then_some(gap)
    }

    /// Forgets every hole and boundary that a read of `block`, which was answered, went across: the
    /// device has changed its mind. Returns whether there was one.
    pub fn forget(&mut self, block: Block) -> bool {
        let before = self.0.len();
        self.0.retain(|&hole| !touches(hole, block));
        self.0.len() < before
    }

    /// Each as table, first address and count; count 0 is a boundary.
    pub fn iter(&self) -> impl Iterator<Item = (Table, u16, u16)> {
        let count = |start: u32, end: u32| u16::try_from(end - start).unwrap_or(u16::MAX);
        let narrow = move |&(table, start, end): &(Table, u32, u32)| {
            Some((table, u16::try_from(start).ok()?, count(start, end)))
        };
        self.0.iter().filter_map(narrow)
    }

    /// How many there are; at most [`HOLES_MAX`].
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether reading `block` would touch a hole or cross a boundary.
    pub fn obstruct(&self, block: Block) -> bool {
        self.0.iter().any(|&hole| touches(hole, block))
    }
}

fn touches((table, start, end): (Table, u32, u32), block: Block) -> bool {
    table == block.table && u32::from(block.start) < end && start < block.end()
}

/// [`plan_reads`] where nobody knows the line: for a single look at a device.
pub fn coalesce(profile: &Profile, items: &[usize], holes: &Holes) -> Vec<Batch> {
    plan_reads(profile, items, holes, ReadCost::default())
}

/// The cheapest reads that together hold every item of `items` (positions in the profile; others
/// and doubles are ignored) exactly once, by rising table and address. A batch never asks for more
/// than the profile's `max_registers` (2000 bits), and one of several items never touches a hole;
/// an item that lies in a hole is asked for alone, so that a device which changes its mind is
/// noticed.
pub fn plan_reads(profile: &Profile, items: &[usize], holes: &Holes, cost: ReadCost) -> Vec<Batch> {
    let mut wanted: Vec<(Block, usize)> =
        items.iter().filter_map(|&at| Some((profile.items.get(at)?.block(), at))).collect();
    wanted.sort_unstable();
    wanted.dedup();
    // What can only be read alone must not stand between two that can be read together.
    let alone = |&(block, _): &(Block, usize)| {
        holes.obstruct(block) || block.count > most_words(profile, block.table)
    };
    let (single, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(alone);
    let lengths = cheapest_runs(profile, &wanted, holes, cost);
    let mut batches: Vec<Batch> =
        single.iter().filter_map(|&(_, at)| Batch::around(profile, vec![at])).collect();
    let mut rest = wanted.as_slice();
    while let Some(&length) = lengths.get(wanted.len() - rest.len()) {
        let (run, after) = rest.split_at(length);
        batches.extend(Batch::around(profile, run.iter().map(|&(_, at)| at).collect()));
        rest = after;
    }
    batches.sort_unstable_by(|a, b| (a.block, &a.items).cmp(&(b.block, &b.items)));
    batches
}

/// For each position in `wanted`, how many items the first batch of the cheapest plan for the
/// rest takes. Dynamic programming from the end: the cost of the rest is the cost of its first
/// batch and that of the rest after it. Ties go to the longer batch.
///
/// Runs in order of address are all that need be looked at: of two batches that interleave, one
/// holds an item that lies within the other's block, and moving it there costs nothing.
fn cheapest_runs(
    profile: &Profile,
    wanted: &[(Block, usize)],
    holes: &Holes,
    price: ReadCost,
) -> Vec<usize> {
    let mut cost = vec![0u64; wanted.len() + 1];
    let mut length = vec![1usize; wanted.len()];
    for from in (0..wanted.len()).rev() {
        let first = wanted[from].0;
        let most = u32::from(most_words(profile, first.table));
        cost[from] = u64::MAX;
        let mut end = 0;
        for (to, &(block, _)) in wanted.iter().enumerate().skip(from) {
            end = end.max(block.end());
            let words = end - u32::from(first.start);
            let several = to > from;
            if block.table != first.table || (several && words > most) {
                break;
            }
            let run = Block { count: u16::try_from(words).unwrap_or(u16::MAX), ..first };
            if several && (first.table.is_keyed() || holes.obstruct(run)) {
                break;
            }
            let total = price.of(run).saturating_add(cost[to + 1]);
            if total <= cost[from] {
                cost[from] = total;
                length[from] = to + 1 - from;
            }
        }
    }
    length
}

/// The most registers or bits that one read of `table` may ask this device for.
pub(super) fn most_words(profile: &Profile, table: Table) -> u16 {
    match table {
        // A key is asked for alone, whatever its length.
        _ if table.is_keyed() => u16::MAX,
        _ if table.is_bits() => BITS_MAX,
        _ => profile.max_registers.min(REGISTERS_MAX),
    }
}
