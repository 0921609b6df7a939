use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn grant(refresh_token: Option<&str>) -> Grant {
    Grant {
        access_token: "new".into(),
        refresh_token: refresh_token.map(Into::into),
        scope: None,
        expires_in: Duration::from_secs(3600),
    }
}

#[test]
fn a_file_is_created_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    // Not even for the moment between creation and a change of its mode: it is open, and nothing was changed.
    let file = create_private(&path).unwrap();
    assert_eq!(mode(&path) & 0o177, 0);
    drop(file);
    assert!(
        create_private(&path).is_err(),
        "an existing file is not taken over"
    );
    let link = folder.path().join("b");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    assert!(create_private(&link).is_err(), "a link is not followed");
}

#[test]
fn folders_and_files_are_closed_and_nothing_is_left_over() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("a/tokens");
    let path = tokens.join("t.json");
    for content in ["one", "two"] {
        write_whole(&path, content.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        assert_eq!((mode(&tokens), mode(&path)), (0o700, 0o600));
    }
    assert_eq!(std::fs::read_dir(&tokens).unwrap().count(), 1);

    // A rename that fails leaves nothing behind either.
    let taken = tokens.join("taken");
    std::fs::create_dir_all(taken.join("x")).unwrap();
    assert!(write_whole(&taken, b"three").is_err());
    assert_eq!(std::fs::read_dir(&tokens).unwrap().count(), 2);
}

#[test]
fn a_folder_that_was_there_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for before in [0o755, 0o770, 0o711, 0o2750, 0o700] {
        set(&tokens, before);
        write_whole(&tokens.join("t.json"), b"x").unwrap();
        assert_eq!(mode(&tokens), 0o700, "{before:o}");
        set(&tokens, before);
        close_folder(&tokens);
        assert_eq!(mode(&tokens), 0o700, "{before:o}");
    }
    // One for temporary files belongs to everybody, and the folder above is not this program's business.
    set(&tokens, 0o1777);
    set(folder.path(), 0o755);
    write_whole(&tokens.join("t.json"), b"x").unwrap();
    assert_eq!((mode(&tokens), mode(folder.path())), (0o777, 0o755));
    close_folder(&tokens.join("none"));
}

#[test]
fn a_folder_of_somebody_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    // Only root can give one away.
    if std::os::unix::fs::chown(folder.path(), Some(65_534), None).is_err() {
        return;
    }
    let open = std::fs::Permissions::from_mode(0o750);
    std::fs::set_permissions(folder.path(), open).unwrap();
    close_folder(folder.path());
    assert_eq!(mode(folder.path()), 0o750);
}

#[test]
fn readers_find_a_whole_file_that_is_closed_whenever_they_look() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let path = tokens.join("t.json");
    let contents = ["a".repeat(30_000), "b".repeat(60_000)];
    write_whole(&path, contents[0].as_bytes()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                write_whole(&path, contents[round % 2].as_bytes()).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut looks = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) || looks == 0 {
            for entry in std::fs::read_dir(&tokens).unwrap().flatten() {
                // It may be renamed meanwhile.
                if let Ok(metadata) = entry.metadata() {
                    let mode = metadata.permissions().mode() & 0o777;
                    assert_eq!(mode, 0o600, "{:?}", entry.file_name());
                    looks += 1;
                }
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(contents.contains(&text), "{} bytes", text.len());
        }
    });
}

#[test]
fn an_open_file_is_closed_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.json");
    std::fs::write(&path, "{}").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(read(&path).unwrap().is_some());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn what_cannot_be_read_is_told_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.json");
    assert!(read(&path).unwrap().is_none());
    for (content, message) in [
        ("hunter2", "JSON object"),
        ("\"hunter2\"", "JSON object"),
        ("", "JSON object"),
        (&" ".repeat(70_000), "too long"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = match read(&path) {
            Ok(_) => panic!("{content}"),
            Err(error) => error.to_string(),
        };
        assert!(
            error.contains(message) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn file_work_keeps_the_lock_when_its_caller_goes_away() {
    let locks = Locks::default();
    let file = TokenFile::new(PathBuf::new(), locks.lock("a").await);
    let (go, gate) = std::sync::mpsc::channel();
    let work = file.work(move |_| gate.recv().map_err(io::Error::other));
    tokio::select! {
        biased;
        _ = work => panic!("nobody let it go"),
        () = std::future::ready(()) => {}
    }
    drop(file);
    tokio::select! {
        biased;
        _ = locks.lock("a") => panic!("the work is not done"),
        () = std::future::ready(()) => {}
    }
    go.send(()).unwrap();
    locks.lock("a").await;
}

#[test]
fn a_renewal_keeps_what_it_does_not_know() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let mut tokens = Tokens(
        json!({"zone": [1], "refresh_token": "keep", "scope": "s", "access_token": "old", "expiry_date": 1})
            .as_object()
            .cloned()
            .unwrap(),
    );
    assert!(tokens.access(now, Duration::ZERO).is_none());
    tokens.renew(&grant(None), now);
    assert_eq!(
        Value::Object(tokens.0.clone()),
        json!({
            "zone": [1], "refresh_token": "keep", "scope": "s", "access_token": "new", "expiry_date": 4_600_000,
            "token_type": "Bearer",
        })
    );
    tokens.renew(&grant(Some("other")), now);
    assert_eq!(tokens.refresh_token(), Some("other"));
    let ahead = Duration::from_secs(60);
    let at = |seconds| now + Duration::from_secs(seconds);
    assert!(tokens.access(at(3539), ahead).is_some());
    assert!(tokens.access(at(3540), ahead).is_none());
}
