//! From a path to a checked pipeline, with everything that is to be said about the file.

use super::arguments::PipelineArguments;
use super::catalogue::CATALOGUE;
use super::rules;
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Severity, Span, Texts, render, tally, to_json};
use crate::plan::graph::Pipeline;
use crate::plan::unbuilt::unbuilt;
use crate::plan::{Input, Outcome, read};

/// A pipeline file that was read, or why it could not be.
pub struct Loaded {
    /// The file as it was named.
    pub path: String,
    pub pipeline: Option<Pipeline>,
    found: Vec<Diagnostic>,
    texts: Texts,
}

/// Reads and checks a pipeline file with the process's environment.
pub fn load(arguments: &PipelineArguments) -> Loaded {
    let path = arguments.file.display().to_string();
    let text = match std::fs::read(&arguments.file) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            format!("`{path}` is not UTF-8 text (at byte {at})")
        }),
        Err(error) => Err(format!("cannot read `{path}`: {error}")),
    };
    let text = match text {
        Ok(text) => text,
        Err(message) => {
            let mut texts = Texts::default();
            texts.add(&path, "");
            let found = vec![Diagnostic::error(Code::Unreadable, Span::FILE, message)];
            return Loaded { path, pipeline: None, found, texts };
        }
    };
    let outcome = read(&Input {
        path: &path,
        text: &text,
        overrides: &arguments.set,
        environment: &|name| std::env::var(name).ok(),
        catalogue: &CATALOGUE,
    });
    let Outcome { mut pipeline, mut found, mut texts } = outcome;
    if let Some(read) = &pipeline {
        let wrong = rules::read_all(read, &mut texts);
        if wrong.iter().any(|found| found.severity == Severity::Error) {
            pipeline = None;
        }
        found.extend(wrong);
    }
    Loaded { path, pipeline, found, texts }
}

impl Loaded {
    /// Everything found, for people; empty if nothing was.
    pub fn shown(&self, styled: bool) -> String {
        self.show(&self.found, styled)
    }

    /// As [`Loaded::shown`], with what cannot be run yet as warnings.
    pub fn shown_with_unbuilt(&self, styled: bool) -> String {
        self.show(&self.with_unbuilt(), styled)
    }

    /// Everything found and what cannot be run yet, one JSON object a line.
    pub fn json_with_unbuilt(&self) -> String {
        to_json(&self.with_unbuilt(), &self.texts)
    }

    /// What keeps a valid pipeline from being run, for people; empty if nothing does.
    pub fn unbuilt(&self, styled: bool) -> String {
        let found = self.pipeline.as_ref().map(|pipeline| unbuilt(pipeline, &CATALOGUE));
        self.show(&found.unwrap_or_default(), styled)
    }

    fn with_unbuilt(&self) -> Vec<Diagnostic> {
        let mut all = self.found.clone();
        if let Some(pipeline) = &self.pipeline {
            let warning = |found| Diagnostic { severity: Severity::Warning, ..found };
            all.extend(unbuilt(pipeline, &CATALOGUE).into_iter().map(warning));
        }
        all
    }

    fn show(&self, found: &[Diagnostic], styled: bool) -> String {
        if found.is_empty() {
            return String::new();
        }
        let shown = render(found, &self.texts, styled);
        format!("{shown}{}: {}\n", self.path, tally(found))
    }
}
