//! Floor 6: the command. It reads arguments and the pipeline file, starts the engine, shows how far
//! it is, and says at the end what it did. The only floor that knows both `plan` and `edge`.

pub mod arguments;
pub mod by_folder;
pub mod catalogue;
pub mod checkpoints;
pub mod connect;
pub mod engine;
pub mod explain;
pub mod load;
pub mod progress;
pub mod report;
pub mod rules;
mod run;
mod scratch;
pub mod signals;
pub mod state;
mod state_folder;
pub mod summary;
pub mod test;
pub mod usage;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command, DiagnosticFormat, GraphFormat};
use load::{Loaded, load};

/// All went well.
pub const OK: u8 = 0;
/// The run failed.
pub const FAILED: u8 = 1;
/// The file or the arguments are wrong.
pub const WRONG: u8 = 2;

/// The command, from the process's arguments to its exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" that go to standard output with code 0. There is
            // nowhere left to report that printing failed.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let code = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Validate(arguments) => {
            let loaded = load(&arguments.pipeline);
            match arguments.format {
                DiagnosticFormat::Human => validate_for_people(&loaded),
                DiagnosticFormat::Json => print(&loaded.json_with_unbuilt()),
            }
            if loaded.pipeline.is_some() { OK } else { WRONG }
        }
        Command::Graph(arguments) => {
            let loaded = load(&arguments.pipeline);
            eprint(&loaded.shown(stderr_is_styled()));
            match (&loaded.pipeline, arguments.format) {
                (None, _) => WRONG,
                (Some(pipeline), format) => {
                    print(&match format {
                        GraphFormat::Mermaid => crate::plan::render::mermaid(pipeline),
                        GraphFormat::Dot => crate::plan::render::dot(pipeline),
                    });
                    OK
                }
            }
        }
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Checkpoint(command) => checkpoints::command::checkpoint(&command),
        Command::State(command) => state::state(&command),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "cutwater", &mut out);
            print(&String::from_utf8_lossy(&out));
            OK
        }
    };
    ExitCode::from(code)
}

fn validate_for_people(loaded: &Loaded) {
    eprint(&loaded.shown_with_unbuilt(stderr_is_styled()));
    if let Some(pipeline) = &loaded.pipeline {
        let counts = [
            (pipeline.sources.len(), "source"),
            (pipeline.transforms.len(), "transform"),
            (pipeline.sinks.len(), "sink"),
        ];
        let counts = counts.map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }));
        print(&format!("{}: valid: {}\n", loaded.path, counts.join(", ")));
    }
}

/// Whether standard error takes colours.
pub fn stderr_is_styled() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Writes to standard output. A reader that went away has seen what it wanted to.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error; if that is closed there is nobody to tell.
pub fn eprint(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
