//! What a client holds of a request: a stream of pieces, or the promise of one result.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::session::{CancelHook, Canceller, Completion, Piece, Summary};

use super::progress::{Progress, PromptProgress};
use super::request::Outcome;
use super::stream::{self, Item, Stream};

impl CancelHook for stream::Canceller<Piece, Outcome> {
    fn cancel(&self) {
        stream::Canceller::cancel(self);
    }
}

/// The answer to a request, as it is generated: [`Piece`]s, or an error as the last item.
///
/// Threads read it with [`blocking_iter`](Reply::blocking_iter) or
/// [`wait`](Reply::wait) for all of it; tasks of any runtime use
/// [`next`](Reply::next), `.await` it for all of it, or use it as a `futures_core::Stream`
/// with the feature `futures`. Dropping it cancels the request.
#[must_use = "dropping a reply cancels its request"]
pub struct Reply {
    stream: Stream<Piece, Outcome>,
    canceller: Canceller,
    seed: u64,
    progress: Progress,
    summary: Summary,
}

impl Reply {
    pub(super) fn new(stream: Stream<Piece, Outcome>, seed: u64, progress: Progress) -> Self {
        let canceller = Canceller::with_hook(Arc::new(stream.canceller()));
        Reply { stream, canceller, seed, progress, summary: Summary::default() }
    }

    /// How much of the prompt is computed by now.
    pub fn progress(&self) -> PromptProgress {
        self.progress.get()
    }

    /// What happened; complete after the last piece. After an error there is no
    /// [finish reason](Summary::finish_reason).
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The seed in use, to repeat this answer.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A handle that ends this request from anywhere. It then ends without an error, with
    /// [`FinishReason::Cancelled`](crate::FinishReason::Cancelled).
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Asks for the end. What was generated before stays readable.
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// The pieces for a thread: waits for each. In a task use [`next`](Reply::next), which
    /// does not hold up the executor.
    pub fn blocking_iter(&mut self) -> BlockingIter<'_> {
        BlockingIter(self)
    }

    /// The next piece; `None` after the end. Dropping the future loses nothing.
    ///
    /// Works with any executor:
    /// ```
    /// # let engine = tramontane::Engine::new(&tramontane::Model::open("models/storyteller-q4_k_m.gguf")?, &Default::default())?;
    /// # let options = tramontane::GenerateOptions::default().with_num_predict(4);
    /// # let work = async {
    /// let mut reply = engine.generate("Once upon a time", &options)?;
    /// while let Some(piece) = reply.next().await {
    ///     print!("{}", piece?.text);
    /// }
    /// # Ok::<(), tramontane::Error>(())
    /// # };
    /// # pollster::block_on(work)?;
    /// # Ok::<(), tramontane::Error>(())
    /// ```
    pub async fn next(&mut self) -> Option<Result<Piece>> {
        let item = self.stream.next_async().await;
        self.take(item)
    }

    /// The next piece, or a promise to wake `context`'s task when there is one. The last
    /// task that polled is the one that is woken.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Piece>>> {
        self.stream.poll_next(context).map(|item| self.take(item))
    }

    /// The next piece if there is one now; `Ready(None)` after the end.
    pub fn try_next(&mut self) -> Poll<Option<Result<Piece>>> {
        self.stream.try_next().map(|item| self.take(item))
    }

    /// Waits for the next piece, but no longer than `patience`.
    pub fn next_timeout(&mut self, patience: Duration) -> Poll<Option<Result<Piece>>> {
        self.stream.next_timeout(patience).map(|item| self.take(item))
    }

    /// Waits for the whole answer, for a thread. In a task `.await` the reply instead.
    ///
    /// # Errors
    /// The error that ended the answer, if one did.
    pub fn wait(mut self) -> Result<Completion> {
        let text = self.blocking_iter().map(|piece| piece.map(|piece| piece.text));
        let text = text.collect::<Result<_>>()?;
        Ok(Completion { text, summary: self.summary })
    }

    fn take(&mut self, item: Option<Item<Piece, Outcome>>) -> Option<Result<Piece>> {
        match item? {
            Item::Event(piece) => Some(Ok(piece)),
            Item::End(Outcome::Done(summary)) => {
                self.summary = summary;
                None
            }
            Item::End(Outcome::Failed(error)) => Some(Err(error)),
            Item::End(Outcome::Embedding(_) | Outcome::Score(..) | Outcome::Prefix(_)) => None,
        }
    }
}

/// The pieces of a [`Reply`], for a thread: see [`Reply::blocking_iter`].
#[derive(Debug)]
pub struct BlockingIter<'a>(&'a mut Reply);

impl Iterator for BlockingIter<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        let item = self.0.stream.next();
        self.0.take(item)
    }
}

/// Waits for the whole answer, in a task.
impl IntoFuture for Reply {
    type Output = Result<Completion>;
    type IntoFuture = WholeReply;

    fn into_future(self) -> WholeReply {
        WholeReply { reply: self, text: String::new() }
    }
}

/// The whole answer of a [`Reply`], to come.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct WholeReply {
    reply: Reply,
    text: String,
}

impl Future for WholeReply {
    type Output = Result<Completion>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let WholeReply { reply, text } = &mut *self;
        loop {
            match reply.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => *text += &piece.text,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => {
                    let text = std::mem::take(text);
                    return Poll::Ready(Ok(Completion { text, summary: reply.summary }));
                }
            }
        }
    }
}

#[cfg(feature = "futures")]
impl futures_core::Stream for Reply {
    type Item = Result<Piece>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece>>> {
        Reply::poll_next(&mut self, context)
    }
}

/// One result to come: threads [`wait`](Pending::wait), tasks of any runtime `.await`.
/// Dropping it cancels the work.
#[must_use = "dropping it cancels its request"]
pub struct Pending<T> {
    stream: Stream<Piece, Outcome>,
    canceller: Canceller,
    take: fn(Outcome) -> Option<T>,
}

impl<T> Pending<T> {
    /// `take` gets the result out of the outcome that belongs to the request.
    pub(super) fn new(stream: Stream<Piece, Outcome>, take: fn(Outcome) -> Option<T>) -> Self {
        let canceller = Canceller::with_hook(Arc::new(stream.canceller()));
        Pending { stream, canceller, take }
    }

    /// Waits for the result, for a thread.
    ///
    /// # Errors
    /// What went wrong; [`Error::Cancelled`], [`Error::Closed`].
    pub fn wait(mut self) -> Result<T> {
        let item = self.stream.next();
        self.result(item)
    }

    /// A handle that ends the work from anywhere, with [`Error::Cancelled`].
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    fn result(&self, item: Option<Item<Piece, Outcome>>) -> Result<T> {
        match item {
            Some(Item::End(Outcome::Failed(error))) => Err(error),
            Some(Item::End(Outcome::Done(_))) => Err(Error::Cancelled),
            // There are no events before it, and nothing after it is asked for.
            Some(Item::End(outcome)) => (self.take)(outcome).ok_or(Error::Closed),
            Some(Item::Event(_)) | None => Err(Error::Closed),
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.stream.poll_next(context).map(|item| self.result(item))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
