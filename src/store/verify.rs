//! Checking all files of a tree or of a snapshot, without opening it.
//!
//! 1. Nothing is written, and nothing but what is damaged stops the check of another file.

use std::fmt;

use super::compact::table_name;
use super::disk::{Disk, DiskFailure};
use super::error::StoreError;
use super::manifest::{Manifest, NAME};
use super::table::{Table, TableMeta, audit};

/// Something in a file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, below the disk's root.
    pub file: String,
    /// Byte of the file at which the damaged block starts.
    pub at: u64,
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file, self.at, self.what)
    }
}

/// Reads every block of every table and the manifest of a tree's folder, or of a snapshot's, and
/// says what is damaged; nothing if all is well. Where the manifest is damaged, tables are found by
/// their names. O(bytes of the folder), a few hundred KiB of memory and a table's largest block.
///
/// # Errors
/// [`StoreError::Disk`] where the disk says more than that bytes cannot be read;
/// [`StoreError::Version`] of a file that another version of the program wrote.
pub async fn verify<D: Disk>(disk: &D, folder: &str) -> Result<Vec<Damage>, StoreError> {
    let mut damages = Vec::new();
    let name = format!("{folder}/{NAME}");
    let damage = |at, what: &str| Damage { file: name.clone(), at, what: what.to_string() };
    let manifest = match Manifest::load(disk, folder).await {
        Ok(Some(manifest)) => Some(manifest),
        Ok(None) => {
            damages.push(damage(0, "it is missing"));
            None
        }
        Err(StoreError::Corrupt { at, what, .. }) => {
            damages.push(damage(at, what));
            None
        }
        Err(StoreError::Disk(error)) if matches!(error.failure, DiskFailure::Io(_)) => {
            damages.push(damage(error.at, "it cannot be read"));
            None
        }
        Err(error) => return Err(error),
    };
    match manifest {
        Some(manifest) => {
            for table in manifest.runs.iter().flat_map(|run| &run.tables) {
                verify_table(disk, folder, table.id, Some(table), &mut damages).await?;
            }
        }
        None => {
            for name in disk.list(folder).await? {
                let id = name.strip_prefix("table-").map(|id| u64::from_str_radix(id, 16));
                if let Some(Ok(id)) = id {
                    verify_table(disk, folder, id, None, &mut damages).await?;
                }
            }
        }
    }
    Ok(damages)
}

async fn verify_table<D: Disk>(
    disk: &D,
    folder: &str,
    id: u64,
    said: Option<&TableMeta>,
    damages: &mut Vec<Damage>,
) -> Result<(), StoreError> {
    let name = table_name(folder, id);
    let damage = |at, what: String| Damage { file: name.clone(), at, what };
    let file = match disk.open(&name).await {
        Err(error) if error.failure == DiskFailure::Missing => {
            damages.push(damage(0, "it is missing".to_string()));
            return Ok(());
        }
        opened => opened?,
    };
    let flaws = audit(file, id).await?;
    if !flaws.is_empty() {
        damages.extend(flaws.into_iter().map(|(at, what)| damage(at, what)));
        return Ok(());
    }
    if let Some(said) = said {
        let table = Table::open(disk.open(&name).await?, id, false).await?;
        if table.meta() != said {
            let what = "it is sound, and its manifest says another thing of it".to_string();
            damages.push(damage(0, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
