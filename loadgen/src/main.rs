//! Writes workloads to try Cutwater on: the transactions of the built-in generator and their
//! users' profiles, as JSON lines, CSV or native files.
//!
//! 1. Equal arguments give equal bytes.
//! 2. A file appears whole or not at all: it is written under a hidden name and renamed.

mod args;
mod output;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use cutwater::codec::{self, EncodeOptions};
use cutwater::edge::generator::{GeneratorOptions, Rows, Table};
use cutwater::ground::batch::BatchBuilder;
use cutwater::ground::limits::BATCH_ROWS_DEFAULT;
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use args::Args;
use output::Output;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has had enough, as `head` does: that is how it says so.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.root_cause().downcast_ref::<io::Error>().is_some_and(of)
}

/// What one run writes.
struct Job {
    options: GeneratorOptions,
    rows: u64,
}

fn job(args: &Args) -> Job {
    let (table, rows, workload) = match &args.command {
        args::Command::Transactions(transactions) => {
            (Table::Transactions, transactions.rows, transactions.workload())
        }
        args::Command::Profiles(profiles) => {
            (Table::Profiles, profiles.users.users, profiles.workload())
        }
    };
    Job {
        options: GeneratorOptions { table, workload, rows: Some(rows), rows_per_second: None },
        rows,
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let job = job(args);
    let rows = Rows::new(&job.options).context("wrong options")?;
    let target = args.target();
    let encode_options = EncodeOptions { csv_header: true, ..EncodeOptions::default() };
    let mut encoder = codec::encoder(target.format.codec(), &rows.schema(), &encode_options)?;
    let mut output = Output::create(&target.output)?;
    let progress = progress(job.rows, target.quiet);
    let mut builder = BatchBuilder::new(rows.schema().width(), BATCH_ROWS_DEFAULT);
    let all: Vec<u32> = (0..BATCH_ROWS_DEFAULT as u32).collect();
    let mut text = Vec::new();
    encoder.head(&mut text);
    let mut next = 0;
    while next < job.rows {
        let end = job.rows.min(next + BATCH_ROWS_DEFAULT as u64);
        rows.fill(next, end, &mut builder);
        let batch = builder.finish();
        encoder.encode(&batch, &all[..batch.rows()], &mut text);
        builder.recycle(batch);
        output.write(&text)?;
        text.clear();
        progress.inc(end - next);
        next = end;
    }
    output.write(&text)?;
    let bytes = output.finish()?;
    progress.finish_and_clear();
    if !progress.is_hidden() {
        eprintln!(
            "{} rows, {} to {} in {}",
            HumanCount(job.rows),
            HumanBytes(bytes),
            target.output,
            HumanDuration(progress.elapsed())
        );
    }
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
fn progress(rows: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let form = "{wide_bar} {human_pos}/{human_len} rows  {per_sec}  {eta} left";
    let style = ProgressStyle::with_template(form).expect("the template is well formed");
    ProgressBar::new(rows).with_style(style)
}
