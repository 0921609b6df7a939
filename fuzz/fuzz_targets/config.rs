//! The configuration, from bytes to policies. Input: the file. `${S}` in it is a secret, `${N}` a number.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use proactions_config::{Loader, Problem};

const SECRET: &str = "SeCrEt.pLaNtEd-0123456789-aBcDeFgHiJkLmNoPqRsTuVwXyZ";

/// Any of these would be enough to know the secret by.
const PARTS: [&str; 3] = ["SeCrEt", "pLaNtEd", "0123456789-aBc"];

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("proactions-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the file");
    folder.join("config.yaml")
});

fuzz_target!(|data: &[u8]| {
    // The text itself must not hold what is looked for.
    if PARTS.iter().any(|part| contains(data, part.as_bytes())) {
        return;
    }
    let loader = match std::str::from_utf8(data) {
        Ok(text) => Loader::from_text("config.yaml", text),
        Err(_) => {
            std::fs::write(&*FILE, data).expect("the file can be written");
            Loader::new(&*FILE)
        }
    };
    let variables = [("S", SECRET), ("N", "3000"), ("EMPTY", "")];
    match loader.env(variables).load() {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                check(warning, data);
            }
            // What was accepted once is accepted again.
            assert!(loader_of(data).env(variables).load().is_ok());
        }
        Err(report) => {
            assert!(!report.problems().is_empty());
            for problem in report.problems() {
                check(problem, data);
            }
            let told = report.to_string();
            assert_eq!(told.lines().count(), report.problems().len(), "{told}");
            assert!(!shows(&format!("{report:?}")));
        }
    }
});

fn loader_of(data: &[u8]) -> Loader {
    match std::str::from_utf8(data) {
        Ok(text) => Loader::from_text("config.yaml", text),
        Err(_) => Loader::new(&*FILE),
    }
}

fn check(problem: &Problem, data: &[u8]) {
    let told = problem.to_string();
    assert!(!shows(&told), "{told}");
    assert!(!told.chars().any(char::is_control), "{told:?}");
    assert!(!problem.message.is_empty());
    // A parser may see the end of the file on the line after the last.
    let lines = 2 + data
        .iter()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count();
    if let Some(line) = problem.line {
        assert!((1..=lines).contains(&line), "{told}");
    }
}

fn shows(told: &str) -> bool {
    PARTS.iter().any(|part| told.contains(part))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
