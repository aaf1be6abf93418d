//! A new image of each format that can be written to: what is written and zeroed reads so, now and when it is opened
//! again, and a check finds nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratavm_disk::{
    Access, Below, Chain, CheckOptions, Ctx, Durability, Format, Target, check, create_blank,
};
use stratavm_fuzz::drawn::{Bytes, change, options, reads_as};

const FORMATS: [(Target, Format); 7] = [
    (Target::Raw, Format::Raw),
    (Target::Vmdk, Format::VmdkSparse),
    (Target::VmdkFlat, Format::VmdkDescriptor),
    (Target::VmdkSplit, Format::VmdkDescriptor),
    (Target::Vdi, Format::Vdi),
    (Target::Hdd, Format::Hdd),
    (Target::Qcow2, Format::Qcow2),
];

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let (target, format) = bytes.one(&FORMATS);
    let size = bytes.size();
    let folder = stratavm_fuzz::folder().expect("a folder");
    let path = folder.path().join("image");
    create_blank(&path, target, size, &options(1)).expect("an image");
    let gate = Below::new(folder.path()).expect("a folder");
    let mut content = vec![0; size as usize];
    for _ in 0..=bytes.byte() % 3 {
        let chain = Chain::open(&path, format, Access::Write, &gate).expect("it opens");
        assert!(reads_as(&chain, &content).expect("it reads"), "when opened");
        change(&mut bytes, &chain, &mut content).expect("it is written");
        assert!(reads_as(&chain, &content).expect("it reads"), "as written");
        chain.close(Durability::Unsynced).expect("it is closed");
    }
    let chain = Chain::open(&path, format, Access::Read, &gate).expect("it opens");
    assert!(reads_as(&chain, &content).expect("it reads"), "in the end");
    let checked = check(&path, format, &gate, &CheckOptions::default(), &Ctx::none());
    let checked = checked.expect("it is checked");
    assert!(checked.findings.is_empty(), "{target}: {checked:?}");
});
