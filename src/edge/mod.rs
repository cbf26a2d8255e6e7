//! Floor 4: connectors, one folder or file each. They know bytes, blocks and epochs.
//!
//! What is absent: `flow`, `ops`, `state`, `store`, `plan`, `expr`. The pipeline file's reader
//! does not know this floor either: `app` turns what was written into the options below.

pub mod blackhole;
pub mod decode;
pub mod file;
pub mod generator;
pub mod lines;
pub mod objects;
pub mod socket;
pub mod stdout;
pub mod values;

use crate::port::{PortError, Sink, Source};

/// What a source is opened with, by its `type`.
#[derive(Clone, Debug)]
pub enum SourceOptions {
    File(file::FileSourceOptions),
    Socket(socket::SocketSourceOptions),
    Values(values::ValuesOptions),
    Generator(generator::GeneratorOptions),
}

/// Opens a source. Its blocks are to be decoded by the format that the pipeline file names;
/// [`crate::port::Block::Numbers`] by [`generator::Rows`].
///
/// # Errors
/// [`PortError`], mostly [`PortError::Setup`]: whatever can be known before the first block.
pub fn open_source(options: &SourceOptions) -> Result<Box<dyn Source>, PortError> {
    Ok(match options {
        SourceOptions::File(options) => Box::new(file::source::FileSource::open(options)?),
        SourceOptions::Socket(options) => Box::new(socket::SocketSource::open(options)?),
        SourceOptions::Values(options) => Box::new(values::ValuesSource::new(options)),
        SourceOptions::Generator(options) => Box::new(generator::GeneratorSource::open(options)?),
    })
}

/// What a sink is opened with, by its `type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkOptions {
    File(file::FileSinkOptions),
    /// Rows in sub-folders, as [`file::folders::put_rows`] writes them.
    Folders(file::FileSinkOptions),
    Stdout(stdout::StdoutSinkOptions),
    Blackhole,
}

/// Opens a sink for each of the shards.
///
/// # Errors
/// As [`open_source`].
pub fn open_sinks(options: &SinkOptions, shards: usize) -> Result<Vec<Box<dyn Sink>>, PortError> {
    fn boxed(sink: impl Sink + 'static) -> Box<dyn Sink> {
        Box::new(sink)
    }
    match options {
        SinkOptions::File(options) => {
            (0..shards).map(|shard| file::sink::FileSink::open(options, shard).map(boxed)).collect()
        }
        SinkOptions::Folders(options) => {
            let limits = file::folders::FolderLimits::default();
            let sink = |shard| file::folders::FoldersSink::open(options, shard, limits);
            (0..shards).map(|shard| sink(shard).map(boxed)).collect()
        }
        SinkOptions::Stdout(options) => {
            let sinks = stdout::StdoutSink::open(options, shards)?;
            Ok(sinks.into_iter().map(boxed).collect())
        }
        SinkOptions::Blackhole => {
            let sink = |_| boxed(blackhole::BlackholeSink::default());
            Ok((0..shards).map(sink).collect())
        }
    }
}
