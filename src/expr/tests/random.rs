//! Random expressions against a naive evaluator.
