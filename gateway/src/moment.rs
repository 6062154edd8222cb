//! Moments as people write them, on the command line and in questions to the API.

use anyhow::Context as _;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A moment: RFC 3339, a local date or date and time of `zone`, `-24h` for that long before `now`,
/// or `now`.
///
/// # Errors
/// When it is none of these; the message names them.
pub fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> anyhow::Result<Timestamp> {
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-') {
        // Hours are hours; days are the zone's, 23 to 25 hours long.
        let ago: Span = ago.parse().with_context(|| format!("{text:?} as `-24h`"))?;
        return Ok(now.to_zoned_datetime(zone.clone()).checked_sub(ago)?.timestamp());
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    // A date is its first moment there, which is not midnight everywhere.
    let local = match text.parse::<Date>() {
        Ok(date) if text.len() <= "2026-01-01".len() => date.to_datetime(jiff::civil::Time::MIN),
        Ok(_) | Err(_) => text.parse::<DateTime>().with_context(|| {
            format!(
                "{text:?} is none of 2026-01-31, 2026-01-31T08:00, 2026-01-31T08:00Z, -24h, now"
            )
        })?,
    };
    Ok(zone.to_timestamp(local)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

    fn read(text: &str) -> String {
        let zone = TimeZone::get("Europe/Vienna").unwrap();
        moment(text, NOW, &zone).map_or_else(|error| error.to_string(), |at| at.to_string())
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let texts = [
            "now",
            "-24h",
            "-7d",
            "2026-07-01",
            "2026-07-01T08:30",
            "2026-07-01T08:30:00Z",
            "2026-07-01T08:30:00+08:00",
            "2026-03-29T02:30",
            "yesterday",
            "-x",
        ];
        let read: Vec<_> = texts.iter().map(|text| format!("{text} = {}", read(text))).collect();
        expect![[r#"
            now = 2026-09-21T14:13:20Z
            -24h = 2026-09-20T14:13:20Z
            -7d = 2026-09-14T14:13:20Z
            2026-07-01 = 2026-06-30T22:00:00Z
            2026-07-01T08:30 = 2026-07-01T06:30:00Z
            2026-07-01T08:30:00Z = 2026-07-01T08:30:00Z
            2026-07-01T08:30:00+08:00 = 2026-07-01T00:30:00Z
            2026-03-29T02:30 = 2026-03-29T01:30:00Z
            yesterday = "yesterday" is none of 2026-01-31, 2026-01-31T08:00, 2026-01-31T08:00Z, -24h, now
            -x = "-x" as `-24h`"#]]
        .assert_eq(&read.join("\n"));
    }

    #[test]
    fn moments_beyond_all_calendars_are_refused_and_those_at_their_edges_are_read() {
        for text in [
            "-9223372036854775807h",
            "-99999999999999999999s",
            "-19998y",
            "10000-01-01",
            "9999-12-31",
            "99999999999999999999",
        ] {
            assert!(moment(text, NOW, &TimeZone::UTC).is_err(), "{text}: {}", read(text));
        }
        for text in ["9999-12-30", "0001-01-01", "-1999y", "-0h"] {
            assert!(moment(text, NOW, &TimeZone::UTC).is_ok(), "{text}: {}", read(text));
        }
    }
}
