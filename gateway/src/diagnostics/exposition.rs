//! The text format of Prometheus, version 0.0.4: families of samples with labels.
//!
//! It knows the format and no metric. Label values are whatever a configuration or a device says, so
//! they are escaped: backslash, quote and line feed, as the format has it; names are ours.

use std::fmt::Write as _;

/// The content type of what [`Exposition::into_text`] returns.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word of the format.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A text that grows by one family after another.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Adds a family of `samples`, each with the values of `labels`; a family without samples is
    /// left out, because what is not known is absent.
    pub fn family<const N: usize>(
        &mut self,
        (name, kind, help): (&str, Kind, &str),
        labels: [&str; N],
        samples: impl IntoIterator<Item = ([String; N], f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        escape(&mut self.text, help, false);
        // Writing to a String cannot fail.
        writeln!(self.text, "\n# TYPE {name} {}", kind.word()).ok();
        for (values, value) in samples {
            self.text.push_str(name);
            for (n, (label, said)) in labels.iter().zip(&values).enumerate() {
                self.text.push(if n == 0 { '{' } else { ',' });
                self.text.push_str(label);
                self.text.push_str("=\"");
                escape(&mut self.text, said, true);
                self.text.push('"');
            }
            self.text.push_str(if N > 0 { "} " } else { " " });
            number(&mut self.text, value);
            self.text.push('\n');
        }
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            letter => out.push(letter),
        }
    }
}

fn number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write!(out, "{value}").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by hand after "Text format details" of the Prometheus documentation.
    #[test]
    fn label_values_and_help_are_escaped_and_empty_families_left_out() {
        let mut text = Exposition::default();
        let nasty = "C:\\DIR\\FILE\n\"quoted\" {}=, 激光".to_owned();
        let about = ("andon_x_total", Kind::Counter, "Back\\slash and\nline, \"plain\".");
        text.family(about, ["bus", "source"], [([nasty, String::new()], 3.0)]);
        text.family(("andon_none", Kind::Gauge, "Nothing."), [], []);
        text.family(("andon_up", Kind::Gauge, "Up."), [], [([], 0.25)]);
        assert_eq!(
            text.into_text(),
            "# HELP andon_x_total Back\\\\slash and\\nline, \"plain\".\n\
             # TYPE andon_x_total counter\n\
             andon_x_total{bus=\"C:\\\\DIR\\\\FILE\\n\\\"quoted\\\" {}=, 激光\",source=\"\"} 3\n\
             # HELP andon_up Up.\n# TYPE andon_up gauge\nandon_up 0.25\n"
        );
    }

    #[test]
    fn numbers_that_are_none_have_the_words_of_the_format() {
        let mut text = String::new();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e21, 0.001] {
            number(&mut text, value);
            text.push(' ');
        }
        assert_eq!(text, "NaN +Inf -Inf 1000000000000000000000 0.001 ");
    }
}
