//! How a value names a sub-folder: as its own text wherever that is a good name.
//!
//! 1. Different texts have different names (very long ones: unless 64 bits of hash agree).
//! 2. A name is one part of a path, is not hidden, and has at most [`FOLDER_NAME_BYTES_MAX`] bytes.
//! 3. NULL and the empty text have one name, [`NULL_FOLDER`], and no other text has it.

use xxhash_rust::xxh3::xxh3_64;

use crate::ground::limits::FOLDER_NAME_BYTES_MAX;

/// The folder of rows without a value.
pub const NULL_FOLDER: &str = "__null__";

/// Behind this stands the hash of a text that was cut. Nothing else follows a `%` so: a `%` of a
/// text is written as `%25`.
const CUT: &str = "%-";
const CUT_BYTES: usize = CUT.len() + 16;

/// The name of the folder for a value; `text` is empty for NULL.
pub fn folder_name(text: &str) -> String {
    if text.is_empty() {
        return NULL_FOLDER.to_string();
    }
    let mut name = String::with_capacity(text.len());
    let mut cut_at = 0;
    for (at, letter) in text.char_indices() {
        if name.len() + CUT_BYTES <= FOLDER_NAME_BYTES_MAX {
            cut_at = name.len();
        }
        // With these a name would be hidden.
        let hides = at == 0 && matches!(letter, '.' | '_');
        if hides || !is_safe(letter) {
            name.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            name.push(letter);
        }
        if name.len() > FOLDER_NAME_BYTES_MAX {
            name.truncate(cut_at);
            name.push_str(&format!("{CUT}{:016x}", xxh3_64(text.as_bytes())));
            break;
        }
    }
    name
}

/// Whether a letter may stand in a file's name on any system that the parts may be copied to, and
/// is no wildcard.
fn is_safe(letter: char) -> bool {
    !letter.is_ascii_control()
        && !matches!(letter, '"' | '%' | '*' | '/' | ':' | '<' | '>' | '?' | '[' | '\\' | ']' | '|')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_names_are_themselves_and_others_are_written_in_percent() {
        for (text, name) in [
            ("CH", "CH"),
            ("New York", "New York"),
            ("Zürich", "Zürich"),
            ("-12.50", "-12.50"),
            ("", "__null__"),
            ("__null__", "%5F_null__"),
            (".", "%2E"),
            ("..", "%2E."),
            ("../../etc", "%2E.%2F..%2Fetc"),
            ("a/b\\c", "a%2Fb%5Cc"),
            ("100%", "100%25"),
            ("a\nb\0", "a%0Ab%00"),
            ("12:30", "12%3A30"),
            (".hidden", "%2Ehidden"),
        ] {
            assert_eq!(folder_name(text), name, "{text:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_and_stay_apart() {
        let at_limit = "x".repeat(FOLDER_NAME_BYTES_MAX);
        assert_eq!(folder_name(&at_limit), at_limit);
        let long = [at_limit.clone() + "a", at_limit + "b"];
        let names = long.clone().map(|text| folder_name(&text));
        assert_ne!(names[0], names[1]);
        for name in names {
            assert_eq!(name.len(), FOLDER_NAME_BYTES_MAX);
            let (start, hash) = name.split_once(CUT).unwrap();
            assert!(long[0].starts_with(start) && hash.len() == 16, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_visible_part_of_a_path(
            text in "([a/.%_\\\\é]{0,8}|\\PC{0,300})", other in "[a/.%_25EFn]{0,8}"
        ) {
            let name = folder_name(&text);
            prop_assert!(name.len() <= FOLDER_NAME_BYTES_MAX && !name.is_empty());
            prop_assert!(!name.contains(['/', '\0']) && !name.starts_with('.'));
            prop_assert_eq!(name.starts_with('_'), name == NULL_FOLDER);
            prop_assert_eq!(name == NULL_FOLDER, text.is_empty());
            prop_assert_eq!(folder_name(&other) == name, other == text);
        }
    }
}
