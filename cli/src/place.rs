//! Where an everup lives: its state directory and its admin socket, from the configuration and the environment.
//!
//! `run` and every verb that looks for a running everup ask here, so that they cannot disagree.

use std::path::{Path, PathBuf};

use everup_core::config::Config;
use toml::de::DeTable;

/// Where one everup lives. Absolute paths as far as the configuration's path is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The state directory.
    pub(crate) state: PathBuf,
    /// The admin socket.
    pub(crate) admin: PathBuf,
}

impl Place {
    /// For a valid configuration.
    pub(crate) fn of(config: &Config, file: &Path) -> Self {
        Self::from_settings(config.node.state.as_deref(), config.node.admin.as_deref(), file)
    }

    /// For a configuration that may have become invalid since everup was started with it: only the two settings are
    /// read.
    pub(crate) fn of_text(text: &str, file: &Path) -> anyhow::Result<Self> {
        let file_name = file.display();
        let table = DeTable::parse(text)
            .map_err(|_| anyhow::anyhow!("{file_name} is no TOML file: see `everup check {file_name}`"))?;
        let node = table.get_ref().get("node").and_then(|node| node.get_ref().as_table());
        let setting = |key| Some(Path::new(node?.get(key)?.get_ref().as_str()?));
        Ok(Self::from_settings(setting("state"), setting("admin"), file))
    }

    /// Where an everup lives that was told nothing about it.
    pub(crate) fn default_place() -> Self {
        let state = default_state();
        Self { admin: state.join("admin.sock"), state }
    }

    /// Relative paths start from the file's directory, as all paths in it do.
    fn from_settings(state: Option<&Path>, admin: Option<&Path>, file: &Path) -> Self {
        let directory = file.parent().unwrap_or_else(|| Path::new(""));
        let state = state.map_or_else(default_state, |state| directory.join(state));
        let admin = admin.map_or_else(|| state.join("admin.sock"), |admin| directory.join(admin));
        Self { state, admin }
    }
}

/// What the systemd unit says: a keeper that is not root has its state where root's verbs look for it.
const STATE: &str = "EVERUP_STATE";

fn default_state() -> PathBuf {
    // The XDG base directory specification: relative values are invalid and ignored.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = absolute(STATE) {
        return state;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/everup");
    }
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir);
    state.join("everup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_from_the_configuration_files_directory() {
        let text = "[node]\nstate = 'var'\nadmin = '/run/x.sock'";
        let place = Place::of_text(text, Path::new("/etc/everup/everup.toml")).unwrap();
        assert_eq!(place.state, Path::new("/etc/everup/var"));
        assert_eq!(place.admin, Path::new("/run/x.sock"));
    }

    #[test]
    fn the_admin_socket_lies_in_the_state_directory_unless_named() {
        let place = Place::of_text("[node]\nstate = '/var/x'", Path::new("everup.toml")).unwrap();
        assert_eq!(place.admin, Path::new("/var/x/admin.sock"));
    }

    #[test]
    fn a_configuration_that_is_wrong_elsewhere_still_tells_where_everup_lives() {
        let text = "[node]\nstate = '/var/x'\nnonsense = 1\n[service.shop]\n";
        assert_eq!(Place::of_text(text, Path::new("everup.toml")).unwrap().state, Path::new("/var/x"));
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_with_the_verb_that_says_more() {
        let error = Place::of_text("[node", Path::new("a.toml")).unwrap_err();
        assert_eq!(error.to_string(), "a.toml is no TOML file: see `everup check a.toml`");
    }
}
