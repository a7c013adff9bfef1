//! Keeping a user with an instance: what the request wishes for, where it went, and what to tell the user. A wish is
//! only that: an instance that cannot take the request is not waited for, the user moves once.

use std::rc::Rc;
use std::sync::PoisonError;

use everup_core::balance::{self, Candidate, ip_hash};
use everup_core::config::{Sticky, StickyBy};
use everup_core::http::request::Request;

use crate::local::Local;
use crate::service::{Instance, Picked, Service, Tried};

/// The instance (by identity) that the request's cookie names.
pub(crate) fn wish(local: &Local, service: &Service, request: &Request<'_, '_>) -> Option<u64> {
    let Sticky { by: StickyBy::Cookie, name } = service.settings.sticky.as_ref()? else { return None };
    let cookies = request.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case("cookie"));
    let mut values = cookies.flat_map(|(_, value)| value.split(|&byte| byte == b';')).filter_map(|pair| {
        let (key, value) = pair.trim_ascii().split_at_checked(name.len())?;
        (key == name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
    });
    let instance = values.find_map(|value| local.seal.open(&service.settings.name, value))?;
    Some(balance::hash(instance.as_bytes()))
}

/// The instance for a request, with regard to stickiness.
pub(crate) fn pick(
    local: &Local,
    service: &Service,
    wish: Option<u64>,
    client_hash: u64,
    tried: &[Tried],
    called: bool,
) -> Picked {
    let balanced = || service.pick(client_hash, tried, local.coarse_now(), called);
    match &service.settings.sticky {
        None => balanced(),
        Some(Sticky { by: StickyBy::Cookie, .. }) => {
            wish.and_then(|identity| service.takes_identity(identity, tried, called)).unwrap_or_else(balanced)
        }
        Some(Sticky { by: StickyBy::Ip, .. }) => pick_by_ip(local, service, client_hash, tried, called),
    }
}

/// Where the client's address draws it, unless it had to move away from there before. Slow starts do not matter: a user
/// has one place.
fn pick_by_ip(local: &Local, service: &Service, client_hash: u64, tried: &[Tried], called: bool) -> Picked {
    let now = local.time();
    let mut displaced = service.shared.displaced.lock().unwrap_or_else(PoisonError::into_inner);
    let home = displaced.home(now, client_hash);
    if let Some(picked) = home.and_then(|identity| service.takes_identity(identity, tried, called)) {
        return picked;
    }
    let instances = service.instances.iter().enumerate();
    let all: Vec<Candidate> = instances
        .filter(|(_, instance)| instance.table.backup == service.backups_serve)
        .map(|(index, instance)| instance.table.candidate(index))
        .collect();
    let able = |one: &Candidate| {
        let instance = &service.instances[one.index];
        instance.takes() && !tried.iter().any(|tried| tried.key == instance.key() && !tried.reuse)
    };
    let drawn = ip_hash::pick(&all, client_hash, |_| true);
    let Some(index) = ip_hash::pick(&all, client_hash, able) else { return Picked::Park };
    let instance: &Rc<Instance> = &service.instances[index];
    if drawn == Some(index) {
        displaced.forget(client_hash);
    } else {
        displaced.remember(now, client_hash, instance.identity);
    }
    drop(displaced);
    service.enter(instance, called)
}

/// The Set-Cookie value for a user who went elsewhere than the cookie wished, or had none.
pub(crate) fn set_cookie(
    local: &Local,
    service: &Service,
    wish: Option<u64>,
    instance: &Instance,
) -> Option<String> {
    let Sticky { by: StickyBy::Cookie, name } = service.settings.sticky.as_ref()? else { return None };
    if wish == Some(instance.identity) {
        return None;
    }
    let value = local.seal.seal(&service.settings.name, &instance.table.id.instance)?;
    Some(format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax"))
}
