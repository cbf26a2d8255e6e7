//! `[engine]`, `[checkpoint]` and `[state]` as written.

use super::reader::{Fields, Millis, Read, Reader, Size, words};
use super::text::Text;
use super::tree::{Node, Value};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Span, Spanned};

/// `[engine]`.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    pub cores: Option<Spanned<Cores>>,
    pub data_dir: Option<Text>,
    pub batch_rows: Option<Spanned<i64>>,
    pub batch_timeout: Option<Spanned<Millis>>,
    pub http: Option<Text>,
}

/// How many shards, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// One for each processor this process may use.
    All,
    /// So many.
    Count(i64),
    /// One on each of these processors.
    List(Vec<i64>),
}

impl Read for Spanned<Cores> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let number = |text: &Text| text.value.trim().parse().ok();
        let cores = match &node.value {
            Value::Integer(count) => Cores::Count(*count),
            Value::List(_) => {
                let list = Vec::<Spanned<i64>>::read(node, reader)?;
                Cores::List(list.into_iter().map(|id| id.value).collect())
            }
            Value::Text(text) if text.value == "all" => Cores::All,
            Value::Text(text) if text.is_replaced() && number(text).is_some() => {
                Cores::Count(number(text)?)
            }
            _ => {
                let message = "`cores` is a number of shards, \"all\" or a list of processor ids";
                let wrong = Diagnostic::error(Code::WrongKind, node.span, message)
                    .hint("for example `cores = 2`, `cores = \"all\"` or `cores = [2, 3]`");
                reader.out.add(wrong);
                return None;
            }
        };
        Some(Spanned::new(cores, node.span))
    }
}

impl Read for Engine {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Engine> {
        let mut fields = Fields::open(node, "`[engine]`", reader)?;
        let engine = Engine {
            cores: fields.maybe("cores", reader),
            data_dir: fields.maybe("data_dir", reader),
            batch_rows: fields.maybe("batch_rows", reader),
            batch_timeout: fields.maybe("batch_timeout", reader),
            http: fields.maybe("http", reader),
        };
        fields.close(reader);
        Some(engine)
    }
}

words! {
    /// What a checkpoint promises.
    Mode("a checkpoint mode") {
        /// Every row counts once, whatever crashes.
        ExactlyOnce = "exactly_once",
        /// Every row counts once or more.
        AtLeastOnce = "at_least_once",
    }
}

/// When barriers overtake rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unaligned {
    Never,
    Always,
    /// Aligned until that long, then unaligned.
    After(Millis),
}

impl Read for Spanned<Unaligned> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let unaligned = match &node.value {
            Value::Text(text) if text.value == "never" => Unaligned::Never,
            Value::Text(text) if text.value == "always" => Unaligned::Always,
            Value::Text(text) if text.value.starts_with(|c: char| c.is_ascii_digit()) => {
                Unaligned::After(Spanned::<Millis>::read(node, reader)?.value)
            }
            _ => {
                let message = "`unaligned` is \"never\", \"always\" or a duration";
                reader.wrong(Code::UnknownWord, node.span, message);
                return None;
            }
        };
        Some(Spanned::new(unaligned, node.span))
    }
}

/// `[checkpoint]`.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub span: Span,
    pub interval: Option<Spanned<Millis>>,
    pub mode: Option<Spanned<Mode>>,
    pub timeout: Option<Spanned<Millis>>,
    pub min_pause: Option<Spanned<Millis>>,
    pub tolerable_failures: Option<Spanned<i64>>,
    pub retained: Option<Spanned<i64>>,
    pub unaligned: Option<Spanned<Unaligned>>,
    pub remote: Option<Text>,
}

impl Read for Checkpoint {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Checkpoint> {
        let mut fields = Fields::open(node, "`[checkpoint]`", reader)?;
        let checkpoint = Checkpoint {
            span: node.span,
            interval: fields.maybe("interval", reader),
            mode: fields.maybe("mode", reader),
            timeout: fields.maybe("timeout", reader),
            min_pause: fields.maybe("min_pause", reader),
            tolerable_failures: fields.maybe("tolerable_failures", reader),
            retained: fields.maybe("retained", reader),
            unaligned: fields.maybe("unaligned", reader),
            remote: fields.maybe("remote", reader),
        };
        fields.close(reader);
        Some(checkpoint)
    }
}

words! {
    /// Where state lives.
    Backend("a state backend") {
        /// The tree, on disk beneath memory.
        Lsm = "lsm",
        /// Memory alone.
        Memory = "memory",
    }
}

words! {
    /// What the tree is tuned for.
    Profile("a profile") {
        Balanced = "balanced",
        ReadHeavy = "read_heavy",
        WriteHeavy = "write_heavy",
    }
}

words! {
    /// How tables are compressed.
    Compression("a compression") {
        None = "none",
        Lz4 = "lz4",
        Zstd = "zstd",
    }
}

/// `[state]`.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub backend: Option<Spanned<Backend>>,
    pub memory: Option<Spanned<Size>>,
    pub profile: Option<Spanned<Profile>>,
    pub compression: Option<Spanned<Compression>>,
}

impl Read for State {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<State> {
        let mut fields = Fields::open(node, "`[state]`", reader)?;
        let state = State {
            backend: fields.maybe("backend", reader),
            memory: fields.maybe("memory", reader),
            profile: fields.maybe("profile", reader),
            compression: fields.maybe("compression", reader),
        };
        fields.close(reader);
        Some(state)
    }
}
