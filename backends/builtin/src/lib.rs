//! The registry of the backends that come with stratavm. A program that wants other ones, or only
//! some of these, makes its own [`Registry`].

use stratavm::Registry;

/// Every product that stratavm knows, and `null`, which needs none.
///
/// ```
/// let products = stratavm_builtin::registry();
/// let null = products.get(&stratavm::Product::named("null")?)?;
/// assert_eq!(null.product().as_str(), "null");
/// # Ok::<(), stratavm::Error>(())
/// ```
#[must_use]
pub fn registry() -> Registry {
    Registry::new()
        .with(stratavm_qemu::Qemu::new())
        .with(stratavm_virtualbox::VirtualBox::new())
        .with(stratavm_vmware::Vmware::new())
        .with(stratavm_parallels::Parallels::new())
        .with(stratavm_parallels::Parallels::new())
        .with(stratavm_null::Null::new())
}
