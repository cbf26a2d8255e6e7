//! Shows how far a run is, on a thread of its own: a live line on a terminal, else one line every
//! 10 s on standard error.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::Counts;
use super::summary::line;

/// How a run shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Quiet,
    /// One line that changes.
    Live,
    /// A line now and then.
    Lines,
}

impl Style {
    /// Live on a terminal, lines elsewhere, nothing if told so.
    pub fn choose(quiet: bool) -> Style {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Live,
            (false, false) => Style::Lines,
        }
    }

    fn every(self) -> Duration {
        match self {
            Style::Live => Duration::from_millis(250),
            Style::Quiet | Style::Lines => Duration::from_secs(10),
        }
    }
}

/// The thread that shows a run. Dropping it ends it and clears its line.
pub struct Progress {
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts to show the run `name`; `counts` is asked now and then for how far it is.
    pub fn start(
        style: Style,
        name: &str,
        counts: impl Fn() -> Counts + Send + 'static,
    ) -> Progress {
        if style == Style::Quiet {
            return Progress { shown: None };
        }
        let (stop, stopped) = channel::<()>();
        let name = name.to_string();
        let show = move || {
            let bar = (style == Style::Live).then(live_line);
            let start = Instant::now();
            let (mut rows_before, mut at_before) = (0, start);
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(style.every()) {
                let (counts, now) = (counts(), Instant::now());
                let rows = counts.events_in();
                let rows_per_s = rows.saturating_sub(rows_before) as f64
                    / now.duration_since(at_before).as_secs_f64().max(1e-9);
                (rows_before, at_before) = (rows, now);
                let elapsed_s = now.duration_since(start).as_secs_f64();
                let line = line(&name, elapsed_s, &counts, rows_per_s);
                match &bar {
                    Some(bar) => {
                        bar.set_message(line);
                        bar.tick();
                    }
                    None => super::eprint(&format!("{line}\n")),
                }
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(show);
        // Without the thread the run goes on unseen.
        Progress { shown: thread.ok().map(|thread| (stop, thread)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.shown.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn live_line() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
