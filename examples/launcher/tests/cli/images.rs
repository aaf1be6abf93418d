//! `image add`, `image list`, `image verify`, and images that are not what they should be.

use std::fs::{self, File};

use stratavm::testkit::guest::BootSector;

use crate::bench::{Home, MIB, tree};

#[test]
fn an_image_is_added_once_listed_and_verified() {
    let home = Home::new();
    home.disk("a.raw", 2, None, "content");
    let first = home.ok("image-add", &["image", "add", "a.raw"]);
    assert_eq!(
        (&first["existing"], &first["bytes"]),
        (&false.into(), &(2 * MIB).into())
    );
    fs::copy(home.folder().join("a.raw"), home.folder().join("b.raw")).unwrap();
    let second = home.ok("image-add", &["image", "add", "b.raw"]);
    assert_eq!(
        (&second["existing"], &second["digest"]),
        (&true.into(), &first["digest"])
    );
    let list = home.ok("image-list", &["image", "list"]);
    assert_eq!(list["images"].as_array().unwrap().len(), 1);
    let digest = first["digest"].as_str().unwrap();
    assert!(home.text(&["image", "list"]).contains(digest));
    let verified = home.ok("image-verify", &["image", "verify", digest]);
    assert_eq!(verified["intact"], true);
    assert!(
        home.text(&["image", "add", "b.raw"])
            .contains("was there already")
    );
}

#[test]
fn images_of_a_folder_beside_the_store_are_found_and_only_read() {
    let home = Home::new();
    home.disk("a.raw", 2, None, "content");
    let added = home.ok("image-add", &["image", "add", "a.raw"]);
    let digest = added["digest"].as_str().unwrap();
    let company = home.folder().join("company");
    fs::rename(home.store().join("images"), &company).unwrap();
    let path = company.to_str().unwrap();
    let missing = home.fails(&["image", "verify", digest]);
    assert_eq!(missing.kind, "not-found");

    let noted = home.ok("image-roots", &["image", "roots", "--add", path]);
    assert_eq!(noted["roots"][0]["there"], true, "{noted}");
    let before = tree(&company);
    let list = home.ok("image-list", &["image", "list"]);
    let folder = list["images"][0]["folder"].as_str().unwrap();
    assert!(folder.starts_with(path), "{list}");
    home.ok("image-verify", &["image", "verify", digest]);
    assert_eq!(
        home.fails(&["image", "roots", "--add", path]).kind,
        "exists"
    );

    let away = home.folder().join("away");
    fs::rename(&company, &away).unwrap();
    let gone = home.ok("image-roots", &["image", "roots"]);
    assert_eq!(gone["roots"][0]["there"], false, "{gone}");
    let missing = home.fails(&["image", "verify", digest]);
    assert!(missing.next.contains("mount"), "{missing:?}");
    fs::rename(&away, &company).unwrap();
    assert!(tree(&company) == before, "the folder was changed");

    home.ok("image-roots", &["image", "roots", "--remove", path]);
    let list = home.ok("image-list", &["image", "list"]);
    assert!(list["images"].as_array().unwrap().is_empty(), "{list}");
    assert_eq!(
        home.fails(&["image", "roots", "--remove", path]).kind,
        "not-found"
    );
}

#[test]
fn an_image_is_cut_padded_or_refused_as_asked() {
    let home = Home::new();
    home.disk("big.raw", 5, None, "x");
    let cut = home.ok(
        "image-add",
        &["image", "add", "big.raw", "--max-extent", "2 MiB"],
    );
    assert_eq!(cut["extents"], 3);
    home.file("odd.raw", vec![1; 1_000_000]);
    let odd = home.fails(&["image", "add", "odd.raw", "--exact"]);
    assert_eq!(odd.kind, "invalid");
    assert!(odd.next.contains("--exact"), "{odd:?}");
    let padded = home.ok("image-add", &["image", "add", "odd.raw"]);
    assert_eq!(padded["bytes"], MIB);
    let wrong = [
        "image", "add", "odd.raw", "--fs", "squashfs", "--role", "apps", "--name", "a",
    ];
    let failure = home.fails(&wrong);
    assert!(failure.all.contains("squashfs"), "{failure:?}");
}

#[test]
fn files_that_are_no_images_are_refused_and_leave_nothing() {
    let home = Home::new();
    home.file("empty.raw", "");
    fs::create_dir(home.folder().join("folder.raw")).unwrap();
    let large = File::create(home.folder().join("large.raw")).unwrap();
    // Above what a sparse VMDK holds; not every volume has files of that size.
    if large.set_len(3 << 40).is_err() {
        large.set_len(0).unwrap();
    }
    home.ok("list", &["list"]);
    let before = home.snapshot();
    let mut files = vec![
        ("missing.raw", "not-found"),
        ("folder.raw", "invalid"),
        ("empty.raw", "invalid"),
    ];
    if large.metadata().unwrap().len() > 0 {
        files.push(("large.raw", "no-space"));
    }
    #[cfg(unix)]
    {
        let fifo = home.folder().join("pipe.raw");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        files.push(("pipe.raw", "invalid"));
        files.push(("/dev/zero", "invalid"));
    }
    for (file, kind) in files {
        let failure = home.fails(&["image", "add", file]);
        assert_eq!(failure.kind, kind, "{file}: {failure:?}");
        assert!(failure.all.contains(file), "{file}: {failure:?}");
        assert_eq!(before, home.snapshot(), "{file}");

        let toml = crate::bench::DESK
            .replace("os.raw", file)
            .replace("office.raw", file);
        home.file("bad.toml", toml);
        let failure = home.fails(&["create", "bad.toml"]);
        assert_eq!(failure.kind, kind, "{file}: {failure:?}");
        assert!(failure.all.contains("layer os"), "{failure:?}");
        assert_eq!(before, home.snapshot(), "{file}");
        let failure = home.fails(&["translate", "bad.toml", "--out", "out"]);
        assert!(failure.all.contains(file), "{failure:?}");
        assert!(!home.folder().join("out").exists());
    }
}

#[test]
fn an_image_that_was_changed_is_found_out() {
    let home = Home::new();
    home.desk(&BootSector::new());
    let list = home.ok("image-list", &["image", "list"]);
    let images = list["images"].as_array().unwrap();
    let used = images.iter().find(|image| image["blank"] == false).unwrap();
    let digest = used["digest"].as_str().unwrap();
    let folder = std::path::PathBuf::from(used["folder"].as_str().unwrap());
    let extent = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let extent = extent
        .filter(|p| p.is_file())
        .find(|p| !p.ends_with("image.json"))
        .unwrap();
    let whole = fs::read(&extent).unwrap();
    fs::remove_file(&extent).unwrap();

    let mut changed = whole.clone();
    changed[3000] ^= 1;
    fs::write(&extent, &changed).unwrap();
    let answer = home.answer("image-verify", 1, &["image", "verify", digest]);
    assert_eq!(answer["intact"], false);
    assert_eq!(answer["changed"][0]["path"], extent.to_str().unwrap());

    for damage in [Some(&whole[..whole.len() / 2]), None] {
        fs::remove_file(&extent).unwrap();
        if let Some(bytes) = damage {
            fs::write(&extent, bytes).unwrap();
        }
        let before = home.snapshot();
        let answer = home.answer("image-verify", 1, &["image", "verify", digest]);
        assert_eq!(answer["intact"], false);
        let failure = home.fails(&["start", "desk", "--wait"]);
        assert_eq!(failure.kind, "mismatch", "{failure:?}");
        assert!(
            failure.all.contains(extent.to_str().unwrap()),
            "{failure:?}"
        );
        let list = home.ok("image-list", &["image", "list"]);
        assert_eq!(list["problems"].as_array().unwrap().len(), 1, "{list}");
        assert_eq!(
            list["images"].as_array().unwrap().len(),
            2,
            "the others are listed"
        );
        assert_eq!(before, home.snapshot());
        fs::write(&extent, b"").unwrap();
    }
    fs::write(&extent, &whole).unwrap();
    assert_eq!(
        home.ok("image-verify", &["image", "verify", digest])["intact"],
        true
    );
    let none = format!("sha256c:{}", "0".repeat(64));
    assert_eq!(home.fails(&["image", "verify", &none]).kind, "not-found");
}
