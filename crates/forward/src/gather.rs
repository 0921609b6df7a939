use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// Pieces are put together until they have this size, in bytes; a larger one is not copied.
const ENOUGH: usize = 4096;

/// A body whose small pieces become one where they are there at the same time. It never waits for another.
pub(crate) struct Gathered<B: Body> {
    body: B,
    held: Held<B>,
}

/// What came after a piece of data and is not data.
enum Held<B: Body> {
    End,
    Frame(Result<Frame<B::Data>, B::Error>),
    Nothing,
}

impl<B: Body> Gathered<B> {
    pub(crate) const fn new(body: B) -> Self {
        Self {
            body,
            held: Held::Nothing,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Gathered<B> {
    /// Adds to `first` what else is there already.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut all: Option<BytesMut> = None;
        while all.as_ref().map_or(first.len(), BytesMut::len) < ENOUGH {
            let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) else {
                break;
            };
            self.held = match next {
                None => Held::End,
                Some(Err(error)) => Held::Frame(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        all.get_or_insert_with(|| {
                            let mut all = BytesMut::with_capacity(ENOUGH + data.len());
                            all.extend_from_slice(&first);
                            all
                        })
                        .extend_from_slice(&data);
                        continue;
                    }
                    Err(frame) => Held::Frame(Ok(frame)),
                },
            };
            break;
        }
        all.map_or(first, BytesMut::freeze)
    }
}

impl<B> Body for Gathered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let next = match std::mem::replace(&mut this.held, Held::Nothing) {
            Held::End => return Poll::Ready(None),
            Held::Frame(frame) => return Poll::Ready(Some(frame)),
            Held::Nothing => Pin::new(&mut this.body).poll_frame(cx),
        };
        next.map(|next| {
            next.map(|frame| {
                Ok(match frame?.into_data() {
                    Ok(data) => Frame::data(this.gather(data, cx)),
                    Err(frame) => frame,
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        match self.held {
            Held::End => true,
            Held::Frame(_) => false,
            Held::Nothing => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http::HeaderMap;
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    /// What a body does when it is asked.
    #[derive(Clone, Debug)]
    enum Does {
        Break,
        Data(usize),
        End,
        Trailers,
        Wait,
    }

    struct Script {
        steps: VecDeque<Does>,
        sent: usize,
    }

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.steps.pop_front() {
                Some(Does::Break) => Poll::Ready(Some(Err("broken"))),
                Some(Does::Data(len)) => {
                    // Each piece has a letter of its own, so that a lost or swapped one shows.
                    self.sent += 1;
                    let letter = b'a' + u8::try_from(self.sent % 26).unwrap();
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![letter; len])))))
                }
                Some(Does::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new())))),
                Some(Does::Wait) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Does::End) | None => Poll::Ready(None),
            }
        }
    }

    /// The pieces that come out, each `data`, `trailers` or the error.
    fn run<B>(mut body: B) -> Vec<String>
    where
        B: Body<Data = Bytes, Error = &'static str> + Unpin,
    {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(async {
                let mut pieces = Vec::new();
                while let Some(frame) = body.frame().await {
                    let broken = frame.is_err();
                    pieces.push(match frame.map(Frame::into_data) {
                        Ok(Ok(data)) => String::from_utf8(data.to_vec()).unwrap(),
                        Ok(Err(_)) => "trailers".to_owned(),
                        Err(error) => error.to_owned(),
                    });
                    if broken {
                        break;
                    }
                }
                pieces
            })
    }

    fn script(steps: &[Does]) -> Script {
        Script {
            steps: steps.iter().cloned().collect(),
            sent: 0,
        }
    }

    #[test]
    fn what_is_there_goes_together_and_nothing_is_waited_for() {
        use Does::{Break, Data, End, Trailers, Wait};
        for (steps, pieces) in [
            (&[Data(1), Data(2), End][..], &["bcc"][..]),
            (&[Data(1), Wait, Data(1)], &["b", "c"]),
            (
                &[Wait, Data(1), Data(1), Wait, Data(1), Data(1)],
                &["bc", "de"],
            ),
            (&[Data(1), Data(1), Trailers], &["bc", "trailers"]),
            (&[Data(1), Data(1), Break], &["bc", "broken"]),
            (&[Break], &["broken"]),
            (&[End], &[]),
        ] {
            assert_eq!(run(Gathered::new(script(steps))), pieces, "{steps:?}");
        }
    }

    #[test]
    fn large_pieces_are_left_alone() {
        let steps = [Does::Data(ENOUGH), Does::Data(ENOUGH), Does::Data(1)];
        let lengths: Vec<_> = run(Gathered::new(script(&steps)))
            .iter()
            .map(String::len)
            .collect();
        assert_eq!(lengths, [ENOUGH, ENOUGH, 1]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_swapped(steps in prop::collection::vec(prop_oneof![
            (0_usize..3000).prop_map(Does::Data),
            Just(Does::Wait),
        ], 0..40)) {
            let plain = run(script(&steps)).concat();
            prop_assert_eq!(run(Gathered::new(script(&steps))).concat(), plain);
        }
    }
}
