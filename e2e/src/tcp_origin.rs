//! A TCP origin: greets with its name and echoes whatever comes, until the peer ends.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// One TCP echo server. Its thread ends with the test's process.
#[derive(Clone, Debug)]
pub struct TcpOrigin {
    address: SocketAddr,
}

impl TcpOrigin {
    /// Listens on this address (port 0 for a free one) and greets every connection with `NAME\n`.
    ///
    /// # Panics
    /// When the address cannot be had.
    pub fn start(name: &str, address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a free port can be listened on");
        let address = listener.local_addr().expect("a listener has an address");
        let greeting = format!("{name}\n");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let greeting = greeting.clone();
                std::thread::spawn(move || echo(stream, greeting.as_bytes()));
            }
        });
        Self { address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A failure is the peer's end.
fn echo(mut stream: TcpStream, greeting: &[u8]) {
    let mut piece = vec![0; 64 * 1024];
    let mut greeted = stream.write_all(greeting).is_ok();
    while greeted {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => greeted = stream.write_all(&piece[..read]).is_ok(),
        }
    }
    drop(stream.shutdown(Shutdown::Both));
}
