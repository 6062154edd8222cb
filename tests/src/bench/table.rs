//! The one table: what · andon · peer · ratio · goal.

#![expect(clippy::print_stdout, reason = "the table is the output")]

/// A sentence below the table.
pub(super) fn say(words: &str) {
    println!("{words}");
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) andon: String,
    pub(super) peer: String,
    pub(super) ratio: String,
    pub(super) goal: String,
    /// `None`: there is no goal, the figure is reported.
    pub(super) reached: Option<bool>,
}

impl Row {
    /// A figure of andon's alone that wants to stay at or below `most`.
    pub(super) fn at_most(what: &str, measured: f64, most: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            andon: format!("{measured:.1} {unit}"),
            peer: String::new(),
            ratio: String::new(),
            goal: format!("≤ {most} {unit}"),
            reached: Some(measured <= most),
        }
    }

    /// A figure of andon's alone that wants to be `least` or more.
    pub(super) fn at_least(what: &str, measured: f64, least: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            andon: format!("{measured:.0} {unit}"),
            peer: String::new(),
            ratio: String::new(),
            goal: format!("≥ {least} {unit}"),
            reached: Some(measured >= least),
        }
    }

    /// A figure without a goal.
    pub(super) fn reported(what: &str, andon: String) -> Self {
        let (peer, ratio) = (String::new(), String::new());
        Self { what: what.to_owned(), andon, peer, ratio, goal: String::new(), reached: None }
    }

    /// A figure of which more is better, beside a peer's: `least` times it is wanted.
    pub(super) fn times(what: &str, andon: f64, peer: f64, least: f64, unit: &str) -> Self {
        let ratio = andon / peer.max(f64::MIN_POSITIVE);
        Self {
            what: what.to_owned(),
            andon: format!("{andon:.0} {unit}"),
            peer: format!("{peer:.0} {unit}"),
            ratio: format!("{ratio:.1}"),
            goal: format!("≥ {least}"),
            reached: Some(ratio >= least),
        }
    }
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// Adds a line, and says it at once on stderr: a long run shows how far it is.
    pub(super) fn add(&mut self, row: Row) {
        eprintln!("{}: {} {} {}", row.what, row.andon, row.peer, row.ratio);
        self.0.push(row);
    }

    pub(super) fn print(&self) {
        println!(
            "{:<62} {:>24} {:>24} {:>6}  {:<12} reached",
            "what", "andon", "peer", "ratio", "goal"
        );
        for Row { what, andon, peer, ratio, goal, reached } in &self.0 {
            let reached = match reached {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "reported",
            };
            println!("{what:<62} {andon:>24} {peer:>24} {ratio:>6}  {goal:<12} {reached}");
        }
    }
}

/// The middle of some figures; of two, the lower.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
