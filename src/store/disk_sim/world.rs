//! What the simulated disk holds and how it answers: files, names, what of them is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::task::Waker;

use super::{Counts, Crashed, Faults};
use crate::store::chance::Chance;
use crate::store::disk::{DiskError, DiskFailure, PAGE, Request};

/// What a drive writes whole or not at all, bytes.
const SECTOR: usize = 512;

/// Bytes that start at a multiple of [`PAGE`] in memory.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(super) fn zeroed(len: usize) -> Aligned {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Aligned { bytes, start, len }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Bytes of a file, whatever its names.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Written and not synced: position and bytes.
    pub(super) unsynced: Vec<(usize, Vec<u8>)>,
    pub(super) poisoned: bool,
}

/// A name given to a content, or taken away; a rename is both at once.
#[derive(Clone)]
pub(super) struct NameChange {
    gone: Option<String>,
    come: Option<(String, usize)>,
}

pub(super) enum Operation {
    Create,
    Open,
    Length { content: usize },
    Read { content: usize, at: usize, len: usize },
    Write { content: usize, at: usize, bytes: Vec<u8> },
    Sync { content: usize },
    Rename { to: String },
    Remove,
    List,
    Link { to: String },
    MakeDir,
    SyncDir,
}

pub(super) enum Answer {
    Nothing,
    Content(usize),
    Length(u64),
    Bytes(Aligned),
    Names(Vec<String>),
}

pub(super) struct Asked {
    pub(super) ticket: u64,
    pub(super) name: String,
    pub(super) operation: Operation,
}

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    pub(super) contents: Vec<Content>,
    pub(super) names: BTreeMap<String, usize>,
    pub(super) names_durable: BTreeMap<String, usize>,
    pub(super) names_unsynced: Vec<NameChange>,
    pub(super) folders: BTreeSet<String>,
    pub(super) asked: Vec<Asked>,
    pub(super) answers: BTreeMap<u64, Result<Answer, DiskError>>,
    /// Who waits for an answer.
    pub(super) waiting: BTreeMap<u64, Waker>,
    pub(super) tickets: u64,
}

/// Keeps a write, loses it, or keeps some of its sectors.
pub(super) fn tear(bytes: &mut Vec<u8>, at: usize, written: &[u8], chance: &mut Chance) {
    let fate = chance.below(3);
    for (i, sector) in written.chunks(SECTOR).enumerate() {
        if fate == 0 || fate == 1 && chance.one_in(2) {
            put(bytes, at + i * SECTOR, sector);
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
    let end = at + written.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[at..end].copy_from_slice(written);
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, usize>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((come, content)) = &self.come {
            names.insert(come.clone(), *content);
        }
    }

    fn is_in(&self, folder: &str) -> bool {
        let come = self.come.as_ref().map(|(name, _)| name);
        self.gone.iter().chain(come).any(|name| folder_of(name) == folder)
    }
}

pub(super) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl World {
    pub(super) fn take_in(&mut self, name: &str, operation: Operation) -> u64 {
        self.tickets += 1;
        let asked = Asked { ticket: self.tickets, name: name.to_string(), operation };
        self.asked.push(asked);
        self.counts.in_flight_max = self.counts.in_flight_max.max(self.asked.len());
        self.tickets
    }

    /// Completes a request; gives back whom that wakes.
    pub(super) fn complete_one(&mut self) -> Result<Option<Waker>, Crashed> {
        assert!(!self.asked.is_empty(), "a future waits for nothing: it would wait for ever");
        if self.faults.crash_at == Some(self.counts.completions) {
            return Err(Crashed);
        }
        self.counts.completions += 1;
        let chosen = self.chance.below(self.asked.len());
        let asked = self.asked.swap_remove(chosen);
        let answer = self.answer(asked.name, asked.operation);
        self.answers.insert(asked.ticket, answer);
        Ok(self.waiting.remove(&asked.ticket))
    }

    /// Does what was asked and says what came of it.
    pub(super) fn answer(
        &mut self,
        name: String,
        operation: Operation,
    ) -> Result<Answer, DiskError> {
        let (request, at) = operation.shown();
        let answer = self.perform(&name, operation);
        answer.map_err(|failure| DiskError { failure, request, name, at: at as u64 })
    }

    pub(super) fn perform(
        &mut self,
        name: &str,
        operation: Operation,
    ) -> Result<Answer, DiskFailure> {
        match operation {
            Operation::Length { content } => {
                Ok(Answer::Length(self.healthy(content)?.current.len() as u64))
            }
            Operation::Read { content, at, len } => self.read(content, at, len),
            Operation::Write { content, at, bytes } => self.write(content, at, &bytes),
            Operation::Sync { content } => self.sync(content),
            naming => {
                fail(self.faults.name_at, &mut self.counts.names)?;
                self.perform_naming(name, naming)
            }
        }
    }

    fn perform_naming(&mut self, name: &str, operation: Operation) -> Result<Answer, DiskFailure> {
        let found = self.names.get(name).copied().ok_or(DiskFailure::Missing);
        match operation {
            Operation::Create => {
                self.absent(name)?;
                self.contents.push(Content::default());
                let content = self.contents.len() - 1;
                self.change_names(None, Some((name.to_string(), content)));
                return Ok(Answer::Content(content));
            }
            Operation::Open => return found.map(Answer::Content),
            Operation::Rename { to } => {
                self.change_names(Some(name.to_string()), Some((to, found?)));
            }
            Operation::Remove => {
                found?;
                self.change_names(Some(name.to_string()), None);
            }
            Operation::Link { to } => {
                self.absent(&to)?;
                self.change_names(None, Some((to, found?)));
            }
            Operation::List => {
                let inside = self.names.keys().filter(|inside| folder_of(inside) == name);
                let short = inside.map(|inside| inside[name.len()..].trim_start_matches('/'));
                let names = short.map(str::to_string).collect();
                return self.folder(name).map(|()| Answer::Names(names));
            }
            Operation::MakeDir => {
                self.folders.insert(name.to_string());
            }
            Operation::SyncDir => {
                self.folder(name)?;
                let (synced, left) =
                    self.names_unsynced.drain(..).partition(|change| change.is_in(name));
                self.names_unsynced = left;
                let synced: Vec<NameChange> = synced;
                synced.iter().for_each(|change| change.apply(&mut self.names_durable));
            }
            _ => unreachable!("the others have to do with bytes"),
        }
        Ok(Answer::Nothing)
    }

    fn change_names(&mut self, gone: Option<String>, come: Option<(String, usize)>) {
        let change = NameChange { gone, come };
        change.apply(&mut self.names);
        self.names_unsynced.push(change);
    }

    fn absent(&self, name: &str) -> Result<(), DiskFailure> {
        self.folder(folder_of(name))?;
        if self.names.contains_key(name) { Err(DiskFailure::Exists) } else { Ok(()) }
    }

    fn folder(&self, folder: &str) -> Result<(), DiskFailure> {
        let exists = folder.is_empty() || self.folders.contains(folder);
        if exists { Ok(()) } else { Err(DiskFailure::Missing) }
    }

    fn healthy(&mut self, content: usize) -> Result<&mut Content, DiskFailure> {
        let content = &mut self.contents[content];
        if content.poisoned { Err(DiskFailure::Poisoned) } else { Ok(content) }
    }

    fn read(&mut self, content: usize, at: usize, len: usize) -> Result<Answer, DiskFailure> {
        self.healthy(content)?;
        fail(self.faults.read_at, &mut self.counts.reads)?;
        let current = &self.contents[content].current;
        let end = (at + len).min(current.len());
        let found = current.get(at..end).unwrap_or(&[]);
        let mut bytes = Aligned::zeroed(found.len());
        bytes.copy_from_slice(found);
        Ok(Answer::Bytes(bytes))
    }

    fn write(&mut self, content: usize, at: usize, bytes: &[u8]) -> Result<Answer, DiskFailure> {
        self.healthy(content)?;
        let mut outcome = fail(self.faults.write_at, &mut self.counts.writes);
        let held: usize = self.names.values().map(|&held| self.contents[held].current.len()).sum();
        let grown = (at + bytes.len()).saturating_sub(self.contents[content].current.len());
        if self.faults.bytes_max.is_some_and(|most| (held + grown) as u64 > most) {
            outcome = Err(DiskFailure::Full);
        }
        // A write that failed leaves some whole sectors of itself.
        let kept = match outcome {
            Ok(()) => bytes.len(),
            Err(_) => self.chance.below(bytes.len() / SECTOR + 1) * SECTOR,
        };
        let content = &mut self.contents[content];
        put(&mut content.current, at, &bytes[..kept]);
        content.unsynced.push((at, bytes[..kept].to_vec()));
        outcome.map(|()| Answer::Nothing)
    }

    fn sync(&mut self, content: usize) -> Result<Answer, DiskFailure> {
        self.healthy(content)?;
        let outcome = fail(self.faults.sync_at, &mut self.counts.syncs);
        let content = &mut self.contents[content];
        match outcome {
            Ok(()) => {
                content.unsynced.clear();
                content.durable.clone_from(&content.current);
            }
            Err(_) => content.poisoned = true,
        }
        outcome.map(|()| Answer::Nothing)
    }
}

/// Counts a request; fails if it is the chosen one.
fn fail(chosen: Option<u64>, count: &mut u64) -> Result<(), DiskFailure> {
    *count += 1;
    if chosen == Some(*count - 1) {
        return Err(DiskFailure::Io("input/output error".to_string()));
    }
    Ok(())
}

impl Operation {
    fn shown(&self) -> (Request, usize) {
        match self {
            Operation::Create => (Request::Create, 0),
            Operation::Open => (Request::Open, 0),
            Operation::Length { .. } => (Request::Length, 0),
            Operation::Read { at, .. } => (Request::Read, *at),
            Operation::Write { at, .. } => (Request::Write, *at),
            Operation::Sync { .. } => (Request::Sync, 0),
            Operation::Rename { .. } => (Request::Rename, 0),
            Operation::Remove => (Request::Remove, 0),
            Operation::List => (Request::List, 0),
            Operation::Link { .. } => (Request::Link, 0),
            Operation::MakeDir => (Request::MakeDir, 0),
            Operation::SyncDir => (Request::SyncDir, 0),
        }
    }
}
