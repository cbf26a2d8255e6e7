//! The client of the far place, on the pump's thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart,
};
use tokio::runtime::{Builder, Runtime};

use super::{Ask, Listed, Serve};
use crate::ground::limits::{
    CONNECT_MS_MAX, REMOTE_PART_BYTES, REMOTE_PARTS_UNDER_WAY, REMOTE_REQUEST_MS_MAX,
    REMOTE_RETRIES, REMOTE_RETRY_MS_MAX,
};
use crate::port::PortError;

/// Opens a place; see [`super::Objects::open`].
///
/// # Errors
/// [`PortError::Setup`].
pub fn serve(url: &str, settings: &[(String, String)]) -> Result<Serve, PortError> {
    let wrong = |why: &dyn std::fmt::Display| PortError::Setup(format!("`{url}`: {why}"));
    let (store, root): (Arc<dyn ObjectStore>, Name) = match url.split_once("://") {
        Some(("s3", place)) => {
            let (bucket, root) = place.split_once('/').unwrap_or((place, ""));
            if bucket.is_empty() {
                return Err(wrong(&"it names no bucket; write `s3://BUCKET/PATH`"));
            }
            let root = Name::parse(root.trim_matches('/')).map_err(|error| wrong(&error))?;
            (Arc::new(s3(bucket, settings).map_err(|error| wrong(&error))?), root)
        }
        Some(("file", path)) if path.starts_with('/') => {
            (folder(Path::new(path))?, Name::default())
        }
        None => (folder(Path::new(url))?, Name::default()),
        Some(_) => {
            let what = "it is no place for checkpoints; write `s3://BUCKET/PATH`, `file:///PATH` \
                        or a path";
            return Err(wrong(&what));
        }
    };
    // A thread of the runtime would only wait: the pump's own drives everything.
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| wrong(&error))?;
    Ok(Box::new(move |asks| Pump { store, root, runtime }.run(asks)))
}

fn folder(path: &Path) -> Result<Arc<dyn ObjectStore>, PortError> {
    std::fs::create_dir_all(path)
        .map_err(|error| crate::edge::file::parts::failure("make the folder", path, error))?;
    let store = LocalFileSystem::new_with_prefix(path);
    let store =
        store.map_err(|error| PortError::Setup(format!("`{}`: {error}", path.display())))?;
    Ok(Arc::new(store.with_fsync(true)))
}

fn s3(bucket: &str, settings: &[(String, String)]) -> Result<impl ObjectStore, Error> {
    // The process's choice of cipher suites; another part of it may have made the same already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::new();
    for (name, value) in settings {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let is_near = settings
        .iter()
        .any(|(name, value)| name.starts_with("AWS_ENDPOINT_URL") && is_loopback(value));
    let mut options = ClientOptions::new()
        .with_timeout(Duration::from_millis(REMOTE_REQUEST_MS_MAX))
        .with_connect_timeout(Duration::from_millis(CONNECT_MS_MAX));
    if is_near || settings.iter().any(|(name, on)| name == "AWS_ALLOW_HTTP" && on == "true") {
        options = options.with_allow_http(true);
    }
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: REMOTE_RETRIES,
        retry_timeout: Duration::from_millis(REMOTE_RETRY_MS_MAX),
    };
    builder.with_bucket_name(bucket).with_client_options(options).with_retry(retry).build()
}

/// Whether an address without encryption stays on this machine.
fn is_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split('/').next().unwrap_or("");
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The pump's own.
struct Pump {
    store: Arc<dyn ObjectStore>,
    root: Name,
    runtime: Runtime,
}

impl Pump {
    /// Serves until nobody can ask any more. Who does not wait for its reply has gone.
    fn run(self, asks: Receiver<Ask>) {
        for ask in asks {
            match ask {
                Ask::Put { name, bytes, reply } => {
                    let _ = reply.send(self.runtime.block_on(self.put(&name, bytes)));
                }
                Ask::PutFile { name, from, reply } => {
                    let _ = reply.send(self.runtime.block_on(self.put_file(&name, &from)));
                }
                Ask::Get { name, reply } => {
                    let _ = reply.send(self.runtime.block_on(self.get(&name)));
                }
                Ask::GetFile { name, to, reply } => {
                    let _ = reply.send(self.runtime.block_on(self.get_file(&name, &to)));
                }
                Ask::List { folder, reply } => {
                    let _ = reply.send(self.runtime.block_on(self.list(&folder)));
                }
                Ask::Remove { name, reply } => {
                    let _ = reply.send(self.runtime.block_on(self.remove(&name)));
                }
            }
        }
    }

    fn name(&self, name: &str) -> Name {
        self.root.parts().chain(Name::from(name).parts()).collect()
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), PortError> {
        let put = self.store.put(&self.name(name), bytes.into()).await;
        put.map(drop).map_err(|error| failed("put", name, error))
    }

    async fn put_file(&self, name: &str, from: &Path) -> Result<(), PortError> {
        let unread =
            |source| PortError::Io { what: format!("cannot read `{}`", from.display()), source };
        let mut file = File::open(from).map_err(unread)?;
        let len = file.metadata().map_err(unread)?.len();
        if len <= REMOTE_PART_BYTES as u64 {
            let mut bytes = Vec::with_capacity(len as usize);
            file.read_to_end(&mut bytes).map_err(unread)?;
            return self.put(name, bytes).await;
        }
        let upload = self.store.put_multipart(&self.name(name)).await;
        let upload = upload.map_err(|error| failed("put", name, error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, REMOTE_PART_BYTES);
        let mut piece = vec![0; REMOTE_PART_BYTES];
        loop {
            let sent = upload.wait_for_capacity(REMOTE_PARTS_UNDER_WAY).await;
            let read = sent
                .map_err(|error| failed("put", name, error))
                .and_then(|()| file.read(&mut piece).map_err(unread));
            match read {
                Ok(0) => break,
                Ok(len) => upload.write(&piece[..len]),
                Err(error) => {
                    // What was sent is of no use; the place may also drop it by itself.
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
        }
        upload.finish().await.map(drop).map_err(|error| failed("put", name, error))
    }

    async fn get(&self, name: &str) -> Result<Vec<u8>, PortError> {
        let got = self.store.get(&self.name(name)).await;
        let bytes = match got {
            Ok(got) => got.bytes().await,
            Err(error) => Err(error),
        };
        bytes.map(|bytes| bytes.to_vec()).map_err(|error| failed("get", name, error))
    }

    async fn get_file(&self, name: &str, to: &Path) -> Result<(), PortError> {
        let unwritten = |error| crate::edge::file::parts::failure("write", to, error);
        let lost = |error| failed("get", name, error);
        let mut pieces = self.store.get(&self.name(name)).await.map_err(lost)?.into_stream();
        let mut file = File::create(to).map_err(unwritten)?;
        while let Some(piece) = pieces.try_next().await.map_err(lost)? {
            file.write_all(&piece).map_err(unwritten)?;
        }
        file.sync_all().map_err(unwritten)
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, PortError> {
        let prefix = self.name(folder);
        let all: Result<Vec<_>, _> = self.store.list(Some(&prefix)).try_collect().await;
        let all = all.map_err(|error| failed("list", folder, error))?;
        let named = |object: object_store::ObjectMeta| {
            let below = object.location.prefix_match(&self.root)?;
            let name: Vec<String> = below.map(|part| part.as_ref().to_string()).collect();
            Some((name.join("/"), object.size))
        };
        Ok(all.into_iter().filter_map(named).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), PortError> {
        match self.store.delete(&self.name(name)).await {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(failed("remove", name, error)),
        }
    }
}

/// An error with what was tried on which object.
fn failed(tried: &str, name: &str, error: Error) -> PortError {
    match error {
        Error::NotFound { .. } => PortError::Data(format!("there is no object `{name}`")),
        error => {
            let what = format!("cannot {tried} the object `{name}`");
            PortError::Io { what, source: io::Error::other(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Objects;
    use super::*;

    #[test]
    fn a_folder_is_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}/deep/er", dir.path().display());
        let objects = Objects::open(&url, &[]).unwrap();
        assert_eq!(objects.list("files").unwrap(), []);
        objects.put("files/a", vec![1, 2, 3]).unwrap();
        objects.put("files/b/c", vec![]).unwrap();
        objects.put("other", vec![4]).unwrap();
        assert_eq!(
            objects.list("files").unwrap(),
            [("files/a".into(), 3), ("files/b/c".into(), 0)]
        );
        assert_eq!(objects.get("files/a").unwrap(), [1, 2, 3]);
        let missing = objects.get("files/x").unwrap_err();
        assert!(matches!(missing, PortError::Data(_)), "{missing}");
        objects.remove("files/a").unwrap();
        objects.remove("files/a").unwrap();
        assert_eq!(objects.list("files").unwrap().len(), 1);
        // Larger than a part, and not a multiple of one.
        let (large, back) = (dir.path().join("large"), dir.path().join("back"));
        let bytes: Vec<u8> = (0..2 * REMOTE_PART_BYTES + 5).map(|i| (i % 251) as u8).collect();
        std::fs::write(&large, &bytes).unwrap();
        objects.put_file("files/large", &large).unwrap();
        objects.get_file("files/large", &back).unwrap();
        assert!(std::fs::read(&back).unwrap() == bytes);
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        for (url, word) in [("ftp://a/b", "s3://BUCKET"), ("s3:///x", "bucket"), ("file://x", "s3")]
        {
            let error = Objects::open(url, &[]).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(word)), "{url}: {error:?}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for near in ["http://127.0.0.1:9000", "http://localhost:1/x", "http://[::1]:9"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["http://10.0.0.1", "https://127.0.0.1", "http://localhost.example.com", "x"] {
            assert!(!is_loopback(far), "{far}");
        }
    }
}
