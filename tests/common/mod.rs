//! What integration tests share: reporting (`report`) and parsers that are not ours (`readers`). Holds no test.

pub mod readers;
pub mod report;
