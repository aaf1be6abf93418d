//! `disk info`: what an image says of itself.

use serde_json::{Value, json};
use stratavm::{Error, Result};
use stratavm_disk::{Access, Member};

use super::image;
use crate::cli::disk::DiskInfo;
use crate::output::{Answer, line};

pub(super) fn info(args: &DiskInfo) -> Result<Answer> {
    let path = &args.image.image;
    let info = stratavm_disk::info(path)?;
    let info = serde_json::to_value(&info).map_err(|error| {
        Error::invalid("the image's facts do not fit into JSON").caused_by(error)
    })?;
    let mut text = format!("{}\n", line(path.display()));
    lines(&info, 1, &mut text);
    let mut json = json!({"path": path.display().to_string(), "image": info});
    if args.chain {
        // Opening it checks every link.
        let chain = image::open(&args.image, Access::Read)?;
        let members: Value = chain.members().rev().map(member).collect();
        text.push_str("  chain:\n");
        lines(&members, 2, &mut text);
        if let Some(object) = json.as_object_mut() {
            object.insert("chain".to_owned(), members);
        }
    }
    Ok(Answer::new(text, json))
}

/// One image of a chain; what it does not say is left out.
fn member(member: Member<'_>) -> Value {
    let ids = |cid: Option<String>, uuid: Option<String>| {
        let ids = [("cid", cid), ("uuid", uuid)].into_iter();
        ids.filter_map(|(key, id)| Some((key.to_owned(), Value::String(id?))))
    };
    let text = |id: &dyn std::fmt::Display| id.to_string();
    let mut value = json!({
        "path": member.path.display().to_string(),
        "format": member.format.to_string(),
        "size": member.size,
    });
    let Some(object) = value.as_object_mut() else {
        return value;
    };
    let identity = member.identity;
    object.extend(ids(
        identity.cid.as_ref().map(|id| text(id)),
        identity.uuid.as_ref().map(|id| text(id)),
    ));
    if let Some(link) = member.link {
        let cid = link.cid.as_ref().map(|id| text(id));
        let parent = ids(cid, link.uuid.as_ref().map(|id| text(id)));
        let hint = link.hint.clone().map(Value::String);
        let hint = hint.map(|hint| ("hint".to_owned(), hint)).into_iter();
        object.insert(
            "parent".to_owned(),
            Value::Object(hint.chain(parent).collect()),
        );
    }
    value
}

/// A JSON value as indented lines.
fn lines(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(i, v)| (i.to_string(), v))
            .collect(),
        _ => return,
    };
    for (key, value) in entries {
        match value {
            Value::Object(_) | Value::Array(_) => {
                out.push_str(&format!("{indent}{key}:\n"));
                lines(value, depth + 1, out);
            }
            Value::String(text) => {
                let text = stratavm::machine::escape(text);
                out.push_str(&format!("{indent}{key}: {text}\n"));
            }
            Value::Null => {}
            other => out.push_str(&format!("{indent}{key}: {other}\n")),
        }
    }
}
