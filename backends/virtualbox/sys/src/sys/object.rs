//! References to objects, and calls of their methods.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::bindings::{nsID, nsISupports};
use super::failure;
use super::library::{Functions, Library, loaded_from};
use super::method::{Declared, Inputs, Interface, Method};
use super::values::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::xpt::{Iid, Slot, TypeLibrary};

/// The first slots of every vtable.
const QUERY_INTERFACE: usize = 0;
const ADD_REF: usize = 1;
const RELEASE: usize = 2;

/// One product's library and the slots of the methods that are used.
#[derive(Clone, Debug)]
pub(crate) struct Binding(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    library: Library,
    iids: Vec<Iid>,
    slots: Vec<Slot>,
}

impl Binding {
    /// Looks for all methods and the ids of all interfaces, in the order of their indices.
    ///
    /// # Errors
    /// `Incompatible` naming the first that is not as it is declared.
    pub(crate) fn new(
        library: Library,
        types: &TypeLibrary,
        interfaces: &[&str],
        methods: &[&dyn Declared],
    ) -> Result<Self> {
        let iids = interfaces
            .iter()
            .map(|name| types.interface(name).map(|found| found.iid));
        let slots = methods
            .iter()
            .map(|all| types.slot(all.interface(), all.extends(), &all.signature()));
        Ok(Self(Arc::new(Bound {
            iids: iids.collect::<Result<_>>()?,
            slots: slots.collect::<Result<_>>()?,
            library,
        })))
    }

    pub(crate) fn library(&self) -> &Library {
        &self.0.library
    }

    pub(super) fn functions(&self) -> &Functions {
        &self.0.library.functions
    }

    fn iid<I: Interface>(&self) -> Result<Iid> {
        let iid = self.0.iids.get(I::INDEX).copied();
        iid.ok_or_else(|| Error::incompatible(format!("{} is not bound", I::NAME)))
    }

    /// Starts XPCOM in this thread, the first of the process, and answers with the product's client object.
    ///
    /// # Errors
    /// `Failed` if the product's server does not start; `Incompatible` if the object is another installation's.
    pub(crate) fn initialize<I: Interface>(&self) -> Result<Ref<I>> {
        let mut object = ptr::null_mut();
        // SAFETY: without an id the object is the version's own; the place is valid for the call.
        let code = unsafe { (self.functions().initialize)(ptr::null(), &raw mut object) };
        let Some(object) = NonNull::new(object).filter(|_| is_success(code)) else {
            let what = "VirtualBox's XPCOM does not start; see whether VBoxManage list vms works";
            return Err(Error::new(ErrorKind::Failed, what).with_code(code));
        };
        // SAFETY: an object of the product, whose vtable begins with QueryInterface.
        let code = unsafe { method(object, QUERY_INTERFACE) };
        let folder = self.library().folder();
        if !loaded_from(code).is_some_and(|file| file.starts_with(folder)) {
            let what =
                "the program got its VirtualBox from another folder; set VBOX_APP_HOME to this one";
            return Err(Error::incompatible(what).at(folder));
        }
        // SAFETY: the reference is the caller's.
        unsafe { Ref::confirm(object, self) }
    }

    /// Makes this thread one that may call.
    ///
    /// # Errors
    /// `Failed` with the product's code.
    pub(crate) fn enter_thread(&self) -> Result<()> {
        // SAFETY: a further thread, while the first has XPCOM started.
        let code = unsafe { (self.functions().enter_thread)() };
        if is_success(code) {
            return Ok(());
        }
        let what = "VirtualBox's XPCOM refuses a further thread";
        Err(Error::new(ErrorKind::Failed, what).with_code(code))
    }

    /// The opposite.
    pub(crate) fn leave_thread(&self) {
        // SAFETY: the thread entered, and holds no reference any more. What it answers changes nothing.
        unsafe { (self.functions().leave_thread)() };
    }
}

pub(super) fn is_success(code: u32) -> bool {
    code & 0x8000_0000 == 0
}

/// The code of a method.
///
/// # Safety
/// The object lives, and its vtable has this slot.
unsafe fn method(object: NonNull<nsISupports>, slot: usize) -> *const () {
    // SAFETY: the caller's.
    unsafe { (*object.as_ptr()).vtable.add(slot).read().cast() }
}

/// A reference to an object that has confirmed that it has the interface. It stays in the thread that got it.
pub(crate) struct Ref<I> {
    object: NonNull<nsISupports>,
    binding: Binding,
    interface: PhantomData<I>,
}

impl<I> fmt::Debug for Ref<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}", self.object)
    }
}

impl<I> Drop for Ref<I> {
    fn drop(&mut self) {
        // SAFETY: the reference is this one's, and given back once.
        unsafe { release(self.object) };
    }
}

/// # Safety
/// The object lives, and the caller gives a reference of its own.
unsafe fn release(object: NonNull<nsISupports>) {
    type Release = unsafe extern "C" fn(*mut nsISupports) -> u32;
    // SAFETY: the third slot of every vtable, of this type.
    unsafe {
        let code = std::mem::transmute::<*const (), Release>(method(object, RELEASE));
        code(object.as_ptr());
    }
}

impl<I: Interface> Ref<I> {
    /// Takes over a reference, once the object has said that it has the interface.
    ///
    /// # Safety
    /// An object of the product that lives, with a reference that is the caller's to give.
    pub(super) unsafe fn confirm(object: NonNull<nsISupports>, binding: &Binding) -> Result<Self> {
        type Query =
            unsafe extern "C" fn(*mut nsISupports, *const nsID, *mut *mut nsISupports) -> u32;
        let iid = binding.iid::<I>();
        let mut answer = ptr::null_mut();
        let code = iid.map(|iid| {
            let id = native(iid);
            // SAFETY: the first slot of every vtable, of this type; the places are valid for the call.
            unsafe {
                let code = std::mem::transmute::<*const (), Query>(method(object, QUERY_INTERFACE));
                code(object.as_ptr(), &raw const id, &raw mut answer)
            }
        });
        // SAFETY: the caller's reference; the answer has one of its own.
        unsafe { release(object) };
        match (code?, NonNull::new(answer)) {
            (code, Some(object)) if is_success(code) => Ok(Self {
                object,
                binding: binding.clone(),
                interface: PhantomData,
            }),
            (code, _) => Err(Error::incompatible(format!(
                "an object does not know the {} of the type library",
                I::NAME
            ))
            .with_code(code)),
        }
    }

    /// Another reference to the same object, whose pointer goes to another thread's binding of it.
    pub(crate) fn share(&self) -> Shared<I> {
        type AddRef = unsafe extern "C" fn(*mut nsISupports) -> u32;
        // SAFETY: the second slot of every vtable, of this type.
        unsafe {
            let code = std::mem::transmute::<*const (), AddRef>(method(self.object, ADD_REF));
            code(self.object.as_ptr());
        }
        Shared(Ref {
            object: self.object,
            binding: self.binding.clone(),
            interface: PhantomData,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut nsISupports {
        self.object.as_ptr()
    }

    /// Calls a method.
    ///
    /// # Errors
    /// `Failed` with what the product says of the failure.
    pub(crate) fn call<A: Inputs, R: Output>(
        &self,
        called: &Method<I, A, R>,
        values: A::Values<'_>,
    ) -> Result<R::Value> {
        self.try_call(called, values)?
            .map_err(|code| failure::explain(&self.binding, I::NAME, called.name, code))
    }

    /// Calls a method; a failure is its code alone.
    pub(super) fn try_call<A: Inputs, R: Output>(
        &self,
        called: &Method<I, A, R>,
        values: A::Values<'_>,
    ) -> Result<std::result::Result<R::Value, u32>> {
        let Some(slot) = self.binding.0.slots.get(called.index) else {
            let what = format!("{}.{} is not bound", I::NAME, called.name);
            return Err(Error::incompatible(what));
        };
        let mut room = R::room(&self.binding)?;
        let answer = R::pointers(&mut room);
        // SAFETY: the object has confirmed the interface of the slot, which the type library of the same installation
        // gave for this very signature, made of the types that are passed here; the room stays where it is.
        let code = unsafe {
            let code = method(self.object, slot.index);
            A::call(code, self.as_ptr(), &values, answer)
        };
        if !is_success(code) {
            R::drop_room(room, &self.binding);
            return Ok(Err(code));
        }
        // SAFETY: the method has just succeeded with this room.
        unsafe { R::take(room, &self.binding) }.map(Ok)
    }
}

/// A reference on its way to another thread.
pub(crate) struct Shared<I>(Ref<I>);

// SAFETY: only the product's client object is shared, which counts its references atomically and may be called by every
// thread that has entered; nothing is called before it has.
unsafe impl<I> Send for Shared<I> {}

impl<I> Shared<I> {
    /// The reference, in the thread that goes on with it.
    pub(crate) fn receive(self) -> Ref<I> {
        self.0
    }
}

/// An id as XPCOM passes it: its first numbers in the order of the host.
fn native(iid: Iid) -> nsID {
    let [a, b, c, d, e, f, g, h, m3 @ ..] = iid.0;
    nsID {
        m0: u32::from_be_bytes([a, b, c, d]),
        m1: u16::from_be_bytes([e, f]),
        m2: u16::from_be_bytes([g, h]),
        m3,
    }
}
