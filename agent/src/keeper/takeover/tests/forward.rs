//! Once root has changed hands: whatever is cut off or fails, boots alone lead to a receipt.

use std::fs;

use borgios_types::SecretKey;

use super::super::abort::{self, Resumed};
use super::super::fake::Fate;
use super::super::journal::Journal;
use super::super::machine::Machine;
use super::super::{finish, receipt, snapshot, timer};
use super::{apply, open, until_cut};
use crate::identity;
use crate::keeper::chain_store::ChainStore;
use crate::keeper::handed_over;

/// Nothing is left to do: verified, a receipt for the noted node, nothing armed, no old password.
pub(super) fn assert_over(machine: &Machine) {
    let journal = Journal::read(machine).unwrap();
    assert!(matches!(journal, Some(Journal::Done { verified: true, .. })), "{journal:?}");
    let key = identity::load_or_make(&machine.paths.key()).unwrap().public();
    let network = ChainStore::open(&machine.paths.keeper).unwrap().network();
    let (handover, _) = handed_over::read(&machine.paths, network, &key).unwrap();
    assert_eq!(handover.node, SecretKey::from_seed([5; 32]).public());
    assert!(!timer::is_armed(machine) && !machine.exists(snapshot::BEFORE));
    assert!(machine.text("/etc/shadow").unwrap().starts_with("root:*:"));
}

/// Without its receipt nobody would ever be let in again, the board included.
#[test]
fn cut_off_anywhere_after_the_purge_boots_alone_lead_to_a_receipt() {
    let (_folder, mut machine, fake, _) = open();
    apply(&machine).unwrap();
    fake.reboot();
    fake.at(usize::MAX, Fate::Cut);
    assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Done);
    let points = fake.heal();
    // Most of the time goes into syncing the disk, so several at once.
    let at_once = 4;
    let without_receipt: usize = std::thread::scope(|scope| {
        let stripe = |first| move || (first..points).step_by(at_once).map(cut_at).sum::<usize>();
        let stripes: Vec<_> = (0..at_once).map(|first| scope.spawn(stripe(first))).collect();
        stripes.into_iter().map(|stripe| stripe.join().unwrap()).sum()
    });
    assert!(without_receipt > 20, "{without_receipt} of {points}");
}

/// Cut off or failing at one point of a resume, the next boot does the rest; how often there was
/// no receipt at that moment.
fn cut_at(point: usize) -> usize {
    let mut without_receipt = 0;
    // What fails differs from a cut in the way back of it only: a sample will do.
    for fate in if point.is_multiple_of(5) { vec![Fate::Cut, Fate::Fail] } else { vec![Fate::Cut] }
    {
        let (_folder, mut machine, fake, _) = open();
        apply(&machine).unwrap();
        fake.reboot();
        fake.at(point, fate);
        let ended = until_cut(|| abort::resume(&mut machine));
        assert!(fate == Fate::Fail || ended.is_none(), "point {point}");
        fake.heal();
        let has_receipt = receipt::exists(&machine).unwrap();
        without_receipt += usize::from(!has_receipt);
        // Who would go on must still be there.
        assert!(has_receipt || timer::files().iter().all(|path| machine.exists(path)));
        fake.reboot();
        let mut machine = Machine { owners_root: None, ..machine.clone() };
        abort::resume(&mut machine).unwrap();
        assert_over(&machine);
        assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Nothing, "point {point}");
    }
    without_receipt
}

#[test]
fn a_way_in_that_a_live_login_left_is_shut_and_the_login_ended() {
    let (_folder, mut machine, fake, _) = open();
    apply(&machine).unwrap();
    fake.process(&machine, 7, "bash", "0::/user.slice/user-0.slice/session-3.scope");
    machine.write("/etc/sudoers.d/90", b"ann ALL=(ALL) ALL\n", 0o440).unwrap();
    assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Done);
    assert_eq!(fake.killed(), [7]);
    assert!(!machine.exists("/etc/sudoers.d/90"));
    assert_over(&machine);
}

#[test]
fn a_node_that_was_not_noted_is_asked_of_its_key_but_not_through_a_link() {
    let (folder, mut machine, _, _) = open();
    apply(&machine).unwrap();
    machine.remove(finish::NODE).unwrap();
    let key = machine.at("/var/lib/borgios/node.key");
    let text = SecretKey::from_seed([5; 32]).to_openssh("borgios node");
    let elsewhere = folder.path().join("var/lib/elsewhere.key");
    fs::write(&elsewhere, text.as_bytes()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &key).unwrap();
    // Neither through a link, nor of a folder.
    for what in ["link", "folder"] {
        let error = abort::resume(&mut machine).unwrap_err();
        assert!(error.to_string().contains(finish::NODE), "{what}: {error}");
        assert!(timer::is_armed(&machine) && !receipt::exists(&machine).unwrap(), "{what}");
        if what == "link" {
            fs::remove_file(&key).unwrap();
            fs::create_dir(&key).unwrap();
        }
    }
    fs::remove_dir(&key).unwrap();
    fs::write(&key, text.as_bytes()).unwrap();
    assert_eq!(abort::resume(&mut machine).unwrap(), Resumed::Done);
    assert_over(&machine);
}
