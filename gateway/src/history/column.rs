//! One series' samples as bytes, and back, bit by bit: `pco` around integers.
//!
//! ```text
//! times  = pco(i64: milliseconds since the row's begin, ascending)
//! values = runs:varint (mark:u8 length:varint)*     marks as in [`super::samples`]
//!          texts:varint (length:varint bytes)*
//!          pco                                      of the samples that are a value
//! ```
//!
//! Meters deliver decimals. Where one decimal exponent gives back every number of a column to the
//! last bit (also those that have been 32-bit floats on their way), the column is integers of that
//! scale; otherwise it is the doubles themselves. The scale's byte is the journal's; [`DOUBLES`]
//! says that there is none. Flags and places of texts are integers of scale 0.
//!
//! What does not decode is refused whole; counts are checked before anything is allocated.

use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DEFAULT_COMPRESSION_LEVEL};

use super::samples::{FLAG, Mark, NUMBER, Samples, TEXT};
use crate::journal::bytes::{Bytes, put_varint};
use crate::journal::series::Scale;

/// Instead of a scale: the column is doubles.
pub(super) const DOUBLES: u8 = 0x7f;
/// Most samples of one series in one row: more than fit into the buffer that rows come from.
pub(super) const SAMPLES_MAX: usize = 1 << 22;

/// A column of integers.
pub(super) fn integers(numbers: &[i64]) -> Vec<u8> {
    let config = ChunkConfig::default().with_compression_level(DEFAULT_COMPRESSION_LEVEL);
    simple_compress(numbers, &config).expect("invariant: the configuration is pco's own")
}

/// A column of doubles.
pub(super) fn doubles(numbers: &[f64]) -> Vec<u8> {
    simple_compress(numbers, &ChunkConfig::default())
        .expect("invariant: the configuration is pco's own")
}

/// The `count` integers of a column.
pub(super) fn read_integers(bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    let mut numbers = vec![0; (count <= SAMPLES_MAX).then_some(count)?];
    let read = simple_decompress_into(bytes, &mut numbers).ok()?;
    (read.n_processed == count).then_some(numbers)
}

/// The `count` doubles of a column.
pub(super) fn read_doubles(bytes: &[u8], count: usize) -> Option<Vec<f64>> {
    let mut numbers = vec![0.0; (count <= SAMPLES_MAX).then_some(count)?];
    let read = simple_decompress_into(bytes, &mut numbers).ok()?;
    (read.n_processed == count).then_some(numbers)
}

/// The scale of least exponent at which integers stand for exactly these numbers.
pub(super) fn scale_of(numbers: &(impl Iterator<Item = f64> + Clone)) -> Option<Scale> {
    // Most scales fail at the first number or two.
    Scale::all().find(|scale| numbers.clone().all(|number| scale.steps(number).is_some()))
}

/// Times as milliseconds since `begin_ms`.
pub(super) fn write_times(times: &[i64], begin_ms: i64) -> Vec<u8> {
    integers(&times.iter().map(|at| at - begin_ms).collect::<Vec<_>>())
}

/// The inverse of [`write_times`].
pub(super) fn read_times(bytes: &[u8], count: usize, begin_ms: i64) -> Option<Vec<i64>> {
    let mut times = read_integers(bytes, count)?;
    for at in &mut times {
        *at = at.checked_add(begin_ms)?;
    }
    Some(times)
}

/// Everything of the samples but their times; returns the scale's byte with it.
pub(super) fn write_values(samples: &Samples) -> (u8, Vec<u8>) {
    let mut out = Vec::new();
    let runs: Vec<&[Mark]> = samples.marks.chunk_by(|one, next| one == next).collect();
    put_varint(&mut out, runs.len() as u64);
    for run in runs {
        out.push(run[0]);
        put_varint(&mut out, run.len() as u64);
    }
    put_varint(&mut out, samples.texts.len() as u64);
    for text in &samples.texts {
        put_varint(&mut out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
    let known = samples.marks.iter().zip(&samples.numbers);
    let known = known.filter(|(mark, _)| is_value(**mark)).map(|(_, number)| *number);
    let scale = scale_of(&known);
    let column = match scale {
        Some(scale) => {
            integers(&known.filter_map(|number| scale.steps(number)).collect::<Vec<_>>())
        }
        None => doubles(&known.collect::<Vec<_>>()),
    };
    out.extend_from_slice(&column);
    (scale.map_or(DOUBLES, Scale::byte), out)
}

/// The inverse of [`write_values`], for samples with these times.
pub(super) fn read_values(bytes: &[u8], scale: u8, times: Vec<i64>) -> Option<Samples> {
    let count = times.len();
    let mut samples = Samples { times, ..Samples::default() };
    let mut bytes = Bytes(bytes);
    for _ in 0..bytes.length()? {
        let (mark, length) = (bytes.byte()?, bytes.length()?);
        if length > count - samples.marks.len() {
            return None;
        }
        samples.marks.resize(samples.marks.len() + length, mark);
    }
    for _ in 0..bytes.length()? {
        let length = bytes.length()?;
        samples.texts.push(std::str::from_utf8(bytes.take(length)?).ok()?.into());
    }
    let values = samples.marks.iter().filter(|mark| is_value(**mark)).count();
    let numbers = if scale == DOUBLES {
        read_doubles(bytes.0, values)?
    } else {
        let scale = Scale::from_byte(scale)?;
        read_integers(bytes.0, values)?.into_iter().map(|steps| scale.number(steps)).collect()
    };
    if samples.marks.len() != count {
        return None;
    }
    samples.numbers = if values == count {
        numbers
    } else {
        let mut numbers = numbers.into_iter();
        let number = |mark: &Mark| if is_value(*mark) { numbers.next() } else { Some(0.0) };
        samples.marks.iter().map(number).collect::<Option<_>>()?
    };
    Some(samples)
}

const fn is_value(mark: Mark) -> bool {
    matches!(mark, NUMBER | FLAG | TEXT)
}
