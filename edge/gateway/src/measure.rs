//! What is measured of requests by route and by service: how many, how large, how long, and examples of those that took
//! long or went wrong, under ids of which `everup explain` knows the rest.
//!
//! A route is known by what it matches and where it leads, not by its place: as long as a table has it, it keeps its
//! counts. Written by the data-plane threads, each into cells of its own; read by whoever shows it.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everup_observe::{Bands, Counter, Exemplar, Exemplars, PerThread, Spread};

use crate::snapshot::{ListenerTable, Snapshot, Stay};
use crate::tale::REMEMBERED_TIME;

/// Upper bounds of durations, in microseconds: what an operator sets alerts on.
pub const DURATION_BOUNDS: [u64; 13] = [
    1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Upper bounds of sizes, in bytes: from a head alone to what is better not sent through a gateway.
pub const SIZE_BOUNDS: [u64; 8] = [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20];

const BANDS: usize = DURATION_BOUNDS.len() + 1;

/// A request that took so long is worth an example, even if nothing went wrong.
const SLOW: Duration = Duration::from_millis(100);

/// The example of a band stays for so long before another slow request takes its place; one that went wrong does so
/// after the shorter time.
const SLOW_STAYS: Duration = Duration::from_secs(10);
const WRONG_STAYS: Duration = Duration::from_secs(1);

/// How long requests took, and examples.
#[derive(Debug)]
pub struct Durations {
    bands: Bands<{ DURATION_BOUNDS.len() }>,
    exemplars: Exemplars<BANDS>,
}

impl Default for Durations {
    fn default() -> Self {
        Self { bands: Bands::new(&DURATION_BOUNDS), exemplars: Exemplars::default() }
    }
}

impl Durations {
    /// Counts a request; the band it lies in. Only the thread that owns the cell may call this.
    pub fn record(&self, took: Duration) -> usize {
        self.bands.record(micros(took))
    }

    /// Whether the band wants another example at `wall`.
    fn wants(&self, band: usize, wall: Duration, stays: Duration) -> bool {
        self.exemplars.last(band).is_none_or(|last| wall.saturating_sub(last) >= stays)
    }
}

impl Counts for Durations {
    fn spread(&self) -> Spread {
        self.bands.spread()
    }

    fn exemplars(&self) -> Vec<Option<Exemplar>> {
        self.exemplars.read()
    }
}

/// Cells whose counts are added up.
trait Counts {
    fn spread(&self) -> Spread;
    fn exemplars(&self) -> Vec<Option<Exemplar>>;
}

/// The counts of all threads, in microseconds or bytes, and for each band the latest example if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The counts.
    pub spread: Spread,
    /// By band. Empty: there are none.
    pub exemplars: Vec<Option<Exemplar>>,
}

/// What was measured of durations by all threads. At `wall` (since 1970) examples of which nobody can tell more are left
/// out.
pub fn durations(cells: &PerThread<Durations>, wall: Duration) -> Measured {
    measured(cells.cells(), wall)
}

fn measured<'a, C: Counts + 'a>(cells: impl Iterator<Item = &'a C>, wall: Duration) -> Measured {
    let mut sum = Measured::default();
    for cell in cells {
        sum.spread = std::mem::take(&mut sum.spread).and(&cell.spread());
        sum.exemplars.resize(BANDS, None);
        for (latest, one) in sum.exemplars.iter_mut().zip(cell.exemplars()) {
            let is_told = |one: &Exemplar| wall.saturating_sub(one.wall) <= REMEMBERED_TIME;
            let one = one.filter(is_told);
            if one.as_ref().map(|one| one.wall) > latest.as_ref().map(|latest| latest.wall) {
                *latest = one;
            }
        }
    }
    sum
}

/// What is measured of a route.
#[derive(Debug)]
pub struct RouteShared {
    name: RouteName,
    cells: PerThread<RouteCell>,
}

/// What makes it the same route in every table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteName {
    /// The listener's first address, as in the file.
    pub listener: String,
    /// What it matches; `default` for what the listener's own service gets.
    pub route: String,
    /// The service's name; empty: it sends clients elsewhere.
    pub service: String,
}

#[derive(Debug)]
struct RouteCell {
    requests: Counter,
    request_bytes: Bands<{ SIZE_BOUNDS.len() }>,
    response_bytes: Bands<{ SIZE_BOUNDS.len() }>,
    durations: Durations,
}

impl Default for RouteCell {
    fn default() -> Self {
        Self {
            requests: Counter::default(),
            request_bytes: Bands::new(&SIZE_BOUNDS),
            response_bytes: Bands::new(&SIZE_BOUNDS),
            durations: Durations::default(),
        }
    }
}

impl RouteShared {
    fn new(name: RouteName, threads: usize) -> Self {
        Self { name, cells: PerThread::new(threads) }
    }

    /// Which route it is.
    pub fn name(&self) -> &RouteName {
        &self.name
    }

    /// Requests that it took.
    pub fn requests(&self) -> u64 {
        self.cells.cells().map(|cell| cell.requests.value()).sum()
    }

    /// What was read of its requests, heads included. Those under way are not in it.
    pub fn request_bytes(&self) -> Spread {
        self.cells.cells().fold(Spread::default(), |sum, cell| sum.and(&cell.request_bytes.spread()))
    }

    /// What was sent of their answers, heads included. Those under way are not in it.
    pub fn response_bytes(&self) -> Spread {
        self.cells.cells().fold(Spread::default(), |sum, cell| sum.and(&cell.response_bytes.spread()))
    }

    /// How long they took. At `wall` (since 1970) examples of which nobody can tell more are left out.
    pub fn durations(&self, wall: Duration) -> Measured {
        measured(self.cells.cells().map(|cell| &cell.durations), wall)
    }

    pub(crate) fn on_request(&self, thread: usize) {
        self.cells.cell(thread).requests.add(1);
    }

    pub(crate) fn on_bytes(&self, thread: usize, bytes_in: u64, bytes_out: u64) {
        let cell = self.cells.cell(thread);
        cell.request_bytes.record(bytes_in);
        cell.response_bytes.record(bytes_out);
    }

    pub(crate) fn on_duration(&self, thread: usize, took: Duration) {
        self.cells.cell(thread).durations.record(took);
    }
}

/// A request that may become an example.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example<'a> {
    pub(crate) id: &'a str,
    pub(crate) took: Duration,
    /// Since 1970.
    pub(crate) wall: Duration,
    /// `everup explain` knows of it already: something was uncommon about it.
    pub(crate) is_remembered: bool,
}

/// Whether a request took so long that somebody will want to know why. A tunnel is to be long.
pub(crate) fn is_slow(took: Duration, status: u16) -> bool {
    took >= SLOW && status != 101
}

/// Takes the request as an example for its route and its service, where they want one. Whether they did.
pub(crate) fn take_example(
    thread: usize,
    route: &RouteShared,
    service: &PerThread<Durations>,
    example: Example<'_>,
) -> bool {
    let Example { id, took, wall, is_remembered } = example;
    let value = micros(took);
    let band = DURATION_BOUNDS.iter().position(|&bound| value <= bound).unwrap_or(BANDS - 1);
    let stays = if is_remembered { WRONG_STAYS } else { SLOW_STAYS };
    let mut taken = false;
    for durations in [&route.cells.cell(thread).durations, service.cell(thread)] {
        if durations.wants(band, wall, stays) {
            durations.exemplars.take(band, id, value, wall);
            taken = true;
        }
    }
    taken
}

/// What the listeners of a table are called: by their address, and one that leaves after the one that took its place.
fn addresses(snapshot: &Snapshot) -> Vec<String> {
    let mut names = vec![String::new(); snapshot.listeners.len()];
    let mut numbered = Numbered::default();
    for stay in [Stay::Stays, Stay::Leaves] {
        let listeners = snapshot.listeners.iter().zip(&mut names);
        for (listener, name) in listeners.filter(|(listener, _)| listener.stay == stay) {
            *name = numbered.name(listener.routes.listener());
        }
    }
    names
}

/// The counters of all routes of a table: by listener, in the order of its routes, that of its own service last.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<Vec<Arc<RouteShared>>>);

impl Routes {
    /// Those of `snapshot`; what stands in `before` too is taken over.
    pub(crate) fn new(snapshot: &Snapshot, before: &Self, threads: usize) -> Self {
        let mut known: HashMap<&RouteName, &Arc<RouteShared>> =
            before.all().map(|route| (&route.name, route)).collect();
        let addresses = addresses(snapshot);
        let of_listener = |(listener, address): (&ListenerTable, &String)| {
            let mut routes = Numbered::default();
            let shared = listener.routes.names().map(|(route, service)| {
                let service = service.and_then(|service| snapshot.services.get(service));
                let name = RouteName {
                    listener: address.clone(),
                    route: routes.name(&route),
                    service: service.map_or_else(String::new, |service| service.name.to_string()),
                };
                let kept = known.remove(&name).map(Arc::clone);
                kept.unwrap_or_else(|| Arc::new(RouteShared::new(name, threads)))
            });
            shared.collect()
        };
        Self(snapshot.listeners.iter().zip(&addresses).map(of_listener).collect())
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<RouteShared>> {
        self.0.iter().flatten()
    }

    /// The same for one thread, which counts its references without atomics.
    pub(crate) fn for_thread(&self) -> ThreadRoutes {
        let views = |routes: &Vec<Arc<RouteShared>>| {
            routes.iter().map(|route| Rc::new(Route(Arc::clone(route)))).collect()
        };
        ThreadRoutes(self.0.iter().map(views).collect())
    }
}

/// A thread's reference to the counters of a route.
#[derive(Debug)]
pub(crate) struct Route(Arc<RouteShared>);

impl std::ops::Deref for Route {
    type Target = RouteShared;

    fn deref(&self) -> &RouteShared {
        &self.0
    }
}

/// A thread's references to the counters.
#[derive(Debug)]
pub(crate) struct ThreadRoutes(Vec<Vec<Rc<Route>>>);

impl ThreadRoutes {
    /// The counters of a listener's route; None: of its own service.
    pub(crate) fn of(&self, listener: usize, route: Option<usize>) -> Option<&Rc<Route>> {
        let routes = self.0.get(listener)?;
        route.map_or_else(|| routes.last(), |route| routes.get(route))
    }
}

/// Names, made different by a number where they come again.
#[derive(Default)]
struct Numbered(HashMap<String, usize>);

impl Numbered {
    fn name(&mut self, name: &str) -> String {
        let count = self.0.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 { name.to_owned() } else { format!("{name} #{count}") }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
