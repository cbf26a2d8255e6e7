//! What every disk must do, and what the simulated one must be able to do wrong.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::disk::{Disk, DiskFailure, File, PAGE, Request};
use super::disk_sim::{Counts, Crashed, Faults, SimDisk};

fn page<F: File>(file: &F, byte: u8) -> F::Buffer {
    let mut buffer = file.buffer(PAGE);
    buffer.fill(byte);
    buffer
}

/// The conformance test proper: any disk, an empty root.
pub async fn check_disk<D: Disk>(disk: &D) {
    disk.make_dir("a").await.unwrap();
    disk.make_dir("a").await.unwrap();
    assert_eq!(disk.list("a").await.unwrap(), Vec::<String>::new());
    let failure = disk.list("b").await.unwrap_err();
    assert_eq!((failure.failure, failure.request), (DiskFailure::Missing, Request::List));

    let file = disk.create("a/x").await.unwrap();
    assert_eq!(file.name(), "a/x");
    assert_eq!(file.length().await.unwrap(), 0);
    assert!(file.buffer(2 * PAGE).iter().all(|&byte| byte == 0));
    // Writes in any order; what lies between is 0.
    file.write_at(2 * PAGE as u64, page(&file, 3)).await.unwrap();
    file.write_at(0, page(&file, 1)).await.unwrap();
    file.sync().await.unwrap();
    disk.sync_dir("a").await.unwrap();
    assert_eq!(file.length().await.unwrap(), 3 * PAGE as u64);

    let failure = disk.create("a/x").await.err().unwrap();
    assert_eq!((failure.failure, failure.name.as_str()), (DiskFailure::Exists, "a/x"));
    assert_eq!(disk.open("a/y").await.err().unwrap().failure, DiskFailure::Missing);

    let file = disk.open("a/x").await.unwrap();
    let bytes = file.read_at(0, 4 * PAGE).await.unwrap();
    assert_eq!(bytes.len(), 3 * PAGE, "a read ends where the file does");
    assert_eq!(bytes.as_ptr().align_offset(512), 0);
    let expected = [[1; PAGE], [0; PAGE], [3; PAGE]].concat();
    assert!(*bytes == expected[..]);
    assert_eq!(file.read_at(2 * PAGE as u64, PAGE).await.unwrap()[..], [3; PAGE]);
    assert_eq!(file.read_at(8 * PAGE as u64, PAGE).await.unwrap().len(), 0);

    disk.link("a/x", "a/y").await.unwrap();
    assert_eq!(disk.link("a/x", "a/y").await.unwrap_err().failure, DiskFailure::Exists);
    assert_eq!(disk.link("a/no", "a/z").await.unwrap_err().failure, DiskFailure::Missing);
    disk.rename("a/x", "a/z").await.unwrap();
    assert_eq!(disk.list("a").await.unwrap(), ["y", "z"]);
    // In place of another.
    disk.create("a/w").await.unwrap();
    disk.rename("a/w", "a/z").await.unwrap();
    assert_eq!(disk.open("a/z").await.unwrap().length().await.unwrap(), 0);
    disk.remove("a/y").await.unwrap();
    assert_eq!(disk.remove("a/y").await.unwrap_err().failure, DiskFailure::Missing);
    assert_eq!(disk.list("a").await.unwrap(), ["z"]);
    // A file without a name is still there for who has it open.
    assert_eq!(file.read_at(0, PAGE).await.unwrap()[..], [1; PAGE]);
}

#[test]
fn the_simulated_disk_is_a_disk() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, Faults::default());
        disk.run(check_disk(&disk)).unwrap();
    }
}

/// Two files, four writes under way together; one of them and its name are made durable.
async fn write_some(disk: &SimDisk) {
    disk.make_dir("a").await.unwrap();
    let (x, y) = (disk.create("a/x").await.unwrap(), disk.create("a/y").await.unwrap());
    x.write_at(0, page(&x, 1)).await.unwrap();
    x.sync().await.unwrap();
    disk.sync_dir("a").await.unwrap();
    let mut writes: Vec<_> = (1..5)
        .map(|i| Box::pin(y.write_at(i * PAGE as u64, page(&y, i as u8))))
        .map(Some)
        .collect();
    poll_fn(|context| {
        for slot in &mut writes {
            let is_done =
                slot.as_mut().is_some_and(|write| write.as_mut().poll(context).is_ready());
            if is_done {
                *slot = None;
            }
        }
        if writes.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    disk.rename("a/y", "a/z").await.unwrap();
}

fn run_and_crash(seed: u64, crash_at: u64) -> (bool, Counts, SimDisk) {
    let disk = SimDisk::new(seed, Faults { crash_at: Some(crash_at), ..Faults::default() });
    let ended = disk.run(write_some(&disk)).is_ok();
    (ended, disk.counts(), disk.crash(seed, Faults::default()))
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_part_of_the_rest() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        for crash_at in [6, 7, 8, 9, 10, 100] {
            let (ended, _, disk) = run_and_crash(seed, crash_at);
            assert_eq!(ended, crash_at == 100);
            let x = disk.bytes("a/x").expect("its folder was synced");
            assert_eq!(x, [1; PAGE], "seed {seed}, crash {crash_at}");
            if crash_at < 11 {
                assert!(disk.bytes("a/z").is_none(), "nobody renamed it yet");
            }
            let y = disk.bytes("a/y");
            let moved = disk.bytes("a/z");
            seen.insert(if moved.is_some() { "renamed" } else { "not renamed" });
            let Some(bytes) = y.or(moved) else { continue };
            for (i, page) in bytes.chunks(PAGE).enumerate() {
                let written = page.iter().filter(|&&byte| byte == i as u8).count();
                assert!(page.iter().all(|&byte| byte == 0 || byte == i as u8));
                seen.insert(match (i, written) {
                    (0, _) => continue,
                    (_, PAGE) => "kept",
                    (_, 0) => "lost",
                    _ => "torn",
                });
            }
        }
    }
    let all = ["kept", "lost", "not renamed", "renamed", "torn"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_seed_runs_the_same_twice_and_requests_are_reordered() {
    for seed in 0..50 {
        let (first, second) = (run_and_crash(seed, 9), run_and_crash(seed, 9));
        assert_eq!(first.1, second.1);
        assert_eq!(first.2.bytes("a/y"), second.2.bytes("a/y"), "seed {seed}");
        assert_eq!(first.1.in_flight_max, 4);
    }
}

#[test]
fn chosen_requests_fail_and_name_themselves() {
    let check = |faults: Faults, expected: Request| {
        let disk = SimDisk::new(1, faults);
        let outcome = disk.run(async {
            disk.make_dir("a").await?;
            let file = disk.create("a/x").await?;
            file.write_at(0, page(&file, 1)).await?;
            file.write_at(PAGE as u64, page(&file, 2)).await?;
            file.read_at(0, PAGE).await?;
            file.sync().await?;
            disk.sync_dir("a").await
        });
        let error = outcome.unwrap().unwrap_err();
        assert_eq!(error.request, expected);
        error
    };
    let none = Faults::default;
    let error = check(Faults { write_at: Some(1), ..none() }, Request::Write);
    assert_eq!(error.to_string(), "cannot write a/x (at byte 4096): input/output error");
    check(Faults { read_at: Some(0), ..none() }, Request::Read);
    check(Faults { sync_at: Some(0), ..none() }, Request::Sync);
    check(Faults { name_at: Some(0), ..none() }, Request::MakeDir);
    check(Faults { name_at: Some(2), ..none() }, Request::SyncDir);
    let full = check(Faults { bytes_max: Some(6000), ..none() }, Request::Write);
    assert_eq!((full.failure, full.at), (DiskFailure::Full, 4096));
}

#[test]
fn a_failed_sync_poisons_the_file() {
    let disk = SimDisk::new(1, Faults { sync_at: Some(0), ..Faults::default() });
    let done = disk.run(async {
        let file = disk.create("x").await.unwrap();
        file.write_at(0, page(&file, 1)).await.unwrap();
        assert!(matches!(file.sync().await.unwrap_err().failure, DiskFailure::Io(_)));
        let poisoned = [
            file.sync().await.unwrap_err(),
            file.write_at(0, page(&file, 1)).await.unwrap_err(),
            file.length().await.unwrap_err(),
            file.read_at(0, PAGE).await.err().unwrap(),
        ];
        assert!(poisoned.iter().all(|error| error.failure == DiskFailure::Poisoned));
    });
    assert_eq!(done, Ok(()));
}

#[test]
fn a_crash_at_the_first_request_is_a_crash() {
    let disk = SimDisk::new(1, Faults { crash_at: Some(0), ..Faults::default() });
    let main = pin!(disk.make_dir("a"));
    assert_eq!(disk.run(main).unwrap_err(), Crashed);
}
