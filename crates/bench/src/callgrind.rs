//! Instructions and heap allocations, counted by valgrind.
//!
//! Instructions are counted in one function of the measured process only: start and set-up are left out.
//! Allocations are the calls of the allocator's functions, so that no counting allocator has to be linked in. Calls are counted everywhere; those of a process that sets up and runs nothing are taken off.

use std::collections::HashMap;
use std::io;
use std::process::{Command, Stdio};

/// Iterations that are counted. What happens on the first one only is spread over all.
const ITERATIONS: u32 = 2_000;

/// What the allocator of this program is entered by.
const ALLOCATORS: [&str; 3] = [
    "mi_malloc_aligned",
    "mi_realloc_aligned",
    "mi_zalloc_aligned",
];

/// What one request costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// Counts one case after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callgrind {
    set_up: u64,
}

impl Callgrind {
    /// Counts what setting up costs, which is the same for every case.
    pub(crate) fn new(any_case: &str) -> io::Result<Self> {
        let (_, set_up) = profile(any_case, 0)?;
        Ok(Self { set_up })
    }

    pub(crate) fn count(self, case: &str) -> io::Result<Counts> {
        let (instructions, allocations) = profile(case, ITERATIONS)?;
        if instructions < u64::from(ITERATIONS) {
            return Err(io::Error::other(
                "nothing was counted: the program must not be stripped",
            ));
        }
        let each = |total: u64| total as f64 / f64::from(ITERATIONS);
        Ok(Counts {
            instructions: each(instructions),
            allocations: each(allocations.saturating_sub(self.set_up)),
        })
    }
}

/// Instructions in the measured function, and allocations of the whole process.
fn profile(case: &str, iterations: u32) -> io::Result<(u64, u64)> {
    let out = std::env::temp_dir().join(format!("bench-layers.{}.callgrind", std::process::id()));
    let status = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={}", proactions_bench::MEASURED))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["--case", case, "--iterations", &iterations.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{case}: {status}")));
    }
    let text = std::fs::read_to_string(&out);
    let _ = std::fs::remove_file(&out);
    Ok(parse(&text?))
}

/// Reads a profile: the total, and the calls of the allocating functions. Names are compressed there: `(12) malloc`
/// the first time, `(12)` afterwards.
fn parse(text: &str) -> (u64, u64) {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut instructions, mut allocations, mut called) = (0, 0, "");
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.trim().parse().unwrap_or_default();
        } else if let Some(function) = line
            .strip_prefix("cfn=")
            .or_else(|| line.strip_prefix("fn="))
        {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            called = names.get(id).copied().unwrap_or_default();
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let base = called.split(['@', '\'']).next().unwrap_or_default();
            if ALLOCATORS.contains(&base) {
                let calls = calls.split(' ').next().unwrap_or_default();
                allocations += calls.parse::<u64>().unwrap_or_default();
            }
        }
    }
    (instructions, allocations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_calls_are_read() {
        let profile = "version: 1\n\nfn=(1) main\n16 400\ncfn=(2) mi_malloc_aligned\ncalls=3 0 \n16 90\ncfn=(3) mi_free\ncalls=9 0\n\
                       16 90\nfn=(4) other\ncfn=(2)\ncalls=2 0\n16 60\ncfn=(5) mi_realloc_aligned'2\ncalls=1 0\n1 1\n\ntotals: 1234\n";
        assert_eq!(parse(profile), (1234, 6));
        assert_eq!(parse(""), (0, 0));
    }
}
