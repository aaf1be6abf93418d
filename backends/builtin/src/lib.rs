//! The registry of the backends that come with stratavm. A program that wants other ones, or only
//! some of these, makes its own [`Registry`].

use stratavm::Registry;

/// The products that machines run on: QEMU, VirtualBox, VMware and Parallels.
#[must_use]
pub fn products() -> Registry {
    Registry::new()
        .with(stratavm_qemu::Qemu::new())
        .with(stratavm_virtualbox::VirtualBox::new())
        .with(stratavm_vmware::Vmware::new())
        .with(stratavm_parallels::Parallels::new())
}

/// The [`products`], and `null`, which is none: for tests and rehearsals.
///
/// ```
/// let products = stratavm_builtin::registry();
/// let null = products.get(&stratavm::Product::named("null")?)?;
/// assert_eq!(null.product().as_str(), "null");
/// # Ok::<(), stratavm::Error>(())
/// ```
#[must_use]
pub fn registry() -> Registry {
    products().with(stratavm_null::Null::new())
}
