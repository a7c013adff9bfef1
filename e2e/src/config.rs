//! Builds the text of an `everup.toml`: one listener on a free port in front of one service, and whatever a test adds
//! in plain TOML. Health checks are quick, so that a test is.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A configuration in the making.
#[derive(Clone, Debug)]
pub struct Config {
    binds: Vec<String>,
    listener: Vec<String>,
    service: Vec<String>,
    health: Vec<String>,
    run: Option<Vec<String>>,
    more: String,
}

impl Config {
    /// The service `shop` with these fixed instances.
    pub fn shop(instances: impl IntoIterator<Item = SocketAddr>) -> Self {
        let quoted: Vec<String> = instances.into_iter().map(|address| format!("\"{address}\"")).collect();
        Self::empty().set(&format!("instances = [{}]", quoted.join(", ")))
    }

    /// The service `shop` with these fixed instances and their weights.
    pub fn shop_weighed(instances: impl IntoIterator<Item = (SocketAddr, u32)>) -> Self {
        let weighed = |(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}");
        let tables: Vec<String> = instances.into_iter().map(weighed).collect();
        Self::empty().set(&format!("instances = [{}]", tables.join(", ")))
    }

    /// The service `shop` with these fixed instances, as TOML.
    pub fn shop_with(instances: &str) -> Self {
        Self::empty().set(&format!("instances = {instances}"))
    }

    /// The service `shop` of which everup runs so many sample applications.
    pub fn runs(replicas: usize) -> Self {
        Self::runs_command(replicas, r#"["{everup}", "sample-app", "--port", "{port}"]"#)
    }

    /// The service `shop` of which everup runs so many instances of this command (a TOML array).
    pub fn runs_command(replicas: usize, command: &str) -> Self {
        let run = vec![
            format!("command = {command}"),
            format!("replicas = {replicas}"),
            "revision = \"v1\"".to_owned(),
        ];
        Self { run: Some(run), ..Self::empty() }.health("http = \"/healthz\"")
    }

    fn empty() -> Self {
        Self {
            binds: vec!["127.0.0.1:0".into()],
            listener: vec!["service = \"shop\"".into()],
            service: Vec::new(),
            health: ["interval = \"500ms\"", "timeout = \"500ms\"", "rise = 1"].map(str::to_owned).into(),
            run: None,
            more: String::new(),
        }
    }

    /// Another address of the listener, its first one included.
    #[must_use]
    pub fn bind(mut self, addresses: &[&str]) -> Self {
        self.binds = addresses.iter().map(|&address| address.to_owned()).collect();
        self
    }

    /// A line of `[[listener]]`.
    #[must_use]
    pub fn listener(mut self, line: &str) -> Self {
        self.listener.push(line.into());
        self
    }

    /// A line of `[service.shop]`.
    #[must_use]
    pub fn set(mut self, line: &str) -> Self {
        self.service.push(line.into());
        self
    }

    /// A line of `[service.shop.health]`, instead of an earlier one with the same key.
    #[must_use]
    pub fn health(mut self, line: &str) -> Self {
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        self.health.retain(|known| key(known) != key(line));
        self.health.push(line.into());
        self
    }

    /// A line of `[service.shop.run]`.
    ///
    /// # Panics
    /// When the instances are fixed ones.
    #[must_use]
    pub fn run(mut self, line: &str) -> Self {
        self.run.as_mut().expect("a `run` line needs a service that everup runs").push(line.into());
        self
    }

    /// More TOML, after everything else.
    #[must_use]
    pub fn more(mut self, text: &str) -> Self {
        self.more += text;
        self
    }
}

impl From<Config> for String {
    fn from(config: Config) -> Self {
        let Config { binds, listener, service, health, run, more } = config;
        let mut text = Self::new();
        let mut section = |head: &str, lines: &[Self]| {
            writeln!(text, "{head}\n{}\n", lines.join("\n")).expect("text takes text");
        };
        let quoted: Vec<Self> = binds.iter().map(|bind| format!("\"{bind}\"")).collect();
        section(&format!("[[listener]]\nbind = [{}]", quoted.join(", ")), &listener);
        section("[service.shop]", &service);
        section("[service.shop.health]", &health);
        if let Some(run) = &run {
            section("[service.shop.run]", run);
        }
        text + &more
    }
}
