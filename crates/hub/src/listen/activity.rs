use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::Limits;
use super::guard::Verdicts;
use super::places::Place;

/// How many times longer than a full socket an HTTP/2 client may leave its windows shut. It opens them when it has read
/// half of them, and they may be megabytes.
const WINDOWS: u32 = 4;

/// What a connection is doing, kept so cheaply that every read and write can note it.
///
/// Times are milliseconds since the connection began, plus one; zero means «not».
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    limits: Limits,
    busy: Arc<AtomicUsize>,
    in_flight: AtomicUsize,
    http2: AtomicBool,
    silent_since: AtomicU64,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    /// The socket takes no more.
    unread_since: AtomicU64,
    /// Requests of which more is to come from the stack.
    awaited: AtomicUsize,
    /// Parts of answers that were handed out to be sent, and are not sent whole. With HTTP/2 they may wait for the client
    /// while the socket takes all.
    unsent: AtomicUsize,
    /// Whether any of them was handed out or taken since somebody looked.
    moved: AtomicBool,
    moved_at: AtomicU64,
    missed: Notify,
    given_up: AtomicBool,
    verdicts: Arc<Verdicts>,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    FirstByte,
    Head,
    Idle,
    Unread,
}

impl Overdue {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Unread => "unread",
        }
    }
}

impl Activity {
    /// A connection whose first byte has arrived.
    pub(super) fn new(limits: Limits, place: &Place) -> Arc<Self> {
        Arc::new(Self::begin(limits, place, 0, 1))
    }

    /// A connection on which nothing was said yet.
    pub(super) fn silent(limits: Limits, place: &Place) -> Arc<Self> {
        Arc::new(Self::begin(limits, place, 1, 0))
    }

    fn begin(limits: Limits, place: &Place, silent_since: u64, head_since: u64) -> Self {
        Self {
            began: Instant::now(),
            limits,
            busy: place.busy(),
            in_flight: AtomicUsize::new(0),
            http2: AtomicBool::new(false),
            silent_since: AtomicU64::new(silent_since),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(head_since),
            unread_since: AtomicU64::new(0),
            awaited: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            moved: AtomicBool::new(false),
            moved_at: AtomicU64::new(0),
            missed: Notify::new(),
            given_up: AtomicBool::new(false),
            verdicts: Arc::default(),
        }
    }

    pub(super) fn request_began(self: &Arc<Self>, http2: bool) -> InFlight {
        self.http2.store(http2, Relaxed);
        self.take_up_work();
        self.awaited.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        self.idle_since.store(0, Relaxed);
        InFlight {
            activity: Arc::clone(self),
            awaited: true,
        }
    }

    /// The connection has become a tunnel and stays busy until it is closed.
    pub(super) fn upgraded(&self) {
        self.verdicts.upgraded();
        self.take_up_work();
    }

    fn take_up_work(&self) {
        if self.in_flight.fetch_add(1, Relaxed) == 0 {
            self.busy.fetch_add(1, Relaxed);
        }
    }

    /// Wakes who waits in [`Self::woken_overdue`].
    pub(super) fn wake_overdue(&self) {
        self.missed.notify_one();
    }

    /// Waits until the watchdog has found that a deadline was missed, and it is missed still.
    pub(super) async fn woken_overdue(&self) -> Overdue {
        loop {
            self.missed.notified().await;
            if let Some(overdue) = self.overdue() {
                self.given_up.store(overdue == Overdue::Unread, Relaxed);
                return overdue;
            }
        }
    }

    /// The deadline that was missed, if one was. It has to be asked now and again, for it also notes what the client
    /// has taken since.
    pub(super) fn overdue(&self) -> Option<Overdue> {
        let now = self.now();
        let passed = |since: &AtomicU64, limit: Duration| {
            let since = since.load(Relaxed);
            since != 0 && now.saturating_sub(since) >= millis(limit)
        };
        // Looked at before what has moved: what begins meanwhile has moved.
        let waits = self.unsent.load(Acquire) > 0 && self.awaited.load(Acquire) == 0;
        if self.moved.swap(false, AcqRel) {
            self.moved_at.store(now, Relaxed);
        }
        if passed(&self.unread_since, self.limits.write)
            || waits && passed(&self.moved_at, self.limits.write * WINDOWS)
        {
            Some(Overdue::Unread)
        } else if self.in_flight.load(Relaxed) > 0 {
            None
        } else if passed(&self.silent_since, self.limits.first_byte) {
            Some(Overdue::FirstByte)
        } else if passed(&self.head_since, self.limits.head) {
            Some(Overdue::Head)
        } else if passed(&self.idle_since, self.limits.idle) {
            Some(Overdue::Idle)
        } else {
            None
        }
    }

    /// Whether what the client has not read is of no use any more.
    fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// Where the guard tells what it found.
    pub(super) fn verdicts(&self) -> &Arc<Verdicts> {
        &self.verdicts
    }

    fn request_ended(&self) {
        if self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.busy.fetch_sub(1, Relaxed);
            if self.verdicts.holds_a_head() {
                self.head_since.store(self.now(), Relaxed);
            } else {
                self.idle_since.store(self.now(), Relaxed);
            }
        }
    }

    fn part_began(&self) {
        self.take_up_work();
        self.moved.store(true, Release);
        self.unsent.fetch_add(1, Release);
    }

    fn part_moved(&self) {
        self.moved.store(true, Release);
    }

    fn part_ended(&self) {
        self.part_moved();
        self.unsent.fetch_sub(1, Release);
        self.request_ended();
    }

    fn bytes_arrived(&self) {
        if self.silent_since.load(Relaxed) != 0 {
            self.silent_since.store(0, Relaxed);
        }
        // HTTP/2 frames between requests (PING, SETTINGS) are not the beginning of a head.
        if self.in_flight.load(Relaxed) == 0
            && !self.http2.load(Relaxed)
            && self.head_since.load(Relaxed) == 0
        {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn write_blocked(&self, blocked: bool) {
        let since = self.unread_since.load(Relaxed);
        match (blocked, since) {
            (true, 0) => self.unread_since.store(self.now(), Relaxed),
            (false, 1..) => self.unread_since.store(0, Relaxed),
            _ => {}
        }
    }

    /// Whether what was written last did not go out whole, because the client reads too slowly, or not at all.
    pub(super) fn is_blocked(&self) -> bool {
        self.unread_since.load(Relaxed) != 0
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed()) + 1
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if *self.in_flight.get_mut() > 0 {
            self.busy.fetch_sub(1, Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

/// A request under way, until the whole answer was handed out to be sent, or dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    awaited: bool,
}

impl InFlight {
    /// Notes whether the stack is what is waited for, or whoever takes the answer.
    pub(super) fn set_awaited(&mut self, awaited: bool) {
        match (self.awaited, awaited) {
            (false, true) => self.activity.awaited.fetch_add(1, Release),
            (true, false) => self.activity.awaited.fetch_sub(1, Release),
            _ => return,
        };
        self.awaited = awaited;
    }

    /// Watches over a part of the answer until it is dropped.
    pub(super) fn part(&self) -> Part {
        self.activity.part_began();
        Part(Arc::clone(&self.activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.set_awaited(false);
        self.activity.request_ended();
    }
}

/// A part of an answer on its way to the client.
#[derive(Debug)]
pub(super) struct Part(Arc<Activity>);

impl Part {
    /// The client's side has taken some of it.
    pub(super) fn taken(&self) {
        self.0.part_moved();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.part_ended();
    }
}

/// A stream that can be given up together with what the other end has not read.
pub(super) trait Abandon {
    /// Has the system drop what it holds, when the stream is closed. Else it keeps that for minutes, for the other end to
    /// fetch, where no limit of ours counts it.
    fn abandon(&self);
}

impl Abandon for TcpStream {
    fn abandon(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Abandon for TlsStream<TcpStream> {
    fn abandon(&self) {
        self.get_ref().0.abandon();
    }
}

pin_project! {
    /// A stream that notes what it does. It holds the connection's place for as long as it is open, also when it has
    /// become a WebSocket and the connection is done with it.
    #[derive(Debug)]
    pub(super) struct Watched<T: Abandon> {
        #[pin]
        stream: T,
        activity: Arc<Activity>,
        place: Place,
    }

    impl<T: Abandon> PinnedDrop for Watched<T> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.activity.is_given_up() {
                this.stream.abandon();
            }
        }
    }
}

impl<T: Abandon> Watched<T> {
    pub(super) fn new(stream: T, activity: Arc<Activity>, place: Place) -> Self {
        Self {
            stream,
            activity,
            place,
        }
    }
}

impl<T: AsyncRead + Abandon> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        ready!(this.stream.poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.activity.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Abandon> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = this.stream.poll_write(cx, buf);
        this.activity.write_blocked(written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = this.stream.poll_write_vectored(cx, bufs);
        this.activity.write_blocked(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::places::Places;
    use super::*;

    /// A place of its own, and all places to see who is busy.
    pub(in super::super) fn place() -> (Place, Places) {
        let places = Places::new(1, 1);
        let ip = std::net::IpAddr::from([127, 0, 0, 1]);
        (places.take(ip).unwrap(), places)
    }

    pub(in super::super) fn limits() -> Limits {
        Limits {
            max_connections: 1,
            max_connections_per_address: 1,
            tls_handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            max_head_bytes: 65_536,
            max_headers: 100,
            h2_max_streams: 100,
            h2_max_pending_resets: 20,
            h2_max_local_resets: 1024,
            h2_max_header_list_bytes: 16_384,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_deadline() {
        let activity = Activity::new(limits(), &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        pass(9).await;
        assert_eq!(activity.overdue(), None);
        pass(1).await;
        assert_eq!(activity.overdue(), Some(Overdue::Head));

        let request = activity.request_began(false);
        pass(1000).await;
        assert_eq!(activity.overdue(), None);
        drop(request);
        pass(59).await;
        assert_eq!(activity.overdue(), None);
        pass(1).await;
        assert_eq!(activity.overdue(), Some(Overdue::Idle));

        drop(activity.request_began(false));
        activity.bytes_arrived();
        pass(5).await;
        activity.bytes_arrived();
        pass(5).await;
        assert_eq!(activity.overdue(), Some(Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_began_behind_a_request_has_no_longer_than_others() {
        let activity = Activity::new(limits(), &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let request = activity.request_began(false);
        activity.verdicts().hold_a_head();
        pass(100).await;
        drop(request);
        pass(9).await;
        assert_eq!(activity.overdue(), None);
        pass(1).await;
        assert_eq!(activity.overdue(), Some(Overdue::Head));
    }

    #[tokio::test]
    async fn a_connection_is_busy_while_it_has_work() {
        let (place, places) = place();
        let activity = Activity::new(limits(), &place);
        assert_eq!(places.busy(), 0);
        let first = activity.request_began(true);
        let second = activity.request_began(true);
        assert_eq!(places.busy(), 1);
        drop(first);
        assert_eq!(places.busy(), 1);
        drop(second);
        assert_eq!((places.busy(), places.taken()), (0, 1));
        activity.upgraded();
        drop(activity.request_began(false));
        assert_eq!(places.busy(), 1);
        drop(activity);
        assert_eq!(places.busy(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_has_a_deadline_of_its_own() {
        let limits = Limits {
            head: Duration::from_secs(20),
            ..limits()
        };
        let activity = Activity::silent(limits, &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        pass(10).await;
        assert_eq!(activity.overdue(), Some(Overdue::FirstByte));
        activity.bytes_arrived();
        assert_eq!(activity.overdue(), None);
        pass(20).await;
        assert_eq!(activity.overdue(), Some(Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_not_heads_and_unread_answers_are_cut() {
        let activity = Activity::new(limits(), &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let first = activity.request_began(true);
        drop(activity.request_began(true));
        pass(600).await;
        assert_eq!(activity.overdue(), None);
        activity.write_blocked(true);
        pass(29).await;
        activity.write_blocked(true);
        assert_eq!(activity.overdue(), None);
        pass(1).await;
        assert_eq!(activity.overdue(), Some(Overdue::Unread));
        activity.write_blocked(false);
        drop(first);
        activity.bytes_arrived();
        pass(20).await;
        assert_eq!(activity.overdue(), None);
        pass(40).await;
        assert_eq!(activity.overdue(), Some(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn who_shuts_all_windows_is_cut_and_who_is_slow_is_not() {
        let activity = Activity::new(limits(), &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let mut request = activity.request_began(true);
        pass(600).await;
        assert_eq!(activity.overdue(), None, "nothing is there to be taken");
        let part = request.part();
        request.set_awaited(false);
        for _ in 0..10 {
            assert_eq!(activity.overdue(), None);
            pass(119).await;
            assert_eq!(activity.overdue(), None);
            part.taken();
        }
        let next = request.part();
        assert_eq!(activity.overdue(), None);
        pass(119).await;
        assert_eq!(activity.overdue(), None);
        pass(1).await;
        assert_eq!(activity.overdue(), Some(Overdue::Unread));
        drop((part, next));
        assert_eq!(activity.overdue(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_paused_does_not_end_one_that_waits() {
        let activity = Activity::new(limits(), &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let mut paused = activity.request_began(true);
        let _part = paused.part();
        paused.set_awaited(false);
        let mut silent = activity.request_began(true);
        assert_eq!(activity.overdue(), None);
        pass(600).await;
        assert_eq!(activity.overdue(), None);
        let event = silent.part();
        silent.set_awaited(false);
        assert_eq!(activity.overdue(), None, "there was no time to take it");
        drop(event);
        silent.set_awaited(true);
        assert_eq!(activity.overdue(), None);
        pass(600).await;
        assert_eq!(activity.overdue(), None);
        drop(silent);
        assert_eq!(activity.overdue(), Some(Overdue::Unread));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_under_way_until_its_last_part_was_sent() {
        let (place, places) = place();
        let activity = Activity::new(limits(), &place);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let request = activity.request_began(false);
        let last = request.part();
        drop(request);
        for _ in 0..10 {
            pass(20).await;
            last.taken();
            assert_eq!((activity.overdue(), places.busy()), (None, 1));
        }
        drop(last);
        assert_eq!(places.busy(), 0);
        pass(59).await;
        assert_eq!(activity.overdue(), None);
        pass(1).await;
        assert_eq!(activity.overdue(), Some(Overdue::Idle));
    }
}
