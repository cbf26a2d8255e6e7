//! All tests that see the crate from outside, in one binary.

#![allow(clippy::disallowed_methods, reason = "tests run the program and wait for it")]

mod tidy;
