//! A restore that is cut off by a crash, at any await.

use super::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A disk with a snapshot in `s`, and in `t` the tree that went on from there, or none.
fn disk_with(seed: u64, faults: Faults) -> (SimDisk, Pairs, Pairs) {
    let disk = SimDisk::new(seed, faults);
    let built: Result<(Pairs, Pairs), StoreError> = disk
        .run(async {
            let tree = Tree::open(disk.clone(), options(seed)).await?;
            for i in 0..200u8 {
                tree.put(&[i, 1], &[i; 300], NEVER)?;
            }
            tree.flush(0).await?;
            tree.put(b"later", b"in memory", NEVER)?;
            let snapshot = contents(&tree, &[], 0).await?;
            tree.snapshot()?.write("s", 0).await?;
            for i in 0..250u8 {
                tree.put(&[i, 1], &[i + 1; 300], NEVER)?;
            }
            tree.flush(0).await?;
            tree.compact_all(0).await?;
            Ok((snapshot, contents(&tree, &[], 0).await?))
        })
        .unwrap();
    let (snapshot, tree) = built.unwrap();
    (disk, snapshot, tree)
}

#[test]
fn a_crash_in_a_restore_leaves_nothing_that_a_second_one_does_not_mend() {
    let (mut crashes, mut halves) = (0, 0);
    for seed in 0..12 {
        for n in 0.. {
            let (disk, snapshot, old) = disk_with(seed, Faults::default());
            let crash_at = Some(disk.counts().completions + n);
            disk.set_faults(Faults { crash_at, ..Faults::default() });
            let ended = disk.run(Tree::restore(disk.clone(), "s", options(seed)));
            let is_whole = ended.is_ok_and(|tree| tree.is_ok());
            crashes += usize::from(!is_whole);
            // What a tree makes of the folder as it was left: never anything else than one of both.
            let found = disk.crash(seed * 1000 + n, Faults::default());
            let opened: Result<Pairs, StoreError> = found
                .run(async {
                    let tree = Tree::open(found.clone(), options(seed)).await?;
                    contents(&tree, &[], 0).await
                })
                .unwrap();
            match opened {
                Ok(found) if found == snapshot => {}
                // The folder was empty, or is the old one still: the caller restores again.
                Ok(found) => assert!(!is_whole && (found == old || found.is_empty())),
                Err(error) => {
                    assert!(!is_whole, "seed {seed}, crash {n}: {error}");
                    halves += 1;
                }
            }
            let again = found.run(async {
                let tree = Tree::restore(found.clone(), "s", options(seed)).await?;
                contents(&tree, &[], 0).await
            });
            assert_eq!(again.unwrap().as_ref(), Ok(&snapshot), "seed {seed}, crash {n}");
            if is_whole {
                break;
            }
        }
    }
    assert!(crashes > 100 && halves > 10, "{crashes} crashes, {halves} trees that do not open");
}
