//! What the product says of a call that failed: the exception of the thread, as text.

use std::ptr::{self, NonNull};

use super::object::{Binding, Ref, is_success};
use crate::contract::{ERROR_COMPONENT, ERROR_TEXT, IVirtualBoxErrorInfo};
use crate::error::{Error, ErrorKind};

/// The error of a method that answered with `code`.
pub(super) fn explain(binding: &Binding, interface: &str, method: &str, code: u32) -> Error {
    let said = exception(binding).and_then(|info| describe(&info));
    let text = said.unwrap_or_else(|| "VirtualBox says no more".into());
    Error::new(ErrorKind::Failed, format!("{interface}.{method}: {text}")).with_code(code)
}

/// What an error's object says.
pub(crate) fn describe(info: &Ref<IVirtualBoxErrorInfo>) -> Option<String> {
    let text = info.try_call(&ERROR_TEXT, ()).ok()?.ok()?;
    let component = info.try_call(&ERROR_COMPONENT, ()).ok()?.ok();
    let component = component.filter(|name| !name.is_empty());
    let text = text.trim_end().to_owned();
    Some(component.map_or(text.clone(), |name| format!("{text} ({name})")))
}

/// The thread's exception, which is taken away.
fn exception(binding: &Binding) -> Option<Ref<IVirtualBoxErrorInfo>> {
    let functions = binding.functions();
    let mut object = ptr::null_mut();
    // SAFETY: this thread may call, and the place is valid for the call.
    let code = unsafe { (functions.exception)(&raw mut object) };
    let object = NonNull::new(object).filter(|_| is_success(code))?;
    // SAFETY: as above. What it answers changes nothing.
    unsafe { (functions.clear_exception)() };
    // SAFETY: the reference is the caller's.
    unsafe { Ref::confirm(object, binding) }.ok()
}
