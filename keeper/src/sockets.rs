//! Everything that is bound: one SO_REUSEPORT socket per thread for every listener address, the admin unix socket,
//! the metrics address. Bound before any process is started, kept open until the keeper ends: a connection that
//! arrives while no worker lives waits in the accept queue. A reload adds and gives up addresses; what both
//! configurations have stays as it is. What the init system bound for us (`activation.rs`) is taken instead of binding.
//!
//! Nothing is accepted here, ever.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use everup_core::config::{self, Config};
use everup_core::keeper::SocketRole;
use rustix::fs::{Mode, fchmod};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::activation::Given;
use crate::state::SocketGroup;
use crate::{KeeperError, Options, log};

/// Connections that may wait to be accepted, per socket: enough for a second of a busy site while a worker is
/// replaced. The kernel takes less if `net.core.somaxconn` is lower.
const BACKLOG: i32 = 4096;

/// A worker empties the queues of sockets that were given up within this time.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// All sockets, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Held {
    groups: Vec<Group>,
    /// What need not be bound, now or by a reload.
    given: Given,
    /// The admin socket's file, if it is ours to remove.
    admin: Option<PathBuf>,
    /// Ports that were given up, and when: the worker may still empty their queues.
    given_up: Vec<(u16, Instant)>,
}

/// The sockets of one address.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) role: SocketRole,
    /// The real address as text.
    pub(crate) address: String,
    /// The address that the configuration names; None: the admin socket, which never changes.
    asked: Option<SocketAddr>,
    /// Open as long as the keeper has them or a message with them waits.
    sockets: Rc<[OwnedFd]>,
}

/// A group of another configuration.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) group: Group,
    /// What its sockets are for now; None: they are new.
    pub(crate) before: Option<SocketRole>,
}

impl Held {
    /// Binds everything or nothing. The state directory's lock must be held: it makes this keeper the owner of what
    /// an earlier one left behind.
    pub(crate) fn bind(options: &Options, given: Given) -> Result<Self, KeeperError> {
        let mut groups = Vec::new();
        for (role, address) in wanted(&options.config) {
            groups.push(Group::open(role, address, options.threads, Probe::Alone, &given)?);
        }
        given.warn(&groups.iter().filter_map(|group| group.asked).collect::<Vec<_>>());
        let admin = bind_admin(&options.admin)
            .map_err(|reason| KeeperError::Admin { path: options.admin.clone(), reason })?;
        groups.push(Group {
            role: SocketRole::Admin,
            address: options.admin.display().to_string(),
            asked: None,
            sockets: Rc::new([admin]),
        });
        Ok(Self { groups, given, admin: Some(options.admin.clone()), given_up: Vec::new() })
    }

    /// What a worker holds that runs by `config` and is taken over. An address that it does not name is not kept.
    pub(crate) fn adopted(
        config: &Config,
        admin: &Path,
        given: Given,
        sockets: Vec<(SocketRole, String, Vec<OwnedFd>)>,
    ) -> Self {
        let asked: HashMap<_, _> = wanted(config).collect();
        let group = |(role, address, sockets): (SocketRole, String, Vec<OwnedFd>)| {
            let asked = match role {
                SocketRole::Admin => None,
                SocketRole::Listener { .. } | SocketRole::Metrics => Some(*asked.get(&role)?),
            };
            Some(Group { role, address, asked, sockets: sockets.into() })
        };
        let groups: Vec<_> = sockets.into_iter().filter_map(group).collect();
        let is_ours = |group: &Group| group.role == SocketRole::Admin && Path::new(&group.address) == admin;
        let admin = groups.iter().any(is_ours).then(|| admin.to_owned());
        if admin.is_none() {
            log("the admin socket stays where it was: another one waits until everup has been stopped");
        }
        Self { groups, given, admin, given_up: Vec::new() }
    }

    /// The sockets of another configuration: those that there are already, and new ones for the other addresses.
    /// Nothing here changes; dropping the result closes what is new.
    pub(crate) fn rearranged(&self, config: &Config, threads: usize) -> Result<Vec<Place>, KeeperError> {
        let mut left: Vec<&Group> = self.groups.iter().collect();
        let mut places = Vec::new();
        for (role, address) in wanted(config) {
            let same = |group: &&Group| group.asked == Some(address) && group.is_alike(role);
            if let Some(at) = left.iter().position(same) {
                let kept = left.remove(at);
                places.push(Place { group: Group { role, ..kept.clone() }, before: Some(kept.role) });
            } else {
                let probe = self.probe(address.port());
                let group = Group::open(role, address, threads, probe, &self.given)?;
                places.push(Place { group, before: None });
            }
        }
        let admin = left.into_iter().filter(|group| group.role == SocketRole::Admin);
        places.extend(admin.map(|group| Place { group: group.clone(), before: Some(group.role) }));
        Ok(places)
    }

    /// Takes the sockets of another configuration in the place of these.
    pub(crate) fn replace(&mut self, places: Vec<Place>) {
        let now = Instant::now();
        let ports = |groups: &[Group]| -> Vec<u16> {
            groups.iter().filter_map(|group| group.asked).map(|address| address.port()).collect()
        };
        let before = ports(&self.groups);
        self.groups = places.into_iter().map(|place| place.group).collect();
        let after = ports(&self.groups);
        self.given.warn(&self.groups.iter().filter_map(|group| group.asked).collect::<Vec<_>>());
        self.given_up.retain(|(_, since)| now.saturating_duration_since(*since) < GIVEN_UP);
        self.given_up.extend(before.into_iter().filter(|port| !after.contains(port)).map(|port| (port, now)));
    }

    /// Our own sockets at the same port, on another address or about to be closed, are no reason to refuse.
    fn probe(&self, port: u16) -> Probe {
        let ours = self.groups.iter().filter_map(|group| group.asked).any(|address| address.port() == port);
        let lately = |(given_up, since): &(u16, Instant)| *given_up == port && since.elapsed() < GIVEN_UP;
        if ours || self.given_up.iter().any(lately) { Probe::BesideOurs } else { Probe::Alone }
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Every descriptor, for another binary: of the groups, then what was given to us.
    pub(crate) fn all_descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.groups.iter().flat_map(Group::descriptors).chain(self.given.descriptors())
    }

    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    /// What of them goes on in another binary, beside the descriptors in the same order; ports that were given up; whether the
    /// admin socket's path is deleted at the end.
    pub(crate) fn to_state(&self) -> (Vec<SocketGroup>, Vec<u16>, bool) {
        let group = |Group { role, address, asked, sockets }: &Group| SocketGroup {
            role: *role,
            address: address.clone(),
            asked: *asked,
            sockets: sockets.len(),
        };
        let lately = self.given_up.iter().filter(|(_, since)| since.elapsed() < GIVEN_UP);
        (
            self.groups.iter().map(group).collect(),
            lately.map(|(port, _)| *port).collect(),
            self.admin.is_some(),
        )
    }

    /// Those that another binary had. As many descriptors as the groups count.
    pub(crate) fn taken(
        groups: &[SocketGroup],
        (given, given_up): (&[(String, SocketAddr)], &[u16]),
        mut descriptors: impl Iterator<Item = OwnedFd>,
        admin: Option<PathBuf>,
    ) -> Self {
        let mut group = |one: &SocketGroup| Group {
            role: one.role,
            address: one.address.clone(),
            asked: one.asked,
            sockets: descriptors.by_ref().take(one.sockets).collect(),
        };
        let groups = groups.iter().map(&mut group).collect();
        let given = Given::taken(given, descriptors);
        let now = Instant::now();
        let given_up = given_up.iter().map(|port| (*port, now)).collect();
        Self { groups, given, admin, given_up }
    }
}

impl Drop for Held {
    /// A later everup would find the socket stale and remove it too; this is tidier.
    fn drop(&mut self) {
        if let Some(admin) = &self.admin {
            let _ = fs::remove_file(admin);
        }
    }
}

/// Everything that is to be bound beside the admin socket.
fn wanted(config: &Config) -> impl Iterator<Item = (SocketRole, SocketAddr)> {
    let of_listener = |(listener, settings): (usize, &'_ config::Listener)| {
        let role = move |bind| SocketRole::Listener { listener, bind };
        settings.bind.clone().into_iter().enumerate().map(move |(bind, address)| (role(bind), address))
    };
    let listeners = config.listeners.iter().enumerate().flat_map(of_listener);
    listeners.chain(config.node.metrics.map(|address| (SocketRole::Metrics, address)))
}

/// Who may listen at an address beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// Nobody.
    Alone,
    /// Sockets of our own.
    BesideOurs,
}

impl Group {
    /// With sockets that were given to us, or that are bound now.
    fn open(
        role: SocketRole,
        asked: SocketAddr,
        threads: usize,
        probe: Probe,
        given: &Given,
    ) -> Result<Self, KeeperError> {
        let (what, count) = match role {
            SocketRole::Metrics => ("node.metrics", 1),
            SocketRole::Listener { .. } | SocketRole::Admin => ("a listener", threads),
        };
        let bound = given.sockets(asked, count).and_then(|sockets| match (sockets, role) {
            (Some(sockets), _) => Ok(sockets),
            (None, SocketRole::Metrics) => bind_exclusive(asked).map(|socket| vec![socket]),
            (None, SocketRole::Listener { .. } | SocketRole::Admin) => bind_shared(asked, count, probe),
        });
        let sockets = bound.map_err(explain(what, asked))?;
        let first = sockets.first().expect("there is at least one thread");
        let address = local(first).map_err(explain(what, asked))?.to_string();
        Ok(Self { role, address, asked: Some(asked), sockets: sockets.into_iter().map(Into::into).collect() })
    }

    /// Its sockets are of the kind that this role needs.
    fn is_alike(&self, role: SocketRole) -> bool {
        std::mem::discriminant(&self.role) == std::mem::discriminant(&role)
    }

    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd).collect()
    }
}

/// `count` listening sockets that share one address. For port 0 the first one learns the port.
fn bind_shared(address: SocketAddr, count: usize, probe: Probe) -> io::Result<Vec<Socket>> {
    if address.port() != 0 && probe == Probe::Alone {
        // SO_REUSEPORT sockets of another everup of the same user would silently share the port with ours: a bind
        // without it fails if anybody listens.
        unbound(address)?.bind(&address.into())?;
    }
    let mut address = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        address.set_port(local(&socket)?.port());
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets)
}

fn bind_exclusive(address: SocketAddr) -> io::Result<Socket> {
    let socket = unbound(address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Closed on exec, like everything that socket2 makes.
fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| ErrorKind::AddrNotAvailable.into())
}

fn explain(what: &str, address: SocketAddr) -> impl Fn(io::Error) -> KeeperError {
    move |source| {
        let port = address.port();
        let advice = match source.kind() {
            ErrorKind::AddrInUse => {
                format!("another program has this port: `ss -ltnp 'sport = :{port}'` names it")
            }
            ErrorKind::PermissionDenied if port < 1024 => {
                "ports below 1024 need root, the capability CAP_NET_BIND_SERVICE, or a socket unit".to_owned()
            }
            ErrorKind::AddrNotAvailable => {
                "no interface of this host has that address: `ip address`".to_owned()
            }
            _ => "choose another address".to_owned(),
        };
        KeeperError::Bind { what: what.to_owned(), address, source, advice }
    }
}

/// The socket is its owner's alone from its first moment: on Linux the mode of the unbound socket becomes the mode of
/// the file (less the umask).
fn bind_admin(path: &Path) -> Result<OwnedFd, String> {
    remove_stale(path)?;
    let bound = SockAddr::unix(path).and_then(|address| {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&address)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    });
    bound.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "its directory does not exist; make it or change `node.admin`".to_owned(),
        ErrorKind::PermissionDenied => "its directory is not writable; change `node.admin`".to_owned(),
        _ => format!("{error}; change `node.admin`"),
    })
}

/// An earlier keeper that was killed leaves its socket behind. One that somebody answers on is not stale: it belongs
/// to an everup with another state directory.
fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(
            "something that is no socket is in its place; remove it or change `node.admin`".to_owned()
        );
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("a stale one cannot be removed: {error}"))
        }
        Ok(_) => Err("another everup listens on it; change `node.admin`".to_owned()),
        Err(error) => Err(format!("another program may use it: {error}; change `node.admin`")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::tests::{FOREVER, options_in};

    #[test]
    fn every_thread_gets_a_socket_of_the_port_that_the_first_one_learned() {
        let home = tempfile::tempdir().unwrap();
        let mut options = options_in(home.path(), FOREVER);
        options.threads = 3;
        let held = Held::bind(&options, Given::default()).unwrap();
        let group = &held.groups()[0];
        assert_eq!(
            (group.role, group.descriptors().len()),
            (SocketRole::Listener { listener: 0, bind: 0 }, 3)
        );
        let address: SocketAddr = group.address.parse().unwrap();
        assert_ne!(address.port(), 0);
        for socket in group.sockets.iter() {
            let socket = TcpListener::from(socket.try_clone().unwrap());
            assert_eq!(socket.local_addr().unwrap(), address);
        }
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_port_in_use_is_refused_with_its_address_even_if_the_other_one_would_share_it() {
        let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Held::bind(&options_in(home.path(), FOREVER), Given::default()).unwrap();
        let mut options = options_in(other.path(), FOREVER);
        options.config.listeners[0].bind = vec![first.groups()[0].address.parse().unwrap()];
        let refused = Held::bind(&options, Given::default()).unwrap_err().to_string();
        assert!(refused.contains(&first.groups()[0].address) && refused.contains("ss -ltnp"), "{refused}");
    }

    #[test]
    fn an_address_of_another_host_is_refused_with_words() {
        let home = tempfile::tempdir().unwrap();
        let mut options = options_in(home.path(), FOREVER);
        options.config.node.metrics = Some("192.0.2.1:80".parse().unwrap());
        let refused = Held::bind(&options, Given::default()).unwrap_err().to_string();
        assert!(refused.contains("node.metrics cannot listen on 192.0.2.1:80"), "{refused}");
        assert!(refused.contains("no interface"), "{refused}");
    }

    #[test]
    fn ipv6_is_bound_beside_ipv4_on_the_same_port() {
        let home = tempfile::tempdir().unwrap();
        let mut options = options_in(home.path(), FOREVER);
        let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        options.config.listeners[0].bind =
            vec![format!("0.0.0.0:{port}").parse().unwrap(), format!("[::]:{port}").parse().unwrap()];
        assert_eq!(Held::bind(&options, Given::default()).unwrap().groups().len(), 3);
    }

    #[test]
    fn the_admin_socket_is_its_owners_alone_and_gone_afterwards() {
        let home = tempfile::tempdir().unwrap();
        let options = options_in(home.path(), FOREVER);
        let held = Held::bind(&options, Given::default()).unwrap();
        assert_eq!(fs::metadata(&options.admin).unwrap().permissions().mode() & 0o777, 0o600);
        drop(held);
        assert!(!options.admin.exists());
    }

    #[test]
    fn a_stale_admin_socket_is_replaced_and_a_living_one_is_not() {
        let home = tempfile::tempdir().unwrap();
        let options = options_in(home.path(), FOREVER);
        drop(UnixListener::bind(&options.admin).unwrap());
        drop(Held::bind(&options, Given::default()).unwrap());

        let _other = UnixListener::bind(&options.admin).unwrap();
        let refused = Held::bind(&options, Given::default()).unwrap_err().to_string();
        assert!(refused.contains("another everup listens on it"), "{refused}");
    }

    #[test]
    fn something_else_in_the_place_of_the_admin_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let options = options_in(home.path(), FOREVER);
        fs::write(&options.admin, "precious").unwrap();
        assert!(Held::bind(&options, Given::default()).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read(&options.admin).unwrap(), b"precious");
    }
}
