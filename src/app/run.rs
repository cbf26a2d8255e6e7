//! `cutwater run`: the pipeline file, the engine, and what is said about it.

use std::sync::Arc;
use std::time::Instant;

use super::arguments::Run;
use super::engine::{self, Job, Live};
use super::load::load;
use super::progress::{Progress, Style};
use super::report::Report;
use super::{FAILED, OK, WRONG, eprint, rules, signals, stderr_is_styled, summary, usage};

/// Runs a pipeline; gives the exit code.
pub fn run(arguments: &Run) -> u8 {
    let start = Instant::now();
    let loaded = load(&arguments.pipeline);
    let styled = stderr_is_styled();
    eprint(&loaded.shown(styled));
    let unbuilt = loaded.unbuilt(styled);
    let Some(pipeline) = loaded.pipeline else {
        return WRONG;
    };
    if !unbuilt.is_empty() {
        eprint(&unbuilt);
        return WRONG;
    }
    if let Some(report) = &arguments.report
        && let Err(error) = std::fs::write(report, "")
    {
        // Found out before the run, not after it.
        eprint(&format!("error: cannot write the report to `{}`: {error}\n", report.display()));
        return WRONG;
    }
    let stop = match signals::stop_flag() {
        Ok(stop) => stop,
        Err(error) => {
            eprint(&format!("error: cannot listen for signals: {error}\n"));
            return FAILED;
        }
    };
    let name = pipeline.name.clone();
    let live = Arc::new(Live::new(&pipeline));
    let watch = match rules::Watch::start(&pipeline) {
        Ok(watch) => watch,
        Err(error) => {
            eprint(&format!("error: cannot watch the rules: {error}\n"));
            return FAILED;
        }
    };
    let restore = arguments.restore.clone();
    let job = Job { pipeline, restore, stop, live: live.clone(), started: start };
    let seen = live.clone();
    let progress = Progress::start(Style::choose(arguments.quiet), &name, move || seen.counts());
    let outcome = engine::run(job);
    drop(progress);
    drop(watch);
    let report = Report::new(
        &name,
        live.shards(),
        start.elapsed().as_secs_f64(),
        live.counts(),
        usage::cpu_s(),
        usage::peak_rss_bytes(),
    );
    if !arguments.quiet {
        eprint(&summary::summary(&report));
    }
    let mut code = OK;
    if let Some(path) = &arguments.report
        && let Err(error) = std::fs::write(path, report.to_json())
    {
        eprint(&format!("error: cannot write the report to `{}`: {error}\n", path.display()));
        code = FAILED;
    }
    match outcome {
        Ok(()) => code,
        Err(error) => {
            eprint(&format!("error: {error}\n"));
            error.exit_code()
        }
    }
}
