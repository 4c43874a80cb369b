//! Under which address other members shall dial an adopted host.

use std::str::FromStr;

use super::target::Target;
use crate::known::address;

/// The agent's port.
const PORT: u16 = 7117;

/// `[HOST=]ADDR:PORT`, or the word `dialled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Advertise {
    /// Every host under the name or address by which ssh reached it.
    Dialled,
    /// One host; without a name, the only one there is.
    At {
        /// As on the command line.
        host: Option<String>,
        /// `host:port`.
        address: String,
    },
}

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "dialled" {
            return Ok(Self::Dialled);
        }
        let (host, place) = match text.split_once('=') {
            Some((host, place)) => (Some(host.to_owned()), place),
            None => (None, text),
        };
        let address = address(place).map_err(|failure| failure.summary())?;
        Ok(Self::At { host, address })
    }
}

impl Advertise {
    /// The address of one host; `hostname` is what ssh dials.
    pub(crate) fn of(all: &[Self], target: &Target, hostname: &str) -> Option<String> {
        let own = all.iter().find_map(|one| match one {
            Self::At { host, address } => {
                let meant = host.as_ref().is_none_or(|host| target.is_called(host));
                meant.then(|| address.clone())
            }
            Self::Dialled => None,
        });
        own.or_else(|| all.contains(&Self::Dialled).then(|| node_address(hostname)))
    }

    /// Why these do not fit these hosts.
    pub(crate) fn misfit(all: &[Self], targets: &[Target]) -> Option<String> {
        all.iter().find_map(|one| match one {
            Self::Dialled => None,
            Self::At { host: None, address } if targets.len() > 1 => {
                Some(format!("{address} is for one host; write HOST={address}"))
            }
            Self::At { host: None, .. } => None,
            Self::At { host: Some(host), .. } => {
                (targets.iter().filter(|t| t.is_called(host)).count() != 1)
                    .then(|| format!("{host} is none of the hosts, or several"))
            }
        })
    }
}

/// Where a host's node listens, as far as one can guess.
pub(crate) fn node_address(hostname: &str) -> String {
    if hostname.contains(':') {
        format!("[{hostname}]:{PORT}")
    } else {
        format!("{hostname}:{PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_gets_its_own_address() {
        let targets = ["root@web-1", "root@web-2"].map(|t| t.parse::<Target>().unwrap());
        let all = ["web-1=shop.example:7000", "dialled"].map(|t| t.parse::<Advertise>().unwrap());
        assert_eq!(Advertise::of(&all, &targets[0], "10.0.0.1").unwrap(), "shop.example:7000");
        assert_eq!(Advertise::of(&all, &targets[1], "fd00::2").unwrap(), "[fd00::2]:7117");
        assert_eq!(Advertise::of(&[], &targets[0], "10.0.0.1"), None);
        assert_eq!(Advertise::misfit(&all, &targets), None);
    }

    #[test]
    fn one_address_for_several_hosts_is_refused() {
        let targets = ["root@web-1", "root@web-2"].map(|t| t.parse::<Target>().unwrap());
        for bad in ["10.0.0.1:7117", "web-3=10.0.0.1:7117"] {
            let all = [bad.parse::<Advertise>().unwrap()];
            assert!(Advertise::misfit(&all, &targets).is_some(), "{bad}");
        }
        assert!("web-1=a b".parse::<Advertise>().is_err());
    }
}
