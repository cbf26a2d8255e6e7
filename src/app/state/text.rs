//! State as people read it: names and values, a line each, what belongs to a name indented.

use std::fmt::Write;

use crate::state::shown::Shown;

/// A key and what is known of it, as [`super::about`] made it.
pub fn of_key(shown: &Shown) -> String {
    let Shown::Fields(fields) = shown else { return String::new() };
    let mut out = String::new();
    for (i, (name, value)) in fields.iter().enumerate() {
        match (name.as_str(), value) {
            ("key", key) => {
                let _ = writeln!(out, "{}", key_line(key));
            }
            ("state", Shown::Fields(state)) => {
                state.iter().for_each(|(name, value)| put(name, value, 1, &mut out));
            }
            _ => put(name, value, usize::from(i > 0), &mut out),
        }
    }
    out
}

/// A key on a line: `user_id=4711 country=DE`.
pub fn key_line(key: &Shown) -> String {
    let Shown::Fields(columns) = key else { return key.plain_text() };
    let shown = columns.iter().map(|(name, value)| format!("{name}={}", value.plain_text()));
    shown.collect::<Vec<_>>().join(" ")
}

fn put(name: &str, value: &Shown, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    match value {
        Shown::Fields(fields) => {
            let _ = writeln!(out, "{pad}{name}:");
            fields.iter().for_each(|(name, value)| put(name, value, depth + 1, out));
        }
        Shown::List(values) if values.iter().any(is_nested) => {
            let _ = writeln!(out, "{pad}{name}:");
            values.iter().for_each(|value| put_element(value, depth + 1, out));
        }
        Shown::List(values) => {
            let values: Vec<String> = values.iter().map(Shown::plain_text).collect();
            let _ = writeln!(out, "{pad}{name}: {}", values.join(", "));
        }
        plain => {
            let _ = writeln!(out, "{pad}{name}: {}", plain.plain_text());
        }
    }
}

fn is_nested(value: &Shown) -> bool {
    matches!(value, Shown::Fields(_) | Shown::List(_))
}

/// One of a list: what is in it is indented behind a dash.
fn put_element(value: &Shown, depth: usize, out: &mut String) {
    let start = out.len();
    match value {
        Shown::Fields(fields) => {
            fields.iter().for_each(|(name, value)| put(name, value, depth + 1, out));
        }
        other => put("value", other, depth + 1, out),
    }
    let dash = start + 2 * depth;
    if out[start..].starts_with(&"  ".repeat(depth + 1)) {
        out.replace_range(dash..dash + 1, "-");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_indented() {
        let pane = |start, n| {
            Shown::fields([
                ("start", Shown::Time(start)),
                ("select", Shown::fields([("n", Shown::count(n))])),
            ])
        };
        let shown = Shown::fields([
            ("key", Shown::fields([("a", Shown::count(7)), ("b", Shown::Null)])),
            ("component", Shown::Text("risk".into())),
            ("in", Shown::Text("store".into())),
            (
                "state",
                Shown::fields([
                    ("panes", Shown::List(vec![pane(0, 1), pane(1000, 2)])),
                    ("values", Shown::List(vec![Shown::count(1), Shown::count(2)])),
                ]),
            ),
        ]);
        let expected = "\
a=7 b=NULL
  component: risk
  in: store
  panes:
    - start: 1970-01-01T00:00:00.000Z
      select:
        n: 1
    - start: 1970-01-01T00:00:01.000Z
      select:
        n: 2
  values: 1, 2
";
        assert_eq!(of_key(&shown), expected);
    }
}
