//! `borgios propose release`: a complete set of software, from component files or a manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use borgios_policy::{Lane, Name};
use borgios_releases::Manifest;
use borgios_releases::manifest::{Component, Installer};
use borgios_types::Seq;
use borgios_types::limits::PAYLOAD_MAX;
use clap::Args;
use serde_json::Value;

use crate::blobs;
use crate::changes::release::{AGENT, drops_agent};
use crate::commands::propose::{Terms, propose};
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::session::Session;

/// A complete set of software
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The release's body as a JSON file, instead of the options below
    #[arg(long, value_name = "FILE", conflicts_with_all = ["components", "version", "installer"])]
    manifest: Option<PathBuf>,
    /// A component (tar.zst); again for each
    #[arg(long = "component", value_name = "FILE", num_args = 1..)]
    components: Vec<PathBuf>,
    /// Take over what the release in force has and is not given: components, urls
    #[arg(long)]
    keep: bool,
    /// What people call it
    #[arg(long, value_name = "V", required_unless_present = "manifest")]
    version: Option<String>,
    /// Where blobs can be fetched from besides other nodes; again for each
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// The keeper executable that fresh servers run first [default: that of the release in force]
    #[arg(long, value_name = "FILE")]
    installer: Option<PathBuf>,
    /// The lowest release that nodes may go back to [default: that of the release in force]
    #[arg(long, value_name = "N")]
    floor: Option<u64>,
    /// Release notes
    #[arg(long, value_name = "TEXT", default_value = "")]
    notes: String,
    /// Judge it by the policy's class for emergencies
    #[arg(long)]
    emergency: bool,
    /// Its version is lower than that of the release in force, and that is meant
    #[arg(long)]
    downgrade: bool,
    #[command(flatten)]
    terms: Terms,
}

impl Release {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let head = session.desk.archive().chain().head(Lane::Release);
        let seq = session.desk.archive().chain().head_seq(Lane::Release).next();
        let in_force = head.map(Manifest::of).transpose();
        let in_force = in_force.or_fail(|| "the release in force has no manifest")?;
        let manifest = match &self.manifest {
            Some(path) => read(path, seq)?,
            None => self.build(in_force.as_ref())?,
        };
        let what = || format!("release/{seq} cannot be proposed: its manifest breaks a rule");
        manifest.validate(seq).or_fail(what)?;
        if let Some(before) = in_force.as_ref().filter(|before| drops_agent(before, &manifest)) {
            context.printer.warn(&format!(
                "version {} has no component {AGENT}, and version {}, in force, has: a server that \
                 installs this stops borgiosd and hears of nothing more, and no fresh one can join with \
                 it; `--keep` takes over what is not given",
                manifest.version, before.version
            ));
        }
        for path in &self.components {
            session.desk.leave_in_folders(&blobs::read(path)?)?;
        }
        let mut body = manifest.to_body();
        if self.emergency {
            body["class"] = "emergency".into();
        }
        if self.downgrade {
            body["downgrade"] = true.into();
        }
        propose(context, &mut session, Lane::Release, body, self.terms)
    }

    /// The manifest that the options describe.
    fn build(&self, in_force: Option<&Manifest>) -> Result<Manifest, Failure> {
        let mut set: BTreeMap<Name, Component> = BTreeMap::new();
        if self.keep {
            let kept = in_force.into_iter().flat_map(|manifest| manifest.components.clone());
            set.extend(kept.map(|component| (component.name.clone(), component)));
        }
        let mut given: BTreeMap<Name, &PathBuf> = BTreeMap::new();
        for path in &self.components {
            let (info, blob) = blobs::component(path)?;
            if let Some(other) = given.insert(info.name.clone(), path) {
                return Err(Failure::usage(format!("the component {} is given twice", info.name))
                    .because(format!("{} and {}", other.display(), path.display())));
            }
            let component =
                Component { name: info.name.clone(), digest: blob.digest, size: blob.size };
            set.insert(info.name, component);
        }
        let installer = match (&self.installer, in_force) {
            (Some(path), _) => {
                let blob = blobs::measure(path)?;
                Installer { digest: blob.digest, size: blob.size }
            }
            (None, Some(manifest)) => manifest.installer,
            (None, None) => {
                return Err(Failure::usage("the first release needs an installer").hint(
                    "give the keeper executable with `--installer FILE`; fresh servers run it \
                     first",
                ));
            }
        };
        let floor = self.floor.map(Seq).or(in_force.map(|manifest| manifest.floor));
        Ok(Manifest {
            version: self.version.clone().unwrap_or_default(),
            components: set.into_values().collect(),
            installer,
            urls: match in_force {
                Some(manifest) if self.keep && self.urls.is_empty() => manifest.urls.clone(),
                _ => self.urls.clone(),
            },
            floor: floor.unwrap_or(Seq(1)),
            notes: self.notes.clone(),
        })
    }
}

fn read(path: &std::path::Path, seq: Seq) -> Result<Manifest, Failure> {
    let what = || format!("{} is no manifest of a release", path.display());
    let bytes = durable::read(path, PAYLOAD_MAX)?
        .ok_or_else(|| Failure::new(format!("{} does not exist", path.display())))?;
    let body: Value = serde_json::from_slice(&bytes).or_fail(what)?;
    Manifest::from_body(&body, seq).or_fail(what)
}
