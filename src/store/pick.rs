//! Which tables to merge next: pure functions of what a tree consists of.
//!
//! *Levelled* (reads are cheap): flushed runs are merged into level 1; each level is one run, ten
//! times the one above, and what is too much of it is merged into the next one, table by table.
//! The level that is furthest past its bound comes first.
//! *Universal* (writes are cheap): runs lie by age; neighbours of similar size are merged, all of
//! them when the newer ones outweigh the oldest.
//! *Gathering* (both, beside either, while more is flushed than is merged): a few of the newest
//! runs become one that is still a flushed one. It moves few bytes, so that writers need not wait
//! for a merge of gigabytes.
//!
//! 1. Inputs are neighbours in age: of all tables that hold one of their keys, none that is not
//!    an input lies between two inputs.
//! 2. A job is at the bottom if no older table holds one of its keys: only then a deletion may go.
//! 3. Applying jobs until there is none ends.
//! 4. No job has a table of another that is under way, nor tables on both sides of one.

use std::rc::Rc;

use super::manifest::Run;
use super::table::TableMeta;

/// Deepest level; it may grow without bound.
const LEVEL_MAX: u32 = 7;
/// So many times the bytes of level 1 a gathering may have.
const GATHERED_TIMES: u64 = 8;

/// When what is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Levelled {
        /// Flushed runs that are merged into level 1.
        runs: usize,
        /// Bytes of level 1.
        base_bytes: u64,
        /// Times a level may be as large as the one above.
        ratio: u64,
    },
    Universal {
        /// Runs from which on some are merged; 2 at least.
        runs: usize,
        /// A run joins newer ones if it is at most so much larger than they are together, percent.
        larger_percent: u64,
        /// All runs are merged if the newer ones have so much of the oldest one's bytes, percent.
        space_percent: u64,
    },
}

/// Tables to be merged into one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Numbers of tables by run, newest first; a run may give none.
    pub inputs: Vec<Vec<u64>>,
    /// Where they go.
    pub level: u32,
    /// Whether what is deleted or expired may go (invariant 2).
    pub is_bottom: bool,
}

/// The next job, if there is one to do beside the gathering that is under way.
pub fn pick(runs: &[Run], policy: &Policy, gathered: Option<&Job>) -> Option<Job> {
    match *policy {
        Policy::Levelled { runs: most, base_bytes, ratio } => {
            let behind =
                |of: &Job| runs.iter().rposition(|run| of.has_of(run)).map_or(0, |i| i + 1);
            pick_levelled(runs, gathered.map_or(0, behind), most, base_bytes, ratio)
        }
        Policy::Universal { .. } if gathered.is_some() => None,
        Policy::Universal { runs: most, larger_percent, space_percent } => {
            pick_universal(runs, most.max(2), larger_percent, space_percent)
        }
    }
}

/// Flushed runs to be gathered beside the job that is under way: the newest neighbours none of
/// which has much more than those before it together.
pub fn pick_gathering(runs: &[Run], policy: &Policy, merged: Option<&Job>) -> Option<Job> {
    let (least, bytes_max) = match *policy {
        Policy::Levelled { runs, base_bytes, .. } => {
            (runs.max(2), base_bytes.saturating_mul(GATHERED_TIMES))
        }
        // Its own jobs are gatherings too, where none of them is under way.
        Policy::Universal { .. } if merged.is_none() => return None,
        Policy::Universal { runs: most, .. } => {
            let least = most.div_ceil(2).max(2);
            let largest = runs.iter().take(least).map(Run::bytes).max().unwrap_or(0);
            (least, largest.saturating_mul(2 * least as u64).saturating_mul(2))
        }
    };
    let flushed = runs.iter().take_while(|run| run.level == 0).count();
    if flushed < 2 * least {
        return None;
    }
    let newer = merged.and_then(|of| runs[..flushed].iter().position(|run| of.has_of(run)));
    let newer = &runs[..newer.unwrap_or(flushed)];
    for (first, run) in newer.iter().enumerate() {
        let (mut end, mut bytes) = (first + 1, run.bytes());
        while let Some(next) = newer.get(end).filter(|_| end - first < 2 * least) {
            if next.bytes() > bytes + bytes / 4 || bytes + next.bytes() > bytes_max {
                break;
            }
            bytes += next.bytes();
            end += 1;
        }
        if end - first >= least {
            let inputs = newer[first..end].iter().map(|run| run.tables.clone()).collect();
            return Some(job(runs, inputs, 0));
        }
    }
    None
}

/// The job that merges everything into one run.
pub fn pick_all(runs: &[Run], policy: &Policy) -> Option<Job> {
    let level = match policy {
        Policy::Levelled { .. } => runs.last()?.level.max(1),
        Policy::Universal { .. } => 0,
    };
    Some(job(runs, runs.iter().map(|run| run.tables.clone()).collect(), level))
}

impl Job {
    /// Whether a run has inputs of it.
    fn has_of(&self, run: &Run) -> bool {
        run.tables.iter().any(|table| self.inputs.iter().flatten().any(|&id| id == table.id))
    }
}

/// The runs after a job that made these tables.
pub fn replace(runs: &[Run], job: &Job, made: Vec<Rc<TableMeta>>) -> Vec<Run> {
    let is_input = |table: &Rc<TableMeta>| job.inputs.iter().flatten().any(|&id| id == table.id);
    let mut left: Vec<Run> = runs.to_vec();
    let last = runs.iter().rposition(|run| run.tables.iter().any(is_input));
    left.iter_mut().for_each(|run| run.tables.retain(|table| !is_input(table)));
    let same = left.iter().position(|run| job.level > 0 && run.level == job.level);
    match same {
        Some(same) => {
            left[same].tables.extend(made);
            left[same].tables.sort_by(|a, b| a.first.cmp(&b.first));
        }
        None => {
            let at = last.map_or(0, |last| last + 1);
            left.insert(at, Run { level: job.level, tables: made });
        }
    }
    left.retain(|run| !run.tables.is_empty());
    left
}

/// Of flushed runs only those from place `from` on are taken.
fn pick_levelled(
    runs: &[Run],
    from: usize,
    most: usize,
    base_bytes: u64,
    ratio: u64,
) -> Option<Job> {
    let flushed = runs.iter().take_while(|run| run.level == 0).count();
    let (most, base_bytes) = (most.max(1), base_bytes.max(1));
    let permille = |bytes: u64, limit: u64| bytes.saturating_mul(1000) / limit.max(1);
    let mut worst: Option<(u64, usize)> = None;
    if flushed - from >= most {
        let bytes: u64 = runs[from..flushed].iter().map(Run::bytes).sum();
        let by_count = permille((flushed - from) as u64, most as u64);
        worst = Some((by_count.max(permille(bytes, base_bytes)), 0));
    }
    for (i, run) in runs.iter().enumerate().skip(flushed) {
        let limit = base_bytes.saturating_mul(ratio.saturating_pow(run.level - 1));
        let score = permille(run.bytes(), limit);
        let is_over = run.bytes() > limit && run.level < LEVEL_MAX;
        if is_over && worst.is_none_or(|(worst, _)| score > worst) {
            worst = Some((score, i));
        }
    }
    match worst?.1 {
        at if at >= flushed => push_down(runs, at),
        _ => {
            let flushed_runs = runs[from..flushed].iter();
            let mut inputs: Vec<_> = flushed_runs.map(|run| run.tables.clone()).collect();
            let into = runs.get(flushed).filter(|run| run.level == 1);
            inputs.push(into.map_or(Vec::new(), |into| overlapping(into, &inputs.concat())));
            Some(job(runs, inputs, 1))
        }
    }
}

/// Merges a table of a level into the next one.
fn push_down(runs: &[Run], at: usize) -> Option<Job> {
    let run = &runs[at];
    let below = runs.get(at + 1).filter(|below| below.level == run.level + 1);
    let into = |table: &Rc<TableMeta>| {
        below.map_or(Vec::new(), |below| overlapping(below, std::slice::from_ref(table)))
    };
    let cost = |table: &Rc<TableMeta>| -> u64 {
        let bytes: u64 = into(table).iter().map(|table| table.bytes).sum();
        bytes * 1000 / table.bytes.max(1)
    };
    let chosen = run.tables.iter().min_by_key(|table| cost(table))?.clone();
    let into = into(&chosen);
    Some(job(runs, vec![vec![chosen], into], run.level + 1))
}

fn pick_universal(runs: &[Run], most: usize, larger: u64, space: u64) -> Option<Job> {
    if runs.len() < most {
        return None;
    }
    let (oldest, newer) = runs.split_last()?;
    let newer: u64 = newer.iter().map(Run::bytes).sum();
    let (mut count, mut bytes) = (1, runs[0].bytes());
    while count < runs.len() && runs[count].bytes() * 100 <= bytes * (100 + larger) {
        bytes += runs[count].bytes();
        count += 1;
    }
    if newer * 100 > oldest.bytes() * space {
        count = runs.len();
    } else if count < 2 {
        count = runs.len() - most + 2;
    }
    let inputs = runs[..count].iter().map(|run| run.tables.clone()).collect();
    Some(job(runs, inputs, 0))
}

/// Tables of a run that may hold a key of the others' range.
fn overlapping(run: &Run, others: &[Rc<TableMeta>]) -> Vec<Rc<TableMeta>> {
    let (Some(first), Some(last)) = range(others) else { return Vec::new() };
    run.tables.iter().filter(|table| table.overlaps(first, last)).cloned().collect()
}

fn range(tables: &[Rc<TableMeta>]) -> (Option<&[u8]>, Option<&[u8]>) {
    let first = tables.iter().map(|table| table.first.as_slice()).min();
    (first, tables.iter().map(|table| table.last.as_slice()).max())
}

fn job(runs: &[Run], inputs: Vec<Vec<Rc<TableMeta>>>, level: u32) -> Job {
    let all = inputs.concat();
    let is_input = |table: &Rc<TableMeta>| all.iter().any(|input| input.id == table.id);
    let last = runs.iter().rposition(|run| run.tables.iter().any(is_input));
    let older = &runs[last.map_or(0, |last| last + 1)..];
    let is_bottom = older.iter().all(|run| overlapping(run, &all).is_empty());
    let ids = |tables: &Vec<Rc<TableMeta>>| tables.iter().map(|table| table.id).collect();
    Job { inputs: inputs.iter().map(ids).collect(), level, is_bottom }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::chance::Chance;

    const LEVELLED: Policy = Policy::Levelled { runs: 4, base_bytes: 400, ratio: 4 };
    const UNIVERSAL: Policy = Policy::Universal { runs: 6, larger_percent: 1, space_percent: 200 };

    fn table(id: u64, first: u8, last: u8, bytes: u64) -> Rc<TableMeta> {
        let (first, last) = (vec![first], vec![last]);
        let (entries, tombstones, seq_max, expiry_ms_min) = (1, 0, id, u64::MAX);
        Rc::new(TableMeta { id, bytes, entries, tombstones, seq_max, expiry_ms_min, first, last })
    }

    /// What merging would make: tables of at most 100 bytes over the inputs' range.
    fn merged_tables(runs: &[Run], job: &Job, id: &mut u64) -> Vec<Rc<TableMeta>> {
        let all = runs.iter().flat_map(|run| &run.tables);
        let inputs: Vec<_> = all.filter(|t| job.inputs.concat().contains(&t.id)).cloned().collect();
        let bytes: u64 = inputs.iter().map(|table| table.bytes).sum();
        let (Some(first), Some(last)) = range(&inputs) else { panic!("a job has inputs") };
        let (first, last) = (u64::from(first[0]), u64::from(last[0]));
        let count = bytes.div_ceil(100).min((last - first) / 2 + 1);
        let width = (last - first + 1) / count;
        (0..count)
            .map(|i| {
                *id += 1;
                let start = first + i * width;
                let end = if i + 1 == count { last } else { start + width - 1 };
                table(*id, start as u8, end as u8, bytes / count)
            })
            .collect()
    }

    fn check_runs(runs: &[Run]) {
        for run in runs {
            assert!(!run.tables.is_empty());
            for pair in run.tables.windows(2) {
                assert!(pair[0].last < pair[1].first, "tables of a run overlap");
            }
        }
        for pair in runs.windows(2) {
            assert!(pair[0].level < pair[1].level || pair[1].level == 0, "levels are in order");
        }
    }

    fn check_policy(policy: &Policy, runs_max: usize) {
        for seed in 0..30 {
            let (mut chance, mut runs, mut id) = (Chance::new(seed), Vec::new(), 0);
            let mut bottoms = 0;
            for _ in 0..60 {
                id += 1;
                let first = chance.below(200) as u8;
                let last = first + chance.below(255 - first as usize) as u8;
                let flushed = table(id, first, last, 50 + chance.below(50) as u64);
                runs.insert(0, Run { level: 0, tables: vec![flushed] });
                for step in 0.. {
                    assert!(step < 1000, "pick invariant 3");
                    let Some(job) = pick(&runs, policy, None) else { break };
                    let bytes: u64 = runs.iter().map(Run::bytes).sum();
                    bottoms += usize::from(job.is_bottom);
                    let made = merged_tables(&runs, &job, &mut id);
                    runs = replace(&runs, &job, made);
                    check_runs(&runs);
                    let left: u64 = runs.iter().map(Run::bytes).sum();
                    assert!(left <= bytes && left + 100 > bytes, "nothing is lost");
                }
                assert!(runs.len() <= runs_max, "{} runs", runs.len());
            }
            assert!(bottoms > 0);
        }
    }

    /// Merges that take their time: jobs are picked beside one another and end in any order, while
    /// more is flushed.
    fn check_beside(policy: &Policy) -> usize {
        let mut both = 0;
        for seed in 0..60 {
            let (mut chance, mut runs, mut id) = (Chance::new(seed), Vec::new(), 0);
            let (mut merged, mut gathered): (Option<Job>, Option<Job>) = (None, None);
            for _ in 0..300 {
                if chance.one_in(2) {
                    id += 1;
                    let first = chance.below(100) as u8;
                    let last = first + 50 + chance.below(100) as u8;
                    let flushed = table(id, first, last, 50 + chance.below(50) as u64);
                    runs.insert(0, Run { level: 0, tables: vec![flushed] });
                }
                if gathered.is_none() {
                    gathered = pick_gathering(&runs, policy, merged.as_ref());
                }
                if merged.is_none() {
                    merged = pick(&runs, policy, gathered.as_ref());
                }
                if let (Some(merged), Some(gathered)) = (&merged, &gathered) {
                    both += 1;
                    let shared = merged.inputs.iter().flatten();
                    let mut shared = shared.filter(|id| gathered.inputs.concat().contains(id));
                    assert!(shared.next().is_none(), "pick invariant 4");
                }
                let slot = if chance.one_in(2) { &mut merged } else { &mut gathered };
                let Some(job) = slot.take_if(|_| chance.one_in(3)) else { continue };
                // Of what is not an input nothing lies between two inputs now either.
                let places: Vec<usize> =
                    (0..runs.len()).filter(|&at| job.has_of(&runs[at])).collect();
                let whole = |at: &usize| runs[*at].level == 0;
                let of_level_0: Vec<usize> = places.into_iter().filter(whole).collect();
                let is_dense = of_level_0.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                assert!(is_dense, "pick invariant 1");
                let bytes: u64 = runs.iter().map(Run::bytes).sum();
                let made = merged_tables(&runs, &job, &mut id);
                runs = replace(&runs, &job, made);
                check_runs(&runs);
                let left: u64 = runs.iter().map(Run::bytes).sum();
                assert!(left <= bytes && left + 100 > bytes, "nothing is lost");
            }
        }
        both
    }

    #[test]
    fn jobs_beside_one_another_keep_apart() {
        for policy in [LEVELLED, UNIVERSAL] {
            let both = check_beside(&policy);
            assert!(both > 50, "{policy:?}: two jobs under way {both} times");
        }
    }

    #[test]
    fn levels_stay_in_their_limits() {
        check_policy(&LEVELLED, 3 + LEVEL_MAX as usize);
    }

    #[test]
    fn universal_runs_stay_few() {
        check_policy(&UNIVERSAL, 6);
    }

    #[test]
    fn a_job_below_which_a_key_may_lie_is_not_at_the_bottom() {
        let run = |level, tables: &[Rc<TableMeta>]| Run { level, tables: tables.to_vec() };
        let runs = |last| {
            let (l1, l2) = (table(2, 30, 40, 500), table(3, 10, last, 900));
            [run(1, &[table(1, 10, 20, 500), l1]), run(2, &[l2]), run(3, &[table(4, 50, 90, 9)])]
        };
        let picked = pick(&runs(35), &LEVELLED, None).unwrap();
        assert_eq!((picked.level, picked.is_bottom), (2, true));
        assert!(!pick(&runs(55), &LEVELLED, None).unwrap().is_bottom, "3 and 4 share keys");
        let all = pick_all(&runs(55), &LEVELLED).unwrap();
        assert_eq!((all.inputs.concat(), all.level, all.is_bottom), (vec![1, 2, 3, 4], 3, true));
        assert_eq!(pick(&[], &LEVELLED, None), None);
        assert_eq!(pick(&[], &UNIVERSAL, None), None);
    }
}
