//! From a tree to typed values: each kind of value is read in one place, with its own message, and
//! a table knows which of its keys were asked for, so that the others can be reported.

use super::text::Text;
use super::tree::{Node, Table, Value};
use super::units::parse_size;
use crate::ground::time::parse_duration;
use crate::plan::code::Code;
use crate::plan::diagnostic::{
    Diagnostic, Diagnostics, Span, Spanned, Texts, nearest, quoted, suggest,
};

/// What reading needs: the texts, and a place for what is wrong.
pub struct Reader<'a> {
    pub texts: &'a Texts,
    pub out: &'a mut Diagnostics,
}

impl Reader<'_> {
    /// Reports a mistake.
    pub fn wrong(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.out.add(Diagnostic::error(code, span, message));
    }

    /// Reports a value of the wrong kind.
    pub fn wrong_kind(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.kind());
        self.wrong(Code::WrongKind, node.span, message);
    }
}

/// What can be read from a value of the tree; `None` when that was wrong and has been reported.
pub trait Read: Sized {
    /// Reads it.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

/// A duration in ms, of either sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub i64);

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Read for Text {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Text> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            // `--set sources.x.path=2024` means the characters where a string is due.
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_)
                if node.span.text != 0 =>
            {
                let written = &reader.texts.text(node.span.text)[node.span.start..node.span.end];
                Some(Text::new(written.to_string(), node.span, Vec::new()))
            }
            _ => {
                reader.wrong_kind(node, "a string");
                None
            }
        }
    }
}

/// The value of a string in which a variable was replaced, where it is no string that is due.
fn from_variable<T: std::str::FromStr>(node: &Node) -> Option<T> {
    match &node.value {
        Value::Text(text) if text.is_replaced() => text.value.trim().parse().ok(),
        _ => None,
    }
}

impl Read for Spanned<bool> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let found = match node.value {
            Value::Boolean(found) => Some(found),
            _ => from_variable(node),
        };
        if found.is_none() {
            reader.wrong_kind(node, "`true` or `false`");
        }
        found.map(|found| Spanned::new(found, node.span))
    }
}

impl Read for Spanned<i64> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let found = match node.value {
            Value::Integer(found) => Some(found),
            _ => from_variable(node),
        };
        if found.is_none() {
            reader.wrong_kind(node, "an integer");
        }
        found.map(|found| Spanned::new(found, node.span))
    }
}

impl Read for Spanned<f64> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let found = match node.value {
            Value::Float(found) => Some(found),
            Value::Integer(found) => Some(found as f64),
            _ => from_variable(node),
        };
        if found.is_none() {
            reader.wrong_kind(node, "a number");
        }
        found.map(|found| Spanned::new(found, node.span))
    }
}

/// Reads a string by a function that explains itself when it cannot.
fn unit<T>(
    node: &Node,
    reader: &mut Reader<'_>,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Spanned<T>> {
    if !matches!(node.value, Value::Text(_)) {
        reader.wrong_kind(node, expected);
        return None;
    }
    let text = Text::read(node, reader)?;
    match parse(&text.value) {
        Ok(found) => Some(Spanned::new(found, node.span)),
        Err(hint) => {
            let message = format!("`{}` is not {}", text.value, expected);
            reader.out.add(Diagnostic::error(Code::BadUnit, node.span, message).hint(hint));
            None
        }
    }
}

impl Read for Spanned<Millis> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        unit(node, reader, "a duration such as \"5s\"", |text| parse_duration(text).map(Millis))
    }
}

impl Read for Spanned<Size> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        unit(node, reader, "a size such as \"256MiB\"", |text| parse_size(text).map(Size))
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::List(list) = &node.value else {
            reader.wrong_kind(node, "an array");
            return None;
        };
        // Read all of them, so that all mistakes are reported.
        let read: Vec<Option<T>> = list.iter().map(|node| T::read(node, reader)).collect();
        read.into_iter().collect()
    }
}

impl<T: Read> Read for Spanned<Vec<T>> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        Some(Spanned::new(Vec::read(node, reader)?, node.span))
    }
}

/// Names and values that the file chooses, in its order: `select`, `on`, `outputs`.
#[derive(Clone, Debug)]
pub struct Named<T> {
    pub span: Span,
    pub entries: Vec<(Spanned<String>, T)>,
}

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            reader.wrong_kind(node, "a table");
            return None;
        };
        let read: Vec<_> = table
            .entries
            .iter()
            .map(|(key, node)| Some((key.clone(), T::read(node, reader)?)))
            .collect();
        Some(Named { span: node.span, entries: read.into_iter().collect::<Option<_>>()? })
    }
}

impl Read for Node {
    fn read(node: &Node, _reader: &mut Reader<'_>) -> Option<Self> {
        Some(node.clone())
    }
}

/// A word of a fixed list.
pub trait Word: Sized + Copy + 'static {
    /// The words and what they mean.
    const WORDS: &'static [(&'static str, Self)];
    /// What the word says, for messages: "a profile".
    const WHAT: &'static str;
}

impl<T: Word> Read for Spanned<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = Text::read(node, reader)?;
        let found = T::WORDS.iter().find(|(word, _)| *word == text.value);
        if found.is_none() {
            let message = format!("`{}` is not {}", text.value, T::WHAT);
            let words = T::WORDS.iter().map(|(word, _)| *word);
            let hint = suggest(&text.value, words, "it is one of");
            let wrong = Diagnostic::error(Code::UnknownWord, node.span, message).maybe_hint(hint);
            reader.out.add(wrong);
        }
        found.map(|(_, meaning)| Spanned::new(*meaning, node.span))
    }
}

/// Makes an enum that is written as a word.
macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident ($what:literal) { $($(#[doc = $each:literal])*
        $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $each])* #[doc = concat!("`", $word, "`")] $variant,)+ }

        impl $crate::plan::raw::reader::Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $name::$variant),)+];
            const WHAT: &'static str = $what;
        }

        impl $name {
            /// As it is written.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }
    };
}
pub(crate) use words;

/// The keys of a table, taken one by one.
pub struct Fields<'n> {
    table: &'n Table,
    /// What the table is, for messages: "a window".
    what: String,
    /// Where to mark what is missing.
    pub span: Span,
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Opens a table; `what` names it in messages ("the source `x`").
    pub fn open(
        node: &'n Node,
        what: impl Into<String>,
        reader: &mut Reader<'_>,
    ) -> Option<Fields<'n>> {
        match &node.value {
            Value::Table(table) => {
                Some(Fields { table, what: what.into(), span: node.span, known: Vec::new() })
            }
            _ => {
                reader.wrong_kind(node, "a table");
                None
            }
        }
    }

    /// The same table under another name for messages, once more is known of it.
    pub fn named(self, what: impl Into<String>) -> Fields<'n> {
        Fields { what: what.into(), ..self }
    }

    /// The node of a key, without reading it.
    pub fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Whether the file gives the key.
    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// The value of a key that may be missing; also `None` if it is wrong.
    pub fn maybe<T: Read>(&mut self, key: &'static str, reader: &mut Reader<'_>) -> Option<T> {
        T::read(self.node(key)?, reader)
    }

    /// The value of a key that must be there; `None` if it is missing or wrong.
    pub fn must<T: Read>(&mut self, key: &'static str, reader: &mut Reader<'_>) -> Option<T> {
        match self.node(key) {
            Some(node) => T::read(node, reader),
            None => {
                self.missing(key, reader);
                None
            }
        }
    }

    /// Reports that a key is missing.
    pub fn missing(&self, key: &str, reader: &mut Reader<'_>) {
        let message = format!("{} has no `{key}`", self.what);
        reader.out.add(
            Diagnostic::error(Code::MissingKey, self.span, message)
                .label(format!("`{key}` is missing")),
        );
    }

    /// Says that more keys have a meaning here.
    pub fn allow(&mut self, keys: impl IntoIterator<Item = &'static str>) {
        self.known.extend(keys);
    }

    /// What the table is, for messages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Reports the keys that nobody asked for.
    pub fn close(self, reader: &mut Reader<'_>) {
        for (key, _) in &self.table.entries {
            if self.known.contains(&key.value.as_str()) {
                continue;
            }
            let message = format!("unknown key `{}` in {}", key.value, self.what);
            let known = self.known.iter().copied();
            let hint = match nearest(&key.value, known.clone()) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None => {
                    let unused: Vec<&str> = known.filter(|known| !self.has(known)).collect();
                    (!unused.is_empty())
                        .then(|| format!("keys that may stand here: {}", quoted(&unused)))
                }
            };
            reader.out.add(Diagnostic::error(Code::UnknownKey, key.span, message).maybe_hint(hint));
        }
    }
}
