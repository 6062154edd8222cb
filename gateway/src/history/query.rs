//! Curves: least, greatest, mean and last value of equal steps of a stretch of time, and how much
//! of each step was known. A step of which nothing is known is null, never a number.
//!
//! Steps are whole multiples of what they are made from (milliseconds or seconds, minutes, hours,
//! UTC days), so that no roll-up is ever cut, and counted from 1970, so that they stay where they
//! are while a window moves; the answer begins up to one step before what was asked. Where few long
//! steps would not do, they are counted from the unit in which the question begins. Where what would
//! be fine enough was given up, the answer is made of the finest that is kept of all of the stretch,
//! in longer steps. Days that are not merged yet are read as samples, or by the digests of their
//! hours where steps are hours or more; what is only in memory comes from there.

use std::ops::RangeInclusive;

use serde::Serialize;

use rusqlite::{Connection, OptionalExtension as _};

use super::Archive;
use super::buffer::Packed;
use super::file::{self, Stored, Trouble};
use super::keeper::{DAY_HOURS, group_of, lock};
use super::merge::{Found, rows};
use super::place::Place;
use super::rollup::Level;
use super::samples::Samples;
use super::summary::{DAY_MS, HOUR_MS, Stretches, Sum, reach_ms, stretch_of};

/// Series of a question.
pub const SERIES_MAX: usize = 128;
/// Steps of a question.
pub const STEPS_MAX: usize = 2000;
/// Longest stretch of a question: a century.
pub const SPAN_MAX_MS: i64 = 100 * 366 * DAY_MS;
/// Earliest begin of a question: 1970.
pub const EARLIEST_MS: i64 = 0;
/// Latest end of a question: that of the year 9999.
pub const LATEST_MS: i64 = 253_402_300_800_000;
/// How many lengths of steps counted from 1970 are tried.
const TRIES: i64 = 3;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Begin, Unix milliseconds; before [`EARLIEST_MS`] is as that.
    pub from_ms: i64,
    /// End, Unix milliseconds, after the begin; after [`LATEST_MS`] is as that.
    pub to_ms: i64,
    /// At most so many steps; at least 1.
    pub steps: usize,
    /// Machine and item.
    pub series: Vec<(String, String)>,
}

impl Question {
    /// Of times with which nothing can overflow, and of a stretch that is not empty.
    fn bounded(&self) -> Self {
        let from_ms = self.from_ms.clamp(EARLIEST_MS, LATEST_MS - 1);
        let to_ms = self.to_ms.clamp(from_ms + 1, LATEST_MS);
        Self { from_ms, to_ms, ..self.clone() }
    }
}

/// History cannot be asked now. It says why itself, and has no source that would say so again.
#[derive(Debug, thiserror::Error)]
#[error("history cannot be read: {0}")]
pub struct Unreadable(Trouble);

impl From<Trouble> for Unreadable {
    fn from(trouble: Trouble) -> Self {
        Self(trouble)
    }
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    /// From roll-ups of this; from samples without.
    level: Option<Level>,
    begin_ms: i64,
    step_ms: i64,
    count: usize,
}

impl Frame {
    fn of(question: &Question, place: &Place) -> Self {
        let most = i64::try_from(question.steps.clamp(1, STEPS_MAX)).unwrap_or(1);
        let span = (question.to_ms - question.from_ms).clamp(1, SPAN_MAX_MS);
        let width = span.div_euclid(most) + i64::from(span.rem_euclid(most) > 0);
        let level = Level::ALL.into_iter().rev().find(|level| level.width_ms() <= width);
        let level = finest_kept(question.from_ms, level, place);
        let unit = level.map_or(if width < 1000 { 1 } else { 1000 }, Level::width_ms);
        let up = |length: i64, unit: i64| (length + unit - 1) / unit;
        let frame = |begin_ms: i64, step_ms: i64| {
            let count = usize::try_from(up(question.to_ms - begin_ms, step_ms)).unwrap_or(1);
            Self { level, begin_ms, step_ms, count }
        };
        // Beginning earlier costs a step, which one or two longer ones make up for where there are
        // many; few may have an edge inside the question whatever their length.
        let steps = (0..TRIES).map(|longer| (up(width, unit) + longer) * unit);
        let mut frames = steps.map(|step_ms| frame(question.from_ms / step_ms * step_ms, step_ms));
        let fits = |frame: &Self| i64::try_from(frame.count).is_ok_and(|count| count <= most);
        frames.find(fits).unwrap_or_else(|| {
            let begin_ms = question.from_ms / unit * unit;
            frame(begin_ms, up(up(question.to_ms - begin_ms, most), unit) * unit)
        })
    }

    fn end_ms(&self) -> i64 {
        self.begin_ms + self.step_ms * i64::try_from(self.count).unwrap_or(0)
    }
}

/// The level itself, or the finest of the coarser ones that is kept since then.
fn finest_kept(from_ms: i64, level: Option<Level>, place: &Place) -> Option<Level> {
    let mut levels = std::iter::once(None).chain(Level::ALL.map(Some));
    let kept = |it: &Option<Level>| place.gone_ms(*it).is_none_or(|gone| gone <= from_ms);
    levels.find(|it| *it >= level && kept(it)).unwrap_or(Some(Level::Day))
}

/// One step of which something is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Mean over the known time.
    pub mean: f64,
    /// Last value.
    pub last: f64,
    /// Share of the step's time that is known, of what has passed of it.
    pub coverage: f64,
}

/// One series of the answer.
#[derive(Serialize)]
struct Curve<'a> {
    machine: &'a str,
    item: &'a str,
    unit: Option<&'static str>,
    /// Null when there is no such series.
    buckets: Option<Vec<Option<Step>>>,
}

/// A look at history as it is at one moment: file and memory agree.
struct Look {
    database: Option<Connection>,
    frame: Frame,
    /// Samples of the time before this are gone.
    horizon_ms: i64,
    /// By the order of the question.
    known: Vec<Option<(i64, Vec<Packed>)>>,
}

impl Archive {
    /// Writes the answer as JSON, piece by piece, series by series, until `write` says that
    /// nobody reads it. To be run where the disk may be waited for.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn answer(
        &self,
        question: &Question,
        now_ms: Option<i64>,
        write: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Unreadable> {
        let question = &question.bounded();
        let look = self.look(question)?;
        let frame = look.frame;
        let level = frame.level.map_or("samples", Level::words);
        let (from, to, step) = (frame.begin_ms, frame.end_ms(), frame.step_ms);
        let mut piece = format!(
            "{{\"v\":1,\"from_ms\":{from},\"to_ms\":{to},\"step_ms\":{step},\"level\":\"{level}\",\
             \"series\":["
        )
        .into_bytes();
        let mut rows = Rows::default();
        for (place, (machine, item)) in question.series.iter().enumerate() {
            let buckets = look.curve(place, &mut rows, &frame, now_ms)?;
            let unit = andon_engine::item::Item::named(item).ok().map(|item| item.unit.symbol());
            if place > 0 {
                piece.push(b',');
            }
            let curve = Curve { machine, item, unit, buckets };
            serde_json::to_writer(&mut piece, &curve)
                .map_err(|error| Trouble::Disk(error.into()))?;
            // The next will be about as long.
            let next = Vec::with_capacity(piece.len());
            if !write(std::mem::replace(&mut piece, next)) {
                return Ok(());
            }
        }
        piece.extend_from_slice(b"]}");
        write(piece);
        Ok(())
    }

    /// The steps of one series, as [`Archive::answer`] would write them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn steps(
        &self,
        question: &Question,
        now_ms: Option<i64>,
    ) -> Result<Vec<Option<Vec<Option<Step>>>>, Unreadable> {
        let question = &question.bounded();
        let look = self.look(question)?;
        let frame = look.frame;
        let (mut rows, all) = (Rows::default(), 0..question.series.len());
        let all = all.map(|place| look.curve(place, &mut rows, &frame, now_ms));
        Ok(all.collect::<Result<_, Trouble>>()?)
    }

    fn look(&self, question: &Question) -> Result<Look, Trouble> {
        // Nothing is written between the two: a sample is in the file or in memory.
        let buffer = lock(&self.buffer);
        let database = file::open_to_read(&self.path)?;
        if let Some(database) = &database {
            database.execute_batch("BEGIN")?;
        }
        let place = database.as_ref().map(Place::read).transpose()?.unwrap_or_default();
        let frame = Frame::of(question, &place);
        let sql = "SELECT id FROM series WHERE machine = ?1 AND item = ?2";
        let mut numbers = database.as_ref().map(|database| database.prepare(sql)).transpose()?;
        let mut known = Vec::new();
        for (machine, item) in &question.series {
            let Some(numbers) = &mut numbers else {
                known.push(None);
                continue;
            };
            let id = numbers.query_row([machine, item], |row| row.get(0)).optional()?;
            let id = id.or_else(|| buffer.fresh(machine, item));
            known.push(id.map(|id| (id, buffer.packed(id, frame.begin_ms, frame.end_ms()))));
        }
        drop(numbers);
        let horizon_ms = place.horizon_ms.unwrap_or(i64::MIN);
        Ok(Look { database, frame, horizon_ms, known })
    }
}

impl Look {
    fn curve<'c>(
        &'c self,
        place: usize,
        rows: &mut Rows<'c>,
        frame: &Frame,
        now_ms: Option<i64>,
    ) -> Result<Option<Vec<Option<Step>>>, Trouble> {
        let Some(Some((series, packed))) = self.known.get(place) else { return Ok(None) };
        let mut steps = Stretches::new(frame.begin_ms, frame.step_ms, frame.count);
        if let Some(database) = &self.database {
            let (series, horizon_ms) = (*series, self.horizon_ms);
            Reading { database, series, packed, frame, horizon_ms }.fold(rows, &mut steps)?;
        }
        let step = |(place, sum): (i64, &Sum)| {
            let begin = frame.begin_ms + place * frame.step_ms;
            // What a clock that ran ahead left in a step to come is held against all of it.
            let passed = now_ms.map_or(i64::MAX, |now| now - begin);
            step(sum, if passed > 0 { frame.step_ms.min(passed) } else { frame.step_ms })
        };
        Ok(Some((0..).zip(&steps.sums).map(step).collect()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a thousand years fit")]
fn step(sum: &Sum, elapsed_ms: i64) -> Option<Step> {
    if sum.is_empty() {
        return None;
    }
    let coverage = (sum.known_ms as f64 / elapsed_ms as f64).min(1.0);
    let coverage = (coverage * 1e4).round() / 1e4;
    let (min, max, last) = (sum.least, sum.greatest, sum.last);
    Some(Step { min, max, mean: sum.mean(), last, coverage })
}

/// The rows of roll-ups of a group, open, for most questions are about several series of it. At
/// most 85, those of minutes: longer stretches are made from hours.
#[derive(Default)]
struct Rows<'c> {
    group: Option<i64>,
    open: Vec<Stored<'c>>,
    /// Days whose roll-up does not know everything.
    pending: Vec<i64>,
}

impl<'c> Rows<'c> {
    /// Opens those of a group that a frame is made from.
    fn turn_to(
        &mut self,
        database: &'c Connection,
        (group, level): (i64, Level),
        days: &RangeInclusive<i64>,
    ) -> Result<(), Trouble> {
        if self.group == Some(group) {
            return Ok(());
        }
        *self = Self::default();
        let (first, last) = (*days.start(), *days.end());
        let sql = "SELECT day FROM pending WHERE grp = ?1 AND day BETWEEN ?2 AND ?3";
        let mut statement = database.prepare(sql)?;
        let days = statement.query_map([group, first, last], |row| row.get(0))?;
        self.pending = days.collect::<Result<_, _>>()?;
        let sql = "SELECT id FROM rollup WHERE level = ?1 AND grp = ?2 AND start BETWEEN ?3 AND ?4";
        let mut statement = database.prepare(sql)?;
        let ids = statement
            .query_map([level as i64, group, level.row_of(first), last], |row| row.get(0))?;
        for id in ids {
            self.open.extend(whole(Stored::open(database, "rollup", id?))?);
        }
        self.group = Some(group);
        Ok(())
    }
}

/// One series being read.
struct Reading<'a, 'c> {
    database: &'c Connection,
    series: i64,
    packed: &'a [Packed],
    frame: &'a Frame,
    horizon_ms: i64,
}

impl<'c> Reading<'_, 'c> {
    fn fold(&self, rows: &mut Rows<'c>, steps: &mut Stretches) -> Result<(), Trouble> {
        let (begin, end) = (self.frame.begin_ms, self.frame.end_ms());
        let days = stretch_of(begin + 1, DAY_MS)..=stretch_of(end, DAY_MS);
        let Some(level) = self.frame.level else {
            for day in days {
                self.fold_samples(day, steps)?;
            }
            return Ok(());
        };
        rows.turn_to(self.database, (self.group(), level), &days)?;
        let open = self.open_days(&rows.pending, &days);
        self.fold_slots(level, rows, &open, steps)?;
        for day in open {
            if day * DAY_MS < self.horizon_ms {
                self.fold_given_up(level.min(Level::Hour), day, steps)?;
            }
            if level >= Level::Hour {
                self.fold_digests(day, steps)?;
            } else {
                self.fold_samples(day, steps)?;
            }
        }
        Ok(())
    }

    /// Days whose roll-up does not know everything of this series.
    fn open_days(&self, pending: &[i64], days: &RangeInclusive<i64>) -> Vec<i64> {
        let waiting = self.packed.iter().map(|packed| stretch_of(packed.begin_ms(), DAY_MS));
        let mut open = pending.to_vec();
        open.extend(waiting.filter(|day| days.contains(day)));
        open.retain(|day| (day + 1) * DAY_MS > self.horizon_ms);
        open.sort_unstable();
        open.dedup();
        open
    }

    fn group(&self) -> i64 {
        group_of(self.series).0
    }

    fn index(&self) -> u8 {
        group_of(self.series).1
    }

    fn fold_slots(
        &self,
        level: Level,
        rows: &mut Rows<'c>,
        open: &[i64],
        steps: &mut Stretches,
    ) -> Result<(), Trouble> {
        for row in &mut rows.open {
            let Some(entry) = row.header.entry(self.index()).copied() else { continue };
            let begin_ms = row.header.begin_ms;
            let Some(slots) = whole(row.slots(&entry, false))? else { continue };
            for (number, sum) in slots {
                let slot_end = begin_ms + (number + 1) * level.width_ms();
                if slot_end > self.frame.begin_ms && !open.contains(&stretch_of(slot_end, DAY_MS)) {
                    steps.add(slot_end, &Sum { last_at: slot_end, ..sum });
                }
            }
        }
        Ok(())
    }

    /// The hours of an open day whose samples are gone: they are in its roll-up alone.
    fn fold_given_up(&self, level: Level, day: i64, steps: &mut Stretches) -> Result<(), Trouble> {
        let sql = "SELECT id FROM rollup WHERE level = ?1 AND grp = ?2 AND start = ?3";
        let place = [level as i64, self.group(), level.row_of(day)];
        let id = self.database.query_row(sql, place, |row| row.get(0)).optional()?;
        let Some(id) = id else { return Ok(()) };
        let Some(mut row) = whole(Stored::open(self.database, "rollup", id))? else {
            return Ok(());
        };
        let Some(entry) = row.header.entry(self.index()).copied() else { return Ok(()) };
        let begin_ms = row.header.begin_ms;
        let Some(slots) = whole(row.slots(&entry, false))? else { return Ok(()) };
        for (number, sum) in slots {
            let slot_end = begin_ms + (number + 1) * level.width_ms();
            let gone = slot_end <= self.horizon_ms && stretch_of(slot_end, DAY_MS) == day;
            if gone && slot_end > self.frame.begin_ms {
                steps.add(slot_end, &Sum { last_at: slot_end, ..sum });
            }
        }
        Ok(())
    }

    /// A day by the digests of its hours; what is no hour alone is read.
    fn fold_digests(&self, day: i64, steps: &mut Stretches) -> Result<(), Trouble> {
        let found = rows(self.database, self.group(), day * DAY_HOURS, (day + 1) * DAY_HOURS)?;
        for Found { id, span, start, .. } in found {
            let Some(mut row) = whole(Stored::open(self.database, "chunk", id))? else { continue };
            let Some(entry) = row.header.entry(self.index()).copied() else { continue };
            if span == 1 {
                steps.add((start + 1) * HOUR_MS, &entry.digest);
            } else if let Some(samples) = whole(row.samples(&entry))? {
                steps.fold(&samples, entry.period_ms, None);
            }
        }
        for packed in self.packed.iter().filter(|it| stretch_of(it.begin_ms(), DAY_MS) == day) {
            let mut samples = packed.unpack();
            samples.sort();
            steps.fold(&samples, packed.period_ms, None);
        }
        Ok(())
    }

    /// A day by its samples, as far as they can stand for something in the frame.
    fn fold_samples(&self, day: i64, steps: &mut Stretches) -> Result<(), Trouble> {
        let found = rows(self.database, self.group(), day * DAY_HOURS, (day + 1) * DAY_HOURS)?;
        let (mut samples, mut period_ms) = (Samples::default(), 1);
        for Found { id, start, span, .. } in found {
            let Some(mut row) = whole(Stored::open(self.database, "chunk", id))? else { continue };
            let Some(entry) = row.header.entry(self.index()).copied() else { continue };
            let reach = reach_ms(entry.period_ms);
            let begins = start * HOUR_MS - reach < self.frame.end_ms();
            let ends = (start + span) * HOUR_MS + reach > self.frame.begin_ms;
            if begins
                && ends
                && let Some(part) = whole(row.samples(&entry))?
            {
                samples.append(&part);
            }
            period_ms = entry.period_ms;
        }
        for packed in self.packed.iter().filter(|it| stretch_of(it.begin_ms(), DAY_MS) == day) {
            samples.append(&packed.unpack());
            period_ms = packed.period_ms;
        }
        samples.sort();
        // What is gone stands for the time before the horizon, the first that is there does not.
        let near = |at: &&i64| (1..=period_ms).contains(&at.saturating_sub(self.horizon_ms));
        let before = samples.times.first().filter(near).map(|_| self.horizon_ms);
        steps.fold(&samples, period_ms, before);
        Ok(())
    }
}

/// Passes over what is damaged: the steps show it as not known, and the next merge counts it.
pub(super) fn whole<T>(read: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Trouble::Row(row)) => {
            tracing::debug!(row, "a row of history is damaged");
            Ok(None)
        }
        Err(trouble) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(from_ms: i64, to_ms: i64, steps: usize) -> Frame {
        let question = Question { from_ms, to_ms, steps, series: Vec::new() }.bounded();
        Frame::of(&question, &Place::default())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Whatever is asked: the stretch is covered by at most as many steps as were asked for, of
        /// which each begins with what it is made from.
        #[test]
        fn no_question_takes_more_steps_than_it_asks_for(
            from_ms in prop_oneof![any::<i64>(), -2_i64..3, 0..LATEST_MS],
            span_ms in prop_oneof![any::<i64>(), 1..3_600_000_i64, 1..SPAN_MAX_MS],
            steps in prop_oneof![1..=STEPS_MAX, 1..4_usize],
        ) {
            let to_ms = from_ms.saturating_add(span_ms);
            let got = frame(from_ms, to_ms, steps);
            let from_ms = from_ms.clamp(EARLIEST_MS, LATEST_MS - 1);
            let to_ms = to_ms.clamp(from_ms + 1, LATEST_MS);
            prop_assert!((1..=steps).contains(&got.count), "{:?}", got);
            prop_assert!(got.begin_ms <= from_ms && to_ms <= got.end_ms(), "{:?}", got);
            prop_assert!(from_ms - got.begin_ms < got.step_ms, "{:?}", got);
            prop_assert!(got.end_ms() - to_ms < got.step_ms, "{:?}", got);
            let unit = got.level.map_or(1, Level::width_ms);
            prop_assert!(got.begin_ms % unit == 0 && got.step_ms % unit == 0, "{:?}", got);
        }
    }

    #[test]
    fn one_step_over_the_begin_of_time_is_one_step() {
        let got = frame(-1, 1_790_000_000_000, 1);
        assert_eq!((got.begin_ms, got.count), (0, 1));
        // Days counted from 1970 by 90, 91 and 92 all have an edge in it.
        let got = frame(1_790_000_000_000, 1_790_000_000_000 + 90 * 86_400_000, 1);
        assert_eq!((got.count, got.step_ms), (1, 91 * 86_400_000));
    }

    #[test]
    fn edges_stay_where_they_are_while_a_window_moves() {
        let edge = |from_ms: i64| {
            let got = frame(from_ms, from_ms + 86_400_000, 500);
            (got.begin_ms % got.step_ms, got.step_ms)
        };
        for minute in 0..50 {
            assert_eq!(edge(1_790_000_000_000 + minute * 61_007), (0, 180_000));
        }
    }
}
