//! A world for a seed: which pipeline, how many shards, what memory, what goes wrong; runs that are
//! cut off again and again on one disk, then one that nothing disturbs, and what must be there
//! then.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cutwater::flow::chain::RowBounds;
use cutwater::flow::epochs::Unaligned;
use cutwater::plan::graph::Pipeline;
use cutwater::store::chance::Chance;
use cutwater::store::codec::Codec;
use cutwater::store::disk_sim::{Faults, SimDisk};

use super::folder::{self, PHASES};
use super::life::{Ended, Given, Saw, live};
use super::machine::{Machine, Manners};
use super::pipelines::{Kind, Output};
use super::reached::Reached;
use super::sink;

/// Different inputs of a pipeline.
const INPUTS: usize = 6;
/// When the first run starts.
const START_MS: i64 = 1_700_000_000_000;

/// Output by pipeline and number of the input.
type Known = BTreeMap<(Kind, u64), Output>;

thread_local! {
    static EXPECTED: RefCell<Known> = const { RefCell::new(BTreeMap::new()) };
}

/// What goes wrong beside crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// The disk fails or is full.
    Disk,
    /// A bit of the newest checkpoint is another one.
    Flip,
}

/// See the module's head.
pub struct World<'a> {
    kind: Kind,
    seed: u64,
    chance: Chance,
    pipeline: Pipeline,
    input: u64,
    trouble: Trouble,
    /// Whether keys leave memory.
    is_cold: bool,
    disk: SimDisk,
    now_ms: i64,
    number: usize,
    /// Shards of the next run, if it has to have as many as an earlier one.
    width: Option<usize>,
    /// Numbers of all steps so far: two runs of a seed have the same.
    pub trace: Vec<u64>,
    /// Every run is told on standard output.
    pub is_told: bool,
    reached: &'a mut Reached,
}

impl<'a> World<'a> {
    /// The world of a seed.
    pub fn new(kind: Kind, seed: u64, reached: &'a mut Reached) -> World<'a> {
        let mut chance = Chance::new(seed);
        let input = chance.below(INPUTS) as u64;
        let trouble = match chance.below(8) {
            0 | 1 => Trouble::Disk,
            2 | 3 => Trouble::Flip,
            _ => Trouble::Nothing,
        };
        let is_cold = chance.one_in(2);
        let disk = SimDisk::new(chance.bits(), Faults::default());
        let (pipeline, trace) = (kind.pipeline(), Vec::new());
        let (now_ms, number) = (START_MS, 0);
        World {
            kind,
            seed,
            chance,
            pipeline,
            input,
            trouble,
            is_cold,
            disk,
            now_ms,
            number,
            width: None,
            trace,
            is_told: false,
            reached,
        }
    }

    /// Lives through it and checks what is left.
    pub fn live(&mut self) {
        let disturbed = 1 + self.chance.below(5);
        for _ in 0..disturbed {
            if self.disturbed() == Ended::Done {
                break;
            }
        }
        self.undisturbed();
        self.check();
        if self.chance.one_in(8) {
            // What is done is done: another run adds nothing.
            self.undisturbed();
            self.check();
        }
    }

    fn undisturbed(&mut self) {
        let (ended, saw) = self.run(None, None, Faults::default());
        let ended = if ended == Ended::Done { None } else { Some(ended) };
        assert_eq!(ended, None, "nothing went wrong: {saw:?}");
    }

    /// A run with what the world has against it.
    fn disturbed(&mut self) -> Ended {
        let span = [150, 600, 1500, 4000][self.chance.below(4)];
        let is_cut_off = self.trouble == Trouble::Nothing || self.chance.one_in(2);
        let crash_at = is_cut_off.then(|| self.chance.below(span) as u64);
        // Every other crash is aimed at a step of a checkpoint.
        let phase = PHASES[1 + self.chance.below(PHASES.len() - 1)];
        let within = [1, 6, 60][self.chance.below(3)];
        let aimed = Some((phase, self.chance.below(within) as u64)).filter(|_| is_cut_off);
        let (crash_at, crash_in) =
            if self.chance.one_in(2) { (crash_at, None) } else { (None, aimed) };
        let faults = if self.trouble == Trouble::Disk { self.faults() } else { Faults::default() };
        let is_faulty = format!("{faults:?}") != format!("{:?}", Faults::default());
        let flipped = if self.trouble == Trouble::Flip { self.flip() } else { None };
        let (ended, saw) = self.run(crash_at, crash_in, faults);
        match &ended {
            Ended::Done => {}
            Ended::Off(phase) => self.reached.crashed(phase),
            Ended::Failed(why) => {
                assert!(is_faulty || flipped.is_some(), "nothing was wrong: {why}");
                let named = ["checkpoints", "out/", "state/"].iter().any(|part| why.contains(part));
                assert!(named, "it names no file: {why}");
                self.reached.failed(why);
            }
        }
        if let Some(flip) = &flipped {
            let is_named = saw.notes.iter().any(|note| note.contains(&flip.name));
            self.reached.flipped(is_named, matches!(ended, Ended::Failed(_)));
        }
        let has_failed = matches!(ended, Ended::Failed(_));
        let (seed, is_kill) = (self.chance.bits(), self.chance.one_in(4));
        if ended != Ended::Done {
            self.disk = match is_kill {
                true => self.disk.kill(seed, Faults::default()),
                false => self.disk.crash(seed, Faults::default()),
            };
        }
        // Once an older checkpoint was used, what was seen of the newer one is withdrawn: that one
        // must not come back.
        if let Some(flip) = flipped.filter(|_| saw.notes.is_empty() || has_failed) {
            flip.undo(&self.disk);
        }
        ended
    }

    /// A run; where the checkpoint has rows in flight and it is refused, one on as many shards.
    fn run(
        &mut self,
        crash_at: Option<u64>,
        crash_in: Option<(&'static str, u64)>,
        faults: Faults,
    ) -> (Ended, Saw) {
        let (ended, mut saw) = self.run_once(crash_at, crash_in, faults.clone());
        let Ended::Failed(why) = &ended else { return (ended, saw) };
        if !(saw.in_flight && saw.other_width && why.contains("rows in flight")) {
            return (ended, saw);
        }
        let remedy = format!("`cores = {}` and end it in order (SIGTERM)", saw.width);
        assert!(why.contains(&remedy), "it does not say what to do: {why}");
        self.reached.refused();
        self.disk = self.disk.kill(self.chance.bits(), Faults::default());
        self.width = Some(saw.width);
        let (ended, again) = self.run_once(crash_at, crash_in, faults);
        self.width = None;
        // The first one has put damaged checkpoints out of sight.
        saw.notes.extend(again.notes);
        (ended, Saw { notes: saw.notes, ..again })
    }

    fn run_once(
        &mut self,
        crash_at: Option<u64>,
        crash_in: Option<(&'static str, u64)>,
        faults: Faults,
    ) -> (Ended, Saw) {
        let width = self.width;
        let chance = &mut self.chance;
        let codec = [Codec::None, Codec::Lz4, Codec::Zstd][chance.below(3)];
        let given = Given {
            pipeline: &self.pipeline,
            blocks: match self.disk.below(folder::FOLDER).iter().any(|n| n.ends_with(".json")) {
                true => self.kind.input_later(self.input),
                false => self.kind.input(self.input),
            },
            shards: width.unwrap_or(1 + chance.below(3)),
            batch_rows: [1, 4, 64][chance.below(3)],
            // Once keys have left memory, a run has to be able to take them up again.
            hot_bytes: Some([1 << 10, 6 << 10, 16 << 10, 1 << 30][chance.below(4)])
                .map(|bytes| if self.is_cold { bytes } else { 1 << 30 }),
            codec,
            retained: if self.trouble == Trouble::Flip { 3 } else { 1 + chance.below(3) },
            tolerable_failures: [0, 2, usize::MAX][chance.below(3)],
            // With several checkpoints there is an older one to fall back on.
            pause: if self.trouble == Trouble::Flip {
                20
            } else {
                [8, 40, 300, 1500][chance.below(4)]
            },
            rows: RowBounds {
                epoch_bytes: [1000, 1 << 20][chance.below(2)],
                file_bytes: [1, 500, 4096][chance.below(3)],
                files: [3, 100][chance.below(2)],
                times: 1 + chance.below(3),
                bytes: [(500, 4000), (1 << 20, 1 << 20)][chance.below(2)],
                whole_keys: [0, 0, 20][chance.below(3)],
                slice_keys: [1, 4, 16][chance.below(3)],
                slices: [1, 3][chance.below(2)],
            },
            unaligned: match chance.below(6) {
                0 | 1 => Unaligned::Never,
                2 | 3 => Unaligned::Always,
                _ => Unaligned::AfterMs(chance.below(200) as u64),
            },
            given_up_one_in: None,
            // A look that finds nothing is a block of its own where two sources meet: their rows
            // come in another order then, and rightly so.
            idle_one_in: [None, Some(3), Some(20)][chance.below(3)]
                .filter(|_| self.kind != Kind::Two),
            number: self.number,
            held_at: None,
        };
        let given_up_one_in = chance.one_in(3).then_some(3);
        let given = Given {
            given_up_one_in,
            tolerable_failures: given_up_one_in.map_or(given.tolerable_failures, |_| usize::MAX),
            ..given
        };
        let mut pipeline = self.pipeline.clone();
        pipeline.engine.batch_rows = given.batch_rows;
        let given = Given { pipeline: &pipeline, ..given };
        let manners = Manners {
            seed: chance.bits(),
            crash_at,
            crash_in,
            disk_one_in: [2, 4, 12][chance.below(3)],
            low_one_in: [2, 6, 20][chance.below(3)],
            overtaken_most: [1, 3, 8][chance.below(3)],
            start_ms: self.now_ms,
        };
        if self.is_told {
            let (shards, batch_rows, hot) = (given.shards, given.batch_rows, given.hot_bytes);
            println!("run {}: {shards} shards, {batch_rows} rows, {hot:?} bytes", self.number);
            println!("  {given_up_one_in:?} given up, crash {crash_at:?} {crash_in:?}, {faults:?}");
            println!("  {:?}", given.unaligned);
        }
        self.disk.set_faults(faults);
        let machine = Machine::new(manners, self.disk.clone());
        let (ended, saw) = live(&machine, &given);
        self.disk.set_faults(Faults::default());
        self.now_ms = machine.now_ms() + 1000;
        self.number += 1;
        self.trace.push(saw.trace);
        self.reached.lived(&saw);
        if self.is_told {
            println!("  {ended:?} {saw:?}");
        }
        (ended, saw)
    }

    fn faults(&mut self) -> Faults {
        let none = Faults::default();
        let (chance, counts) = (&mut self.chance, self.disk.counts());
        let at = |so_far: u64, chance: &mut Chance| Some(so_far + chance.below(250) as u64);
        match chance.below(6) {
            0 => none,
            1 => Faults { read_at: at(counts.reads, chance), ..none },
            2 => Faults { write_at: at(counts.writes, chance), ..none },
            3 => Faults { sync_at: at(counts.syncs, chance), ..none },
            4 => Faults { name_at: at(counts.names, chance), ..none },
            _ => {
                let held: usize = self
                    .disk
                    .below("")
                    .iter()
                    .filter_map(|name| self.disk.bytes(name))
                    .map(|b| b.len())
                    .sum();
                Faults { bytes_max: Some((held + chance.below(120_000)) as u64), ..none }
            }
        }
    }

    /// Changes a bit of a file of the newest checkpoint, or of its manifest.
    fn flip(&mut self) -> Option<Flip> {
        let newest = self.disk.below(folder::FOLDER).into_iter().rfind(|n| n.ends_with(".json"))?;
        let inside = format!("{}/", newest.strip_suffix(".json")?);
        let mut names = self.disk.below(&inside);
        names.push(newest);
        let name = names.swap_remove(self.chance.below(names.len()));
        let before = self.disk.bytes(&name).filter(|bytes| !bytes.is_empty())?;
        let mut after = before.clone();
        let at = self.chance.below(after.len());
        after[at] ^= 1 << self.chance.below(8);
        self.disk.change(&name, after.clone());
        Some(Flip { name, before, after })
    }

    fn check(&mut self) {
        let expected = expected(self.kind, self.input);
        let got = output(self.kind, &self.disk);
        if got != expected {
            let shown = difference(&got, &expected);
            panic!("{:?} of seed {} put out another thing:\n{shown}", self.kind, self.seed);
        }
    }
}

/// A bit that was changed.
struct Flip {
    name: String,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Flip {
    /// Changes it back wherever the file is now.
    fn undo(&self, disk: &SimDisk) {
        for name in disk.below("") {
            if disk.bytes(&name).as_ref() == Some(&self.after) {
                disk.change(&name, self.before.clone());
            }
        }
    }
}

/// What all sinks show, sorted.
fn output(kind: Kind, disk: &SimDisk) -> Output {
    let rows = |name: &str| {
        let text = |(path, bytes): (String, Vec<u8>)| {
            let text = String::from_utf8(bytes).unwrap_or_else(|_| panic!("{path} is no text"));
            (sink::epoch_of(&path), text)
        };
        let parts: Vec<(u64, String)> = sink::seen(disk, name).into_iter().map(text).collect();
        let mut rows = kind.rows_of(name, &parts);
        rows.sort();
        rows
    };
    kind.sinks().iter().map(|name| (name.to_string(), rows(name))).collect()
}

/// What a pipeline has to put out: computed once for an input.
fn expected(kind: Kind, input: u64) -> Output {
    let known = EXPECTED.with(|known| known.borrow().get(&(kind, input)).cloned());
    known.unwrap_or_else(|| {
        let expected = calm(kind, input);
        if let Some(plain) = kind.plain(input) {
            let shown = difference(&expected, &plain);
            assert!(expected == plain, "{kind:?} {input}: not even one run is right:\n{shown}");
        }
        assert!(expected.values().all(|rows| !rows.is_empty()), "{kind:?} {input}: no rows");
        EXPECTED.with(|known| known.borrow_mut().insert((kind, input), expected.clone()));
        expected
    })
}

/// One run on one shard that nothing disturbs, with all keys in memory.
fn calm(kind: Kind, input: u64) -> Output {
    let pipeline = kind.pipeline();
    let given = Given {
        pipeline: &pipeline,
        blocks: kind.input(input),
        shards: 1,
        batch_rows: 64,
        hot_bytes: None,
        codec: Codec::None,
        retained: 1,
        rows: RowBounds::default(),
        unaligned: Unaligned::Never,
        tolerable_failures: 0,
        pause: 100_000,
        given_up_one_in: None,
        idle_one_in: None,
        number: 0,
        held_at: None,
    };
    let manners = Manners {
        seed: 0,
        crash_at: None,
        crash_in: None,
        disk_one_in: 2,
        low_one_in: 2,
        overtaken_most: 1,
        start_ms: START_MS,
    };
    let disk = SimDisk::new(0, Faults::default());
    let (ended, _) = live(&Machine::new(manners, disk.clone()), &given);
    assert_eq!(ended, Ended::Done);
    output(kind, &disk)
}

/// The first rows that only one of two has.
fn difference(got: &Output, expected: &Output) -> String {
    let mut shown = String::new();
    for (name, expected) in expected {
        let mut counts: BTreeMap<&String, i64> = BTreeMap::new();
        got[name].iter().for_each(|row| *counts.entry(row).or_default() += 1);
        expected.iter().for_each(|row| *counts.entry(row).or_default() -= 1);
        for (row, count) in counts.iter().filter(|(_, count)| **count != 0).take(12) {
            shown += &format!("  {name}: {count:+} {row}\n");
        }
    }
    shown
}
