//! Which files the path of a source stands for, and in which order they are read.
//!
//! 1. The order is that of the whole paths, byte by byte, whatever order the system lists them in.
//! 2. A file is read once, however many ways lead to it by name.
//! 3. What starts with `.` or `_` inside a folder is left out (parts under way, markers such as
//!    `_SUCCESS`), as Flink's default enumerator does. A path that names such a file itself, or a
//!    pattern with a part that starts so, means it. The folder that a sink makes for rows without
//!    a value is no such: its rows are rows.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::edge::file::folder_name::NULL_FOLDER;
use crate::ground::limits::{FILES_MAX, FOLDER_DEPTH_MAX};
use crate::port::PortError;

/// The files that `path` stands for, in the order to read them: a file stands for itself; a folder
/// for all files in it and in its folders; a pattern (`*`, `?`, `[...]`, `**`) for what all its
/// matches stand for. Every regular file has been opened once, so that what cannot be read is
/// known before the run starts.
///
/// # Errors
/// [`PortError::Setup`], naming the path and what to do: nothing there, nothing matches, may not be
/// read, a folder without files, too many files, folders nested too deep.
pub fn files(path: &str) -> Result<Vec<PathBuf>, PortError> {
    let mut found = Vec::new();
    match fs::metadata(path) {
        Ok(about) => add(Path::new(path), &about, 0, &mut found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(path) => {
            add_matches(path, &mut found)?;
        }
        Err(error) => return Err(refused(Path::new(path), &error)),
    }
    found.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    found.dedup();
    if found.is_empty() {
        return Err(PortError::Setup(format!(
            "the folder `{path}` has no files to read; files whose names start with `.` or `_` do \
             not count"
        )));
    }
    for file in &found {
        let about = fs::metadata(file).map_err(|error| refused(file, &error))?;
        // Opening a pipe would wait for its writer.
        if about.is_file() {
            File::open(file).map_err(|error| refused(file, &error))?;
        }
    }
    Ok(found)
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn is_hidden(name: &OsStr) -> bool {
    matches!(name.as_bytes().first(), Some(b'.' | b'_')) && name != NULL_FOLDER
}

fn add_matches(pattern: &str, found: &mut Vec<PathBuf>) -> Result<(), PortError> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    // By itself a last `**` would find folders only, and not the files of the first one.
    let pattern = match Path::new(pattern).file_name() {
        Some(last) if last == "**" => Cow::Owned(format!("{pattern}/*")),
        _ => Cow::Borrowed(pattern),
    };
    let matches = glob::glob_with(&pattern, options).map_err(|error| {
        PortError::Setup(format!(
            "`{pattern}` is not a pattern: {} at character {}; write `[*]`, `[?]` or `[[]` for \
             these characters themselves",
            error.msg, error.pos
        ))
    })?;
    // What a wildcard may find begins behind the parts without one.
    let present = |part: &&OsStr| *part != ".";
    let parts: Vec<&OsStr> = Path::new(&*pattern).iter().filter(present).collect();
    let fixed = parts.iter().position(|part| is_pattern(&part.to_string_lossy()));
    let fixed = fixed.unwrap_or(parts.len());
    let meant = |part: &OsStr| {
        let same = |other: &&OsStr| other.as_bytes().first() == part.as_bytes().first();
        parts[fixed..].iter().any(same)
    };
    let mut matched = false;
    for path in matches {
        let path = path.map_err(|error| refused(error.path(), error.error()))?;
        // `.*` finds the folder itself and the one above it too; these have no name.
        let found_by_chance = |part: &OsStr| is_hidden(part) && !meant(part);
        if matches!(path.components().next_back(), Some(Component::ParentDir | Component::CurDir))
            || path.to_string_lossy().ends_with("/.")
            || path.iter().filter(present).skip(fixed).any(found_by_chance)
        {
            continue;
        }
        matched = true;
        let about = fs::metadata(&path).map_err(|error| refused(&path, &error))?;
        add(&path, &about, 0, found)?;
    }
    if !matched {
        return Err(PortError::Setup(format!(
            "no file matches `{pattern}`; look at the pattern and at the folder it starts from \
             (the present one is `{}`)",
            std::env::current_dir().unwrap_or_default().display()
        )));
    }
    Ok(())
}

fn add(
    path: &Path,
    about: &Metadata,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), PortError> {
    if !about.is_dir() {
        if found.len() == FILES_MAX {
            return Err(PortError::Setup(format!(
                "more than {FILES_MAX} files for one source, `{}` among them; join them, or name \
                 fewer",
                path.display()
            )));
        }
        found.push(path.to_path_buf());
        return Ok(());
    }
    if depth == FOLDER_DEPTH_MAX {
        return Err(PortError::Setup(format!(
            "folders nested deeper than {FOLDER_DEPTH_MAX} at `{}`; does a link lead back up?",
            path.display()
        )));
    }
    for entry in fs::read_dir(path).map_err(|error| refused(path, &error))? {
        let entry = entry.map_err(|error| refused(path, &error))?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let about = fs::metadata(&path).map_err(|error| refused(&path, &error))?;
        add(&path, &about, depth + 1, found)?;
    }
    Ok(())
}

/// Says that a path cannot be read, why, and what to do about it.
pub fn refused(path: &Path, error: &io::Error) -> PortError {
    let shown = path.display();
    PortError::Setup(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no file `{shown}`; give a path that starts with `/` or from the present \
             folder, `{}`",
            std::env::current_dir().unwrap_or_default().display()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "no permission to read `{shown}`; let this user read it (`ls -ld` shows who may), or \
             run as one who may"
        ),
        io::ErrorKind::NotADirectory => {
            format!("`{shown}` leads through a file as if it were a folder; look at the path")
        }
        io::ErrorKind::IsADirectory => {
            format!("`{shown}` is a folder where a file was expected; name the file in it")
        }
        _ => format!("cannot read `{shown}`: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn folder(names: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    /// Asserts which files a path below a folder with these files stands for.
    fn check(names: &[&str], path: &str, expected: &[&str]) {
        let folder = folder(names);
        let path = folder.path().join(path);
        let found = files(path.to_str().unwrap()).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(found, expected);
    }

    /// Asserts that a path is refused with all these words.
    fn check_refused(names: &[&str], path: &str, words: &[&str]) {
        let folder = folder(names);
        let path = folder.path().join(path);
        let error = files(path.to_str().unwrap()).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }

    #[test]
    fn a_file_a_folder_or_a_pattern_stands_for_files_in_the_order_of_their_bytes() {
        check(&["a", "b"], "b", &["b"]);
        let hidden = [".h", "_s", "c/_t", ".d/e"];
        let names = ["b", "B", "a10", "a9", "c/x", "c-x", "c/y/z", "c/__null__/n"];
        let names = [&names[..], &hidden].concat();
        let all = ["B", "a10", "a9", "b", "c-x", "c/__null__/n", "c/x", "c/y/z"];
        check(&names, "", &all);
        check(&names, "**", &all);
        check(&names, "a*", &["a10", "a9"]);
        check(&names, "*/*", &["c/__null__/n", "c/x", "c/y/z"]);
        check(&names, "[!ac]*", &["B", "b"]);
        check(&names, "c*", &["c-x", "c/__null__/n", "c/x", "c/y/z"]);
    }

    #[test]
    fn hidden_files_are_read_when_they_are_meant() {
        check(&[".h", "_s"], ".h", &[".h"]);
        check(&[".h", "_s"], "_*", &["_s"]);
        check(&[".h", "_s"], ".?", &[".h"]);
    }

    #[test]
    fn a_name_that_looks_like_a_pattern_is_a_name_where_such_a_file_is() {
        check(&["day[1].jsonl", "day1.jsonl"], "day[1].jsonl", &["day[1].jsonl"]);
        check(&["day1.jsonl"], "day[1].jsonl", &["day1.jsonl"]);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_path_and_a_remedy() {
        check_refused(&["a"], "b", &["no file", "/b`", "present folder"]);
        check_refused(&["a"], "b*", &["no file matches", "/b*`", "look at the pattern"]);
        check_refused(&["a"], "a/b", &["/a/b`", "leads through a file"]);
        check_refused(&["a"], "[", &["not a pattern", "write `[*]`"]);
        check_refused(&["_a"], "", &["has no files", "start with `.` or `_`"]);
    }

    #[test]
    fn a_link_that_leads_back_up_is_an_error_and_no_endless_walk() {
        let folder = folder(&["a"]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("up")).unwrap();
        let error = files(folder.path().to_str().unwrap()).unwrap_err().to_string();
        let expected = ["nested deeper", "symbolic link"];
        assert!(expected.iter().any(|word| error.contains(word)), "{error}");
    }
}
