//! Epochs begun, completed, given up; barriers that overtake.

use super::*;

#[derive(Default)]
struct Kept {
    written: Mutex<Vec<(Checkpoint, Vec<Share>)>>,
    failures: AtomicU64,
}

impl Store for Arc<Kept> {
    fn write(&self, checkpoint: &Checkpoint, shares: &[Share]) -> Result<Bytes, PortError> {
        let left = self.failures.load(Ordering::Relaxed);
        if left > 0 {
            self.failures.store(left - 1, Ordering::Relaxed);
            return Err(PortError::Data("no".into()));
        }
        self.written.lock().unwrap().push((checkpoint.clone(), shares.to_vec()));
        Ok(Bytes::default())
    }
}

fn share(bytes: &[u8]) -> Share {
    Share::of("image", bytes.to_vec())
}

fn epochs(kept: &Arc<Kept>, tolerable_failures: usize) -> Epochs {
    let rhythm = Rhythm {
        interval_ms: Some(1),
        min_pause_ms: 0,
        timeout_ms: 60_000,
        tolerable_failures,
        rows: RowBounds::default(),
        unaligned: Unaligned::Never,
    };
    let epochs = Epochs::new(vec!["a".into()], 2, 4, rhythm, Some(Box::new(kept.clone())));
    epochs.start();
    assert!(!epochs.has_started(), "a source is not where it goes on from");
    epochs.note_begin(0, Some(0));
    assert!(epochs.has_started());
    epochs
}

/// Plays two shards until the epoch is durable or given up by the coordinator.
fn play(epochs: &Epochs, until: u64) {
    let mut seen = epochs.durable();
    while epochs.durable() < until {
        let wanted = epochs.wanted();
        if wanted > seen {
            seen = wanted;
            epochs.note_barrier(0, wanted, Some(wanted * 10));
            for shard in 0..2 {
                epochs.put(shard, wanted, share(&[wanted as u8, shard as u8]));
            }
        }
        std::thread::yield_now();
    }
}

#[test]
fn epochs_become_durable_one_after_the_other_and_the_last_one_ends_them() {
    let kept = Arc::new(Kept::default());
    let epochs = epochs(&kept, 0);
    std::thread::scope(|scope| {
        let coordinator = scope.spawn(|| epochs.coordinate());
        play(&epochs, 7);
        assert_eq!(epochs.last(), epochs.last());
        coordinator.join().unwrap().unwrap();
    });
    let last = epochs.last();
    epochs.put(0, last, share(&[1]));
    epochs.put(1, last, share(&[2]));
    epochs.put(1, last - 1, share(&[3]));
    epochs.finish().unwrap();
    assert_eq!(epochs.durable(), last);
    let written = kept.written.lock().unwrap();
    for (i, (checkpoint, shares)) in written[..3].iter().enumerate() {
        let epoch = 5 + i as u64;
        let positions = vec![("a".to_string(), Some(epoch * 10))];
        assert_eq!(*checkpoint, Checkpoint { epoch, positions });
        assert_eq!(*shares, [share(&[epoch as u8, 0]), share(&[epoch as u8, 1])]);
    }
    let (checkpoint, shares) = written.last().unwrap();
    assert_eq!((checkpoint.epoch, &shares[..]), (last, &[share(&[1]), share(&[2])][..]));
}

/// The same steps as a thread takes them, one by one.
#[test]
fn what_comes_for_an_epoch_that_was_given_up_is_dropped() {
    let kept = Arc::new(Kept::default());
    let epochs = epochs(&kept, 1);
    let mut patience = epochs.patience();
    assert_eq!(epochs.begin(), Some(5));
    epochs.put(0, 5, share(&[1]));
    assert_eq!((epochs.progress(), epochs.take()), (Progress::Open, None));
    let error = epochs.give_up();
    assert!(error.to_string().contains("checkpoint.timeout"), "{error}");
    patience.bear(Err(error)).unwrap();
    assert_eq!((epochs.begin(), epochs.wanted()), (Some(6), 6));
    epochs.put(1, 5, share(&[2]));
    epochs.put(0, 6, share(&[3]));
    assert_eq!(epochs.progress(), Progress::Open);
    epochs.note_barrier(0, 6, Some(60));
    epochs.put(1, 6, share(&[4]));
    let (checkpoint, shares) = epochs.take().expect("all shards have given");
    let positions = vec![("a".to_string(), Some(60))];
    assert_eq!(checkpoint, Checkpoint { epoch: 6, positions });
    assert_eq!(shares, [share(&[3]), share(&[4])]);
    let failed = epochs.done(6, Err(PortError::Data("no".into())), Duration::ZERO);
    assert!(patience.bear(failed).is_err(), "a second failure is one too many");
    assert_eq!((epochs.durable(), epochs.made().failed), (4, 2));
    assert_eq!(epochs.begin(), Some(7));
    epochs.last();
    assert_eq!((epochs.progress(), epochs.take(), epochs.begin()), (Progress::Over, None, None));
}

#[test]
fn failures_are_borne_as_long_as_they_may_be() {
    for (failures, ends_well) in [(2, true), (3, false)] {
        let kept = Arc::new(Kept::default());
        kept.failures.store(failures, Ordering::Relaxed);
        let epochs = epochs(&kept, 2);
        std::thread::scope(|scope| {
            let coordinator = scope.spawn(|| {
                let ended = epochs.coordinate();
                epochs.durable.fetch_max(100, Ordering::Relaxed);
                ended
            });
            play(&epochs, 5);
            epochs.abort();
            assert_eq!(coordinator.join().unwrap().is_ok(), ends_well);
        });
        assert_eq!(epochs.made().failed, failures);
    }
}

#[test]
fn an_epoch_overtakes_from_its_begin_or_when_it_is_told_to() {
    let of = |unaligned: Unaligned| {
        let kept = Arc::new(Kept::default());
        let mut epochs = epochs(&kept, 9);
        epochs.rhythm.unaligned = unaligned;
        epochs
    };
    let never = of(Unaligned::Never);
    assert_eq!((never.begin(), never.overtaking(), never.may_overtake()), (Some(5), 4, false));
    let always = of(Unaligned::Always);
    assert_eq!((always.overtaking(), always.begin(), always.overtaking()), (4, Some(5), 5));
    always.give_up();
    assert_eq!((always.begin(), always.overtaking()), (Some(6), 6));
    let after = of(Unaligned::AfterMs(9));
    assert_eq!((after.begin(), after.overtaking(), after.may_overtake()), (Some(5), 4, true));
    assert!(after.overtake());
    assert_eq!(after.overtaking(), 5);
    // One that is complete has nothing to overtake any more, nor has the last one.
    after.give_up();
    assert_eq!(after.begin(), Some(6));
    (0..2).for_each(|shard| after.put(shard, 6, share(&[0])));
    assert!(!after.overtake());
    assert_eq!((after.last(), after.overtake(), after.overtaking()), (7, false, 5));
}

#[test]
fn a_source_that_was_cut_stands_behind_what_was_worked_off() {
    let kept = Arc::new(Kept::default());
    let epochs = epochs(&kept, 9);
    let position = |epoch: u64| {
        epochs.note_barrier(0, epoch, Some(50));
        (0..2).for_each(|shard| epochs.put(shard, epoch, share(&[0])));
        epochs.take().expect("all have given").0.positions[0].1
    };
    assert_eq!(epochs.begin(), Some(5));
    epochs.note_cut("a", 5, Some(42));
    assert_eq!(position(5), Some(42));
    assert_eq!(epochs.begin(), Some(6));
    assert_eq!(position(6), Some(50), "the cut was of another epoch");
}

/// A task that has seen the end of a source that goes on later is not where others are.
#[test]
fn no_epoch_but_the_last_comes_to_an_end_once_a_task_has_seen_the_stop() {
    let kept = Arc::new(Kept::default());
    let mut epochs = epochs(&kept, 9);
    epochs.rhythm.unaligned = Unaligned::Always;
    assert_eq!(epochs.begin(), Some(5));
    epochs.note_stop();
    (0..2).for_each(|shard| epochs.put(shard, 5, share(&[0])));
    assert_eq!((epochs.progress(), epochs.take(), epochs.begin()), (Progress::Over, None, None));
    assert_eq!(epochs.last(), 6);
    (0..2).for_each(|shard| epochs.put(shard, 6, share(&[1])));
    epochs.finish().unwrap();
    assert_eq!(epochs.durable(), 6);
}

/// The coordinator's thread lets an epoch overtake that nobody ends.
#[test]
fn the_coordinator_lets_barriers_overtake_behind_the_time_that_is_set() {
    let kept = Arc::new(Kept::default());
    let mut epochs = epochs(&kept, 0);
    epochs.rhythm.unaligned = Unaligned::AfterMs(1);
    std::thread::scope(|scope| {
        let coordinator = scope.spawn(|| epochs.coordinate());
        while epochs.overtaking() < 5 {
            std::thread::yield_now();
        }
        assert_eq!((epochs.wanted(), epochs.durable()), (5, 4));
        play(&epochs, 5);
        epochs.abort();
        coordinator.join().unwrap().unwrap();
    });
}
