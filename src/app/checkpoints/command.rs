//! `cutwater checkpoint`: what there is, what is in it, whether it is whole, and a copy to keep.
//!
//! 1. Nothing here takes the run's lock or changes what a run uses: all of it may be called beside
//!    one.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::files::Damage;
use super::folder::{Folder, Seen, Whole};
use super::manifest::Manifest;
use super::place::Place;
use super::savepoint::{Wish, no_such, savepoint};
use crate::app::arguments::{
    CheckpointCommand, DiagnosticFormat, ListCheckpoints, PlaceArguments, Savepoint,
    ShowCheckpoint, VerifyCheckpoints,
};
use crate::app::load::load;
use crate::app::summary::{bytes, thousands};
use crate::app::{FAILED, OK, WRONG, eprint, print, stderr_is_styled};
use crate::plan::graph::Pipeline;
use crate::port::PortError;

/// So often a run beside may drop what is being looked at.
const TRIES: usize = 10;

/// Why a command ends otherwise than well: its exit code, after what it has said.
type Ended = u8;

/// Runs a command; gives the exit code.
pub fn checkpoint(command: &CheckpointCommand) -> u8 {
    let done = match command {
        CheckpointCommand::List(arguments) => list(arguments),
        CheckpointCommand::Show(arguments) => show(arguments),
        CheckpointCommand::Verify(arguments) => verify(arguments),
        CheckpointCommand::Savepoint(arguments) => save(arguments),
    };
    done.unwrap_or_else(|ended| ended)
}

/// Says what failed; gives the exit code.
pub fn failed(error: PortError) -> Ended {
    eprint(&format!("error: {error}\n"));
    if matches!(error, PortError::Setup(_)) { WRONG } else { FAILED }
}

/// The checkpoints that an argument means: a pipeline file's, or those of a folder.
fn place(arguments: &PlaceArguments) -> Result<Place, Ended> {
    place_and_pipeline(arguments).map(|(place, _)| place)
}

/// The checkpoints that an argument means, and the pipeline if it is a pipeline file.
///
/// # Errors
/// The exit code, after what was wrong has been said.
pub fn place_and_pipeline(arguments: &PlaceArguments) -> Result<(Place, Option<Pipeline>), Ended> {
    let path = &arguments.place;
    if path.is_dir() {
        let found = Place::find(path).or_else(|error| {
            let checkpoints = Folder { path: path.join("checkpoints") };
            // A `data_dir` before its first checkpoint.
            let is_empty = matches!(checkpoints.epochs(), Ok(epochs) if epochs.is_empty());
            let is_new = is_empty && (checkpoints.path.is_dir() || path.join("lock").is_file());
            if is_new { Ok(Place { folder: checkpoints, epoch: None }) } else { Err(failed(error)) }
        });
        return found.map(|place| (place, None));
    }
    let is_manifest = path.extension().is_some_and(|extension| extension == "json");
    if is_manifest || !path.exists() {
        return Place::find(path).map_err(failed).map(|place| (place, None));
    }
    let loaded = load(&arguments.pipeline());
    eprint(&loaded.shown(stderr_is_styled()));
    let pipeline = loaded.pipeline.ok_or(WRONG)?;
    let path = Path::new(&pipeline.engine.data_dir).join("checkpoints");
    Ok((Place { folder: Folder { path }, epoch: None }, Some(pipeline)))
}

/// The epochs that are meant, the newest first; an error if one is named that is not there.
///
/// # Errors
/// The exit code, after what was wrong has been said.
pub fn epochs(place: &Place, named: Option<u64>) -> Result<Vec<u64>, Ended> {
    let there = place.folder.epochs().map_err(failed)?;
    match named.or(place.epoch) {
        None => Ok(there),
        Some(epoch) if there.contains(&epoch) => Ok(vec![epoch]),
        Some(epoch) => Err(failed(no_such(&place.folder, epoch, &there))),
    }
}

/// Looks at the checkpoints that are meant. A run beside may drop all of them between listing and
/// looking; then there are others.
fn look(place: &Place, named: Option<u64>, deep: bool) -> Result<Vec<Seen>, Ended> {
    for _ in 0..TRIES {
        let (mut whole, mut all) = (Whole::default(), Vec::new());
        let epochs = epochs(place, named)?;
        for &epoch in &epochs {
            all.extend(place.folder.look(epoch, deep, &mut whole).map_err(failed)?);
        }
        if !all.is_empty() || epochs.is_empty() {
            return Ok(all);
        }
    }
    Ok(Vec::new())
}

/// Says that there is no checkpoint.
pub fn say_none(folder: &Folder) {
    eprint(&format!("note: there is no checkpoint in `{}`\n", folder.path.display()));
}

/// A checkpoint in a list, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    epoch: u64,
    whole: bool,
    #[serde(flatten)]
    about: Option<About<'a>>,
    damages: &'a [Damage],
}

/// What the manifest says of it.
#[derive(Serialize)]
struct About<'a> {
    pipeline: &'a str,
    time: String,
    made_ms: i64,
    bytes: LineBytes,
    shards: usize,
    sources: std::collections::BTreeMap<&'a str, Option<u64>>,
}

#[derive(Serialize)]
struct LineBytes {
    written: u64,
    full: u64,
}

fn json_line(seen: &Seen) -> String {
    let about = seen.manifest.as_ref().map(|manifest| About {
        pipeline: &manifest.pipeline,
        time: time(manifest.made_ms),
        made_ms: manifest.made_ms,
        bytes: LineBytes { written: manifest.written, full: manifest.full() },
        shards: manifest.shards,
        sources: manifest.sources.iter().map(|at| (at.name.as_str(), at.position)).collect(),
    });
    let whole = seen.damages.is_empty();
    let line = Line { epoch: seen.epoch, whole, about, damages: &seen.damages };
    format!("{}\n", serde_json::to_string(&line).expect("names and numbers are JSON"))
}

fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

fn sources(manifest: &Manifest) -> String {
    let shown = manifest.sources.iter().map(|at| match at.position {
        Some(position) => format!("{}={position}", at.name),
        None => format!("{}=-", at.name),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn list(arguments: &ListCheckpoints) -> Result<u8, Ended> {
    let place = place(&arguments.place)?;
    let all = look(&place, None, !arguments.quick)?;
    if all.is_empty() {
        say_none(&place.folder);
    }
    match arguments.format {
        DiagnosticFormat::Json => all.iter().for_each(|seen| print(&json_line(seen))),
        DiagnosticFormat::Human if all.is_empty() => {}
        DiagnosticFormat::Human => print(&table(&all)),
    }
    Ok(OK)
}

/// A line each.
fn table(all: &[Seen]) -> String {
    let head = ["EPOCH", "TIME", "WRITTEN", "FULL", "SHARDS", "STATE", "SOURCES"];
    let mut rows = vec![head.map(String::from)];
    for seen in all {
        let state = if seen.damages.is_empty() { "whole" } else { "damaged" };
        let of = |show: &dyn Fn(&Manifest) -> String| {
            seen.manifest.as_ref().map_or("?".to_string(), show)
        };
        rows.push([
            seen.epoch.to_string(),
            of(&|manifest| time(manifest.made_ms)),
            of(&|manifest| bytes(manifest.written)),
            of(&|manifest| bytes(manifest.full())),
            of(&|manifest| manifest.shards.to_string()),
            state.to_string(),
            of(&sources),
        ]);
    }
    in_columns(&rows)
}

/// Rows in columns as wide as what stands in them; the last is as it is.
pub fn in_columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N - 1).filter_map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(out, "{cell:<width$}  ");
        }
        out.push_str(&row[N - 1]);
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

fn show(arguments: &ShowCheckpoint) -> Result<u8, Ended> {
    let place = place(&arguments.place)?;
    let Some(epoch) = epochs(&place, arguments.epoch)?.first().copied() else {
        say_none(&place.folder);
        return Ok(FAILED);
    };
    let manifest = place.folder.read_manifest(epoch).map_err(failed)?;
    match arguments.format {
        DiagnosticFormat::Json => {
            let json = serde_json::to_string_pretty(&manifest).expect("it was JSON");
            print(&format!("{json}\n"));
        }
        DiagnosticFormat::Human => print(&shown(&place.folder, &manifest)),
    }
    Ok(OK)
}

fn shown(folder: &Folder, manifest: &Manifest) -> String {
    let mut out = format!(
        "checkpoint  {}\npipeline    {}\nmade        {}\nbytes       {} written, {} in full\n\
         shards      {}\nmanifest    {}\nsources\n",
        manifest.epoch,
        manifest.pipeline,
        time(manifest.made_ms),
        thousands(manifest.written),
        thousands(manifest.full()),
        manifest.shards,
        folder.manifest(manifest.epoch).display(),
    );
    let width = |names: &mut dyn Iterator<Item = &String>| {
        names.map(|name| name.chars().count()).max().unwrap_or(0)
    };
    let wide = width(&mut manifest.sources.iter().map(|at| &at.name));
    for at in &manifest.sources {
        let position = match at.position {
            Some(position) => format!("behind {position} blocks"),
            None => "cannot be read again".to_string(),
        };
        let _ = writeln!(out, "  {:<wide$}  {position}", at.name);
    }
    out.push_str("files\n");
    let wide = width(&mut manifest.files.iter().map(|file| &file.name));
    for file in &manifest.files {
        let sum = match &file.xxh3 {
            Some(sum) => format!("xxh3 {sum}"),
            None => "checksums of its own".to_string(),
        };
        let _ = writeln!(out, "  {:<wide$}  {:>15}  {sum}", file.name, thousands(file.bytes));
    }
    out
}

fn verify(arguments: &VerifyCheckpoints) -> Result<u8, Ended> {
    let place = place(&arguments.place)?;
    let all = look(&place, arguments.epoch, true)?;
    for seen in &all {
        print(&match arguments.format {
            DiagnosticFormat::Json => json_line(seen),
            DiagnosticFormat::Human => verdict(&place.folder, seen),
        });
    }
    if all.is_empty() {
        say_none(&place.folder);
    }
    let is_well = !all.is_empty() && all.iter().all(|seen| seen.damages.is_empty());
    Ok(if is_well { OK } else { FAILED })
}

fn verdict(folder: &Folder, seen: &Seen) -> String {
    let epoch = seen.epoch;
    if let (true, Some(manifest)) = (seen.damages.is_empty(), &seen.manifest) {
        let (files, full) = (manifest.files.len(), bytes(manifest.full()));
        return format!("checkpoint {epoch}: whole, {files} files, {full}\n");
    }
    let mut out = format!("checkpoint {epoch}: damaged\n");
    for damage in &seen.damages {
        let _ = writeln!(out, "  {}: {damage}", folder.files(epoch).display());
    }
    out
}

fn save(arguments: &Savepoint) -> Result<u8, Ended> {
    let place = place(&arguments.place)?;
    let wish = Wish { epoch: arguments.epoch.or(place.epoch), is_linked: arguments.link };
    let mut notes = Vec::new();
    let saved = savepoint(&place.folder, wish, &arguments.dest, &mut notes);
    notes.iter().for_each(|note| eprint(&format!("note: {note}\n")));
    let manifest = saved.map_err(failed)?;
    print(&format!(
        "checkpoint {} of `{}` saved in `{}`: {} files, {}\n",
        manifest.epoch,
        manifest.pipeline,
        arguments.dest.display(),
        manifest.files.len(),
        bytes(manifest.full()),
    ));
    Ok(OK)
}
