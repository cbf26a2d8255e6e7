//! Which types go together, and what arithmetic on them yields. Flink's rules, with 18 digits as
//! the most a DECIMAL has: a result type that would need more keeps its scale and loses digits on
//! the left, where a value that does not fit is NULL.

use sqlparser::ast as sql;

use crate::ground::decimal::PRECISION_MAX;
use crate::ground::schema::DataType;

/// A DECIMAL of at most 18 digits.
pub(crate) fn decimal(precision: u32, scale: u32) -> DataType {
    let scale = scale.min(u32::from(PRECISION_MAX)) as u8;
    let precision = precision.min(u32::from(PRECISION_MAX)) as u8;
    DataType::Decimal { precision: precision.max(scale).max(1), scale }
}

/// Precision and scale of an exact number; a BIGINT counts as 19 digits.
pub(crate) fn exact(data_type: &DataType) -> Option<(u32, u32)> {
    match data_type {
        DataType::BigInt => Some((19, 0)),
        DataType::Decimal { precision, scale } => Some((u32::from(*precision), u32::from(*scale))),
        _ => None,
    }
}

/// Scale of an exact number.
pub(crate) fn scale(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Decimal { scale, .. } => *scale,
        _ => 0,
    }
}

/// Digits that a DECIMAL result may have.
pub(crate) fn precision(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Decimal { precision, .. } => *precision,
        _ => PRECISION_MAX,
    }
}

/// The type that values of both types can be given, as in CASE, COALESCE and IN.
pub(crate) fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    if a == b {
        return Some(a.clone());
    }
    if !a.is_numeric() || !b.is_numeric() {
        return None;
    }
    match (exact(a), exact(b)) {
        (Some((p, s)), Some((q, t))) => {
            let scale = s.max(t);
            Some(decimal((p - s).max(q - t) + scale, scale))
        }
        _ => Some(DataType::Double),
    }
}

/// The type of SQL's name, `None` if the engine has no such type.
pub(crate) fn named(data_type: &sql::DataType) -> Option<DataType> {
    use sql::DataType as Sql;
    Some(match data_type {
        Sql::Bool | Sql::Boolean => DataType::Boolean,
        Sql::BigInt(_)
        | Sql::Int(_)
        | Sql::Integer(_)
        | Sql::SmallInt(_)
        | Sql::TinyInt(_)
        | Sql::Int64 => DataType::BigInt,
        Sql::Double(_) | Sql::DoublePrecision | Sql::Float(_) | Sql::Real | Sql::Float64 => {
            DataType::Double
        }
        Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => {
            let (precision, scale) = match *info {
                // Flink's default.
                sql::ExactNumberInfo::None => (10, 0),
                sql::ExactNumberInfo::Precision(precision) => (precision, 0),
                sql::ExactNumberInfo::PrecisionAndScale(precision, scale) => {
                    (precision, u64::try_from(scale).ok()?)
                }
            };
            if precision == 0 || precision > u64::from(PRECISION_MAX) || scale > precision {
                return None;
            }
            decimal(precision as u32, scale as u32)
        }
        Sql::String(_)
        | Sql::Varchar(_)
        | Sql::Text
        | Sql::Char(_)
        | Sql::CharVarying(_)
        | Sql::Character(_)
        | Sql::CharacterVarying(_) => DataType::String,
        Sql::Bytes(_) | Sql::Varbinary(_) | Sql::Binary(_) => DataType::Bytes,
        Sql::Timestamp(..) | Sql::TimestampNtz(_) | Sql::Datetime(_) => DataType::Timestamp,
        _ => return None,
    })
}
