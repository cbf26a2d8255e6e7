//! All tests that see the crate from outside, in one binary.

#![allow(clippy::disallowed_methods, reason = "tests run the program and wait for it")]

mod aggregates;
mod bad_input;
mod broken_disk;
mod checkpoints;
mod command;
mod configs;
mod crash;
mod csv_header;
mod flink_patterns;
mod fraud;
mod lookups;
mod own_tests;
mod partition_by;
mod patterns;
mod remote;
mod rules;
mod s3;
mod sim;
mod socket;
mod state;
mod tidy;
mod windows;
