//! Schemas: `"DECIMAL(18,2) NOT NULL"`, `"BIGINT FROM bid.price"`.

use std::sync::Arc;

use crate::ground::limits::COLUMNS_MAX;
use crate::ground::schema::{Column, DataType, Schema, SchemaRef};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Spanned, nearest, suggest};
use crate::plan::raw::SchemaText;
use crate::plan::raw::text::Text;

/// The schemas of a file by name; `None` for one that is wrong (which has been reported).
pub struct Schemas {
    named: Vec<(String, Option<SchemaRef>)>,
}

impl Schemas {
    /// Reads all declared schemas.
    pub fn new(declared: &[SchemaText], out: &mut Diagnostics) -> Schemas {
        let named = declared
            .iter()
            .map(|declared| (declared.name.value.clone(), schema(declared, out).map(Arc::new)));
        Schemas { named: named.collect() }
    }

    /// The schema that a source names.
    pub fn find(&self, name: &Text, out: &mut Diagnostics) -> Option<SchemaRef> {
        if let Some((_, schema)) = self.named.iter().find(|(known, _)| *known == name.value) {
            return schema.clone();
        }
        let message = format!("there is no schema `{}`", name.value);
        let known = self.named.iter().map(|(known, _)| known.as_str());
        let hint = match self.named.is_empty() {
            true => Some(format!("declare it: [schemas.{}]", name.value)),
            false => suggest(&name.value, known, "declared schemas"),
        };
        out.add(Diagnostic::error(Code::UnknownSchema, name.span, message).maybe_hint(hint));
        None
    }
}

fn schema(declared: &SchemaText, out: &mut Diagnostics) -> Option<Schema> {
    let name = &declared.name;
    if declared.columns.is_empty() || declared.columns.len() > COLUMNS_MAX {
        let message = format!("the schema `{}` must have 1 to {COLUMNS_MAX} columns", name.value);
        out.add(Diagnostic::error(Code::OutOfRange, name.span, message));
        return None;
    }
    // All columns, so that all mistakes are reported.
    let read: Vec<Option<Column>> =
        declared.columns.iter().map(|(name, text)| column(name, text, out)).collect();
    Some(Schema::new(read.into_iter().collect::<Option<_>>()?))
}

fn column(name: &Spanned<String>, text: &Text, out: &mut Diagnostics) -> Option<Column> {
    match parse(&text.value) {
        Ok((data_type, nullable, path)) => {
            Some(Column { name: name.value.clone(), data_type, nullable, path })
        }
        Err(Wrong { bytes, message, hint }) => {
            let wrong = Diagnostic::error(Code::BadType, text.at(bytes), message);
            out.add(wrong.maybe_hint(hint));
            None
        }
    }
}

struct Wrong {
    bytes: std::ops::Range<usize>,
    message: String,
    hint: Option<String>,
}

/// A column's type, whether it may be NULL, and its path.
type Declared = (DataType, bool, Vec<String>);

/// Reads `TYPE [NOT NULL] [FROM path]`.
fn parse(text: &str) -> Result<Declared, Wrong> {
    let (head, path) = match find_word(text, "FROM") {
        Some(at) => (&text[..at], path(text, at + "FROM".len())?),
        None => (text, Vec::new()),
    };
    let (name, nullable) = match find_word(head, "NOT") {
        Some(at) if head[at + 3..].trim().eq_ignore_ascii_case("NULL") => (&head[..at], false),
        Some(at) => {
            let message = "after `NOT` comes `NULL`".to_string();
            return Err(Wrong { bytes: at..head.len(), message, hint: None });
        }
        None => (head, true),
    };
    Ok((data_type(name)?, nullable, path))
}

/// Where a word stands by itself, whatever its case.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let is_edge = |c: Option<char>| c.is_none_or(char::is_whitespace);
    text.char_indices().map(|(at, _)| at).find(|&at| {
        let found = text[at..].get(..word.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(word))
            && is_edge(text[..at].chars().next_back())
            && is_edge(text[at + word.len()..].chars().next())
    })
}

fn path(text: &str, start: usize) -> Result<Vec<String>, Wrong> {
    let path: Vec<String> =
        text[start..].trim().split('.').map(|name| name.trim().to_string()).collect();
    if path.iter().any(|name| name.is_empty() || name.contains(char::is_whitespace)) {
        let message = "after `FROM` comes a path of names, such as `bid.price`".to_string();
        return Err(Wrong { bytes: start..text.len(), message, hint: None });
    }
    Ok(path)
}

const TYPES: [&str; 7] =
    ["BOOLEAN", "BIGINT", "DOUBLE", "DECIMAL(18,2)", "STRING", "BYTES", "TIMESTAMP"];

fn data_type(text: &str) -> Result<DataType, Wrong> {
    let start = text.len() - text.trim_start().len();
    let name = text.trim();
    let bytes = start..start + name.len();
    let upper = name.to_ascii_uppercase();
    if let Some(digits) = upper.strip_prefix("DECIMAL") {
        return decimal(digits.trim()).map_err(|message| Wrong { bytes, message, hint: None });
    }
    Ok(match upper.as_str() {
        "BOOLEAN" => DataType::Boolean,
        "BIGINT" => DataType::BigInt,
        "DOUBLE" => DataType::Double,
        "STRING" => DataType::String,
        "BYTES" => DataType::Bytes,
        "TIMESTAMP" => DataType::Timestamp,
        _ => {
            let base = upper.split('(').next().unwrap_or_default().trim();
            let meant = match base {
                "INT" | "INTEGER" | "LONG" | "SMALLINT" | "TINYINT" | "INT64" => Some("BIGINT"),
                "FLOAT" | "REAL" | "NUMBER" => Some("DOUBLE"),
                "NUMERIC" => Some("DECIMAL(18,2)"),
                "VARCHAR" | "CHAR" | "TEXT" => Some("STRING"),
                "BOOL" => Some("BOOLEAN"),
                "VARBINARY" | "BINARY" => Some("BYTES"),
                "TIMESTAMP_LTZ" | "DATETIME" | "DATE" | "TIMESTAMP" => Some("TIMESTAMP"),
                _ => nearest(base, TYPES),
            };
            let hint = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("types are {}", TYPES.join(", ")),
            };
            let message = match name {
                "" => "the type is missing".to_string(),
                _ => format!("there is no type `{name}`"),
            };
            return Err(Wrong { bytes, message, hint: Some(hint) });
        }
    })
}

/// Reads `(p,s)` behind DECIMAL.
fn decimal(text: &str) -> Result<DataType, String> {
    let wrong = || "a decimal is written `DECIMAL(18,2)`: digits in all, digits behind the point";
    let inside =
        text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).ok_or_else(wrong)?;
    let (precision, scale) = inside.split_once(',').unwrap_or((inside, "0"));
    let read = |text: &str| text.trim().parse::<u8>().map_err(|_| wrong().to_string());
    let (precision, scale) = (read(precision)?, read(scale)?);
    if !(1..=18).contains(&precision) {
        return Err(format!("a DECIMAL has 1 to 18 digits, not {precision}"));
    }
    if scale > precision {
        return Err(format!("a DECIMAL of {precision} digits has no {scale} behind the point"));
    }
    Ok(DataType::Decimal { precision, scale })
}

/// The schema of rejected lines.
pub fn rejected() -> SchemaRef {
    let column = |name| Column::new(name, DataType::String).not_null();
    Arc::new(Schema::new(["raw", "reason", "position"].map(column).to_vec()))
}

/// The place of a column that the file names.
pub fn column_of(schema: &Schema, name: &Text, of: &str, out: &mut Diagnostics) -> Option<usize> {
    let found = schema.index_of(&name.value);
    if found.is_none() {
        let message = format!("{of} has no column `{}`", name.value);
        let names = schema.columns.iter().map(|column| column.name.as_str());
        let hint = suggest(&name.value, names, "its columns");
        out.add(Diagnostic::error(Code::UnknownColumn, name.span, message).maybe_hint(hint));
    }
    found
}

/// A schema with columns behind it, if no name comes twice.
pub fn extended(
    schema: &Schema,
    added: impl IntoIterator<Item = (Column, crate::plan::diagnostic::Span)>,
    out: &mut Diagnostics,
) -> Option<SchemaRef> {
    let mut columns = schema.columns.clone();
    let mut good = true;
    for (column, span) in added {
        if columns.iter().any(|known| known.name == column.name) {
            let message = format!("the row has a column `{}` already", column.name);
            let wrong = Diagnostic::error(Code::DuplicateColumn, span, message);
            out.add(
                wrong.hint("choose another name, or leave the old one out with a `map` before"),
            );
            good = false;
        } else {
            columns.push(column);
        }
    }
    good.then(|| Arc::new(Schema { columns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, String> {
        let shown = |(data_type, nullable, path): Declared| {
            format!("{data_type}{}{}", if nullable { "" } else { " !" }, path.join("/"))
        };
        parse(text).map(shown).map_err(|wrong| text[wrong.bytes].to_string())
    }

    #[test]
    fn types_are_read() {
        for (text, expected) in [
            ("BIGINT", "BIGINT"),
            (" decimal( 18 , 2 ) not null ", "DECIMAL(18,2) !"),
            ("DECIMAL(5)", "DECIMAL(5,0)"),
            ("BIGINT FROM bid.price", "BIGINTbid/price"),
            ("STRING NOT NULL FROM a.b.c", "STRING !a/b/c"),
        ] {
            assert_eq!(check(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_type_is_marked() {
        for (text, marked) in [
            ("INT", "INT"),
            ("DECIMAL(19,2) NOT NULL", "DECIMAL(19,2)"),
            ("DECIMAL(3,4)", "DECIMAL(3,4)"),
            ("DECIMAL", "DECIMAL"),
            ("BIGINT NOT NIL", "NOT NIL"),
            ("BIGINT FROM a..b", " a..b"),
            ("", ""),
            ("ARRAY<BIGINT>", "ARRAY<BIGINT>"),
        ] {
            assert_eq!(check(text), Err(marked.to_string()), "{text}");
        }
    }
}
