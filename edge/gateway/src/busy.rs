//! What a connection needs only while a request is under way: the request itself, and the state of carrying it to an
//! instance and its answer back. Together some kilobytes, which an idle connection does not hold: they lie in rooms of the
//! thread, are used by one request after another, and so cost a request no allocation.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::client::{After, Client, Incoming};
use crate::exchange;
use crate::local::Local;

/// Rooms kept for the next request; more are freed. As many requests are rarely under way on one thread.
const ROOMS: usize = 1024;

/// Where the head of a request is read into.
pub(crate) type Slot = Box<Option<Incoming>>;

/// The free rooms and slots of a thread.
#[derive(Default)]
pub(crate) struct Rooms {
    rooms: RefCell<Vec<Pin<Box<dyn Room>>>>,
    slots: RefCell<Vec<Slot>>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("free", &self.rooms.borrow().len()).finish_non_exhaustive()
    }
}

/// What goes into a room.
struct Guest {
    local: Rc<Local>,
    client: Box<Client>,
    slot: Slot,
}

/// What comes out of it.
struct Left {
    client: Box<Client>,
    slot: Slot,
    after: After,
}

trait Room {
    fn enter(self: Pin<&mut Self>, guest: Guest);
    /// After it was ready the room is empty.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Left>;
}

pin_project! {
    /// The future's type has no name: `begin` makes one.
    struct Typed<B, F> {
        begin: B,
        #[pin]
        under_way: Option<F>,
    }
}

impl<B: Fn(Guest) -> F, F: Future<Output = Left>> Room for Typed<B, F> {
    fn enter(self: Pin<&mut Self>, guest: Guest) {
        let mut this = self.project();
        let under_way = (this.begin)(guest);
        this.under_way.set(Some(under_way));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Left> {
        let mut this = self.project();
        let under_way =
            this.under_way.as_mut().as_pin_mut().expect("a guest is in the room until it is ready");
        let left = ready!(under_way.poll(cx));
        this.under_way.set(None);
        Poll::Ready(left)
    }
}

async fn stay(guest: Guest) -> Left {
    let Guest { local, mut client, mut slot } = guest;
    let after = match &mut *slot {
        Some(incoming) => exchange::run(&local, &mut client, incoming).await,
        None => After::Gone,
    };
    *slot = None;
    Left { client, slot, after }
}

impl Rooms {
    /// An empty slot.
    pub(crate) fn slot(&self) -> Slot {
        self.slots.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives an empty slot back.
    pub(crate) fn give(&self, mut slot: Slot) {
        *slot = None;
        let mut slots = self.slots.borrow_mut();
        if slots.len() < ROOMS {
            slots.push(slot);
        }
    }

    fn room(&self) -> Pin<Box<dyn Room>> {
        let free = self.rooms.borrow_mut().pop();
        free.unwrap_or_else(|| Box::pin(Typed { begin: stay, under_way: None }))
    }
}

/// Carries the request that lies in `slot`.
pub(crate) async fn carry(local: &Rc<Local>, client: Box<Client>, slot: Slot) -> (Box<Client>, After) {
    let mut room = local.rooms.room();
    room.as_mut().enter(Guest { local: Rc::clone(local), client, slot });
    let Left { client, slot, after } = poll_fn(|cx| room.as_mut().poll(cx)).await;
    local.rooms.give(slot);
    let mut rooms = local.rooms.rooms.borrow_mut();
    if rooms.len() < ROOMS {
        rooms.push(room);
    }
    (client, after)
}
