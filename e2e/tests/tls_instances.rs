//! TLS to instances, and past everup to instances, with the whole binary. The instance is Python's ssl (OpenSSL) and its certificate is made by openssl:
//! neither shares code with everup.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use everup_e2e::api::InstanceState;
use everup_e2e::{Config, Everup, get};

/// Answers every GET with the TLS version and the name that it was asked for, over connections that stay.
const INSTANCE: &str = r#"
import http.server, socketserver, ssl, sys
names = {}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        text = f"{self.connection.version()} {names.get(self.connection)} {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
if sys.argv[3] == "1.2":
    context.maximum_version = ssl.TLSVersion.TLSv1_2
context.sni_callback = lambda connection, name, _: names.__setitem__(connection, name)
server = Server(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

struct Instance {
    process: Child,
    address: SocketAddr,
}

impl Instance {
    fn start(directory: &Path, name: &str, newest: &str) -> Self {
        let file = |kind: &str| directory.join(format!("{name}.{kind}"));
        let mut process = Command::new("python3")
            .args(["-c", INSTANCE])
            .args([file("pem"), file("key")])
            .arg(newest)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says its port");
        let port: u16 = line.trim().parse().expect("it says its port");
        Self { process, address: ([127, 0, 0, 1], port).into() }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn openssl(directory: &Path, arguments: &str) {
    let made = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    let made = made.expect("openssl is there");
    assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

/// An authority NAME-ca.pem, and NAME.pem with NAME.key for app.internal.
fn make(directory: &Path, name: &str) {
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(directory, &format!("{new} -x509 -days 2 -subj /CN=ca-{name} -keyout ca.key -out {name}-ca.pem"));
    openssl(directory, &format!("{new} -subj /CN=app -keyout {name}.key -out {name}.csr"));
    std::fs::write(directory.join("names"), "subjectAltName=DNS:app.internal\nbasicConstraints=CA:FALSE\n")
        .expect("the directory is ours");
    openssl(
        directory,
        &format!(
            "x509 -req -days 2 -in {name}.csr -CA {name}-ca.pem -CAkey ca.key -CAcreateserial -extfile names -out {name}.pem"
        ),
    );
}

fn config(directory: &Path, instance: &Instance, ca: &str) -> Config {
    let ca = directory.join(ca);
    let line = format!("tls = {{ ca = \"{}\", server_name = \"app.internal\" }}", ca.display());
    Config::shop([instance.address]).set(&line).health("http = \"/\"")
}

#[test]
fn requests_and_checks_reach_an_instance_that_speaks_tls_only() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "app");
    for version in ["1.2", "1.3"] {
        let instance = Instance::start(directory.path(), "app", version);
        let mut everup = Everup::with(config(directory.path(), &instance, "app-ca.pem")).start();
        everup.wait_all_up();
        for _ in 0..5 {
            let said = get(everup.address(), "/").text();
            assert!(said.starts_with(&format!("TLSv{version} app.internal ")), "{said}");
        }
    }
}

#[test]
fn an_instance_of_another_authority_is_down_and_status_says_why() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "app");
    make(directory.path(), "other");
    let instance = Instance::start(directory.path(), "app", "1.3");
    let mut everup = Everup::with(config(directory.path(), &instance, "other-ca.pem")).start_unready();
    let told = everup.wait_for(&instance.address.to_string(), InstanceState::Down);
    let reason = told.reason;
    assert!(reason.starts_with("TLS handshake failed: invalid peer certificate"), "{reason}");
    // What everup believes changes with the file, and the instance comes up.
    std::fs::rename(directory.path().join("app-ca.pem"), directory.path().join("other-ca.pem")).unwrap();
    everup.wait_all_up();
    assert!(get(everup.address(), "/").text().starts_with("TLSv1.3 "));
}

#[test]
fn tls_passes_through_to_the_service_of_the_host() {
    let directory = tempfile::tempdir().expect("a directory for the certificates");
    make(directory.path(), "app");
    make(directory.path(), "other");
    let [app, other] = ["app", "other"].map(|name| Instance::start(directory.path(), name, "1.3"));
    let config = Config::shop([other.address])
        .listener("protocol = \"tls-passthrough\"")
        .listener("route = [{ host = \"app.internal\", service = \"app\" }]")
        .health("tcp = true")
        .more(&format!("[service.app]\ninstances = [\"{}\"]\n", app.address));
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let port = everup.address().port();
    let ask = |host: &str, ca: &str| {
        let resolve = format!("{host}:{port}:127.0.0.1");
        let ca = directory.path().join(ca);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "--resolve", &resolve, "--cacert"]).arg(ca);
        curl.arg(format!("https://{host}:{port}/")).output().expect("curl is there")
    };
    let answer = ask("app.internal", "app-ca.pem");
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(said.starts_with("TLSv1.3 app.internal "), "{answer:?}");
    // Another host goes to the listener's own service, whose certificate is of another authority.
    let refused = ask("elsewhere.internal", "app-ca.pem");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("certificate"));
    let page = get(everup.metrics(), "/metrics").text();
    let counted =
        "everup_route_requests_total{listener=\"127.0.0.1:0\",route=\"app.internal/\",service=\"app\"} 1";
    assert!(page.contains(counted), "{page}");
}

#[test]
fn what_does_not_work_is_told_at_the_start_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "app");
    let instance = Instance::start(directory.path(), "app", "1.3");
    for (ca, told) in [("none.pem", "none.pem: No such file"), ("app.key", "app.key holds no certificate")] {
        let stopped = Everup::with(config(directory.path(), &instance, ca)).spawn().wait_for_end();
        assert!(stopped.said.contains(told), "{told}: {}", stopped.said);
    }
}
