//! Builds the image, and containers of it, in a storage of its own that goes with the tests.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::{env, fs, io};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::process::{Process, without_our_environment};

/// Who the image runs as.
pub(super) const USER: &str = "65532:65532";
/// 2026-01-01T00:00:00Z.
const EPOCH: &str = "1767225600";

pub(super) static IMAGE: LazyLock<Option<Image>> = LazyLock::new(Image::build);

#[derive(Debug)]
pub(super) struct Image {
    pub(super) id: String,
    /// Of a second build.
    pub(super) again: String,
    /// What containers are started with.
    pub(super) config: Value,
    storage: Storage,
}

/// Where this buildah keeps images and containers.
#[derive(Debug)]
struct Storage {
    folder: PathBuf,
    /// Removes the folder when the tests are over, however they end.
    _keeper: Process,
}

/// A container, and its files.
#[derive(Debug)]
pub(super) struct Container<'a> {
    image: &'a Image,
    name: String,
    pub(super) root: PathBuf,
}

/// To whoever looks at the run: a test that was left out must not look like one that passed.
fn say(line: &str) {
    // Past the test harness, which keeps what `eprintln!` prints of tests that pass.
    let shown = format!("\n*** {line}\n\n");
    io::stderr().write_all(shown.as_bytes()).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program, linked statically from what cargo has built for these tests: no second build of the dependencies.
fn static_binary() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Of these tests themselves: build scripts look at them, and would have everything built again.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "OUT_DIR"]
            .iter()
            .any(|of| name.starts_with(of))
        {
            command.env_remove(&*name);
        }
    }
    let output = command
        .args([
            "rustc",
            "--locked",
            "--quiet",
            "--example",
            "keystile-static",
        ])
        .args(["--message-format=json", "--"])
        .args(["-Ctarget-feature=+crt-static", "-Cstrip=symbols"])
        .current_dir(root())
        .output()
        .expect("run cargo");
    let found = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "keystile-static")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    found.unwrap_or_else(|| panic!("no static binary: {}", text(&output.stderr)))
}

impl Storage {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("image-").tempdir();
        let folder = folder.expect("make a directory").keep();
        let conf = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            folder.display()
        );
        fs::write(folder.join("storage.conf"), conf).expect("write it");
        let keeper = Process::start("keeper", Path::new("tail"), &["-f", "/dev/null"], &folder);
        Self {
            folder,
            _keeper: keeper,
        }
    }

    fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        without_our_environment(&mut command);
        command
            .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"))
            .env("STORAGE_DRIVER", "vfs")
            .stdin(Stdio::null());
        command
    }

    /// Runs buildah; what it printed.
    #[track_caller]
    fn buildah(&self, args: &[&str]) -> String {
        let output = self.command("buildah").args(args).output();
        let output = output.expect("run buildah");
        assert!(output.status.success(), "{args:?}: {output:?}");
        text(&output.stdout)
    }

    fn build(&self, tag: &str, binary: &Path) -> Output {
        self.command(root().join("docker/image.sh"))
            .arg(tag)
            .env("BUILDER", "buildah")
            .env("ISOLATION", "chroot")
            .env("PREBUILT", binary)
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("REVISION", "of-the-test")
            .output()
            .expect("run docker/image.sh")
    }
}

impl Image {
    fn build() -> Option<Self> {
        let installed = Command::new("buildah").arg("--version").output();
        assert!(installed.is_ok(), "no buildah: run `make setup`");
        if fs::metadata("/proc/self").expect("there is a /proc").uid() != 0 {
            say(
                "THE IMAGE IS NOT TESTED: buildah without isolation of its own needs root, and this is not root",
            );
            return None;
        }
        let storage = Storage::new();
        let probe = storage
            .command("buildah")
            .args(["from", "scratch"])
            .output();
        let probe = probe.expect("run buildah");
        if !probe.status.success() {
            let why = text(&probe.stderr);
            say(&format!(
                "THE IMAGE IS NOT TESTED: buildah cannot make a container here: {why}"
            ));
            return None;
        }
        let binary = static_binary();
        let mut ids = ["keystile:one", "keystile:two"].map(|tag| {
            let built = storage.build(tag, &binary);
            assert!(built.status.success(), "{}", text(&built.stderr));
            let id = storage.buildah(&["images", "--quiet", "--no-trunc", tag]);
            id.trim_start_matches("sha256:").to_owned()
        });
        let inspected = storage.buildah(&["inspect", "--type", "image", "keystile:one"]);
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        Some(Self {
            id: std::mem::take(&mut ids[0]),
            again: std::mem::take(&mut ids[1]),
            config: inspected["Docker"]["config"].clone(),
            storage,
        })
    }

    pub(super) fn container(&self) -> Container<'_> {
        let name = self.storage.buildah(&["from", "keystile:one"]);
        let root = self.storage.buildah(&["mount", &name]);
        Container {
            image: self,
            name,
            root: root.into(),
        }
    }
}

impl Container<'_> {
    /// Runs a program in it, as the image says.
    pub(super) fn run(&self, args: &[&str]) -> Output {
        let mut command = self.image.storage.command("buildah");
        command.args(["run", "--isolation", "chroot", &self.name, "--"]);
        command.args(args).output().expect("run buildah")
    }

    /// Starts `keystile` in its files as the image's user, and with it a folder for what it prints. Not by buildah,
    /// whose child would outlive it when the tests are killed.
    pub(super) fn serve(&self, args: &[&str]) -> (TempDir, Process) {
        let folder = tempfile::tempdir().expect("make a directory");
        // What a container runtime puts into every container, and `chroot` does not.
        let devices =
            "mkdir -p dev && mknod -m 666 dev/random c 1 8 && mknod -m 666 dev/urandom c 1 9";
        let made = Command::new("sh")
            .args(["-c", devices])
            .current_dir(&self.root)
            .status();
        assert!(
            made.expect("run sh").success(),
            "no devices in {}",
            self.root.display()
        );
        let user = format!("--userspec={USER}");
        let root = self.root.display().to_string();
        let mut line = vec![user.as_str(), &root, "/usr/bin/keystile"];
        line.extend(args);
        let process = Process::start("keystile", Path::new("chroot"), &line, folder.path());
        // The folder outlives the process: its guard writes there.
        (folder, process)
    }
}
