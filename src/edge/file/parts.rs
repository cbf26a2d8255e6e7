//! The files of a sink's folder: what they are called and when they can be seen.
//!
//! ```text
//! .part-open-SHARD.EXT.tmp     rows of the epoch under way; worthless after a crash
//! .part-EPOCH-SHARD.EXT.tmp    a prepared part: whole and durable, not to be seen yet
//! part-EPOCH-SHARD.EXT         a committed part
//! .aside-N/                    parts of earlier runs, moved away by `--restore none`
//! NAME/                        with `partition_by`: a sub-folder, with the same names in it
//! ```
//!
//! 1. EPOCH has at least 10 digits and SHARD 3, so that the order of names is that of epochs, then
//!    shards.
//! 2. A committed part never changes and is never replaced.
//! 3. Readers that leave out names with a leading dot (this engine's file source, Hive, Spark,
//!    Flink, `ls`) see committed parts only.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::port::PortError;

/// The visible name of a part.
pub fn committed(epoch: u64, shard: usize, extension: &str) -> String {
    format!("part-{epoch:010}-{shard:03}{}", dotted(extension))
}

/// The name of a prepared part.
pub fn prepared(epoch: u64, shard: usize, extension: &str) -> String {
    format!(".{}.tmp", committed(epoch, shard, extension))
}

/// The name of a part that is being written.
pub fn open(shard: usize, extension: &str) -> String {
    format!(".part-open-{shard:03}{}.tmp", dotted(extension))
}

fn dotted(extension: &str) -> String {
    if extension.is_empty() { String::new() } else { format!(".{extension}") }
}

/// What a name in a sink's folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Open,
    Prepared { epoch: u64 },
    Committed { epoch: u64 },
}

/// Reads a name; `None` if it is none of ours.
pub fn read_name(name: &OsStr) -> Option<Part> {
    let name = name.to_str()?;
    let hidden = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let rest = hidden.unwrap_or(name).strip_prefix("part-")?;
    let (epoch, rest) = rest.split_once('-')?;
    let shard = rest.split('.').next()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(shard) {
        return None;
    }
    if hidden.is_some() && epoch == "open" {
        return Some(Part::Open);
    }
    let epoch = digits(epoch).then(|| epoch.parse().ok())??;
    Some(if hidden.is_some() { Part::Prepared { epoch } } else { Part::Committed { epoch } })
}

fn list(folder: &Path) -> Result<Vec<(PathBuf, Part)>, PortError> {
    let failed = |error: io::Error| failure("list the folder", folder, error);
    let mut parts = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(parts),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(part) = read_name(&entry.file_name()) {
            parts.push((entry.path(), part));
        }
    }
    parts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(parts)
}

/// Moves the parts of earlier runs into a new hidden folder `.aside-N` and says how many of them
/// readers could see, and where they are now (`None`: there was nothing). To be called before the
/// sinks are opened.
///
/// # Errors
/// [`PortError`], with the path.
pub fn set_aside(folder: &Path) -> Result<(usize, Option<PathBuf>), PortError> {
    let parts = list(folder)?;
    if parts.is_empty() {
        return Ok((0, None));
    }
    let aside = new_aside(folder)?;
    let mut seen = 0;
    for (path, part) in &parts {
        if *part == Part::Open {
            fs::remove_file(path).map_err(|error| failure("remove", path, error))?;
            continue;
        }
        let name = path.file_name().unwrap_or_default();
        fs::rename(path, aside.join(name)).map_err(|error| failure("move", path, error))?;
        seen += usize::from(matches!(part, Part::Committed { .. }));
    }
    sync_folder(&aside)?;
    sync_folder(folder)?;
    Ok((seen, Some(aside)))
}

fn new_aside(folder: &Path) -> Result<PathBuf, PortError> {
    for number in 1u64.. {
        let aside = folder.join(format!(".aside-{number}"));
        match fs::create_dir(&aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failure("make the folder", &aside, error)),
        }
    }
    unreachable!("a folder holds fewer than 2^64 folders");
}

/// After a crash: makes the prepared parts of epochs up to `durable` seen, whichever shard wrote
/// them, and removes those of later epochs and what was being written; the run goes on behind
/// `durable`. Parts of later epochs that were seen already, because the run goes on from an older
/// checkpoint than the newest, are moved into a hidden folder `.aside-N`: their rows come again.
/// Says how many parts became visible. May be called any number of times.
///
/// # Errors
/// [`PortError`], with the path.
pub fn settle(folder: &Path, durable: u64) -> Result<usize, PortError> {
    let (mut shown, mut aside) = (0, None);
    for (path, part) in list(folder)? {
        match part {
            Part::Committed { epoch } if epoch > durable => {
                let aside = match &aside {
                    Some(aside) => aside,
                    None => aside.insert(new_aside(folder)?),
                };
                let name = path.file_name().unwrap_or_default();
                fs::rename(&path, aside.join(name))
                    .map_err(|error| failure("move", &path, error))?;
            }
            Part::Prepared { epoch } if epoch <= durable => {
                show(&path)?;
                shown += 1;
            }
            Part::Open | Part::Prepared { .. } => {
                fs::remove_file(&path).map_err(|error| failure("remove", &path, error))?;
            }
            Part::Committed { .. } => {}
        }
    }
    if let Some(aside) = aside {
        sync_folder(&aside)?;
    }
    if folder.exists() {
        sync_folder(folder)?;
    }
    Ok(shown)
}

/// Gives a prepared part its visible name. The caller syncs the folder.
///
/// # Errors
/// [`PortError::Setup`] if a part of that name is there already (invariant 2).
pub fn show(prepared: &Path) -> Result<(), PortError> {
    let name = prepared.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    let shown = prepared.with_file_name(name.expect("prepared parts are named by this file"));
    if shown.exists() {
        return Err(PortError::Setup(format!(
            "the part `{}` is there already, from another run or another pipeline; give each \
             pipeline a folder of its own, or start with `--restore none`, which sets old parts \
             aside",
            shown.display()
        )));
    }
    fs::rename(prepared, &shown).map_err(|error| failure("commit", &shown, error))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// [`PortError::Io`].
pub fn sync_folder(folder: &Path) -> Result<(), PortError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failure("sync the folder", folder, error))
}

/// What a sink says to every call after a write or sync that failed.
pub fn poisoned(folder: &Path) -> PortError {
    PortError::Data(format!(
        "an earlier write in `{}` failed; the run has to start again from its checkpoint",
        folder.display()
    ))
}

/// An error with what was tried, and what to do where that is known.
pub fn failure(tried: &str, path: &Path, error: io::Error) -> PortError {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            PortError::Setup(format!(
                "no permission to {tried} `{shown}` ({error}); let this user write there, or name \
                 another folder"
            ))
        }
        io::ErrorKind::NotADirectory => PortError::Setup(format!(
            "cannot {tried} `{shown}`: a part of the path is a file; name another folder"
        )),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PortError::Io {
            what: format!("cannot {tried} `{shown}`, the disk is full; make room and start again"),
            source: error,
        },
        _ => PortError::Io { what: format!("cannot {tried} `{shown}`"), source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_sort_by_epoch() {
        let read = |name: String| read_name(OsStr::new(&name));
        assert_eq!(committed(7, 2, "jsonl"), "part-0000000007-002.jsonl");
        assert_eq!(read(committed(7, 2, "csv")), Some(Part::Committed { epoch: 7 }));
        assert_eq!(read(committed(7, 2, "")), Some(Part::Committed { epoch: 7 }));
        let large = u64::MAX;
        assert_eq!(read(prepared(large, 127, "a.b")), Some(Part::Prepared { epoch: large }));
        assert_eq!(read(open(3, "jsonl")), Some(Part::Open));
        for other in ["part-1", "part-x-1", "part-1-x.csv", "a", ".part-1-2.csv", "part-open-1"] {
            assert_eq!(read(other.into()), None, "{other}");
        }
        assert!(committed(9, 9, "a") < committed(10, 0, "a"));
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name =
            |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn setting_aside_moves_all_parts_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(set_aside(path).unwrap(), (0, None));
        assert_eq!(set_aside(&path.join("missing")).unwrap(), (0, None));
        for round in 1..=2 {
            for name in [committed(1, 0, "csv"), committed(1, 1, "csv"), prepared(2, 0, "csv")] {
                fs::write(path.join(name), "x").unwrap();
            }
            fs::write(path.join(open(0, "csv")), "x").unwrap();
            fs::write(path.join("notes.txt"), "mine").unwrap();
            let aside = path.join(format!(".aside-{round}"));
            assert_eq!(set_aside(path).unwrap(), (2, Some(aside.clone())));
            let expected = [prepared(2, 0, "csv"), committed(1, 0, "csv"), committed(1, 1, "csv")];
            assert_eq!(names(&aside), expected);
        }
        assert_eq!(names(path), [".aside-1", ".aside-2", "notes.txt"]);
    }

    #[test]
    fn settling_shows_what_is_durable_and_drops_the_rest_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in [committed(1, 0, "a"), prepared(2, 0, "a"), prepared(2, 5, "a")] {
            fs::write(path.join(name), "x").unwrap();
        }
        for name in [prepared(3, 0, "a"), open(1, "a")] {
            fs::write(path.join(name), "x").unwrap();
        }
        assert_eq!(settle(path, 2).unwrap(), 2);
        assert_eq!(settle(path, 2).unwrap(), 0);
        let expected = [committed(1, 0, "a"), committed(2, 0, "a"), committed(2, 5, "a")];
        assert_eq!(names(path), expected);
        assert_eq!(settle(&path.join("missing"), 2).unwrap(), 0);
        // Behind an older checkpoint: what was seen of later ones comes again.
        assert_eq!(settle(path, 1).unwrap(), 0);
        assert_eq!(names(path), [".aside-1".to_string(), committed(1, 0, "a")]);
        assert_eq!(names(&path.join(".aside-1")), expected[1..]);
    }
}
