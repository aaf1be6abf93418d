//! The virtualbox backend of stratavm.
