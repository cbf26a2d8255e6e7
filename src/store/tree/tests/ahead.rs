//! What is read ahead of its use, and what stays in memory after its flush.

use super::*;

#[test]
fn what_was_fetched_too_long_ago_is_unknown_and_what_is_kept_goes() {
    let disk = SimDisk::new(1, Faults::default());
    disk.run(async {
        let tree = Tree::open(disk.clone(), options(0)).await.unwrap();
        let fill = async |from: u32, count: u32| {
            for i in from..from + count {
                while tree.put(&i.to_be_bytes(), &[1; 1000], NEVER) == Err(StoreError::Busy) {
                    tree.work(0).await.unwrap();
                }
            }
            tree.flush(0).await.unwrap();
        };
        tree.put(b"key", b"old", NEVER).unwrap();
        tree.flush(0).await.unwrap();
        let (hash, mut out) = (hash_of(b"key"), Vec::new());
        assert_eq!(tree.peek(b"key", 0, &mut out), Peek::Found, "it is kept");
        fill(0, 40_000).await;
        assert_eq!(tree.peek(b"key", 0, &mut out), Peek::Unknown, "others need its memory");
        let fetched = tree.fetch(&[b"key", b"no"], &[hash, hash_of(b"no")]).await.unwrap();
        tree.put(b"key", b"new", NEVER).unwrap();
        let seen = |fetched, i, key: &[u8]| {
            let mut seen = Vec::new();
            let read = |value: &[u8]| seen.extend_from_slice(value);
            let peek = tree.fetched(fetched, (i, hash_of(key), key), 0, read);
            (peek, seen)
        };
        assert_eq!(seen(&fetched, 0, b"key"), (Peek::Found, b"new".to_vec()));
        assert_eq!(seen(&fetched, 1, b"no"), (Peek::Absent, Vec::new()));
        fill(50_000, 40_000).await;
        assert_eq!(seen(&fetched, 0, b"key").0, Peek::Unknown, "the old value would be wrong");
        out.clear();
        assert!(tree.get(b"key", 0, &mut out).await.unwrap() && out == b"new");
    })
    .unwrap();
}
