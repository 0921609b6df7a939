//! Between OpenAI's chat API and the other ones: what a chat asks, what an answer says, and the stream of it.
//!
//! A provider's file writes its request from a [`Chat`] and reads its answers into a [`Completion`], its
//! streams into [`Delta`]s. Only this module knows what OpenAI's side looks like.

mod adapt;
mod answer;
mod chat;
mod sse;

#[cfg(feature = "fuzzing")]
pub(crate) use adapt::Translating;
pub(crate) use adapt::{Adapted, Adapter, Dialect, StreamDecoder, Told};
pub(crate) use answer::{Chunks, Completion, Delta, Finish, ToolCall, Usage, error_body};
pub(crate) use chat::{Chat, Choice, Image, Part};
pub(crate) use sse::{BYTE_ORDER_MARK, SseLines};

#[cfg(test)]
pub(crate) mod test_support {
    pub(crate) use super::adapt::tests::translated;
}
