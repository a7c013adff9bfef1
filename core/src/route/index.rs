//! Finds the first route whose host and path match without looking at the others, so that the thousandth route costs
//! what the first does. It decides nothing: its answer is that of trying every route in the order of the file.
//!
//! Routes are sorted into groups by what they say of the host, and in a group by what they say of the path. A host is
//! read once, from its end: at every dot the hash of what was read so far finds the group of that `*.suffix`, at the
//! start it finds the host's own. In a group the paths are sorted: the longest beginning of a path is found by halving,
//! and every shorter one by following the links from there. Of all that match, the lowest index wins. Only routes with
//! the same host and the same path (they differ in headers) are tried one after another.

use crate::config::{HostPattern, PathPattern, Route};

/// The routes of one listener, arranged.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    every_host: Paths,
    /// Sorted by hash. Two hosts may share one.
    hosts: Vec<Host>,
    /// Their hashes close together: halving looks at few lines of memory.
    hashes: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Host {
    hash: u64,
    pattern: HostPattern,
    paths: Paths,
}

/// The routes of a group by path.
#[derive(Clone, Debug, Default)]
struct Paths {
    /// Sorted by path.
    exact: Vec<(String, Vec<usize>)>,
    /// Sorted by beginning; "" is every path.
    beginnings: Vec<Beginning>,
}

#[derive(Clone, Debug)]
struct Beginning {
    text: String,
    /// The longest other beginning in the group that this one begins with.
    shorter: Option<usize>,
    /// In the order of the file.
    routes: Vec<usize>,
}

impl Index {
    /// Arranges the routes of a listener.
    pub(super) fn new<'r>(routes: impl IntoIterator<Item = &'r Route>) -> Self {
        let mut index = Self::default();
        for (number, route) in routes.into_iter().enumerate() {
            let paths = match &route.host {
                None => &mut index.every_host,
                Some(pattern) => index.paths_of(pattern),
            };
            paths.add(route.path.as_ref(), number);
        }
        index.hosts.sort_by_key(|host| host.hash);
        index.hashes = index.hosts.iter().map(|host| host.hash).collect();
        index.every_host.link();
        index.hosts.iter_mut().for_each(|host| host.paths.link());
        index
    }

    fn paths_of(&mut self, pattern: &HostPattern) -> &mut Paths {
        let hash = match pattern {
            HostPattern::Exact(name) => hash_of(name),
            HostPattern::Suffix(suffix) => {
                debug_assert!(suffix.starts_with('.'), "a wildcard stands for whole labels");
                hash_of(suffix)
            }
        };
        // Configurations name a host's routes one after another.
        let known = self.hosts.iter().rposition(|host| host.hash == hash && host.pattern == *pattern);
        let place = known.unwrap_or_else(|| {
            self.hosts.push(Host { hash, pattern: pattern.clone(), paths: Paths::default() });
            self.hosts.len() - 1
        });
        &mut self.hosts[place].paths
    }

    /// The lowest index of a route that matches this host (without port) and this path and that `takes` the request.
    pub(super) fn first(&self, host: &str, path: &str, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best = None;
        self.every_host.search(path, &takes, &mut best);
        if self.hosts.is_empty() {
            return best;
        }
        let mut hash = OFFSET;
        for (at, byte) in host.bytes().enumerate().rev() {
            hash = fold(hash, byte);
            if byte == b'.' || at == 0 {
                let from = self.hashes.partition_point(|&known| known < hash);
                let same = self.hosts[from..].iter().take_while(|known| known.hash == hash);
                for known in same.filter(|known| known.is(host, at)) {
                    known.paths.search(path, &takes, &mut best);
                }
            }
        }
        best
    }
}

impl Host {
    /// Whether what of `host` begins at `at` is what this group is about.
    fn is(&self, host: &str, at: usize) -> bool {
        match &self.pattern {
            HostPattern::Exact(name) => at == 0 && host.eq_ignore_ascii_case(name),
            // Something must stand in front: the domain itself is none of its subdomains.
            HostPattern::Suffix(suffix) => at > 0 && host[at..].eq_ignore_ascii_case(suffix),
        }
    }
}

impl Paths {
    fn add(&mut self, path: Option<&PathPattern>, number: usize) {
        let beginning = match path {
            Some(PathPattern::Exact(path)) => {
                let place = self.exact.binary_search_by(|(known, _)| known.as_str().cmp(path));
                match place {
                    Ok(place) => self.exact[place].1.push(number),
                    Err(place) => self.exact.insert(place, (path.clone(), vec![number])),
                }
                return;
            }
            Some(PathPattern::Prefix(prefix)) => prefix.as_str(),
            None => "",
        };
        match self.beginnings.binary_search_by(|known| known.text.as_str().cmp(beginning)) {
            Ok(place) => self.beginnings[place].routes.push(number),
            Err(place) => {
                let new = Beginning { text: beginning.to_owned(), shorter: None, routes: vec![number] };
                self.beginnings.insert(place, new);
            }
        }
    }

    /// Links every beginning with the next shorter one. Sorted, all that begin with a text follow it at once.
    fn link(&mut self) {
        let mut open: Vec<usize> = Vec::new();
        for place in 0..self.beginnings.len() {
            let text = &self.beginnings[place].text;
            while open.last().is_some_and(|&top| !text.starts_with(self.beginnings[top].text.as_str())) {
                open.pop();
            }
            self.beginnings[place].shorter = open.last().copied();
            open.push(place);
        }
    }

    /// Puts the lowest index of a route for this path that `takes` the request into `best`, if it is lower.
    fn search(&self, path: &str, takes: &impl Fn(usize) -> bool, best: &mut Option<usize>) {
        if let Ok(place) = self.exact.binary_search_by(|(known, _)| known.as_str().cmp(path)) {
            first_of(&self.exact[place].1, takes, best);
        }
        // Whatever the path begins with is not behind it, and every such text that is longer stands behind the shorter.
        let mut next = self.beginnings.partition_point(|known| known.text.as_str() <= path).checked_sub(1);
        while let Some(beginning) = next.map(|place| &self.beginnings[place]) {
            if path.starts_with(beginning.text.as_str()) {
                first_of(&beginning.routes, takes, best);
            }
            next = beginning.shorter;
        }
    }
}

fn first_of(routes: &[usize], takes: &impl Fn(usize) -> bool, best: &mut Option<usize>) {
    let mut better = routes.iter().copied().take_while(|&number| best.is_none_or(|best| number < best));
    *best = better.find(|&number| takes(number)).or(*best);
}

/// FNV-1a (Fowler, Noll, Vo) over the bytes in lower case, from the last to the first. Only hosts of the configuration
/// are kept under it, so that nobody gains by finding collisions.
fn hash_of(host: &str) -> u64 {
    host.bytes().rev().fold(OFFSET, fold)
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn fold(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests;
