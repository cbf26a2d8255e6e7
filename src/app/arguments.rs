//! The command line, as typed. What it means is the business of the modules that get it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "cutwater",
    version,
    about = "A stream engine for one machine",
    long_about = "A stream engine for one machine: event time, windows and patterns, one pinned shard per core.\n\n\
        A pipeline is one TOML file that wires sources, transforms and sinks. `cutwater \
        run` runs it, \
        `cutwater validate` says what is wrong with it, `cutwater graph` draws it, `cutwater \
        test` runs its tests, `cutwater \
        checkpoint` looks after what a run keeps.",
    after_help = EXAMPLES,
    disable_help_subcommand = true
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cutwater run configs/fraud.toml
  cutwater run configs/fraud.toml --set engine.cores=2 --report report.json
  cutwater run configs/fraud.toml --set sources.transactions.path='data/*.jsonl'
  cutwater validate configs/fraud.toml --format json
  cutwater graph configs/fraud.toml --format dot | dot -Tsvg > fraud.svg
  cutwater explain configs/fraud.toml
  cutwater test configs/fraud.toml
  cutwater checkpoint list configs/fraud.toml

Exit codes: 0 all went well, 1 a failure while running, 2 a wrong file or wrong arguments.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline
    Run(Run),
    /// Check a pipeline file and say everything that is wrong with it
    Validate(Validate),
    /// Draw a pipeline
    Graph(Graph),
    /// Draw the automata of a pipeline's patterns
    Explain(Explain),
    /// Run the tests that a pipeline file has
    Test(Test),
    /// Look at the checkpoints of a pipeline, check them, keep one
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Look into the keyed state of a checkpoint
    #[command(subcommand)]
    State(StateCommand),
    /// Print the completions of a shell
    #[command(after_help = "\
Examples:
  cutwater completions bash > ~/.local/share/bash-completion/completions/cutwater
  cutwater completions zsh  > ~/.zfunc/_cutwater
  cutwater completions fish > ~/.config/fish/completions/cutwater.fish")]
    Completions {
        /// Whose completions
        shell: clap_complete::Shell,
    },
}

/// A pipeline file and what is set over it.
#[derive(Debug, Args)]
pub struct PipelineArguments {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Set a key of the file: `engine.cores=2`
    ///
    /// PATH is the keys from the outermost in, joined by dots; an element of an array is its
    /// number. VALUE is read as TOML where it is TOML, and as a plain string where it is not, so
    /// that strings need no quotes. May be given several times; later ones win.
    #[arg(long = "set", value_name = "PATH=VALUE", verbatim_doc_comment)]
    pub set: Vec<String>,
}

/// `cutwater run`.
#[derive(Debug, Args)]
#[command(
    long_about = "Run a pipeline until every bounded source is done, or until SIGINT or SIGTERM.\n\n\
        On a terminal a live line shows how far it is; elsewhere one line every 10 s does. \
        A summary on standard error closes the run.",
    after_help = "\
Examples:
  cutwater run configs/fraud.toml
  cutwater run configs/fraud.toml --set engine.cores='[2, 3]' --quiet
  cutwater run configs/fraud.toml --restore none --report report.json
  cutwater run configs/fraud.toml --restore data/fraud/checkpoints/0000000012.json
  cutwater run configs/fraud.toml --restore s3://bucket/fraud

Signals: the first SIGINT or SIGTERM ends the run in order (exit code 0), the second one at once (130)."
)]
pub struct Run {
    #[command(flatten)]
    pub pipeline: PipelineArguments,

    /// What to go on from: the latest checkpoint, nothing, or a checkpoint elsewhere
    ///
    /// `latest` starts afresh where there is no checkpoint, here or in `checkpoint.remote`. `none`
    /// sets the old state and output of this `data_dir` aside. PATH is a checkpoint's manifest or
    /// folder, a savepoint, a `data_dir` (its newest whole checkpoint), or the address of a remote
    /// copy; what is newer here is set aside, never deleted.
    #[arg(long, value_name = "latest|none|PATH", default_value = "latest")]
    pub restore: Restore,

    /// Write a report of the run as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Show neither progress nor summary
    #[arg(long, short)]
    pub quiet: bool,
}

/// What a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// The newest checkpoint of the `data_dir`, or nothing if there is none.
    Latest,
    /// Nothing: old state is set aside.
    None,
    /// This checkpoint.
    Path(PathBuf),
}

impl std::str::FromStr for Restore {
    type Err = String;

    fn from_str(text: &str) -> Result<Restore, String> {
        Ok(match text {
            "latest" => Restore::Latest,
            "none" => Restore::None,
            "" => return Err("it is `latest`, `none` or the path of a checkpoint".into()),
            path => Restore::Path(path.into()),
        })
    }
}

/// `cutwater validate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater validate configs/fraud.toml
  cutwater validate configs/fraud.toml --format json | jq .message

All errors are reported at once; docs/errors.md explains their codes.")]
pub struct Validate {
    #[command(flatten)]
    pub pipeline: PipelineArguments,

    /// For people, or one JSON object a line for editors
    #[arg(long, value_enum, default_value_t = DiagnosticFormat::Human)]
    pub format: DiagnosticFormat,
}

/// How errors are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiagnosticFormat {
    /// Text, with the place marked
    Human,
    /// One JSON object a line: code, message, file, line, column, end, hint
    Json,
}

/// `cutwater graph`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater graph configs/fraud.toml
  cutwater graph configs/fraud.toml --format dot | dot -Tsvg > fraud.svg")]
pub struct Graph {
    #[command(flatten)]
    pub pipeline: PipelineArguments,

    /// The language to draw in
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub format: GraphFormat,
}

/// `cutwater explain`.
#[derive(Debug, Args)]
#[command(
    long_about = "Draw the automaton of each pattern of a pipeline, as Mermaid.\n\n\
        A state says for which step it takes a row. A row can be taken (a solid arrow), passed \
        over (a dotted one), or be tried at another state as if it stood there (a thick one: \
        what may be left out, or is done). Comments say how the pattern is run.",
    after_help = "\
Examples:
  cutwater explain configs/fraud.toml
  cutwater explain configs/fraud.toml --pattern small_then_large"
)]
pub struct Explain {
    #[command(flatten)]
    pub pipeline: PipelineArguments,

    /// Only the pattern of this name
    #[arg(long, value_name = "NAME")]
    pub pattern: Option<String>,
}

/// `cutwater test`.
#[derive(Debug, Args)]
#[command(
    long_about = "Run the [[tests]] of a pipeline file: rows in, rows expected out.\n\n\
        Each test is a run of the whole pipeline on one shard, with its rows instead of what the \
        sources read. No connector of the file is opened. Rows are compared without regard to \
        their order; columns that an expected row does not name are NULL.",
    after_help = "\
Examples:
  cutwater test configs/fraud.toml
  cutwater test configs/fraud.toml --filter alert
  cutwater test configs/fraud.toml --set engine.batch_rows=1

Exit codes: 0 all passed, 1 one failed, 2 a wrong file or wrong arguments."
)]
pub struct Test {
    #[command(flatten)]
    pub pipeline: PipelineArguments,

    /// Only tests with this text in their names
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

/// How a pipeline is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// As Markdown pages show it
    Mermaid,
    /// Graphviz
    Dot,
}

/// Whose checkpoints.
#[derive(Debug, Args)]
pub struct PlaceArguments {
    /// A pipeline file, its `data_dir`, a savepoint or a checkpoint's manifest
    #[arg(value_name = "FILE|DATA_DIR")]
    pub place: PathBuf,

    /// Set a key of the pipeline file, as in `cutwater run`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

impl PlaceArguments {
    /// The pipeline file, if it is one.
    pub fn pipeline(&self) -> PipelineArguments {
        PipelineArguments { file: self.place.clone(), set: self.set.clone() }
    }
}

/// `cutwater checkpoint`. All of it may be called while the pipeline runs.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum CheckpointCommand {
    /// A line for each checkpoint, the newest first: when, how large, where sources stood, whole?
    List(ListCheckpoints),
    /// What a checkpoint consists of
    Show(ShowCheckpoint),
    /// Read every file and name what is damaged, with its place
    Verify(VerifyCheckpoints),
    /// Keep a checkpoint: a copy that needs nothing else
    Savepoint(Savepoint),
}

/// `cutwater checkpoint list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater checkpoint list configs/fraud.toml
  cutwater checkpoint list data/fraud --format json | jq 'select(.whole) | .epoch'

WRITTEN is what was written for the checkpoint, FULL what it needs in all; the rest it shares with
older ones. SOURCES says behind how many blocks of rows each source stood; `-` cannot go back.")]
pub struct ListCheckpoints {
    #[command(flatten)]
    pub place: PlaceArguments,

    /// Look at manifests and lengths only, instead of reading every file
    #[arg(long)]
    pub quick: bool,

    /// For people, or one JSON object a line
    #[arg(long, value_enum, default_value_t = DiagnosticFormat::Human)]
    pub format: DiagnosticFormat,
}

/// `cutwater checkpoint show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater checkpoint show data/fraud
  cutwater checkpoint show configs/fraud.toml 12 --format json | jq '.files[].name'")]
pub struct ShowCheckpoint {
    #[command(flatten)]
    pub place: PlaceArguments,

    /// Which one; the newest if none is named
    pub epoch: Option<u64>,

    /// For people, or the manifest as JSON
    #[arg(long, value_enum, default_value_t = DiagnosticFormat::Human)]
    pub format: DiagnosticFormat,
}

/// `cutwater checkpoint verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater checkpoint verify data/fraud
  cutwater checkpoint verify savepoints/before-upgrade

Every block of 64 KiB has a checksum; a damaged one is named by file and place.
Exit codes: 0 all is whole, 1 something is damaged or there is no checkpoint, 2 wrong arguments.")]
pub struct VerifyCheckpoints {
    #[command(flatten)]
    pub place: PlaceArguments,

    /// Which one; all if none is named
    pub epoch: Option<u64>,

    /// For people, or one JSON object a line
    #[arg(long, value_enum, default_value_t = DiagnosticFormat::Human)]
    pub format: DiagnosticFormat,
}

/// `cutwater checkpoint savepoint`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater checkpoint savepoint data/fraud savepoints/before-upgrade
  cutwater run configs/fraud.toml --restore savepoints/before-upgrade

The copy is durable and checked when the command ends. It needs neither the `data_dir` nor any
other checkpoint.")]
pub struct Savepoint {
    #[command(flatten)]
    pub place: PlaceArguments,

    /// A new folder
    pub dest: PathBuf,

    /// Which one; the newest whole one if none is named
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,

    /// Link files instead of copying them, where the file system is the same: takes no room, but
    /// damage of one is damage of both
    #[arg(long)]
    pub link: bool,
}

/// Which checkpoint is looked into, and how what is found is shown.
#[derive(Debug, Args)]
pub struct StateArguments {
    #[command(flatten)]
    pub place: PlaceArguments,

    /// The pipeline file, where FILE|DATA_DIR is not that itself
    ///
    /// What a checkpoint has of a key is bytes; the file says which columns, types and steps they
    /// stand for. `--set` is about this file then.
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,

    /// Which checkpoint; the newest whole one if none is named
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,

    /// For people, or one JSON object a line
    #[arg(long, value_enum, default_value_t = DiagnosticFormat::Human)]
    pub format: DiagnosticFormat,
}

/// `cutwater state`. Nothing that is looked at changes.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum StateCommand {
    /// What a transform keeps for one key
    #[command(after_help = "\
Examples:
  cutwater state get configs/fraud.toml takeover user_id=4711
  cutwater state get savepoints/before-upgrade --pipeline configs/fraud.toml risk user_id=4711

A value is written as in CSV: TIMESTAMP as milliseconds or RFC 3339, BYTES as base64; nothing behind
the `=` is NULL, `\"\"` the empty text.
Exit codes: 0 the key is known, 1 it is not, or the checkpoint is damaged, 2 wrong arguments.")]
    Get {
        #[command(flatten)]
        of: StateArguments,
        /// The transform, as the pipeline file names it
        component: String,
        /// The key: COLUMN=VALUE for each of its columns
        #[arg(value_name = "COLUMN=VALUE", required = true)]
        key: Vec<String>,
    },
    /// What a transform keeps, key by key, in no order
    #[command(after_help = "\
Examples:
  cutwater state scan configs/fraud.toml takeover --limit 10
  cutwater state scan configs/fraud.toml risk --format json | jq .key.user_id")]
    Scan {
        #[command(flatten)]
        of: StateArguments,
        /// The transform, as the pipeline file names it
        component: String,
        /// So many keys at most
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// How many keys and bytes each transform keeps, and its largest key
    #[command(after_help = "\
Example:
  cutwater state stats configs/fraud.toml

IN MEMORY and IN STORE are keys, by where they were when the checkpoint was made; BYTES is what they
take when they are saved.")]
    Stats {
        #[command(flatten)]
        of: StateArguments,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_run_is_read() {
        let typed = "cutwater run a.toml --set a.b=1 --set c=x --restore none --report r.json -q";
        let Command::Run(run) = Arguments::parse_from(typed.split(' ')).command else {
            panic!("it says run");
        };
        assert_eq!(run.pipeline.set, ["a.b=1", "c=x"]);
        assert_eq!(run.restore, Restore::None);
        assert_eq!(run.report, Some("r.json".into()));
        assert!(run.quiet);
    }

    #[test]
    fn what_is_kept_is_asked_for() {
        let read = |typed: &str| Arguments::try_parse_from(typed.split(' ')).map(|a| a.command);
        let saved = read("cutwater checkpoint savepoint data/x to --epoch 3 --link");
        let Ok(Command::Checkpoint(CheckpointCommand::Savepoint(saved))) = saved else {
            panic!("it says savepoint");
        };
        assert_eq!(saved.place.place, PathBuf::from("data/x"));
        assert_eq!((saved.dest, saved.epoch, saved.link), ("to".into(), Some(3), true));
        for good in ["list p.toml --set a.b=1 --quick", "show d 4", "verify d --format json"] {
            assert!(read(&format!("cutwater checkpoint {good}")).is_ok(), "{good}");
        }
        for bad in ["list", "show d x", "savepoint d", "drop d"] {
            let error = read(&format!("cutwater checkpoint {bad}")).err();
            assert_eq!(error.map(|error| error.exit_code()), Some(2), "{bad}");
        }
        for good in ["get d risk a=1 b=2 --epoch 3", "scan d risk --limit 5", "stats d"] {
            assert!(read(&format!("cutwater state {good}")).is_ok(), "{good}");
        }
        assert!(read("cutwater state get d risk").is_err());
    }
}
