//! How many keys and bytes each transform keeps.

use super::find::{self, Checkpoint};
use super::shards::on_shard;
use super::text::key_line;
use super::{Ended, key_of, saved_by};
use crate::app::arguments::{DiagnosticFormat, StateArguments};
use crate::app::checkpoints::command::in_columns;
use crate::app::summary::{bytes, thousands};
use crate::app::{OK, print};
use crate::flow::look::Home;
use crate::flow::stage::Stage;
use crate::plan::graph::Pipeline;
use crate::plan::keyed::{self, KeyedTransform};
use crate::state::shown::Shown;

/// What one transform keeps, or the ordering buffer before several.
struct Kept {
    transforms: Vec<KeyedTransform>,
    is_buffer: bool,
    in_memory: u64,
    in_store: u64,
    bytes: u64,
    largest: Option<(u64, Shown)>,
}

/// `cutwater state stats`.
pub fn stats(of: &StateArguments) -> Result<u8, Ended> {
    let (pipeline, place) = find::place(of)?;
    let checkpoint = Checkpoint::open(of, pipeline, place)?;
    let mut all = all_of(&checkpoint.pipeline);
    for shard in 0..checkpoint.shards() {
        let nothing = all_of(&checkpoint.pipeline);
        let counted = on_shard(&checkpoint, shard, async move |look| {
            let mut all = nothing;
            for kept in &mut all {
                let name = kept.transforms[0].name.clone();
                let Some((at, operator)) = look.stage_of(&name) else { continue };
                let operator = (!kept.is_buffer).then_some(operator);
                let count = |stage: &mut Stage, slots: &[u32], home| {
                    kept.count(stage, operator, slots, home);
                    true
                };
                look.keys(at, count).await?;
            }
            Ok(all)
        })?;
        all.iter_mut().zip(counted).for_each(|(all, counted)| all.add(counted));
    }
    // A buffer that nothing waits in is no news; most transforms have none.
    all.retain(|kept| !kept.is_buffer || kept.bytes > 0);
    match of.format {
        DiagnosticFormat::Json => {
            all.iter().for_each(|kept| print(&format!("{}\n", kept.shown().to_json())));
        }
        DiagnosticFormat::Human => print(&table(&all)),
    }
    Ok(OK)
}

/// Nothing counted yet: a line for each transform, and one for the buffer that each stage may have.
fn all_of(pipeline: &Pipeline) -> Vec<Kept> {
    let transforms = keyed::transforms(pipeline).into_iter();
    let mut all: Vec<Kept> = transforms.map(|of| Kept::new(vec![of], false)).collect();
    for stage in keyed::stages(pipeline) {
        let ordered: Vec<_> = stage.into_iter().filter(|of| of.is_ordered).collect();
        if !ordered.is_empty() {
            all.push(Kept::new(ordered, true));
        }
    }
    all
}

impl Kept {
    fn new(transforms: Vec<KeyedTransform>, is_buffer: bool) -> Kept {
        Kept { transforms, is_buffer, in_memory: 0, in_store: 0, bytes: 0, largest: None }
    }

    fn count(&mut self, stage: &mut Stage, operator: Option<usize>, slots: &[u32], home: Home) {
        for (&slot, saved) in slots.iter().zip(saved_by(stage, operator, slots)) {
            if saved == 0 {
                continue;
            }
            let saved = saved as u64;
            match home {
                Home::Memory => self.in_memory += 1,
                Home::Store => self.in_store += 1,
            }
            self.bytes += saved;
            if self.largest.as_ref().is_none_or(|(most, _)| *most < saved) {
                self.largest = Some((saved, key_of(stage, &self.transforms[0], slot)));
            }
        }
    }

    fn add(&mut self, other: Kept) {
        self.in_memory += other.in_memory;
        self.in_store += other.in_store;
        self.bytes += other.bytes;
        let most = |of: &Option<(u64, Shown)>| of.as_ref().map_or(0, |(bytes, _)| *bytes);
        if most(&other.largest) > most(&self.largest) {
            self.largest = other.largest;
        }
    }

    fn names(&self) -> Vec<&str> {
        self.transforms.iter().map(|of| of.name.as_str()).collect()
    }

    fn what(&self) -> &'static str {
        if self.is_buffer { "waiting rows" } else { self.transforms[0].word }
    }

    fn shown(&self) -> Shown {
        let number = |number: u64| Shown::Integer(number as i64);
        let text = |text: &str| Shown::Text(text.to_string());
        let (name, names) = match self.is_buffer {
            true => ("waiting_for", Shown::List(self.names().into_iter().map(text).collect())),
            false => ("component", text(&self.transforms[0].name)),
        };
        let largest = match &self.largest {
            Some((bytes, key)) => Shown::fields([("key", key.clone()), ("bytes", number(*bytes))]),
            None => Shown::Null,
        };
        let keys = [("memory", number(self.in_memory)), ("store", number(self.in_store))];
        Shown::fields([
            (name, names),
            ("type", text(self.what())),
            ("keys", Shown::fields(keys)),
            ("bytes", number(self.bytes)),
            ("largest", largest),
        ])
    }
}

fn table(all: &[Kept]) -> String {
    let head = ["COMPONENT", "TYPE", "IN MEMORY", "IN STORE", "BYTES", "LARGEST", "ITS KEY"];
    let mut rows = vec![head.map(String::from)];
    for kept in all {
        let (largest, key) = match &kept.largest {
            Some((size, key)) => (bytes(*size), key_line(key)),
            None => ("-".to_string(), "-".to_string()),
        };
        rows.push([
            kept.names().join(", "),
            kept.what().to_string(),
            thousands(kept.in_memory),
            thousands(kept.in_store),
            bytes(kept.bytes),
            largest,
            key,
        ]);
    }
    in_columns(&rows)
}
