//! What integration tests share: reporting (`report`) and parsers that are not ours (`readers`). Holds no test.

pub(crate) mod readers;
pub(crate) mod report;
