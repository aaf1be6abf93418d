//! The registry of the backends that come with stratavm.
