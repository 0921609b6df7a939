use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long the waiting methods wait before they call the test failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running binary whose output is kept line by line. It is killed when this is dropped.
pub struct HubProcess {
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    stdout: Mutex<Vec<String>>,
    stderr: Mutex<Vec<String>>,
    changes: watch::Sender<u64>,
}

impl HubProcess {
    /// Starts `binary` with these arguments, and these variables added to an otherwise empty environment (but for
    /// `PATH`), so that what is set on the machine does not change the test.
    pub fn start<A: AsRef<OsStr>>(
        binary: impl AsRef<Path>,
        args: impl IntoIterator<Item = A>,
        env: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let binary = binary.as_ref();
        let mut child = Command::new(binary)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
        let output = Arc::new(Output::default());
        if let Some(pipe) = child.stdout.take() {
            collect(pipe, &output, |output| &output.stdout);
        }
        if let Some(pipe) = child.stderr.take() {
            collect(pipe, &output, |output| &output.stderr);
        }
        Self { child, output }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines of standard output so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        lock(&self.output.stdout).clone()
    }

    /// The lines of standard error so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        lock(&self.output.stderr).clone()
    }

    /// Waits for a line, on either output, that holds `part`, and returns the first. Panics, with all output, if the
    /// process ends without one or after 20 seconds.
    pub async fn wait_for_line(&mut self, part: &str) -> String {
        self.wait_for_lines(part, 1).await.remove(0)
    }

    /// Waits for `count` lines that hold `part`, as [`Self::wait_for_line`] does for one.
    pub async fn wait_for_lines(&mut self, part: &str, count: usize) -> Vec<String> {
        let mut changes = self.output.changes.subscribe();
        let search = async {
            loop {
                let lines = self.lines_with(part);
                if lines.len() >= count {
                    return Some(lines);
                }
                // Both outputs have come to their end when only this object holds the sender.
                if Arc::strong_count(&self.output) == 1 && self.lines_with(part).len() < count {
                    return None;
                }
                let _ = timeout(Duration::from_millis(50), changes.changed()).await;
            }
        };
        let found = timeout(PATIENCE, search).await.ok().flatten();
        found.unwrap_or_else(|| panic!("no line with {part:?} in\n{self}"))
    }

    /// Waits for a line that holds `part` and returns the first socket address in it.
    pub async fn address(&mut self, part: &str) -> SocketAddr {
        let line = self.wait_for_line(part).await;
        address_in(&line).unwrap_or_else(|| panic!("no address in {line:?}"))
    }

    /// Asks the process to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        // The shell's own kill: there need not be a program of that name.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()])
            .status()
            .expect("a shell");
        assert!(status.success(), "cannot send {name} to {}", self.id());
    }

    /// Waits for the process to end by itself. Panics, with all output, after 20 seconds.
    pub async fn wait(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a child of this process") {
                    return status;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        match timeout(PATIENCE, ended).await {
            Ok(status) => {
                self.until_output_ended().await;
                status
            }
            Err(_) => panic!("it goes on running\n{self}"),
        }
    }

    /// Waits for the process to end, and returns its exit code; -1 if a signal ended it.
    pub async fn exit_code(&mut self) -> i32 {
        self.wait().await.code().unwrap_or(-1)
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn lines_with(&self, part: &str) -> Vec<String> {
        let mut lines = self.stdout();
        lines.extend(self.stderr());
        lines.retain(|line| line.contains(part));
        lines
    }

    async fn until_output_ended(&self) {
        let ended = async {
            while Arc::strong_count(&self.output) > 1 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        // A grandchild may hold the pipes open; what came from the process itself is there by then.
        let _ = timeout(Duration::from_secs(2), ended).await;
    }
}

/// Raises this process's limit on open files as far as it may go; processes that it starts inherit it.
pub fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

impl fmt::Display for HubProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stdout:\n{}", self.stdout().join("\n"))?;
        write!(f, "stderr:\n{}", self.stderr().join("\n"))
    }
}

impl fmt::Debug for HubProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubProcess")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(
    pipe: impl Read + Send + 'static,
    output: &Arc<Output>,
    lines: fn(&Output) -> &Mutex<Vec<String>>,
) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            lock(lines(&output)).push(text.trim_end_matches(['\r', '\n']).to_owned());
            output
                .changes
                .send_modify(|revision| *revision = revision.wrapping_add(1));
            line.clear();
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first `ip:port` in a line, in a URL or in quotes too.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '/' | '=' | '{' | '}'))
        .find_map(|word| word.trim_end_matches(['.', ';']).parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> HubProcess {
        HubProcess::start(
            "/bin/sh",
            ["-c", script],
            [("GREETING", "hello".to_owned())],
        )
    }

    #[tokio::test]
    async fn output_comes_line_by_line_with_the_exit_code() {
        let mut process = shell("echo $GREETING; echo oops >&2; printf last; exit 7");
        assert_eq!(process.wait_for_line("hell").await, "hello");
        assert_eq!(process.exit_code().await, 7);
        assert_eq!(process.stdout(), ["hello", "last"]);
        assert_eq!(process.stderr(), ["oops"]);
        assert!(!process.is_running());
    }

    #[tokio::test]
    async fn the_environment_is_empty_but_for_what_is_given() {
        let mut process = shell("echo [$GREETING] [$HOME]");
        assert_eq!(process.wait_for_line("[").await, "[hello] []");
    }

    #[tokio::test]
    async fn an_address_is_found_and_a_signal_sent() {
        let mut process =
            shell("echo '{\"message\":\"listening on http://127.0.0.1:8080/\"}'; exec sleep 30");
        let addr = process.address("listening").await;
        assert_eq!(addr, "127.0.0.1:8080".parse().unwrap());
        assert!(process.is_running());
        process.signal("KILL");
        assert_eq!(process.exit_code().await, -1);
    }

    #[tokio::test]
    async fn term_reaches_the_process() {
        let mut process =
            shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done");
        process.wait_for_line("up").await;
        process.terminate();
        assert_eq!(process.exit_code().await, 3);
        assert_eq!(process.stdout(), ["up", "bye"]);
    }

    #[tokio::test]
    #[should_panic(expected = "no line with \"never\"")]
    async fn a_process_that_ends_without_the_line_fails_the_test() {
        shell("echo something else").wait_for_line("never").await;
    }

    #[test]
    fn addresses_in_lines() {
        for (line, found) in [
            ("listening on 127.0.0.1:3000", Some("127.0.0.1:3000")),
            ("at http://127.0.0.1:3000/v1 now", Some("127.0.0.1:3000")),
            ("{\"address\":\"[::1]:80\",\"x\":1}", Some("[::1]:80")),
            ("addr=0.0.0.0:1.", Some("0.0.0.0:1")),
            ("nothing at 12:30", None),
        ] {
            assert_eq!(
                address_in(line),
                found.map(|a| a.parse().unwrap()),
                "{line}"
            );
        }
    }
}
