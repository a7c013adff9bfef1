//! One kind of request of a load: where it goes, what it says, and on what connection.

use std::collections::BTreeMap;

use crate::DrillError;
use crate::target::Target;

/// The header that carries each request's own id. An instance that echoes it lets crossed answers be seen.
pub const DRILL_ID: &str = "X-Drill-Id";

/// How requests use connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// On kept connections, as many as the answers' slowness needs.
    #[default]
    KeepAlive,
    /// One connection for each, `Connection: close`.
    Close,
    /// In turns.
    Mixed,
}

#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) target: Target,
    pub(crate) host: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) method: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Kind {
    pub(crate) fn new(target: Target) -> Self {
        let mode = Mode::default();
        Self { target, host: None, mode, method: "GET".into(), headers: Vec::new(), body: None }
    }

    /// Whether the request whose turn among those of its kind is `turn` goes out on a kept connection.
    pub(crate) fn keeps(&self, turn: u64) -> bool {
        match self.mode {
            Mode::KeepAlive => true,
            Mode::Close => false,
            Mode::Mixed => turn.is_multiple_of(2),
        }
    }

    /// What it is called in the books.
    pub(crate) fn name(&self, keep: bool) -> String {
        let scheme = if self.target.secure.is_some() { "https" } else { "http" };
        format!("{} {scheme}, {}", self.method, if keep { "kept connection" } else { "one-shot" })
    }

    /// Refuses what would break a request's framing.
    pub(crate) fn check(&self) -> Result<(), DrillError> {
        let value = |text: &str| text.bytes().all(|byte| byte >= b' ' && byte != 0x7f);
        if !is_token(&self.method) {
            return Err(DrillError::Head(self.method.clone()));
        }
        if let Some(host) = self.host.as_ref().filter(|host| !is_token(host)) {
            return Err(DrillError::Head(host.clone()));
        }
        let broken = self.headers.iter().find(|(name, text)| !is_token(name) || !value(text));
        match broken {
            Some((name, text)) => Err(DrillError::Head(format!("{name}: {text}"))),
            None => Ok(()),
        }
    }

    /// The request's bytes. `ids`: the header fields that carry its id.
    pub(crate) fn request(
        &self,
        id: &str,
        ids: &[&str],
        keep: bool,
        cookies: &BTreeMap<String, String>,
    ) -> Vec<u8> {
        let host = self.host.as_ref().unwrap_or(&self.target.host);
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.target.path);
        for name in ids {
            head += &format!("{name}: {id}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !cookies.is_empty() {
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head += &format!("Cookie: {}\r\n", pairs.join("; "));
        }
        if let Some(body) = &self.body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += if keep { "\r\n" } else { "Connection: close\r\n\r\n" };
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// Whether it can be a method, a field's name or a host.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
