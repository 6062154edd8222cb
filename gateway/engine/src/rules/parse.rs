//! From the text of a condition to its operations, checked against the plan on the way.

use std::ops::Range;

use crate::event::{Activity, Execution};
use crate::item::{Item, Kind};
use crate::plan::{ItemIndex, MachineIndex, Plan};
use crate::unit::{QuantityError, Unit, parse_as};

use super::condition::{Condition, Operation, Relation};
use super::{DEPTH_MAX, NODES_MAX, RuleProblem, TEXT_MAX};

/// Below this likeness a hint would mislead.
const LIKENESS: f64 = 0.8;

/// Parses and checks one condition. `analog` comes back true when it compares a measured
/// quantity, which flickers around its limit.
pub(super) fn condition(
    key: &'static str,
    text: &str,
    home: MachineIndex,
    plan: &Plan,
) -> Result<(Condition, bool), RuleProblem> {
    if text.len() > TEXT_MAX {
        let message =
            format!("a condition of {} bytes; at most {TEXT_MAX} are allowed", text.len());
        return Err(RuleProblem { key, span: 0..0, message, hint: None });
    }
    let mut parser = Parser { key, text, at: 0, home, plan, operations: Vec::new(), analog: false };
    parser.any(0)?;
    match parser.next()? {
        (Token::End, _) => Ok((Condition::new(parser.operations), parser.analog)),
        (_, span) => Err(parser.problem(
            span,
            "nothing more was expected here",
            Some("join conditions with \"and\" or \"or\""),
        )),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    /// A number with what follows it directly or after blanks: `60 °C`.
    Quantity(&'a str),
    Relation(Relation),
    Open,
    Close,
    End,
}

struct Parser<'a> {
    key: &'static str,
    text: &'a str,
    at: usize,
    home: MachineIndex,
    plan: &'a Plan,
    operations: Vec<Operation>,
    analog: bool,
}

impl<'a> Parser<'a> {
    fn problem(&self, span: Range<usize>, message: &str, hint: Option<&str>) -> RuleProblem {
        RuleProblem { key: self.key, span, message: message.into(), hint: hint.map(Into::into) }
    }

    /// `a or b or c`
    fn any(&mut self, depth: usize) -> Result<(), RuleProblem> {
        self.all(depth)?;
        while self.take_word("or")? {
            self.all(depth)?;
            self.push(Operation::Or)?;
        }
        Ok(())
    }

    /// `a and b and c`
    fn all(&mut self, depth: usize) -> Result<(), RuleProblem> {
        self.one(depth)?;
        while self.take_word("and")? {
            self.one(depth)?;
            self.push(Operation::And)?;
        }
        Ok(())
    }

    fn one(&mut self, depth: usize) -> Result<(), RuleProblem> {
        let (token, span) = self.next()?;
        if depth >= DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX}");
            return Err(self.problem(span, &message, None));
        }
        match token {
            Token::Word("not") => {
                self.one(depth + 1)?;
                self.push(Operation::Not)
            }
            Token::Open => {
                self.any(depth + 1)?;
                match self.next()? {
                    (Token::Close, _) => Ok(()),
                    (_, end) => Err(self.problem(end, "a \")\" is missing here", None)),
                }
            }
            Token::Word(word) => self.comparison(word, span),
            _ => Err(self.problem(
                span,
                "an item, \"execution\", \"activity\", \"not\" or \"(\" belongs here",
                None,
            )),
        }
    }

    /// `name`, `name > 60 °C`, `execution == running`
    fn comparison(&mut self, name: &'a str, span: Range<usize>) -> Result<(), RuleProblem> {
        let (machine, rest) = self.machine_of(name);
        match rest {
            "execution" => {
                let (equal, word, at) = self.state()?;
                let execution = word_of(&Execution::ALL, Execution::word, word)
                    .map_err(|hint| self.problem(at, "this is no execution state", Some(&hint)))?;
                self.push(Operation::Execution(machine, execution))?;
                if equal { Ok(()) } else { self.push(Operation::Not) }
            }
            "activity" => {
                let (equal, word, at) = self.state()?;
                let activity = word_of(&Activity::ALL, Activity::word, word)
                    .map_err(|hint| self.problem(at, "this is no activity", Some(&hint)))?;
                self.push(Operation::Activity(machine, activity))?;
                if equal { Ok(()) } else { self.push(Operation::Not) }
            }
            _ => {
                let (index, item) = self.item(machine, rest, &span)?;
                self.item_comparison(index, &item, span)
            }
        }
    }

    fn item_comparison(
        &mut self,
        index: ItemIndex,
        item: &Item,
        span: Range<usize>,
    ) -> Result<(), RuleProblem> {
        let before = self.at;
        let (token, relation_span) = self.next()?;
        let Token::Relation(relation) = token else {
            self.at = before;
            return match item.kind {
                Kind::Flag => self.push(Operation::Flag(index)),
                _ => {
                    let message = format!("{} is a quantity; compare it with one", item.name);
                    let hint = format!("{} > 1 {}", item.name, item.unit.written());
                    Err(self.problem(span, &message, Some(hint.trim_end())))
                }
            };
        };
        match item.kind {
            Kind::Flag => {
                let message = format!("{} is on or off; it is not compared", item.name);
                let hint = format!("\"{}\" or \"not {}\"", item.name, item.name);
                return Err(self.problem(relation_span, &message, Some(&hint)));
            }
            Kind::Text => {
                return Err(self.problem(relation_span, "words cannot be compared", None));
            }
            Kind::Gauge | Kind::Counter => {}
        }
        let (token, span) = self.next()?;
        let Token::Quantity(text) = token else {
            let message = format!("a quantity in {} belongs here", unit_words(item.unit));
            return Err(self.problem(span, &message, None));
        };
        let limit = self.limit(text, item, &span)?;
        self.analog |= item.kind == Kind::Gauge;
        self.push(Operation::Compare(index, relation, limit))
    }

    fn limit(&self, text: &str, item: &Item, span: &Range<usize>) -> Result<f64, RuleProblem> {
        let limit = parse_as(text, item.unit).map_err(|error| {
            let hint = match &error {
                QuantityError::WrongUnit { .. } | QuantityError::UnknownUnit(_) => {
                    Some(format!("{} is measured in {}", item.name, unit_words(item.unit)))
                }
                QuantityError::NotANumber(_) | QuantityError::NoUnit(..) => None,
            };
            self.problem(span.clone(), &error.to_string(), hint.as_deref())
        })?;
        if limit < item.least || limit > item.greatest {
            let message = format!("{} never reaches this", item.name);
            let hint = format!(
                "it is believed between {} and {} {}",
                item.least, item.greatest, item.unit
            );
            return Err(self.problem(span.clone(), &message, Some(hint.trim_end())));
        }
        Ok(limit)
    }

    /// Splits `machine.item`; a name without a machine's id in front is the rule's own machine's.
    fn machine_of(&self, name: &'a str) -> (MachineIndex, &'a str) {
        if let Some((first, rest)) = name.split_once('.') {
            let position = self.plan.machines.iter().position(|machine| &*machine.id == first);
            if let Some(index) = position.and_then(|position| u16::try_from(position).ok()) {
                return (MachineIndex(index), rest);
            }
        }
        (self.home, name)
    }

    fn item(
        &self,
        machine: MachineIndex,
        name: &str,
        span: &Range<usize>,
    ) -> Result<(ItemIndex, Item), RuleProblem> {
        let of_machine =
            || self.plan.items.iter().enumerate().filter(|(_, item)| item.machine == machine);
        let found = of_machine().find(|(_, item)| &*item.item.name == name);
        if let Some((index, item)) = found {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            return Ok((ItemIndex(index), item.item.clone()));
        }
        let id = &self.plan.machines[usize::from(machine.0)].id;
        let message = format!("{id} has no item {name}");
        let words = of_machine().map(|(_, item)| item.item.name.to_string());
        let words = words.chain(["execution".to_owned(), "activity".to_owned()]);
        let hint = nearest(name, words).map(|nearest| format!("did you mean \"{nearest}\"?"));
        Err(self.problem(span.clone(), &message, hint.as_deref()))
    }

    /// `== word` or `!= word`
    fn state(&mut self) -> Result<(bool, &'a str, Range<usize>), RuleProblem> {
        let (token, span) = self.next()?;
        let equal = match token {
            Token::Relation(Relation::Equal) => true,
            Token::Relation(Relation::NotEqual) => false,
            _ => return Err(self.problem(span, "a state is compared with == or !=", None)),
        };
        match self.next()? {
            (Token::Word(word), span) => Ok((equal, word, span)),
            (_, span) => Err(self.problem(span, "the word of a state belongs here", None)),
        }
    }

    fn push(&mut self, operation: Operation) -> Result<(), RuleProblem> {
        if self.operations.len() >= NODES_MAX {
            let message = format!("more than {NODES_MAX} comparisons and operators");
            return Err(self.problem(self.at..self.at, &message, None));
        }
        self.operations.push(operation);
        Ok(())
    }

    fn begins_with_a_machine(&self, rest: &str) -> bool {
        let named = |id: &str| rest.strip_prefix(id).is_some_and(|rest| rest.starts_with('.'));
        self.plan.machines.iter().any(|machine| named(&machine.id))
    }

    fn take_word(&mut self, wanted: &str) -> Result<bool, RuleProblem> {
        let before = self.at;
        let found = self.next()?.0 == Token::Word(wanted);
        if !found {
            self.at = before;
        }
        Ok(found)
    }

    fn next(&mut self) -> Result<(Token<'a>, Range<usize>), RuleProblem> {
        let rest = &self.text[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = &self.text[start..];
        // A machine's id may begin with a digit, as no quantity goes on.
        let (token, length) =
            if self.begins_with_a_machine(rest) { word(rest) } else { token(rest) };
        let span = start..start + length;
        self.at = span.end;
        match token {
            Some(token) => Ok((token, span)),
            None => {
                let hint = (&rest[..length] == "=").then_some("\"==\" compares");
                Err(self.problem(span, "this is no part of a condition", hint))
            }
        }
    }
}

fn word(rest: &str) -> (Option<Token<'_>>, usize) {
    let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let length = rest.find(|c| !part_of_a_word(c)).unwrap_or(rest.len());
    ((length > 0).then(|| Token::Word(&rest[..length])), length)
}

/// The first token of `rest`, which begins with no blank, and its length in bytes.
fn token(rest: &str) -> (Option<Token<'_>>, usize) {
    const SYMBOLS: &[(&str, Token<'_>)] = &[
        ("<=", Token::Relation(Relation::LessOrEqual)),
        (">=", Token::Relation(Relation::GreaterOrEqual)),
        ("==", Token::Relation(Relation::Equal)),
        ("!=", Token::Relation(Relation::NotEqual)),
        ("<", Token::Relation(Relation::Less)),
        (">", Token::Relation(Relation::Greater)),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    let Some(first) = rest.chars().next() else { return (Some(Token::End), 0) };
    if let Some((symbol, token)) = SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
        return (Some(*token), symbol.len());
    }
    let run = |text: &str, is: fn(char) -> bool| text.find(|c| !is(c)).unwrap_or(text.len());
    if first.is_ascii_digit()
        || (first == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
    {
        let mantissa = 1 + run(&rest[1..], |c| c.is_ascii_digit() || c == '.');
        let exponent = rest[mantissa..].strip_prefix(['e', 'E']).map_or(0, |after| {
            let sign = usize::from(after.starts_with(['-', '+']));
            let digits = run(&after[sign..], |c| c.is_ascii_digit());
            if digits > 0 { 1 + sign + digits } else { 0 }
        });
        let number = mantissa + exponent;
        let after = &rest[number..];
        let blank = after.len() - after.trim_start().len();
        let unit = run(&after[blank..], |c| c.is_alphabetic() || "°℃%/".contains(c));
        let length = match &after[blank..blank + unit] {
            "" | "and" | "or" => number,
            _ => number + blank + unit,
        };
        return (Some(Token::Quantity(&rest[..length])), length);
    }
    match word(rest) {
        (None, _) => (None, first.len_utf8()),
        found => found,
    }
}

fn word_of<T: Copy>(all: &[T], word: fn(T) -> &'static str, wanted: &str) -> Result<T, String> {
    all.iter().copied().find(|&state| word(state) == wanted).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|&state| word(state)).collect();
        match nearest(wanted, words.iter().map(|&word| word.to_owned())) {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => format!("one of {}", words.join(", ")),
        }
    })
}

pub(super) fn nearest(wanted: &str, words: impl Iterator<Item = String>) -> Option<String> {
    // A long word is rubbish, and comparing it with many others is slow.
    if wanted.len() > 128 {
        return None;
    }
    words
        .map(|word| (strsim::jaro_winkler(wanted, &word), word))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

fn unit_words(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "plain numbers",
        Unit::Ratio => "ratios (0 to 1) or %",
        unit => unit.symbol(),
    }
}
