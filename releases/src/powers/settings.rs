//! Which directives of a unit are told in words, and which are harmless. All others are quoted.
//!
//! The list is of what may be left out, not of what is dangerous: systemd learns new directives with
//! every version, and one that nobody here has heard of is shown.

use super::unit_file::{Assignment, Unit, is_command};

/// What gives nobody anything, by section: texts for people, order, and how often and how long a start is
/// tried.
const HARMLESS: &[(&str, &[&str])] = &[
    (
        "Unit",
        &["Description", "Documentation", "After", "StartLimitIntervalSec", "StartLimitBurst"],
    ),
    (
        "Service",
        &[
            "Type",
            "RemainAfterExit",
            "Restart",
            "RestartSec",
            "TimeoutSec",
            "TimeoutStartSec",
            "TimeoutStopSec",
            "WatchdogSec",
        ],
    ),
    ("Socket", &["Backlog", "MaxConnections"]),
    ("Timer", &["AccuracySec", "RandomizedDelaySec", "Persistent"]),
];

/// Settings of a service that are told in words whatever they say.
const TOLD: &[&str] = &[
    "User",
    "Group",
    "SupplementaryGroups",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "NoNewPrivileges",
    "PrivateNetwork",
    "ReadWritePaths",
    "StateDirectory",
    "RuntimeDirectory",
    "CacheDirectory",
    "LogsDirectory",
    "ConfigurationDirectory",
    "ProtectSystem",
    "ProtectHome",
];

/// Settings of a service that are told in words if its network is the server's.
const OF_THE_NETWORK: &[&str] = &["RestrictAddressFamilies", "IPAddressAllow", "IPAddressDeny"];

/// Every assignment that is neither told in words nor harmless, as it stands there.
pub(super) fn untold(unit: &Unit) -> Vec<String> {
    let rest = unit.assignments.iter().filter(|a| !is_harmless(a) && !is_told(unit, a));
    rest.map(|a| format!("[{}] {}={}", a.section, a.key, a.value)).collect()
}

/// Whether a key of a timer says when.
pub(super) fn is_time(key: &str) -> bool {
    matches!(
        key,
        "OnActiveSec"
            | "OnBootSec"
            | "OnStartupSec"
            | "OnUnitActiveSec"
            | "OnUnitInactiveSec"
            | "OnCalendar"
            | "OnClockChange"
            | "OnTimezoneChange"
    )
}

fn is_harmless(one: &Assignment) -> bool {
    HARMLESS.iter().any(|(section, keys)| one.section == *section && keys.contains(&&*one.key))
}

fn is_told(unit: &Unit, one: &Assignment) -> bool {
    let key = one.key.as_str();
    if one.section != unit.own {
        return false;
    }
    match unit.own {
        "Socket" => is_command(key) || key.starts_with("Listen") || key.starts_with("Socket"),
        "Timer" => is_time(key),
        _ => {
            let elsewhere =
                unit.yes("PrivateNetwork") || unit.last("NetworkNamespacePath").is_some();
            let network = OF_THE_NETWORK.contains(&key) && !elsewhere;
            // A `~` turns its own line round; in words nobody sees where that line ends.
            let plain = !one.value.contains('~');
            is_command(key)
                || key == "SystemCallFilter"
                || (plain && (TOLD.contains(&key) || network))
        }
    }
}
