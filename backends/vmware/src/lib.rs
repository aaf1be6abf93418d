//! The vmware backend of stratavm.
