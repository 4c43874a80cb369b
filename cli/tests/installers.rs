//! What a fresh server runs first: what a review says of it, and what a rebuild must cover.

use std::path::{Path, PathBuf};

use crate::board::Board;
use borgios_types::Digest;

/// The keeper's component with this program.
fn keeper(board: &Board, program: &str) -> PathBuf {
    let folder = board.path(&format!("component-{program}"));
    std::fs::create_dir_all(folder.join("files/bin")).unwrap();
    std::fs::write(folder.join("files/bin/borgios-keeper"), program).unwrap();
    let info = r#"{"name":"borgios-keeper","version":"1","arch":"any"}"#;
    std::fs::write(folder.join("component.json"), info).unwrap();
    let out = board.path(&format!("{program}.tar.zst"));
    let (from, to) = (folder.to_str().unwrap(), out.to_str().unwrap());
    board.ok("nobody", &["release", "build", from, "--out", to]);
    out
}

/// A file that holds the program alone.
fn alone(board: &Board, program: &str) -> PathBuf {
    let path = board.path(&format!("alone-{program}"));
    std::fs::write(&path, program).unwrap();
    path
}

fn propose(board: &Board, version: &str, component: &Path, installer: &Path) {
    let (component, installer) = (component.to_str().unwrap(), installer.to_str().unwrap());
    let args = ["propose", "release", "--version", version, "--component", component];
    let args: Vec<&str> = args.into_iter().chain(["--installer", installer]).collect();
    board.ok("ann", &args);
}

#[test]
fn an_installer_that_is_not_the_keepers_program_is_told_and_no_rebuild_passes_it_over() {
    let board = Board::founded(&["ann", "ben"], 2);
    let (first, installer) = (keeper(&board, "k1"), alone(&board, "k1"));
    propose(&board, "1.0", &first, &installer);
    let review = board.ok("ben", &["review", "release/1"]);
    assert!(review.contains("; it is the program of borgios-keeper, byte for byte"), "{review}");
    assert!(!review.contains("INSTALLER"), "{review}");
    // Whoever built the component built the installer.
    let first = first.to_str().unwrap();
    board.ok("ben", &["vote", "release/1", "approve", "--rebuilt", first]);
    assert_eq!(board.approve("ann", "release/1")["signed"], true);

    // A new keeper, and fresh servers would still run the old one.
    let second = keeper(&board, "k2");
    propose(&board, "2.0", &second, &installer);
    let review = board.ok("ben", &["review", "release/2"]);
    for part in [
        "installer the same as before\n",
        "INSTALLER is not the keeper's program: ",
        &Digest::of(b"k1").to_string(),
        &Digest::of(b"k2").to_string(),
    ] {
        assert!(review.contains(part), "{part}: {review}");
    }
    // What cannot be seen is said not to have been compared.
    for blob in std::fs::read_dir(board.exchange().join("blobs")).unwrap() {
        std::fs::remove_file(blob.unwrap().path()).unwrap();
    }
    let blind = board.ok("ben", &["review", "release/2"]);
    let part = "NOT COMPARED with the program of borgios-keeper: ";
    assert!(blind.contains(part) && blind.contains(" is not at hand"), "{blind}");
    let (second, installer) = (second.to_str().unwrap(), installer.to_str().unwrap());
    let said = board.refused("ben", &["vote", "release/2", "approve", "--rebuilt", second]);
    for part in
        ["your build has no installer as proposed", "hint: give your own build of the installer"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let both = ["vote", "release/2", "approve", "--rebuilt", second, "--rebuilt", installer];
    board.ok("ben", &both);
    assert_eq!(board.approve("ann", "release/2")["signed"], true);

    // A release that leaves the keeper out does not take it away, and its installer is nobody's program.
    let (hello, other) = (board.component("hello", "1.0"), alone(&board, "k3"));
    propose(&board, "3.0", &hello, &other);
    let review = board.ok("ben", &["review", "release/3"]);
    assert!(
        review.contains("left out  borgios-keeper: the one that a server has stays"),
        "{review}"
    );
    assert!(!review.contains("removed   borgios-keeper"), "{review}");
    assert!(review.contains(&format!("{part}the release has no component")), "{review}");
    let hello = hello.to_str().unwrap();
    let said = board.refused("ben", &["vote", "release/3", "approve", "--rebuilt", hello]);
    assert!(said.contains("your build has no installer as proposed"), "{said}");
}
