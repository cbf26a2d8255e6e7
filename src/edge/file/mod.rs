//! Files: a bounded source of lines or native batches in one defined order, and a sink whose
//! parts appear whole.

pub mod find;
pub mod folder_name;
pub mod folders;
pub mod native;
pub mod parts;
pub mod sink;
pub mod source;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::path::PathBuf;

use crate::ground::schema::{Schema, SchemaRef};

/// Says why a native file's schema, as the text in its head, is not the one that is wanted; the
/// native format's own check.
pub type SchemaCheck = fn(&str, &Schema) -> Result<(), String>;

/// Says why no rows of a schema, with its event time in the given column, stand below a header
/// line; the format's own check.
pub type HeadCheck = fn(&[u8], &Schema, Option<usize>) -> Result<(), String>;

/// What files of a source hold.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Lines: JSON, CSV, raw. Plain, gzip or zstd, told by the first bytes of each file.
    Lines,
    /// Lines below a header line, one in each file; it must fit the schema by this check.
    Headed { schema: SchemaRef, event_time: Option<usize>, check: HeadCheck },
    /// Native files, mapped; their schema must be this one by this check.
    Native { schema: SchemaRef, check: SchemaCheck },
}

/// What a `file` source is opened with.
#[derive(Clone, Debug)]
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
