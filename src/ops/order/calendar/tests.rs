//! The calendar against a sorted list.

use super::*;
use proptest::prelude::*;

/// What is done to the queue: rows put in above the floor, and drains, as steps relative to
/// the largest time so far so that every part of the queue is reached.
#[derive(Clone, Debug)]
enum Act {
    Insert(i64),
    Drain(i64),
    Remove(u32),
}

/// Runs acts against a sorted list and compares all that comes out.
fn check(range_ms: i64, start: Time, acts: &[Act]) {
    let mut calendar = Calendar::new(range_ms);
    // (time, arrival, number)
    let mut naive: Vec<(Time, u32, u32)> = Vec::new();
    let (mut top, mut arrivals, mut out) = (start, 0, Vec::new());
    for act in acts {
        match act {
            Act::Insert(step) => {
                let time = top.saturating_add(*step);
                if time <= calendar.floor() {
                    continue;
                }
                top = top.max(time);
                let id = calendar.insert(time, arrivals);
                assert!(naive.iter().all(|(_, _, other)| *other != id));
                naive.push((time, arrivals, id));
                arrivals += 1;
            }
            Act::Drain(step) => {
                let to = top.saturating_sub(*step).max(calendar.floor());
                calendar.drain(to, &mut out);
                naive.sort();
                let due = naive.partition_point(|(time, ..)| *time <= to);
                let expected: Vec<u32> = naive.drain(..due).map(|(_, _, id)| id).collect();
                assert_eq!(out, expected);
                calendar.release(&out);
                out.clear();
            }
            Act::Remove(slot) => {
                calendar.remove(|id| id % 7 == slot % 7);
                naive.retain(|(_, _, id)| id % 7 != slot % 7);
            }
        }
        assert_eq!(calendar.len(), naive.len());
    }
    calendar.drain(Time::MAX, &mut out);
    naive.sort();
    assert_eq!(out, naive.iter().map(|(_, _, id)| *id).collect::<Vec<_>>());
    assert!(calendar.is_empty());
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let step = prop_oneof![
        4 => -20..20i64,
        4 => -3_000..3_000i64,
        2 => -100_000..100_000i64,
        1 => -10_000_000_000..10_000_000_000i64,
    ];
    let act = prop_oneof![
        12 => step.prop_map(Act::Insert),
        3 => (-50..6_000i64).prop_map(Act::Drain),
        1 => (-100_000..100_000i64).prop_map(Act::Drain),
        1 => any::<u32>().prop_map(Act::Remove),
    ];
    proptest::collection::vec(act, 0..400)
}

proptest! {
    #[test]
    fn what_comes_out_is_sorted_by_time_and_arrival(
        range in prop_oneof![Just(0), Just(5_000), Just(3_600_000), Just(i64::MAX)],
        start in prop_oneof![Just(0), Just(-5_000), Just(1_700_000_000_000i64),
            Just(i64::MIN + 1), Just(i64::MAX - 1_000)],
        acts in acts(),
    ) {
        check(range, start, &acts);
    }
}

#[test]
fn a_range_never_announced_widens_the_buckets_and_narrows_them_again() {
    let mut calendar = Calendar::new(0);
    let (mut out, mut given) = (Vec::new(), 0);
    for time in 0..200_000i64 {
        // An hour of disorder for a while, then five seconds.
        let delay = if time < 100_000 { 3_600_000 } else { 5_000 };
        // Neighbours have changed places.
        calendar.insert((time ^ 1) * 40 + 1, 0);
        calendar.drain((time * 40 - delay).max(calendar.floor()), &mut out);
        for id in out.drain(..) {
            assert_eq!(calendar.link(id).time, given * 40 + 1);
            given += 1;
            calendar.release(&[id]);
        }
        match time {
            99_999 => assert!(calendar.shift >= 8),
            199_999 => assert!(calendar.shift <= 2),
            _ => {}
        }
    }
    assert!(calendar.numbers() < 100_000, "numbers are used again");
}

#[test]
fn one_row_of_a_wrong_century_costs_nothing() {
    let mut calendar = Calendar::new(5_000);
    calendar.insert(4_000_000_000_000, 1);
    let mut out = Vec::new();
    for time in 1..100_000i64 {
        calendar.insert(time, 0);
        calendar.drain(time - 5_000, &mut out);
        calendar.release(&out);
        out.clear();
    }
    assert_eq!((calendar.shift, calendar.far_len), (0, 1));
}
