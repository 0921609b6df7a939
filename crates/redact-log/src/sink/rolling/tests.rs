use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use tempfile::TempDir;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// 2026-01-01 00:00:00 UTC.
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

fn policy(directory: &TempDir, max_size: u64, retention: Retention) -> FilePolicy {
    FilePolicy {
        directory: directory.path().join("logs"),
        prefix: "hub".to_owned(),
        rotation: true,
        max_size,
        retention,
    }
}

fn names(policy: &FilePolicy) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&policy.directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn text(policy: &FilePolicy, name: &str) -> String {
    let bytes = fs::read(policy.directory.join(name)).unwrap();
    if !name.ends_with(".gz") {
        return String::from_utf8(bytes).unwrap();
    }
    let mut text = String::new();
    GzDecoder::new(bytes.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn files_are_private_and_begin_anew_each_day() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 1 << 20, Retention::Days(14));
    let mut file = RollingFile::new(policy.clone(), "access");
    file.write(b"one\n", start()).unwrap();
    file.write(b"two\n", start() + DAY - Duration::from_secs(1))
        .unwrap();
    file.write(b"three\n", start() + DAY).unwrap();
    assert_eq!(mode(&policy.directory) & !0o750, 0);
    assert_eq!(
        mode(&policy.directory.join("hub-access-2026-01-02.log")) & !0o640,
        0
    );
    file.finish();
    assert_eq!(
        names(&policy),
        ["hub-access-2026-01-01.log.gz", "hub-access-2026-01-02.log"]
    );
    assert_eq!(text(&policy, "hub-access-2026-01-01.log.gz"), "one\ntwo\n");
    assert_eq!(
        mode(&policy.directory.join("hub-access-2026-01-01.log.gz")) & !0o640,
        0
    );
}

#[test]
fn a_file_is_cut_between_lines_when_it_is_full() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 10, Retention::Days(14));
    let mut file = RollingFile::new(policy.clone(), "access");
    file.write(b"aaaa\nbbbb\ncccc\n", start()).unwrap();
    file.write(b"dddd\na line that is longer than a file\ne\n", start())
        .unwrap();
    file.finish();
    assert_eq!(
        names(&policy),
        [
            "hub-access-2026-01-01.log",
            "hub-access-2026-01-01.log.1.gz",
            "hub-access-2026-01-01.log.2.gz",
            "hub-access-2026-01-01.log.3.gz"
        ]
    );
    for (name, expected) in [
        ("hub-access-2026-01-01.log.1.gz", "aaaa\nbbbb\n"),
        ("hub-access-2026-01-01.log.2.gz", "cccc\ndddd\n"),
        (
            "hub-access-2026-01-01.log.3.gz",
            "a line that is longer than a file\n",
        ),
        ("hub-access-2026-01-01.log", "e\n"),
    ] {
        assert_eq!(text(&policy, name), expected, "{name}");
    }
}

#[test]
fn numbers_go_on_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 5, Retention::Days(14));
    for _ in 0..2 {
        let mut file = RollingFile::new(policy.clone(), "access");
        file.write(b"aaaa\nbbbb\n", start()).unwrap();
        file.finish();
    }
    assert_eq!(names(&policy).len(), 4, "{:?}", names(&policy));
}

#[test]
fn a_day_that_begins_anew_does_not_replace_what_was_compressed() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 1 << 20, Retention::Days(14));
    // The clock is set back over midnight, twice.
    for lines in ["one\n", "two\n", "three\n"] {
        let mut file = RollingFile::new(policy.clone(), "access");
        file.write(lines.as_bytes(), start()).unwrap();
        file.write(b"x\n", start() + DAY).unwrap();
        file.finish();
    }
    assert_eq!(
        names(&policy),
        [
            "hub-access-2026-01-01.log.1.gz",
            "hub-access-2026-01-01.log.2.gz",
            "hub-access-2026-01-01.log.gz",
            "hub-access-2026-01-02.log"
        ]
    );
    for (name, expected) in [
        ("hub-access-2026-01-01.log.gz", "one\n"),
        ("hub-access-2026-01-01.log.1.gz", "two\n"),
        ("hub-access-2026-01-01.log.2.gz", "three\n"),
    ] {
        assert_eq!(text(&policy, name), expected, "{name}");
    }
}

#[test]
fn a_file_that_outlives_its_compressed_form_is_not_compressed_again() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 1 << 20, Retention::Days(14));
    let tidy_with = |name: &str, lines: &str| {
        fs::write(policy.directory.join(name), lines).unwrap();
        tidy(&policy, "hub-access", day_of(start() + DAY));
        names(&policy)
    };
    fs::create_dir(&policy.directory).unwrap();
    // Each file comes back as if it had not been removed.
    for _ in 0..3 {
        let names = tidy_with("hub-access-2026-01-01.log", "one\n");
        assert_eq!(names, ["hub-access-2026-01-01.log.gz"]);
    }
    let two = [
        "hub-access-2026-01-01.log.1.gz",
        "hub-access-2026-01-01.log.gz",
    ];
    // The day begins anew.
    assert_eq!(tidy_with("hub-access-2026-01-01.log", "two\n"), two);
    for _ in 0..3 {
        assert_eq!(tidy_with("hub-access-2026-01-01.log.1", "two\n"), two);
    }
    assert_eq!(text(&policy, "hub-access-2026-01-01.log.gz"), "one\n");
    assert_eq!(text(&policy, "hub-access-2026-01-01.log.1.gz"), "two\n");
    // What is no compressed form of it does not stand for it.
    fs::write(policy.directory.join("hub-access-2026-01-01.log.gz"), "x").unwrap();
    tidy_with("hub-access-2026-01-01.log", "one\n");
    assert_eq!(text(&policy, "hub-access-2026-01-01.log.2.gz"), "one\n");
}

/// A second file of a day has its number before it is compressed, so that it is known again if it stays.
#[test]
fn a_file_that_is_in_the_way_of_another_gets_its_number_first() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 1 << 20, Retention::Days(14));
    fs::create_dir(&policy.directory).unwrap();
    let path = |name: &str| policy.directory.join(name);
    fs::write(path("hub-access-2026-01-01.log"), "one\n").unwrap();
    fs::write(path("hub-access-2026-01-01.log.gz"), "another").unwrap();
    // Its compressed form cannot be written.
    fs::create_dir(path("hub-access-2026-01-01.log.1.gz.tmp")).unwrap();
    for _ in 0..2 {
        tidy(&policy, "hub-access", day_of(start() + DAY));
        assert_eq!(
            names(&policy),
            [
                "hub-access-2026-01-01.log.1",
                "hub-access-2026-01-01.log.1.gz.tmp",
                "hub-access-2026-01-01.log.gz"
            ]
        );
    }
    fs::remove_dir(path("hub-access-2026-01-01.log.1.gz.tmp")).unwrap();
    tidy(&policy, "hub-access", day_of(start() + DAY));
    assert_eq!(
        names(&policy),
        [
            "hub-access-2026-01-01.log.1.gz",
            "hub-access-2026-01-01.log.gz"
        ]
    );
    assert_eq!(text(&policy, "hub-access-2026-01-01.log.1.gz"), "one\n");
}

#[test]
fn old_files_are_deleted_by_age_or_number_and_others_are_left_alone() {
    for (retention, left) in [
        (
            Retention::Days(2),
            vec![
                "hub-access-2026-01-03.log.gz",
                "hub-access-2026-01-04.log.gz",
                "hub-access-2026-01-05.log",
            ],
        ),
        (
            Retention::Count(2),
            vec!["hub-access-2026-01-04.log.gz", "hub-access-2026-01-05.log"],
        ),
    ] {
        let directory = TempDir::new().unwrap();
        let policy = policy(&directory, 1 << 20, retention);
        fs::create_dir(&policy.directory).unwrap();
        let strangers = [
            "hub-access-2020-01-01.txt",
            "hub-accessory-2020-01-01.log",
            "hub-error-2020-01-01.log",
            "notes",
        ];
        for name in strangers {
            fs::write(policy.directory.join(name), "x").unwrap();
        }
        let mut file = RollingFile::new(policy.clone(), "access");
        for day in 0..5 {
            file.write(b"x\n", start() + day * DAY).unwrap();
        }
        file.finish();
        let mut expected: Vec<String> = left
            .into_iter()
            .chain(strangers)
            .map(str::to_owned)
            .collect();
        expected.sort();
        assert_eq!(names(&policy), expected, "{retention:?}");
    }
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let directory = TempDir::new().unwrap();
    let mut policy = policy(&directory, 1 << 20, Retention::Days(14));
    policy.rotation = false;
    let mut file = RollingFile::new(policy.clone(), "access");
    file.write(b"one\n", start()).unwrap();
    let path = policy.directory.join("hub-access.log");
    fs::rename(&path, policy.directory.join("moved")).unwrap();
    file.write(b"two\n", start() + 3 * DAY).unwrap();
    file.finish();
    assert_eq!(names(&policy), ["hub-access.log", "moved"]);
    assert_eq!(text(&policy, "hub-access.log"), "two\n");
}

#[test]
fn a_file_that_others_may_read_is_closed_to_them() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 1 << 20, Retention::Days(14));
    fs::create_dir(&policy.directory).unwrap();
    let path = policy.directory.join("hub-access-2026-01-01.log");
    fs::write(&path, "x\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let mut file = RollingFile::new(policy, "access");
    file.write(b"y\n", start()).unwrap();
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn a_missing_directory_is_an_error_and_not_the_end() {
    let directory = TempDir::new().unwrap();
    let policy = policy(&directory, 1 << 20, Retention::Days(14));
    fs::write(&policy.directory, "in the way").unwrap();
    let mut file = RollingFile::new(policy.clone(), "access");
    let error = file.write(b"x\n", start()).unwrap_err().to_string();
    let path = policy.directory.to_str().unwrap();
    assert!(error.starts_with(&format!("{path}: ")), "{error}");
    fs::remove_file(&policy.directory).unwrap();
    file.write(b"y\n", start()).unwrap();
    assert_eq!(text(&policy, "hub-access-2026-01-01.log"), "y\n");
}

#[test]
fn names_are_told_from_others() {
    let day = "2026-01-01".parse::<Date>().unwrap();
    for (name, expected) in [
        ("hub-access-2026-01-01.log", Some((day, None, false))),
        ("hub-access-2026-01-01.log.gz", Some((day, None, true))),
        ("hub-access-2026-01-01.log.12", Some((day, Some(12), false))),
        (
            "hub-access-2026-01-01.log.12.gz",
            Some((day, Some(12), true)),
        ),
        ("hub-access-2026-01-01.log.gz.tmp", None),
        ("hub-access-2026-13-01.log", None),
        ("hub-access-2026-01-01.logs", None),
        ("hub-access.log", None),
        ("hub-error-2026-01-01.log", None),
    ] {
        assert_eq!(parse_name(name, "hub-access"), expected, "{name}");
    }
}
