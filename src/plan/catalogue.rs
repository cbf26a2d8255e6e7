//! Which connectors there are and what options they take. `plan` does not know connectors: `app`,
//! which does, gives it this list.

/// The connectors of a build.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    pub sources: &'static [Connector],
    pub sinks: &'static [Connector],
}

/// One connector, as a source or as a sink.
#[derive(Debug)]
pub struct Connector {
    /// Its `type` in the file.
    pub name: &'static str,
    /// Whether this version can run it. If not, its options are not checked either.
    pub built: bool,
    pub options: &'static [OptionInfo],
    /// Formats it speaks, its default first; none if its rows have no text.
    pub formats: &'static [&'static str],
    /// What a sink promises; sources do not use it.
    pub delivery: Delivery,
}

/// An option of a connector.
#[derive(Debug)]
pub struct OptionInfo {
    pub name: &'static str,
    pub kind: OptionKind,
    pub required: bool,
    /// The only format with which it means something.
    pub format: Option<&'static str>,
}

/// What may stand as an option's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionKind {
    Text,
    Boolean,
    /// From the first to the second, both included.
    Integer(i64, i64),
    /// From the first to the second, both included.
    Number(f64, f64),
    /// A duration that is not negative.
    Millis,
    Size,
    /// One of these.
    Word(&'static [&'static str]),
    Texts,
    /// Rows of the source's schema.
    Rows,
}

/// The value of an option, as the connector gets it.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// Of [`OptionKind::Text`] and [`OptionKind::Word`].
    Text(String),
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Millis(i64),
    /// In bytes.
    Size(u64),
    Texts(Vec<String>),
    /// One JSON object a row, checked against the source's schema.
    Rows(Vec<String>),
}

/// What a sink can promise about rows that were put out before a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Rows appear with their epoch, once.
    Transactional,
    /// Rows that come again replace themselves, given `id`.
    ById,
    /// Rows may come again.
    AtLeastOnce,
}

/// An option that may be left out.
pub const fn optional(name: &'static str, kind: OptionKind) -> OptionInfo {
    OptionInfo { name, kind, required: false, format: None }
}

/// An option that must be given.
pub const fn required(name: &'static str, kind: OptionKind) -> OptionInfo {
    OptionInfo { name, kind, required: true, format: None }
}

/// An option of one format, that may be left out.
pub const fn of_format(format: &'static str, name: &'static str, kind: OptionKind) -> OptionInfo {
    OptionInfo { name, kind, required: false, format: Some(format) }
}
