//! The null backend of stratavm.
