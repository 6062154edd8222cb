//! Files and environment, layered: later files override earlier ones, the environment overrides
//! files. The `config` crate merges; beside it, each file's spans are kept, so that every merged
//! value still knows the file and line that it came from.
//!
//! A file with syntax errors contributes what of it can be read: its other problems, and those
//! of the other files, are reported in the same run.
//!
//! Bounds: [`FILES_MAX`] files of [`FILE_BYTES_MAX`] bytes; nesting as the `toml` crate limits it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Config, ConfigError, Environment, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::keys;
use super::node::{Content, Node};
use super::problem::{Place, Problem, Report, did_you_mean};

/// Most files of one configuration.
pub(super) const FILES_MAX: usize = 256;
/// Most bytes of one file: ten thousand sources fit several times.
pub(super) const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What environment variables of andon begin with.
const PREFIX: &str = "ANDON__";

/// The merged configuration.
#[derive(Debug)]
pub(super) struct Layers {
    /// The sections; nothing when no file could be read.
    pub(super) root: Option<Node>,
    /// The files read, in order, as reports name them.
    pub(super) files: Vec<Arc<str>>,
    /// The folder that relative paths and the files' names start from.
    pub(super) folder: PathBuf,
}

/// Where each key was written: the shape of the merged tree, with places instead of values.
#[derive(Debug, Default)]
struct Spans {
    place: Option<Place>,
    order: (usize, usize),
    children: HashMap<String, Spans>,
    elements: Vec<Place>,
}

/// One parsed file, as a layer for the `config` crate.
#[derive(Clone, Debug)]
struct FileLayer(Map<String, Value>);

impl Source for FileLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Reads `path` (a file, or a folder with `andon.toml`), `conf.d/*.toml` beside it in the order
/// of their names, then `environment`.
pub(super) fn read(
    path: &Path,
    environment: impl Iterator<Item = (OsString, OsString)>,
    report: &Report,
) -> Layers {
    let (folder, main) = if path.is_dir() {
        (path.to_owned(), PathBuf::from("andon.toml"))
    } else {
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        (folder, path.file_name().map_or_else(|| path.to_owned(), PathBuf::from))
    };
    let mut builder = Config::builder();
    let mut spans = Spans::default();
    let mut files = Vec::new();
    let mut any = false;
    for (number, name) in names(&folder, main, report).into_iter().enumerate() {
        let file: Arc<str> = folder.join(&name).to_string_lossy().into();
        files.push(file.clone());
        if let Some(text) = text_of(&folder.join(&name), &file, report) {
            any = true;
            builder =
                builder.add_source(FileLayer(parse(&text, &file, number, &mut spans, report)));
        }
    }
    let (variables, names) = variables(environment, report);
    for (key, name) in &names {
        let place = Place { file: format!("environment variable {name}").into(), line: 0 };
        spans.insert(key.split('.'), &place, (usize::MAX, 0));
        files.push(place.file);
    }
    builder = builder.add_source(
        Environment::with_prefix("ANDON")
            .prefix_separator("__")
            .separator("__")
            .source(Some(variables)),
    );
    let here = Place { file: files.first().cloned().unwrap_or_default(), line: 0 };
    let merged = builder.build().map(|merged| merged.cache).unwrap_or_else(|error| {
        report.add(Problem {
            file: here.file.clone(),
            line: 0,
            key: String::new(),
            message: format!("the files cannot be layered: {error}"),
            hint: None,
            excerpt: None,
        });
        Value::new(None, Map::<String, Value>::new())
    });
    Layers { root: any.then(|| spans.node(merged, &here)), files, folder }
}

/// The names of the files to read, relative to `folder`.
fn names(folder: &Path, main: PathBuf, report: &Report) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = fs::read_dir(folder.join("conf.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| Path::new("conf.d").join(entry.file_name()))
        .filter(|name| name.extension().is_some_and(|extension| extension == "toml"))
        .filter(|name| !name.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")))
        .collect();
    parts.sort();
    if parts.len() >= FILES_MAX {
        report.add(Problem {
            file: folder.join("conf.d").to_string_lossy().into(),
            line: 0,
            key: String::new(),
            message: format!("{} files; at most {} are read", parts.len(), FILES_MAX - 1),
            hint: Some("put several machines into one file".to_owned()),
            excerpt: None,
        });
        parts.truncate(FILES_MAX - 1);
    }
    parts.insert(0, main);
    parts
}

/// The text of one file; a problem when it cannot be had.
fn text_of(path: &Path, file: &Arc<str>, report: &Report) -> Option<String> {
    let problem = |message: String, hint: Option<&str>| {
        report.add(Problem {
            file: file.clone(),
            line: 0,
            key: String::new(),
            message,
            hint: hint.map(str::to_owned),
            excerpt: None,
        });
    };
    match fs::metadata(path).and_then(|meta| Ok((meta.len(), fs::read(path)?))) {
        Ok((size, _)) if size > FILE_BYTES_MAX => {
            problem(format!("longer than {FILE_BYTES_MAX} bytes"), None);
            None
        }
        Ok((_, bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                problem(format!("not UTF-8 from byte {at} on"), Some("save it as UTF-8"));
                None
            }
        },
        Err(error) => {
            problem(
                format!("cannot be read: {error}"),
                Some("--config is a file, or a folder with andon.toml in it"),
            );
            None
        }
    }
}

/// Parses one file as far as possible and notes where everything stands.
fn parse(
    text: &str,
    file: &Arc<str>,
    number: usize,
    spans: &mut Spans,
    report: &Report,
) -> Map<String, Value> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut repeated = None;
    for error in errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        if error.message().contains("duplicate key")
            && let Some((header, first, again)) = repeated_section(text, at)
        {
            // Its keys are in error as well; that is not worth saying.
            if repeated.replace(again) != Some(again) {
                report.add(Problem {
                    file: file.clone(),
                    line: lines.line(again),
                    key: String::new(),
                    message: format!(
                        "section {header} is there already, in line {}",
                        lines.line(first)
                    ),
                    hint: Some(
                        "put its keys into one section, or give this one another id".to_owned(),
                    ),
                    excerpt: None,
                });
            }
            continue;
        }
        report.add(Problem {
            file: file.clone(),
            line: lines.line(at),
            key: String::new(),
            message: format!("not TOML: {}", error.message()),
            hint: None,
            excerpt: None,
        });
    }
    let mut layer = Layer { file, number, lines: &lines, report };
    let mut merged = layer.table(table.into_inner(), spans);
    // The `config` crate reads the outermost keys as path expressions, where `a[999999999]`
    // would allocate: none but our own names may reach it.
    merged.retain(|section, _| {
        let known = keys::SECTIONS.contains(&section.as_str());
        if !known {
            layer.unknown_section(section, spans);
        }
        known
    });
    merged
}

/// The section in which the byte `at` is, when there is one of the same name before it: its header,
/// and where the first and this one begin.
fn repeated_section(text: &str, at: usize) -> Option<(&str, usize, usize)> {
    let mut headers = Vec::new();
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        if begin > at {
            break;
        }
        let header = line.trim();
        if header.starts_with('[') && !header.starts_with("[[") {
            headers.push((header.split_inclusive(']').next().unwrap_or(header), begin));
        }
        begin += line.len();
    }
    let (header, again) = headers.pop()?;
    let (_, first) = headers.into_iter().find(|(before, _)| *before == header)?;
    Some((header, first, again))
}

/// Converts one file's tables.
struct Layer<'a> {
    file: &'a Arc<str>,
    number: usize,
    lines: &'a Lines,
    report: &'a Report,
}

impl Layer<'_> {
    fn table(&mut self, table: DeTable<'_>, spans: &mut Spans) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in table {
            let at = key.span().start;
            let key = key.into_inner().into_owned();
            let child = spans.children.entry(key.clone()).or_default();
            let place = Place { file: self.file.clone(), line: self.lines.line(at) };
            let value = value.into_inner();
            // A table stays where it was begun; a value is where it was written last.
            if child.place.is_none() || !matches!(value, DeValue::Table(_)) {
                child.place = Some(place);
                child.order = (self.number, at);
            }
            map.insert(key, self.value(value, child));
        }
        map
    }

    fn value(&mut self, value: DeValue<'_>, spans: &mut Spans) -> Value {
        let origin = self.file.to_string();
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.into_owned()),
            DeValue::Integer(digits) => {
                match i64::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(integer) => ValueKind::I64(integer),
                    // Too long for any key: kept as text, which no key for integers takes.
                    Err(_) => ValueKind::String(digits.as_str().to_owned()),
                }
            }
            DeValue::Float(digits) => {
                digits.as_str().parse().map_or(ValueKind::Nil, ValueKind::Float)
            }
            DeValue::Boolean(flag) => ValueKind::Boolean(flag),
            DeValue::Datetime(moment) => ValueKind::String(moment.to_string()),
            DeValue::Array(elements) => {
                spans.elements.clear();
                let mut array = Vec::with_capacity(elements.len());
                for element in elements {
                    let line = self.lines.line(element.span().start);
                    spans.elements.push(Place { file: self.file.clone(), line });
                    array.push(self.value(element.into_inner(), &mut Spans::default()));
                }
                ValueKind::Array(array)
            }
            DeValue::Table(table) => ValueKind::Table(self.table(table, spans)),
        };
        Value::new(Some(&origin), kind)
    }

    fn unknown_section(&self, section: &str, spans: &Spans) {
        let place = spans.children.get(section).and_then(|child| child.place.as_ref());
        self.report.add(Problem {
            file: self.file.clone(),
            line: place.map_or(0, |place| place.line),
            key: section.to_owned(),
            message: "unknown section".to_owned(),
            hint: did_you_mean(section, keys::SECTIONS.iter().copied()),
            excerpt: None,
        });
    }
}

impl Spans {
    fn insert<'k>(
        &mut self,
        mut path: impl Iterator<Item = &'k str>,
        place: &Place,
        order: (usize, usize),
    ) {
        match path.next() {
            None => {
                self.place = Some(place.clone());
                self.order = order;
            }
            Some(key) => {
                let child = self.children.entry(key.to_owned()).or_default();
                if child.place.is_none() {
                    child.place = Some(place.clone());
                    child.order = order;
                }
                child.insert(path, place, order);
            }
        }
    }

    /// The merged value with the places of its parts; tables in the order of the files.
    fn node(&self, value: Value, parent: &Place) -> Node {
        let from_environment = value.origin() == Some("the environment");
        let place = self.place.clone().unwrap_or_else(|| parent.clone());
        let content = match value.kind {
            ValueKind::Nil => Content::Text(String::new()),
            ValueKind::Boolean(flag) => Content::Flag(flag),
            ValueKind::I64(integer) => Content::Integer(integer),
            ValueKind::U64(integer) => Content::Integer(i64::try_from(integer).unwrap_or(i64::MAX)),
            ValueKind::I128(_) | ValueKind::U128(_) => Content::Integer(i64::MAX),
            ValueKind::Float(number) => Content::Number(number),
            ValueKind::String(text) if from_environment => Content::Environment(text),
            ValueKind::String(text) => Content::Text(text),
            ValueKind::Array(elements) => {
                let nothing = Self::default();
                let element = |(position, element)| {
                    nothing.node(element, self.elements.get(position).unwrap_or(&place))
                };
                Content::List(elements.into_iter().enumerate().map(element).collect())
            }
            ValueKind::Table(table) => {
                let nothing = Self::default();
                let mut entries: Vec<_> = table
                    .into_iter()
                    .map(|(key, value)| {
                        let spans = self.children.get(&key).unwrap_or(&nothing);
                        (spans.order, key, spans.node(value, &place))
                    })
                    .collect();
                entries.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
                Content::table(entries.into_iter().map(|(_, key, node)| (key, node)).collect())
            }
        };
        Node { place, content }
    }
}

/// andon's environment variables: for the `config` crate, and the name of each by its key path.
fn variables(
    environment: impl Iterator<Item = (OsString, OsString)>,
    report: &Report,
) -> (HashMap<String, String>, Vec<(String, String)>) {
    let mut values = HashMap::new();
    let mut names = Vec::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        if !name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)) {
            continue;
        }
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        let problem = |message: &str, hint: Option<String>| {
            report.add(Problem {
                file: format!("environment variable {name}").into(),
                line: 0,
                key: String::new(),
                message: message.to_owned(),
                hint,
                excerpt: None,
            });
        };
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let mut path = key.split('.');
        let section = path.next().unwrap_or_default();
        if !plain || key.split('.').any(str::is_empty) {
            problem("not a key path", Some("write ANDON__SECTION__KEY".to_owned()));
        } else if !keys::SECTIONS.contains(&section) {
            let hint = did_you_mean(section, keys::SECTIONS.iter().copied());
            problem(&format!("\"{section}\" is no section"), hint);
        } else if let Some(value) = value.to_str() {
            values.insert(name.clone(), value.to_owned());
            names.push((key, name));
        } else {
            problem("not UTF-8", None);
        }
    }
    names.sort();
    (values, names)
}

/// Lines by byte offset.
#[derive(Debug)]
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The 1-based line of a byte.
    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|&end| end < at) + 1
    }
}
