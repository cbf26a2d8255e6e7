//! What the worlds of many seeds came to, counted: a simulation proves nothing of what it never
//! reaches.

use std::collections::BTreeMap;

use super::folder::PHASES;
use super::life::Saw;
use super::pipelines::Kind;

/// Counts.
#[derive(Debug, Default)]
pub struct Reached {
    counts: BTreeMap<String, u64>,
}

impl Reached {
    fn add(&mut self, what: &str, count: u64) {
        *self.counts.entry(what.to_string()).or_default() += count;
    }

    /// The power went.
    pub fn crashed(&mut self, phase: &str) {
        self.add(&format!("crashes {phase}"), 1);
    }

    /// A run ended with an error.
    pub fn failed(&mut self, why: &str) {
        for (what, word) in
            [("full", "full"), ("input/output", "input/output"), ("sync", "earlier sync")]
        {
            self.add(&format!("failures: {what}"), u64::from(why.contains(word)));
        }
        self.add("failures", 1);
    }

    /// A bit was changed; the file was named before the run, or the run failed.
    pub fn flipped(&mut self, is_named: bool, has_failed: bool) {
        self.add("flips", 1);
        self.add("flips named, older checkpoint used", u64::from(is_named && !has_failed));
        self.add("flips that stopped the run", u64::from(has_failed));
    }

    /// A run was refused, since rows were in flight between another number of shards.
    pub fn refused(&mut self) {
        self.add("restores refused for rows in flight", 1);
    }

    /// A run ended in whatever way.
    pub fn lived(&mut self, saw: &Saw) {
        self.add("runs", 1);
        self.add("steps", saw.steps);
        self.add("checkpoints", saw.completed);
        self.add("checkpoints failed", saw.failed - saw.given_up);
        self.add("checkpoints given up", saw.given_up);
        self.add("restores", u64::from(saw.restored));
        let own = saw.in_flight && !saw.other_width;
        self.add("restores with rows in flight", u64::from(own));
        let both = own && saw.width > 1;
        self.add("restores with rows in flight between shards", u64::from(both));
        let both = own && saw.tables > 0;
        self.add("restores with rows in flight and tables", u64::from(both));
        self.add("restores with several deltas", u64::from(saw.deltas_most > 1));
        self.add("restores with rows", u64::from(saw.rows_most > 0));
        self.add("restores with several files of rows", u64::from(saw.rows_most > 1));
        let both = saw.other_width && saw.rows_most > 0;
        self.add("restores with rows at another width", u64::from(both));
        let both = saw.rows_most > 0 && saw.tables > 0;
        self.add("restores with rows and tables", u64::from(both));
        self.add("restores with slices", u64::from(saw.slices_most > 0));
        self.add("restores with several slices", u64::from(saw.slices_most > 2));
        let both = saw.slices_most > 2 && saw.rows_most > 1;
        self.add("restores with several slices and files of rows", u64::from(both));
        let both = saw.slices_most > 2 && saw.other_width;
        self.add("restores with several slices at another width", u64::from(both));
        self.add("restores with tables", u64::from(saw.tables > 0));
        self.add("restores with tables of lookups", u64::from(saw.lookups_most > 0));
        let both = saw.other_width && saw.lookups_most > 1;
        self.add("restores with pieces of lookups at another width", u64::from(both));
        self.add("restores at another width", u64::from(saw.other_width));
        let both = saw.other_width && saw.tables > 0;
        self.add("restores with tables at another width", u64::from(both));
    }

    /// What has to be reached and was not.
    pub fn missing(&self, kind: Kind) -> Vec<String> {
        let phases = PHASES.iter().map(|phase| format!("crashes {phase}"));
        let others = [
            "failures: full",
            "failures: input/output",
            "flips named, older checkpoint used",
            "flips that stopped the run",
            "checkpoints failed",
            "checkpoints given up",
            "restores with rows in flight between shards",
            "restores with rows in flight and tables",
            "restores refused for rows in flight",
            "restores with several deltas",
            "restores with rows",
            "restores with several files of rows",
            "restores with rows at another width",
            "restores with several slices",
            "restores with several slices and files of rows",
            "restores with several slices at another width",
            "restores with tables",
            "restores with tables at another width",
        ];
        let of_lookups: &[&str] = match kind {
            Kind::Lookup => &["restores with pieces of lookups at another width"],
            _ => &[],
        };
        let others = others.iter().chain(of_lookups);
        let mut all: Vec<String> = phases.chain(others.map(|w| w.to_string())).collect();
        all.retain(|what| self.counts.get(what).is_none_or(|&count| count == 0));
        all
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.counts.iter().try_for_each(|(what, count)| writeln!(f, "{count:>9} {what}"))
    }
}
