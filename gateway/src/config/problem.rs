//! What is wrong with a configuration, for a person: where, what, and what to do about it.
//!
//! A [`Report`] collects problems instead of stopping at the first. It holds at most
//! [`PROBLEMS_MAX`]; what is beyond is counted and said.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

/// Most problems of one report: nobody reads further, and a broken file cannot grow it.
pub(super) const PROBLEMS_MAX: usize = 500;

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, with the folder as it was given; or the environment variable.
    pub file: Arc<str>,
    /// 1-based line; 0 when the problem has none (an environment variable, an unreadable file).
    pub line: usize,
    /// The key, `machine.laser.items`; empty when it is the whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The text at fault and the bytes of it that the message is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// A line of a value and the bytes of it that are at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line, without its end.
    pub text: String,
    /// The bytes of `text` at fault; may be empty, and then lies where something is missing.
    pub span: Range<usize>,
}

impl Excerpt {
    /// The line of `text` in which `span` begins. Spans outside the text are moved into it.
    pub fn of(text: &str, span: &Range<usize>) -> Self {
        let floor = |at: usize| {
            let at = at.min(text.len());
            (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
        };
        let start = floor(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor(span.end).clamp(start, line_end);
        Self {
            text: text[line_start..line_end].to_owned(),
            span: start - line_start..end - line_start,
        }
    }
}

impl fmt::Display for Problem {
    /// `/etc/andon/conf.d/laser.toml:12: machine.laser.item: unknown key`, then excerpt and hint, each on
    /// lines of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(Excerpt { text, span }) = &self.excerpt {
            let before = text[..span.start].chars().count();
            let marked = text[span.clone()].chars().count().max(1);
            write!(f, "\n  | {text}\n  | {:before$}{:^<marked$}", "", "")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file or environment variable.
    pub(super) file: Arc<str>,
    /// 1-based line; 0 without one.
    pub(super) line: usize,
}

/// Collects problems and warnings.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    beyond: Cell<usize>,
}

impl Report {
    /// Adds a problem; counts it only, beyond [`PROBLEMS_MAX`].
    pub(super) fn add(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            problems.push(problem);
        } else {
            self.beyond.set(self.beyond.get() + 1);
        }
    }

    /// Adds something that works but that a person should know.
    pub(super) fn warn(&self, warning: Problem) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < PROBLEMS_MAX {
            warnings.push(warning);
        }
    }

    /// The problems in the order of `files`, then lines; and the warnings likewise. Those of other
    /// files, the profiles, come first: what is missing because of them follows.
    pub(super) fn into_sorted(self, files: &[Arc<str>]) -> (Vec<Problem>, Vec<Problem>) {
        let rank = |problem: &Problem| {
            let file = files.iter().position(|file| *file == problem.file);
            (file.map_or(0, |file| file + 1), problem.file.clone(), problem.line)
        };
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(rank);
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(rank);
        if self.beyond.get() > 0 {
            problems.push(Problem {
                file: "andon".into(),
                line: 0,
                key: String::new(),
                message: format!("and {} more problems", self.beyond.get()),
                hint: None,
                excerpt: None,
            });
        }
        (problems, warnings)
    }
}

/// The likest of `candidates` to what was written, in the words of a hint.
pub(crate) fn did_you_mean<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    /// Below this likeness a hint would mislead.
    const LIKENESS: f64 = 0.75;
    /// Nobody mistypes more than this; comparing is quadratic.
    const BYTES_MAX: usize = 64;
    if written.len() > BYTES_MAX {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(written, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, first), (b, second)| a.total_cmp(b).then_with(|| second.cmp(first)))
        .map(|(_, candidate)| format!("did you mean \"{candidate}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_fault_whatever_the_script() {
        let text = "first\n温度 > 60 W\nlast";
        let at = text.find('W').unwrap();
        let problem = Problem {
            file: "a.toml".into(),
            line: 3,
            key: "rule.hot.when".into(),
            message: "wrong".into(),
            hint: Some("write °C".into()),
            excerpt: Some(Excerpt::of(text, &(at..at + 1))),
        };
        assert_eq!(
            problem.to_string(),
            "a.toml:3: rule.hot.when: wrong\n  | 温度 > 60 W\n  |         ^\n  hint: write °C"
        );
    }

    #[test]
    fn spans_from_elsewhere_do_no_harm() {
        let reversed = Range { start: 5, end: 3 };
        for span in [0..0, 1..2, reversed, 90..99, 0..99] {
            let excerpt = Excerpt::of("°C\n°", &span);
            assert!(excerpt.text.get(excerpt.span.clone()).is_some(), "{span:?}");
        }
    }

    #[test]
    fn a_report_is_bounded_and_says_so() {
        let report = Report::default();
        let problem = Problem {
            file: "a".into(),
            line: 1,
            key: String::new(),
            message: String::new(),
            hint: None,
            excerpt: None,
        };
        for _ in 0..PROBLEMS_MAX + 3 {
            report.add(problem.clone());
        }
        let (problems, _) = report.into_sorted(&[]);
        assert_eq!(problems.len(), PROBLEMS_MAX + 1);
        assert_eq!(problems[PROBLEMS_MAX].message, "and 3 more problems");
    }
}
