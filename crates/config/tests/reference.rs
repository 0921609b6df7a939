//! The reference page and the types know the same keys.
//!
//! The types are asked through the loader: a map with a key that cannot be known is put at every place, and
//! the answer lists the keys that are.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};

use proactions_config::Loader;

const PROBE: &str = "zzqqxxprobe";

/// For each of the places below `path`, the keys of the map that belongs there, if one of fixed keys does.
fn known_keys(path: &[String], places: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut text = String::new();
    let mut close = String::new();
    for segment in path {
        match segment.strip_suffix("[]") {
            Some(key) => {
                text.push_str(&format!("{{{key}: ["));
                close.insert_str(0, "]}");
            }
            None => {
                text.push_str(&format!("{{{segment}: "));
                close.insert(0, '}');
            }
        }
    }
    let probes = places.iter().map(|place| match place.strip_suffix("[]") {
        Some(key) => format!("{key}: [{{{PROBE}: 1}}]"),
        None => format!("{place}: {{{PROBE}: 1}}"),
    });
    let probes = probes.collect::<Vec<_>>().join(", ");
    text.push_str(&format!("{{{probes}}}{close}\n"));

    let Err(report) = Loader::from_text("c", text).load() else {
        return BTreeMap::new();
    };
    let answers = report.problems().iter().filter_map(|problem| {
        let place = problem.key.strip_suffix(&format!(".{PROBE}"))?;
        let place = place.replace("[0]", "[]");
        let place = place.rsplit('.').next()?.to_owned();
        let (_, keys) = problem.message.split_once("the known ones are ")?;
        Some((place, keys.split(", ").map(str::to_owned).collect()))
    });
    answers.collect()
}

fn collect(
    path: &mut Vec<String>,
    keys: &[String],
    above: &mut Vec<Vec<String>>,
    found: &mut BTreeSet<String>,
) {
    // A type that holds itself ends here.
    if above.iter().any(|known| known == keys) {
        return;
    }
    above.push(keys.to_vec());
    let within: String = path.iter().map(|segment| format!("{segment}.")).collect();
    found.extend(keys.iter().map(|key| format!("{within}{key}")));
    let lists: Vec<_> = keys.iter().map(|key| format!("{key}[]")).collect();
    let mut below = BTreeMap::new();
    for places in [keys, &lists] {
        // Keys that are two names of one thing cannot stand side by side.
        let at_once = if within.ends_with("helmet.") {
            1
        } else {
            places.len()
        };
        for places in places.chunks(at_once.max(1)) {
            below.extend(known_keys(path, places));
        }
    }
    for (place, keys) in below {
        path.push(place);
        collect(path, &keys, above, found);
        path.pop();
    }
    above.pop();
}

/// The sections of the file.
fn sections() -> Vec<String> {
    let report = Loader::from_text("c", format!("{PROBE}: 1\n"))
        .load()
        .unwrap_err();
    let message = &report.problems().first().unwrap().message;
    let (_, keys) = message.split_once("the known ones are ").unwrap();
    keys.split(", ").map(str::to_owned).collect()
}

/// Section of the page to the keys in its table, and the keys that are other names of others.
fn page() -> (BTreeMap<String, Vec<String>>, Vec<String>) {
    let text = include_str!("../../../docs/config-reference.md");
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut aliases = Vec::new();
    let mut section = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading
                .strip_prefix('`')
                .and_then(|name| name.strip_suffix('`'))
                .map(str::to_owned);
        } else if let (Some(section), Some(row)) = (&section, line.strip_prefix("| `")) {
            let key = row.split('`').next().unwrap();
            if row.contains("alias of ") {
                aliases.push(format!("{section}.{key}"));
            }
            sections
                .entry(section.clone())
                .or_default()
                .push(key.to_owned());
        }
    }
    (sections, aliases)
}

#[test]
fn the_page_lists_every_key_and_no_other() {
    let mut known = BTreeSet::new();
    collect(&mut Vec::new(), &sections(), &mut Vec::new(), &mut known);
    // A key that has keys of its own is a section of the page, not a row.
    let parents: BTreeSet<String> = known
        .iter()
        .filter_map(|key| key.rsplit_once('.'))
        .map(|(parent, _)| parent.replace("[]", ""))
        .collect();

    let mut listed = BTreeSet::new();
    let (sections, aliases) = page();
    for (section, keys) in sections {
        let sections = match section.strip_suffix(".types.*") {
            Some(logging) => [
                "access", "error", "aiLink", "proxy", "youtube", "tools", "security",
            ]
            .map(|name| format!("{logging}.types.{name}"))
            .to_vec(),
            None => vec![section],
        };
        for section in sections {
            for key in &keys {
                assert!(
                    listed.insert(format!("{section}.{key}")),
                    "twice on the page: {section}.{key}"
                );
            }
        }
    }

    let missing: Vec<_> = known
        .iter()
        .filter(|key| !listed.contains(*key) && !parents.contains(&key.replace("[]", "")))
        .filter(|key| {
            // What an alias takes is told once, under the other name.
            let (above, _) = key.rsplit_once('.').unwrap_or_default();
            !aliases.iter().any(|alias| alias == above)
        })
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
    let invented: Vec<_> = listed.iter().filter(|key| !known.contains(*key)).collect();
    assert!(invented.is_empty(), "only on the page: {invented:#?}");
    assert!(known.len() > 200, "{}", known.len());
}
