//! Signatures as text, and at which slot of a vtable the method of a signature is.
//!
//! A signature is written `name(parameters)`, with `get` or `set` before the name of an attribute: `get version(out
//! retval wstring)`, `lockMachine(in ISession, in u32)`. A result is written only where it is not the usual code.

use std::fmt::Write as _;

use super::{Description, Iid, Interface, Method, Parameter, Role, Type, TypeLibrary};
use crate::error::{Error, Result};

/// Interfaces between one and the root; VirtualBox has two.
const MAX_ANCESTORS: usize = 8;

/// Names of the types that are their tag alone; the others are written by what they are.
const TAGS: [&str; 26] = [
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "float",
    "double",
    "bool",
    "char",
    "wchar",
    "void",
    "nsid",
    "domstring",
    "string",
    "wstring",
    "interface",
    "interface-is",
    "array",
    "string-sized",
    "wstring-sized",
    "utf8string",
    "cstring",
    "astring",
];
/// The first tag of types that are declared as pointers.
const FIRST_POINTER: u8 = 14;

/// What never changes, since XPCOM froze it: the root of all interfaces, and what errors extend.
struct Frozen {
    name: &'static str,
    iid: [u8; 16],
    methods: &'static [&'static str],
}

const ROOT: &str = "nsISupports";

const FROZEN: [Frozen; 2] = [
    Frozen {
        name: ROOT,
        iid: 0x0000_0000_0000_0000_c000_0000_0000_0046_u128.to_be_bytes(),
        methods: &[
            "QueryInterface(in nsid, out retval interface-is 0)",
            "bare AddRef() -> retval u32",
            "bare Release() -> retval u32",
        ],
    },
    Frozen {
        name: "nsIException",
        iid: 0xf3a8_d3b4_c424_4edc_8bf6_8974_c983_ba78_u128.to_be_bytes(),
        methods: &[
            "get message(out retval string)",
            "get result(out retval u32)",
            "get name(out retval string)",
            "get filename(out retval string)",
            "get lineNumber(out retval u32)",
            "get columnNumber(out retval u32)",
            "get location(out retval nsIStackFrame)",
            "get inner(out retval nsIException)",
            "get data(out retval nsISupports)",
            "toString(out retval string)",
        ],
    },
];

/// Where a method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The interface that the object must answer for.
    pub iid: Iid,
    /// Index in its vtable.
    pub index: usize,
}

impl TypeLibrary {
    /// The signature of a method, as text.
    #[must_use]
    pub fn signature(&self, method: &Method) -> String {
        let mut text = head(method);
        text.push('(');
        for (index, parameter) in method.parameters.iter().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            self.write_parameter(&mut text, parameter);
        }
        text.push(')');
        let code = Parameter {
            flags: 0,
            kind: Type::Plain {
                tag: 6,
                pointer: false,
            },
        };
        if method.result != code {
            text.push_str(" -> ");
            self.write_parameter(&mut text, &method.result);
        }
        text
    }

    /// The slot of the method of `interface` that has this signature.
    ///
    /// It is given only if everything that it depends on is as it should be: the interface extends those that
    /// `extends` names, up to `nsISupports`; all of them are described, those that XPCOM froze as they were frozen; each
    /// method before it has a name of its own, setters stand behind their getters, and none but the root's answers with
    /// anything but a result code.
    ///
    /// # Errors
    /// `Incompatible` naming what is not so.
    pub fn slot(&self, interface: &str, extends: &[&str], signature: &str) -> Result<Slot> {
        let wrong = |what: String| Error::incompatible(format!("{interface}: {what}"));
        let found = self.interface(interface)?;
        let ancestors = self.ancestors(found)?;
        let names: Vec<&str> = ancestors.iter().map(|all| all.name.as_str()).collect();
        if names != extends {
            let names = names.join(", ");
            return Err(wrong(format!(
                "it extends {names}, not {}",
                extends.join(", ")
            )));
        }
        let mut before: Vec<&Method> = Vec::new();
        for ancestor in ancestors.iter().rev() {
            self.check_frozen(ancestor)?;
            before.extend(&described(ancestor)?.methods);
        }
        let inherited = before.len();
        before.extend(&described(found)?.methods);
        let name = signature.split('(').next().unwrap_or_default();
        let index = before.iter().position(|method| head(method) == name);
        let Some((index, method)) = index.and_then(|at| Some((at, *before.get(at)?))) else {
            return Err(wrong(format!("there is no {name}")));
        };
        if self.signature(method) != signature || index < inherited {
            let other = self.signature(method);
            return Err(wrong(format!("there is {other}, not {signature}")));
        }
        let same = before.iter().filter(|method| head(method) == name);
        if same.count() > 1 {
            return Err(wrong(format!("there are two {name}")));
        }
        before.truncate(index + 1);
        check_order(&before).map_err(wrong)?;
        Ok(Slot {
            iid: found.iid,
            index,
        })
    }

    /// What an interface extends, up to the root.
    fn ancestors(&self, interface: &Interface) -> Result<Vec<&Interface>> {
        let mut ancestors = Vec::new();
        let mut next = described(interface)?.parent;
        while let Some(ancestor) = next.and_then(|index| self.interfaces.get(index)) {
            if ancestors.len() == MAX_ANCESTORS {
                let name = &interface.name;
                return Err(Error::incompatible(format!(
                    "{name} extends more than {MAX_ANCESTORS} interfaces"
                )));
            }
            ancestors.push(ancestor);
            next = described(ancestor)?.parent;
        }
        Ok(ancestors)
    }

    fn check_frozen(&self, interface: &Interface) -> Result<()> {
        let Some(frozen) = FROZEN.iter().find(|all| all.name == interface.name) else {
            return Ok(());
        };
        let methods = described(interface)?.methods.iter();
        let methods: Vec<String> = methods.map(|method| self.signature(method)).collect();
        if interface.iid.0 == frozen.iid && methods == frozen.methods {
            return Ok(());
        }
        Err(Error::incompatible(format!(
            "{} is not what XPCOM froze: {methods:?}",
            interface.name
        )))
    }

    fn write_parameter(&self, text: &mut String, parameter: &Parameter) {
        let flags = match parameter.flags {
            0 => "",
            0x20 => "retval ",
            0x40 => "out ",
            0x60 => "out retval ",
            0x80 => "in ",
            0xc0 => "inout ",
            _ => "special ",
        };
        text.push_str(flags);
        self.write_type(text, &parameter.kind);
    }

    fn write_type(&self, text: &mut String, kind: &Type) {
        let tag = |tag: u8| TAGS.get(usize::from(tag)).copied().unwrap_or("unknown");
        // Writing to a string does not fail.
        let _ = match kind {
            Type::Plain { tag: at, pointer } => {
                let usual = *pointer == (*at >= FIRST_POINTER);
                let mark = match (usual, pointer) {
                    (true, _) => "",
                    (false, true) => "*",
                    (false, false) => " by value",
                };
                write!(text, "{}{mark}", tag(*at))
            }
            Type::Interface(index) => {
                let interface = self.interfaces.get(*index);
                write!(text, "{}", interface.map_or("unknown", |all| &all.name))
            }
            Type::InterfaceIs(argument) => write!(text, "interface-is {argument}"),
            Type::Sized(at, size) => write!(text, "{} {size}", tag(*at)),
            Type::Array(size, element) => {
                text.push('[');
                self.write_type(text, element);
                write!(text, "; {size}]")
            }
        };
    }
}

/// How a method is named in a signature: name and role.
fn head(method: &Method) -> String {
    let bare = if method.bare { "bare " } else { "" };
    let role = match method.role {
        Role::Method => "",
        Role::Getter => "get ",
        Role::Setter => "set ",
    };
    format!("{bare}{role}{}", method.name)
}

fn described(interface: &Interface) -> Result<&Description> {
    let name = &interface.name;
    interface
        .description
        .as_ref()
        .ok_or_else(|| Error::incompatible(format!("{name} is not described")))
}

/// Whether methods stand as the compiler of interfaces orders them; the first three are the root's.
fn check_order(methods: &[&Method]) -> std::result::Result<(), String> {
    let mut last = "";
    let mut heads = std::collections::HashSet::new();
    for (index, method) in methods.iter().enumerate() {
        let name = &method.name;
        if !heads.insert(head(method)) {
            return Err(format!("there are two {}", head(method)));
        }
        if method.role == Role::Setter && last != name {
            return Err(format!("the setter of {name} does not follow its getter"));
        }
        if method.bare && index > 2 {
            return Err(format!("{name} answers with no result code"));
        }
        last = if method.role == Role::Getter {
            name
        } else {
            ""
        };
    }
    Ok(())
}
