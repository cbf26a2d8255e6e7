//! Floor 5: the pipeline file. `raw` reads it as written, `check` finds out what it means and
//! reports everything that is wrong at once, `graph` is the result: a pipeline as data.
//!
//! What is absent: connectors (they come as a [`catalogue::Catalogue`]), files, threads, clocks.

pub mod build;
pub mod catalogue;
mod check;
pub mod code;
pub mod diagnostic;
pub mod graph;
pub mod keyed;
pub mod operators;
pub mod raw;
pub mod render;
pub mod rules;
pub mod tables;
pub mod topology;
pub mod unbuilt;

use catalogue::Catalogue;
use diagnostic::{Diagnostic, Diagnostics, Texts};
use graph::Pipeline;

/// A pipeline file and what is to be known to read it.
pub struct Input<'a> {
    /// Its name, for messages; without folder and ending it is the pipeline's name by default.
    pub path: &'a str,
    pub text: &'a str,
    /// Arguments of `--set`, in order.
    pub overrides: &'a [String],
    pub environment: raw::text::Environment<'a>,
    pub catalogue: &'a Catalogue,
}

/// What became of a pipeline file.
pub struct Outcome {
    /// There exactly if nothing among `found` is an error.
    pub pipeline: Option<Pipeline>,
    /// Errors and warnings in the order of the text.
    pub found: Vec<Diagnostic>,
    /// The texts that they point into.
    pub texts: Texts,
}

/// Reads and checks a pipeline file.
pub fn read(input: &Input<'_>) -> Outcome {
    let (mut texts, mut out) = (Texts::default(), Diagnostics::default());
    texts.add(input.path, input.text);
    for set in input.overrides {
        texts.add("--set", set);
    }
    let overrides = 1..1 + input.overrides.len();
    let file = raw::read(&texts, overrides, input.environment, input.catalogue, &mut out);
    let name = input.path.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".toml").unwrap_or(name);
    let pipeline = file.and_then(|file| check::check(file, name, &mut out));
    // What could not be read has its message already; without errors there is a pipeline.
    let pipeline = pipeline.filter(|_| !out.has_errors());
    Outcome { pipeline, found: out.sorted(), texts }
}

#[cfg(test)]
mod tests;
