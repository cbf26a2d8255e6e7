//! `[engine]`, `[checkpoint]` and `[state]`: defaults, ranges, addresses.

use crate::ground::limits::{BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, SHARDS_MAX};
use crate::plan::code::Code;
use crate::plan::diagnostic::{Diagnostic, Diagnostics, Spanned};
use crate::plan::graph::{
    Backend, CheckpointSettings, Compression, Cores, EngineSettings, Mode, Profile, StateSettings,
    Unaligned,
};
use crate::plan::raw::reader::Millis;
use crate::plan::raw::settings as raw;

/// What a duration may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Any,
    NotNegative,
    Positive,
}

/// A duration in ms, if its sign is right.
pub fn millis(
    key: &str,
    duration: &Spanned<Millis>,
    sign: Sign,
    out: &mut Diagnostics,
) -> Option<i64> {
    let ms = duration.value.0;
    let wrong = match sign {
        Sign::Positive if ms <= 0 => "must be longer than nothing",
        Sign::NotNegative if ms < 0 => "must not be negative",
        _ => return Some(ms),
    };
    out.add(Diagnostic::error(Code::OutOfRange, duration.span, format!("`{key}` {wrong}")));
    None
}

/// A duration with a default, if its sign is right.
pub fn millis_or(
    key: &str,
    duration: &Option<Spanned<Millis>>,
    default: i64,
    sign: Sign,
    out: &mut Diagnostics,
) -> i64 {
    let given = duration.as_ref().and_then(|duration| millis(key, duration, sign, out));
    given.unwrap_or(default)
}

/// A number from `low` to `high`.
pub fn number(
    key: &str,
    number: &Spanned<i64>,
    low: i64,
    high: i64,
    out: &mut Diagnostics,
) -> Option<i64> {
    if (low..=high).contains(&number.value) {
        return Some(number.value);
    }
    let message = if high == i64::MAX {
        format!("`{key}` must be at least {low}")
    } else {
        format!("`{key}` must be from {low} to {high}")
    };
    out.add(Diagnostic::error(Code::OutOfRange, number.span, message));
    None
}

fn number_or(
    key: &str,
    given: &Option<Spanned<i64>>,
    default: usize,
    low: i64,
    high: i64,
    out: &mut Diagnostics,
) -> usize {
    let given = given.as_ref().and_then(|given| number(key, given, low, high, out));
    given.map_or(default, |given| given as usize)
}

/// `[engine]` of the pipeline `name`.
pub fn engine(engine: &raw::Engine, name: &str, out: &mut Diagnostics) -> EngineSettings {
    let http = engine.http.as_ref().and_then(|http| match http.value.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!("`{}` is not an address to listen at", http.value);
            let wrong = Diagnostic::error(Code::OutOfRange, http.span, message);
            out.add(wrong.hint("write an IP address and a port, `\"127.0.0.1:8081\"`"));
            None
        }
    });
    let rows_max = BATCH_ROWS_MAX as i64;
    EngineSettings {
        cores: cores(engine, out),
        data_dir: match &engine.data_dir {
            Some(dir) => dir.value.clone(),
            None => format!("data/{name}"),
        },
        batch_rows: number_or(
            "batch_rows",
            &engine.batch_rows,
            BATCH_ROWS_DEFAULT,
            1,
            rows_max,
            out,
        ),
        batch_timeout_ms: millis_or(
            "batch_timeout",
            &engine.batch_timeout,
            5,
            Sign::NotNegative,
            out,
        ),
        http,
    }
}

fn cores(engine: &raw::Engine, out: &mut Diagnostics) -> Cores {
    let Some(cores) = &engine.cores else {
        return Cores::All;
    };
    let most = SHARDS_MAX as i64;
    let wrong = |message: String| Diagnostic::error(Code::OutOfRange, cores.span, message);
    match &cores.value {
        raw::Cores::All => Cores::All,
        raw::Cores::Count(count) if (1..=most).contains(count) => Cores::Count(*count as usize),
        raw::Cores::Count(_) => {
            out.add(wrong(format!("`cores` must be from 1 to {most}")));
            Cores::All
        }
        raw::Cores::List(list) => {
            let twice = |at: usize| list[..at].contains(&list[at]);
            if list.is_empty() || list.len() > SHARDS_MAX {
                out.add(wrong(format!("`cores` must name from 1 to {most} processors")));
            } else if let Some(id) = list.iter().find(|id| !(0..4096).contains(*id)) {
                out.add(wrong(format!("`{id}` cannot be the id of a processor")));
            } else if let Some(at) = (0..list.len()).find(|at| twice(*at)) {
                out.add(wrong(format!("processor {} is named twice", list[at])));
            }
            Cores::List(list.iter().map(|id| (*id).max(0) as usize).collect())
        }
    }
}

/// `[checkpoint]`.
pub fn checkpoint(
    checkpoint: Option<&raw::Checkpoint>,
    out: &mut Diagnostics,
) -> CheckpointSettings {
    let mut settings = CheckpointSettings {
        is_given: checkpoint.is_some(),
        interval_ms: None,
        mode: Mode::ExactlyOnce,
        timeout_ms: 60_000,
        min_pause_ms: 0,
        tolerable_failures: 3,
        retained: 2,
        unaligned: Unaligned::Never,
        remote: None,
    };
    let Some(given) = checkpoint else {
        return settings;
    };
    let interval = given.interval.as_ref();
    settings.interval_ms = interval.and_then(|ms| millis("interval", ms, Sign::Positive, out));
    if let Some(mode) = &given.mode {
        settings.mode = mode.value;
    }
    let timeout = millis_or("timeout", &given.timeout, settings.timeout_ms, Sign::Positive, out);
    settings.timeout_ms = timeout;
    settings.min_pause_ms = millis_or("min_pause", &given.min_pause, 0, Sign::NotNegative, out);
    let most = i64::from(u32::MAX);
    settings.tolerable_failures =
        number_or("tolerable_failures", &given.tolerable_failures, 3, 0, most, out);
    settings.retained = number_or("retained", &given.retained, 2, 1, 10_000, out);
    settings.unaligned = match given.unaligned.as_ref().map(|given| given.value) {
        None | Some(raw::Unaligned::Never) => Unaligned::Never,
        Some(raw::Unaligned::Always) => Unaligned::Always,
        Some(raw::Unaligned::After(ms)) => Unaligned::AfterMs(ms.0),
    };
    settings.remote = given.remote.as_ref().map(|remote| remote.value.clone());
    settings
}

/// `[state]`.
pub fn state(state: &raw::State, out: &mut Diagnostics) -> StateSettings {
    if let Some(memory) = &state.memory
        && memory.value.0 < 1 << 20
    {
        let message = "`memory` must be at least 1MiB a shard";
        out.add(Diagnostic::error(Code::OutOfRange, memory.span, message));
    }
    StateSettings {
        backend: state.backend.as_ref().map_or(Backend::Lsm, |given| given.value),
        memory_bytes: state.memory.as_ref().map_or(256 << 20, |given| given.value.0),
        profile: state.profile.as_ref().map_or(Profile::Balanced, |given| given.value),
        compression: state.compression.as_ref().map_or(Compression::Lz4, |given| given.value),
    }
}
