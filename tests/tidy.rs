//! The house's rules that a machine can check (see "The house" in docs/architecture.md): which
//! floor uses which, what is absent from each, how a file opens and how long it grows.
//!
//! Comments and texts are blanked before words are looked for, and so are unit tests, which may
//! use threads and clocks.

use std::fmt;
use std::path::{Path, PathBuf};

/// Modules and their floors: a module uses lower floors and itself.
const FLOORS: &[(&str, u32)] = &[
    ("ground", 0),
    ("store", 1),
    ("expr", 1),
    ("codec", 1),
    ("port", 1),
    ("state", 2),
    ("ops", 3),
    ("flow", 4),
    ("edge", 4),
    ("plan", 5),
    ("app", 6),
];

/// Lower floors that a module does not see all the same: module, unseen, why.
const UNSEEN: &[(&str, &[&str], &str)] = &[
    (
        "edge",
        &["ops", "state", "store", "expr"],
        "a connector knows rows and epochs, not how they flow",
    ),
    ("plan", &["edge"], "the plan gets connectors as a catalogue"),
];

/// Parts of `ops` that `flow` may know: the contracts, and the stage that orders.
const CONTRACTS: &[&str] = &["output", "order", "selection"];

/// Words that must not stand in a module: modules, words, why.
const ABSENT: &[(&[&str], &[&str], &str)] = &[
    (
        &["ground", "expr", "codec", "state", "ops", "plan", "port"],
        &["async", "await"],
        "this floor is synchronous: it runs to its end",
    ),
    (
        &["ground", "expr", "codec", "state", "ops", "plan"],
        &["std::time", "std::thread", "std::net", "Instant", "SystemTime"],
        "clocks, threads and sockets are arguments on this floor",
    ),
    (
        &["ground", "expr", "codec", "state", "ops"],
        &["std::fs", "std::env", "std::process"],
        "files and the environment are arguments on this floor",
    ),
    (
        &["ground", "store", "expr", "codec", "state", "ops", "flow", "edge", "plan"],
        &["anyhow"],
        "errors say who acts; only the command uses anyhow",
    ),
];

/// What files have against these rules, with leave: file, words, why.
const LEAVE: &[(&str, &[&str], &str)] = &[
    ("ground/ring.rs", &["async", "await"], "a ring's ends wait, whoever polls them"),
    ("ground/map.rs", &["std::fs"], "a map is made of an open file, which it is given"),
    ("plan/graph.rs", &["std::net"], "an address is data; no socket is opened"),
    ("ops/pattern/nfa/vectors.rs", &["std::fs"], "a test module: it reads the recorded answers"),
];

/// The only files that know the runtime, and, with `ground`, the only ones with `unsafe`.
const URING: &[&str] = &["store/disk_uring.rs", "flow/host_uring.rs"];
/// Files that are synchronous on an asynchronous floor.
const SYNCHRONOUS: &[&str] = &["flow/align.rs", "flow/checkpoint.rs", "store/pick.rs"];
const NAMELESS: &[&str] = &["utils", "util", "helpers", "manager", "common", "misc"];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];
const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 800;
/// Beyond this many lines a file is named, not refused: is there a second room in it?
const LINES_WISHED: usize = 600;

/// A rule that a place in the source breaks.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// A source file: its path below `src`, its text, and the text with only code left in it.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    code: String,
}

/// All violations of a file.
fn violations(path: &str, text: &str) -> Vec<Violation> {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    let words = blank(text);
    let code = if is_test { blank_all(&words) } else { blank_tests(&words) };
    let file = File { path, text, code };
    let mut found = Vec::new();
    form(&file, &words, &mut found);
    floors(&file, &mut found);
    absent(&file, &mut found);
    found
}

impl File<'_> {
    /// The module at the crate's root that the file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or("").trim_end_matches(".rs")
    }

    /// Modules from the root down to the file's own.
    fn depth(&self) -> usize {
        let is_folder = self.path.ends_with("/mod.rs");
        self.path.split('/').count() - usize::from(is_folder)
    }

    fn violation(&self, at: usize, rule: impl Into<String>) -> Violation {
        let line = self.text[..at].matches('\n').count() + 1;
        Violation { file: self.path.to_string(), line, rule: rule.into() }
    }
}

/// How a file opens, how wide and long it is, what it is called, whether it is finished.
fn form(file: &File<'_>, words: &str, found: &mut Vec<Violation>) {
    if !matches!(file.path, "main.rs") && !file.text.starts_with("//!") {
        found.push(file.violation(0, "a file opens with `//!`: what it is, and what it keeps"));
    }
    let mut at = 0;
    for (number, line) in file.text.lines().enumerate() {
        // A text that cannot be broken, as rustfmt too leaves it, is let be.
        if line.chars().count() > COLUMNS_MAX && !line.contains(['"', '\'', '|']) {
            let rule = format!("a line has at most {COLUMNS_MAX} columns");
            found.push(file.violation(at, rule));
        }
        if number == LINES_MAX {
            let rule = format!("a file has at most {LINES_MAX} lines, {LINES_WISHED} if it can");
            found.push(file.violation(at, rule));
        }
        at += line.len() + 1;
    }
    for part in file.path.trim_end_matches(".rs").split('/') {
        if NAMELESS.contains(&part) {
            found.push(file.violation(0, format!("`{part}` names nothing: what is in it?")));
        }
    }
    for word in UNFINISHED {
        for (at, _) in words.match_indices(word) {
            let is_word = !words[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_word {
                found.push(file.violation(at, format!("`{word}` is left in the code")));
            }
        }
    }
}

/// Paths into other modules of the crate.
fn floors(file: &File<'_>, found: &mut Vec<Violation>) {
    let from = file.module();
    let Some(floor) = floor_of(from) else { return };
    for (at, path) in crate_paths(file) {
        let to = path[0].as_str();
        let Some(other) = floor_of(to) else { continue };
        if to != from && other >= floor {
            let rule = format!("`{from}` (floor {floor}) uses `{to}` (floor {other})");
            found.push(file.violation(at, format!("{rule}: a floor uses only lower ones")));
        }
        for (module, unseen, why) in UNSEEN {
            if *module == from && unseen.contains(&to) {
                found.push(file.violation(at, format!("`{from}` uses `{to}`: {why}")));
            }
        }
        let inner = path.get(1).map_or("", String::as_str);
        let is_module = inner.starts_with(|c: char| c.is_lowercase());
        if from == "flow" && to == "ops" && is_module && !CONTRACTS.contains(&inner) {
            let rule = format!("`flow` uses `ops::{inner}`: it knows no concrete operator");
            found.push(file.violation(at, rule));
        }
    }
}

fn floor_of(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Every path that starts at the crate's root, by `crate::` or by enough `super::`: where it
/// stands and its first two names. Groups are opened.
fn crate_paths(file: &File<'_>) -> Vec<(usize, Vec<String>)> {
    let code = &file.code;
    let mut starts: Vec<usize> = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let is_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if is_word {
            starts.push(at + word.len());
        }
    }
    let up = "super::".repeat(file.depth());
    for (at, word) in code.match_indices(&up) {
        if !code[..at].ends_with("super::") && !code[at + word.len()..].starts_with("super::") {
            starts.push(at + word.len());
        }
    }
    let mut paths = Vec::new();
    for at in starts {
        for (at, first) in names(code, at) {
            let rest = at + first.len();
            if code[rest..].starts_with("::") {
                let inner = names(code, rest + 2);
                paths.extend(inner.into_iter().map(|(at, name)| (at, vec![first.clone(), name])));
            } else {
                paths.push((at, vec![first]));
            }
        }
    }
    paths
}

/// The name at a place of the code, or the names of the group that opens there.
fn names(code: &str, at: usize) -> Vec<(usize, String)> {
    let name = |at: usize| -> String {
        code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    if !code[at..].starts_with('{') {
        return vec![(at, name(at))];
    }
    let (mut depth, mut is_start, mut found) = (0, false, Vec::new());
    for (offset, c) in code[at..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && is_start && !c.is_whitespace() {
            found.push((at + offset, name(at + offset)));
            is_start = false;
        }
        is_start |= depth == 1 && (c == '{' || c == ',');
    }
    found
}

/// Words that a file must not have.
fn absent(file: &File<'_>, found: &mut Vec<Violation>) {
    let leave = LEAVE.iter().find(|(path, ..)| *path == file.path).map_or(&[][..], |leave| leave.1);
    let mut refuse = |words: &[&str], why: &str| {
        for word in words.iter().filter(|word| !leave.contains(word)) {
            for at in whole(&file.code, word) {
                found.push(file.violation(at, format!("`{word}`: {why}")));
            }
        }
    };
    for (modules, words, why) in ABSENT {
        if modules.contains(&file.module()) {
            refuse(words, why);
        }
    }
    if SYNCHRONOUS.contains(&file.path) {
        refuse(&["async", "await"], "this file decides; it does not wait");
    }
    if !URING.contains(&file.path) {
        refuse(&["glommio"], "only store/disk_uring.rs and flow/host_uring.rs know the runtime");
        if file.module() != "ground" {
            refuse(&["unsafe"], "`unsafe` stands in `ground` and the two uring files only");
        }
    }
}

/// Where a word stands as a whole word.
fn whole<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        !code[..at].ends_with(in_word) && !code[at + word.len()..].starts_with(in_word)
    })
}

/// Blanks comments, texts and characters; places stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let skip = token(rest, out.chars().next_back());
        if skip > 0 {
            out.extend(rest[..skip].chars().flat_map(blanked));
            rest = &rest[skip..];
        } else {
            let c = rest.chars().next().expect("the rest is not empty");
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// As many spaces as a character has bytes; ends of lines stay.
fn blanked(c: char) -> impl Iterator<Item = char> {
    let blank = if c == '\n' { '\n' } else { ' ' };
    std::iter::repeat_n(blank, c.len_utf8())
}

/// Length of the comment, text or character that starts here, or 0.
fn token(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let body = rest.trim_start_matches(['b', 'c']);
    if !in_word && rest.len() - body.len() <= 1 && body.starts_with('r') {
        let hashes = body[1..].chars().take_while(|&c| c == '#').count();
        if body[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - body.len() + hashes + 2;
            return rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len());
        }
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    // A character, not a lifetime: 'a' or an escape.
    let mut chars = rest.chars();
    if chars.next() == Some('\'') {
        let first = chars.next();
        if first == Some('\\') || chars.next() == Some('\'') {
            return quoted(rest, '\'');
        }
    }
    0
}

/// Length of a text that opens and closes with `mark`.
fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !escaped && c == mark {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

/// Blanks `#[cfg(test)] mod name { ... }`, whatever else the condition says.
fn blank_tests(code: &str) -> String {
    let mut out = code.to_string();
    for (at, _) in code.match_indices("#[cfg(") {
        let Some(close) = code[at..].find(")]") else { continue };
        let (condition, rest) = code[at..].split_at(close + 2);
        let is_test = whole(condition, "test").next().is_some() && !condition.contains("not(test");
        if !is_test || !rest.trim_start().starts_with("mod ") {
            continue;
        }
        let Some(open) = rest.find(['{', ';']).filter(|&open| rest[open..].starts_with('{')) else {
            continue;
        };
        let mut depth = 0;
        let end = rest[open..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let end = end.map_or(rest.len(), |(end, _)| open + end + 1) + at + condition.len();
        out.replace_range(at..end, &blank_all(&code[at..end]));
    }
    out
}

fn blank_all(code: &str) -> String {
    code.chars().flat_map(blanked).collect()
}

/// All Rust files below a folder, in order.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn the_house_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut seen = 0;
    for folder in ["src", "tests", "benches", "loadgen/src"] {
        let mut paths = Vec::new();
        files(&root.join(folder), &mut paths);
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("a source file is readable");
            let below = path.strip_prefix(root.join(folder)).expect("it was found there");
            let below = below.to_str().expect("names of source files are plain");
            let lines = text.lines().count();
            if lines > LINES_WISHED {
                println!("{folder}/{below}: {lines} lines; is there a second room in it?");
            }
            // Outside `src` there are no floors.
            let name = if folder == "src" { below.into() } else { format!("{folder}/{below}") };
            let is_free = |v: &Violation| folder != "src" && v.rule.starts_with("`unsafe`");
            found.extend(violations(&name, &text).into_iter().filter(|v| !is_free(v)));
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} source files were found");
    let list: Vec<String> = found.iter().map(|violation| format!("  {violation}")).collect();
    assert!(found.is_empty(), "{} rules are broken:\n{}", found.len(), list.join("\n"));
}

/// Checks that a file breaks these rules: lines and the starts of what is said of them.
fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
    let text = format!("//! A file.\n{text}");
    let found = violations(path, &text);
    let mut shown: Vec<(usize, &str)> = found.iter().map(|v| (v.line, v.rule.as_str())).collect();
    shown.sort_unstable();
    assert_eq!(shown.len(), expected.len(), "{shown:?}");
    for ((line, rule), (expected_line, start)) in shown.iter().zip(expected) {
        assert_eq!(line, expected_line, "{rule}");
        assert!(rule.starts_with(start), "{rule}");
    }
}

#[test]
fn every_way_to_a_higher_floor_is_seen() {
    check("ops/filter.rs", "use crate::ground::bits;\nuse crate::expr::Program;", &[]);
    check("ops/filter.rs", "use crate::flow::Host;", &[(2, "`ops` (floor 3) uses `flow`")]);
    check("ops/filter.rs", "fn f() { crate::edge::g() }", &[(2, "`ops` (floor 3) uses `edge`")]);
    check("ops/a/b.rs", "use super::super::super::plan;", &[(2, "`ops` (floor 3) uses `plan`")]);
    check("ops/a/b.rs", "use super::super::output::Port;", &[]);
    check("ops/mod.rs", "use super::app;", &[(2, "`ops` (floor 3) uses `app`")]);
    check("codec/json.rs", "use crate::expr::Program;", &[(2, "`codec` (floor 1) uses `expr`")]);
    let group = "use crate::{\n    ground::{bits, slot},\n    app,\n};";
    check("port.rs", group, &[(4, "`port` (floor 1) uses `app`")]);
    check("edge/file/mod.rs", "use crate::ops::Rows;", &[(2, "`edge` uses `ops`")]);
    check("plan/check.rs", "use crate::edge::file;", &[(2, "`plan` uses `edge`")]);
    check("flow/shard.rs", "use crate::ops::{Rows, order::Order, output::Outputs};", &[]);
    check("flow/shard.rs", "use crate::ops::{Rows, window};", &[(2, "`flow` uses `ops::window`")]);
}

#[test]
fn what_is_absent_from_a_floor_is_found_in_code_and_only_there() {
    check("ops/map.rs", "async fn f() {}", &[(2, "`async`")]);
    check("ops/map.rs", "// async\nconst A: &str = \"async\";\nfn asynchronous() {}", &[]);
    check("ops/map.rs", "const A: &str = r#\"an \"unsafe\" text\"#;", &[]);
    check(
        "ops/map.rs",
        "fn f<'a>(x: &'a u8) -> char { '\"' }\nuse std::time::Duration;",
        &[(3, "`std::time`")],
    );
    check("ops/map.rs", "#[cfg(test)]\nmod tests { use std::thread; }\nfn f() {}", &[]);
    let loom = "#[cfg(all(test, not(loom)))]\nmod tests { use std::thread; }";
    check("ops/map.rs", loom, &[]);
    check("ops/map.rs", "#[cfg(test)]\nmod tests;\nunsafe fn f() {}", &[(4, "`unsafe`")]);
    check("ground/slot.rs", "unsafe fn f() {}", &[]);
    check("flow/shard.rs", "use glommio::timer;", &[(2, "`glommio`")]);
    check("flow/host_uring.rs", "use glommio::timer;", &[]);
    check("flow/align.rs", "fn f() { g().await }", &[(2, "`await`")]);
    check("edge/file/mod.rs", "use anyhow::Result;", &[(2, "`anyhow`")]);
}

#[test]
fn a_file_has_a_form() {
    assert_eq!(violations("ops/map.rs", "fn f() {}")[0].line, 1);
    check("ops/map.rs", &"x".repeat(101), &[(2, "a line has at most 100")]);
    check("ops/map.rs", &"ü".repeat(100), &[]);
    check("ops/map.rs", &"\n".repeat(800), &[(801, "a file has at most 800")]);
    check("ops/helpers.rs", "", &[(1, "`helpers` names nothing")]);
    check("ops/map.rs", "fn f() { todo!() }", &[(2, "`todo!` is left")]);
    check("ops/map.rs", "#[cfg(test)]\nmod tests {\n#[ignore]\nfn f() {} }", &[(4, "`#[ignore`")]);
}
