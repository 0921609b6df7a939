use std::fmt;

use proactions_bench::{
    Case, LOG_LINE, LOG_LINE_ALLOCATIONS, STACK, STACK_ALLOCATIONS, STACK_INSTRUCTIONS,
};

/// What one request costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) nanoseconds: f64,
    pub(crate) allocations: f64,
    pub(crate) instructions: f64,
}

/// The costs of all cases that were measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(&'static str, &'static str, Cost)>,
}

impl Report {
    pub(crate) fn add(&mut self, case: &Case, cost: Cost) {
        self.rows.push((case.name(), case.baseline(), cost));
    }

    /// What a case costs beyond the bare service.
    fn added(&self, baseline: &str, cost: Cost) -> Cost {
        let bare = self.rows.iter().find(|(name, ..)| *name == baseline);
        let bare = bare.map(|(.., cost)| *cost).unwrap_or_default();
        Cost {
            nanoseconds: cost.nanoseconds - bare.nanoseconds,
            allocations: cost.allocations - bare.allocations,
            instructions: cost.instructions - bare.instructions,
        }
    }

    /// Each budget with its limit and what was measured, if it was.
    fn budgets(&self) -> [(&'static str, &'static str, f64, Option<f64>); 3] {
        let of = |name| {
            let row = self.rows.iter().find(|(case, ..)| *case == name);
            row.map(|(_, baseline, cost)| self.added(baseline, *cost))
        };
        let stack = of(STACK);
        [
            (
                STACK,
                "allocations",
                STACK_ALLOCATIONS,
                stack.map(|cost| cost.allocations),
            ),
            (
                STACK,
                "instructions",
                STACK_INSTRUCTIONS,
                stack.map(|cost| cost.instructions),
            ),
            (
                LOG_LINE,
                "allocations",
                LOG_LINE_ALLOCATIONS,
                of(LOG_LINE).map(|cost| cost.allocations),
            ),
        ]
    }

    pub(crate) fn within_budget(&self) -> bool {
        let over = |limit: f64, found: Option<f64>| found.is_some_and(|found| found > limit + 0.05);
        !self
            .budgets()
            .iter()
            .any(|(_, _, limit, found)| over(*limit, *found))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| case | ns | +ns | allocs | +allocs | instr | +instr |\n|---|---|---|---|---|---|---|"
        )?;
        for (name, baseline, cost) in &self.rows {
            let added = self.added(baseline, *cost);
            writeln!(
                f,
                "| {name} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} |",
                cost.nanoseconds,
                added.nanoseconds,
                cost.allocations,
                added.allocations,
                cost.instructions,
                added.instructions,
            )?;
        }
        writeln!(f, "\nBudgets, over the bare service:")?;
        for (case, what, limit, found) in self.budgets() {
            match found {
                Some(found) => {
                    let verdict = if found > limit + 0.05 { "OVER" } else { "ok" };
                    writeln!(f, "{verdict:>5}  {case}: {found:.1} of {limit:.0} {what}")?;
                }
                None => writeln!(f, "    -  {case}: {what} not measured")?,
            }
        }
        Ok(())
    }
}
