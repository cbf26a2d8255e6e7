//! The header line of a CSV file: which column each field of the lines below it is for.
//!
//! 1. A column is found under its own name or, where the schema gives it a path, under that as
//!    `FROM a.b` writes it. Names are compared as they stand, less the blanks around them.
//! 2. Fields that no column wants may be called anything, twice too.
//! 3. A header that cannot give rows of the schema is refused whole: it names none of the columns
//!    (the line is a row, then), or lacks one in which every row would be refused.

use super::{BYTE_ORDER_MARK, Field};
use crate::codec::CodecError;
use crate::ground::schema::{Column, Schema};

/// The place in `schema` of each field below a header line; `None`: no column wants it.
/// `event_time` is the column that must not be NULL for its time's sake.
///
/// # Errors
/// [`CodecError`], one of those that speak of a header.
pub fn fields(
    line: &[u8],
    schema: &Schema,
    event_time: Option<usize>,
) -> Result<Vec<Option<usize>>, CodecError> {
    let names = names(line)?;
    let mut fields = vec![None; names.len()];
    for (at, column) in schema.columns.iter().enumerate() {
        let wanted = wanted(column);
        let mut places = (0..names.len()).filter(|&place| names[place] == wanted);
        let place = places.next();
        if places.next().is_some() {
            return Err(CodecError::HeaderTwice(wanted));
        }
        match place {
            Some(place) if fields[place].is_some() => {
                let why = format!("two columns of the schema read its field `{wanted}`");
                return Err(CodecError::Header(why));
            }
            Some(place) => fields[place] = Some(at),
            None if !column.nullable || event_time == Some(at) => {
                let why = if column.nullable { "is the event time" } else { "is NOT NULL" };
                let column = wanted;
                return Err(CodecError::HeaderLacks { column, why, names: shown(&names) });
            }
            None => {}
        }
    }
    if fields.iter().all(Option::is_none) {
        return Err(CodecError::HeaderStrange(shown(&names)));
    }
    Ok(fields)
}

/// The name that a column's field has in a header (invariant 1).
fn wanted(column: &Column) -> String {
    if column.path.is_empty() { column.name.clone() } else { column.path.join(".") }
}

/// The names in a header line.
fn names(line: &[u8]) -> Result<Vec<String>, CodecError> {
    let wrong = |why: &str| CodecError::Header(why.to_string());
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (mut names, mut scratch) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at <= line.len() {
        let field = Field::read(line, at, &mut scratch).map_err(wrong)?;
        let name = std::str::from_utf8(field.text(line, &scratch));
        let name = name.map_err(|_| wrong("a name is not UTF-8"))?;
        names.push(name.trim().to_string());
        at = field.end + 1;
    }
    Ok(names)
}

/// The first names of a header, for a message.
fn shown(names: &[String]) -> String {
    const NAMES_SHOWN: usize = 20;
    let mut shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
    if names.len() > NAMES_SHOWN {
        shown.push_str(", ...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::schema::DataType;

    fn schema() -> Schema {
        let mut nested = Column::new("price", DataType::BigInt);
        nested.path = vec!["bid".into(), "price".into()];
        Schema::new(vec![
            Column::new("id", DataType::BigInt).not_null(),
            Column::new("name", DataType::String),
            Column::new("ts", DataType::Timestamp),
            nested,
        ])
    }

    #[track_caller]
    fn check(line: &[u8], expected: &[Option<usize>]) {
        assert_eq!(fields(line, &schema(), None).unwrap(), expected);
    }

    #[track_caller]
    fn refuses(line: &[u8], event_time: Option<usize>, words: &[&str]) {
        let error = fields(line, &schema(), event_time).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }

    #[test]
    fn names_stand_in_any_order_among_others() {
        check(b"id,name,ts,bid.price", &[Some(0), Some(1), Some(2), Some(3)]);
        check(b"\xEF\xBB\xBFname, id ,other\r", &[Some(1), Some(0), None]);
        check(b"\"id\",\"a \"\"b\"\", c\",\"name\"", &[Some(0), None, Some(1)]);
        check(b"x,,id,,x", &[None, None, Some(0), None, None]);
        check(b"price,id", &[None, Some(0)]);
    }

    #[test]
    fn a_header_that_gives_no_rows_says_why() {
        refuses(b"name,ts", None, &["`id`", "NOT NULL", "name, ts"]);
        refuses(b"id,name", Some(2), &["`ts`", "the event time", "id, name"]);
        refuses(b"id,id", None, &["`id` twice"]);
        refuses(b"id,\"name", None, &["does not end in its line"]);
        refuses(b"id,\xFF", None, &["UTF-8"]);
        refuses(b"", None, &["`id`"]);
        let nullable = Schema::new(vec![Column::new("a", DataType::BigInt)]);
        let error = fields(b"1,2,3", &nullable, None).unwrap_err().to_string();
        assert!(error.contains("none of the schema's columns (1, 2, 3)"), "{error}");
        let mut both = vec![Column::new("a", DataType::BigInt), Column::new("b", DataType::BigInt)];
        both[1].path = vec!["a".into()];
        let error = fields(b"a", &Schema::new(both), None).unwrap_err().to_string();
        assert!(error.contains("two columns of the schema read its field `a`"), "{error}");
    }
}
