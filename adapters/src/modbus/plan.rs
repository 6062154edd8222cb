//! The read planner: which blocks to ask for so that the wanted items cost the least bus time.
//!
//! It knows a device's limits and the addresses that it has refused, not the bus: no baud rate,
//! no deadline. The same wants and holes always give the same batches.

use super::{BITS_MAX, Batch, Block, REGISTERS_MAX, Table};
use crate::profile::Profile;

/// What one more request costs, counted in registers that could have been read instead. A
/// request of 8 bytes, 5 bytes of reply around the registers and two silences of 3.5 characters
/// are 20 characters, as long as 10 registers; a device's turnaround is worth some more. So gaps
/// of up to 16 registers are read along rather than around.
const REQUEST_COST: u32 = 16;

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
    /// one: the gap, or the boundary when there is none.
    pub fn insert_between(&mut self, left: &Batch, right: &Batch) -> bool {
        let Ok(from) = u16::try_from(left.block.end()) else { return false };
        self.insert(left.block.table, from, right.block.start.saturating_sub(from))
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
        self.0.iter().any(|&(table, start, end)| {
            table == block.table && u32::from(block.start) < end && start < block.end()
        })
    }
}

/// The cheapest reads that together hold every item of `items` (positions in the profile; others
/// and doubles are ignored) exactly once, by rising table and address. A batch never asks for more
/// than the profile's `max_registers` (2000 bits), and one of several items never touches a hole;
/// an item that lies in a hole is asked for alone, so that a device which changes its mind is
/// noticed.
pub fn coalesce(profile: &Profile, items: &[usize], holes: &Holes) -> Vec<Batch> {
    let mut wanted: Vec<(Block, usize)> =
        items.iter().filter_map(|&at| Some((profile.items.get(at)?.block(), at))).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let lengths = cheapest_runs(profile, &wanted, holes);
    let mut batches = Vec::new();
    let mut rest = wanted.as_slice();
    while let Some(&length) = lengths.get(wanted.len() - rest.len()) {
        let (run, after) = rest.split_at(length);
        batches.extend(Batch::around(profile, run.iter().map(|&(_, at)| at).collect()));
        rest = after;
    }
    batches
}

/// For each position in `wanted`, how many items the first batch of the cheapest plan for the
/// rest takes. Dynamic programming from the end: the cost of the rest is the cost of its first
/// batch and that of the rest after it. Ties go to the longer batch.
fn cheapest_runs(profile: &Profile, wanted: &[(Block, usize)], holes: &Holes) -> Vec<usize> {
    let mut cost = vec![0u32; wanted.len() + 1];
    let mut length = vec![1usize; wanted.len()];
    for from in (0..wanted.len()).rev() {
        let first = wanted[from].0;
        let most = most_words(profile, first.table);
        cost[from] = u32::MAX;
        let mut end = 0;
        for (to, &(block, _)) in wanted.iter().enumerate().skip(from) {
            end = end.max(block.end());
            let words = end - u32::from(first.start);
            let several = to > from;
            if block.table != first.table || (several && words > u32::from(most)) {
                break;
            }
            let count = u16::try_from(words).unwrap_or(u16::MAX);
            if several && holes.obstruct(Block { count, ..first }) {
                break;
            }
            let registers = if first.table.is_bits() { words.div_ceil(16) } else { words };
            let total = (REQUEST_COST + registers).saturating_add(cost[to + 1]);
            if total <= cost[from] {
                cost[from] = total;
                length[from] = to + 1 - from;
            }
        }
    }
    length
}

fn most_words(profile: &Profile, table: Table) -> u16 {
    match table {
        // A key is asked for alone.
        _ if table.is_keyed() => 0,
        _ if table.is_bits() => BITS_MAX,
        _ => profile.max_registers.min(REGISTERS_MAX),
    }
}
