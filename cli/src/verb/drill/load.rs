//! What a drill sends, made from the command line: GETs and, if wished for, POSTs, on kept connections and on new ones, plain
//! and over TLS where there is both, and WebSockets.

use everup_drill::{Load, Mode, Reach, Talk, Trust};

use super::field::Field;
use super::options::Options;

/// For our own everup: at all entrances in turns.
pub(super) fn against_field(field: &Field, options: &Options) -> anyhow::Result<(Load, Vec<Talk>)> {
    let path = options.path.as_deref().unwrap_or("/");
    let urls: Vec<String> = field.entrances.iter().map(|entrance| entrance.url(path)).collect();
    // They are ours whatever their addresses are, and who else would answer at our own listener?
    let trust = options.ca.clone().map_or(Trust::Anybody, Trust::Authorities);
    to(&urls, Reach::Anywhere, &trust, options)
}

/// For another proxy.
pub(super) fn against_url(url: &str, options: &Options) -> anyhow::Result<(Load, Vec<Talk>)> {
    let reach = if options.i_own_this { Reach::Anywhere } else { Reach::Local };
    let trust = match (&options.ca, options.insecure) {
        (Some(file), _) => Trust::Authorities(file.clone()),
        (None, true) => Trust::Anybody,
        (None, false) => Trust::System,
    };
    to(&[url.to_owned()], reach, &trust, options)
}

fn to(urls: &[String], reach: Reach, trust: &Trust, options: &Options) -> anyhow::Result<(Load, Vec<Talk>)> {
    let mut kinds = Vec::new();
    for url in urls {
        let base = named(Load::reaching(url, reach)?.mode(Mode::Mixed), options);
        kinds.push(match &options.path {
            Some(path) => base.clone().path(path)?,
            None => base.clone(),
        });
        if let Some(path) = &options.post {
            kinds.push(base.path(path)?.sending("POST", vec![b'x'; options.body()]));
        }
    }
    let load = kinds.into_iter().reduce(Load::in_turns_with).expect("there is at least one place");
    let load = load.rate(options.rate()).timeout(options.timeout()).trust(trust.clone());
    Ok((load.holding(options.connections()), talks(urls, reach, trust, options)?))
}

fn named(load: Load, options: &Options) -> Load {
    match &options.host {
        Some(host) => load.host(host),
        None => load,
    }
}

/// The WebSockets, shared out among the places.
fn talks(urls: &[String], reach: Reach, trust: &Trust, options: &Options) -> anyhow::Result<Vec<Talk>> {
    let mut talks = Vec::new();
    let (each, more) = (options.websockets() / urls.len(), options.websockets() % urls.len());
    for (number, url) in urls.iter().enumerate() {
        let sockets = each + usize::from(number < more);
        if sockets > 0 {
            let talk = Talk::reaching(url, reach)?.path(options.websocket_path())?;
            let talk = talk.sockets(sockets).trust(trust.clone());
            talks.push(match &options.host {
                Some(host) => talk.host(host),
                None => talk,
            });
        }
    }
    Ok(talks)
}
