//! The copying of a run's checkpoints to its remote, on a thread of its own.
//!
//! 1. It never harms the run: what fails is counted, said once, and tried again behind a pause
//!    that grows.
//! 2. It copies the newest durable checkpoint; those that became durable while another was on its
//!    way are passed over. The one on its way is kept here until it is there ([`Outgoing::held`]).
//! 3. At the end of the run the newest one is waited for, a bounded number of tries.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::folder::Folder;
use super::manifest::Manifest;
use super::remote::Copies;
use crate::app::eprint;
use crate::app::report::RemoteCount;
use crate::edge::objects::Objects;
use crate::ground::limits::{REMOTE_LAST_TRIES, REMOTE_PAUSE_MS};
use crate::port::PortError;

/// What the run and the thread tell each other.
#[derive(Debug, Default)]
pub struct Outgoing {
    under: Mutex<Under>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Under {
    /// The newest durable checkpoint.
    newest: Option<u64>,
    /// The one that is on its way.
    held: Option<u64>,
    /// Durable ones so far, and how many of them had been when the last copy was begun.
    durable: u64,
    behind_of: u64,
    copied: u64,
    failed: u64,
    is_ending: bool,
}

impl Outgoing {
    /// Tells of a durable checkpoint.
    pub fn note(&self, epoch: u64) {
        let mut under = self.lock();
        under.newest = Some(epoch);
        under.durable += 1;
        drop(under);
        self.changed.notify_all();
    }

    /// The checkpoint that must stay for now.
    pub fn held(&self) -> Option<u64> {
        self.lock().held
    }

    /// Counts so far.
    pub fn counts(&self) -> RemoteCount {
        let under = self.lock();
        RemoteCount {
            copied: under.copied,
            failed: under.failed,
            behind: under.durable - under.behind_of,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Under> {
        self.under.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The thread. To be ended by [`Copier::finish`].
pub struct Copier {
    pub outgoing: Arc<Outgoing>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
struct Work {
    outgoing: Arc<Outgoing>,
    objects: Arc<Objects>,
    folder: Folder,
    pipeline: String,
    retained: usize,
    /// The checkpoint that the run goes on from.
    from: Option<Manifest>,
    has_said: bool,
}

impl Copier {
    /// Starts to copy the checkpoints of `folder`, first the one that the run goes on from if the
    /// place lacks it.
    ///
    /// # Errors
    /// [`PortError::Io`] if there can be no thread.
    pub fn start(
        objects: Arc<Objects>,
        folder: Folder,
        pipeline: &str,
        retained: usize,
        from: Option<Manifest>,
    ) -> Result<Copier, PortError> {
        let outgoing = Arc::new(Outgoing::default());
        if let Some(from) = &from {
            outgoing.note(from.epoch);
        }
        let work = Work {
            outgoing: outgoing.clone(),
            objects,
            folder,
            pipeline: pipeline.to_string(),
            retained: retained.max(1),
            from,
            has_said: false,
        };
        let thread = std::thread::Builder::new().name("remote copy".into());
        let thread = thread.spawn(move || work.run()).map_err(|source| PortError::Io {
            what: "cannot start the thread of the remote copy".into(),
            source,
        })?;
        Ok(Copier { outgoing, thread: Some(thread) })
    }

    /// Waits until the newest checkpoint is there or was tried often enough.
    pub fn finish(mut self) {
        self.outgoing.lock().is_ending = true;
        self.outgoing.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(mut self) {
        let mut copies = None;
        let (mut pause_ms, mut last_tries) = (0, 0);
        while let Some((epoch, durable, is_last)) = self.next(pause_ms) {
            let done = self.copy(&mut copies, epoch);
            let mut under = self.outgoing.lock();
            under.held = None;
            match done {
                Ok(is_new) => {
                    under.copied += u64::from(is_new);
                    under.behind_of = durable;
                    (pause_ms, last_tries) = (0, 0);
                }
                Err(error) => {
                    under.failed += 1;
                    drop(under);
                    let (first, most) = REMOTE_PAUSE_MS;
                    pause_ms = (pause_ms * 2).clamp(first, most);
                    last_tries += u32::from(is_last);
                    self.say(epoch, &error, last_tries >= REMOTE_LAST_TRIES);
                    if last_tries >= REMOTE_LAST_TRIES {
                        return;
                    }
                }
            }
        }
    }

    /// The checkpoint to copy next and how many were durable then, and whether the run is over;
    /// none if it is over and all is done.
    fn next(&self, pause_ms: u64) -> Option<(u64, u64, bool)> {
        let mut under = self.outgoing.lock();
        if pause_ms > 0 {
            let pause = Duration::from_millis(pause_ms);
            // At the end pauses are as short as the first: somebody waits.
            let waited =
                self.outgoing.changed.wait_timeout_while(under, pause, |under| !under.is_ending);
            (under, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            if under.is_ending {
                let pause = Duration::from_millis(REMOTE_PAUSE_MS.0);
                let waited = self.outgoing.changed.wait_timeout_while(under, pause, |_| true);
                (under, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            }
        }
        let waited = self
            .outgoing
            .changed
            .wait_while(under, |under| under.durable == under.behind_of && !under.is_ending);
        let mut under = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if under.durable == under.behind_of {
            return None;
        }
        let epoch = under.newest?;
        under.held = Some(epoch);
        Some((epoch, under.durable, under.is_ending))
    }

    /// Copies a checkpoint; false if it is there already.
    fn copy(&self, copies: &mut Option<Copies>, epoch: u64) -> Result<bool, PortError> {
        let copies = match copies {
            Some(copies) => copies,
            None => {
                let (objects, from) = (self.objects.clone(), self.from.as_ref());
                copies.insert(Copies::open(objects, &self.pipeline, self.retained, from)?)
            }
        };
        if copies.has(epoch) {
            return Ok(false);
        }
        copies.copy(&self.folder, epoch)?;
        Ok(true)
    }

    fn say(&mut self, epoch: u64, error: &PortError, is_given_up: bool) {
        let url = &self.objects.url;
        if is_given_up {
            eprint(&format!(
                "note: `{url}` has no copy of the last checkpoint, {epoch}: {error}; the next run \
                 tries again\n"
            ));
        } else if !std::mem::replace(&mut self.has_said, true) {
            eprint(&format!(
                "note: checkpoint {epoch} could not be copied to `{url}`: {error}; it is tried \
                 again, and the run goes on\n"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keeper::Keeper;
    use super::super::remote;
    use super::*;
    use crate::flow::epochs::{Checkpoint, Share, Store};

    fn write(keeper: &Keeper, epoch: u64) {
        let share = Share {
            written: vec![("image".into(), Arc::new(vec![epoch as u8; 100]))],
            linked: vec![("table-1".into(), keeper.folder.path.with_file_name("table-1"))],
            ..Share::default()
        };
        keeper.write(&Checkpoint { epoch, positions: vec![] }, &[share]).unwrap();
    }

    fn keeper(dir: &std::path::Path) -> Keeper {
        std::fs::write(dir.join("table-1"), [7; 5000]).unwrap();
        Keeper::new(dir, "p", 1)
    }

    fn objects(dir: &std::path::Path) -> Arc<Objects> {
        let place = dir.join("far");
        Arc::new(Objects::open(place.to_str().unwrap(), &[]).unwrap())
    }

    fn copier(keeper: &mut Keeper, objects: &Arc<Objects>, from: Option<Manifest>) -> Copier {
        let folder = keeper.folder.clone();
        let copier = Copier::start(objects.clone(), folder, "p", 2, from).unwrap();
        keeper.tell(copier.outgoing.clone());
        copier
    }

    #[test]
    fn the_last_one_arrives_old_ones_go_and_what_is_shared_is_sent_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut keeper, objects) = (keeper(dir.path()), objects(dir.path()));
        let running = copier(&mut keeper, &objects, None);
        for epoch in 1..=9 {
            write(&keeper, epoch);
        }
        let outgoing = running.outgoing.clone();
        running.finish();
        let counts = outgoing.counts();
        assert_eq!((counts.failed, counts.behind), (0, 0), "{counts:?}");
        let there = remote::epochs(&objects).unwrap();
        assert_eq!(there[0], 9);
        assert!(there.len() <= 2, "{there:?}");
        let files = objects.list("files").unwrap();
        assert_eq!(files.iter().filter(|(_, len)| *len == 5000).count(), 1, "{files:?}");
        assert_eq!(files.len(), there.len() + 1, "{files:?}");

        // Back on another machine.
        let folder = Folder { path: dir.path().join("back") };
        std::fs::create_dir(&folder.path).unwrap();
        remote::fetch(&objects, 9, &folder).unwrap();
        let found = folder.read(9).unwrap();
        assert_eq!(found.shards[0].read[0].1, vec![9; 100]);
        assert_eq!(found.shards[0].unread, ["table-1"]);

        // Goes on from 9: nothing is sent again, nothing set aside.
        let from = keeper.folder.read_manifest(9).unwrap();
        let running = copier(&mut keeper, &objects, Some(from));
        let outgoing = running.outgoing.clone();
        running.finish();
        assert_eq!(outgoing.counts(), RemoteCount::default());

        // From an older one: what was newer is of another past, and kept.
        let mut from = keeper.folder.read_manifest(9).unwrap();
        from.epoch = 5;
        Copies::open(objects.clone(), "p", 2, Some(&from)).unwrap();
        assert!(objects.list("aside-1").unwrap().iter().any(|(name, _)| name.contains("0009")));
        assert_eq!(objects.list("files").unwrap(), files);
        assert!(!remote::epochs(&objects).unwrap().contains(&9));
        let other = Copies::open(objects, "q", 2, None).err().unwrap().to_string();
        assert!(other.contains("pipeline `p`"), "{other}");
    }

    #[test]
    fn damage_in_the_far_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (mut keeper, objects) = (keeper(dir.path()), objects(dir.path()));
        let running = copier(&mut keeper, &objects, None);
        write(&keeper, 1);
        running.finish();
        let table =
            objects.list("files").unwrap().into_iter().find(|(_, len)| *len == 5000).unwrap();
        objects.put(&table.0, vec![8; 5000]).unwrap();
        let folder = Folder { path: dir.path().join("back") };
        std::fs::create_dir(&folder.path).unwrap();
        let error = remote::fetch(&objects, 1, &folder).unwrap_err();
        assert!(matches!(error, PortError::Data(_)) && error.to_string().contains(&table.0));
        objects.remove(&table.0).unwrap();
        std::fs::remove_dir_all(&folder.path).unwrap();
        std::fs::create_dir(&folder.path).unwrap();
        let error = remote::fetch(&objects, 1, &folder).unwrap_err();
        assert!(matches!(error, PortError::Data(_)), "{error}");
    }

    #[test]
    fn what_cannot_be_copied_is_counted_and_given_up_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut keeper, objects) = (keeper(dir.path()), objects(dir.path()));
        // A file where the place's folder of objects should be.
        std::fs::write(dir.path().join("far/files"), "x").unwrap();
        let running = copier(&mut keeper, &objects, None);
        write(&keeper, 1);
        let outgoing = running.outgoing.clone();
        running.finish();
        let counts = outgoing.counts();
        assert!(counts.copied == 0 && counts.failed >= 3 && counts.behind == 1, "{counts:?}");
    }
}
