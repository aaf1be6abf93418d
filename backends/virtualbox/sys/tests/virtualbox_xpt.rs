//! The type library of the VirtualBox that is here, against what is known of every version that ships one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../../../../tests/common/program.rs"]
mod program;
#[path = "../../../../tests/common/report.rs"]
mod report;
#[path = "../../../../tests/common/rig.rs"]
mod rig;

use stratavm_virtualbox_sys::xpt::{Description, TypeLibrary};

#[test]
fn the_installed_type_library_is_read_whole() {
    let Some(product) = rig::Product::find("type library") else {
        return;
    };
    let folder = product.folder().join("components");
    let mut library = TypeLibrary::open(&folder.join("VirtualBox_XPCOM.xpt")).unwrap();
    let found = library.interfaces().len();
    if product.version().starts_with("7.2.22") {
        assert_eq!(found, 387);
    }
    let base = TypeLibrary::open(&folder.join("VBoxXPCOMBase.xpt")).unwrap();
    library.resolve(&base).unwrap();

    let root = ["nsISupports"];
    let version = library.slot("IVirtualBox", &root, "get version(out retval wstring)");
    assert_eq!(version.unwrap().index, 3);
    // Three of the root and ten of what it extends come before its own.
    let extends = ["nsIException", "nsISupports"];
    let code = library.slot(
        "IVirtualBoxErrorInfo",
        &extends,
        "get resultCode(out retval i32)",
    );
    assert_eq!(code.unwrap().index, 13);
    assert_eq!(library.constant("MachineState", "PoweredOff").unwrap(), 1);

    // Every method of every interface that has a vtable is found where it stands.
    let mut slots = 0;
    for interface in library.interfaces() {
        let own = interface.description.as_ref().unwrap();
        let mut names = Vec::new();
        let mut inherited = 0;
        let mut next = own.parent;
        while let Some(ancestor) = next.and_then(|index| library.interfaces().get(index)) {
            let body: &Description = ancestor.description.as_ref().unwrap();
            names.push(ancestor.name.as_str());
            inherited += body.methods.len();
            next = body.parent;
        }
        for (index, method) in own.methods.iter().enumerate() {
            let signature = library.signature(method);
            let slot = library.slot(&interface.name, &names, &signature).unwrap();
            assert_eq!(slot.index, inherited + index, "{signature}");
            slots += 1;
        }
    }
    assert!(slots > 1000, "only {slots} slots");
    println!("{found} interfaces, {slots} slots");
    report::ran("VirtualBox", "type library");
}
