//! Memory for requests under way, kept and used again: one large read buffer per thread that is only used between two
//! waits, and spare vectors for what must outlive a wait. An idle connection holds no buffer.

use std::cell::{RefCell, RefMut};

use everup_core::http::Storage;

/// The read buffer of a thread. 256 KiB measured best for bodies: larger reads save system calls until the copy
/// leaves the cache.
pub(crate) const SCRATCH_BYTES: usize = 256 * 1024;

/// Vectors kept for the next request; more are freed.
const SPARE_VECTORS: usize = 1024;

/// A vector that grew beyond this is freed rather than kept.
const SPARE_BYTES: usize = 64 * 1024;

/// What a new vector can hold without growing: nearly every head.
const FIRST_BYTES: usize = 2 * 1024;

/// The buffers of one data-plane thread.
#[derive(Debug)]
pub(crate) struct Buffers {
    scratch: RefCell<Box<[u8]>>,
    lines: RefCell<Box<Storage>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            lines: RefCell::new(Box::new(Storage::new())),
            spare: RefCell::new(Vec::with_capacity(SPARE_VECTORS)),
        }
    }

    /// The thread's read buffer. Its content is valid until the next wait; the guard must not live across one.
    pub(crate) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// Room for the header lines of the one head that is read now; the guard must not live across a wait.
    pub(crate) fn lines(&self) -> RefMut<'_, Box<Storage>> {
        self.lines.borrow_mut()
    }

    /// An empty vector.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(FIRST_BYTES))
    }

    /// Gives a vector back.
    pub(crate) fn give(&self, mut vector: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if (1..=SPARE_BYTES).contains(&vector.capacity()) && spare.len() < SPARE_VECTORS {
            vector.clear();
            spare.push(vector);
        }
    }
}
