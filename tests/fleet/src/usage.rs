//! What the agent's two processes cost a server: memory as the kernel shares it out, and time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::server::Server;

/// The units that run all the time.
pub const UNITS: [&str; 2] = ["borgiosd", "borgios-keeper"];
/// Clock ticks per second in `/proc/PID/stat`, on every Linux that Debian ships.
const TICKS: f64 = 100.0;

/// Both processes of one server, together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Proportional set size, in KiB.
    pub pss_kib: u64,
    /// Time on a processor since they began, with that of children they waited for, in seconds.
    pub busy_s: f64,
}

impl Server<'_> {
    /// What both processes use now.
    ///
    /// # Errors
    /// The server is off, or one of them does not run.
    pub fn usage(self) -> Result<Usage> {
        let mut sum = Usage { pss_kib: 0, busy_s: 0.0 };
        for unit in UNITS {
            let text = self.sh(&format!(
                "pid=$(systemctl show -p MainPID --value {unit}); \
                 awk '/^Pss:/ {{ print $2 }}' /proc/$pid/smaps_rollup; cat /proc/$pid/stat"
            ))?;
            let (pss, stat) = text.split_once('\n').with_context(|| format!("{unit}: {text}"))?;
            sum.pss_kib += pss.parse::<u64>().with_context(|| format!("{unit}: {text}"))?;
            sum.busy_s += busy(stat).with_context(|| format!("{unit}: {stat}"))?;
        }
        Ok(sum)
    }

    /// The exposure that `systemd-analyze security` counts for a unit: 0 is none, 10 is all.
    ///
    /// # Errors
    /// The server's systemd does not say.
    pub fn exposure(self, unit: &str) -> Result<f64> {
        let said = self.try_sh(&format!("systemd-analyze security --no-pager {unit}.service"))?;
        let line = said.stdout.lines().find(|line| line.contains("Overall exposure level"));
        let words = line.with_context(|| said.all())?.split_whitespace();
        let number = words.filter_map(|word| word.parse::<f64>().ok()).next_back();
        number.with_context(|| format!("no number in {line:?}"))
    }
}

/// Watches servers for a while that has nothing to do; returns the mean memory of the server that
/// used most, in MiB, and the share of a core of the one that was busiest, in percent.
///
/// # Errors
/// A server is off, or a process of ours ended meanwhile.
pub fn watch(servers: &[Server<'_>], during: Duration) -> Result<(f64, f64)> {
    let looks = 4;
    let (mut most_mib, mut busiest) = (0.0_f64, 0.0_f64);
    let began = Instant::now();
    let mut first = Vec::new();
    let mut pss = vec![0_u64; servers.len()];
    for look in 0..=looks {
        let due = during * look / looks;
        // What is measured is time that passes: there is nothing to wait for.
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        for (at, server) in servers.iter().enumerate() {
            let usage = server.usage()?;
            pss[at] += usage.pss_kib;
            if look == 0 {
                first.push((Instant::now(), usage.busy_s));
            }
            if look == looks {
                let (since, busy) = first[at];
                ensure!(usage.busy_s >= busy, "{}: a process began anew", server.host());
                let share = (usage.busy_s - busy) / since.elapsed().as_secs_f64();
                busiest = busiest.max(share * 100.0);
                most_mib = most_mib.max(pss[at] as f64 / f64::from(looks + 1) / 1024.0);
            }
        }
    }
    Ok((most_mib, busiest))
}

/// User and system time of a process and of its children, of a line of `/proc/PID/stat`.
fn busy(stat: &str) -> Option<f64> {
    // The name may hold anything, also spaces: fields are counted from its closing bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok());
    Some(ticks.sum::<Option<f64>>()? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_from_the_right_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 25 75 20 0 9 0 100 1000 200";
        assert_eq!(busy(stat), Some(3.0));
        assert_eq!(busy("7 (a) S 1"), None);
    }
}
