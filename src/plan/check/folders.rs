//! The folders of file sinks: each sink has one of its own, because parts are named by epoch and
//! shard only.
//!
//! 1. Paths are compared by what they say, not by what stands on the disk: `out/a`, `./out/a/` and
//!    `out/b/../a` are one folder; a link to it is another.
//! 2. What lies in the folder of a sink with `partition_by` is that sink's too: any of its
//!    sub-folders may come to be.

use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::plan::raw::component::{RawOption, Sink};

/// A file sink's folder, as it was written and in parts.
struct Folder<'a> {
    sink: &'a Sink,
    span: Span,
    parts: Vec<&'a str>,
}

/// Reports file sinks that would write into one folder, or one into a folder of the other's.
pub fn folders(sinks: &[Sink], out: &mut Diagnostics) {
    let folders: Vec<Folder<'_>> = sinks.iter().filter_map(Folder::of).collect();
    for (at, folder) in folders.iter().enumerate() {
        let Some(other) = folders[..at].iter().find(|other| folder.meets(other)) else {
            continue;
        };
        let (name, first) = (&folder.sink.name.value, &other.sink.name.value);
        let message = format!("the sinks `{first}` and `{name}` write into one folder");
        let hint = if folder.parts == other.parts {
            "give each its own, or name the inputs of both in one sink: their parts would have the \
             same names"
        } else {
            "give each its own: the sub-folders of a sink with `partition_by` are named by values, \
             which may be any"
        };
        out.add(
            Diagnostic::error(Code::SharedFolder, folder.span, message)
                .also(other.span, format!("the folder of `{first}`"))
                .hint(hint),
        );
    }
}

impl<'a> Folder<'a> {
    fn meets(&self, other: &Folder<'_>) -> bool {
        self.parts == other.parts || self.may_hold(other) || other.may_hold(self)
    }

    /// Whether the other may be one of this one's sub-folders.
    fn may_hold(&self, other: &Folder<'_>) -> bool {
        let inner = other.parts.strip_prefix(&self.parts[..]).unwrap_or_default();
        let is_inside = inner.first().is_some_and(|part| !matches!(*part, "/" | ".."));
        self.sink.partition_by.is_some() && is_inside
    }

    fn of(sink: &'a Sink) -> Option<Folder<'a>> {
        if sink.connector?.name != "file" {
            return None;
        }
        let (_, option) = sink.options.iter().find(|(name, _)| *name == "path")?;
        let RawOption::Text(path) = &option.value else { return None };
        Some(Folder { sink, span: option.span, parts: parts(path) })
    }
}

/// A path in parts, so that paths of one folder are equal: without `.`, empty parts, and parts
/// that `..` leaves again. An absolute path starts with `/`.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    if path.starts_with('/') {
        parts.push("/");
    }
    for part in path.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) | ("..", Some(&"/")) => {}
            ("..", Some(&last)) if last != ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_folder_are_equal_and_others_are_not() {
        for same in ["out/a", "out/a/", "./out/a", "out//a", "out/./a", "out/b/../a", "x/../out/a"]
        {
            assert_eq!(parts(same), ["out", "a"], "{same}");
        }
        for same in ["/out", "//out/", "/../out", "/a/../../out"] {
            assert_eq!(parts(same), ["/", "out"], "{same}");
        }
        assert_eq!(parts("../../a"), ["..", "..", "a"]);
        assert_eq!(parts("a/../../b"), ["..", "b"]);
        assert!(parts(".").is_empty());
    }
}
