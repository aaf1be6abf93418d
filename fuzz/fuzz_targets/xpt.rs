//! Any bytes as a type library of XPCOM: no panic, bounded work, and a slot that is given lies in the vtable that the
//! library tells of. Nothing is called: fuzzing stops at the decision whether it would be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm_virtualbox_sys::xpt::{Description, Interface, TypeLibrary};

/// Interfaces and methods that are looked for: each search goes through the whole library.
const SEARCHES: usize = 40;

fuzz_target!(|data: &[u8]| {
    let Ok(mut library) = TypeLibrary::parse(data) else {
        return;
    };
    let all = library.interfaces();
    for interface in all.iter().take(SEARCHES) {
        let Some(own) = &interface.description else {
            continue;
        };
        let ancestors = ancestors(all, own);
        let inherited: usize = ancestors.iter().map(|all| methods(all)).sum();
        let names: Vec<&str> = ancestors.iter().map(|all| all.name.as_str()).collect();
        for (index, method) in own.methods.iter().enumerate().take(SEARCHES) {
            let signature = library.signature(method);
            if let Ok(slot) = library.slot(&interface.name, &names, &signature) {
                assert_eq!(slot.index, inherited + index);
                assert_eq!(slot.iid, interface.iid);
            }
        }
    }
    let base = library.clone();
    if library.resolve(&base).is_ok() {
        assert_eq!(library, base);
    }
});

/// What an interface extends; an end where they go in a circle.
fn ancestors<'a>(all: &'a [Interface], of: &Description) -> Vec<&'a Interface> {
    let mut found = Vec::new();
    let mut next = of.parent;
    while let Some(ancestor) = next.and_then(|index| all.get(index)) {
        found.push(ancestor);
        if found.len() > all.len() {
            break;
        }
        next = ancestor.description.as_ref().and_then(|body| body.parent);
    }
    found
}

fn methods(of: &Interface) -> usize {
    of.description.as_ref().map_or(0, |body| body.methods.len())
}
