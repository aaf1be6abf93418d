//! Tests of the parser and of the search for slots, on small libraries of their own.

use super::write::encode;
use super::*;

const NUMBER: Type = plain(6);
const TEXT: Type = Type::Plain {
    tag: 17,
    pointer: true,
};

const fn plain(tag: u8) -> Type {
    Type::Plain {
        tag,
        pointer: false,
    }
}

fn method(role: Role, name: &str, parameters: &[(u8, Type)]) -> Method {
    let parameters = parameters.iter().cloned();
    Method {
        name: name.into(),
        role,
        bare: false,
        parameters: parameters
            .map(|(flags, kind)| Parameter { flags, kind })
            .collect(),
        result: Parameter {
            flags: 0,
            kind: NUMBER,
        },
    }
}

fn interface(name: &str, id: u8, parent: Option<usize>, methods: Vec<Method>) -> Interface {
    Interface {
        iid: Iid([id; 16]),
        name: name.into(),
        description: Some(Description {
            parent,
            methods,
            constants: Vec::new(),
        }),
    }
}

/// The root of all interfaces, as XPCOM froze it.
fn root() -> Interface {
    let id = Type::Plain {
        tag: 14,
        pointer: true,
    };
    let count = |name: &str| Method {
        bare: true,
        result: Parameter {
            flags: 0x20,
            kind: NUMBER,
        },
        ..method(Role::Method, name, &[])
    };
    let query = method(
        Role::Method,
        "QueryInterface",
        &[(0x80, id), (0x60, Type::InterfaceIs(0))],
    );
    let methods = vec![query, count("AddRef"), count("Release")];
    let mut root = interface("nsISupports", 0, None, methods);
    root.iid.0[8] = 0xc0;
    root.iid.0[15] = 0x46;
    root
}

/// A machine that extends a thing, and an enumeration.
fn sample() -> Vec<Interface> {
    let thing = vec![
        method(Role::Getter, "name", &[(0x60, TEXT)]),
        method(Role::Setter, "name", &[(0x80, TEXT)]),
    ];
    let list = Type::Array(0, Box::new(Type::Interface(2)));
    let machine = vec![
        method(Role::Getter, "state", &[(0x60, NUMBER)]),
        method(Role::Method, "getClones", &[(0x40, NUMBER), (0x60, list)]),
        method(
            Role::Method,
            "lock",
            &[(0x80, Type::Interface(1)), (0x80, NUMBER)],
        ),
    ];
    let mut state = interface("State", 9, None, Vec::new());
    if let Some(body) = &mut state.description {
        body.constants = vec![("Off".into(), 1), ("Running".into(), 5)];
    }
    vec![
        root(),
        interface("IThing", 1, Some(0), thing),
        interface("IMachine", 2, Some(1), machine),
        state,
    ]
}

fn library(interfaces: &[Interface]) -> TypeLibrary {
    TypeLibrary::parse(&encode(interfaces)).unwrap()
}

fn methods(interfaces: &mut [Interface], at: usize) -> &mut Vec<Method> {
    &mut interfaces[at].description.as_mut().unwrap().methods
}

const EXTENDS: [&str; 2] = ["IThing", "nsISupports"];

/// Why the slot of `lock` is not given.
fn refused(change: impl FnOnce(&mut Vec<Interface>)) -> String {
    let mut interfaces = sample();
    change(&mut interfaces);
    let error = library(&interfaces)
        .slot("IMachine", &EXTENDS, "lock(in IThing, in u32)")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    error.to_string()
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(library(&sample()).interfaces(), sample());
}

#[test]
fn slots_count_all_ancestors() {
    let library = library(&sample());
    let slot = |signature| library.slot("IMachine", &EXTENDS, signature);
    assert_eq!(slot("get state(out retval u32)").unwrap().index, 5);
    let clones = slot("getClones(out u32, out retval [IMachine; 0])").unwrap();
    assert_eq!((clones.index, clones.iid), (6, Iid([2; 16])));
    assert_eq!(slot("lock(in IThing, in u32)").unwrap().index, 7);
    let own = library.slot("IThing", &["nsISupports"], "set name(in wstring)");
    assert_eq!(own.unwrap().index, 4);
}

#[test]
fn constants_are_found_by_name() {
    let library = library(&sample());
    assert_eq!(library.constant("State", "Running").unwrap(), 5);
    let missing = library.constant("State", "Paused").unwrap_err();
    assert_eq!(missing.to_string(), "State has no constant Paused");
}

#[test]
fn another_signature_is_refused_and_named() {
    let said = refused(|all| methods(all, 2)[2].parameters[1].kind = TEXT);
    assert!(said.contains("lock(in IThing, in wstring)"), "{said}");
    let said = refused(|all| methods(all, 2)[2].parameters[1].flags = 0x40);
    assert!(said.contains("lock(in IThing, out u32)"), "{said}");
    let pointer = Type::Plain {
        tag: 6,
        pointer: true,
    };
    let said = refused(|all| methods(all, 2)[2].parameters[1].kind = pointer);
    assert!(said.contains("lock(in IThing, in u32*)"), "{said}");
    let said = refused(|all| methods(all, 2)[2].result.kind = TEXT);
    assert!(said.contains("-> wstring"), "{said}");
    let said = refused(|all| methods(all, 2).truncate(2));
    assert!(said.contains("there is no lock"), "{said}");
}

#[test]
fn ancestors_must_be_those_that_were_expected() {
    let said = refused(|all| all[2].description.as_mut().unwrap().parent = Some(0));
    assert!(said.contains("extends nsISupports"), "{said}");
    let said = refused(|all| all[1].description.as_mut().unwrap().parent = Some(2));
    assert!(said.contains("extends more than"), "{said}");
    let said = refused(|all| all[1].description = None);
    assert!(said.contains("IThing is not described"), "{said}");
    let said = refused(|all| methods(all, 0)[2].name = "Free".into());
    assert!(said.contains("not what XPCOM froze"), "{said}");
    let said = refused(|all| all[0].iid.0[0] = 1);
    assert!(said.contains("not what XPCOM froze"), "{said}");
}

#[test]
fn methods_before_it_must_stand_in_order() {
    let said = refused(|all| methods(all, 2)[0].bare = true);
    assert!(said.contains("no result code"), "{said}");
    let said = refused(|all| methods(all, 1).swap(0, 1));
    assert!(said.contains("does not follow its getter"), "{said}");
    let said = refused(|all| {
        let again = methods(all, 2)[1].clone();
        methods(all, 2).insert(0, again);
    });
    assert!(said.contains("there are two getClones"), "{said}");
    let said = refused(|all| {
        let again = methods(all, 2)[2].clone();
        methods(all, 2).push(again);
    });
    assert!(said.contains("there are two lock"), "{said}");
    let said = refused(|all| {
        let machine = all[2].clone();
        all.push(machine);
    });
    assert!(said.contains("more than one interface"), "{said}");
}

#[test]
fn what_is_only_named_is_taken_from_the_base() {
    let (mut named, base) = (sample(), sample());
    named[0].description = None;
    named[1].description = None;
    let mut whole = library(&named);
    whole.resolve(&library(&base)).unwrap();
    assert_eq!(whole.interfaces(), sample());

    let mut other = sample();
    other[1].iid = Iid([7; 16]);
    let error = library(&named).resolve(&library(&other)).unwrap_err();
    assert!(error.to_string().starts_with("IThing is 01010101-0101"));
}

#[test]
fn damaged_libraries_are_refused_or_read_but_never_crash() {
    let good = encode(&sample());
    for length in 0..good.len() {
        let error = TypeLibrary::parse(&good[..length]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
    let mut accepted = 0;
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let Ok(read) = TypeLibrary::parse(&bytes) else {
                continue;
            };
            accepted += 1;
            // Whatever it says now, a slot that is given lies in the vtable.
            for signature in ["lock(in IThing, in u32)", "get state(out retval u32)"] {
                if let Ok(slot) = read.slot("IMachine", &EXTENDS, signature) {
                    assert!(slot.index < 8, "{slot:?} with {value:#x} at {at}");
                }
            }
        }
    }
    assert!(accepted > 0);
}

#[test]
fn counts_and_offsets_are_not_believed() {
    let reason = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = encode(&sample());
        change(&mut bytes);
        TypeLibrary::parse(&bytes).unwrap_err().to_string()
    };
    let said = reason(&|bytes| bytes[18] = 0xff);
    assert!(said.starts_with("more than 4096 interfaces"), "{said}");
    let said = reason(&|bytes| bytes[18] = 0x0f);
    assert!(said.starts_with("its directory is beyond"), "{said}");
    let said = reason(&|bytes| bytes.push(0));
    assert!(said.starts_with("its length is not"), "{said}");
    // Where the name of the first interface is: at the end of the address space.
    let said = reason(&|bytes| bytes[49..53].fill(0xff));
    assert!(
        said.contains("of the data pool is beyond its end"),
        "{said}"
    );
}

#[test]
fn descriptions_that_overlap_are_refused() {
    // Every entry shares the largest description, many times what the file has.
    let mut bytes = encode(&vec![sample().swap_remove(0); 40]);
    let first: [u8; 4] = bytes[57..61].try_into().unwrap();
    for entry in 0..40 {
        let at = 33 + entry * 28 + 24;
        bytes[at..at + 4].copy_from_slice(&first);
    }
    let small = TypeLibrary::parse(&bytes);
    assert!(small.is_ok(), "40 of them still fit");
    let methods = (0..200).map(|n| method(Role::Method, &format!("m{n}"), &[]));
    let big = interface("IBig", 3, None, methods.collect());
    let mut bytes = encode(&[vec![big], vec![sample().swap_remove(1); 5]].concat());
    let first: [u8; 4] = bytes[57..61].try_into().unwrap();
    for entry in 0..6 {
        let at = 33 + entry * 28 + 24;
        bytes[at..at + 4].copy_from_slice(&first);
    }
    let error = TypeLibrary::parse(&bytes).unwrap_err().to_string();
    assert!(
        error.starts_with("descriptions of interfaces overlap"),
        "{error}"
    );
}
