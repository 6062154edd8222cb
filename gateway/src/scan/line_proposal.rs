//! The piece of configuration that follows from what was found. It is a proposal: whatever is
//! doubtful is a comment that says what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::fingerprint::Candidate;
use super::serial::{Finding, Format, Station};

/// Buses and sources for what was found; `port` as it should be written.
pub fn line_proposal(port: &Path, found: &[Finding]) -> String {
    let mut text = String::new();
    let mut counts: BTreeMap<(u32, char), usize> = BTreeMap::new();
    for finding in found.iter().filter(|finding| !finding.collision) {
        *counts.entry((finding.format.baud, finding.format.parity)).or_default() += 1;
    }
    let main = counts.iter().max_by_key(|&(format, count)| (*count, *format));
    let Some((&(baud, parity), _)) = main else {
        text.push_str("# Nothing answers that could be configured.\n");
        collisions(&mut text, found);
        return text;
    };
    let main = Format { baud, parity };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[bus.line]\ntype = \"modbus-rtu\"\nport = \"{}\"", port.display());
    let _ = writeln!(text, "baud = {baud}\nparity = \"{}\"", main.parity_word());
    let whole = found.iter().filter(|finding| !finding.collision);
    let (on_it, others): (Vec<_>, Vec<_>) = whole.partition(|finding| finding.format == main);
    for finding in on_it {
        text.push('\n');
        text.push_str(&source(finding));
    }
    for finding in others {
        let _ = writeln!(
            text,
            "\n# At {}: one line has one speed. Set it to {main}, or give it a line of its own.",
            finding.format
        );
        for line in source(finding).lines() {
            let _ = writeln!(text, "# {line}");
        }
    }
    collisions(&mut text, found);
    text
}

fn collisions(text: &mut String, found: &[Finding]) {
    for finding in found.iter().filter(|finding| finding.collision) {
        let _ = match &finding.station {
            Some(Station::Unit(unit)) => writeln!(
                text,
                "\n# Unit {unit} at {}: answers are garbled again and again. Two devices have this \
                 address: take one off,\n# give the other a new one (andon meter set-address), and \
                 scan again.",
                finding.format
            ),
            Some(Station::Meter(label)) => writeln!(
                text,
                "\n# Meter {label} at {}: answers are garbled again and again.",
                finding.format
            ),
            None => writeln!(
                text,
                "\n# At {} several DL/T 645 meters answer at once: write the address on each label \
                 into a source.",
                finding.format
            ),
        };
    }
}

fn source(finding: &Finding) -> String {
    let (id, address) = match &finding.station {
        Some(Station::Unit(unit)) => (format!("unit-{unit}"), format!("unit_id = {unit}")),
        Some(Station::Meter(label)) => (format!("meter-{label}"), format!("address = \"{label}\"")),
        None => return String::new(),
    };
    let profile = match finding.candidates.split_first() {
        None => {
            "# profile = \"…\"  # it answers, but fits no profile: look at its label".to_owned()
        }
        Some((best, [])) => fits(best),
        Some((best, rest)) if best.more_phases && rest.iter().all(|it| !it.more_phases) => {
            format!(
                "{}; so does {}, but it has more than one phase",
                fits(best),
                rest.iter().map(|it| &*it.profile).collect::<Vec<_>>().join(", ")
            )
        }
        Some((best, _)) => {
            // A meter with more than one phase is none of one.
            let fitting = finding.candidates.iter().filter(|it| it.more_phases == best.more_phases);
            let each = fitting.map(|it| format!("\n# {}", fits(it)));
            let each: String = each.collect();
            format!(
                "# Several profiles fit: look at its label, and keep the line that is right.{each}"
            )
        }
    };
    format!("[source.{id}]\nbus = \"line\"\n{address}\n{profile}\n")
}

fn fits(candidate: &Candidate) -> String {
    format!("profile = \"{}\"  # fits {:.0} %", candidate.profile, candidate.score * 100.0)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_doubtful_is_a_comment() {
        let format = |baud, parity| Format { baud, parity };
        let finding = |format, station, collision, profiles: &[(&str, f64)]| Finding {
            format,
            station,
            collision,
            candidates: profiles
                .iter()
                .map(|&(profile, score)| Candidate {
                    profile: profile.to_owned(),
                    score,
                    more_phases: profile.ends_with("630"),
                })
                .collect(),
        };
        let (slow, fast) = (format(2400, 'E'), format(9600, 'N'));
        let unit = |unit| Some(Station::Unit(unit));
        let both = [("eastron/sdm120", 0.9), ("eastron/sdm230", 0.9)];
        let phases = [("eastron/sdm630", 0.92), ("eastron/sdm120", 0.92)];
        let found = [
            finding(
                slow,
                Some(Station::Meter("181219024435".into())),
                false,
                &[("dlt645/single-phase", 0.88)],
            ),
            finding(fast, unit(1), false, &both),
            finding(fast, unit(2), true, &[]),
            finding(fast, unit(3), false, &phases),
            finding(fast, unit(7), false, &[]),
            finding(slow, None, true, &[]),
        ];
        expect![[r#"
            [bus.line]
            type = "modbus-rtu"
            port = "/dev/serial/by-id/usb-A"
            baud = 9600
            parity = "none"

            [source.unit-1]
            bus = "line"
            unit_id = 1
            # Several profiles fit: look at its label, and keep the line that is right.
            # profile = "eastron/sdm120"  # fits 90 %
            # profile = "eastron/sdm230"  # fits 90 %

            [source.unit-3]
            bus = "line"
            unit_id = 3
            profile = "eastron/sdm630"  # fits 92 %; so does eastron/sdm120, but it has more than one phase

            [source.unit-7]
            bus = "line"
            unit_id = 7
            # profile = "…"  # it answers, but fits no profile: look at its label

            # At 2400 8E1: one line has one speed. Set it to 9600 8N1, or give it a line of its own.
            # [source.meter-181219024435]
            # bus = "line"
            # address = "181219024435"
            # profile = "dlt645/single-phase"  # fits 88 %

            # Unit 2 at 9600 8N1: answers are garbled again and again. Two devices have this address: take one off,
            # give the other a new one (andon meter set-address), and scan again.

            # At 2400 8E1 several DL/T 645 meters answer at once: write the address on each label into a source.
        "#]]
        .assert_eq(&line_proposal(Path::new("/dev/serial/by-id/usb-A"), &found));
        assert!(line_proposal(Path::new("/dev/x"), &[]).starts_with("# Nothing answers"));
    }
}
