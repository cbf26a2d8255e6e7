//! The command as a user runs it: a pipeline file in a folder of its own, the binary, the rows
//! that it leaves behind.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with a pipeline in it.
pub struct Case {
    pub dir: TempDir,
}

impl Case {
    /// Writes `toml` as the folder's pipeline; `{dir}` in it is the folder.
    pub fn new(toml: &str) -> Case {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let case = Case { dir };
        let text = toml.replace("{dir}", &case.path("").display().to_string());
        std::fs::write(case.path("p.toml"), text).expect("the pipeline is written");
        case
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the folder.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Case {
        std::fs::write(self.path(name), bytes).expect("a file for the test");
        self
    }

    /// The command with these arguments, in the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutwater"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs the command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the command starts")
    }

    /// Runs the pipeline and expects it to end well.
    pub fn run_well(&self, args: &[&str]) -> Output {
        let args: Vec<&str> = ["run", "p.toml"].iter().chain(args).copied().collect();
        let output = self.run(&args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} ended with {}:\n{text}", output.status);
        output
    }

    /// The rows of a file sink's folder.
    pub fn rows(&self, folder: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return rows };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                rows.extend(json_lines(&std::fs::read_to_string(&path).expect("a readable part")));
            }
        }
        rows
    }

    /// The report written by `--report report.json`.
    pub fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.path("report.json")).expect("a report");
        serde_json::from_str(&text).expect("the report is JSON")
    }
}

/// JSON values, one a line.
pub fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The text of a zstd file.
pub fn unpacked(path: &Path) -> String {
    let file = std::fs::File::open(path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    let mut text = String::new();
    let mut decoder = zstd::Decoder::new(file).expect("a zstd file");
    decoder.read_to_string(&mut text).expect("whole and UTF-8");
    text
}

/// A file of this repository.
pub fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of the folder that the maintainers share, if it is here; says by name what is skipped if
/// it is not (and fails in CI, where it is there).
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = own("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    println!("SKIPPED: {} needs ../shared/{path}", std::thread::current().name().unwrap_or("?"));
    assert!(
        std::env::var_os("CI").is_none() || !own("../shared").exists(),
        "in CI nothing that ../shared could hold is skipped: {path}"
    );
    None
}

/// Rows as a multiset, each shown by `show`.
pub fn counted<T>(rows: &[T], show: impl Fn(&T) -> String) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(show(row)).or_insert(0) += 1;
    }
    counts
}

/// Fails with the first differences of two multisets.
pub fn same(what: &str, got: &BTreeMap<String, usize>, expected: &BTreeMap<String, usize>) {
    if got == expected {
        return;
    }
    let differing = |a: &BTreeMap<String, usize>, b: &BTreeMap<String, usize>| {
        let rows = a.iter().filter(|(row, count)| b.get(*row) != Some(count));
        rows.take(3).map(|(row, count)| format!("{count} x {row}")).collect::<Vec<_>>().join("\n  ")
    };
    panic!(
        "{what} differ: {} rows where {} were expected; got only\n  {}\nexpected only\n  {}",
        got.values().sum::<usize>(),
        expected.values().sum::<usize>(),
        differing(got, expected),
        differing(expected, got),
    );
}
