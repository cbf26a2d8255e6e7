//! The arithmetic of tumbling and sliding windows, in numbers of windows and panes instead of
//! times.
//!
//! Window k is [offset + k * slide, offset + k * slide + size). A *pane* is the greatest common
//! divisor of size and slide long, so that a window is a whole number of panes and a row is in one
//! of them. All numbers may be negative; nothing here loops.
//!
//! 1. Times are held to +-2^61 ms, sizes and offsets to 2^59 ms, so that no sum overflows.

use crate::ground::time::Time;

/// Longest size, slide, lateness or offset, in ms.
pub const SPAN_MAX: i64 = 1 << 59;
const TIME_MAX: i64 = 1 << 61;

/// A kind of window over event time, as the pipeline file gives it. All in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub size: i64,
    /// Distance between starts; the size for tumbling windows.
    pub slide: i64,
    pub offset: i64,
    pub lateness: i64,
}

/// The windows of a [`Spec`].
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub spec: Spec,
    /// Length of a pane, ms.
    pub pane: i64,
    /// Panes in a window.
    pub per_window: i64,
    /// Panes in a slide.
    pub per_slide: i64,
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Frame {
    /// Checks a spec and divides its time into panes.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub fn new(spec: Spec) -> Result<Frame, String> {
        let Spec { size, slide, offset, lateness } = spec;
        for (what, ms, least) in [
            ("size", size, 1),
            ("slide", slide, 1),
            ("allowed lateness", lateness, 0),
            ("offset", offset.abs(), 0),
        ] {
            if !(least..=SPAN_MAX).contains(&ms) {
                return Err(format!("a window's {what} cannot be {ms} ms"));
            }
        }
        let pane = gcd(size, slide);
        Ok(Frame { spec, pane, per_window: size / pane, per_slide: slide / pane })
    }

    #[inline(always)]
    fn since_offset(&self, time: Time) -> i64 {
        time.clamp(-TIME_MAX, TIME_MAX) - self.spec.offset
    }

    /// Pane of a time.
    #[inline(always)]
    pub fn pane_of(&self, time: Time) -> i64 {
        self.since_offset(time).div_euclid(self.pane)
    }

    /// First time of a pane.
    pub fn pane_start(&self, pane: i64) -> Time {
        pane.saturating_mul(self.pane).saturating_add(self.spec.offset)
    }

    /// First and last window of a time; the first is after the last where a slide longer than the
    /// size leaves gaps.
    #[inline(always)]
    pub fn windows_of(&self, time: Time) -> (i64, i64) {
        let time = self.since_offset(time);
        let first = (time - self.spec.size).div_euclid(self.spec.slide) + 1;
        (first, time.div_euclid(self.spec.slide))
    }

    /// First and last window that a pane is in; as [`Frame::windows_of`].
    pub fn windows_of_pane(&self, pane: i64) -> (i64, i64) {
        let first = (pane - self.per_window).div_euclid(self.per_slide) + 1;
        (first, pane.div_euclid(self.per_slide))
    }

    /// First and last pane of a window.
    pub fn panes_of(&self, window: i64) -> (i64, i64) {
        let first = window.saturating_mul(self.per_slide);
        (first, first.saturating_add(self.per_window - 1))
    }

    /// Start and end of a window, ms.
    #[inline(always)]
    pub fn bounds(&self, window: i64) -> (Time, Time) {
        let start = window.saturating_mul(self.spec.slide).saturating_add(self.spec.offset);
        (start, start.saturating_add(self.spec.size))
    }

    /// Last window that fires at this watermark or before: the last whose `end - 1 <= watermark`.
    #[inline(always)]
    pub fn fired(&self, watermark: Time) -> i64 {
        let mark = watermark.clamp(-TIME_MAX - SPAN_MAX * 2, TIME_MAX + SPAN_MAX * 4);
        (mark + 1 - self.spec.size - self.spec.offset).div_euclid(self.spec.slide)
    }

    /// Last window that takes no rows any more: `end - 1 + lateness <= watermark`.
    #[inline(always)]
    pub fn dead(&self, watermark: Time) -> i64 {
        self.fired(watermark.saturating_sub(self.spec.lateness))
    }

    /// Most panes between the first that is alive and the last of the next window to fire, both
    /// counted, when the next window has just become that.
    pub fn span(&self) -> usize {
        let Spec { size, slide, lateness, .. } = self.spec;
        let most = (size + lateness + slide - 1) / self.pane;
        usize::try_from(most).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_agree_with_times(
            size in 1..200i64, slide in 1..200i64, offset in -50..50i64, lateness in 0..100i64,
            time in -1000..1000i64, mark in -1000..1000i64,
        ) {
            let frame = Frame::new(Spec { size, slide, offset, lateness }).unwrap();
            let (first, last) = frame.windows_of(time);
            for window in -1300..1300i64 {
                let (start, end) = (offset + window * slide, offset + window * slide + size);
                prop_assert_eq!(frame.bounds(window), (start, end));
                prop_assert_eq!(first <= window && window <= last, start <= time && time < end);
                prop_assert_eq!(window <= frame.fired(mark), end - 1 <= mark);
                prop_assert_eq!(window <= frame.dead(mark), end - 1 + lateness <= mark);
            }
            let pane = frame.pane_of(time);
            prop_assert!(frame.pane_start(pane) <= time && time < frame.pane_start(pane + 1));
            prop_assert_eq!(frame.windows_of_pane(pane), (first, last));
            for window in first..=last {
                let (from, to) = frame.panes_of(window);
                prop_assert!(from <= pane && pane <= to);
                prop_assert_eq!(frame.pane_start(from), frame.bounds(window).0);
                prop_assert_eq!(frame.pane_start(to + 1), frame.bounds(window).1);
            }
            // What is alive just when window k has fired: no pane more than `span` before the
            // next window's last.
            let fired = frame.fired(mark);
            let frontier = frame.panes_of(fired + 1).1;
            let dead = frame.dead(mark);
            let alive = (frontier - 1000..=frontier)
                .find(|&pane| {
                    let (first, last) = frame.windows_of_pane(pane);
                    first <= last && last > dead
                })
                .unwrap();
            prop_assert!((frontier - alive) < frame.span() as i64,
                "{} panes, {}", frontier - alive + 1, frame.span());
        }
    }

    #[test]
    fn ends_of_time_do_not_overflow() {
        let frame =
            Frame::new(Spec { size: SPAN_MAX, slide: 7, offset: -SPAN_MAX, lateness: SPAN_MAX });
        let frame = frame.unwrap();
        for time in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
            let (first, last) = frame.windows_of(time);
            assert!(first <= last);
            frame.bounds(last);
            frame.panes_of(first);
            frame.windows_of_pane(frame.pane_of(time));
        }
        let (_, last) = frame.windows_of(i64::MAX);
        assert!(frame.fired(i64::MAX) >= last && frame.dead(i64::MAX) >= last);
    }
}
