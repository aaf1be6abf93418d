//! What goes into a method and what comes out, each with its place in a signature and its form on the way.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::bindings::{PRUnichar, nsISupports};
use super::method::Interface;
use super::object::{Binding, Ref};
use crate::error::{Error, ErrorKind, Result};

/// UTF-16 with a zero at its end, as methods take it.
#[derive(Debug)]
pub(crate) struct Text(Vec<PRUnichar>);

impl Text {
    /// # Errors
    /// `Invalid` for text with a zero character, which would end it early.
    pub(crate) fn new(text: &str) -> Result<Self> {
        if text.contains('\0') {
            let what = format!("{text:?} holds a zero character, which ends a text of XPCOM");
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        Ok(Self(text.encode_utf16().chain([0]).collect()))
    }
}

/// A parameter that goes in.
pub(crate) trait Input {
    /// What a caller gives.
    type Value<'a>;
    /// The form in which it is passed.
    type Raw: Copy;

    /// Its text in a signature, as the parameter of this index.
    fn signature(index: usize) -> String;

    /// What lives at least as long as `value` does.
    fn raw(value: &Self::Value<'_>) -> Self::Raw;
}

impl Input for u32 {
    type Value<'a> = u32;
    type Raw = u32;

    fn signature(_: usize) -> String {
        "in u32".into()
    }

    fn raw(value: &u32) -> u32 {
        *value
    }
}

impl Input for i32 {
    type Value<'a> = i32;
    type Raw = i32;

    fn signature(_: usize) -> String {
        "in i32".into()
    }

    fn raw(value: &i32) -> i32 {
        *value
    }
}

impl Input for bool {
    type Value<'a> = bool;
    // `PRBool` is an int.
    type Raw = i32;

    fn signature(_: usize) -> String {
        "in bool".into()
    }

    fn raw(value: &bool) -> i32 {
        i32::from(*value)
    }
}

/// A text.
pub(crate) enum Wide {}

impl Input for Wide {
    type Value<'a> = &'a Text;
    type Raw = *const PRUnichar;

    fn signature(_: usize) -> String {
        "in wstring".into()
    }

    fn raw(value: &&Text) -> *const PRUnichar {
        value.0.as_ptr()
    }
}

/// Texts; their number is the parameter before them.
pub(crate) enum WideArray {}

impl Input for WideArray {
    /// With a null pointer at the end, so that there is always one.
    type Value<'a> = &'a [*const PRUnichar];
    type Raw = *const *const PRUnichar;

    fn signature(index: usize) -> String {
        format!("in [wstring; {}]", index.saturating_sub(1))
    }

    fn raw(value: &Self::Value<'_>) -> Self::Raw {
        value.as_ptr()
    }
}

/// An object.
pub(crate) struct In<I>(PhantomData<I>);

impl<I: Interface + 'static> Input for In<I> {
    type Value<'a> = &'a Ref<I>;
    type Raw = *mut nsISupports;

    fn signature(_: usize) -> String {
        format!("in {}", I::NAME)
    }

    fn raw(value: &&Ref<I>) -> *mut nsISupports {
        value.as_ptr()
    }
}

/// What a method answers with, as its last parameters.
pub(crate) trait Output {
    /// What a caller gets.
    type Value;
    /// Room for what the method writes.
    type Room;

    /// Its text in a signature, from the parameter of this index on.
    fn signature(index: usize) -> Vec<String>;

    /// Room, and the pointers to it that the method gets: none, one or two of them.
    fn room(binding: &Binding) -> Result<Self::Room>;

    /// Pointers into the room, for as long as it stays where it is.
    fn pointers(room: &mut Self::Room) -> Pointers;

    /// Takes what a method that succeeded has written.
    ///
    /// # Safety
    /// The room's pointers were passed to a method with this output, which succeeded; the room is taken once.
    unsafe fn take(room: Self::Room, binding: &Binding) -> Result<Self::Value>;

    /// Frees what does not free itself, after a method that failed or was not called.
    fn drop_room(_room: Self::Room, _binding: &Binding) {}
}

/// The pointers that a method gets for its answer.
#[derive(Clone, Copy)]
pub(crate) enum Pointers {
    None,
    One(*mut c_void),
    Two(*mut c_void, *mut c_void),
}

impl Output for () {
    type Value = ();
    type Room = ();

    fn signature(_: usize) -> Vec<String> {
        Vec::new()
    }

    fn room(_: &Binding) -> Result<()> {
        Ok(())
    }

    fn pointers((): &mut ()) -> Pointers {
        Pointers::None
    }

    unsafe fn take((): (), _: &Binding) -> Result<()> {
        Ok(())
    }
}

/// Numbers come back in a place of their own.
macro_rules! number {
    ($kind:ty, $raw:ty, $name:literal, $convert:expr) => {
        impl Output for $kind {
            type Value = $kind;
            type Room = $raw;

            fn signature(_: usize) -> Vec<String> {
                vec![concat!("out retval ", $name).into()]
            }

            fn room(_: &Binding) -> Result<$raw> {
                Ok(0)
            }

            fn pointers(room: &mut $raw) -> Pointers {
                Pointers::One(ptr::from_mut(room).cast())
            }

            unsafe fn take(room: $raw, _: &Binding) -> Result<$kind> {
                Ok($convert(room))
            }
        }
    };
}

number!(u32, u32, "u32", std::convert::identity);
number!(i32, i32, "i32", std::convert::identity);
number!(bool, i32, "bool", |value: i32| value != 0);

impl Output for Wide {
    type Value = String;
    type Room = *mut PRUnichar;

    fn signature(_: usize) -> Vec<String> {
        vec!["out retval wstring".into()]
    }

    fn room(_: &Binding) -> Result<Self::Room> {
        Ok(ptr::null_mut())
    }

    fn pointers(room: &mut Self::Room) -> Pointers {
        Pointers::One(ptr::from_mut(room).cast())
    }

    unsafe fn take(room: Self::Room, binding: &Binding) -> Result<String> {
        if room.is_null() {
            return Ok(String::new());
        }
        let mut length = 0;
        // SAFETY: a text that a method answers with ends with a zero.
        while unsafe { *room.add(length) } != 0 {
            length += 1;
        }
        // SAFETY: so many units were just looked at.
        let units = unsafe { std::slice::from_raw_parts(room, length) };
        let text = String::from_utf16_lossy(units);
        // SAFETY: what a method answers with is the caller's to free, with this function, once.
        unsafe { (binding.functions().free_string)(room) };
        Ok(text)
    }
}

/// An object that must be there.
pub(crate) struct New<I>(PhantomData<I>);

/// An object, or none.
pub(crate) struct Maybe<I>(PhantomData<I>);

impl<I: Interface> Output for Maybe<I> {
    type Value = Option<Ref<I>>;
    type Room = *mut nsISupports;

    fn signature(_: usize) -> Vec<String> {
        vec![format!("out retval {}", I::NAME)]
    }

    fn room(_: &Binding) -> Result<Self::Room> {
        Ok(ptr::null_mut())
    }

    fn pointers(room: &mut Self::Room) -> Pointers {
        Pointers::One(ptr::from_mut(room).cast())
    }

    unsafe fn take(room: Self::Room, binding: &Binding) -> Result<Option<Ref<I>>> {
        let Some(object) = NonNull::new(room) else {
            return Ok(None);
        };
        // SAFETY: an object that a method answers with, whose reference is the caller's.
        unsafe { Ref::confirm(object, binding) }.map(Some)
    }
}

impl<I: Interface> Output for New<I> {
    type Value = Ref<I>;
    type Room = *mut nsISupports;

    fn signature(index: usize) -> Vec<String> {
        Maybe::<I>::signature(index)
    }

    fn room(_: &Binding) -> Result<Self::Room> {
        Ok(ptr::null_mut())
    }

    fn pointers(room: &mut Self::Room) -> Pointers {
        Pointers::One(ptr::from_mut(room).cast())
    }

    unsafe fn take(room: Self::Room, binding: &Binding) -> Result<Ref<I>> {
        // SAFETY: as this one's.
        let object = unsafe { Maybe::<I>::take(room, binding) }?;
        object.ok_or_else(|| {
            let what = format!("VirtualBox answered with no {}", I::NAME);
            Error::new(ErrorKind::Failed, what)
        })
    }
}

/// Objects, in an array that the library makes and frees.
pub(crate) struct Many<I>(PhantomData<I>);

impl<I: Interface> Output for Many<I> {
    type Value = Vec<Ref<I>>;
    type Room = NonNull<super::bindings::SAFEARRAY>;

    fn signature(index: usize) -> Vec<String> {
        vec![
            "out u32".into(),
            format!("out retval [{}; {index}]", I::NAME),
        ]
    }

    fn room(binding: &Binding) -> Result<Self::Room> {
        // SAFETY: it takes nothing, and answers with an empty array or with null.
        let array = unsafe { (binding.functions().new_array)() };
        let array = NonNull::new(array);
        array.ok_or_else(|| Error::new(ErrorKind::Failed, "there is no memory for an array"))
    }

    fn pointers(room: &mut Self::Room) -> Pointers {
        let array = room.as_ptr();
        // SAFETY: the array is there until it is freed; places are made without reading.
        let (count, elements) = unsafe { (&raw mut (*array).c, &raw mut (*array).pv) };
        Pointers::Two(count.cast(), elements.cast())
    }

    unsafe fn take(room: Self::Room, binding: &Binding) -> Result<Vec<Ref<I>>> {
        // SAFETY: the array that the method has filled, until it is freed below.
        let (elements, count) = unsafe { ((*room.as_ptr()).pv, (*room.as_ptr()).c) };
        let elements = elements.cast::<*mut nsISupports>();
        let count = usize::try_from(count).unwrap_or_default();
        let mut objects = Vec::new();
        let mut failed = None;
        if !elements.is_null() {
            for index in 0..count {
                // SAFETY: one of the elements that the method has written.
                let Some(object) = NonNull::new(unsafe { *elements.add(index) }) else {
                    continue;
                };
                // SAFETY: its reference is the caller's: freeing the array leaves its objects.
                match unsafe { Ref::confirm(object, binding) } {
                    Ok(object) => objects.push(object),
                    Err(error) => failed = Some(error),
                }
            }
        }
        Self::drop_room(room, binding);
        failed.map_or(Ok(objects), Err)
    }

    fn drop_room(room: Self::Room, binding: &Binding) {
        // SAFETY: an array of the library's own, freed once, as rooms are taken or dropped.
        unsafe { (binding.functions().free_array)(room.as_ptr()) };
    }
}

/// The pointers of texts, with a null pointer behind the last, and how many texts they are.
pub(crate) fn pointers(texts: &[Text]) -> (u32, Vec<*const PRUnichar>) {
    let pointers = texts.iter().map(|text| text.0.as_ptr());
    let count = u32::try_from(texts.len()).unwrap_or(u32::MAX);
    (count, pointers.chain([ptr::null()]).collect())
}
