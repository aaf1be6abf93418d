//! Tests of the spec through its public API: faults, round trips, the schema.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/draw.rs"]
mod draw;
mod faults;
mod limits;
mod round_trip;
mod schema;
