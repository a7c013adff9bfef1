//! Where a body ends, whatever its framing: the reader of a connection asks how many of the bytes it has belong to
//! the body, and passes on just those.

use std::sync::Arc;

use super::chunked::ChunkScanner;
use super::edit::HeadEdits;
use super::{Framing, Malformed};

/// The rest of a body.
#[derive(Clone, Debug)]
pub enum Body {
    /// So many more bytes.
    Length(u64),
    /// Until the last chunk and its trailers.
    Chunked(Box<ChunkScanner>),
    /// Until the connection closes.
    UntilClose,
}

impl Body {
    /// The whole of a body that is framed so.
    pub fn new(framing: Framing) -> Self {
        Self::edited(framing, None)
    }

    /// The same, of a message whose head was edited so.
    pub fn edited(framing: Framing, edits: Option<&Arc<HeadEdits>>) -> Self {
        match framing {
            Framing::Empty => Self::Length(0),
            Framing::Length(bytes) => Self::Length(bytes),
            Framing::Chunked => Self::Chunked(Box::new(ChunkScanner::new(edits.map(Arc::clone)))),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether nothing more belongs to it. A body until close is never done by its bytes.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(scanner) => scanner.is_done(),
            Self::UntilClose => false,
        }
    }

    /// How many of `bytes` belong to it; `on_data` gets its content without the framing.
    ///
    /// # Errors
    /// [`Malformed::Chunk`] for a broken chunked coding.
    pub fn take(&mut self, bytes: &[u8], mut on_data: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                on_data(&bytes[..here]);
                Ok(here)
            }
            Self::Chunked(scanner) => scanner.scan(bytes, on_data),
            Self::UntilClose => {
                on_data(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// The most bytes worth reading at once; None if any number is.
    pub fn wants(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}
