//! How mistakes look.

use expect_test::{Expect, expect};

use super::*;
use crate::plan::diagnostic::{Diagnostic, render, tally, to_json};
use crate::plan::render::{dot, mermaid};

const TEXT: &str = r#"
[schemas.s]
user_id = "BIGINT"
ts = "TIMESTAMP"

[sources.t]
type = "file"
path = "t.jsonl"
schema = "s"
event_time = "ts"
watermark = { delai = "5s" }

[sinks.out]
type = "stdout"
inputs = ["risk.lat"]

[transforms.risk]
type = "window"
inputs = ["t"]
key = ["user_id"]
window = { type = "tumbling", size = "1 minute" }
[transforms.risk.select]
n = """
  COUNT(*)
  + COUNT(usr_id)"""
"#;

fn check(text: &str, overrides: &[&str], expected: Expect) {
    let outcome = outcome(text, overrides);
    let shown = render(&outcome.found, &outcome.texts, false);
    expected.assert_eq(&format!("{shown}{}", tally(&outcome.found)));
}

#[test]
fn as_rustc_shows_them() {
    check(
        TEXT,
        &[],
        expect![[r#"
            error[E0201]: unknown key `delai` in a watermark
              --> p.toml:11:15
               |
            11 | watermark = { delai = "5s" }
               |               ^^^^^
               |
               = help: did you mean `delay`?

            error[E0302]: `risk` has no output `lat`
              --> p.toml:15:11
               |
            15 | inputs = ["risk.lat"]
               |           ^^^^^^^^^^
               |
               = help: did you mean `risk.late`?

            error[E0205]: `1 minute` is not a duration such as "5s"
              --> p.toml:21:38
               |
            21 | window = { type = "tumbling", size = "1 minute" }
               |                                      ^^^^^^^^^^
               |
               = help: a duration is a number with a unit: "250ms", "5s", "10m", "1h" or "7d"

            3 errors"#]],
    );
}

#[test]
fn a_place_inside_a_long_string() {
    let text = TEXT.replace("delai", "delay").replace("lat\"", "late\"").replace("1 minute", "1m");
    check(
        &text,
        &[],
        expect![[r#"
            error[E0501]: unknown column `usr_id`
              --> p.toml:25:11
               |
            25 |   + COUNT(usr_id)"""
               |           ^^^^^^
               |
               = help: did you mean `user_id`?

            1 error"#]],
    );
}

#[test]
fn a_mistake_in_an_argument_points_to_the_argument() {
    let text = TEXT.replace("delai", "delay").replace("lat\"", "late\"").replace("1 minute", "1m");
    let text = text.replace("usr_id", "user_id");
    check(
        &text,
        &["transforms.risk.key=['user']"],
        expect![[r#"
            error[E0403]: the input of `risk` has no column `user`
             --> --set:1:22
              |
            1 | transforms.risk.key=['user']
              |                      ^^^^^^
              |
              = help: its columns: `user_id` and `ts`

            1 error"#]],
    );
}

#[test]
fn two_places_of_one_mistake() {
    let text = TEXT.replace("delai", "delay").replace("risk.lat", "t.rejected");
    let text = text.replace("transforms.risk", "transforms.t");
    let outcome = outcome(&text, &[]);
    let is_meant = |found: &&Diagnostic| found.message.starts_with("two components");
    let found: Vec<Diagnostic> = outcome.found.iter().filter(is_meant).cloned().collect();
    let shown = render(&found, &outcome.texts, false);
    expect![[r#"
        error[E0305]: two components have the name `t`
          --> p.toml:17:13
           |
         6 | [sources.t]
           |          - first here
        ...
        17 | [transforms.t]
           |             ^ again here

    "#]]
    .assert_eq(&shown);
}

#[test]
fn as_json_for_editors() {
    let outcome = outcome(TEXT, &[]);
    let json = to_json(&outcome.found, &outcome.texts);
    let first = json.lines().next().unwrap();
    assert_eq!(
        first,
        r#"{"severity":"error","code":"E0201","message":"unknown key `delai` in a watermark","file":"p.toml","line":11,"column":15,"end":{"line":11,"column":20},"hint":"did you mean `delay`?"}"#
    );
    assert_eq!(json.lines().count(), 3);
}

#[test]
fn a_pipeline_is_drawn() {
    let text = r#"
[schemas.s]
a = "BIGINT"
[sources.t]
type = "file"
path = "t"
schema = "s"
[sources.u]
type = "file"
path = "u"
schema = "s"
[transforms.x]
type = "lookup"
inputs = ["t"]
table = "u"
on = { a = "a" }
add = { b = "u.a" }
[sinks.out]
type = "stdout"
inputs = ["x", "t.rejected"]
"#;
    let pipeline = pipeline(text);
    expect![[r#"
        flowchart LR
            n0(["t<br/><i>file</i>"])
            n1(["u<br/><i>file</i>"])
            n2["x<br/><i>lookup</i>"]
            n3[/"out<br/><i>stdout</i>"/]
            n0 --> n2
            n1 -- table --> n2
            n2 --> n3
            n0 -- rejected --> n3
    "#]]
    .assert_eq(&mermaid(&pipeline));
    expect![[r#"
        digraph "p" {
            rankdir=LR;
            n0 [shape=oval, label="t\nfile"];
            n1 [shape=oval, label="u\nfile"];
            n2 [shape=box, label="x\nlookup"];
            n3 [shape=parallelogram, label="out\nstdout"];
            n0 -> n2;
            n1 -> n2 [label="table"];
            n2 -> n3;
            n0 -> n3 [label="rejected"];
        }
    "#]]
    .assert_eq(&dot(&pipeline));
}
