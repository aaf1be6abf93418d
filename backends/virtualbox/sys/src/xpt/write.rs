//! Type libraries as bytes, for tests: the parser's counterpart.

use super::parse::{
    ARRAY, BARE, GETTER, INTERFACE, INTERFACE_IS, POINTER, SETTER, WIDE_STRING_SIZED,
};
use super::{Interface, Method, Parameter, Role, Type};

/// The bytes of a library with these interfaces.
pub(super) fn encode(interfaces: &[Interface]) -> Vec<u8> {
    let mut pool = Vec::new();
    let mut directory = Vec::new();
    for interface in interfaces {
        let name = text(&mut pool, &interface.name);
        let description = interface.description.as_ref().map(|body| {
            let mut bytes = index(body.parent).to_be_bytes().to_vec();
            count(&mut bytes, body.methods.len());
            for one in &body.methods {
                method(&mut bytes, &mut pool, one);
            }
            count(&mut bytes, body.constants.len());
            for (name, value) in &body.constants {
                bytes.extend(text(&mut pool, name).to_be_bytes());
                bytes.push(6);
                bytes.extend(u32::try_from(*value).unwrap().to_be_bytes());
            }
            bytes.push(0x80);
            bytes
        });
        directory.extend(interface.iid.0);
        directory.extend(name.to_be_bytes());
        directory.extend(0_u32.to_be_bytes());
        let at = description.map_or(0, |bytes| add(&mut pool, &bytes));
        directory.extend(at.to_be_bytes());
    }
    let mut bytes = b"XPCOM\nTypeLib\r\n\x1a\x01\x02".to_vec();
    count(&mut bytes, interfaces.len());
    let start = 33;
    let pool_at = start + directory.len();
    for number in [pool_at + pool.len(), start + 1, pool_at] {
        bytes.extend(u32::try_from(number).unwrap().to_be_bytes());
    }
    // The one annotation, an empty one.
    bytes.push(0x80);
    bytes.extend(directory);
    bytes.extend(pool);
    bytes
}

/// Puts bytes into the pool; answers with their 1-based offset.
fn add(pool: &mut Vec<u8>, bytes: &[u8]) -> u32 {
    let at = u32::try_from(pool.len() + 1).unwrap();
    pool.extend(bytes);
    at
}

fn text(pool: &mut Vec<u8>, text: &str) -> u32 {
    add(pool, &[text.as_bytes(), b"\0"].concat())
}

fn index(of: Option<usize>) -> u16 {
    of.map_or(0, |at| u16::try_from(at + 1).unwrap())
}

fn count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(u16::try_from(count).unwrap().to_be_bytes());
}

fn method(bytes: &mut Vec<u8>, pool: &mut Vec<u8>, method: &Method) {
    let role = match method.role {
        Role::Method => 0,
        Role::Getter => GETTER,
        Role::Setter => SETTER,
    };
    bytes.push(role | if method.bare { BARE } else { 0 });
    bytes.extend(text(pool, &method.name).to_be_bytes());
    bytes.push(u8::try_from(method.parameters.len()).unwrap());
    for one in &method.parameters {
        parameter(bytes, one);
    }
    parameter(bytes, &method.result);
}

fn parameter(bytes: &mut Vec<u8>, parameter: &Parameter) {
    bytes.push(parameter.flags);
    kind(bytes, &parameter.kind);
}

fn kind(bytes: &mut Vec<u8>, of: &Type) {
    match of {
        Type::Plain { tag, pointer } => bytes.push(tag | if *pointer { POINTER } else { 0 }),
        Type::Interface(at) => {
            bytes.push(INTERFACE | POINTER);
            bytes.extend(index(Some(*at)).to_be_bytes());
        }
        Type::InterfaceIs(argument) => bytes.extend([INTERFACE_IS | POINTER, *argument]),
        Type::Array(size, element) => {
            bytes.extend([ARRAY | POINTER, *size, *size]);
            kind(bytes, element);
        }
        Type::Sized(tag, size) => {
            assert!(*tag <= WIDE_STRING_SIZED);
            bytes.extend([tag | POINTER, *size, *size]);
        }
    }
}
