//! Bodies that are bounded on their way in and watched on their way out.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::time::Sleep;

use super::activity::Activity;
use crate::server::bounds::{BodyError, Bounds};

/// What a request that has not come whole holds beside its body: its head, and what is known of its stream.
const UNFINISHED_HEAD: usize = 8 << 10;

/// Larger frames of an answer are cut into pieces; no answer to a Check is so large.
const LARGE: usize = 4 << 10;
const PIECE: usize = 16 << 10;

/// One request, until its answer has been taken.
#[derive(Debug)]
struct Asking {
    activity: Arc<Activity>,
    held: AtomicUsize,
}

impl Asking {
    fn begin(activity: &Arc<Activity>) -> Arc<Self> {
        activity.begin();
        Arc::new(Self {
            activity: Arc::clone(activity),
            held: AtomicUsize::new(0),
        })
    }

    fn hold(&self, bytes: usize) -> bool {
        let fits = self.activity.budget.take(bytes);
        if fits {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let held = *self.held.get_mut();
        if held > 0 {
            self.activity.budget.give_back(held);
        }
        self.activity.end();
    }
}

/// The body of a request. What comes at once, as nearly every Check does, costs nothing; what is waited for is counted
/// against what unfinished requests may hold.
pub(in crate::server) struct Received {
    inner: Incoming,
    asking: Arc<Asking>,
    waited: bool,
    deadline: Option<Pin<Box<Sleep>>>,
    bounds: Bounds,
}

impl Received {
    fn charge(&self, bytes: usize) -> Result<(), BodyError> {
        if self.asking.hold(bytes) {
            return Ok(());
        }
        Err((self.bounds.overloaded)())
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        if !self.waited {
            self.waited = true;
            self.charge(UNFINISHED_HEAD)?;
            let timeout = self.bounds.body_timeout;
            self.deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout)));
        }
        let Some(deadline) = &mut self.deadline else {
            return Ok(());
        };
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(TooSlow.into()),
            Poll::Pending => Ok(()),
        }
    }
}

/// The body took too long.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
struct TooSlow;

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let whole = !self.waited && self.inner.is_end_stream();
                let fits = if whole { Ok(()) } else { self.charge(bytes) };
                Poll::Ready(Some(fits.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.wait(context) {
                Ok(()) => Poll::Pending,
                Err(refused) => Poll::Ready(Some(Err(refused))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A service whose requests and answers are counted.
pub(super) struct Tracked<S> {
    pub(super) service: S,
    pub(super) activity: Arc<Activity>,
    pub(super) bounds: Bounds,
}

impl<S, B> Service<Request<Incoming>> for Tracked<S>
where
    S: Service<Request<Received>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Sent<B>>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let asking = Asking::begin(&self.activity);
        let request = request.map(|inner| Received {
            inner,
            asking: Arc::clone(&asking),
            waited: false,
            deadline: None,
            bounds: self.bounds,
        });
        Answer {
            answering: self.service.call(request),
            asking: Some(asking),
        }
    }
}

/// An answer in the making.
pub(super) struct Answer<F> {
    answering: F,
    asking: Option<Arc<Asking>>,
}

impl<F, B> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
{
    type Output = Result<Response<Sent<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(answer)) = Pin::new(&mut self.answering).poll(context) else {
            return Poll::Pending;
        };
        let asking = self.asking.take();
        if let Some(asking) = asking.as_ref().filter(|_| answer.status().is_success()) {
            asking.activity.serve();
        }
        Poll::Ready(Ok(answer.map(|body| Sent::new(body, asking))))
    }
}

/// The body of an answer.
pub(super) struct Sent<B> {
    inner: B,
    asking: Option<Arc<Asking>>,
    /// Since when it waits for the peer; none while it waits for us.
    waiting: Option<usize>,
    begun: bool,
    /// What is left of a large frame.
    rest: Bytes,
}

impl<B> Sent<B> {
    fn new(inner: B, asking: Option<Arc<Asking>>) -> Self {
        let waiting = asking
            .as_ref()
            .map(|asking| asking.activity.wait_for_peer());
        Self {
            inner,
            asking,
            waiting,
            begun: false,
            rest: Bytes::new(),
        }
    }

    fn waits_for_peer(&mut self, does: bool) {
        let Some(asking) = &self.asking else { return };
        match (does, self.waiting) {
            (true, None) => self.waiting = Some(asking.activity.wait_for_peer()),
            (false, Some(epoch)) => {
                asking.activity.taken(epoch);
                self.waiting = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl<B> Drop for Sent<B> {
    fn drop(&mut self) {
        self.waits_for_peer(false);
    }
}

impl<B> Sent<B> {
    /// The next piece of a large frame. The next is asked for only when the peer has room for it, so that what it does not
    /// take is known: the whole would be kept where nobody sees it.
    fn cut(&mut self, mut data: Bytes) -> Bytes {
        if data.len() > LARGE {
            self.rest = data.split_off(PIECE.min(data.len() - 1));
        }
        data
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Sent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(self.cut(rest)))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        self.begun = true;
        self.waits_for_peer(polled.is_ready());
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let cut = frame.map_data(|data| self.cut(data));
                Poll::Ready(Some(Ok(cut)))
            }
            other => other,
        }
    }

    /// Not before it has been asked for more: while it is not over, what is sent of it is known to be untaken.
    fn is_end_stream(&self) -> bool {
        !self.begun && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.begun {
            return SizeHint::default();
        }
        self.inner.size_hint()
    }
}
