use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use flate2::write::GzEncoder;
use flate2::{Compression, CrcReader};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::Output;
use crate::config::Retention;

const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// Where files go and how long they stay.
#[derive(Clone, Debug)]
pub(crate) struct FilePolicy {
    pub(crate) directory: PathBuf,
    pub(crate) prefix: String,
    pub(crate) rotation: bool,
    pub(crate) max_size: u64,
    pub(crate) retention: Retention,
}

/// The files of one type of event: `{prefix}-{type}-YYYY-MM-DD.log`, of which the last is written to.
///
/// A new file begins with each day (UTC). A file that would outgrow its size gets a number, in the order in
/// which that happened, and the day's name begins anew. Finished files are compressed and old ones deleted by a
/// thread of their own, so that a large file does not hold up the lines that follow.
#[derive(Debug)]
pub(crate) struct RollingFile {
    policy: FilePolicy,
    /// `{prefix}-{type}`.
    stem: String,
    open: Option<OpenFile>,
    /// The last write failed and may have left half a line.
    torn: bool,
    tidier: Option<Tidier>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    inode: u64,
    day: Date,
    size: u64,
}

impl RollingFile {
    pub(crate) fn new(policy: FilePolicy, of_type: &str) -> Self {
        Self {
            stem: format!("{}-{of_type}", policy.prefix),
            policy,
            open: None,
            torn: false,
            tidier: None,
        }
    }

    fn path(&self, day: Date) -> PathBuf {
        let name = if self.policy.rotation {
            format!("{}-{day}.log", self.stem)
        } else {
            format!("{}.log", self.stem)
        };
        self.policy.directory.join(name)
    }

    /// The open file of `day`. One that somebody moved or deleted is made anew.
    fn open(&mut self, day: Date) -> io::Result<&mut OpenFile> {
        let is_current = self.open.as_ref().is_some_and(|open| {
            (open.day == day || !self.policy.rotation)
                && fs::metadata(&open.path).is_ok_and(|found| found.ino() == open.inode)
        });
        let open = match self.open.take().filter(|_| is_current) {
            Some(open) => open,
            None => {
                let path = self.path(day);
                DirBuilder::new()
                    .recursive(true)
                    .mode(DIRECTORY_MODE)
                    .create(&self.policy.directory)?;
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(FILE_MODE)
                    .open(&path)?;
                let metadata = file.metadata()?;
                let mode = metadata.mode() & 0o7777;
                if mode & !FILE_MODE != 0 {
                    file.set_permissions(Permissions::from_mode(mode & FILE_MODE))?;
                }
                self.tidy(day);
                OpenFile {
                    inode: metadata.ino(),
                    size: metadata.len(),
                    file,
                    path,
                    day,
                }
            }
        };
        Ok(self.open.insert(open))
    }

    /// Gives the file of today a number and begins it anew.
    fn cut(&mut self, day: Date) -> io::Result<()> {
        if let Some(open) = self.open.take() {
            let number = next_number(&self.policy.directory, &self.stem, day);
            fs::rename(&open.path, with_suffix(&open.path, &format!(".{number}")))?;
        }
        Ok(())
    }

    /// Has finished files compressed and old ones deleted.
    fn tidy(&mut self, day: Date) {
        if !self.policy.rotation {
            return;
        }
        if self.tidier.is_none() {
            let (policy, stem) = (self.policy.clone(), self.stem.clone());
            self.tidier = Tidier::start(policy, stem).ok();
        }
        if let Some(tidier) = &self.tidier {
            let _ = tidier.days.send(day);
        }
    }

    fn write_some(&mut self, lines: &[u8], day: Date) -> io::Result<()> {
        let torn = self.torn;
        let open = self.open(day)?;
        if torn {
            open.file.write_all(b"\n")?;
            open.size += 1;
        }
        open.file.write_all(lines)?;
        open.size += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn write_lines(&mut self, lines: &[u8], day: Date) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let size = self.open(day)?.size;
            let room = self.policy.max_size.saturating_sub(size);
            let fitting = if self.policy.rotation {
                lines_up_to(rest, usize::try_from(room).unwrap_or(usize::MAX))
            } else {
                rest.len()
            };
            if fitting == 0 && size > 0 {
                self.cut(day)?;
                continue;
            }
            // A single line that is larger than a file may be gets a file to itself.
            let len = if fitting == 0 {
                first_line(rest)
            } else {
                fitting
            };
            let (now_written, later) = rest.split_at(len);
            let result = self.write_some(now_written, day);
            self.torn = result.is_err();
            if result.is_err() {
                self.open = None;
            }
            result?;
            rest = later;
        }
        Ok(())
    }
}

impl Output for RollingFile {
    fn write(&mut self, lines: &[u8], now: SystemTime) -> io::Result<()> {
        self.write_lines(lines, day_of(now)).map_err(|error| {
            let directory = self.policy.directory.display();
            io::Error::new(error.kind(), format!("{directory}: {error}"))
        })
    }

    fn idle(&mut self, now: SystemTime) -> io::Result<()> {
        let day = day_of(now);
        if self.open.as_ref().is_some_and(|open| open.day < day) && self.policy.rotation {
            self.open = None;
            self.tidy(day);
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.open = None;
        if let Some(tidier) = self.tidier.take() {
            tidier.finish();
        }
    }
}

/// The thread that compresses and deletes.
#[derive(Debug)]
struct Tidier {
    days: Sender<Date>,
    thread: JoinHandle<()>,
}

impl Tidier {
    fn start(policy: FilePolicy, stem: String) -> io::Result<Self> {
        let (days, orders) = mpsc::channel::<Date>();
        let thread = thread::Builder::new()
            .name("log-files".to_owned())
            .spawn(move || {
                while let Ok(day) = orders.recv() {
                    tidy(&policy, &stem, day);
                }
            })?;
        Ok(Self { days, thread })
    }

    fn finish(self) {
        drop(self.days);
        let _ = self.thread.join();
    }
}

/// Compresses what is finished on `today` and deletes what is too old. What cannot be done now is tried again
/// the next time.
fn tidy(policy: &FilePolicy, stem: &str, today: Date) {
    for found in files(&policy.directory, stem) {
        let is_finished = found.day < today || found.number.is_some();
        if !is_finished || found.compressed {
            continue;
        }
        if replace(policy, stem, found).is_err() {
            metrics::counter!("hub_log_write_errors_total").increment(1);
        }
    }
    let mut kept = files(&policy.directory, stem);
    kept.sort_by_key(|found| (found.day, found.number.unwrap_or(u64::MAX)));
    let old: Vec<Found> = match policy.retention {
        Retention::Count(count) => {
            let excess = kept
                .len()
                .saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
            kept.into_iter().take(excess).collect()
        }
        Retention::Days(days) => {
            let oldest = today
                .checked_sub(i64::from(days).days())
                .unwrap_or(Date::MIN);
            kept.into_iter()
                .filter(|found| found.day < oldest)
                .collect()
        }
    };
    for found in old {
        let is_written_to = found.day == today && found.number.is_none() && !found.compressed;
        if !is_written_to {
            let _ = fs::remove_file(found.path);
        }
    }
}

/// Replaces a finished file by its compressed form.
fn replace(policy: &FilePolicy, stem: &str, found: Found) -> io::Result<()> {
    let mut path = found.path;
    let compressed = with_suffix(&path, ".gz");
    if compressed.exists() {
        // Only its removal failed, or was not reached.
        if holds(&compressed, &path).unwrap_or(false) {
            return fs::remove_file(path);
        }
        // A clock that was set back, or another process, has begun a file anew that was compressed before. It gets
        // its number first, so that it stands beside its own compressed form if it cannot be removed.
        let number = next_number(&policy.directory, stem, found.day);
        let numbered = format!("{stem}-{}.log.{number}", found.day);
        let numbered = policy.directory.join(numbered);
        fs::rename(&path, &numbered)?;
        path = numbered;
    }
    compress(&path)
}

/// Whether `compressed` was made of what is in `path`: its end tells checksum and length (RFC 1952, 2.3.1).
fn holds(compressed: &Path, path: &Path) -> io::Result<bool> {
    let mut compressed = File::open(compressed)?;
    let mut end = [0; 8];
    compressed.seek(SeekFrom::End(-8))?;
    compressed.read_exact(&mut end)?;
    let mut source = CrcReader::new(File::open(path)?);
    io::copy(&mut source, &mut io::sink())?;
    let crc = source.crc();
    let expected = u64::from(crc.amount()) << 32 | u64::from(crc.sum());
    Ok(u64::from_le_bytes(end) == expected)
}

/// The new file has its name only once it is complete.
fn compress(path: &Path) -> io::Result<()> {
    let unfinished = with_suffix(path, ".gz.tmp");
    let mut source = File::open(path)?;
    let target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&unfinished)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    let copied = io::copy(&mut source, &mut encoder)
        .and_then(|_| encoder.finish())
        .and_then(|target| target.sync_all())
        .and_then(|()| fs::rename(&unfinished, with_suffix(path, ".gz")));
    if copied.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    copied?;
    fs::remove_file(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A file of one type of event.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    day: Date,
    number: Option<u64>,
    compressed: bool,
}

fn files(directory: &Path, stem: &str) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name().and_then(OsStr::to_str)?;
            let (day, number, compressed) = parse_name(name, stem)?;
            Some(Found {
                path,
                day,
                number,
                compressed,
            })
        })
        .collect()
}

/// The number after the last that a file of `day` has.
fn next_number(directory: &Path, stem: &str, day: Date) -> u64 {
    files(directory, stem)
        .into_iter()
        .filter(|found| found.day == day)
        .filter_map(|found| found.number)
        .max()
        .map_or(1, |last| last.saturating_add(1))
}

/// Day, number and whether it is compressed, if `name` is one that this type's files have.
fn parse_name(name: &str, stem: &str) -> Option<(Date, Option<u64>, bool)> {
    let rest = name.strip_prefix(stem)?.strip_prefix('-')?;
    let (day, rest) = rest.split_once(".log")?;
    if day.len() != "YYYY-MM-DD".len() {
        return None;
    }
    let day = day.parse().ok()?;
    let (rest, compressed) = match rest.strip_suffix(".gz") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let number = match rest.strip_prefix('.') {
        Some(number) => Some(number.parse().ok()?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some((day, number, compressed))
}

fn day_of(now: SystemTime) -> Date {
    let time = jiff::Timestamp::try_from(now).unwrap_or_default();
    Offset::UTC.to_datetime(time).date()
}

/// The length of as many whole lines as go into `room` bytes.
fn lines_up_to(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    lines
        .get(..room)
        .and_then(|fitting| fitting.iter().rposition(|byte| *byte == b'\n'))
        .map_or(0, |at| at + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(lines.len(), |at| at + 1)
}

#[cfg(test)]
mod tests;
