//! `[service.NAME.tls]`: what connections to instances are secured with, and what an instance must prove. The files are
//! read by the data plane, not here.

use std::path::PathBuf;

use super::kind::{optional, path, text};
use super::reading::{Reading, Refusal, Table};
use super::route;
use super::section::section;

section! {
    /// TLS to the instances, also for checks by http and tcp. An instance must show a certificate for `server_name` from an
    /// authority that is trusted; there is no setting that leaves this out. Files are PEM and taken up when they change.
    pub struct InstanceTls {
        /// The authorities whose certificates are believed.
        pub ca: Option<PathBuf> = optional(path()), default unset "those of the system, as they are when everup starts",
            because "an authority of your own that signs nothing else keeps everybody else out";
        /// The name that the certificate must be for. It is sent to the instance too (SNI), and as Host of checks by http.
        pub server_name: Option<String> = optional(text("host name", "at most 253 characters", server_name)),
            default unset "the certificate must be for the IP address, and no name is sent",
            because "instances are known to everup by their addresses only";
        /// What everup shows to an instance that wants a certificate, followed by the intermediate ones.
        pub certificate: Option<PathBuf> = optional(path()), default unset "nothing is shown",
            because "an instance may let in only who has one";
        /// The private key of `certificate`: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
        pub key: Option<PathBuf> = optional(path()), default unset "nothing is shown",
            because "it is read with the rights of `node.user`, so that it can be taken up again without a restart";
    }
}

pub(super) fn build(tls: InstanceTls, table: &Table<'_>, reading: &mut Reading) -> Option<InstanceTls> {
    for (there, missing) in [("certificate", "key"), ("key", "certificate")] {
        if table.has(there) && !table.has(missing) {
            let message = format!("{} has a `{there}` and no `{missing}`", table.path);
            let hint = format!("add {missing} = \"…\", or leave `{there}` out");
            reading.mistake(table.key_span(there), message, format!("`{missing}` is missing"), hint);
        }
    }
    Some(tls)
}

/// In lower case.
fn server_name(name: &str) -> Result<String, Refusal> {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(Refusal::new(
            "an address",
            "leave it out: without a name the certificate must be for the address",
        ));
    }
    route::judge_host_name(name)?;
    if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err(Refusal::new("a label begins or ends with -", "write a host name"));
    }
    Ok(name.to_ascii_lowercase())
}
