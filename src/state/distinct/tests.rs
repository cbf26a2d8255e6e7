//! The sets against plain ones, window by window.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SLOTS: u32 = 70;

#[derive(Clone, Debug)]
enum Step {
    /// Rows of one pane, counted from the frontier.
    Rows(i64, Vec<(u32, u64)>),
    /// The window fires and the frontier moves on by so many panes.
    Fire(i64),
    SaveAndLoad(u32),
    /// All slots but every third from this one.
    SaveAndLoadTogether(u32),
    Clear(u32),
    /// Slices of so many slots are begun.
    BeginSlices(u32),
    /// What has to be known for slices, or the next one is saved and loaded.
    GoOn,
}

fn steps(panes: i64, late: i64) -> impl Strategy<Value = Vec<Step>> {
    let pairs = proptest::collection::vec((0..SLOTS, 0..40u64), 1..40);
    let step = prop_oneof![
        6 => (1 - panes - late..3i64, pairs).prop_map(|(pane, rows)| Step::Rows(pane, rows)),
        3 => prop_oneof![9 => Just(1i64), 2 => 2..9i64, 1 => 100..400i64].prop_map(Step::Fire),
        1 => (0..SLOTS).prop_map(Step::SaveAndLoad),
        1 => (0..3u32).prop_map(Step::SaveAndLoadTogether),
        1 => (0..SLOTS).prop_map(Step::Clear),
        1 => (0..5u32).prop_map(|log| Step::BeginSlices(1 << log)),
        6 => Just(Step::GoOn),
    ];
    proptest::collection::vec(step, 1..60)
}

fn value_of(value: u64, texts: bool, heap: &mut Vec<u8>) -> u64 {
    if texts {
        slot::put(format!("{:>1$}", value, value as usize).as_bytes(), heap)
    } else {
        value * 0x0101_0101_0101_01FF
    }
}

/// Windows of `panes` panes that slide by one, and take late rows while they are among the
/// `late` fired last, against plain sets.
fn check(steps: &[Step], panes: i64, late: i64, texts: bool) {
    let data_type = if texts { DataType::String } else { DataType::BigInt };
    let span = (panes + late) as usize;
    let mut sets = Distinct::new("test", &data_type, panes as usize, span, late > 0);
    sets.reserve(SLOTS as usize);
    // Windows are named by their last pane.
    let mut frontier = 1000;
    sets.advance(frontier, frontier - panes + 1, frontier - panes + 1);
    let mut model: BTreeSet<(i64, u32, u64)> = BTreeSet::new();
    let mut fired: BTreeSet<i64> = BTreeSet::new();
    let distinct = |model: &BTreeSet<(i64, u32, u64)>, slot, last: i64| {
        let inside = model
            .iter()
            .filter(|&&(pane, of, _)| of == slot && pane <= last && pane > last - panes);
        inside.map(|&(_, _, value)| value).collect::<BTreeSet<u64>>().len() as u64
    };
    let all: Vec<u32> = (0..SLOTS).collect();
    let (mut grain, mut slice) = (0, 0);
    for step in steps {
        match step {
            Step::Rows(pane, rows) => {
                let (pane, mut heap) = (frontier + pane, Vec::new());
                let slots: Vec<u32> = rows.iter().map(|row| row.0).collect();
                let values: Vec<u64> =
                    rows.iter().map(|row| value_of(row.1, texts, &mut heap)).collect();
                let places: Vec<u32> = (0..rows.len() as u32).collect();
                let again = fired.iter().filter(|&&last| pane <= last && pane > last - panes);
                let again: Vec<_> = again.map(|&k| (k, k - panes + 1, k)).collect();
                if pane > frontier - panes && again.is_empty() {
                    sets.observe(&places, &slots, &values, &heap, None, pane);
                } else {
                    for (&slot, &value) in slots.iter().zip(&values) {
                        sets.late(slot, value, &heap, pane, again.iter().copied());
                    }
                }
                model.extend(rows.iter().map(|&(slot, value)| (pane, slot, value)));
            }
            Step::Fire(by) => {
                let mut counts = Vec::new();
                sets.counts(&all, &mut counts);
                for slot in 0..SLOTS {
                    assert_eq!(counts[slot as usize], distinct(&model, slot, frontier));
                }
                if late > 0 {
                    sets.remember(frontier, &all, &counts);
                    fired.insert(frontier);
                }
                let mut by_pane: BTreeMap<i64, Touched> = BTreeMap::new();
                for &(pane, slot, _) in &model {
                    let touched = by_pane.entry(pane).or_default();
                    touched.reserve(SLOTS as usize);
                    touched.set(slot);
                }
                frontier += by;
                let counted = frontier - panes + 1;
                for (&pane, touched) in by_pane.range(..counted) {
                    sets.leave(pane, touched);
                }
                sets.advance(frontier, counted, counted - late);
                sets.forget(frontier - late - 1);
                fired.retain(|&last| last >= frontier - late);
                model.retain(|&(pane, _, _)| pane >= counted - late);
            }
            Step::SaveAndLoad(slot) => {
                let mut saved = Vec::new();
                sets.save(*slot, &mut saved);
                sets.clear(*slot);
                sets.load(*slot, &saved).unwrap();
            }
            Step::SaveAndLoadTogether(left_out) => {
                let slots: Vec<u32> = (0..SLOTS).filter(|slot| slot % 3 != left_out % 3).collect();
                let mut saved = Vec::new();
                if sets.save_all(&slots, &mut saved) {
                    slots.iter().for_each(|&slot| sets.clear(slot));
                    let to: Vec<Option<u32>> = slots.into_iter().map(Some).collect();
                    sets.load_all(&to, &saved).unwrap();
                }
            }
            Step::BeginSlices(slots) => {
                (grain, slice) = (*slots, 0);
                sets.begin_slices(SLOTS, grain);
            }
            Step::GoOn if grain == 0 || sets.prepare_slices() => {}
            Step::GoOn => {
                let first = slice * grain;
                let slots: Vec<u32> = (first..SLOTS.min(first + grain)).collect();
                let mut saved = Vec::new();
                sets.enter_slice(slice, &slots);
                let each: Option<Vec<Vec<u8>>> = (!sets.save_all(&slots, &mut saved)).then(|| {
                    let save = |&slot: &u32| {
                        let mut saved = Vec::new();
                        sets.save(slot, &mut saved);
                        saved
                    };
                    slots.iter().map(save).collect()
                });
                sets.leave_slice();
                sets.clear_all(&slots);
                match each {
                    Some(each) => slots
                        .iter()
                        .zip(each)
                        .for_each(|(&slot, saved)| sets.load(slot, &saved).unwrap()),
                    None => {
                        let to: Vec<Option<u32>> = slots.into_iter().map(Some).collect();
                        sets.load_all(&to, &saved).unwrap();
                    }
                }
                slice += 1;
                if slice * grain >= SLOTS {
                    grain = 0;
                    sets.end_slices();
                }
            }
            Step::Clear(slot) => {
                sets.clear(*slot);
                model.retain(|&(_, of, _)| of != *slot);
            }
        }
        for &last in &fired {
            for slot in 0..SLOTS {
                assert_eq!(sets.remembered(last, slot), distinct(&model, slot, last));
            }
        }
    }
}

proptest! {
    #[test]
    fn tumbling_counts_are_exact(steps in steps(1, 0)) {
        check(&steps, 1, 0, false);
    }

    #[test]
    fn sliding_counts_are_exact_with_late_rows(steps in steps(6, 2)) {
        check(&steps, 6, 2, false);
        check(&steps, 6, 2, true);
    }

    #[test]
    fn windows_of_many_panes_are_exact(steps in steps(40, 2), long in steps(150, 0)) {
        check(&steps, 40, 2, false);
        check(&long, 150, 0, false);
    }
}

#[test]
fn many_pairs_over_many_panes_are_exact_and_take_bounded_memory() {
    let mut sets = Distinct::new("test", &DataType::BigInt, 3, 3, false);
    let mut touched = Touched::default();
    sets.reserve(100);
    touched.reserve(100);
    (0..100).for_each(|slot| touched.set(slot));
    let (rows, slots): (Vec<u32>, Vec<u32>) =
        ((0..5000).collect(), (0..5000).map(|row| row % 100).collect());
    let mut bytes = 0;
    for pane in 0..600i64 {
        sets.leave(pane - 3, &touched);
        sets.advance(pane, pane - 2, pane - 2);
        // Each slot sees 50 values a pane, 40 of them new.
        let value = |&row: &u32| u64::from(row / 100) + pane as u64 * 40;
        let values: Vec<u64> = rows.iter().map(value).collect();
        sets.observe(&rows, &slots, &values, &[], None, pane);
        let mut counts = Vec::new();
        sets.counts(&[7], &mut counts);
        assert_eq!(counts, [50 + 40 * pane.min(2) as u64]);
        if pane == 20 {
            bytes = sets.memory_bytes();
        }
    }
    assert!(sets.memory_bytes() <= bytes * 2, "dead pairs are written over");
}

/// As when a shard's keys were loaded before anything is known of time.
#[test]
fn regression_many_values_that_waited_from_the_beginning_of_time_are_counted() {
    let mut sets = Distinct::new("test", &DataType::BigInt, 6, 8, true);
    sets.reserve(1);
    for value in 0..5_000u64 {
        let mut bytes = Vec::new();
        let mut one = Distinct::new("test", &DataType::BigInt, 6, 8, true);
        one.reserve(1);
        one.observe(&[0], &[0], &[value], &[], None, 3 + (value % 3) as i64);
        one.save(0, &mut bytes);
        sets.load(0, &bytes).unwrap();
    }
    sets.advance(5, 0, i64::MIN + 1);
    let mut counts = Vec::new();
    sets.counts(&[0], &mut counts);
    assert_eq!(counts, [5_000]);
}
