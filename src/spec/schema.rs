//! The JSON Schema of a spec, for editors and other programs.
//!
//! It says each key's form; the rules between keys are in [`VmSpec::validate`] alone.

use schemars::Schema;

use super::VmSpec;

/// The JSON Schema (draft 2020-12) of a spec.
#[must_use]
pub fn schema() -> Schema {
    schemars::schema_for!(VmSpec)
}

/// At the top, keys other than the known ones are tables called `x-NAME`.
pub(super) fn only_extensions(schema: &mut Schema) {
    schema.insert("additionalProperties".to_owned(), false.into());
    schema.insert(
        "patternProperties".to_owned(),
        serde_json::json!({
            "^x-[a-z0-9-]{1,64}$": {
                "description": "Carried for others, never read.",
                "type": "object"
            }
        }),
    );
}
