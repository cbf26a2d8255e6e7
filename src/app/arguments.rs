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
        `cutwater validate` says what is wrong with it, `cutwater graph` draws it.",
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

Signals: the first SIGINT or SIGTERM ends the run in order (exit code 0), the second one at once (130)."
)]
pub struct Run {
    #[command(flatten)]
    pub pipeline: PipelineArguments,

    /// What to go on from: the latest checkpoint, nothing, or a checkpoint's folder
    ///
    /// `latest` starts afresh where there is no checkpoint. `none` sets the old state and output
    /// of this `data_dir` aside.
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

/// How a pipeline is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// As Markdown pages show it
    Mermaid,
    /// Graphviz
    Dot,
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
}
