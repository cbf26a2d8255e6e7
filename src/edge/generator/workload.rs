//! The built-in workload: payment transactions with fraud among them, and their users' profiles.
//!
//! 1. Row n is a pure function of the options and n. Any stretch of rows can be made by itself,
//!    on any shard, and so can any profile.
//! 2. A transaction agrees with its user's profile: amounts spread around the user's average,
//!    countries are mostly the user's own.
//! 3. Rows come in stretches of [`STRETCH`]; each stretch has one victim, a user drawn evenly, and
//!    one [`Fraud`] played on it, kinds in turn. Within its stretch the victim does nothing else,
//!    and the rows of a fraud are in time order and never late. So every kind of fraud is in any
//!    `4 * STRETCH` rows. Frequent users also make alerts of their own, as in life.
//! 4. Of the other rows one in seven is up to `disorder_ms` older than its place, and a share of
//!    `late` older than that, up to `late_by_ms`.

use crate::edge::generator::quantiles::Quantiles;
use crate::edge::generator::random::{Words, below};
use crate::edge::generator::zipf::Zipf;
use crate::ground::batch::BatchBuilder;
use crate::ground::schema::{Column, DataType, Schema};
use crate::ground::slot;

/// Rows of a stretch, which has one fraud.
pub const STRETCH: u64 = 1024;
/// Where in its stretch a fraud starts, and every how many rows it goes on.
const FRAUD_AT: u64 = 256;
const FRAUD_STEP: u64 = 16;

/// Amounts are in hundredths.
const LARGE: u64 = 5_000_00;
const AVERAGE_MEDIAN: f64 = 50_00.0;
const AVERAGE_SIGMA: f64 = 0.5;
/// Amount / average, in 1/1024: log-normal with a mean of about 1.
const RATIO_MEDIAN: f64 = 0.61 * 1024.0;
const RATIO_SIGMA: f64 = 1.0;
const MERCHANT_SKEW: f64 = 0.9;

/// Out of 65,536 rows: the types after PURCHASE, transactions away from home, amounts far above
/// the user's average, rows out of order. Out of 256 withdrawals: those above [`LARGE`].
const TRANSFER: u64 = 45_875;
const WITHDRAWAL: u64 = 55_706;
const PASSWORD_CHANGE: u64 = 64_225;
const AWAY: u64 = 1_966;
const SPIKE: u64 = 655;
const DISORDERED: u64 = 9_362;
const LARGE_WITHDRAWAL: u64 = 8;

/// Countries; 43 % of the users are at home in the first.
const COUNTRIES: [&str; 20] = [
    "US", "AU", "BR", "CA", "CN", "DE", "ES", "FR", "GB", "IN", "IT", "JP", "KR", "MX", "NG", "NL",
    "PL", "SE", "SG", "ZA",
];
const HOME_FIRST: u64 = 28_180;

const TYPES: [&str; 4] = ["PURCHASE", "TRANSFER", "WITHDRAWAL", "PASSWORD_CHANGE"];

/// What a workload is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadOptions {
    /// Another seed, another workload.
    pub seed: u64,
    /// Users have ids 1..=users.
    pub users: u64,
    /// Merchants have ids 1..=merchants, the first of them the most frequent.
    pub merchants: u64,
    /// Exponent of the users' Zipf distribution; 0: all alike.
    pub skew: f64,
    /// Rows a second of event time.
    pub rate: f64,
    /// Event time of row 0, ms.
    pub start_ms: i64,
    /// Rows out of order are at most this much older than their place, ms.
    pub disorder_ms: i64,
    /// Share of rows that are older than that, 0 to 1.
    pub late: f64,
    /// How much older at most, ms.
    pub late_by_ms: i64,
}

impl Default for WorkloadOptions {
    fn default() -> WorkloadOptions {
        WorkloadOptions {
            seed: 1,
            users: 100_000,
            merchants: 10_000,
            skew: 1.0,
            rate: 28.0,
            start_ms: 1_700_000_000_000,
            disorder_ms: 5_000,
            late: 0.02,
            late_by_ms: 7_200_000,
        }
    }
}

impl WorkloadOptions {
    /// Whether a workload can be made from them.
    ///
    /// # Errors
    /// Names the option, its limits and what it was.
    pub fn check(&self) -> Result<(), String> {
        let most = i64::from(u32::MAX);
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(format!("`{name}` is a number from {low} to {high}, not {value}"))
        };
        within("users", self.users as f64, 1.0, most as f64)?;
        within("merchants", self.merchants as f64, 1.0, most as f64)?;
        within("skew", self.skew, 0.0, 10.0)?;
        within("rate", self.rate, 0.001, 1e9)?;
        within("late", self.late, 0.0, 1.0)?;
        within("disorder", self.disorder_ms as f64, 0.0, most as f64)?;
        if !(self.disorder_ms..=most).contains(&self.late_by_ms) {
            return Err(format!(
                "`late_by` is at least `disorder` ({} ms) and at most {most} ms, not {} ms",
                self.disorder_ms, self.late_by_ms
            ));
        }
        Ok(())
    }
}

/// The four frauds, each made to match the rule of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraud {
    /// Five consecutive amounts below 50.
    RapidSmall,
    /// Two successive rows in different countries.
    LocationJump,
    /// A password change, next a withdrawal above 5000.
    AccountTakeover,
    /// Five amounts below 100, next a withdrawal above 5000.
    SmallThenLarge,
}

/// A fraud of one stretch.
#[derive(Clone, Copy)]
struct Episode {
    fraud: Fraud,
    victim: u64,
    rows: u64,
}

/// A row before it has its slots.
struct Transaction {
    user: u64,
    merchant: u64,
    amount: u64,
    country: usize,
    kind: usize,
    ts: i64,
}

/// A user, as the profile has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    pub user: u64,
    /// In hundredths.
    pub average: u64,
    /// ISO 3166 code.
    pub country: &'static str,
    home: usize,
}

/// The workload. Making rows changes nothing in it: share it between shards.
#[derive(Clone)]
pub struct Workload {
    options: WorkloadOptions,
    users: Zipf,
    merchants: Zipf,
    averages: Quantiles,
    ratios: Quantiles,
    /// Seeds of rows, users and stretches.
    seeds: [u64; 3],
    scatter: Scatter,
    /// Nanoseconds of event time from row to row.
    step_ns: u64,
    /// Rows of 2^32 that are late.
    late: u64,
    countries: [u64; 20],
}

impl Workload {
    /// Builds the tables (about 2 ms, under 1 MB).
    ///
    /// # Errors
    /// As [`WorkloadOptions::check`].
    pub fn new(options: &WorkloadOptions) -> Result<Workload, String> {
        options.check()?;
        let seed = |purpose| Words::of(options.seed, purpose).get(0);
        Ok(Workload {
            users: Zipf::new(options.users, options.skew),
            merchants: Zipf::new(options.merchants, MERCHANT_SKEW),
            averages: Quantiles::log_normal(AVERAGE_MEDIAN, AVERAGE_SIGMA),
            ratios: Quantiles::log_normal(RATIO_MEDIAN, RATIO_SIGMA),
            seeds: [seed(0), seed(1), seed(2)],
            scatter: Scatter::new(options.users),
            step_ns: (1e9 / options.rate) as u64,
            late: (options.late * 2f64.powi(32)) as u64,
            countries: COUNTRIES.map(|country| slot::inline(country.as_bytes())),
            options: options.clone(),
        })
    }

    /// `txn_id, user_id, merchant_id, amount, country, type, ts`.
    pub fn transactions_schema() -> Schema {
        let amount = DataType::Decimal { precision: 18, scale: 2 };
        Schema::new(vec![
            Column::new("txn_id", DataType::BigInt),
            Column::new("user_id", DataType::BigInt),
            Column::new("merchant_id", DataType::BigInt),
            Column::new("amount", amount),
            Column::new("country", DataType::String),
            Column::new("type", DataType::String),
            Column::new("ts", DataType::Timestamp),
        ])
    }

    /// `user_id, avg_amount, home_country`.
    pub fn profiles_schema() -> Schema {
        let amount = DataType::Decimal { precision: 18, scale: 2 };
        Schema::new(vec![
            Column::new("user_id", DataType::BigInt),
            Column::new("avg_amount", amount),
            Column::new("home_country", DataType::String),
        ])
    }

    /// Adds transactions `start..end` to a batch of [`Workload::transactions_schema`]. O(rows),
    /// about 30 ns each; the heap takes 43 bytes a call.
    ///
    /// # Panics
    /// If the batch is not of that width.
    pub fn fill(&self, start: u64, end: u64, out: &mut BatchBuilder) {
        assert_eq!(out.width(), 7, "transactions have seven columns");
        // The texts of `type` are in the heap once; rows point at them.
        let types = TYPES.map(|name| slot::put_heaped(name.as_bytes(), &mut out.heap));
        let mut at = out.extend_rows((end - start) as usize);
        let slots = out.slots_mut();
        let mut n = start;
        while n < end {
            let stretch = n / STRETCH;
            let stop = end.min((stretch + 1) * STRETCH);
            let episode = self.episode(stretch);
            for n in n..stop {
                let row = self.transaction(n, &episode);
                slots[at..at + 7].copy_from_slice(&[
                    n,
                    row.user,
                    row.merchant,
                    row.amount,
                    self.countries[row.country],
                    types[row.kind],
                    row.ts as u64,
                ]);
                at += 7;
            }
            n = stop;
        }
    }

    /// Adds the profiles of users `start + 1 ..= end` to a batch of
    /// [`Workload::profiles_schema`]; a workload has `users` of them.
    ///
    /// # Panics
    /// If the batch is not of that width.
    pub fn fill_profiles(&self, start: u64, end: u64, out: &mut BatchBuilder) {
        assert_eq!(out.width(), 3, "profiles have three columns");
        for user in start + 1..=end {
            let profile = self.profile(user);
            out.push(&[user, profile.average, self.countries[profile.home]]);
        }
    }

    /// A user's profile.
    #[inline(always)]
    pub fn profile(&self, user: u64) -> Profile {
        let word = Words::of(self.seeds[1], user).get(0);
        // The share that is not the first country's falls on the others evenly. Without a branch:
        // it would be guessed wrong for every second row.
        let others = ((word & 0xFFFF) + 1).saturating_sub(HOME_FIRST);
        let home = (others * 19).div_ceil(65_536 - HOME_FIRST) as usize;
        Profile {
            user,
            average: self.averages.value((word >> 32) as u32),
            country: COUNTRIES[home],
            home,
        }
    }

    /// The fraud of a stretch and its victim.
    pub fn fraud(&self, stretch: u64) -> (Fraud, u64) {
        let episode = self.episode(stretch);
        (episode.fraud, episode.victim)
    }

    fn episode(&self, stretch: u64) -> Episode {
        let word = Words::of(self.seeds[2], stretch).get(0);
        let (fraud, rows) = match stretch % 4 {
            0 => (Fraud::RapidSmall, 5),
            1 => (Fraud::LocationJump, 2),
            2 => (Fraud::AccountTakeover, 2),
            _ => (Fraud::SmallThenLarge, 6),
        };
        Episode { fraud, victim: 1 + below(word, self.options.users).0, rows }
    }

    /// Event time of a row that is in its place.
    #[inline(always)]
    fn place(&self, n: u64) -> i64 {
        // n * step / 10^6 without a product that could pass 64 bits.
        let (millions, rest) = (n / 1_000_000, n % 1_000_000);
        let ms = millions.wrapping_mul(self.step_ns) + rest * self.step_ns / 1_000_000;
        self.options.start_ms.wrapping_add(ms as i64)
    }

    #[inline(always)]
    fn transaction(&self, n: u64, episode: &Episode) -> Transaction {
        let words = Words::of(self.seeds[0], n);
        let merchant = self.merchants.rank(words.get(1));
        let within = (n % STRETCH).wrapping_sub(FRAUD_AT);
        if within < episode.rows * FRAUD_STEP && within % FRAUD_STEP == 0 {
            return self.fraud_row(n, within / FRAUD_STEP, merchant, episode);
        }
        let rank = self.users.rank(words.get(0));
        let mut user = self.scatter.apply(rank);
        if user == episode.victim {
            user = user % self.options.users + 1;
        }
        let profile = self.profile(user);
        let word = words.get(2);
        let choice = word & 0xFFFF;
        let kind = usize::from(choice >= TRANSFER)
            + usize::from(choice >= WITHDRAWAL)
            + usize::from(choice >= PASSWORD_CHANGE);
        Transaction {
            user,
            merchant,
            amount: self.amount(kind, &profile, words.get(3)),
            country: elsewhere(profile.home, word >> 16 & 0xFFFF, word >> 32),
            kind,
            ts: self.place(n) - self.age(words.get(4)),
        }
    }

    /// In hundredths.
    #[inline(always)]
    fn amount(&self, kind: usize, profile: &Profile, word: u64) -> u64 {
        let (bits, choice) = (word as u32, word >> 48);
        let amount = (profile.average * self.ratios.value(bits) >> 10).max(1);
        let more = word >> 32 & 0xFFFF;
        if kind == 2 && choice & 0xFF < LARGE_WITHDRAWAL {
            return LARGE + 1 + more * 10;
        }
        if choice < SPIKE {
            return amount * (4 + more % 13);
        }
        if kind == 3 { 0 } else { amount }
    }

    /// How much older than its place a row is, ms.
    #[inline(always)]
    fn age(&self, word: u64) -> i64 {
        let (options, spread) = (&self.options, word >> 48);
        let age = if word & 0xFFFF_FFFF < self.late {
            let beyond = (options.late_by_ms - options.disorder_ms) as u64;
            options.disorder_ms + 1 + (beyond * spread >> 16) as i64
        } else if word >> 32 & 0xFFFF < DISORDERED {
            (options.disorder_ms as u64 * spread >> 16) as i64
        } else {
            0
        };
        age.min(options.late_by_ms)
    }

    /// Row `step` of a fraud, with row number `n`.
    #[inline(never)]
    fn fraud_row(&self, n: u64, step: u64, merchant: u64, episode: &Episode) -> Transaction {
        let profile = self.profile(episode.victim);
        let word = Words::of(self.seeds[0], n).get(2);
        let small = |most: u64| 1 + below(word, most - 1).0;
        let large = LARGE + 1 + below(word, LARGE).0;
        let last = step + 1 == episode.rows;
        let (kind, amount) = match episode.fraud {
            Fraud::RapidSmall => (0, small(50_00)),
            Fraud::LocationJump => (0, small(2 * profile.average)),
            Fraud::AccountTakeover if last => (2, large),
            Fraud::AccountTakeover => (3, 0),
            Fraud::SmallThenLarge if last => (2, large),
            Fraud::SmallThenLarge => (0, small(100_00)),
        };
        let away = episode.fraud == Fraud::LocationJump && last;
        Transaction {
            user: episode.victim,
            merchant,
            amount,
            country: elsewhere(profile.home, if away { 0 } else { u64::MAX }, word >> 32),
            kind,
            ts: self.place(n),
        }
    }
}

/// Home, or if `choice` falls on travelling any other country.
#[inline(always)]
fn elsewhere(home: usize, choice: u64, word: u64) -> usize {
    if choice >= AWAY {
        return home;
    }
    let others = COUNTRIES.len() as u64 - 1;
    (home + 1 + ((word & 0xFFFF) * others >> 16) as usize) % COUNTRIES.len()
}

/// A bijection of 1..=n that puts neighbours far apart, so that frequent users are no neighbours:
/// `rank * factor mod n + 1`, where the factor is near the golden section of n and prime to it.
#[derive(Clone, Copy)]
struct Scatter {
    n: u64,
    factor: u64,
    /// 2^64 / n: a division would cost more than all else in a row.
    reciprocal: u64,
}

impl Scatter {
    fn new(n: u64) -> Scatter {
        let gcd = |mut a: u64, mut b: u64| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let start = (n as f64 * 0.618_033_988_749_895) as u64;
        let factor = (start.max(1)..)
            .find(|&candidate| gcd(candidate, n) == 1)
            .expect("n + 1 shares no factor with n");
        Scatter { n, factor, reciprocal: u64::MAX / n }
    }

    /// `rank`, below 2^32, to a number from 1 to n.
    #[inline(always)]
    fn apply(&self, rank: u64) -> u64 {
        let product = rank * self.factor;
        // At most one too few, as the reciprocal is at most one too small in 2^64.
        let quotient = (u128::from(product) * u128::from(self.reciprocal) >> 64) as u64;
        let rest = product - quotient * self.n;
        1 + if rest >= self.n { rest - self.n } else { rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattering_moves_every_user_and_loses_none() {
        for n in [1, 2, 3, 10, 64, 1_000, 99_991] {
            let scatter = Scatter::new(n);
            let mut users: Vec<u64> = (1..=n).map(|rank| scatter.apply(rank)).collect();
            let plain = |rank: u64| rank * scatter.factor % n + 1;
            assert!(users.iter().zip(1..=n).all(|(&user, rank)| user == plain(rank)));
            users.sort_unstable();
            assert!(users.into_iter().eq(1..=n));
        }
        let scatter = Scatter::new(u64::from(u32::MAX));
        for rank in [1, 2, 1 << 31, u64::from(u32::MAX) - 1, u64::from(u32::MAX)] {
            assert_eq!(scatter.apply(rank), rank * scatter.factor % scatter.n + 1);
        }
    }
}
