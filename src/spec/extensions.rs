//! Top-level tables called `x-NAME`, which a spec carries for others.
//!
//! They stand beside the spec's own keys, so whatever is neither is refused here.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Takes the keys that are left once the spec has its own.
pub(super) fn deserialize<'de, D>(deserializer: D) -> Result<BTreeMap<String, Value>, D::Error>
where
    D: Deserializer<'de>,
{
    let rest = BTreeMap::<String, Value>::deserialize(deserializer)?;
    match rest.keys().find(|key| !key.starts_with("x-")) {
        Some(key) => Err(D::Error::custom(format_args!("unknown key {key:?}"))),
        None => Ok(rest),
    }
}
