//! Methods as constants: the types that a method is called with are also what its signature is made of, so that the one
//! cannot differ from the other.

use std::marker::PhantomData;

use super::bindings::nsISupports;
use super::values::{Input, Output, Pointers};

/// An interface that is used.
pub(crate) trait Interface {
    /// Its name in the type library.
    const NAME: &'static str;
    /// What it extends, up to the root.
    const EXTENDS: &'static [&'static str];
    /// Its place among all that are used.
    const INDEX: usize;
}

/// A method of `I` that takes `A` and answers with `R`.
pub(crate) struct Method<I, A, R> {
    /// How its signature begins: `get state` or `lockMachine`.
    pub(super) name: &'static str,
    /// Its place among all that are used.
    pub(super) index: usize,
    types: PhantomData<fn(I, A) -> R>,
}

impl<I, A, R> Method<I, A, R> {
    pub(crate) const fn new(name: &'static str, index: usize) -> Self {
        Self {
            name,
            index,
            types: PhantomData,
        }
    }
}

/// What the type library is asked for.
pub(crate) trait Declared: Sync {
    /// The name of the interface.
    fn interface(&self) -> &'static str;
    /// What the interface extends.
    fn extends(&self) -> &'static [&'static str];
    /// The signature that the method must have.
    fn signature(&self) -> String;
}

impl<I: Interface, A: Inputs, R: Output> Declared for Method<I, A, R> {
    fn interface(&self) -> &'static str {
        I::NAME
    }

    fn extends(&self) -> &'static [&'static str] {
        I::EXTENDS
    }

    fn signature(&self) -> String {
        let mut parameters = A::signature();
        parameters.extend(R::signature(parameters.len()));
        format!("{}({})", self.name, parameters.join(", "))
    }
}

/// The parameters that go in: a tuple of them.
pub(crate) trait Inputs {
    /// What a caller gives.
    type Values<'a>;

    /// Their text in a signature.
    fn signature() -> Vec<String>;

    /// Calls the method at `code` of `this`; the answer is its result code.
    ///
    /// # Safety
    /// `code` is the method of `this` that takes these parameters and these pointers.
    unsafe fn call(
        code: *const (),
        this: *mut nsISupports,
        values: &Self::Values<'_>,
        answer: Pointers,
    ) -> u32;
}

macro_rules! inputs {
    ($($name:ident $index:tt),*) => {
        impl<$($name: Input),*> Inputs for ($($name,)*) {
            type Values<'a> = ($($name::Value<'a>,)*);

            fn signature() -> Vec<String> {
                vec![$($name::signature($index)),*]
            }

            unsafe fn call(
                code: *const (),
                this: *mut nsISupports,
                values: &Self::Values<'_>,
                answer: Pointers,
            ) -> u32 {
                use std::ffi::c_void;
                // A method without parameters has no use for it.
                let _ = values;
                match answer {
                    Pointers::None => {
                        type Code<$($name),*> =
                            unsafe extern "C" fn(*mut nsISupports $(, $name)*) -> u32;
                        // SAFETY: the caller knows that this is the method's type.
                        unsafe {
                            let code = std::mem::transmute::<*const (), Code<$($name::Raw),*>>(code);
                            code(this $(, $name::raw(&values.$index))*)
                        }
                    }
                    Pointers::One(first) => {
                        type Code<$($name),*> =
                            unsafe extern "C" fn(*mut nsISupports, $($name,)* *mut c_void) -> u32;
                        // SAFETY: as above.
                        unsafe {
                            let code = std::mem::transmute::<*const (), Code<$($name::Raw),*>>(code);
                            code(this, $($name::raw(&values.$index),)* first)
                        }
                    }
                    Pointers::Two(first, second) => {
                        type Code<$($name),*> = unsafe extern "C" fn(
                            *mut nsISupports,
                            $($name,)*
                            *mut c_void,
                            *mut c_void,
                        ) -> u32;
                        // SAFETY: as above.
                        unsafe {
                            let code = std::mem::transmute::<*const (), Code<$($name::Raw),*>>(code);
                            code(this, $($name::raw(&values.$index),)* first, second)
                        }
                    }
                }
            }
        }
    };
}

inputs!();
inputs!(A 0);
inputs!(A 0, B 1);
inputs!(A 0, B 1, C 2, D 3);
