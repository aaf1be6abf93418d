//! What the program in the guest is told for one start: shell text, and how many expectations it will judge.
//! The functions that the text calls are in `guest/os-init`.

/// A task for one boot, or for the boot before a reboot inside the guest and the one after it.
#[derive(Clone, Default)]
pub(crate) struct Task {
    script: String,
    expectations: usize,
    before_reboot: Option<Box<Task>>,
}

impl Task {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The guest finds `value`.
    pub(crate) fn expect(self, fact: &str, value: impl std::fmt::Display) -> Self {
        self.judged(format!("expect {fact} {value}"))
    }

    /// The guest finds `number` or more.
    pub(crate) fn expect_at_least(self, fact: &str, number: u64) -> Self {
        self.judged(format!("expect_at_least {fact} {number}"))
    }

    /// The guest finds something else than `value`.
    pub(crate) fn expect_changed(self, fact: &str, value: impl std::fmt::Display) -> Self {
        self.judged(format!("expect_changed {fact} {value}"))
    }

    /// The guest tells the host what it finds.
    pub(crate) fn report(self, fact: &str) -> Self {
        self.line(format!("report {fact}"))
    }

    /// The guest raises the counter that it keeps in a layer's path.
    pub(crate) fn count(self, layer: Kept) -> Self {
        self.line(format!("count {}", layer.file()))
    }

    /// The guest raises that counter for as long as it runs, and says each number once it is on its disk.
    pub(crate) fn keep_counting(self, layer: Kept) -> Self {
        self.line(format!("keep_counting {}", layer.file()))
    }

    /// The guest writes to /usr and /etc.
    pub(crate) fn mark_os(self) -> Self {
        self.line("mark_os")
            .expect("mark-usr", "present")
            .expect("mark-etc", "present")
    }

    /// The guest finds /usr and /etc as the golden image has them.
    pub(crate) fn expect_clean_os(self) -> Self {
        self.expect("mark-usr", "absent")
            .expect("mark-etc", "absent")
    }

    /// Root overwrites the boot code (440 bytes) and 4 MiB from 1 MiB on, where the kernel is, of the os disk.
    pub(crate) fn overwrite_boot_and_kernel(self) -> Self {
        self.line("overwrite os /dev/zero 440 0 1")
            .line("overwrite os /dev/zero 64k 16 64")
    }

    /// Root replaces the boot code of the os disk by one that prints INFECTED.
    pub(crate) fn infect(self) -> Self {
        self.line("overwrite os /usr/lib/demo/infected 440 0 1")
    }

    /// Root overwrites the partition table of the user-data disk.
    pub(crate) fn wipe_home_partition_table(self) -> Self {
        self.line("overwrite user-data /dev/zero 64k 0 1")
    }

    /// After these steps the guest reboots, and does `then` when it is up again.
    pub(crate) fn reboot_then(self, then: Task) -> Self {
        Task {
            before_reboot: Some(Box::new(self)),
            ..then
        }
    }

    /// How many expectations the last boot of this task judges.
    pub(crate) fn expectations(&self) -> usize {
        self.expectations
    }

    /// How many times the machine boots.
    pub(crate) fn boots(&self) -> u64 {
        1 + u64::from(self.before_reboot.is_some())
    }

    /// The text for the guest. Whether it has rebooted already stands in user data: all else is reset.
    pub(crate) fn script(&self) -> String {
        match &self.before_reboot {
            None => self.script.clone(),
            Some(first) => format!(
                "if [ \"$(fact stage)\" = 0 ]; then\n{}count /home/stage\n\
                 if [ $failed = 0 ]; then finish reboot; fi\nfinish poweroff\nfi\n{}",
                first.script, self.script
            ),
        }
    }

    fn judged(mut self, line: String) -> Self {
        self.expectations += 1;
        self.line(line)
    }

    fn line(mut self, line: impl AsRef<str>) -> Self {
        self.script.push_str(line.as_ref());
        self.script.push('\n');
        self
    }
}

/// Where the guest keeps a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    /// user-data
    Home,
    /// user-apps
    Own,
    Cache,
}

impl Kept {
    fn file(self) -> &'static str {
        match self {
            Self::Home => "/home/counter",
            Self::Own => "/opt/own/counter",
            Self::Cache => "/var/cache/demo/counter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_task_ends_its_first_boot_by_a_reboot_and_judges_the_second() {
        let then = Task::new().expect_clean_os();
        let task = Task::new().mark_os().reboot_then(then);
        assert_eq!((task.expectations(), task.boots()), (2, 2));
        let (first, second) = task.script().split_once("\nfi\nexpect").map_or_else(
            || (String::new(), String::new()),
            |(a, b)| (a.to_owned(), b.to_owned()),
        );
        assert!(
            first.contains("mark_os") && first.contains("finish reboot"),
            "{first}"
        );
        assert!(second.contains("mark-etc absent"), "{second}");
    }
}
