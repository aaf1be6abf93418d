//! `doctor`: each product, whether it is there, and what keeps it from working.

use serde_json::json;
use stratavm::capability::Feature;
use stratavm::hypervisor::{Detection, Driving};
use stratavm::plan::Grade;
use stratavm::{Hypervisor, Result, block_on};

use crate::context::Context;
use crate::output::Answer;

pub(crate) fn doctor(context: &Context) -> Result<Answer> {
    let mut text = String::new();
    let mut products = Vec::new();
    for backend in &context.registry {
        let detection = block_on(backend.detect(&context.ctx))?;
        text.push_str(&describe(backend.as_ref(), &detection));
        products.push(as_json(backend.as_ref(), &detection));
    }
    Ok(Answer::new(text, json!({"products": products})))
}

fn driving(detection: &Detection) -> String {
    match &detection.driving {
        Driving::Driven(means) => means.clone(),
        _ => "translate only".to_owned(),
    }
}

/// The features that the product has, with how far each goes.
fn features(backend: &dyn Hypervisor) -> impl Iterator<Item = (Feature, Grade)> {
    let capabilities = backend.capabilities();
    let graded = Feature::ALL
        .into_iter()
        .map(|f| (f, capabilities.feature(f)));
    graded.filter(|(_, grade)| *grade != Grade::None)
}

fn describe(backend: &dyn Hypervisor, detection: &Detection) -> String {
    let found = match &detection.found {
        Some(found) => format!("{} at {}", found.version, found.program.display()),
        None => "not found".to_owned(),
    };
    let mut text = format!("{}: {found}\n", backend.product());
    text.push_str(&format!("  driven by: {}\n", driving(detection)));
    for fact in detection.found.iter().flat_map(|found| &found.facts) {
        text.push_str(&format!("  {fact}\n"));
    }
    let capabilities = backend.capabilities();
    let kinds: Vec<_> = capabilities
        .controllers
        .iter()
        .map(|c| c.kind.as_str())
        .collect();
    text.push_str(&format!("  controllers: {}\n", kinds.join(", ")));
    for (feature, grade) in features(backend) {
        text.push_str(&format!("  {}: {grade}\n", feature.as_str()));
    }
    for problem in &detection.problems {
        text.push_str(&format!("  problem: {problem}\n"));
    }
    text
}

fn as_json(backend: &dyn Hypervisor, detection: &Detection) -> serde_json::Value {
    let capabilities = backend.capabilities();
    let kinds: Vec<_> = capabilities
        .controllers
        .iter()
        .map(|c| c.kind.as_str())
        .collect();
    let families: Vec<_> = capabilities.families.iter().map(|f| f.as_str()).collect();
    let features: serde_json::Map<_, _> = features(backend)
        .map(|(feature, grade)| (feature.as_str().to_owned(), json!(grade.as_str())))
        .collect();
    json!({
        "product": backend.product().as_str(),
        "found": detection.found.is_some(),
        "program": detection.found.as_ref().map(|found| found.program.display().to_string()),
        "version": detection.found.as_ref().map(|found| found.version.to_string()),
        "facts": detection.found.as_ref().map(|found| found.facts.clone()).unwrap_or_default(),
        "driven-by": driving(detection),
        "controllers": kinds,
        "families": families,
        "features": features,
        "problems": detection.problems,
    })
}
