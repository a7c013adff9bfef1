//! What `cargo metadata` knows of the workspace, cut down to what the checks ask. It knows no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative to the workspace: `edge/health`.
    pub(crate) directory: String,
    /// Names of the workspace's crates that it depends on, for any purpose.
    pub(crate) imports: Vec<Import>,
}

#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) name: String,
    /// A dev-dependency: only its tests use it.
    pub(crate) for_tests: bool,
}

/// The workspace's crates, and for every package what its normal dependencies are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) members: Vec<Member>,
    /// Package name -> names of its normal (not dev, not build) dependencies.
    pub(crate) normal: BTreeMap<String, BTreeSet<String>>,
}

impl Metadata {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root)
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let root = root.to_str().context("the workspace's path is not text")?;
        Self::parse(&serde_json::from_slice(&output.stdout)?, root)
    }

    fn parse(json: &Value, root: &str) -> Result<Self> {
        let names: BTreeMap<&str, &str> = list(&json["packages"])
            .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
            .collect();
        let ids: BTreeSet<&str> = list(&json["workspace_members"]).filter_map(Value::as_str).collect();
        let packages = list(&json["packages"])
            .filter(|package| package["id"].as_str().is_some_and(|id| ids.contains(id)));
        let ours: BTreeSet<&str> = ids.iter().filter_map(|id| names.get(id).copied()).collect();
        let members = packages.map(|package| member(package, &ours, root)).collect::<Result<_>>()?;
        let mut normal: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&json["resolve"]["nodes"]) {
            let name =
                node["id"].as_str().and_then(|id| names.get(id)).context("a node without a package")?;
            let used =
                list(&node["deps"]).filter(|dep| list(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null()));
            let used = used.filter_map(|dep| Some((*names.get(dep["pkg"].as_str()?)?).to_owned()));
            normal.entry((*name).into()).or_default().extend(used);
        }
        Ok(Self { members, normal })
    }
}

fn member(package: &Value, ours: &BTreeSet<&str>, root: &str) -> Result<Member> {
    let name = package["name"].as_str().context("a package without a name")?.to_owned();
    let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
    let directory = manifest.trim_start_matches(root).trim_start_matches('/').trim_end_matches("/Cargo.toml");
    let imports = list(&package["dependencies"]).filter_map(|dependency| {
        let name = dependency["name"].as_str().filter(|name| ours.contains(name))?;
        Some(Import { name: name.into(), for_tests: dependency["kind"] == "dev" })
    });
    Ok(Member { name, directory: directory.into(), imports: imports.collect() })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_carry_their_directory_and_what_they_import_for_what() {
        let json = serde_json::json!({
            "packages": [
                { "id": "a 1", "name": "a", "manifest_path": "/w/edge/a/Cargo.toml", "dependencies": [
                    { "name": "b", "kind": null }, { "name": "b", "kind": "dev" }, { "name": "foreign", "kind": null } ] },
                { "id": "b 1", "name": "b", "manifest_path": "/w/b/Cargo.toml", "dependencies": [] },
                { "id": "foreign 1", "name": "foreign", "manifest_path": "/f/Cargo.toml", "dependencies": [] } ],
            "workspace_members": ["a 1", "b 1"],
            "resolve": { "nodes": [ { "id": "a 1", "deps": [
                { "pkg": "b 1", "dep_kinds": [{ "kind": "dev" }] },
                { "pkg": "foreign 1", "dep_kinds": [{ "kind": null }] } ] } ] } });

        let metadata = Metadata::parse(&json, "/w").unwrap();

        let a = &metadata.members[0];
        assert_eq!((a.name.as_str(), a.directory.as_str()), ("a", "edge/a"));
        let imports: Vec<_> =
            a.imports.iter().map(|import| (import.name.as_str(), import.for_tests)).collect();
        assert_eq!(imports, [("b", false), ("b", true)]);
        assert_eq!(metadata.normal["a"], BTreeSet::from(["foreign".to_owned()]));
    }
}
