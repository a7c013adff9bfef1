//! The engine against real sockets, in every way of making system calls. What a peer does is done by blocking calls, so
//! a test must give the engine its turn before it waits for the peer.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use super::{Batching, Elapsed, Engine, Socket};

const ALL: [Batching; 3] = [Batching::Never, Batching::WhenItPays, Batching::Always];

/// Runs what `main` makes on an engine of its own.
fn run<F: Future<Output = ()> + 'static>(batching: Batching, main: impl FnOnce(Rc<Engine>) -> F) {
    let engine = Rc::new(Engine::new(batching).unwrap());
    let main = main(Rc::clone(&engine));
    let over = Rc::new(Cell::new(false));
    let ended = Rc::clone(&over);
    engine.run(async move {
        main.await;
        ended.set(true);
    });
    assert!(over.get(), "an assertion failed inside, see above");
}

/// A connection: our end, and the peer's, which blocks.
async fn connected(engine: &Engine) -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = Socket::connect(engine.reactor(), listener.local_addr().unwrap()).await.unwrap();
    (socket, listener.accept().unwrap().0)
}

/// The same, but it was the peer who connected.
async fn accepted(engine: &Engine) -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (socket, address) = engine.listener(listener.into()).unwrap().accept().await.unwrap();
    assert_eq!(address, peer.local_addr().unwrap());
    (socket, peer)
}

async fn read(socket: &Socket, into: &mut [u8]) -> std::io::Result<usize> {
    poll_fn(|cx| socket.poll_read(cx, into)).await
}

async fn write_all(socket: &Socket, bytes: &[u8]) {
    let mut at = 0;
    while at < bytes.len() {
        at += poll_fn(|cx| socket.poll_write(cx, &bytes[at..], &[])).await.unwrap();
    }
}

/// Lets everyone else have a turn.
async fn turn() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sets what it holds when it is dropped.
struct Dropped(Rc<Cell<bool>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn a_task_that_another_thread_wakes_runs() {
    run(Batching::Never, |_| async {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waker = thread::spawn(move || sender.send(7).unwrap());
        assert_eq!(receiver.await, Ok(7));
        waker.join().unwrap();
    });
}

#[test]
fn a_task_that_panics_takes_no_other_with_it() {
    run(Batching::Never, |engine| async move {
        let gone = Rc::new(Cell::new(false));
        let dropped = Dropped(Rc::clone(&gone));
        engine.spawn(async move {
            let _dropped = dropped;
            panic!("this task fails");
        });
        turn().await;
        assert!(gone.get(), "what it held is given up");
    });
}

#[test]
fn when_the_engine_ends_every_task_is_dropped() {
    let gone = Rc::new(Cell::new(false));
    let dropped = Dropped(Rc::clone(&gone));
    run(Batching::Never, |engine| async move {
        let held = Rc::clone(&engine);
        engine.spawn(async move {
            let _dropped = (dropped, held);
            std::future::pending::<()>().await;
        });
        turn().await;
    });
    assert!(gone.get());
}

#[test]
fn a_sleep_ends_after_its_time_and_a_timeout_before_what_never_comes() {
    run(Batching::Never, |engine| async move {
        let began = std::time::Instant::now();
        engine.sleep(Duration::from_millis(5)).await;
        assert!(began.elapsed() >= Duration::from_millis(5));
        let never = std::future::pending::<()>();
        assert_eq!(engine.timeout(Duration::from_millis(1), never).await, Err(Elapsed));
        assert_eq!(engine.timeout(Duration::MAX, async { 1 }).await, Ok(1));
    });
}

#[test]
fn a_refused_connect_says_so() {
    run(Batching::Never, |engine| async move {
        let nobody: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Socket::connect(engine.reactor(), nobody).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn bytes_come_and_go_in_every_mode() {
    for batching in ALL {
        run(batching, |engine| async move {
            let (socket, mut peer) = accepted(&engine).await;
            let echo = thread::spawn(move || {
                let mut bytes = [0; 5];
                for _ in 0..100 {
                    peer.write_all(b"hello").unwrap();
                    peer.read_exact(&mut bytes).unwrap();
                    assert_eq!(&bytes, b"olleh");
                }
            });
            for _ in 0..100 {
                let mut bytes = [0; 16];
                assert_eq!(read(&socket, &mut bytes).await.unwrap(), 5);
                assert_eq!(&bytes[..5], b"hello");
                assert_eq!(socket.try_write(b"ol", b"leh").unwrap(), 5);
            }
            assert_eq!(read(&socket, &mut [0; 16]).await.unwrap(), 0, "the peer has closed");
            echo.join().unwrap();
        });
    }
}

#[test]
fn a_batch_serves_many_connections_each_with_its_own_bytes() {
    run(Batching::WhenItPays, |engine| async move {
        let done = Rc::new(Cell::new(0));
        let mut peers = Vec::new();
        for _ in 0..200 {
            let (socket, peer) = accepted(&engine).await;
            peers.push(peer);
            let done = Rc::clone(&done);
            engine.spawn(async move {
                let mut bytes = [0; 8];
                assert_eq!(read(&socket, &mut bytes).await.unwrap(), 8);
                write_all(&socket, &bytes).await;
                done.set(done.get() + 1);
            });
        }
        turn().await;
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&number.to_ne_bytes()).unwrap();
        }
        while done.get() < peers.len() {
            turn().await;
        }
        turn().await;
        for (number, peer) in peers.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(usize::from_ne_bytes(bytes), number);
        }
    });
}

#[test]
fn what_the_kernel_does_not_take_at_once_goes_out_in_order() {
    for batching in ALL {
        run(batching, |engine| async move {
            let (socket, mut peer) = accepted(&engine).await;
            socket2::SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
            // Small pieces, as a server of many pipelined requests writes them; nobody reads before no more is taken.
            let pieces = 20_000_u64;
            let (full, is_full) = std::sync::mpsc::channel();
            let reader = thread::spawn(move || {
                is_full.recv().unwrap();
                let mut all = Vec::new();
                peer.read_to_end(&mut all).unwrap();
                all
            });
            for piece in 0..pieces {
                let bytes = [piece.to_ne_bytes(); 16].concat();
                let mut at = 0;
                while at < bytes.len() {
                    let mut write = |cx: &mut Context<'_>| {
                        let written = socket.poll_write(cx, &bytes[at..], &[]);
                        if written.is_pending() {
                            full.send(()).unwrap_or_default();
                        }
                        written
                    };
                    at += poll_fn(&mut write).await.unwrap();
                }
                if piece % 7 == 0 {
                    turn().await;
                }
            }
            poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
            assert_eq!(socket.passed(), pieces * 128);
            socket.finish_writing();
            let all = reader.join().unwrap();
            let seen: Vec<u64> =
                all.chunks_exact(8).map(|number| u64::from_ne_bytes(number.try_into().unwrap())).collect();
            let sent: Vec<u64> = (0..pieces).flat_map(|piece| [piece; 16]).collect();
            assert!(seen == sent, "{} of {} bytes came", all.len(), sent.len() * 8);
        });
    }
}

/// Makes one end gather its writes: something must have come in this turn.
async fn in_a_busy_turn(socket: &Socket, peer: &mut TcpStream) {
    let waiting = async {
        assert_eq!(read(socket, &mut [0; 8]).await.unwrap(), 1);
    };
    let mut waiting = std::pin::pin!(waiting);
    let mut written = false;
    poll_fn(|cx| {
        let polled = waiting.as_mut().poll(cx);
        if !std::mem::replace(&mut written, true) {
            peer.write_all(b"!").unwrap();
        }
        polled
    })
    .await;
}

#[test]
fn a_request_that_is_given_up_in_the_turn_that_wrote_it_was_not_written() {
    run(Batching::Always, |engine| async move {
        let (socket, mut peer) = connected(&engine).await;
        in_a_busy_turn(&socket, &mut peer).await;
        assert_eq!(socket.try_write(b"request", b"").unwrap(), 7);
        assert_eq!(socket.passed(), 0, "the kernel has not been asked yet");
        drop(socket);
        turn().await;
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    });
}

#[test]
fn an_answer_goes_out_even_if_its_connection_is_given_up_in_the_same_turn() {
    run(Batching::Always, |engine| async move {
        let (socket, mut peer) = accepted(&engine).await;
        in_a_busy_turn(&socket, &mut peer).await;
        assert_eq!(socket.try_write(b"ans", b"wer").unwrap(), 6);
        assert_eq!(socket.passed(), 0);
        drop(socket);
        turn().await;
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    });
}

#[test]
fn a_write_that_fails_at_the_end_of_the_turn_is_known_before_anything_is_read() {
    run(Batching::Always, |engine| async move {
        let (socket, mut peer) = connected(&engine).await;
        in_a_busy_turn(&socket, &mut peer).await;
        let passed = socket.passed();
        assert_eq!(socket.try_write(b"request", b"").unwrap(), 7);
        // Closing with the byte of the turn unread is a reset.
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        turn().await;
        assert!(socket.has_failed());
        assert_eq!(socket.passed(), passed);
        assert!(socket.try_write(b"more", b"").is_err());
    });
}

#[test]
fn a_connection_whose_end_a_write_has_met_is_broken_for_who_waits_for_that() {
    run(Batching::Always, |engine| async move {
        let (socket, mut peer) = accepted(&engine).await;
        in_a_busy_turn(&socket, &mut peer).await;
        assert_eq!(socket.try_write(b"interim", b"").unwrap(), 7);
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert_eq!(engine.timeout(Duration::from_secs(5), socket.broken()).await, Ok(()));
    });
}

#[test]
fn what_was_received_for_a_reader_who_looked_elsewhere_is_kept_for_him() {
    run(Batching::Always, |engine| async move {
        let (socket, mut peer) = connected(&engine).await;
        // Starts to wait, then does something else for a few turns.
        let mut bytes = [0; 4];
        let polled = poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut bytes))).await;
        assert!(polled.is_pending());
        peer.write_all(b"received").unwrap();
        for _ in 0..3 {
            turn().await;
        }
        assert!(socket.holds_input());
        assert!(!socket.is_quiet());
        let mut all = Vec::new();
        while all.len() < 8 {
            let mut two = [0; 3];
            let read = read(&socket, &mut two).await.unwrap();
            all.extend_from_slice(&two[..read]);
        }
        assert_eq!(all, b"received");
        assert!(!socket.holds_input());
    });
}

#[test]
fn a_connection_that_is_always_readable_leaves_the_others_their_turns() {
    for batching in ALL {
        run(batching, |engine| async move {
            let (busy, mut flood) = accepted(&engine).await;
            let (calm, mut peer) = accepted(&engine).await;
            let over = Rc::new(Cell::new(false));
            let flooding = thread::spawn(move || while flood.write_all(&[0; 65536]).is_ok() {});
            let ended = Rc::clone(&over);
            let most = Rc::new(RefCell::new(0_usize));
            let counted = Rc::clone(&most);
            engine.spawn(async move {
                // Never ready with its work, and never without bytes.
                let mut bytes = [0; 64];
                let mut between = 0;
                poll_fn(|cx| {
                    between = 0;
                    while !ended.get() {
                        match busy.poll_read(cx, &mut bytes) {
                            Poll::Ready(read) => assert!(read.unwrap() > 0),
                            Poll::Pending => return Poll::Pending,
                        }
                        between += 1;
                        counted.replace_with(|most| between.max(*most));
                    }
                    Poll::Ready(())
                })
                .await;
            });
            for _ in 0..50 {
                peer.write_all(b"?").unwrap();
                assert_eq!(read(&calm, &mut [0; 8]).await.unwrap(), 1);
            }
            over.set(true);
            while !flooding.is_finished() {
                turn().await;
            }
            assert!(*most.borrow() <= 64, "{} reads in one go", most.borrow());
        });
    }
}

#[test]
fn a_connection_that_was_read_to_the_last_byte_with_no_room_to_spare_is_quiet() {
    run(Batching::Never, |engine| async move {
        let (socket, mut peer) = connected(&engine).await;
        peer.write_all(b"all").unwrap();
        assert_eq!(read(&socket, &mut [0; 3]).await.unwrap(), 3);
        assert!(socket.is_quiet());
        peer.write_all(b"!").unwrap();
        turn().await;
        assert!(!socket.is_quiet());
    });
}

#[test]
fn what_comes_behind_an_urgent_byte_is_read_without_waiting_for_more() {
    for batching in ALL {
        run(batching, |engine| async move {
            let (socket, mut peer) = accepted(&engine).await;
            for _ in 0..3 {
                // Once while nobody waits, and twice for one who does.
                peer.write_all(b"abc").unwrap();
                socket2::SockRef::from(&peer).send_out_of_band(b"!").unwrap();
                peer.write_all(b"def").unwrap();
                let mut all = Vec::new();
                while all.len() < 6 {
                    let mut some = [0; 16];
                    let reading = read(&socket, &mut some);
                    let read = engine.timeout(Duration::from_secs(5), reading).await.expect("nothing stalls");
                    all.extend_from_slice(&some[..read.unwrap()]);
                }
                assert_eq!(all, b"abcdef");
            }
        });
    }
}

#[test]
fn a_listener_that_is_given_up_here_and_kept_elsewhere_is_not_heard_of_any_more() {
    run(Batching::Never, |engine| async move {
        let kept = TcpListener::bind("127.0.0.1:0").unwrap();
        let given_up = engine.listener(kept.try_clone().unwrap().into()).unwrap();
        drop(given_up);
        // It takes the place that became free.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::connect(engine.reactor(), listener.local_addr().unwrap()).await.unwrap();
        let mut peer = listener.accept().unwrap().0;
        let looks = Rc::new(Cell::new(0));
        let looked = Rc::clone(&looks);
        let ended = Rc::new(Cell::new(false));
        let over = Rc::clone(&ended);
        engine.spawn(async move {
            let mut bytes = [0; 8];
            let read = poll_fn(|cx| {
                looked.set(looked.get() + 1);
                socket.poll_read(cx, &mut bytes)
            });
            assert_eq!(read.await.unwrap(), 1);
            over.set(true);
        });
        for _ in 0..3 {
            turn().await;
        }
        let before = looks.get();
        let _client = TcpStream::connect(kept.local_addr().unwrap()).unwrap();
        for _ in 0..3 {
            turn().await;
        }
        assert_eq!(looks.get(), before, "a connection to another socket is none of its business");
        peer.write_all(b"!").unwrap();
        while !ended.get() {
            turn().await;
        }
    });
}

#[test]
fn what_becomes_of_a_socket_that_a_starting_process_still_has_is_not_taken_for_news_of_the_next() {
    run(Batching::Never, |engine| async move {
        let (socket, peer) = connected(&engine).await;
        let copy = socket.as_fd().try_clone_to_owned().unwrap();
        drop(socket);
        turn().await;
        // It takes the place that became free.
        let (socket, _peer) = connected(&engine).await;
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        for _ in 0..3 {
            turn().await;
        }
        let mut broken = std::pin::pin!(socket.broken());
        assert!(poll_fn(|cx| Poll::Ready(broken.as_mut().poll(cx).is_pending())).await);
        assert!(socket.is_quiet());
        drop(copy);
    });
}

#[test]
fn a_task_that_only_looks_again_and_again_leaves_the_others_their_turns() {
    run(Batching::Never, |engine| async move {
        let over = Rc::new(Cell::new(false));
        let (ended, looking) = (Rc::clone(&over), Rc::clone(&engine));
        engine.spawn(async move {
            while !ended.get() {
                looking.spend().await;
            }
        });
        turn().await;
        over.set(true);
    });
}

#[test]
fn what_lies_here_of_a_connection_can_be_taken_and_what_comes_later_is_left_to_who_goes_on() {
    for batching in ALL {
        run(batching, |engine| async move {
            let (socket, mut peer) = accepted(&engine).await;
            // Somebody waits to read: in batches, what comes is received for him.
            let mut bytes = [0; 64];
            assert!(poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut bytes))).await.is_pending());
            peer.write_all(b"received").unwrap();
            for _ in 0..3 {
                turn().await;
            }
            let mut received = Vec::new();
            socket.take_received(&mut received);
            assert!(socket.take_unsent().is_empty() && socket.is_sound());
            let mut other = TcpStream::from(socket.freeze().unwrap());
            peer.write_all(b", later").unwrap();
            for _ in 0..3 {
                turn().await;
            }
            assert!(!socket.holds_input(), "from here on nothing is received for anybody here");
            other.set_nonblocking(false).unwrap();
            let mut rest = vec![0; 15 - received.len()];
            other.read_exact(&mut rest).unwrap();
            assert_eq!([received, rest].concat(), b"received, later");
            // Nobody has taken it after all.
            other.set_nonblocking(true).unwrap();
            drop(other);
            socket.thaw();
            peer.write_all(b"!").unwrap();
            assert_eq!(read(&socket, &mut bytes).await.unwrap(), 1);
            write_all(&socket, b"?").await;
            turn().await;
            peer.read_exact(&mut bytes[..1]).unwrap();
        });
    }
}

#[test]
fn what_the_kernel_would_not_take_can_be_taken_back_and_comes_first_for_who_goes_on() {
    run(Batching::Always, |engine| async move {
        let (socket, mut peer) = accepted(&engine).await;
        socket2::SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
        let mut written = 0;
        loop {
            let piece = u32::to_ne_bytes(written).repeat(999);
            in_a_busy_turn(&socket, &mut peer).await;
            if socket.try_write(&piece, &[]).is_err() {
                break;
            }
            written += 1;
            turn().await;
        }
        let unsent = socket.take_unsent();
        assert!(!unsent.is_empty());
        let mut other = TcpStream::from(socket.freeze().unwrap());
        drop(socket);
        other.set_nonblocking(false).unwrap();
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        other.write_all(&unsent).unwrap();
        drop(other);
        turn().await;
        let all: Vec<u8> = (0..written).flat_map(|number| u32::to_ne_bytes(number).repeat(999)).collect();
        assert!(reading.join().unwrap() == all);
    });
}
