//! The `cutwater` command.

fn main() -> std::process::ExitCode {
    cutwater::app::main()
}
