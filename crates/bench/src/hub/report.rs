//! Tables, and which budgets are kept.

use std::fmt;

/// Whether a figure repeats from run to run, so that missing its budget is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    No,
    Yes,
}

/// A figure with what it must not exceed and what is aimed at.
#[derive(Clone, Debug)]
struct Budget {
    what: String,
    unit: &'static str,
    found: f64,
    must: f64,
    goal: f64,
    repeats: Repeats,
}

/// The budgets of everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Vec<Budget>);

impl Budgets {
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        found: f64,
        (must, goal): (f64, f64),
        repeats: Repeats,
    ) {
        self.0.push(Budget {
            what: what.into(),
            unit,
            found,
            must,
            goal,
            repeats,
        });
    }

    /// Whether each figure that repeats is within its budget.
    pub(crate) fn kept(&self) -> bool {
        self.0
            .iter()
            .all(|budget| budget.repeats == Repeats::No || budget.found <= budget.must)
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["budget", "found", "must", "goal", "verdict"]);
        for budget in &self.0 {
            let verdict = if budget.found <= budget.goal {
                "goal reached"
            } else if budget.found <= budget.must {
                "kept"
            } else if budget.repeats == Repeats::Yes {
                "MISSED"
            } else {
                "missed (reported only)"
            };
            let unit = budget.unit;
            table.row([
                budget.what.clone(),
                format!("{}{unit}", number(budget.found)),
                format!("≤ {}{unit}", number(budget.must)),
                format!("≤ {}{unit}", number(budget.goal)),
                verdict.to_owned(),
            ]);
        }
        table.fmt(f)
    }
}

/// With as many decimals as say something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "–".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A table in Markdown.
#[derive(Debug)]
pub(crate) struct Table {
    text: String,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = Self {
            text: String::new(),
        };
        table.row(columns);
        table.row(columns.iter().map(|_| "---"));
        table
    }

    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.text.push('|');
        for cell in cells {
            self.text.push(' ');
            self.text.push_str(cell.as_ref());
            self.text.push_str(" |");
        }
        self.text.push('\n');
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_repeats_fails() {
        let mut budgets = Budgets::default();
        budgets.add("cpu", "×", 2.0, (1.35, 1.15), Repeats::No);
        budgets.add("size", " MiB", 8.0, (8.0, 5.0), Repeats::Yes);
        assert!(budgets.kept());
        budgets.add("allocations", "", 31.0, (30.0, 22.0), Repeats::Yes);
        assert!(!budgets.kept());
        let text = budgets.to_string();
        for line in [
            "| cpu | 2.00× | ≤ 1.35× | ≤ 1.15× | missed (reported only) |",
            "| size | 8.00 MiB | ≤ 8.00 MiB | ≤ 5.00 MiB | kept |",
            "| allocations | 31.0 | ≤ 30.0 | ≤ 22.0 | MISSED |",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
