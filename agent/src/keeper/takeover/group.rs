//! Who is as good as root through a group.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::Kind;
use super::finding::Finding;
use super::machine::{Machine, MachineError};
use super::passwd::column::GID;
use super::passwd::{self, Fields, Lock, User};

const KIND: &str = "group";
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const GSHADOW: &str = "/etc/gshadow";

/// Groups whose members can become root, read every password, or write to the disk below the file
/// system: by sudo's habit, by a socket, or by a device.
const PRIVILEGED: [&str; 19] = [
    "root",
    "sudo",
    "wheel",
    "admin",
    "shadow",
    "disk",
    "kmem",
    "staff",
    "docker",
    "podman",
    "lxd",
    "lxc",
    "incus",
    "incus-admin",
    "libvirt",
    "libvirtd",
    "microk8s",
    "kvm",
    "qemu",
];
/// Groups that programs need for themselves: an account below [`SYSTEM_UIDS`] that nobody can log
/// in to stays in.
const OF_PROGRAMS: [&str; 2] = ["kvm", "qemu"];
const SYSTEM_UIDS: u32 = 1_000;
/// nobody and nogroup.
const NOBODY: u32 = 65_534;

/// Fields of `/etc/group` and `/etc/gshadow`.
const PASSWORD: usize = 1;
const ADMINISTRATORS: usize = 2;
const MEMBERS: usize = 3;

/// Groups.
pub(super) struct Group;

impl Kind for Group {
    fn name(&self) -> &'static str {
        KIND
    }

    fn about(&self) -> &'static str {
        "who is as good as root through a group"
    }

    fn look(&self, machine: &Machine) -> Result<Vec<Finding>, MachineError> {
        Ok(Judged::of(machine)?.findings)
    }

    fn apply(&self, machine: &Machine, _found: &[Finding]) -> Result<(), MachineError> {
        let _lock = Lock::take(machine)?;
        let judged = Judged::of(machine)?;
        machine.write(GROUP, &judged.group, 0o644)?;
        if let Some(gshadow) = judged.gshadow {
            machine.write(GSHADOW, &gshadow, 0o640)?;
        }
        machine.write(PASSWD, &judged.passwd, 0o644)
    }
}

struct Judged {
    passwd: Vec<u8>,
    group: Vec<u8>,
    gshadow: Option<Vec<u8>>,
    findings: Vec<Finding>,
}

impl Judged {
    fn of(machine: &Machine) -> Result<Self, MachineError> {
        let passwd = passwd::must_read(machine, PASSWD)?;
        let group = passwd::must_read(machine, GROUP)?;
        let gshadow = machine.read(GSHADOW)?;
        let users: BTreeMap<_, _> =
            passwd::users(&passwd).into_iter().map(|user| (user.name.clone(), user)).collect();
        let mut findings = Vec::new();
        let mut gids = BTreeSet::new();
        let new_group = passwd::edit(&group, |line| {
            let Some(name) = privileged(line) else { return };
            gids.extend(passwd::id_at(line, passwd::GROUPS_GID));
            clear(line, MEMBERS, &name, &users, GROUP, "is a member of", &mut findings);
        });
        let new_gshadow = gshadow.map(|gshadow| {
            passwd::edit(&gshadow, |line| {
                let Some(name) = privileged(line) else { return };
                let what = "administers";
                clear(line, ADMINISTRATORS, &name, &users, GSHADOW, what, &mut findings);
                clear(line, MEMBERS, &name, &users, GSHADOW, "is a member of", &mut findings);
                if line[PASSWORD].contains(&b'$') {
                    let (before, what) = (line.join(&b':'), format!("{name} has a password"));
                    let action = "no password lets anyone in";
                    findings.push(Finding::new(KIND, GSHADOW, what, &before, action));
                    line[PASSWORD] = b"!".to_vec();
                }
            })
        });
        let new_passwd = passwd::edit(&passwd, |line| {
            let Some(user) = users.get(&passwd::name_of(line)) else { return };
            // Below the first free uid the distribution gives groups, root's included, to its own
            // accounts; nobody has a right to those.
            let is_person = user.uid >= SYSTEM_UIDS && user.uid != NOBODY;
            if passwd::is_account(line) && is_person && gids.contains(&user.gid) {
                let what = format!("{} has group {} as its own", user.name, user.gid);
                let (before, action) = (line.join(&b':'), "its own group is nogroup");
                findings.push(Finding::new(KIND, PASSWD, what, &before, action));
                line[GID] = NOBODY.to_string().into_bytes();
            }
        });
        Ok(Self { passwd: new_passwd, group: new_group, gshadow: new_gshadow, findings })
    }
}

/// The name of a whole line of a privileged group.
fn privileged(line: &Fields) -> Option<String> {
    let name = passwd::name_of(line);
    (line.len() > MEMBERS && PRIVILEGED.contains(&name.as_str())).then_some(name)
}

/// Takes everybody out of a list but root and what programs need.
fn clear(
    line: &mut Fields,
    at: usize,
    group: &str,
    users: &BTreeMap<String, User>,
    path: &str,
    what: &str,
    findings: &mut Vec<Finding>,
) {
    let stays = |name: &[u8]| {
        let name = String::from_utf8_lossy(name).into_owned();
        let user = users.get(&name);
        let of_program = OF_PROGRAMS.contains(&group)
            && user.is_some_and(|user| user.uid < SYSTEM_UIDS && user.uid != 0 && user.is_shut());
        name == "root" || of_program
    };
    let before = line.join(&b':');
    let members = line[at].split(|byte| *byte == b',').filter(|member| !member.is_empty());
    let (stay, go): (Vec<_>, Vec<_>) =
        members.map(<[u8]>::to_vec).partition(|member| stays(member));
    if go.is_empty() {
        return;
    }
    let names: Vec<_> = go.iter().map(|name| String::from_utf8_lossy(name)).collect();
    let what = format!("{} {what} {group}", names.join(", "));
    findings.push(Finding::new(KIND, path, what, &before, "taken out"));
    line[at] = stay.join(&b',');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::takeover::fake::server;

    #[test]
    fn numbers_are_read_as_the_system_reads_them() {
        let (_folder, machine, _) = server();
        let passwd = b"root:x:0:0::/root:/bin/bash\nbob:x:+1001:\t+27::/home/bob:/bin/bash\n";
        machine.write(PASSWD, passwd, 0o644).unwrap();
        machine.write(GROUP, b"root:x:0:\n sudo:x: 27:ann\n", 0o644).unwrap();
        let found = Group.look(&machine).unwrap();
        assert_eq!(found.len(), 3, "{found:#?}");
        Group.apply(&machine, &found).unwrap();
        assert_eq!(Group.look(&machine).unwrap(), []);
        assert!(machine.text(PASSWD).unwrap().contains("bob:x:+1001:65534:"));
    }

    #[test]
    fn people_leave_privileged_groups_and_programs_stay() {
        let (_folder, machine, _) = server();
        let files: [(&str, &[u8]); 3] = [
            (
                PASSWD,
                b"root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\n\
                  bob:x:1001:27::/home/bob:/bin/bash\nlibvirt-qemu:x:64055:108::/:/bin/false\n\
                  qemu:x:107:107::/:/usr/sbin/nologin\nci:x:998:998::/:/usr/sbin/nologin\n",
            ),
            (
                GROUP,
                b"root:x:0:\nsudo:x:27:ann,root\ndocker:x:999:ci\nkvm:x:36:qemu,ann\naudio:x:29:ann\n",
            ),
            (GSHADOW, b"root:*::\nsudo:$6$x:ann:ann\naudio:!::ann\n"),
        ];
        for (path, bytes) in files {
            machine.write(path, bytes, 0o600).unwrap();
        }
        let found = Group.look(&machine).unwrap();
        assert_eq!(found.len(), 7, "{found:#?}");
        Group.apply(&machine, &found).unwrap();
        assert_eq!(Group.look(&machine).unwrap(), []);
        assert_eq!(
            machine.text(GROUP).unwrap(),
            "root:x:0:\nsudo:x:27:root\ndocker:x:999:\nkvm:x:36:qemu\naudio:x:29:ann\n"
        );
        assert_eq!(machine.text(GSHADOW).unwrap(), "root:*::\nsudo:!::\naudio:!::ann\n");
        assert!(machine.text(PASSWD).unwrap().contains("\nbob:x:1001:65534:"));
    }
}
