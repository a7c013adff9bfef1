//! What must outlive every process: which revision is whose, what was deployed when and how that ended, and who ordered
//! it. One file, `deploys.redb` in the state directory.
//!
//! Everything is written in transactions, on a thread of its own ([`Writer`]), because a disk can take seconds and the
//! control loop must not wait for it; what is not known to be on the disk has no effect (`core/src/deploy`). Traffic never
//! depends on this file. Nothing is decided here.
#![warn(missing_docs)]

mod writer;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use everup_core::deploy::{Deployment, Row};
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};

pub use writer::{Done, Writer};

/// Raised when what is stored changes its meaning.
const FORMAT: u64 = 1;

/// So many deployments of a service are kept.
pub const DEPLOYMENTS: usize = 100;

/// So many orders are kept: years of a busy team.
const ORDERS: u64 = 10_000;

const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// By service: its [`Row`], as JSON.
const SERVICES: TableDefinition<'_, &str, &str> = TableDefinition::new("services");
/// By service and id: a [`Deployment`], as JSON. Later ids sort after earlier ones.
const HISTORY: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("deployments");
/// By number: an order in one line.
const AUDIT: TableDefinition<'_, u64, &str> = TableDefinition::new("orders");

/// Why something cannot be read or written. The operator's to mend: the disk, or the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("{path} cannot be opened: {why}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Another process has it: the worker of an everup that is just ending.
    #[error("{path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is of a newer everup.
    #[error("{path} was written by a newer everup (format {found}, this one knows {FORMAT})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// What is in it makes no sense.
    #[error("what is stored of {what} cannot be understood: {why}")]
    Content {
        /// Of which service.
        what: String,
        /// The reason.
        why: String,
    },
    /// A transaction failed.
    #[error("the store cannot be used: {0}")]
    Database(#[from] redb::Error),
    /// Our mistake: the writer failed before the data base was touched.
    #[error("the store's writer failed inside; the log says more")]
    Inside,
    /// The data base failed inside, which it does when it is lied to: the file is damaged.
    #[error("{path} is damaged: the data base failed inside when it was used")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// What is known of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its revisions and its last deployment.
    pub row: Row,
    /// Its deployments, oldest first; the last one included.
    pub history: Vec<Deployment>,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None: closed because the disk failed, and opened again when it is needed.
    database: Option<Database>,
    /// It failed inside, and is not touched any more.
    damaged: bool,
}

impl Store {
    /// Opens the file in the state directory, or makes it, and reads what is in it.
    ///
    /// # Errors
    /// [`StoreError`]; the file is left as it is.
    pub fn open(state: &Path) -> Result<(Self, BTreeMap<String, Known>), StoreError> {
        Self::open_again(state.join("deploys.redb"))
    }

    fn open_again(path: PathBuf) -> Result<(Self, BTreeMap<String, Known>), StoreError> {
        let damaged = StoreError::Damaged { path: path.clone() };
        catch_unwind(|| Self::open_at(path)).unwrap_or(Err(damaged))
    }

    fn open_at(path: PathBuf) -> Result<(Self, BTreeMap<String, Known>), StoreError> {
        let open = |why: String| StoreError::Open { path: path.clone(), why };
        let file = private(&path).map_err(|error| open(error.to_string()))?;
        let refused = |error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            error => open(error.to_string()),
        };
        let file = FileBackend::new(file).map_err(refused)?;
        let database = Database::builder().create_with_backend(file).map_err(refused)?;
        let found = prepare(&database)?;
        if found > FORMAT {
            return Err(StoreError::Newer { path, found });
        }
        let known = read(&database)?;
        Ok((Self { path, database: Some(database), damaged: false }, known))
    }

    /// Works with the data base. If that panics, it is left alone from then on, for nobody knows in what state it is. If the disk
    /// fails (it may be full), the data base wants to be opened anew.
    fn with(&mut self, work: impl FnOnce(&Database) -> Result<(), StoreError>) -> Result<(), StoreError> {
        if self.damaged {
            return Err(StoreError::Damaged { path: self.path.clone() });
        }
        if self.database.is_none() {
            let (mut opened, _) = Self::open_again(self.path.clone())?;
            self.database = opened.database.take();
        }
        let database = self.database.as_ref().expect("it was opened just now");
        let worked = catch_unwind(AssertUnwindSafe(|| work(database))).unwrap_or_else(|_| {
            self.damaged = true;
            Err(StoreError::Damaged { path: self.path.clone() })
        });
        if self.damaged {
            // Its end would use what failed.
            std::mem::forget(self.database.take());
        } else if let Err(StoreError::Database(redb::Error::Io(_) | redb::Error::PreviousIo)) = worked {
            close(self.database.take());
        }
        worked
    }

    /// Stores a row and its deployment, and forgets the oldest deployments.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of it is stored then.
    pub fn write(&mut self, service: &str, row: &Row) -> Result<(), StoreError> {
        self.with(|database| write(database, service, row))
    }

    /// Stores that somebody ordered something, in one line.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn audit(&mut self, line: &str) -> Result<(), StoreError> {
        self.with(|database| audit(database, line))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        close(self.database.take());
    }
}

/// Closing a damaged file can panic too; it told so, and everything that was stored is.
fn close(database: Option<Database>) {
    let database = AssertUnwindSafe(database);
    let _ = catch_unwind(|| drop(database));
}

/// Makes the tables of a new file; tells the format.
fn prepare(database: &Database) -> Result<u64, StoreError> {
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    let format = {
        let mut about = transaction.open_table(ABOUT).map_err(redb::Error::from)?;
        let found = about.get("format").map_err(redb::Error::from)?.map(|format| format.value());
        if found.is_none() {
            about.insert("format", FORMAT).map_err(redb::Error::from)?;
        }
        transaction.open_table(SERVICES).map_err(redb::Error::from)?;
        transaction.open_table(HISTORY).map_err(redb::Error::from)?;
        transaction.open_table(AUDIT).map_err(redb::Error::from)?;
        found.unwrap_or(FORMAT)
    };
    transaction.commit().map_err(redb::Error::from)?;
    Ok(format)
}

fn read(database: &Database) -> Result<BTreeMap<String, Known>, StoreError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let services = transaction.open_table(SERVICES).map_err(redb::Error::from)?;
    let history = transaction.open_table(HISTORY).map_err(redb::Error::from)?;
    let mut known = BTreeMap::new();
    for entry in services.iter().map_err(redb::Error::from)? {
        let (service, row) = entry.map_err(redb::Error::from)?;
        let service = service.value().to_owned();
        let row: Row = parsed(&service, row.value())?;
        sound(&service, row.check())?;
        let mut deployments = Vec::new();
        let all = history.range((service.as_str(), "")..).map_err(redb::Error::from)?;
        for entry in all {
            let (key, deployment) = entry.map_err(redb::Error::from)?;
            if key.value().0 != service {
                break;
            }
            let deployment: Deployment = parsed(&service, deployment.value())?;
            sound(&service, deployment.check())?;
            deployments.push(deployment);
        }
        known.insert(service, Known { row, history: deployments });
    }
    Ok(known)
}

fn write(database: &Database, service: &str, row: &Row) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut services = transaction.open_table(SERVICES).map_err(redb::Error::from)?;
        services.insert(service, text(row).as_str()).map_err(redb::Error::from)?;
        if let Some(deployment) = &row.deployment {
            let mut history = transaction.open_table(HISTORY).map_err(redb::Error::from)?;
            let key = (service, deployment.id.as_str());
            history.insert(key, text(deployment).as_str()).map_err(redb::Error::from)?;
            for id in too_old(&history, service)? {
                history.remove((service, id.as_str())).map_err(redb::Error::from)?;
            }
        }
    }
    transaction.commit().map_err(redb::Error::from)?;
    Ok(())
}

fn audit(database: &Database, line: &str) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    {
        let mut audit = transaction.open_table(AUDIT).map_err(redb::Error::from)?;
        let last = audit.last().map_err(redb::Error::from)?.map_or(0, |(number, _)| number.value());
        audit.insert(last + 1, line).map_err(redb::Error::from)?;
        if audit.len().map_err(redb::Error::from)? > ORDERS {
            audit.pop_first().map_err(redb::Error::from)?;
        }
    }
    transaction.commit().map_err(redb::Error::from)?;
    Ok(())
}

/// Only the user that everup runs as may read who ordered what.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn too_old(
    history: &redb::Table<'_, (&'static str, &'static str), &'static str>,
    service: &str,
) -> Result<Vec<String>, StoreError> {
    let mut ids = Vec::new();
    for entry in history.range((service, "")..).map_err(redb::Error::from)? {
        let (key, _) = entry.map_err(redb::Error::from)?;
        let (of, id) = key.value();
        if of != service {
            break;
        }
        ids.push(id.to_owned());
    }
    ids.truncate(ids.len().saturating_sub(DEPLOYMENTS));
    Ok(ids)
}

fn parsed<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Content { what: what.to_owned(), why: error.to_string() })
}

fn sound(what: &str, checked: Result<(), &'static str>) -> Result<(), StoreError> {
    checked.map_err(|why| StoreError::Content { what: what.to_owned(), why: why.to_owned() })
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("rows hold strings, numbers and lists only")
}

#[cfg(test)]
mod tests;
