//! What a checkpoint consists of, as text.
//!
//! 1. A text is JSON, a newline, `xxh3 ` and the checksum of the JSON: a text that was cut or
//!    changed anywhere is not read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Version of the manifest and of the files that it names.
pub const VERSION: u32 = 6;

/// A checkpoint as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub pipeline: String,
    pub epoch: u64,
    /// When it became durable, in ms since 1970.
    pub made_ms: i64,
    /// Bytes that were written for it; the other files it shares with older ones.
    pub written: u64,
    /// The line of runs that it stands in, the oldest first.
    pub past: Vec<Past>,
    /// Where each source stood.
    pub sources: Vec<SourceAt>,
    pub shards: usize,
    pub files: Vec<ShardFile>,
}

/// A run that left the line of checkpoints that had been: the first one, and each that went on
/// from another than the newest. Epochs of two lines have nothing in common but their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// No two have the same.
    pub run: String,
    /// The checkpoint that it went on from; 0 for none.
    pub after: u64,
}

/// A line that a run began when it left another one: noted before anything is moved, and of use
/// until the first checkpoint of the line is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub version: u32,
    pub past: Vec<Past>,
    /// Parts up to this epoch are of this past.
    pub shared: u64,
}

impl Line {
    /// Whether it begins behind this checkpoint.
    pub fn begins_behind(&self, from: &Manifest) -> bool {
        let before = self.past.split_last();
        before.is_some_and(|(last, before)| last.after == from.epoch && before == from.past)
    }
}

impl Manifest {
    /// The last epoch that is the same in the pasts of both.
    pub fn shared_with(&self, other: &Manifest) -> u64 {
        let same = self.past.iter().zip(&other.past).take_while(|(a, b)| a == b).count();
        if same == 0 {
            return 0;
        }
        let end = |of: &Manifest| of.past.get(same).map_or(of.epoch, |next| next.after);
        end(self).min(end(other))
    }

    /// Bytes of all its files.
    pub fn full(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Where a source stood; no position if it cannot go back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAt {
    pub name: String,
    pub position: Option<u64>,
}

/// A file of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFile {
    /// In the checkpoint's folder: `shard-000/image`.
    pub name: String,
    /// What is in it, without the checksums behind.
    pub bytes: u64,
    /// XXH3 of the checksums of its blocks, in hexadecimal (see [`super::files`]); none if the
    /// file has checksums of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xxh3: Option<String>,
    /// The checksums of its blocks do not stand behind it: who reads the file by itself wants
    /// nothing there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
}

impl ShardFile {
    /// The file's shard and its name there; none if the name is not of this form or leads out of
    /// the checkpoint's folder.
    pub fn place(&self) -> Option<(usize, &str)> {
        let (shard, name) = self.name.split_once('/')?;
        let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
        Some((shard.strip_prefix("shard-")?.parse().ok()?, name)).filter(|_| is_plain)
    }
}

/// Name of a shard's folder.
pub fn shard_name(number: usize) -> String {
    format!("shard-{number:03}")
}

/// The name of an epoch's folder; its manifest's has `.json` behind it.
pub fn epoch_name(epoch: u64) -> String {
    format!("{epoch:010}")
}

/// The epoch of which this is the manifest's name.
pub fn epoch_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A value's text (invariant 1).
pub fn seal(value: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(value).expect("names and numbers are JSON");
    format!("{json}\nxxh3 {:016x}\n", xxh3_64(json.as_bytes()))
}

/// Reads a text.
///
/// # Errors
/// What is wrong with it.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_string())?;
    let cut = || "it is cut short or was changed".to_string();
    let (json, sum) = text.rsplit_once("\nxxh3 ").ok_or_else(cut)?;
    if sum != format!("{:016x}\n", xxh3_64(json.as_bytes())) {
        return Err(cut());
    }
    let version: Version = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if version.version != VERSION {
        let found = version.version;
        return Err(format!("it is of version {found}, this program's is {VERSION}"));
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Read first: fields differ between versions.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_part_where_a_run_went_back() {
        let of = |epoch: u64, past: &[(&str, u64)]| Manifest {
            version: VERSION,
            pipeline: "p".into(),
            epoch,
            made_ms: 0,
            written: 0,
            past: past.iter().map(|&(run, after)| Past { run: run.into(), after }).collect(),
            sources: vec![],
            shards: 0,
            files: vec![],
        };
        let (old, new) = (of(9, &[("a", 0)]), of(7, &[("a", 0), ("b", 4)]));
        assert_eq!((old.shared_with(&new), new.shared_with(&old)), (4, 4));
        assert_eq!(of(3, &[("a", 0)]).shared_with(&new), 3);
        assert_eq!(of(5, &[("a", 0), ("b", 4)]).shared_with(&new), 5);
        assert_eq!(of(8, &[("a", 0), ("c", 2)]).shared_with(&new), 2);
        assert_eq!(of(8, &[("c", 0)]).shared_with(&new), 0);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(epoch_of("0000000012.json"), Some(12));
        assert_eq!(epoch_of(&format!("{}.json", epoch_name(u64::MAX))), Some(u64::MAX));
        for other in ["12", "x.json", "+1.json", ".json", "0000000012.json.tmp"] {
            assert_eq!(epoch_of(other), None, "{other}");
        }
        let place = |name: &str| {
            let file = ShardFile { name: name.into(), bytes: 0, xxh3: None, bare: false };
            file.place().map(|(shard, name)| (shard, name.to_string()))
        };
        assert_eq!(place("shard-012/image"), Some((12, "image".into())));
        for other in ["shard-1/../x", "shard-1/..", "shard-1/", "image", "/etc/passwd", "a/b"] {
            assert_eq!(place(other), None, "{other}");
        }
    }

    #[test]
    fn a_text_of_another_version_is_named() {
        let text = seal(&serde_json::json!({"version": 2, "epoch": 1}));
        let error = unseal::<Manifest>(text.as_bytes()).unwrap_err();
        assert_eq!(error, "it is of version 2, this program's is 6");
    }
}
