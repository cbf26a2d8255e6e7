//! Rules in files of their own: read with the pipeline, and watched while it runs.
//!
//! A file that cannot be read or is wrong is told on standard error and changes nothing: what it
//! said before stays in force. Looking at the files' times and lengths twice a second costs nothing and
//! works on every file system, where notices of the kernel do not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::eprint;
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Texts, render};
use crate::plan::graph::{Pipeline, RulesPlan, TransformKind};
use crate::plan::rules::{RulePlan, read};

/// How often files are looked at.
const EVERY: Duration = Duration::from_millis(500);

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Transforms with rules, by name.
fn with_rules(pipeline: &Pipeline) -> impl Iterator<Item = (&str, &RulesPlan)> {
    pipeline.transforms.iter().filter_map(|plan| match &plan.kind {
        TransformKind::Rules(rules) => Some((plan.name.as_str(), rules)),
        _ => None,
    })
}

/// Files that a plan names, in order.
fn files(of: &RulesPlan) -> Result<Vec<PathBuf>, String> {
    let found = glob::glob(&of.files).map_err(|error| format!("`{}`: {error}", of.files))?;
    let mut files = found.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    files.sort();
    Ok(files)
}

/// Reads the rules of a pipeline and puts them in force; what is wrong with them. Their texts are
/// added to `texts`.
pub fn read_all(pipeline: &Pipeline, texts: &mut Texts) -> Vec<Diagnostic> {
    let mut out = Diagnostics::default();
    for (name, of) in with_rules(pipeline) {
        let files = match files(of) {
            Ok(files) => files,
            Err(why) => {
                out.add(Diagnostic::error(Code::Unreadable, of.files_at, why));
                continue;
            }
        };
        if files.is_empty() {
            let message = format!("no file is there for the rules of `{name}` yet");
            out.add(Diagnostic::warning(Code::Unreadable, of.files_at, message));
        }
        let mut rules: Vec<RulePlan> = Vec::new();
        for file in files {
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) => {
                    let message = format!("cannot read `{}`: {error}", file.display());
                    out.add(Diagnostic::error(Code::Unreadable, of.files_at, message));
                    continue;
                }
            };
            let text = texts.add(file.display().to_string(), text);
            let Some(rule) = read(of, texts, text, &environment, &mut out) else { continue };
            if rules.iter().any(|known| known.name == rule.name) {
                let message = format!("there are two rules `{}`: {}", rule.name, file.display());
                let wrong = Diagnostic::error(Code::DuplicateName, of.files_at, message);
                out.add(wrong.hint("give one of them another `name`"));
                continue;
            }
            rules.push(rule);
        }
        of.book.publish(rules);
    }
    out.sorted()
}

/// A thread that watches files of rules until it is dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the rules of a pipeline; there is no thread if it has none.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(pipeline: &Pipeline) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut watched: Vec<Watched> =
            with_rules(pipeline).map(|(name, of)| Watched::new(name, of)).collect();
        if watched.is_empty() {
            return Ok(Watch { stop, thread: None });
        }
        let is_over = stop.clone();
        let thread = std::thread::Builder::new().name("rules".into()).spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                watched.iter_mut().for_each(Watched::look);
                std::thread::park_timeout(EVERY);
            }
        })?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What a file looked like and what it said last.
struct Seen {
    stamp: (Option<SystemTime>, u64),
    /// None of one that was never right.
    rule: Option<RulePlan>,
    /// Whether it was told that another file has a rule of this name.
    is_told: bool,
    /// Whether it was not there at the last look: it may be about to be replaced.
    is_missing: bool,
}

/// What tells a rule from others.
fn form(rule: &RulePlan) -> (String, i64, u64) {
    (rule.name.clone(), rule.version, rule.form)
}

/// The files of one transform.
struct Watched {
    name: String,
    of: RulesPlan,
    seen: BTreeMap<PathBuf, Seen>,
    /// What was told of the folder last, so that it is told once.
    told: Option<String>,
    /// Rules that were in force and are not: name, version, form.
    gone: Vec<(String, i64, u64)>,
}

fn stamp(path: &Path) -> (Option<SystemTime>, u64) {
    let about = std::fs::metadata(path);
    about.map_or((None, 0), |about| (about.modified().ok(), about.len()))
}

impl Watched {
    fn new(name: &str, of: &RulesPlan) -> Watched {
        Watched {
            name: name.into(),
            of: of.clone(),
            seen: BTreeMap::new(),
            told: None,
            gone: Vec::new(),
        }
    }

    /// Looks at the files once, and puts in force what they say.
    fn look(&mut self) {
        let files = match files(&self.of) {
            Ok(files) => files,
            Err(why) => {
                if self.told.as_ref() != Some(&why) {
                    eprint(&format!("error: {}: rules stay as they are: {why}\n", self.name));
                    self.told = Some(why);
                }
                return;
            }
        };
        self.told = None;
        let in_force = self.of.book.rules();
        self.seen.retain(|path, seen| {
            let is_there = files.contains(path);
            is_there || !std::mem::replace(&mut seen.is_missing, true)
        });
        for path in &files {
            let now = stamp(path);
            if let Some(seen) = self.seen.get_mut(path) {
                seen.is_missing = false;
                if seen.stamp == now {
                    continue;
                }
            }
            // At the first look it is what was read with the pipeline.
            let known = self.seen.get(path).map_or_else(
                || in_force.iter().find(|rule| Path::new(&rule.file) == path),
                |seen| seen.rule.as_ref(),
            );
            let before = known.cloned();
            let rule = match self.read(path, &in_force) {
                Ok(rule) => Some(rule),
                Err(why) => {
                    let stays = match &before {
                        Some(rule) => format!("version {} stays in force", rule.version),
                        None => "it is not in force".to_string(),
                    };
                    eprint(&format!("{why}error: {}: {}: {stays}\n", self.name, path.display()));
                    before
                }
            };
            self.seen
                .insert(path.clone(), Seen { stamp: now, rule, is_told: false, is_missing: false });
        }
        let mut rules: Vec<RulePlan> = Vec::new();
        for seen in self.seen.values_mut() {
            let Some(rule) = &seen.rule else { continue };
            let Some(known) = rules.iter().find(|known| known.name == rule.name) else {
                seen.is_told = false;
                rules.push(rule.clone());
                continue;
            };
            if !std::mem::replace(&mut seen.is_told, true) {
                let (name, file, other) = (&self.name, &rule.file, &known.file);
                let what = format!("the rule `{}` stands in {other} already", rule.name);
                eprint(&format!("error: {name}: {file}: {what}: it is not in force\n"));
            }
        }
        let forms = |rules: &[RulePlan]| rules.iter().map(form).collect::<Vec<_>>();
        if forms(&rules) != forms(&in_force) {
            let now = forms(&rules);
            self.gone.extend(forms(&in_force).into_iter().filter(|rule| !now.contains(rule)));
            self.of.book.publish(rules.clone());
            // What is said is so by then.
            self.tell(&in_force, &rules);
        }
    }

    /// Reads a file; the error is what to say, ended by a line break.
    fn read(&self, path: &Path, in_force: &[RulePlan]) -> Result<RulePlan, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{error}\n"))?;
        let (mut texts, mut out) = (Texts::default(), Diagnostics::default());
        // The pipeline's own text is number 0 elsewhere.
        let text = texts.add(path.display().to_string(), text);
        let rule = read(&self.of, &texts, text, &environment, &mut out);
        let rule = rule.ok_or_else(|| render(&out.sorted(), &texts, false))?;
        let before = in_force.iter().find(|known| known.name == rule.name);
        let is_same = |known: &&RulePlan| known.version == rule.version && known.form != rule.form;
        if let Some(known) = before.filter(is_same) {
            return Err(format!(
                "the rule `{}` was changed and its version is still {}: give it another one\n",
                rule.name, known.version
            ));
        }
        // What keys know of it may still lie in the store.
        if self.gone.contains(&form(&rule)) {
            return Err(format!(
                "version {} of the rule `{}` was in force before: give it another one\n",
                rule.version, rule.name
            ));
        }
        Ok(rule)
    }

    /// Says what is other now.
    fn tell(&self, before: &[RulePlan], now: &[RulePlan]) {
        let find = |rules: &[RulePlan], name: &str| {
            rules.iter().find(|rule| rule.name == name).map(|rule| rule.version)
        };
        for rule in now {
            let what = match find(before, &rule.name) {
                Some(version) if version == rule.version => continue,
                Some(version) => format!("version {} in place of {version}", rule.version),
                None => format!("version {} added", rule.version),
            };
            eprint(&format!("note: {}: rule `{}`: {what}\n", self.name, rule.name));
        }
        for rule in before.iter().filter(|rule| find(now, &rule.name).is_none()) {
            eprint(&format!("note: {}: rule `{}` removed\n", self.name, rule.name));
        }
    }
}
