//! The whole engine on a simulated machine, for thousands of seeds: crashed at any step, restarted
//! with other numbers of shards, on disks that fail; what it commits must be what one calm run
//! does, once each. docs/simulation.md says how it works and how a seed is run again.

mod cases;
mod connect;
mod files;
mod folder;
mod life;
mod lookups;
mod machine;
mod pipelines;
mod reached;
mod sink;
mod world;

use pipelines::Kind;
use reached::Reached;
use world::World;

/// Seeds of each pipeline, if `SIM_SEEDS` does not say.
const SEEDS: u64 = 1200;

/// Says how to run a seed again if the test panics in it.
struct Replay<'a>(u64, &'a str);

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("replay: SIM_SEED={} cargo test --test main sim::{}", self.0, self.1);
        }
    }
}

/// Runs the worlds of many seeds, or of one from the environment.
fn check(kind: Kind, name: &str) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (is_one, is_whole) = (seeds.end - seeds.start == 1, seeds.end - seeds.start >= SEEDS);
    let mut reached = Reached::default();
    for seed in seeds {
        let _replay = Replay(seed, name);
        let mut world = World::new(kind, seed, &mut reached);
        world.is_told = is_one;
        world.live();
    }
    println!("{kind:?}:\n{reached}");
    if is_whole {
        assert_eq!(reached.missing(kind), Vec::<String>::new());
    }
}

#[test]
fn aggregates() {
    check(Kind::Aggregate, "aggregates");
}

#[test]
fn windows() {
    check(Kind::Window, "windows");
}

#[test]
fn patterns() {
    check(Kind::Pattern, "patterns");
}

#[test]
fn two_sources() {
    check(Kind::Two, "two_sources");
}

#[test]
fn lookups_tables() {
    check(Kind::Lookup, "lookups_tables");
}

#[test]
fn a_seed_runs_the_same_twice() {
    let run = |kind: Kind, seed: u64| {
        let mut reached = Reached::default();
        let mut world = World::new(kind, seed, &mut reached);
        world.live();
        std::mem::take(&mut world.trace)
    };
    for kind in Kind::ALL {
        (0..3).for_each(|seed| assert_eq!(run(kind, seed), run(kind, seed), "{kind:?} {seed}"));
    }
}
