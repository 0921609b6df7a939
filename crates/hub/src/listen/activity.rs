use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Limits;
use super::guard::Verdicts;
use super::places::Place;

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
    /// Parts of answers that were handed out to be sent, and are not sent whole.
    unsent: AtomicUsize,
    /// Whether the client has taken any of them since somebody looked.
    taken: AtomicBool,
    taken_since: AtomicU64,
    missed: Notify,
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
            unsent: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
            taken_since: AtomicU64::new(0),
            missed: Notify::new(),
            verdicts: Arc::default(),
        }
    }

    pub(super) fn request_began(self: &Arc<Self>, http2: bool) -> InFlight {
        self.http2.store(http2, Relaxed);
        self.take_up_work();
        self.head_since.store(0, Relaxed);
        self.idle_since.store(0, Relaxed);
        InFlight(Arc::clone(self))
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
        if self.taken.swap(false, Relaxed) {
            self.taken_since.store(now, Relaxed);
        }
        if self.unsent.load(Relaxed) > 0 && passed(&self.taken_since, self.limits.write) {
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
        if self.unsent.fetch_add(1, Relaxed) == 0 {
            self.taken.store(true, Relaxed);
        }
    }

    fn part_taken(&self) {
        self.taken.store(true, Relaxed);
    }

    fn part_ended(&self) {
        self.part_taken();
        self.unsent.fetch_sub(1, Relaxed);
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
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    /// Watches over a part of the answer until it is dropped.
    pub(super) fn part(&self) -> Part {
        self.0.part_began();
        Part(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// A part of an answer on its way to the client.
#[derive(Debug)]
pub(super) struct Part(Arc<Activity>);

impl Part {
    /// The client's side has taken some of it.
    pub(super) fn taken(&self) {
        self.0.part_taken();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.part_ended();
    }
}

pin_project! {
    /// A stream that notes what it reads. It holds the connection's place for as long as it is open, also when it has
    /// become a WebSocket and the connection is done with it.
    #[derive(Debug)]
    pub(super) struct Watched<T> {
        #[pin]
        stream: T,
        activity: Arc<Activity>,
        place: Place,
    }
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, activity: Arc<Activity>, place: Place) -> Self {
        Self {
            stream,
            activity,
            place,
        }
    }
}

impl<T: AsyncRead> AsyncRead for Watched<T> {
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

impl<T: AsyncWrite> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
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
        self.project().stream.poll_write_vectored(cx, bufs)
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
    async fn pings_are_not_heads() {
        let activity = Activity::new(limits(), &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let first = activity.request_began(true);
        drop(activity.request_began(true));
        pass(600).await;
        assert_eq!(activity.overdue(), None);
        drop(first);
        activity.bytes_arrived();
        pass(20).await;
        assert_eq!(activity.overdue(), None);
        pass(40).await;
        assert_eq!(activity.overdue(), Some(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_cut_and_who_is_slow_is_not() {
        let activity = Activity::new(limits(), &place().0);
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let request = activity.request_began(true);
        pass(600).await;
        assert_eq!(activity.overdue(), None, "nothing is there to be taken");
        let part = request.part();
        for _ in 0..10 {
            assert_eq!(activity.overdue(), None);
            pass(29).await;
            assert_eq!(activity.overdue(), None);
            part.taken();
        }
        let next = request.part();
        assert_eq!(activity.overdue(), None);
        pass(29).await;
        assert_eq!(activity.overdue(), None);
        pass(1).await;
        assert_eq!(activity.overdue(), Some(Overdue::Unread));
        drop((part, next));
        assert_eq!(activity.overdue(), None);
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
