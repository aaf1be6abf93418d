//! Every interface and method that is used, and nothing else: what the installed type library must have.

use crate::sys::{Declared, In, Interface, Many, Maybe, Method, New, Wide, WideArray};

macro_rules! interfaces {
    ($($index:literal $name:ident $(: $parent:literal)?;)*) => {
        $(
            pub(crate) enum $name {}

            impl Interface for $name {
                const NAME: &'static str = stringify!($name);
                const EXTENDS: &'static [&'static str] = &[$($parent,)? "nsISupports"];
                const INDEX: usize = $index;
            }
        )*

        /// Names of the interfaces, by their indices.
        pub(crate) const INTERFACES: &[&str] = &[$(stringify!($name)),*];
    };
}

interfaces! {
    0 IVirtualBoxClient;
    1 IVirtualBox;
    2 IMachine;
    3 ISession;
    4 IConsole;
    5 IProgress;
    6 IVirtualBoxErrorInfo: "nsIException";
    7 IMedium;
}

macro_rules! methods {
    ($($index:literal $constant:ident: $interface:ident $name:literal $inputs:ty => $output:ty;)*) => {
        $(
            pub(crate) const $constant: Method<$interface, $inputs, $output> =
                Method::new($name, $index);
        )*

        /// All methods, by their indices.
        pub(crate) const METHODS: &[&dyn Declared] = &[$(&$constant),*];
    };
}

methods! {
    0 CLIENT_BOX: IVirtualBoxClient "get virtualBox" () => New<IVirtualBox>;
    1 CLIENT_SESSION: IVirtualBoxClient "get session" () => New<ISession>;
    2 BOX_VERSION: IVirtualBox "get version" () => Wide;
    3 BOX_MACHINES: IVirtualBox "getMachines" () => Many<IMachine>;
    4 BOX_OPEN: IVirtualBox "openMachine" (Wide, Wide) => New<IMachine>;
    5 BOX_REGISTER: IVirtualBox "registerMachine" (In<IMachine>,) => ();
    6 BOX_FIND: IVirtualBox "findMachine" (Wide,) => New<IMachine>;
    7 MACHINE_ACCESSIBLE: IMachine "get accessible" () => bool;
    8 MACHINE_NAME: IMachine "get name" () => Wide;
    9 MACHINE_ID: IMachine "get id" () => Wide;
    10 MACHINE_SETTINGS: IMachine "get settingsFilePath" () => Wide;
    11 MACHINE_STATE: IMachine "get state" () => u32;
    12 MACHINE_SESSION_STATE: IMachine "get sessionState" () => u32;
    13 MACHINE_LOCK: IMachine "lockMachine" (In<ISession>, u32) => ();
    14 MACHINE_LAUNCH: IMachine "launchVMProcess" (In<ISession>, Wide, u32, WideArray) => New<IProgress>;
    15 MACHINE_SAVE_STATE: IMachine "saveState" () => New<IProgress>;
    16 MACHINE_DISCARD_STATE: IMachine "discardSavedState" (bool,) => ();
    17 MACHINE_UNREGISTER: IMachine "unregister" (u32,) => Many<IMedium>;
    18 SESSION_MACHINE: ISession "get machine" () => New<IMachine>;
    19 SESSION_CONSOLE: ISession "get console" () => Maybe<IConsole>;
    20 SESSION_UNLOCK: ISession "unlockMachine" () => ();
    21 CONSOLE_POWER_DOWN: IConsole "powerDown" () => New<IProgress>;
    22 CONSOLE_POWER_BUTTON: IConsole "powerButton" () => ();
    23 CONSOLE_PAUSE: IConsole "pause" () => ();
    24 CONSOLE_RESUME: IConsole "resume" () => ();
    25 PROGRESS_WAIT: IProgress "waitForCompletion" (i32,) => ();
    26 PROGRESS_COMPLETED: IProgress "get completed" () => bool;
    27 PROGRESS_RESULT: IProgress "get resultCode" () => i32;
    28 PROGRESS_ERROR: IProgress "get errorInfo" () => Maybe<IVirtualBoxErrorInfo>;
    29 PROGRESS_CANCEL: IProgress "cancel" () => ();
    30 ERROR_TEXT: IVirtualBoxErrorInfo "get text" () => Wide;
    31 ERROR_COMPONENT: IVirtualBoxErrorInfo "get component" () => Wide;
}
