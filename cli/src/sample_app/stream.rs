//! A body of a given length that is never held in memory as a whole.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// One frame's bytes; its content is of no interest.
static PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// So many bytes of `x`.
pub(super) struct Filler {
    left: u64,
}

impl Filler {
    /// `length` bytes.
    pub(super) fn new(length: u64) -> Self {
        Self { left: length }
    }
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.left.min(PIECE.len() as u64);
        self.left -= size;
        let piece = PIECE.get(..usize::try_from(size).unwrap_or(PIECE.len())).unwrap_or(&PIECE);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
