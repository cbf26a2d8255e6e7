//! `--set a.b=value`: keys put into the tree before it is read, over what the file says.
//!
//! The value is read as TOML where it is TOML and as a plain string where it is not, so that
//! `--set engine.cores=2` and `--set sources.t.path=data/a.jsonl` both do what they look like.

use toml_edit::Key;

use super::text::{Piece, Text};
use super::tree::{Node, Table, Value, parse_value};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Span, Spanned, Texts};

/// Puts the override in text number `text` into the tree.
pub fn apply(root: &mut Node, texts: &Texts, text: usize, out: &mut Diagnostics) {
    let source = texts.text(text);
    let whole = Span::new(text, 0..source.len());
    let wrong = |message: &str| {
        Diagnostic::error(Code::Override, whole, message.to_string())
            .hint("write `--set a.b=value`, for example `--set engine.cores=2`")
    };
    let Some((path, _)) = source.split_once('=') else {
        out.add(wrong("this is no `path=value`"));
        return;
    };
    let keys = match Key::parse(path) {
        Ok(keys) if !keys.is_empty() => keys,
        _ => {
            out.add(wrong(&format!("`{path}` is no path of keys")));
            return;
        }
    };
    let value = parse_value(text, source, path.len() + 1)
        .unwrap_or_else(|| plain(source, text, path.len() + 1));
    let spot = Span::new(text, 0..path.len());
    let names: Vec<&str> = keys.iter().map(Key::get).collect();
    if let Err(message) = put(root, &names, value, spot) {
        out.add(Diagnostic::error(Code::Override, spot, message));
    }
}

/// The value as a string, as it is written.
fn plain(source: &str, text: usize, start: usize) -> Node {
    let span = Span::new(text, start..source.len());
    let pieces = vec![Piece { value: 0, source: start }];
    Node { span, value: Value::Text(Text::new(source[start..].to_string(), span, pieces)) }
}

fn put(node: &mut Node, path: &[&str], value: Node, spot: Span) -> Result<(), String> {
    let Some((key, rest)) = path.split_first() else {
        *node = value;
        return Ok(());
    };
    let kind = node.kind();
    match &mut node.value {
        Value::Table(table) => {
            if table.get(key).is_none() {
                let empty = Node { span: spot, value: Value::Table(Table::default()) };
                table.entries.push((Spanned::new((*key).to_string(), spot), empty));
            }
            put(table.get_mut(key).expect("it was there or was put there"), rest, value, spot)
        }
        Value::List(list) => {
            let (len, index) = (list.len(), key.parse::<usize>().ok());
            match index.and_then(|index| list.get_mut(index)) {
                Some(node) => put(node, rest, value, spot),
                None => Err(format!("`{key}` is no place in an array of {len}")),
            }
        }
        _ => Err(format!("`{key}` cannot be set inside {kind}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::raw::tree::parse;

    #[allow(clippy::result_large_err, reason = "a test asks once")]
    fn check(file: &str, set: &str, path: &[&str]) -> Result<Node, Diagnostic> {
        let (mut texts, mut out) = (Texts::default(), Diagnostics::default());
        texts.add("f", file);
        let text = texts.add("--set", set);
        let mut root = parse(&texts, 0, &mut out).unwrap();
        apply(&mut root, &texts, text, &mut out);
        if let Some(wrong) = out.sorted().pop() {
            return Err(wrong);
        }
        let found = path.iter().fold(&root, |node, key| match &node.value {
            Value::Table(table) => table.get(key).unwrap(),
            Value::List(list) => &list[key.parse::<usize>().unwrap()],
            other => panic!("{other:?}"),
        });
        Ok(found.clone())
    }

    #[test]
    fn keys_are_replaced_and_added() {
        let file = "[engine]\ncores = 1\n[[tests]]\nname = 'a'\n";
        let cores = check(file, "engine.cores=[2, 3]", &["engine", "cores"]).unwrap();
        assert!(matches!(cores.value, Value::List(list) if list.len() == 2));
        let path = check(file, "sources.t.path=data/*.jsonl", &["sources", "t", "path"]).unwrap();
        assert_eq!(path.span, Span::new(1, 15..27));
        assert!(matches!(path.value, Value::Text(text) if text.value == "data/*.jsonl"));
        let name = check(file, "tests.0.name=\"b=c\"", &["tests", "0", "name"]).unwrap();
        assert_eq!(name.span, Span::new(1, 13..18));
        assert!(matches!(name.value, Value::Text(text) if text.value == "b=c"));
    }

    #[test]
    fn a_wrong_override_is_marked_in_the_argument() {
        let file = "[engine]\ncores = 1\n[[tests]]\nname = 'a'\n";
        for set in ["engine.cores", "=1", "engine..cores=1", "engine.cores.x=1", "tests.7.x=1"] {
            let wrong = check(file, set, &[]).unwrap_err();
            assert_eq!((wrong.code, wrong.span.text), (Code::Override, 1), "{set}");
        }
    }
}
