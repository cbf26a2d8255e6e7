//! Objects by name in a far place: S3 and what speaks it, or a folder.
//!
//! ```text
//! caller --ask--> pump (a thread: its own small runtime, the client) --HTTP--> S3
//!        <-reply-
//! ```
//!
//! 1. The client and its runtime live on the pump's thread and are seen nowhere else; a caller
//!    asks and waits.
//! 2. An object that was put is durable when the call returns, as far as the place promises that.
//! 3. Names are relative to the place's root: words, `/` between them.
//! 4. Every call ends: requests have time limits and are tried a bounded number of times.

#[cfg(feature = "remote")]
mod client;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::port::PortError;

/// A connection to the place. Dropping it ends the pump.
pub struct Objects {
    /// The place as it was given, for messages.
    pub url: String,
    asks: Option<Sender<Ask>>,
    pump: Option<JoinHandle<()>>,
}

/// An object: its name and length in bytes.
pub type Listed = (String, u64);

type Reply<T> = Sender<Result<T, PortError>>;

/// What the pump is asked.
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "without a client none is asked"))]
enum Ask {
    Put { name: String, bytes: Vec<u8>, reply: Reply<()> },
    PutFile { name: String, from: PathBuf, reply: Reply<()> },
    Get { name: String, reply: Reply<Vec<u8>> },
    GetFile { name: String, to: PathBuf, reply: Reply<()> },
    List { folder: String, reply: Reply<Vec<Listed>> },
    Remove { name: String, reply: Reply<()> },
}

/// A way to serve asks, made on the pump's thread.
type Serve = Box<dyn FnOnce(Receiver<Ask>) + Send>;

/// Whether a text names a far place rather than a path.
pub fn is_url(text: &str) -> bool {
    text.contains("://")
}

impl Objects {
    /// Opens `s3://BUCKET/PATH`, `file:///PATH` or a path, with `settings` as the AWS tools know
    /// them (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL` ...). Nothing is asked of the
    /// place yet.
    ///
    /// # Errors
    /// [`PortError::Setup`] with what to write instead.
    pub fn open(url: &str, settings: &[(String, String)]) -> Result<Objects, PortError> {
        let serve = serve(url, settings)?;
        let (asks, asked) = channel();
        let thread = std::thread::Builder::new().name("objects".into());
        let pump = thread.spawn(move || serve(asked)).map_err(|source| PortError::Io {
            what: "cannot start the thread of object storage".into(),
            source,
        })?;
        Ok(Objects { url: url.to_string(), asks: Some(asks), pump: Some(pump) })
    }

    /// Puts an object, in place of one of that name.
    ///
    /// # Errors
    /// [`PortError::Io`], with the object.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), PortError> {
        self.ask(|reply| Ask::Put { name: name.into(), bytes, reply })
    }

    /// Puts an object of what is in a file, in parts if that is large.
    ///
    /// # Errors
    /// [`PortError::Io`], with the object or the file.
    pub fn put_file(&self, name: &str, from: &Path) -> Result<(), PortError> {
        self.ask(|reply| Ask::PutFile { name: name.into(), from: from.into(), reply })
    }

    /// Gets an object.
    ///
    /// # Errors
    /// [`PortError::Data`] if there is none, [`PortError::Io`] if it cannot be had.
    pub fn get(&self, name: &str) -> Result<Vec<u8>, PortError> {
        self.ask(|reply| Ask::Get { name: name.into(), reply })
    }

    /// Gets an object into a new file, synced.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn get_file(&self, name: &str, to: &Path) -> Result<(), PortError> {
        self.ask(|reply| Ask::GetFile { name: name.into(), to: to.into(), reply })
    }

    /// All objects below a folder, in the order of their names.
    ///
    /// # Errors
    /// [`PortError::Io`].
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>, PortError> {
        let mut all = self.ask(|reply| Ask::List { folder: folder.into(), reply })?;
        all.sort_unstable();
        Ok(all)
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// [`PortError::Io`].
    pub fn remove(&self, name: &str) -> Result<(), PortError> {
        self.ask(|reply| Ask::Remove { name: name.into(), reply })
    }

    fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, PortError> {
        let (reply, replied) = channel();
        let sent = self.asks.as_ref().map(|asks| asks.send(ask(reply)));
        let ended = || PortError::Data(format!("the connection to `{}` has ended", self.url));
        match sent {
            Some(Ok(())) => replied.recv().unwrap_or_else(|_| Err(ended())),
            _ => Err(ended()),
        }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}

#[cfg(feature = "remote")]
fn serve(url: &str, settings: &[(String, String)]) -> Result<Serve, PortError> {
    client::serve(url, settings)
}

#[cfg(not(feature = "remote"))]
fn serve(url: &str, _settings: &[(String, String)]) -> Result<Serve, PortError> {
    Err(PortError::Setup(format!(
        "`{url}`: this program was built without the feature `remote`; build it with \
         `--features remote`, or leave the remote copy out"
    )))
}
