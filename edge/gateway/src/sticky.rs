//! Keeping a user with an instance: what the request wishes for, where it went, and what to tell the user. A wish is
//! only that: an instance that cannot take the request is not waited for, the user moves once.

use std::rc::Rc;
use std::sync::PoisonError;

use everup_core::balance::{self, Candidate, ip_hash};
use everup_core::config::{Sticky, StickyBy};
use everup_core::http::request::Request;

use crate::local::Local;
use crate::service::{Instance, Service, Tried};

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
) -> Option<Rc<Instance>> {
    match &service.settings.sticky {
        None => service.pick(client_hash, tried),
        Some(Sticky { by: StickyBy::Cookie, .. }) => wish
            .and_then(|identity| service.takes_identity(identity, tried))
            .or_else(|| service.pick(client_hash, tried)),
        Some(Sticky { by: StickyBy::Ip, .. }) => pick_by_ip(local, service, client_hash, tried),
    }
}

/// Where the client's address draws it, unless it had to move away from there before.
fn pick_by_ip(local: &Local, service: &Service, client_hash: u64, tried: &[Tried]) -> Option<Rc<Instance>> {
    let now = local.time();
    let mut displaced = service.shared.displaced.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(instance) =
        displaced.home(now, client_hash).and_then(|identity| service.takes_identity(identity, tried))
    {
        return Some(instance);
    }
    let all: Vec<Candidate> =
        service.instances.iter().enumerate().map(|(index, instance)| instance.candidate(index)).collect();
    let unable: Vec<usize> = (0..all.len())
        .filter(|&index| {
            let instance = &service.instances[index];
            !instance.takes() || tried.iter().any(|tried| tried.key == instance.key() && !tried.reuse)
        })
        .collect();
    let drawn = ip_hash::pick(&all, client_hash, &[]);
    let index = ip_hash::pick(&all, client_hash, &unable)?;
    let instance = Rc::clone(&service.instances[index]);
    if drawn == Some(index) {
        displaced.forget(client_hash);
    } else {
        displaced.remember(now, client_hash, instance.identity);
    }
    Some(instance)
}

/// The Set-Cookie value for a user who went elsewhere than the cookie wished, or had none.
pub(crate) fn set_cookie(
    local: &Local,
    service: &Service,
    wish: Option<u64>,
    instance: &Instance,
    secure: bool,
) -> Option<String> {
    let Sticky { by: StickyBy::Cookie, name } = service.settings.sticky.as_ref()? else { return None };
    if wish == Some(instance.identity) {
        return None;
    }
    let value = local.seal.seal(&service.settings.name, &instance.table.id.instance)?;
    let secure = if secure { "; Secure" } else { "" };
    Some(format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"))
}
