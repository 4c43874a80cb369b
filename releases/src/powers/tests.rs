//! What is said of whole components.

use super::*;

fn said(powers: &Powers, what: &str) -> String {
    let mut found = powers.0.iter().filter(|((_, kind), _)| *kind == what);
    found.next().map(|(_, words)| words.clone()).unwrap_or_default()
}

#[test]
fn a_bare_service_has_every_power() {
    let powers = Powers::of([("units/a.service", "[Service]\nExecStart=/bin/a\n")]);
    for (what, words) in [
        ("runs as", "ROOT"),
        ("capabilities", "all that its user can have"),
        ("can gain rights", "yes, by setuid programs"),
        ("network", "any, may listen on any free port its user can take"),
        ("writes", "ALL ITS USER MAY; sees homes"),
        ("devices", "all that its user may open"),
        ("system calls", "all"),
        ("starts", "ExecStart=/bin/a"),
    ] {
        assert_eq!(said(&powers, what), words, "{what}");
    }
}

#[test]
fn what_is_given_up_is_said() {
    let text = "[Service]\nUser=hello\nCapabilityBoundingSet=CAP_CHOWN\n\
                CapabilityBoundingSet=\nNoNewPrivileges=yes\nPrivateNetwork=yes\n\
                ProtectSystem=strict\nProtectHome=yes\nReadWritePaths=/var/lib/a \\\n\
                # a comment in between\n  /run/a\nPrivateDevices=yes\nExecStart=+/bin/b\n";
    let powers = Powers::of([("units/a.service", text)]);
    for (what, words) in [
        ("runs as", "hello"),
        ("capabilities", "none"),
        ("can gain rights", "no"),
        ("network", "none"),
        ("writes", "/var/lib/a /run/a; nothing else"),
        ("devices", "none"),
        ("RUNS AS ROOT IN SPITE OF ALL THAT", "ExecStart=+/bin/b"),
    ] {
        assert_eq!(said(&powers, what), words, "{what}");
    }
}

/// Each of these says less than it seems to, and systemd goes by what it says.
#[test]
fn nothing_is_given_up_by_a_line_that_systemd_does_not_obey() {
    for text in [
        "[Unit]\nUser=hello\n[Service]\nExecStart=/bin/a\n",
        "[Service]\n\u{a0}User=hello\nExecStart=/bin/a\n",
        "[Service]\nDescription=a \\\nUser=hello\n",
        "[Service]\n# harmless\rUser=\rX=y\\\nUser=hello\n",
        "[Service]\nUser=hello\nSyslogIdentifier=x \\\\\nUser=\n",
        "[Service]\nUser=hello\nSyslogIdentifier=x \\ \nUser=0\n",
    ] {
        assert_eq!(said(&Powers::of([("units/a.service", text)]), "runs as"), "ROOT", "{text:?}");
    }
    let text = "[Service]\nRestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=\n";
    let powers = Powers::of([("units/a.service", text)]);
    assert!(said(&powers, "network").starts_with("any, "));
    let text = "[Service]\nSocketBindAllow=tcp:80\n";
    let powers = Powers::of([("units/a.service", text)]);
    assert_eq!(said(&powers, "network"), "any, may listen on any free port its user can take");
    let denied = format!("{text}SocketBindDeny=any\n");
    let powers = Powers::of([("units/a.service", denied.as_str())]);
    assert_eq!(said(&powers, "network"), "any, may listen on tcp:80");
}

/// Whatever gives power by a way that no sentence tells is quoted, in every section.
#[test]
fn a_directive_that_is_not_told_is_quoted() {
    for (unit, section, line) in [
        ("a.service", "Service", "StandardOutput=append:/etc/sudoers"),
        ("a.service", "Service", "StandardError=truncate:/etc/shadow"),
        ("a.service", "Service", "StandardInput=file:/etc/shadow"),
        ("a.service", "Service", "Environment=LD_PRELOAD=/tmp/x.so"),
        ("a.service", "Service", "OpenFile=/etc/shadow:s"),
        ("a.service", "Service", "MountImages=/x:/y"),
        ("a.service", "Service", "NetworkNamespacePath=/proc/1/ns/net"),
        ("a.service", "Service", "BindReadOnlyPaths=/a:/etc"),
        ("a.service", "Service", "LoadCredentialEncrypted=a"),
        ("a.service", "Service", "DynamicUser=yes"),
        ("a.service", "Service", "UMask=0000"),
        ("a.service", "Service", "NobodyHasHeardOfIt=yes"),
        ("a.service", "Unit", "Wants=debug-shell.service"),
        ("a.service", "Unit", "Conflicts=borgios-keeper.service"),
        ("a.service", "Unit", "OnFailure=reboot.target"),
        ("a.service", "Unit", "SuccessAction=poweroff-force"),
        ("a.service", "Unit", "User=hello"),
        ("a.service", "Install", "Alias=ssh.service"),
        ("a.service", "Install", "WantedBy=sysinit.target"),
        ("a.socket", "Socket", "Service=debug-shell.service"),
        ("a.socket", "Socket", "User=root"),
        ("a.timer", "Timer", "Unit=poweroff.target"),
        ("a.timer", "Unit", "OnFailure=reboot.target"),
    ] {
        let (path, text) = (format!("units/{unit}"), format!("[{section}]\n{line}\n"));
        let powers = Powers::of([(path.as_str(), text.as_str())]);
        assert_eq!(said(&powers, "also"), format!("[{section}] {line}"));
    }
    // An empty one does not take back what systemd would not.
    let text = "[Service]\nStandardOutput=append:/etc/x\nStandardOutput=\n";
    let also = said(&Powers::of([("units/a.service", text)]), "also");
    assert_eq!(also, "[Service] StandardOutput=append:/etc/x\n[Service] StandardOutput=");
    let text =
        "[Unit]\nDescription=a\nAfter=b\n[Service]\nType=oneshot\nUser=a\nExecStart=/bin/a\n";
    assert_eq!(said(&Powers::of([("units/a.service", text)]), "also"), "");
    let text = "[Service]\nExecStart=/bin/a\n[Sevrice]\nUser=a\n";
    let powers = Powers::of([("units/a.service", text)]);
    assert_eq!(said(&powers, "NOT READ BY SYSTEMD"), "[Sevrice]\nUser=a");
}

#[test]
fn a_network_that_is_no_longer_private_has_its_limits_told() {
    let limits = "RestrictAddressFamilies=AF_UNIX\nIPAddressDeny=any\n";
    let shut = format!("[Service]\nPrivateNetwork=yes\n{limits}");
    let powers = Powers::of([("units/a.service", shut.as_str())]);
    assert_eq!(said(&powers, "network"), "none");
    assert_eq!(
        said(&powers, "also"),
        "[Service] RestrictAddressFamilies=AF_UNIX\n[Service] IPAddressDeny=any"
    );
    for (more, words) in [
        ("NetworkNamespacePath=/proc/1/ns/net", "that of /proc/1/ns/net"),
        ("[Unit]\nJoinsNamespaceOf=shop.service", "that of the units it joins"),
    ] {
        let text = format!("{shut}{more}\n");
        let powers = Powers::of([("units/a.service", text.as_str())]);
        assert_eq!(said(&powers, "network"), words);
        assert!(said(&powers, "also").contains(more.rsplit('\n').next().unwrap()), "{more}");
    }
    let open = format!("[Service]\n{limits}");
    let powers = Powers::of([("units/a.service", open.as_str())]);
    assert_eq!(said(&powers, "network"), "AF_UNIX, denied any");
    assert_eq!(said(&powers, "also"), "");
}

#[test]
fn a_command_with_all_rights_is_told_wherever_it_stands() {
    for (path, line) in [
        ("units/a.service", "ExecStart=/bin/true ; +/bin/sh -c x"),
        ("units/a.service", "ExecStop=\"+/bin/x\""),
        ("units/a.service", "ExecStart=\\x2b/bin/x"),
        ("units/a.socket", "ExecStartPre=-!/bin/x"),
        ("units/a.socket", "ExecStopPost=+/bin/x"),
    ] {
        let section = if path.ends_with("socket") { "Socket" } else { "Service" };
        let text = format!("[{section}]\nUser=hello\n{line}\n");
        let powers = Powers::of([(path, text.as_str())]);
        assert_eq!(said(&powers, "RUNS AS ROOT IN SPITE OF ALL THAT"), line);
        assert_eq!(said(&powers, "starts"), line);
        assert_eq!(said(&powers, "runs as"), "hello");
    }
    let bare = Powers::of([("units/a.socket", "[Socket]\nExecStartPre=/bin/x\n")]);
    assert_eq!(said(&bare, "runs as"), "ROOT");
    assert_eq!(said(&bare, "RUNS AS ROOT IN SPITE OF ALL THAT"), "");
}

#[test]
fn sockets_timers_accounts_and_modes_are_powers() {
    let powers = Powers::of([
        ("units/a.socket", "[Socket]\nListenStream=0.0.0.0:80\nSocketMode=0660\n"),
        ("units/a.timer", "[Timer]\nOnCalendar=daily\n"),
        ("sysusers.d/a.conf", "# who\nu a - \"A\"\n"),
        ("tmpfiles.d/a.conf", "f /run/a 4755 root root\nd /run/b 0755 root root\n"),
    ]);
    assert_eq!(said(&powers, "listens"), "ListenStream=0.0.0.0:80");
    assert_eq!(said(&powers, "who may connect"), "SocketMode=0660");
    assert_eq!(said(&powers, "starts by itself"), "OnCalendar=daily");
    assert_eq!(said(&powers, "accounts"), "u a - \"A\"");
    assert_eq!(said(&powers, "SETUID, SETGID OR STICKY"), "f /run/a 4755 root root");
}

#[test]
fn only_differences_are_told() {
    let old = Powers::of([("units/a.service", "[Service]\nUser=a\nExecStart=/bin/a\n")]);
    let new = Powers::of([("units/a.service", "[Service]\nExecStart=/bin/a\n")]);
    let diff = Powers::diff(&old, &new);
    assert_eq!(diff.len(), 1);
    assert_eq!((diff[0].what, diff[0].was.as_deref()), ("runs as", Some("a")));
    assert_eq!(diff[0].is.as_deref(), Some("ROOT"));
    assert!(Powers::diff(&new, &new).is_empty());
}

/// What stands far down a long file counts as much as its first line.
#[test]
fn a_difference_at_the_end_is_a_difference() {
    let many: String = (0..100).map(|at| format!("d /run/a/{at} 0755 root root\n")).collect();
    let long = |end: &str| {
        let paths = "/var/lib/a ".repeat(60);
        let unit =
            format!("[Service]\nReadWritePaths={paths}{end}\nExecStart=/bin/a {paths}{end}\n");
        let made = format!("{many}w /run/x - - - - {end}\n");
        Powers::of([("units/a.service", unit.as_str()), ("tmpfiles.d/a.conf", made.as_str())])
    };
    let diff = Powers::diff(&long("/run/a"), &long("/etc"));
    let kinds: Vec<&str> = diff.iter().map(|one| one.what).collect();
    assert_eq!(kinds, ["files made", "starts", "writes"]);
    assert!(diff.iter().all(|one| one.is.as_ref().unwrap().contains("/etc")));
    assert_eq!(diff.iter().map(Difference::is_quoted).collect::<Vec<_>>(), [true, true, false]);
    // Two lines are never mistaken for one.
    for key in ["SystemCallFilter", "CapabilityBoundingSet", "RestrictAddressFamilies"] {
        let one = format!("[Service]\n{key}=~A B\n");
        let two = format!("[Service]\n{key}=~A\n{key}=B\n");
        let [one, two] = [one, two].map(|text| Powers::of([("units/a.service", text.as_str())]));
        assert_eq!(Powers::diff(&one, &two).len(), 1, "{key}");
    }
    let one = Powers::of([("sysusers.d/a.conf", "u a - \"A; u b\"\n")]);
    let two = Powers::of([("sysusers.d/a.conf", "u a - \"A\nu b\"\n")]);
    assert_eq!(Powers::diff(&one, &two).len(), 1);
}

/// The units of this project say what they do, and nothing in them is passed over.
#[test]
fn the_units_of_the_project_are_read_whole() {
    let agent = include_str!("../../../agent/units/borgiosd.service");
    let keeper = include_str!("../../../agent/component-keeper/units/borgios-keeper.service");
    let hello = include_str!("../../../tests/demo/hello/units/hello@.service");
    let socket = include_str!("../../../tests/demo/hello/units/hello.socket");
    let accounts = include_str!("../../../agent/component-agent/sysusers.d/borgios.conf");
    let folders = include_str!("../../../agent/component-agent/tmpfiles.d/borgios.conf");
    for text in [agent, keeper, hello, socket, accounts, folders] {
        assert_eq!(crate::text::check(text.as_bytes()), Ok(text));
    }
    let agent = Powers::of([
        ("units/borgiosd.service", agent),
        ("sysusers.d/borgios.conf", accounts),
        ("tmpfiles.d/borgios.conf", folders),
    ]);
    for (what, words) in [
        ("runs as", "borgios, Group borgios"),
        ("capabilities", "none"),
        ("can gain rights", "no"),
        ("writes", "/var/lib/borgios /run/borgios; nothing else"),
        ("devices", "none"),
        (
            "system calls",
            "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources",
        ),
        ("starts", "ExecStart=/opt/borgios/current/agent/files/bin/borgiosd run"),
        ("SETUID, SETGID OR STICKY", "d /run/borgios 1775 root borgios -"),
        ("RUNS AS ROOT IN SPITE OF ALL THAT", ""),
        ("NOT READ BY SYSTEMD", ""),
    ] {
        assert_eq!(said(&agent, what), words, "{what}");
    }
    assert!(said(&agent, "also").starts_with("[Unit] Wants=network-online.target\n"));
    assert!(said(&agent, "also").ends_with("\n[Install] WantedBy=multi-user.target"));
    let keeper = Powers::of([("units/borgios-keeper.service", keeper)]);
    for (what, words) in [
        ("runs as", "ROOT"),
        ("network", "none"),
        ("capabilities", "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER"),
        ("writes", "/opt/borgios /var/lib/borgios-keeper /run/borgios /etc; nothing else"),
        ("NOT READ BY SYSTEMD", ""),
    ] {
        assert_eq!(said(&keeper, what), words, "{what}");
    }
    let visitor = Powers::of([("units/hello@.service", hello)]);
    assert_eq!(said(&visitor, "runs as"), "an account of its own that systemd makes");
    assert!(said(&visitor, "also").contains("[Service] StandardInput=socket\n"));
    let socket = Powers::of([("units/hello.socket", socket)]);
    assert_eq!(said(&socket, "listens"), "ListenStream=8080");
    assert_eq!(said(&socket, "also"), "[Socket] Accept=yes\n[Install] WantedBy=sockets.target");
}
