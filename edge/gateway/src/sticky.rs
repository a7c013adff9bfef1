//! Keeping a user with an instance: what the request wishes for, where it went, and what to tell the user. A wish is
//! only that: an instance that cannot take the request is not waited for, the user moves once.

use std::rc::Rc;
use std::sync::PoisonError;

use everup_core::affinity::{DISPLACED_IDLE, Standing};
use everup_core::balance::{self, Candidate, ip_hash};
use everup_core::config::{Sticky, StickyBy};
use everup_core::http::request::Request;
use everup_core::http::{Headers, cookie};

use crate::local::Local;
use crate::seal::Opened;
use crate::service::{Instance, Picked, Service, Tried};

/// What a request wishes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing that the request itself says.
    Nothing,
    /// The instance that our cookie names.
    Pinned(Pinned),
    /// Whatever instance this hash of a header's value draws.
    Drawn(u64),
    /// The instance that gave out the application's cookie with this hash.
    Session(u64),
}

/// What our cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    identity: u64,
    /// In seconds since 1970.
    since: u64,
    /// It must be set anew.
    renew: bool,
}

/// What the request wishes for. `secure`: the client speaks TLS with us.
pub(crate) fn wish(local: &Local, service: &Service, request: &Request<'_, '_>, secure: bool) -> Wish {
    let Some(sticky) = &service.settings.sticky else { return Wish::Nothing };
    match &sticky.by {
        StickyBy::Ip => Wish::Nothing,
        StickyBy::Cookie => {
            pinned(local, service, sticky, request, secure).map_or(Wish::Nothing, Wish::Pinned)
        }
        StickyBy::Header(name) => {
            request.headers.first(name).map_or(Wish::Nothing, |value| Wish::Drawn(balance::hash(value)))
        }
        StickyBy::AppCookie(name) => {
            let mut values = cookie::values(request.headers, name.as_bytes());
            values.next().map_or(Wish::Nothing, |value| Wish::Session(balance::hash(value)))
        }
    }
}

/// The cookie that instances do not get to see: ours says nothing to them.
pub(crate) fn hidden_cookie(service: &Service) -> Option<&str> {
    let sticky = service.settings.sticky.as_ref()?;
    (sticky.by == StickyBy::Cookie).then_some(sticky.name.as_str())
}

fn pinned(
    local: &Local,
    service: &Service,
    sticky: &Sticky,
    request: &Request<'_, '_>,
    secure: bool,
) -> Option<Pinned> {
    let name = full_name(&sticky.name, secure);
    let opened = cookie::values(request.headers, name.as_bytes())
        .find_map(|value| local.seal.open(&service.settings.name, value))?;
    let Opened { ticket, newest_key } = opened;
    let renew = match ticket.standing(local.unix_seconds(), sticky.idle, sticky.lifetime) {
        // Sealed anew, so that the older key can go some day.
        Standing::Holds => !newest_key,
        Standing::Renew => true,
        Standing::Over => return None,
    };
    Some(Pinned { identity: balance::hash(ticket.instance.as_bytes()), since: ticket.pinned, renew })
}

/// The instance for a request, with regard to stickiness.
pub(crate) fn pick(
    local: &Local,
    service: &Service,
    wish: Wish,
    client_hash: u64,
    tried: &[Tried],
    called: bool,
) -> Picked {
    if local.is_refusing() {
        return Picked::Park;
    }
    let by_address = service.settings.sticky.as_ref().is_some_and(|sticky| sticky.by == StickyBy::Ip);
    let balanced = || service.pick(client_hash, tried, local.coarse_now(), called);
    match wish {
        Wish::Nothing if by_address => draw_and_remember(local, service, client_hash, tried, called),
        Wish::Nothing => balanced(),
        Wish::Pinned(Pinned { identity, .. }) => {
            service.takes_identity(identity, tried, called).unwrap_or_else(balanced)
        }
        Wish::Drawn(user) => draw_and_remember(local, service, user, tried, called),
        Wish::Session(session) => where_it_began(local, service, session, tried, called),
    }
}

/// The instance that gave out the session's cookie. If it cannot take the request, the session moves, for good; one
/// that nobody knows of (this worker is younger than it) is drawn by its cookie, which all threads do alike.
fn where_it_began(local: &Local, service: &Service, session: u64, tried: &[Tried], called: bool) -> Picked {
    let now = local.time();
    let idle = service.settings.sticky.as_ref().and_then(|sticky| sticky.idle);
    let mut learned = service.shared.learned.lock().unwrap_or_else(PoisonError::into_inner);
    let home = learned.home(now, session, idle);
    if let Some(picked) = home.and_then(|identity| service.takes_identity(identity, tried, called)) {
        return picked;
    }
    let Some((instance, _)) = draw(service, session, tried) else { return Picked::Park };
    if home.is_some() {
        learned.remember(now, session, instance.identity);
    }
    drop(learned);
    service.enter(instance, called)
}

/// Where the user is drawn, unless it had to move away from there before. Slow starts do not matter: a user has one
/// place.
fn draw_and_remember(local: &Local, service: &Service, user: u64, tried: &[Tried], called: bool) -> Picked {
    let now = local.time();
    let mut displaced = service.shared.displaced.lock().unwrap_or_else(PoisonError::into_inner);
    let home = displaced.home(now, user, Some(DISPLACED_IDLE));
    if let Some(picked) = home.and_then(|identity| service.takes_identity(identity, tried, called)) {
        return picked;
    }
    let Some((instance, first_choice)) = draw(service, user, tried) else { return Picked::Park };
    if first_choice {
        displaced.forget(user);
    } else {
        displaced.remember(now, user, instance.identity);
    }
    drop(displaced);
    service.enter(instance, called)
}

/// The instance with the user's best draw among those that can take the request, and whether it has the best of all.
fn draw<'a>(service: &'a Service, user: u64, tried: &[Tried]) -> Option<(&'a Rc<Instance>, bool)> {
    let instances = service.instances.iter().enumerate();
    let all: Vec<Candidate> = instances
        .filter(|(_, instance)| instance.table.backup == service.backups_serve)
        .map(|(index, instance)| instance.table.candidate(index))
        .collect();
    let able = |one: &Candidate| {
        let instance = &service.instances[one.index];
        instance.takes() && !tried.iter().any(|tried| tried.key == instance.key() && !tried.reuse)
    };
    let drawn = ip_hash::pick(&all, user, |_| true);
    let index = ip_hash::pick(&all, user, able)?;
    Some((&service.instances[index], drawn == Some(index)))
}

/// Takes note of the application's cookie in an answer of `instance`.
pub(crate) fn learn(local: &Local, service: &Service, instance: &Instance, answer: Headers<'_, '_>) {
    let Some(Sticky { by: StickyBy::AppCookie(name), .. }) = &service.settings.sticky else { return };
    if let Some(value) = cookie::set_value(answer, name.as_bytes()) {
        let mut learned = service.shared.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.remember(local.time(), balance::hash(value), instance.identity);
    }
}

/// The Set-Cookie value for a user who went elsewhere than the cookie wished, had none, or whose cookie is to be
/// renewed. None on an answer that shared caches may store: the next user would be given this one's instance.
pub(crate) fn set_cookie(
    local: &Local,
    service: &Service,
    wish: Wish,
    instance: &Instance,
    answer: Headers<'_, '_>,
    secure: bool,
) -> Option<String> {
    let Sticky { by: StickyBy::Cookie, name, .. } = service.settings.sticky.as_ref()? else { return None };
    let now = local.unix_seconds();
    let since = match wish {
        Wish::Pinned(pinned) if pinned.identity == instance.identity && !pinned.renew => return None,
        Wish::Pinned(pinned) if pinned.identity == instance.identity => pinned.since,
        Wish::Pinned(_) | Wish::Nothing | Wish::Drawn(_) | Wish::Session(_) => now,
    };
    if cookie::is_shared(answer) {
        return None;
    }
    let value = local.seal.seal(&service.settings.name, &instance.table.id.instance, since, now)?;
    Some(line(name, &value, secure))
}

/// A session cookie that scripts cannot read. Over TLS it never travels without, and no other host can set it.
fn line(name: &str, value: &str, secure: bool) -> String {
    let attributes = if secure { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{attributes}", full_name(name, secure))
}

fn full_name(name: &str, secure: bool) -> String {
    if secure { format!("{}{name}", cookie::HOST_PREFIX) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tls_the_cookie_is_bound_to_the_host_and_to_tls() {
        assert_eq!(line("everup", "x", true), "__Host-everup=x; Path=/; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(line("everup", "x", false), "everup=x; Path=/; HttpOnly; SameSite=Lax");
    }
}
