//! A board that one governor makes up, with honest names on it: nobody is stopped by what it says, and
//! nobody is shown its words as theirs.

use crate::board::Board;
use borgios_policy::fixture::{Council, release_body, statement};
use borgios_policy::{
    Board as Governors, Governor, Lane, Note, Object as _, Policy, Proposal, Statement,
};
use borgios_types::{Envelope, UnixSeconds};

/// Cleo deals a board of her own, says that it follows the board in force, and speaks for it.
#[test]
fn what_a_made_up_board_says_stops_nobody_and_bears_no_honest_name() {
    let board = Board::founded(&["ann", "ben", "cleo"], 2);
    let first = Envelope::parse(board.published("policy")[0].1.to_string().as_bytes()).unwrap();
    let (network, in_force) = (first.id(), Statement::parse(&first).unwrap());
    let in_force = Policy::parse(&in_force.body).unwrap();
    let council = Council::new(3, 2, 2, 77);
    let (cleo, _) = board.secrets("cleo");
    let propose = |with_former: bool| {
        // The true keys, with former ones that are cleo's; or cleo's keys under the true names.
        let seats = council.board.governors().iter().map(|made| {
            let own = council.keys[&made.name].public();
            let honest = in_force.board.by_name(&made.name).unwrap();
            let (key, former) =
                if with_former { (honest.key, vec![own]) } else { (own, Vec::new()) };
            Governor { key, former, share: made.share, ..honest.clone() }
        });
        let (epoch, group) = (council.board.epoch(), council.board.group());
        let made =
            Governors::new(epoch, council.board.threshold(), group, seats.collect()).unwrap();
        let body = Policy { board: made, ..in_force.clone() }.to_body();
        let (this, one) = (Some(network), Some(1));
        let draft = statement(Lane::Policy, 2, this, this, one, body);
        let (governor, lane) = ("cleo".parse().unwrap(), Lane::Policy);
        let proposal = Proposal { governor, statement: draft.to_payload(), lane, note: None };
        board.publish(&proposal.to_envelope().sign(&cleo));
    };
    propose(true);
    propose(false);
    // "Ben" rejects what nobody proposed, and "ann" has something to say.
    let draft = statement(Lane::Release, 1, Some(network), None, Some(1), release_body("9"));
    board.publish(&council.reject(&council.name(1), &draft));
    let note = Note { network, text: "all was compared".into(), at: UnixSeconds(1_795_000_000) };
    board.publish(&note.to_envelope().sign(&council.keys["ann"]));
    board.propose("ann", "1.0");
    // The same release again, as if ann had more to say of it.
    let proposals = board.published("proposal").into_iter();
    let mut proposals = proposals.map(|(_, one)| one["payload"].as_str().unwrap().to_owned());
    let release = proposals.find(|text| text.contains(r#""lane":"release""#)).unwrap();
    let release: Proposal = serde_json::from_str(&release).unwrap();
    let again = Proposal { note: Some("same digests".into()), ..release };
    board.publish(&again.to_envelope().sign(&council.keys["ann"]));
    let said = "proposed by ann of a board that is only proposed: same digests";
    assert!(board.ok("ben", &["inbox"]).contains(said));
    assert!(board.ok("ben", &["review", "release/1"]).contains(said));
    board.approve("ben", "release/1");
    assert_eq!(board.approve("ann", "release/1")["signed"], true);
    let log = board.ok("ben", &["log"]);
    assert!(log.contains("release/1") && !log.contains("all was compared"), "{log}");
    assert!(!log.contains("proposed by ann: same digests") && log.contains(said), "{log}");
}
