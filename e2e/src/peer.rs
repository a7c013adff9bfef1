//! Other proxies, as Debian has them, in front of two origins: set up as their manuals advise for reloads without loss, with
//! a plain and an https port.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::certificate::Certificate;
use crate::process::{Process, descendants};
use crate::until::until;

/// How long a worker of before a reload may go on, as long as `drain.time` of everup: its WebSockets would keep it for ever.
const OLD_WORKERS: &str = "30s";

/// A running proxy that is not everup.
#[derive(Debug)]
pub struct Peer {
    master: Child,
    home: TempDir,
    plain: SocketAddr,
    secure: SocketAddr,
    reload: String,
}

impl Peer {
    /// nginx, if it is installed.
    ///
    /// # Panics
    /// When it is and does not come up.
    pub fn nginx(origins: [SocketAddr; 2], certificate: &Certificate) -> Option<Self> {
        let program = installed(&["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"])?;
        let (home, plain, secure) = stage();
        let file = home.path().join("nginx.conf");
        let text = nginx(home.path(), [plain, secure], origins, certificate);
        std::fs::write(&file, text).expect("the directory takes a file");
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-e").arg(home.path().join("error.log"));
        let reload =
            format!("{program} -c {} -e {}/error.log -s reload", file.display(), home.path().display());
        Some(Self::start(command, home, [plain, secure], |_| reload))
    }

    /// HAProxy with a master and its worker, if it is installed.
    ///
    /// # Panics
    /// When it is and does not come up.
    pub fn haproxy(origins: [SocketAddr; 2], certificate: &Certificate) -> Option<Self> {
        let program = installed(&["/usr/sbin/haproxy", "/usr/bin/haproxy", "/usr/local/sbin/haproxy"])?;
        let (home, plain, secure) = stage();
        let file = home.path().join("haproxy.cfg");
        let text = haproxy(home.path(), [plain, secure], origins, certificate);
        std::fs::write(&file, text).expect("the directory takes a file");
        let mut command = Command::new(program);
        command.args(["-W", "-db", "-f"]).arg(&file);
        Some(Self::start(command, home, [plain, secure], |pid| format!("kill -USR2 {pid}")))
    }

    fn start(
        mut command: Command,
        home: TempDir,
        [plain, secure]: [SocketAddr; 2],
        reload: impl FnOnce(u32) -> String,
    ) -> Self {
        let log = std::fs::File::create(home.path().join("said")).expect("the directory takes a file");
        let copy = log.try_clone().expect("a descriptor is free");
        let master = command.stdin(Stdio::null()).stdout(log).stderr(copy).spawn();
        let master = master.expect("an installed program can be run");
        let reload = reload(master.id());
        let peer = Self { master, home, plain, secure, reload };
        until("the proxy listens", || {
            let listens = |address: SocketAddr| TcpStream::connect(address).is_ok();
            listens(peer.plain) && listens(peer.secure)
        });
        peer
    }

    /// Where it speaks plain HTTP.
    pub fn address(&self) -> SocketAddr {
        self.plain
    }

    /// Where it speaks TLS.
    pub fn secure(&self) -> SocketAddr {
        self.secure
    }

    /// The command that has it read its configuration anew.
    pub fn reload(&self) -> &str {
        &self.reload
    }

    /// All its processes.
    pub fn processes(&self) -> Vec<Process> {
        let below = descendants(self.master.id());
        Process::with_id(self.master.id()).into_iter().chain(below).collect()
    }

    /// What it wrote to its output and its log.
    pub fn said(&self) -> String {
        let read = |name| std::fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        read("said") + &read("error.log")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let all = self.processes();
        all.iter().for_each(|process| process.signal(Signal::KILL));
        // Dead by now.
        drop(self.master.wait());
    }
}

fn installed(places: &[&'static str]) -> Option<&'static str> {
    places.iter().copied().find(|place| Path::new(place).exists())
}

/// A directory and two free ports.
fn stage() -> (TempDir, SocketAddr, SocketAddr) {
    let home = tempfile::Builder::new().prefix("everup-peer-").tempdir().expect("a temporary directory");
    let [plain, secure] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let address = |listener: &TcpListener| listener.local_addr().expect("a listener has an address");
    (home, address(&plain), address(&secure))
}

fn nginx(
    home: &Path,
    [plain, secure]: [SocketAddr; 2],
    [a, b]: [SocketAddr; 2],
    certificate: &Certificate,
) -> String {
    let (home, file, key) = (home.display(), certificate.file(), certificate.key());
    let (file, key) = (file.display(), key.display());
    format!(
        "daemon off;\nuser root;\nworker_processes 2;\npid {home}/pid;\nworker_shutdown_timeout {OLD_WORKERS};\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {home}/body;\n  proxy_temp_path {home}/proxy;\n  \
         fastcgi_temp_path {home}/fastcgi;\n  uwsgi_temp_path {home}/uwsgi;\n  scgi_temp_path {home}/scgi;\n  \
         keepalive_timeout 75s;\n  keepalive_requests 1000000;\n  \
         map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n  \
         upstream shop {{ server {a}; server {b}; keepalive 64; }}\n  \
         server {{\n    listen {plain};\n    listen {secure} ssl;\n    ssl_certificate {file};\n    \
         ssl_certificate_key {key};\n    location / {{\n      proxy_pass http://shop;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Host $host;\n      proxy_set_header Upgrade $http_upgrade;\n      \
         proxy_set_header Connection $connection_upgrade;\n      proxy_read_timeout 1h;\n    }}\n  }}\n}}\n"
    )
}

fn haproxy(
    home: &Path,
    [plain, secure]: [SocketAddr; 2],
    [a, b]: [SocketAddr; 2],
    certificate: &Certificate,
) -> String {
    let (home, both) = (home.display(), certificate.both());
    format!(
        "global\n  maxconn 8192\n  nbthread 2\n  hard-stop-after {OLD_WORKERS}\n  \
         stats socket {home}/stats.sock mode 600 level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 75s\n  timeout server 75s\n  \
         timeout tunnel 1h\n  timeout http-keep-alive 75s\n\
         frontend in\n  bind {plain}\n  bind {secure} ssl crt {}\n  default_backend shop\n\
         backend shop\n  server a {a}\n  server b {b}\n",
        both.display()
    )
}
