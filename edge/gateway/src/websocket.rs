//! WebSockets among the tunnels: they are followed frame by frame, and closed in order when their instance leaves or
//! everup itself ends. When, and where a Close may stand, is decided in `everup_core::websocket`; here it is put there.
//!
//! A tunnel counts as a WebSocket if the instance agreed to one (RFC 6455 section 4.2.2). Bytes are passed on as they
//! are; but they are seen by us, so that they cannot pass through the kernel alone.

use std::rc::Rc;
use std::time::Duration;

use everup_core::config;
use everup_core::http::Headers;
use everup_core::ids::Generation;
use everup_core::time::Time;
use everup_core::websocket::farewell::{self, Seen, Stops};
use everup_core::websocket::spread::{self, Place};
use everup_core::websocket::{Farewell, Frames, Stop, close};

use crate::local::Local;
use crate::relay::Flow;
use crate::service::{Instance, Service};
use crate::watch::Watch;

/// Whether this answer of 101 opens a WebSocket.
pub(crate) fn is_opened_by(headers: Headers<'_, '_>) -> bool {
    let upgrade = headers.first("upgrade").unwrap_or_default();
    upgrade.eq_ignore_ascii_case(b"websocket") && headers.first("sec-websocket-accept").is_some()
}

/// One direction: where its frames end, and where it is to stop.
#[derive(Debug)]
pub(crate) struct Track {
    frames: Frames,
    stop: Stop,
    /// What is sent where it stops.
    last: Vec<u8>,
    stopped: bool,
}

impl Track {
    /// A direction of which so much was sent already.
    pub(crate) fn new(frames: Frames) -> Self {
        Self { frames, stop: Stop::Never, last: Vec::new(), stopped: false }
    }

    /// Where it is.
    pub(crate) fn frames(&self) -> Frames {
        self.frames
    }

    /// It has come to where it was to stop.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// How many of the bytes that came go on. The rest is followed and then forgotten.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        if self.stopped {
            self.frames.take(bytes);
            return 0;
        }
        let stops = self.frames.take_to(bytes, self.stop);
        self.stopped = stops.is_some();
        stops.unwrap_or(bytes.len())
    }

    /// All that came was carried, and nothing more is there. True: it stops here.
    pub(crate) fn stops_on_quiet(&mut self) -> bool {
        let stops = !self.stopped && self.frames.may_stop(self.stop, true);
        self.stopped |= stops;
        stops
    }

    /// What is to be sent now because it has stopped; told once.
    pub(crate) fn take_last(&mut self) -> Option<Vec<u8>> {
        (self.stopped && !self.last.is_empty()).then(|| std::mem::take(&mut self.last))
    }
}

/// Why a WebSocket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Its instance leaves.
    InstanceLeaves,
    /// everup ends.
    Ends,
    /// This worker ends; another one is there, which could not take it.
    LeftBehind,
}

/// A WebSocket for as long as it is open.
pub(crate) struct WebSocket<'a> {
    local: &'a Local,
    watch: &'a Watch,
    service: &'a Rc<Service>,
    instance: &'a Rc<Instance>,
    /// What was sent to the client with the head of the answer.
    to_client: Frames,
    /// The table in which its instance was looked up, whether everup was ending then, and whether it was left behind when
    /// others went to another worker.
    looked_up: Option<(Generation, bool, bool)>,
    farewell: Option<Farewell>,
    /// What the farewell was told last, and when it is to be told more if nothing happens.
    seen: Seen,
    wakeup: Option<Duration>,
}

impl<'a> WebSocket<'a> {
    /// Counts it in.
    pub(crate) fn new(
        local: &'a Local,
        watch: &'a Watch,
        (service, instance): (&'a Rc<Service>, &'a Rc<Instance>),
        to_client: Frames,
    ) -> Self {
        instance.table.shared.enter_websocket();
        watch.set_tunnel(Some(instance.key()));
        let (looked_up, farewell, seen, wakeup) = (None, None, Seen::default(), None);
        Self { local, watch, service, instance, to_client, looked_up, farewell, seen, wakeup }
    }

    /// Both directions, given what was read from the client already.
    pub(crate) fn tracks(&self, to_instance: &[u8]) -> (Box<Track>, Box<Track>) {
        let mut frames = Frames::default();
        frames.take(to_instance);
        (Box::new(Track::new(frames)), Box::new(Track::new(self.to_client)))
    }

    /// Looks whether it is to be closed, and how far that has come. True: it is over.
    pub(crate) fn look(&mut self, to_instance: &mut Flow, to_client: &mut Flow) -> bool {
        let now = Time::ZERO + self.local.coarse_now();
        self.look_up(now, to_instance, to_client);
        let seen = self.see(to_instance, to_client);
        let Some(farewell) = &mut self.farewell else { return false };
        let stops = farewell.handle(now, seen);
        self.seen = seen;
        self.wakeup = Some(farewell.next_wakeup(now).since(Time::ZERO));
        self.watch.set_deadline(self.wakeup);
        set_stops(stops, to_instance, to_client);
        farewell.is_over()
    }

    /// Something has happened since it was looked at.
    pub(crate) fn has_news(&self, to_instance: &Flow, to_client: &Flow) -> bool {
        self.farewell.is_some() && self.see(to_instance, to_client) != self.seen
    }

    /// Its client was told to go.
    pub(crate) fn has_said(&self) -> bool {
        self.farewell.is_some_and(|farewell| farewell.has_said())
    }

    /// When it is to be looked at, if nothing happens.
    pub(crate) fn next_wakeup(&self) -> Option<Duration> {
        self.wakeup
    }

    /// That time has come.
    pub(crate) fn is_due(&self) -> bool {
        self.wakeup.is_some_and(|wakeup| wakeup <= self.local.coarse_now())
    }

    fn see(&self, to_instance: &Flow, to_client: &Flow) -> Seen {
        let (Some(up), Some(down)) = (&to_instance.track, &to_client.track) else { return Seen::default() };
        Seen {
            closes: !down.stopped && (up.frames.has_closed() || down.frames.has_closed()),
            said: down.stopped,
            answered: (up.stopped || to_instance.has_ended()) && to_instance.has_sent(),
            parted: down.frames.has_closed() || to_client.has_ended(),
        }
    }

    /// Looks its instance up in a new table: does it leave, does it stay after all?
    fn look_up(&mut self, now: Time, to_instance: &mut Flow, to_client: &mut Flow) {
        let closing = self.local.closing_since();
        let departure = if self.watch.stays() { self.local.departure() } else { None };
        let left_behind = departure.filter(|one| !one.is_over()).map(|departure| departure.since);
        let seen = Some((self.local.generation(), closing.is_some(), left_behind.is_some()));
        if seen == self.looked_up {
            return;
        }
        self.looked_up = seen;
        let table = self.local.table();
        let why = match (closing, left_behind) {
            (Some(since), _) => Some((Why::Ends, since)),
            (None, _) if table.leaves(self.instance.key()) => {
                Some((Why::InstanceLeaves, now.since(Time::ZERO)))
            }
            (None, Some(since)) => Some((Why::LeftBehind, since)),
            (None, None) => None,
        };
        let leaves = why.is_some();
        match (&self.farewell, why) {
            (None, Some((why, since))) => self.begin(Time::ZERO + since, why, to_instance, to_client),
            (Some(farewell), _) if !leaves && !farewell.has_said() && !table.is_down(self.instance.key()) => {
                (self.farewell, self.wakeup) = (None, None);
                self.watch.set_deadline(None);
                set_stops(Stops::default(), to_instance, to_client);
            }
            (None, None) | (Some(_), _) => {}
        }
    }

    fn begin(&mut self, began: Time, why: Why, to_instance: &mut Flow, to_client: &mut Flow) {
        let service = self.local.current(self.service);
        let config::Drain { time, websockets } = service.settings.drain;
        let shared = &self.instance.table.shared;
        let takers = service.instances.iter().filter(|instance| instance.takes()).count();
        let place = Place {
            number: shared.deal_place(),
            of: shared.websockets(),
            takers: u32::try_from(takers).unwrap_or(u32::MAX),
        };
        // Who is left behind stays for as long as may be, and can come back at once: to the other worker.
        let websockets = if why == Why::LeftBehind { config::WebSockets::Close } else { websockets };
        let ends = (why == Why::Ends).then_some(time);
        let plan = spread::plan(websockets, place, farewell::window(time), ends);
        self.farewell = Some(Farewell::new(began, plan, time));
        if let (Some(up), Some(down)) = (&mut to_instance.track, &mut to_client.track) {
            [&mut up.last, &mut down.last].into_iter().for_each(Vec::clear);
            let reason = format!("retry={}", plan.retry.as_millis());
            close::write_to_client(&mut down.last, close::SERVICE_RESTART, &reason);
            close::write_to_instance(&mut up.last, close::GOING_AWAY, self.local.masking_key());
        }
    }
}

impl Drop for WebSocket<'_> {
    fn drop(&mut self) {
        self.watch.set_tunnel(None);
        let farewells = self.service.shared.farewells.cell(self.local.thread);
        if self.seen.said {
            farewells.closed.add(1);
        } else if self.farewell.is_some_and(|farewell| farewell.is_over()) {
            farewells.cut.add(1);
        }
        self.instance.table.shared.leave_websocket();
    }
}

fn set_stops(stops: Stops, to_instance: &mut Flow, to_client: &mut Flow) {
    for (flow, stop) in [(to_instance, stops.to_instance), (to_client, stops.to_client)] {
        if let Some(track) = &mut flow.track {
            track.stop = stop;
        }
    }
}
