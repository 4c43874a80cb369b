//! A release against the one before it: component by component, and what is in them where their
//! bytes are at hand.

use std::collections::BTreeMap;

use borgios_policy::{Name, Statement};
use borgios_releases::plan::KEEPER;
use borgios_releases::{Component, Manifest};
use borgios_types::Digest;

use super::contents::{self, Contents};
use super::installer::Compared;
use crate::blobs::size_text;
use crate::desk::Desk;
use crate::failure::{Failure, OrFail as _};
use crate::printer::one_line;
use crate::signed;

/// The component that borgiosd is: its unit and its health command name the program by it.
pub(crate) const AGENT: &str = "agent";

/// The bytes of components that were given as files, by digest.
pub(crate) type Given = BTreeMap<Digest, Vec<u8>>;

/// What is new has its whole digest: of two files with the same first digits, the proposer could
/// show one and release the other.
pub(crate) fn changes(
    desk: &mut Desk<'_>,
    statement: &Statement,
    given: &Given,
) -> Result<Vec<String>, Failure> {
    let new = Manifest::parse(statement).or_fail(|| "the proposal has no good manifest")?;
    let old = signed::before(desk, statement).map(Manifest::of).transpose();
    let old = old.or_fail(|| "the release before it has no manifest")?;
    let by_name = |manifest: &Manifest| -> BTreeMap<Name, Component> {
        manifest.components.iter().map(|c| (c.name.clone(), c.clone())).collect()
    };
    let before = old.as_ref().map(by_name).unwrap_or_default();
    let after = by_name(&new);
    let mut lines = Vec::new();
    match &old {
        None => lines.push(format!("version   {} (the first release)", new.version)),
        Some(old) => lines.push(format!("version   {} → {}", old.version, new.version)),
    }
    if old.as_ref().is_some_and(|old| drops_agent(old, &new)) {
        lines.push(format!(
            "DROPS     {AGENT}: a server that installs this stops borgiosd and hears of nothing more; the \
             way back is to reinstall it"
        ));
    }
    for (name, is) in &after {
        match before.get(name) {
            Some(was) if was.digest == is.digest => {
                lines.push(format!("same      {name}"));
                continue;
            }
            None => {
                let size = size_text(is.size);
                lines.push(format!("added     {name}  {size}\n            {}", is.digest));
            }
            Some(was) => lines.push(format!(
                "changed   {name}  {} → {}, was {}\n            {}",
                size_text(was.size),
                size_text(is.size),
                was.digest.short(),
                is.digest
            )),
        }
        let inside = inside(desk, before.get(name), is, given);
        lines.extend(inside.into_iter().map(|line| format!("  {line}")));
    }
    for (name, _) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        lines.push(removed(name));
    }
    if let Some(compared) = compare_installer(desk, old.as_ref(), &new, given) {
        let fresh = old.as_ref().map(|old| old.installer) != Some(new.installer);
        lines.extend(compared.lines(&new.installer, fresh));
    }
    lines.extend(rest(old.as_ref(), &new));
    if let Some(class) = statement.body.get("class").and_then(|class| class.as_str()) {
        lines.push(format!("class     {}", one_line(class)));
    }
    Ok(lines)
}

/// Whether servers that install `after` lose the agent. The keeper's own component stays, whatever a
/// release says; the agent's is dropped like any other.
pub(crate) fn drops_agent(before: &Manifest, after: &Manifest) -> bool {
    let has = |manifest: &Manifest| manifest.components.iter().any(|part| part.name == AGENT);
    has(before) && !has(after)
}

/// What becomes of a component that a release leaves out.
fn removed(name: &Name) -> String {
    if *name == KEEPER {
        return format!(
            "left out  {name}: the one that a server has stays and runs on; only a release that names \
             {name} replaces it"
        );
    }
    format!("removed   {name}: it is stopped and unlinked everywhere")
}

/// The installer against the keeper's program, where one of them is another than before.
fn compare_installer(
    desk: &mut Desk<'_>,
    old: Option<&Manifest>,
    new: &Manifest,
    given: &Given,
) -> Option<Compared> {
    let keeper = |manifest: &Manifest| {
        manifest.components.iter().find(|component| component.name == KEEPER).cloned()
    };
    let is = keeper(new);
    if old.is_some_and(|old| old.installer == new.installer && keeper(old) == is) {
        return None;
    }
    Some(match is.map(|keeper| look(desk, &keeper, given)) {
        Some(Ok(keeper)) => Compared::with(&new.installer, &keeper),
        Some(Err(why)) => Compared::Not(why),
        None => Compared::Not(format!("the release has no component {KEEPER}")),
    })
}

/// Floor, urls and notes.
fn rest(old: Option<&Manifest>, new: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    if old.map(|old| old.floor) != Some(new.floor) {
        lines.push(format!("floor     no node may ever go back below release/{}", new.floor));
    }
    let urls = |manifest: &Manifest| manifest.urls.clone();
    if old.map(urls).unwrap_or_default() != new.urls {
        let list =
            if new.urls.is_empty() { "none".to_owned() } else { one_line(&new.urls.join(", ")) };
        lines.push(format!("urls      {list}"));
    }
    if !new.notes.is_empty() {
        lines.push(format!("notes     {}", one_line(&new.notes)));
    }
    lines
}

/// What is in a component, against the one before; what is not at hand is said to be so.
fn inside(
    desk: &mut Desk<'_>,
    was: Option<&Component>,
    is: &Component,
    given: &Given,
) -> Vec<String> {
    let new = match look(desk, is, given) {
        Ok(new) => new,
        Err(why) => {
            return vec![
                format!("powers    not known: {why}"),
                "            give the file with `--component FILE`, or name a node or folder that \
                 has it"
                    .to_owned(),
            ];
        }
    };
    let Some(was) = was else { return contents::brought(&new) };
    match look(desk, was, given) {
        Ok(old) => contents::between(Some(&old), &new),
        Err(why) => {
            let mut lines = vec![format!("before    not known: {why}; all of the new one:")];
            lines.extend(contents::brought(&new));
            lines
        }
    }
}

/// A component's contents, or in words why they cannot be seen.
fn look(desk: &mut Desk<'_>, component: &Component, given: &Given) -> Result<Contents, String> {
    let bytes = match given.get(&component.digest) {
        Some(bytes) => bytes.clone(),
        None => desk
            .component(component)
            .map_err(|failure| failure.summary())?
            .ok_or_else(|| format!("{} is not at hand", component.digest.short()))?,
    };
    Contents::of(&bytes).map_err(|failure| format!("it is damaged: {}", failure.summary()))
}

#[cfg(test)]
mod tests {
    use borgios_releases::manifest::Installer;
    use borgios_types::Seq;

    use super::*;

    #[test]
    fn the_keeper_is_not_said_to_go() {
        let keeper = removed(&KEEPER.parse().unwrap());
        assert!(keeper.starts_with("left out  borgios-keeper: ") && keeper.contains(" stays "));
        assert!(!keeper.contains("stopped"), "{keeper}");
        let shop = removed(&"shop".parse().unwrap());
        assert_eq!(shop, "removed   shop: it is stopped and unlinked everywhere");
    }

    fn of(names: &[&str]) -> Manifest {
        let digest = Digest::of(b"component");
        let part = |name: &&str| Component { name: name.parse().unwrap(), digest, size: 1 };
        Manifest {
            version: "1".to_owned(),
            components: names.iter().map(part).collect(),
            installer: Installer { digest, size: 1 },
            urls: Vec::new(),
            floor: Seq(1),
            notes: String::new(),
        }
    }

    #[test]
    fn only_a_release_that_takes_the_agent_away_is_warned_of() {
        let (whole, alone) = (of(&[AGENT, "borgios-keeper", "shop"]), of(&["shop"]));
        assert!(drops_agent(&whole, &alone));
        assert!(!drops_agent(&whole, &of(&[AGENT])), "the keeper stays by itself");
        assert!(!drops_agent(&alone, &alone) && !drops_agent(&alone, &whole));
    }
}
