//! Where rows go: standard output or a file, packed by the file's name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::write::GzEncoder;

/// Bytes given to the system at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Cheap levels: this is about speed, and the rows are random.
const ZSTD_LEVEL: i32 = 1;

enum Packed<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Packed<W> {
    fn new(name: &str, out: W) -> io::Result<Packed<W>> {
        Ok(if name.ends_with(".gz") {
            Packed::Gzip(GzEncoder::new(out, flate2::Compression::fast()))
        } else if name.ends_with(".zst") {
            let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            Packed::Zstd(encoder)
        } else {
            Packed::Plain(out)
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Packed::Plain(out) => out.write_all(bytes),
            Packed::Gzip(out) => out.write_all(bytes),
            Packed::Zstd(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Packed::Plain(out) => Ok(out),
            Packed::Gzip(out) => out.finish(),
            Packed::Zstd(out) => out.finish(),
        }
    }
}

/// Counts what is written through it.
struct Counted {
    out: Box<dyn Write>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The output of one run. Dropped without [`Output::finish`], a file does not appear.
pub struct Output {
    packed: Option<Packed<BufWriter<Counted>>>,
    name: String,
    /// The hidden name a file is written under, and its own.
    rename: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Opens `name`, `-` for standard output. A name that stands for something else than a file (a
    /// pipe, `/dev/null`) is written as it is.
    pub fn create(name: &str) -> anyhow::Result<Output> {
        let failed = || format!("cannot write {name}");
        let mut rename = None;
        let out: Box<dyn Write> = if name == "-" {
            Box::new(io::stdout())
        } else {
            let path = Path::new(name);
            let about = fs::metadata(path);
            if about.as_ref().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
                let out = fs::OpenOptions::new().write(true).open(path);
                Box::new(out.with_context(failed)?)
            } else {
                if about.is_ok_and(|about| about.is_dir()) {
                    anyhow::bail!("cannot write {name}: it is a folder; name a file in it");
                }
                if let Some(folder) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
                    fs::create_dir_all(folder)
                        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
                }
                let mut hidden = std::ffi::OsString::from(".");
                hidden.push(path.file_name().context("the output has no file name")?);
                hidden.push(".tmp");
                let hidden = path.with_file_name(hidden);
                let file = File::create(&hidden).with_context(failed)?;
                rename = Some((hidden, path.to_path_buf()));
                Box::new(file)
            }
        };
        let counted = Counted { out, bytes: 0 };
        let buffered = BufWriter::with_capacity(BUFFER_BYTES, counted);
        Ok(Output {
            packed: Some(Packed::new(name, buffered).with_context(failed)?),
            name: name.to_string(),
            rename,
        })
    }

    fn failed(&self) -> String {
        if self.name == "-" {
            "cannot write to standard output".into()
        } else {
            format!("cannot write {}; nothing was kept of it", self.name)
        }
    }

    /// Takes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let packed = self.packed.as_mut().expect("an output is finished once");
        packed.write(bytes).with_context(|| self.failed())
    }

    /// Writes what is left and makes the file appear. Gives the bytes written, as packed.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        let packed = self.packed.take().expect("an output is finished once");
        let close = || -> io::Result<u64> {
            let mut buffered = packed.finish()?;
            buffered.flush()?;
            Ok(buffered.get_ref().bytes)
        };
        let bytes = close().with_context(|| self.failed())?;
        if let Some((hidden, path)) = &self.rename {
            fs::rename(hidden, path).with_context(|| self.failed())?;
            self.rename = None;
        }
        Ok(bytes)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((hidden, _)) = self.rename.take() {
            let _ = fs::remove_file(hidden);
        }
    }
}
