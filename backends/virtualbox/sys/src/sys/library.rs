//! The product's C library for XPCOM: opened, its table checked, never closed.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::os::unix::{Library as Opened, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::bindings::{PFNVBOXGETCAPIFUNCTIONS, PRUnichar, SAFEARRAY, VBOXCAPI, nsISupports};
use crate::error::{Error, ErrorKind, Result};

/// The version of the table that is asked for, which all products since 4.3 answer with.
const TABLE: u32 = 0x0004_0000;

/// The library's name in the product's folder.
const FILE: &str = if cfg!(target_vendor = "apple") {
    "VBoxXPCOMC.dylib"
} else {
    "VBoxXPCOMC.so"
};

type Code = u32;

/// The functions that are used, all of them there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Functions {
    pub(super) initialize:
        unsafe extern "C" fn(*const std::ffi::c_char, *mut *mut nsISupports) -> Code,
    pub(super) enter_thread: unsafe extern "C" fn() -> Code,
    pub(super) leave_thread: unsafe extern "C" fn() -> Code,
    pub(super) free_string: unsafe extern "C" fn(*mut PRUnichar),
    pub(super) new_array: unsafe extern "C" fn() -> *mut SAFEARRAY,
    pub(super) free_array: unsafe extern "C" fn(*mut SAFEARRAY) -> Code,
    pub(super) exception: unsafe extern "C" fn(*mut *mut nsISupports) -> Code,
    pub(super) clear_exception: unsafe extern "C" fn() -> Code,
}

/// The library of one installed product.
#[derive(Debug)]
pub(crate) struct Library {
    pub(super) functions: Functions,
    folder: PathBuf,
    version: u32,
}

impl Library {
    /// Opens the library in the product's folder.
    ///
    /// # Errors
    /// `Io` if it cannot be opened, `Incompatible` if it is not what it should be.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| {
            let what = "VirtualBox's folder cannot be read";
            Error::new(ErrorKind::Io, what).at(folder).caused_by(error)
        };
        let folder = folder.canonicalize().map_err(unreadable)?;
        let path = folder.join(FILE);
        Self::open_file(&path, folder).map_err(|error| error.at(&path))
    }

    fn open_file(path: &Path, folder: PathBuf) -> Result<Self> {
        let refused = |error: libloading::Error| {
            Error::new(
                ErrorKind::Io,
                "VirtualBox's library for XPCOM cannot be opened",
            )
            .caused_by(error)
        };
        // SAFETY: it runs the library's initialisers, which is what VirtualBox's own programs do with it; the path is
        // absolute, so nothing else is searched for.
        let library =
            unsafe { Opened::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(refused)?;
        // SAFETY: the SDK documents the symbol as a function of this type.
        let found: std::result::Result<Symbol<PFNVBOXGETCAPIFUNCTIONS>, _> =
            unsafe { library.get(b"VBoxGetCAPIFunctions\0") };
        let entry = found.map_err(refused)?;
        let Some(entry) = *entry else {
            return Err(Error::incompatible("it has no VBoxGetCAPIFunctions"));
        };
        if loaded_from(entry as *const ()) != Some(path.to_owned()) {
            return Err(Error::incompatible(
                "the program has another library of that name loaded already",
            ));
        }
        // SAFETY: any version may be asked for; the answer is null for those that it does not have.
        let table = unsafe { entry(TABLE) };
        // SAFETY: a table begins with its size and its version, whatever else it has.
        let head = unsafe { table.cast::<[u32; 2]>().as_ref() };
        let [size, version] = *head
            .ok_or_else(|| Error::incompatible(format!("it has no table of version {TABLE:#x}")))?;
        let wanted = size_of::<VBOXCAPI>();
        let large_enough = usize::try_from(size).is_ok_and(|size| size >= wanted);
        if !large_enough || version >> 16 != TABLE >> 16 {
            return Err(Error::incompatible(format!(
                "its table has {size} bytes and version {version:#x}, not {wanted} and {TABLE:#x}"
            )));
        }
        // SAFETY: it has at least the bytes of this type; tables are static, and the library is never closed.
        let table = unsafe { &*table };
        if usize::try_from(size) == Ok(wanted) && table.uEndVersion != version {
            return Err(Error::incompatible("its table ends elsewhere than it says"));
        }
        let functions = functions(table)
            .ok_or_else(|| Error::incompatible("its table lacks a function that is needed"))?;
        let Some(get_version) = table.pfnGetVersion else {
            return Err(Error::incompatible("its table lacks GetVersion"));
        };
        // SAFETY: it takes nothing and answers with a number.
        let version = unsafe { get_version() };
        // Its threads and exit handlers outlive whatever would close it.
        std::mem::forget(library);
        Ok(Self {
            functions,
            folder,
            version,
        })
    }

    /// The folder that it was opened in, absolute and without links.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The product's version: major, minor, build.
    pub(crate) fn version(&self) -> (u32, u32, u32) {
        let number = self.version;
        (number / 1_000_000, number / 1000 % 1000, number % 1000)
    }
}

fn functions(table: &VBOXCAPI) -> Option<Functions> {
    Some(Functions {
        initialize: table.pfnClientInitialize?,
        enter_thread: table.pfnClientThreadInitialize?,
        leave_thread: table.pfnClientThreadUninitialize?,
        free_string: table.pfnComUnallocString?,
        new_array: table.pfnSafeArrayOutParamAlloc?,
        free_array: table.pfnSafeArrayDestroy?,
        exception: table.pfnGetException?,
        clear_exception: table.pfnClearException?,
    })
}

/// The file that code at this address was loaded from, without links.
pub(super) fn loaded_from(code: *const ()) -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    // SAFETY: any address may be asked for; the answer goes into a structure of its own.
    let found = unsafe { libc::dladdr(code.cast(), &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the name of a library that stays loaded, ending with a zero byte.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Path::new(OsStr::from_bytes(name.to_bytes()))
        .canonicalize()
        .ok()
}
