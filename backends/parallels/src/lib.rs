//! The parallels backend of stratavm.
