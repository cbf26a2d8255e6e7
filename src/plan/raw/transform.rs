//! `[transforms.x]` as written: what all have, and the keys of each type.

use super::pattern::{Pattern, Rules, pattern, rules};
use super::reader::{Fields, Millis, Named, Read, Reader, words};
use super::text::Text;
use super::tree::{Node, Value};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Span, Spanned, suggest};

words! {
    /// The types of transforms.
    TransformType("a type of transform") {
        Filter = "filter",
        Map = "map",
        FlatMap = "flat_map",
        Route = "route",
        Lookup = "lookup",
        Window = "window",
        Aggregate = "aggregate",
        Pattern = "pattern",
        Join = "join",
        Over = "over",
        Dedup = "dedup",
        TopN = "top_n",
        Timeout = "timeout",
        AsyncLookup = "async_lookup",
        Union = "union",
    }
}

/// `[transforms.NAME]`.
#[derive(Clone, Debug)]
pub struct Transform {
    pub name: Spanned<String>,
    pub kind: Option<Spanned<TransformType>>,
    pub inputs: Vec<Text>,
    pub key: Vec<Text>,
    /// `None` if it could not be read.
    pub body: Option<Body>,
}

/// The keys of one type.
#[derive(Clone, Debug)]
pub enum Body {
    Filter { condition: Text },
    Map { select: Named<Text> },
    FlatMap { each: Text, name: Text },
    Route { outputs: Named<Text> },
    Lookup(Lookup),
    Window(Window),
    Aggregate(Aggregate),
    Pattern(Box<Pattern>),
    Rules(Rules),
    Join(Box<Join>),
    Over(Over),
    Dedup { keep: Option<Spanned<Keep>>, ttl: Option<Spanned<Millis>> },
    TopN { n: Spanned<i64>, order_by: Text, window: Option<WindowShape> },
    Timeout { after: Spanned<Millis>, select: Named<Text> },
    AsyncLookup(AsyncLookup),
    Union,
}

words! {
    /// What becomes of a row without a match in the table.
    Unmatched("a way for unmatched rows") {
        Keep = "keep",
        Drop = "drop",
        Route = "route",
    }
}

/// `type = "lookup"`.
#[derive(Clone, Debug)]
pub struct Lookup {
    pub table: Text,
    pub on: Named<Text>,
    pub add: Named<Text>,
    pub unmatched: Option<Spanned<Unmatched>>,
    pub wait_for_table: Option<Spanned<bool>>,
}

/// `window = { ... }`.
#[derive(Clone, Debug)]
pub struct WindowShape {
    pub span: Span,
    pub kind: WindowKind,
}

/// The types of windows.
#[derive(Clone, Debug)]
pub enum WindowKind {
    Tumbling { size: Spanned<Millis>, offset: Option<Spanned<Millis>> },
    Sliding { size: Spanned<Millis>, slide: Spanned<Millis>, offset: Option<Spanned<Millis>> },
    Session { gap: Spanned<Millis> },
    Count { size: Spanned<i64>, slide: Option<Spanned<i64>> },
    Cumulative { size: Spanned<Millis>, step: Spanned<Millis>, offset: Option<Spanned<Millis>> },
}

words! {
    /// The words for the types of windows.
    WindowType("a type of window") {
        Tumbling = "tumbling",
        Sliding = "sliding",
        Session = "session",
        Count = "count",
        Cumulative = "cumulative",
    }
}

impl Read for WindowShape {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<WindowShape> {
        let mut fields = Fields::open(node, "a window", reader)?;
        let kind: Spanned<WindowType> = fields.must("type", reader)?;
        fields = fields.named(format!("a {} window", kind.value.word()));
        let read = match kind.value {
            WindowType::Tumbling => {
                let size = fields.must("size", reader);
                let offset = fields.maybe("offset", reader);
                size.map(|size| WindowKind::Tumbling { size, offset })
            }
            WindowType::Sliding => {
                let size = fields.must("size", reader);
                let slide = fields.must("slide", reader);
                let offset = fields.maybe("offset", reader);
                size.zip(slide).map(|(size, slide)| WindowKind::Sliding { size, slide, offset })
            }
            WindowType::Session => {
                fields.must("gap", reader).map(|gap| WindowKind::Session { gap })
            }
            WindowType::Count => {
                let size = fields.must("size", reader);
                let slide = fields.maybe("slide", reader);
                size.map(|size| WindowKind::Count { size, slide })
            }
            WindowType::Cumulative => {
                let size = fields.must("size", reader);
                let step = fields.must("step", reader);
                let offset = fields.maybe("offset", reader);
                size.zip(step).map(|(size, step)| WindowKind::Cumulative { size, step, offset })
            }
        };
        fields.close(reader);
        Some(WindowShape { span: node.span, kind: read? })
    }
}

/// When a window fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowEmit {
    OnClose,
    /// Also every so often before.
    Early(Millis),
}

impl Read for Spanned<WindowEmit> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let emit = match &node.value {
            Value::Table(_) => {
                let mut fields = Fields::open(node, "`emit`", reader)?;
                let early: Option<Spanned<Millis>> = fields.must("early", reader);
                fields.close(reader);
                WindowEmit::Early(early?.value)
            }
            Value::Text(text) if text.value == "on_close" => WindowEmit::OnClose,
            _ => {
                let message = "a window's `emit` is \"on_close\" or { early = \"10s\" }";
                reader.wrong(Code::UnknownWord, node.span, message);
                return None;
            }
        };
        Some(Spanned::new(emit, node.span))
    }
}

/// `type = "window"`.
#[derive(Clone, Debug)]
pub struct Window {
    pub window: WindowShape,
    pub allowed_lateness: Option<Spanned<Millis>>,
    pub emit: Option<Spanned<WindowEmit>>,
    pub having: Option<Text>,
    pub select: Named<Text>,
}

/// When a running aggregate puts out its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateEmit {
    PerRow,
    /// Every so often, keys that changed.
    Every(Millis),
}

impl Read for Spanned<AggregateEmit> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let emit = match &node.value {
            Value::Text(text) if text.value == "per_row" => AggregateEmit::PerRow,
            _ => AggregateEmit::Every(Spanned::<Millis>::read(node, reader)?.value),
        };
        Some(Spanned::new(emit, node.span))
    }
}

/// `type = "aggregate"`.
#[derive(Clone, Debug)]
pub struct Aggregate {
    pub select: Named<Text>,
    pub having: Option<Text>,
    pub emit: Option<Spanned<AggregateEmit>>,
}

words! {
    /// Which rows a join puts out.
    JoinKind("a kind of join") {
        Inner = "inner",
        Left = "left",
        Right = "right",
        Full = "full",
        Semi = "semi",
        Anti = "anti",
    }
}

words! {
    /// A side of a join.
    Side("a side of a join") {
        Left = "left",
        Right = "right",
    }
}

/// `type = "join"`.
#[derive(Clone, Debug)]
pub struct Join {
    pub span: Span,
    pub on: Named<Text>,
    pub kind: Option<Spanned<JoinKind>>,
    pub within: Option<Bounds>,
    pub window: Option<WindowShape>,
    pub as_of: Option<Spanned<Side>>,
    pub allowed_lateness: Option<Spanned<Millis>>,
    pub select: Option<Named<Text>>,
}

/// `within = { lower, upper }` of an interval join.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub span: Span,
    pub lower: Spanned<Millis>,
    pub upper: Spanned<Millis>,
}

impl Read for Bounds {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Bounds> {
        let mut fields = Fields::open(node, "the bounds of an interval join", reader)?;
        let lower = fields.must("lower", reader);
        let upper = fields.must("upper", reader);
        fields.close(reader);
        Some(Bounds { span: node.span, lower: lower?, upper: upper? })
    }
}

/// `type = "over"`.
#[derive(Clone, Debug)]
pub struct Over {
    pub span: Span,
    pub range: Option<Spanned<Millis>>,
    pub rows: Option<Spanned<i64>>,
    pub delay: Option<Spanned<Millis>>,
    pub include_current: Option<Spanned<bool>>,
    pub add: Named<Text>,
}

words! {
    /// Which of several equal rows stays.
    Keep("a row to keep") {
        First = "first",
        Last = "last",
    }
}

/// `type = "async_lookup"`. Its other keys belong to the connector.
#[derive(Clone, Debug)]
pub struct AsyncLookup {
    pub capacity: Option<Spanned<i64>>,
    pub timeout: Option<Spanned<Millis>>,
    pub ordered: Option<Spanned<bool>>,
}

/// Reads `[transforms.NAME]`.
pub fn transform(
    name: &Spanned<String>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Transform> {
    let mut fields = Fields::open(node, format!("the transform `{}`", name.value), reader)?;
    let kind = kind(&mut fields, reader);
    let inputs = fields.must("inputs", reader).unwrap_or_default();
    let key = fields.maybe("key", reader).unwrap_or_default();
    let mut transform = Transform { name: name.clone(), kind, inputs, key, body: None };
    if let Some(kind) = &transform.kind {
        let what = format!("the {} `{}`", kind.value.word(), name.value);
        fields = fields.named(what);
        let kind = kind.value;
        transform.body = body(kind, &mut fields, reader);
        // What an asynchronous lookup takes beside these depends on where it looks.
        if kind != TransformType::AsyncLookup {
            fields.close(reader);
        }
    }
    Some(transform)
}

fn kind(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Spanned<TransformType>> {
    use super::reader::Word;
    let text = fields.must::<Text>("type", reader)?;
    let found = TransformType::WORDS.iter().find(|(word, _)| *word == text.value);
    if found.is_none() {
        let message = format!("there is no transform of type `{}`", text.value);
        let words = TransformType::WORDS.iter().map(|(word, _)| *word);
        let hint = suggest(&text.value, words, "types");
        reader.out.add(Diagnostic::error(Code::UnknownType, text.span, message).maybe_hint(hint));
    }
    found.map(|(_, kind)| Spanned::new(*kind, text.span))
}

fn body(kind: TransformType, fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Body> {
    match kind {
        TransformType::Filter => {
            fields.must("where", reader).map(|condition| Body::Filter { condition })
        }
        TransformType::Map => fields.must("select", reader).map(|select| Body::Map { select }),
        TransformType::FlatMap => {
            let (each, name) = (fields.must("each", reader), fields.must("as", reader));
            each.zip(name).map(|(each, name)| Body::FlatMap { each, name })
        }
        TransformType::Route => {
            fields.must("outputs", reader).map(|outputs| Body::Route { outputs })
        }
        TransformType::Lookup => lookup(fields, reader),
        TransformType::Window => {
            let window = fields.must("window", reader);
            let allowed_lateness = fields.maybe("allowed_lateness", reader);
            let emit = fields.maybe("emit", reader);
            let having = fields.maybe("having", reader);
            let select = fields.must("select", reader);
            let (window, select) = window.zip(select)?;
            Some(Body::Window(Window { window, allowed_lateness, emit, having, select }))
        }
        TransformType::Aggregate => {
            let select = fields.must("select", reader);
            let having = fields.maybe("having", reader);
            let emit = fields.maybe("emit", reader);
            Some(Body::Aggregate(Aggregate { select: select?, having, emit }))
        }
        TransformType::Pattern if fields.has("rules") => rules(fields, reader).map(Body::Rules),
        TransformType::Pattern => pattern(fields, reader).map(|found| Body::Pattern(found.into())),
        TransformType::Join => join(fields, reader),
        TransformType::Over => {
            let range = fields.maybe("range", reader);
            let rows = fields.maybe("rows", reader);
            let delay = fields.maybe("delay", reader);
            let include_current = fields.maybe("include_current", reader);
            let add = fields.must("add", reader);
            let span = fields.span;
            Some(Body::Over(Over { span, range, rows, delay, include_current, add: add? }))
        }
        TransformType::Dedup => {
            let (keep, ttl) = (fields.maybe("keep", reader), fields.maybe("ttl", reader));
            Some(Body::Dedup { keep, ttl })
        }
        TransformType::TopN => {
            let (n, order_by) = (fields.must("n", reader), fields.must("order_by", reader));
            let window = fields.maybe("window", reader);
            Some(Body::TopN { n: n?, order_by: order_by?, window })
        }
        TransformType::Timeout => {
            let (after, select) = (fields.must("after", reader), fields.must("select", reader));
            Some(Body::Timeout { after: after?, select: select? })
        }
        TransformType::AsyncLookup => Some(Body::AsyncLookup(AsyncLookup {
            capacity: fields.maybe("capacity", reader),
            timeout: fields.maybe("timeout", reader),
            ordered: fields.maybe("ordered", reader),
        })),
        TransformType::Union => Some(Body::Union),
    }
}

fn lookup(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Body> {
    let table = fields.must("table", reader);
    let on = fields.must("on", reader);
    let add = fields.must("add", reader);
    let unmatched = fields.maybe("unmatched", reader);
    let wait_for_table = fields.maybe("wait_for_table", reader);
    Some(Body::Lookup(Lookup { table: table?, on: on?, add: add?, unmatched, wait_for_table }))
}

fn join(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> Option<Body> {
    let on = fields.must("on", reader);
    let kind = fields.maybe("kind", reader);
    let within = fields.maybe("within", reader);
    let window = fields.maybe("window", reader);
    let as_of = fields.maybe("as_of", reader);
    let ways = ["within", "window", "as_of"].into_iter().filter(|way| fields.has(way)).count();
    if ways != 1 {
        let message = format!("{} needs one of `within`, `window` and `as_of`", fields.what());
        reader.wrong(Code::Conflict, fields.span, message);
    }
    let allowed_lateness = fields.maybe("allowed_lateness", reader);
    let select = fields.maybe("select", reader);
    let span = fields.span;
    let (on, ways) = (on?, (ways == 1).then_some(()));
    ways?;
    let join = Join { span, on, kind, within, window, as_of, allowed_lateness, select };
    Some(Body::Join(Box::new(join)))
}
