//! Sizes in bytes, as the pipeline file writes them.

/// Reads `"512B"`, `"64KiB"`, `"256MiB"`, `"2GB"` as bytes.
///
/// # Errors
/// A text that says what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let hint = "a size is a number with a unit: \"64KiB\", \"256MiB\" or \"2GB\"";
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor: u64 = match unit.trim_start() {
        "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "" => return Err(format!("the unit is missing; {hint}")),
        _ => return Err(hint.into()),
    };
    let number: u64 = number.parse().map_err(|_| hint.to_string())?;
    number.checked_mul(factor).ok_or_else(|| "the size is too large to count in bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("256MiB"), Ok(268_435_456));
        assert_eq!(parse_size("2GB"), Ok(2_000_000_000));
        assert_eq!(parse_size("7B"), Ok(7));
        for wrong in ["", "64", "KiB", "64kib", "-1KB", "1.5GB", "99999999999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
