//! Rules: patterns in files of their own. Who watches the files reads them here and puts what they
//! come to into the transform's [`RuleBook`]; every shard looks there between two batches.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::check::rule;
use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Texts};
use super::graph::{PatternPlan, RulesPlan};
use super::raw::reader::Reader;
use super::raw::text::{Environment, replace};
use super::raw::{pattern, tree};

/// A rule that was read.
#[derive(Clone)]
pub struct RulePlan {
    pub name: String,
    pub version: i64,
    /// Its file, as it was named.
    pub file: String,
    /// Of the file's text: the rule is another one if that changes.
    pub form: u64,
    pub pattern: PatternPlan,
}

/// The rules in force, for all shards.
#[derive(Default)]
pub struct RuleBook {
    edition: AtomicU64,
    rules: Mutex<Vec<RulePlan>>,
}

impl RuleBook {
    /// Puts other rules in force.
    pub fn publish(&self, rules: Vec<RulePlan>) {
        *self.lock() = rules;
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// The number of the edition in force: another one with each [`RuleBook::publish`].
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// The rules in force.
    pub fn rules(&self) -> Vec<RulePlan> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RulePlan>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the rule in text number `text` of `texts`; its file's name without ending is its own if it
/// has none. What is wrong is added to `out`.
pub fn read(
    of: &RulesPlan,
    texts: &Texts,
    text: usize,
    environment: Environment<'_>,
    out: &mut Diagnostics,
) -> Option<RulePlan> {
    let mut found = Diagnostics::default();
    let rule = read_one(of, texts, text, environment, &mut found);
    let rule = rule.filter(|_| !found.has_errors());
    found.sorted().into_iter().for_each(|one| out.add(one));
    rule
}

fn read_one(
    of: &RulesPlan,
    texts: &Texts,
    text: usize,
    environment: Environment<'_>,
    out: &mut Diagnostics,
) -> Option<RulePlan> {
    let mut root = tree::parse(texts, text, out)?;
    replace(&mut root, environment, out);
    let written = pattern::rule(&root, &mut Reader { texts, out })?;
    let stem = Path::new(texts.name(text)).file_stem().map(|stem| stem.to_string_lossy());
    let name = match &written.name {
        Some(name) => name.value.clone(),
        None => stem.unwrap_or_default().into_owned(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(is_plain) {
        let span = written.name.as_ref().map_or(root.span, |name| name.span);
        let message = format!("`{name}` cannot be the name of a rule");
        let wrong = Diagnostic::error(Code::BadName, span, message);
        out.add(wrong.hint("a name has letters, digits, `_` and `-`: name = \"...\""));
        return None;
    }
    let pattern = rule(of, &name, &written, out)?;
    let form = xxh3_64(texts.text(text).as_bytes());
    let (version, file) = (written.version.value, texts.name(text).to_string());
    Some(RulePlan { name, version, file, form, pattern })
}
