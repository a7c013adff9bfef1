//! How an instance misbehaves while its process runs: slowly, by vanishing from the network, by taking no connections, by
//! resets. The drill says so over a unix socket, one word each time; it is answered with the process's id.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{SockFilter, SockRef};

/// How an instance behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// So long before every answer.
    Slow(Duration),
    /// Its kernel drops what comes, as if the machine were gone: no acknowledgement, no reset.
    Vanished,
    /// It takes no connection, and its accept queue has room for hardly any.
    Full,
    /// It resets connections instead of answering.
    Reset(Reset),
}

/// What comes before a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// Nothing.
    Silent,
    /// Half a head.
    InHead,
    /// A head and half a body, for one request out of [`CUT_ONE_OF`].
    InBody,
}

/// Answers cut off in the middle are the client's loss whatever a gateway does; some will do.
const CUT_ONE_OF: usize = 4;

/// Enough for bytes to be read on the same machine.
pub(super) const ON_THE_WAY: Duration = Duration::from_millis(5);

const BACKLOG: i32 = 1024;

/// The mood of an instance, and its open connections.
pub(super) struct Moods {
    listener: TcpListener,
    mood: Mutex<Mood>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    turns: AtomicUsize,
}

impl Mood {
    /// The word for it.
    fn word(self) -> String {
        match self {
            Self::Well => "well".into(),
            Self::Slow(time) => format!("slow-{}", time.as_millis()),
            Self::Vanished => "vanished".into(),
            Self::Full => "full".into(),
            Self::Reset(Reset::Silent) => "reset".into(),
            Self::Reset(Reset::InHead) => "reset-in-head".into(),
            Self::Reset(Reset::InBody) => "reset-in-body".into(),
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "well" => Self::Well,
            "vanished" => Self::Vanished,
            "full" => Self::Full,
            "reset" => Self::Reset(Reset::Silent),
            "reset-in-head" => Self::Reset(Reset::InHead),
            "reset-in-body" => Self::Reset(Reset::InBody),
            slow => {
                let ms = slow.strip_prefix("slow-").and_then(|ms| ms.parse().ok());
                Self::Slow(Duration::from_millis(ms.unwrap_or_else(|| panic!("no mood: {slow}"))))
            }
        }
    }

    /// Puts the instance with this control socket in this mood. Its process id.
    pub(crate) fn impose(self, control: &Path) -> u32 {
        let mut stream = UnixStream::connect(control).expect("the instance has a control socket");
        stream.write_all(format!("{}\n", self.word()).as_bytes()).expect("it listens");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("it answers");
        line.trim().parse().expect("with its process id")
    }
}

impl Moods {
    /// Well, until told otherwise on the socket at `control`.
    pub(super) fn under_control(listener: &TcpListener, control: &Path) -> Arc<Self> {
        // An earlier life's.
        drop(std::fs::remove_file(control));
        let orders = UnixListener::bind(control).expect("a control socket");
        let listener = listener.try_clone().expect("a descriptor is free");
        let mood = Mutex::new(Mood::Well);
        let (changed, connections, turns) = (Condvar::new(), Mutex::default(), AtomicUsize::new(0));
        let moods = Arc::new(Self { listener, mood, changed, connections, turns });
        let told = Arc::clone(&moods);
        thread::spawn(move || {
            for mut order in orders.incoming().flatten() {
                let mut line = String::new();
                BufReader::new(&order).read_line(&mut line).expect("an order is a line");
                told.set(Mood::from_word(line.trim()));
                order.write_all(format!("{}\n", std::process::id()).as_bytes()).expect("the drill listens");
            }
        });
        moods
    }

    pub(super) fn now(&self) -> Mood {
        *lock(&self.mood)
    }

    /// Whether this request is one of those that are reset.
    pub(super) fn is_due(&self, reset: Reset) -> bool {
        reset != Reset::InBody || self.turns.fetch_add(1, Ordering::Relaxed).is_multiple_of(CUT_ONE_OF)
    }

    fn set(&self, new: Mood) {
        let old = std::mem::replace(&mut *lock(&self.mood), new);
        match old {
            Mood::Vanished => self.each_socket(|socket| socket.detach_filter()),
            Mood::Full => self.listen(BACKLOG),
            Mood::Well | Mood::Slow(_) | Mood::Reset(_) => {}
        }
        match new {
            Mood::Vanished => self.each_socket(drop_everything),
            Mood::Full => self.listen(0),
            Mood::Well | Mood::Slow(_) | Mood::Reset(_) => {}
        }
        self.changed.notify_all();
    }

    /// Keeps the connection in mind; holds it, and with it all that come after, while none are taken.
    pub(super) fn on_accepted(&self, socket: &TcpStream) {
        let mut mood = lock(&self.mood);
        while *mood == Mood::Full {
            mood = self.changed.wait(mood).unwrap_or_else(PoisonError::into_inner);
        }
        if *mood == Mood::Vanished {
            drop(drop_everything(SockRef::from(socket)));
        }
        lock(&self.connections).extend(socket.try_clone());
    }

    /// Forgets it, so that it closes.
    pub(super) fn on_ended(&self, socket: &TcpStream) {
        let ended = socket.peer_addr().ok();
        lock(&self.connections).retain(|known| known.peer_addr().ok() != ended);
    }

    fn listen(&self, backlog: i32) {
        rustix::net::listen(&self.listener, backlog).expect("a listener's queue can be resized");
    }

    fn each_socket(&self, change: impl Fn(SockRef<'_>) -> std::io::Result<()>) {
        // A connection may have ended meanwhile.
        change(SockRef::from(&self.listener)).expect("a listener takes a filter");
        lock(&self.connections).iter().for_each(|socket| drop(change(SockRef::from(socket))));
    }
}

/// A packet filter of one instruction: return 0, keep nothing.
fn drop_everything(socket: SockRef<'_>) -> std::io::Result<()> {
    const RETURN_CONSTANT: u16 = 0x06;
    socket.attach_filter(&[SockFilter::new(RETURN_CONSTANT, 0, 0, 0)])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
