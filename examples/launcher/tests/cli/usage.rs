//! The command line: help, wrong usage, names that break the rules, completions.

use crate::bench::{DESK, Home, text};
use crate::schema::subcommands;

#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::new();
    let mut seen = 0;
    let mut check = |words: &[&str]| {
        let arguments: Vec<_> = words.iter().copied().chain(["--help"]).collect();
        let output = home.run(&arguments);
        assert!(output.status.success() && output.stderr.is_empty());
        let help = text(&output.stdout);
        let example = format!("  stratavm {}", words.join(" "));
        assert!(
            help.contains("Example") && help.contains(&example),
            "{help}"
        );
        seen += 1;
    };
    for command in subcommands(&home, &[]) {
        check(&[&command]);
        for sub in subcommands(&home, &[&command]) {
            check(&[&command, &sub]);
        }
    }
    assert!(seen > 20, "{seen}");
    assert!(!home.store().exists(), "help makes no store");
}

#[test]
fn wrong_usage_is_status_2_and_leaves_stdout_alone() {
    let home = Home::new();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["create"],
        &["status", "desk", "lamp"],
        &["start", "desk", "--once"],
        &["start", "desk", "--wait", "--timeout"],
        &["image", "add", "a.raw", "--fs", "squashfs"],
        &[
            "image", "add", "a.raw", "--fs", "ntfs", "--role", "apps", "--name", "a",
        ],
        &["disk", "create", "a.vmdk"],
        &["completions", "tcsh"],
        &["list", "--jsn"],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = home.run(&[arguments, json].concat());
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
            assert!(
                text(&output.stderr).contains("--help"),
                "{arguments:?}: {output:?}"
            );
        }
    }
    assert!(!home.store().exists());
}

#[test]
fn names_that_break_the_rules_are_errors_and_touch_nothing() {
    let home = Home::new();
    let long = "a".repeat(300);
    let names = [
        "../x",
        "a/b",
        "a\nb",
        "a\"b",
        "a|0A",
        "a b",
        "é",
        "Desk",
        "",
        ".",
        "con",
        "-",
        "\u{1b}[31m",
        &long,
    ];
    for name in names {
        for command in [
            "status",
            "start",
            "stop",
            "delete",
            "console",
            "layers",
            "rejuvenate",
        ] {
            let failure = home.fails(&[command, "--", name]);
            assert_eq!(failure.kind, "invalid", "{failure:?}");
            assert!(
                failure.all.contains("NAME") && failure.all.lines().count() > 1,
                "{failure:?}"
            );
        }
        let failure = home.fails(&["history", "desk", "--", name]);
        assert!(failure.all.contains("LAYER"), "{failure:?}");
    }
    for arguments in [
        &["disk", "create", "a.raw", "--size", "4 GB"][..],
        &["disk", "create", "a.raw", "--size", "99999999999999 TiB"],
        &["image", "verify", "sha256:00"],
        &["image", "verify", "../../x"],
        &["start", "desk", "--product", "../qemu"],
        &["start", "desk", "--product", "bochs"],
        &["start", "desk", "--wait", "--timeout", "1x"],
    ] {
        let failure = home.fails(arguments);
        assert!(
            ["invalid", "not-found"].contains(&failure.kind.as_str()),
            "{failure:?}"
        );
    }
    assert!(
        home.snapshot()
            .keys()
            .all(|path| path.ends_with("store.json"))
    );
    assert!(std::fs::read_dir(home.folder()).unwrap().count() <= 1);
}

#[test]
fn names_in_a_spec_are_faults_with_their_place() {
    let home = Home::new();
    for (name, said) in [
        ("../x", "'.' at position 1"),
        ("a\\nb", "'\\n' at position 2"),
        ("a\\\"b", "'\"' at position 2"),
        ("a|0A", "'|' at position 2"),
        ("a\\u0000b", "'\\0' at position 2"),
        ("é", "'é' at position 1"),
        ("", "may not be empty"),
        ("nul", "device on Windows"),
        (&"a".repeat(300), "is too long"),
    ] {
        let spec = DESK.replacen("\"desk\"", &format!("\"{name}\""), 1);
        home.file("spec.toml", spec);
        for command in [
            &["create", "spec.toml"][..],
            &["translate", "spec.toml", "--out", "out"],
        ] {
            let failure = home.fails(command);
            assert_eq!(failure.kind, "invalid");
            assert!(failure.all.contains("spec.toml:3:8: name: "), "{failure:?}");
            assert!(failure.all.contains(said), "{said}: {failure:?}");
        }
    }
    assert!(!home.folder().join("out").exists() && !home.machine("x").exists());
    assert!(!home.folder().join("x").exists());
}

#[test]
fn completions_are_those_of_this_program() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let answer = home.ok("completions", &["completions", shell]);
        assert_eq!(answer["shell"], shell);
        let script = answer["script"].as_str().unwrap();
        assert!(script.contains("rejuvenate") && script.contains("discard-writes"));
        assert_eq!(
            home.text(&["completions", shell]).trim_end(),
            script.trim_end()
        );
    }
    let fine = std::process::Command::new("bash")
        .arg("-n")
        .stdin(std::process::Stdio::piped())
        .spawn();
    if let Ok(mut bash) = fine {
        use std::io::Write as _;
        let script = home.text(&["completions", "bash"]);
        bash.stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(bash.wait().unwrap().success());
    }
}
