//! The qemu backend of stratavm.
