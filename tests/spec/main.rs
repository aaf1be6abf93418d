//! Tests of the spec through its public API: faults, limits, round trips, the schema, and the
//! committed specs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod committed;
#[path = "../common/draw.rs"]
mod draw;
mod faults;
#[path = "../common/fixtures.rs"]
mod fixtures;
mod limits;
mod round_trip;
mod schema;
