//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use cutwater::codec::Format as CodecFormat;
use cutwater::edge::generator::WorkloadOptions;
use cutwater::ground::time::parse_duration;

const EXAMPLES: &str = "\
Examples:
  loadgen transactions --rows 1M -o data/transactions.jsonl
  loadgen transactions --rows 10M --users 1M --format native -o data/transactions.cutwater
  loadgen transactions --rows 5M --late 0.1 --late-by 30m -o data/late.jsonl.zst
  loadgen profiles -o data/profiles.jsonl
  loadgen transactions --rows 1000 | head -3

The profiles of a workload are those of the transactions with the same --seed and --users.";

/// Writes workloads to try Cutwater on. The same arguments give the same bytes, on any machine of
/// one kind, and the rows are those of the engine's own `generator` source.
#[derive(Parser)]
#[command(name = "loadgen", version, after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Payment transactions, fraud among them
    ///
    /// Columns: txn_id, user_id, merchant_id, amount, country, type, ts. Users and merchants are
    /// Zipf-distributed, amounts log-normal around the user's average. In every 4096 rows some user
    /// falls victim to each of: five small amounts in a row, two countries within minutes, a
    /// password change and then a large withdrawal, five small amounts and then a large withdrawal.
    #[command(after_long_help = EXAMPLES)]
    Transactions(Transactions),
    /// The users of the transactions: user_id, avg_amount, home_country
    ///
    /// One row a user, in the order of ids. Give the --seed and --users of the transactions.
    #[command(after_long_help = EXAMPLES)]
    Profiles(Profiles),
}

#[derive(ClapArgs)]
pub struct Transactions {
    /// Rows to write: a number, or one with k, M or G behind it
    #[arg(long, value_parser = count, value_name = "N")]
    pub rows: u64,
    #[command(flatten)]
    pub users: Users,
    /// Merchants have the ids 1 to N, the first the most frequent
    #[arg(long, value_parser = count, value_name = "N", default_value = "10k")]
    pub merchants: u64,
    /// How unevenly users take part: the exponent of their Zipf distribution, 0 for evenly
    #[arg(long, value_name = "Z", default_value_t = 1.0)]
    pub skew: f64,
    /// Rows a second of event time
    #[arg(long, value_name = "R", default_value_t = 28.0)]
    pub rate: f64,
    /// Share of rows that come late, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub late: f64,
    /// How late at most
    #[arg(long, value_parser = duration, value_name = "DURATION", default_value = "2h")]
    pub late_by: i64,
    /// How far the other rows are out of order at most; a watermark delay of this loses none
    #[arg(long, value_parser = duration, value_name = "DURATION", default_value = "5s")]
    pub disorder: i64,
    /// Event time of the first row, in milliseconds since 1970
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 1_700_000_000_000,
        allow_hyphen_values = true
    )]
    pub start_ts: i64,
    #[command(flatten)]
    pub target: Target,
}

#[derive(ClapArgs)]
pub struct Profiles {
    #[command(flatten)]
    pub users: Users,
    #[command(flatten)]
    pub target: Target,
}

#[derive(ClapArgs)]
pub struct Users {
    /// Another seed, another workload
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Users have the ids 1 to N
    #[arg(long, value_parser = count, value_name = "N", default_value = "100k")]
    pub users: u64,
}

#[derive(ClapArgs)]
pub struct Target {
    /// How rows are written
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub format: Format,
    /// The file to write, `-` for standard output; packed if its name ends in .gz or .zst
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: String,
    /// Show no progress bar
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// A JSON object a line
    Json,
    /// Comma-separated values below a line of names
    Csv,
    /// Batches as the engine maps and reads them in place
    Native,
}

impl Format {
    pub fn codec(self) -> CodecFormat {
        match self {
            Format::Json => CodecFormat::Json,
            Format::Csv => CodecFormat::Csv,
            Format::Native => CodecFormat::Native,
        }
    }
}

impl Args {
    pub fn target(&self) -> &Target {
        match &self.command {
            Command::Transactions(transactions) => &transactions.target,
            Command::Profiles(profiles) => &profiles.target,
        }
    }
}

impl Transactions {
    pub fn workload(&self) -> WorkloadOptions {
        WorkloadOptions {
            seed: self.users.seed,
            users: self.users.users,
            merchants: self.merchants,
            skew: self.skew,
            rate: self.rate,
            start_ms: self.start_ts,
            disorder_ms: self.disorder,
            late: self.late,
            late_by_ms: self.late_by,
        }
    }
}

impl Profiles {
    pub fn workload(&self) -> WorkloadOptions {
        WorkloadOptions {
            seed: self.users.seed,
            users: self.users.users,
            ..WorkloadOptions::default()
        }
    }
}

/// Reads `1000`, `1_000`, `10k`, `5M`, `2G`.
fn count(text: &str) -> Result<u64, String> {
    let hint = "a count is a whole number, with k, M or G behind it for thousands and more";
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = digits.replace('_', "").parse().map_err(|_| hint.to_string())?;
    number.checked_mul(factor).ok_or_else(|| hint.to_string())
}

fn duration(text: &str) -> Result<i64, String> {
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn counts_are_read_with_and_without_a_unit() {
        for (text, expected) in [("7", 7), ("1_000", 1_000), ("10k", 10_000), ("5M", 5_000_000)] {
            assert_eq!(count(text), Ok(expected));
        }
        for wrong in ["", "k", "1.5M", "-1", "99999999999G"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
