//! A real S3 server (s3s-fs: signatures are checked, buckets are folders) on a free port of this
//! machine, in the tests' process; gone when it is dropped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const KEY: &str = "cutwater-tests";
const SECRET: &str = "not a secret";
pub const BUCKET: &str = "kept";

/// The server with one bucket.
pub struct S3 {
    folder: TempDir,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3 {
    /// Starts it; it takes requests when this returns.
    pub fn start() -> S3 {
        let folder = tempfile::tempdir().expect("a folder for the buckets");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener for the runtime");
        let address = listener.local_addr().expect("it is bound");
        let root = folder.path().to_path_buf();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime for the server");
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, root) => {}
                }
            });
        });
        S3 { folder, address, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends it: connections are refused from now on. What it holds stays.
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends well");
        }
    }

    /// Where the server is and who asks, as the AWS tools know it.
    pub fn settings(&self) -> Vec<(String, String)> {
        let address = format!("http://{}", self.address);
        let settings = [
            ("AWS_ENDPOINT_URL", address.as_str()),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ];
        settings.map(|(name, value)| (name.to_string(), value.to_string())).to_vec()
    }

    /// Tells a command of it.
    pub fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.settings())
    }

    /// Where an object lies on the disk.
    pub fn path(&self, object: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(object)
    }

    /// Names of the objects in a folder, in order.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let name =
            |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut names: Vec<String> =
            entries.filter_map(name).filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: std::net::TcpListener, root: PathBuf) {
    let listener = TcpListener::from_std(listener).expect("a listener of the runtime");
    let service = {
        let files = s3s_fs::FileSystem::new(root).expect("a folder to serve");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        builder.build()
    };
    let server = Builder::new(TokioExecutor::new());
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(connection.into_owned());
    }
}
