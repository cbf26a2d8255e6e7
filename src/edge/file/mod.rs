//! Files: a bounded source of lines or native batches in one defined order, and a sink whose
//! parts appear whole.

pub mod find;
pub mod native;
pub mod parts;
pub mod sink;
pub mod source;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::path::PathBuf;

use crate::ground::schema::SchemaRef;

/// What files of a source hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Lines: JSON, CSV, raw. Plain, gzip or zstd, told by the first bytes of each file.
    Lines,
    /// Native files, mapped; their schema must be this one.
    Native { schema: SchemaRef },
}

/// What a `file` source is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSourceOptions {
    /// A file, a folder or a glob; see [`find::files`] for what it stands for.
    pub path: String,
    pub contents: Contents,
}

/// What a `file` sink is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSinkOptions {
    /// The folder that parts appear in; made where it is missing.
    pub folder: PathBuf,
    /// The end of a part's name, without the dot: `jsonl`, `csv`, `cutwater`.
    pub extension: String,
    /// What every part starts with: a CSV header, a native head.
    pub head: Vec<u8>,
}
