//! How a verb finds the running everup: `--admin`, `--config`, `./everup.toml`, `/etc/everup/everup.toml`, and last
//! the default state directory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use everup_admin::Client;

use crate::place::Place;

/// Looked for in this order when the command line names nothing.
const DEFAULT_FILES: [&str; 2] = ["everup.toml", "/etc/everup/everup.toml"];

/// The options of every verb that talks to a running everup.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Find {
    /// The configuration file that everup was started with [default: ./everup.toml, /etc/everup/everup.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The admin socket of the running everup
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub(crate) admin: Option<PathBuf>,
}

impl Find {
    /// The admin socket's path, whether or not somebody answers there.
    pub(crate) fn admin_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(admin) = &self.admin {
            return Ok(admin.clone());
        }
        if let Some(file) = &self.config {
            return admin_of(file);
        }
        match DEFAULT_FILES.iter().map(Path::new).find(|file| file.exists()) {
            Some(file) => admin_of(file),
            None => Ok(Place::default_place().admin),
        }
    }

    /// A client of the running everup.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(self.admin_path()?).await?)
    }
}

fn admin_of(file: &Path) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Place::of_text(&text, file)?.admin)
}

/// Runs a verb's conversation with everup to its end.
pub(crate) fn block_on<T>(talk: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start: the system gives no event queue")?.block_on(talk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_socket_comes_first() {
        let find = Find { config: None, admin: Some("/run/a.sock".into()) };
        assert_eq!(find.admin_path().unwrap(), Path::new("/run/a.sock"));
    }

    #[test]
    fn a_configuration_that_is_not_there_is_named() {
        let find = Find { config: Some("/nonexistent/everup.toml".into()), admin: None };
        let error = format!("{:#}", find.admin_path().unwrap_err());
        assert!(error.starts_with("cannot read /nonexistent/everup.toml: No such file"), "{error}");
    }
}
