//! The names that an expression may use.

use crate::ground::schema::{DataType, Schema};

/// Names that an expression may use. Entry i is column i of the batch that the program will read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub entries: Vec<Entry>,
}

/// One column in scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The input's name, where the column may be written as `input.name`.
    pub qualifier: Option<String>,
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
}

/// How a name was not found.
pub(crate) enum Missing {
    /// Several entries have it: their written forms.
    Ambiguous(Vec<String>),
    /// No entry has it.
    Unknown,
}

impl Scope {
    /// The columns of a schema, without a qualifier.
    pub fn of(schema: &Schema) -> Scope {
        Scope::with(None, schema)
    }

    /// The columns of a schema, which may be written with `qualifier` or without.
    pub fn qualified(qualifier: &str, schema: &Schema) -> Scope {
        Scope::with(Some(qualifier), schema)
    }

    /// Both scopes' columns, `other`'s behind.
    pub fn join(mut self, other: Scope) -> Scope {
        self.entries.extend(other.entries);
        self
    }

    fn with(qualifier: Option<&str>, schema: &Schema) -> Scope {
        let entry = |column: &crate::ground::schema::Column| Entry {
            qualifier: qualifier.map(str::to_string),
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
        };
        Scope { entries: schema.columns.iter().map(entry).collect() }
    }

    /// The entry of a name. O(entries).
    pub(crate) fn find(&self, qualifier: Option<&str>, name: &str) -> Result<usize, Missing> {
        let is_meant = |entry: &Entry| {
            entry.name == name && qualifier.is_none_or(|q| entry.qualifier.as_deref() == Some(q))
        };
        let mut found = (0..self.entries.len()).filter(|&i| is_meant(&self.entries[i]));
        let Some(first) = found.next() else {
            return Err(Missing::Unknown);
        };
        let others: Vec<usize> = found.collect();
        if others.is_empty() {
            return Ok(first);
        }
        let written = |i: usize| self.entries[i].written();
        Err(Missing::Ambiguous(std::iter::once(first).chain(others).map(written).collect()))
    }
}

impl Entry {
    /// The name with its qualifier.
    pub(crate) fn written(&self) -> String {
        match &self.qualifier {
            Some(qualifier) => format!("{qualifier}.{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The candidate that was probably meant by `name`, if one is near enough.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .map(|candidate| {
            let near = strsim::normalized_damerau_levenshtein(&lower, &candidate.to_lowercase());
            (near, candidate)
        })
        .filter(|(near, _)| *near >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
