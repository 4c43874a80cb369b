//! What a container's generator says of every service, sshd's too, and what is nobody's way in.
//!
//! LXD and Incus put a generator into the systems they start. At each `daemon-reload` it writes
//! `/run/systemd/system/service.d/zzz-lxc-service.conf` (with an old systemd one for each service),
//! which takes off walls that a container cannot have. Removed, it is back a moment later: a look
//! that finds it for ever would end no hand-over.

use std::path::Path;

use super::inode::Inode;
use super::machine::Machine;
use super::meta::Meta;
use super::reach::{Reach, reach};
use crate::disk;

/// In memory: nothing is there that no program makes anew at each boot.
const FOLDER: &str = "/run/systemd/system";
/// Longest such file, in bytes; the real ones have about 300.
const FILE_MAX: usize = 4 * 1024;
/// All that one may say (distrobuilder, `lxc.generator`): each setting with the one value that takes
/// something off. None names a program, a file or a user.
const SETTINGS: [(&str, &str); 16] = [
    ("ProcSubset", "all"),
    ("ProtectProc", "default"),
    ("ProtectControlGroups", "no"),
    ("ProtectKernelTunables", "no"),
    ("ProtectKernelLogs", "no"),
    ("ProtectKernelModules", "no"),
    ("ProtectHome", "no"),
    ("ProtectSystem", "no"),
    ("PrivateDevices", "no"),
    ("PrivateNetwork", "no"),
    ("PrivateTmp", "no"),
    ("NoNewPrivileges", "no"),
    ("LoadCredential", ""),
    ("LoadCredentialEncrypted", ""),
    ("ImportCredential", ""),
    ("ReadWritePaths", ""),
];

/// Whether a file is such a drop-in, root's alone to change, and says nothing else.
pub(super) fn is_harmless(machine: &Machine, path: &Path) -> bool {
    let folder = path.parent().and_then(Path::extension);
    path.starts_with(FOLDER)
        && folder.is_some_and(|end| end == "d")
        && read(machine, path).is_some_and(|text| only_takes_off(&text))
}

/// The text of a plain file that nobody but root can change or replace.
fn read(machine: &Machine, path: &Path) -> Option<String> {
    let Ok(Reach::There(held)) = reach(machine, path) else { return None };
    let file = Inode::at(held.place()).ok()?.file().ok()??;
    if !held.is_roots() || Meta::of_file(&file).ok()?.is_open() {
        return None;
    }
    String::from_utf8(disk::read_open(&file, path, FILE_MAX).ok()?).ok()
}

fn only_takes_off(text: &str) -> bool {
    // A line that goes on in the next one, or ends where another program sees no end, may say
    // anything.
    if text.contains(|c: char| c == '\\' || (c.is_control() && !['\n', '\t'].contains(&c))) {
        return false;
    }
    let plain = |text: &str| text.trim_matches([' ', '\t']).to_owned();
    let lines = text.lines().map(plain).filter(|line| !line.is_empty());
    let said: Vec<_> =
        lines.filter(|line| !line.starts_with(['#', ';']) && line != "[Service]").collect();
    let is_known = |line: &String| {
        line.split_once('=').is_some_and(|(key, value)| {
            let (key, value) = (plain(key), plain(value));
            SETTINGS.contains(&(key.as_str(), value.as_str()))
        })
    };
    !said.is_empty() && said.iter().all(is_known)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::keeper::takeover::fake::server;
    use crate::keeper::takeover::sshd_unit;

    const DROP_IN: &str = "/run/systemd/system/service.d/zzz-lxc-service.conf";
    const TEXT: &str = "# Made by a generator\n[Service]\nProcSubset=all\nProtectProc=default\n\
                        NoNewPrivileges=no\nLoadCredential=\n\n  ProtectHome = no\n";

    #[test]
    fn only_a_file_that_takes_walls_off_is_harmless() {
        assert!(only_takes_off(TEXT));
        for more in [
            "ExecStartPre=/srv/x",
            "Environment=LD_PRELOAD=/srv/x.so",
            "EnvironmentFile=/srv/x",
            "BindPaths=/srv/sshd_config:/etc/ssh/sshd_config",
            "RootDirectory=/srv",
            "User=ann",
            "LoadCredential=x:/srv/x",
            "ProtectSystem=strict",
            "NoNewPrivileges=no\\",
            "# x \\",
            "# x\rExecStartPre=/srv/x",
            "[Unit]",
            "ProtectHome",
        ] {
            assert!(!only_takes_off(&format!("{TEXT}{more}\n")), "{more}");
        }
        for nothing in ["", "\n", "# x\n", "[Service]\n"] {
            assert!(!only_takes_off(nothing), "{nothing:?}");
        }
    }

    #[test]
    fn it_is_no_override_where_a_generator_puts_it_and_as_roots_own_file_alone() {
        let (_folder, machine, _) = server();
        let folder = Path::new(DROP_IN).parent().unwrap();
        machine.folder(folder, 0o755).unwrap();
        machine.write(DROP_IN, TEXT.as_bytes(), 0o644).unwrap();
        let set_mode = |path: &Path, mode: u32| {
            fs::set_permissions(machine.at(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        let overrides = || sshd_unit::overrides(&machine).unwrap().len();
        assert_eq!(overrides(), 0);
        for (path, open, shut) in [(Path::new(DROP_IN), 0o666, 0o644), (folder, 0o777, 0o755)] {
            set_mode(path, open);
            assert_eq!(overrides(), 1, "{}", path.display());
            set_mode(path, shut);
        }
        assert_eq!(overrides(), 0);
        // The same where it would last, and by way of a link.
        let lasting = "/etc/systemd/system/service.d";
        machine.folder(lasting, 0o755).unwrap();
        machine.write(format!("{lasting}/x.conf"), TEXT.as_bytes(), 0o644).unwrap();
        assert_eq!(overrides(), 1);
        symlink(
            "../../../../etc/systemd/system/service.d/x.conf",
            machine.at(folder.join("y.conf")),
        )
        .unwrap();
        assert_eq!(overrides(), 2);
    }
}
